//! An echo in the shape of a replicated produce: a primary that writes durably, backups that do the same, and an answer
//! when a majority has written. What several nodes on one machine cost each other is in it, and nothing of a broker.

use super::file::ScratchFile;
use super::paced::{Pacing, Timed};
use super::round_trip::{ANSWER_BYTES, REQUEST_OVERHEAD_BYTES, answer, ask, connect};
use super::write::{Writer, scratch};
use super::{LimitError, LimitPlan};
use crate::clock::Clock;
use crate::schedule::Schedule;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Measures one producer against `plan.replicas` nodes, each a thread for requests and one for each connection it reads.
pub(super) fn measure(plan: &LimitPlan) -> Result<Timed, LimitError> {
    let backups = plan.replicas.max(1) as usize - 1;
    let request_bytes = plan.message_bytes + REQUEST_OVERHEAD_BYTES;
    let files: Vec<ScratchFile> = (0..=backups).map(|_| scratch(plan)).collect::<Result<_, _>>()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let clock = Clock::start();
    let pair = || -> io::Result<(TcpStream, TcpStream)> {
        let near = connect(address)?;
        let (far, _) = listener.accept()?;
        far.set_nodelay(true)?;
        Ok((near, far))
    };
    thread::scope(|scope| {
        let (acked, acks) = channel();
        let mut streams = Vec::new();
        for file in &files[1..] {
            let (near, far) = pair()?;
            let mut writer = Writer::open(file, plan)?;
            scope.spawn(move || answer(far, request_bytes, |_| writer.write()));
            let (reader, acked) = (near.try_clone()?, acked.clone());
            scope.spawn(move || hear(reader, &acked));
            streams.push(near);
        }
        drop(acked);
        let (client, far) = pair()?;
        let primary =
            Primary { writer: Writer::open(&files[0], plan)?, streams, acks, quorum: backups.div_ceil(2) };
        scope.spawn(move || primary.run(far, request_bytes));
        let schedule = (plan.rate > 0).then(|| Schedule::new(clock.now(), plan.rate, 0, 1));
        let pacing = Pacing { clock, schedule, duration: plan.duration };
        Ok(ask(client, &pacing, request_bytes)?)
    })
}

/// The node that a producer talks to.
struct Primary<'a> {
    writer: Writer<'a>,
    streams: Vec<TcpStream>,
    /// The number of a message, from every backup that has written it.
    acks: Receiver<u64>,
    /// Backups that must have written: with the primary a majority.
    quorum: usize,
}

impl Primary<'_> {
    fn run(mut self, client: TcpStream, request_bytes: usize) {
        let mut number = 0;
        answer(client, request_bytes, |request| {
            for stream in &mut self.streams {
                stream.write_all(request)?;
            }
            self.writer.write()?;
            number += 1;
            let mut written = 0;
            while written < self.quorum {
                let acked = self.acks.recv().map_err(|_| LimitError::Panicked)?;
                written += usize::from(acked == number);
            }
            Ok(())
        });
        // The backups end with their connections.
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Counts the answers of a backup.
fn hear(mut stream: TcpStream, acked: &Sender<u64>) {
    let mut answer = [0; ANSWER_BYTES];
    let mut number = 0;
    while stream.read_exact(&mut answer).is_ok() {
        number += 1;
        if acked.send(number).is_err() {
            return;
        }
    }
}
