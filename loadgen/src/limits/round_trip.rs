//! Loopback round trips: a request of the message's size, an answer of an acknowledgement's.

use super::paced::{Pacing, Timed, sleep_precisely};
use super::{DEPTH_MAX, LimitError, LimitPlan};
use crate::clock::Clock;
use crate::schedule::Schedule;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// What a produce request carries besides its batch, about.
pub(super) const REQUEST_OVERHEAD_BYTES: usize = 80;
/// What an acknowledgement takes, about.
pub(super) const ANSWER_BYTES: usize = 64;

/// Measures `plan`'s round trips.
pub(super) fn measure(plan: &LimitPlan) -> Result<Timed, LimitError> {
    let depth = plan.depth.clamp(1, DEPTH_MAX);
    let request_bytes = plan.message_bytes + REQUEST_OVERHEAD_BYTES;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let clock = Clock::start();
    thread::scope(|scope| {
        let mut streams = Vec::new();
        for _ in 0..depth {
            streams.push(connect(address)?);
            let (served, _) = listener.accept()?;
            scope.spawn(move || answer(served, request_bytes, |_| Ok(())));
        }
        let start = clock.now();
        let threads: Vec<_> = streams
            .into_iter()
            .zip(0u64..)
            .map(|(stream, lane)| {
                let schedule =
                    (plan.rate > 0).then(|| Schedule::new(start, plan.rate, lane, u64::from(depth)));
                let pacing = Pacing { clock, schedule, duration: plan.duration };
                scope.spawn(move || ask(stream, &pacing, request_bytes))
            })
            .collect();
        let mut all = Timed::default();
        for thread in threads {
            all.add(&thread.join().map_err(|_| LimitError::Panicked)??);
        }
        Ok(all)
    })
}

pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub(super) fn ask(mut stream: TcpStream, pacing: &Pacing, request_bytes: usize) -> io::Result<Timed> {
    sleep_precisely();
    let request = vec![7; request_bytes];
    let mut reply = [0; ANSWER_BYTES];
    pacing.run(|_| {
        stream.write_all(&request)?;
        stream.read_exact(&mut reply)
    })
}

/// Answers each request when `work` is done, until the other side closes or `work` fails.
pub(super) fn answer(
    mut stream: TcpStream,
    request_bytes: usize,
    mut work: impl FnMut(&[u8]) -> Result<(), LimitError>,
) {
    let _ = stream.set_nodelay(true);
    let mut request = vec![0; request_bytes];
    while stream.read_exact(&mut request).is_ok()
        && work(&request).is_ok()
        && stream.write_all(&[1; ANSWER_BYTES]).is_ok()
    {}
}
