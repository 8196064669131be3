//! What one connection over loopback moves: large sends on one thread, large receives on another, and nothing else.

use super::LimitError;
use crate::clock::Clock;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Bytes of one send and the most of one receive: the size of a large batch.
const CHUNK_BYTES: usize = 1 << 20;

/// Sends for `duration`; millions of bytes per second that arrived.
pub(super) fn measure(duration: Duration) -> Result<f64, LimitError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let sender = TcpStream::connect(listener.local_addr()?)?;
    let (receiver, _) = listener.accept()?;
    let clock = Clock::start();
    let start = clock.now();
    thread::scope(|scope| {
        let sending = scope.spawn(move || send(sender, &clock, duration));
        let received = receive(receiver)?;
        sending.join().map_err(|_| LimitError::Panicked)??;
        Ok(crate::histogram::round(received as f64 / 1000.0 / (clock.now().since(start) as f64 / 1e6)))
    })
}

fn send(mut stream: TcpStream, clock: &Clock, duration: Duration) -> io::Result<()> {
    let (end, chunk) = (clock.now().plus(duration), vec![7; CHUNK_BYTES]);
    while clock.now() < end {
        stream.write_all(&chunk)?;
    }
    Ok(())
}

/// Takes what comes until the sender is done; how many bytes that was.
fn receive(mut stream: TcpStream) -> io::Result<usize> {
    let (mut received, mut chunk) = (0, vec![0; CHUNK_BYTES]);
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(received),
            bytes => received += bytes,
        }
    }
}
