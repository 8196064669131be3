//! The bytes of one connection for calls, whichever end asks: frames out, frames in, and signs of life both ways.

use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future;
use heddle_net::frame::{ByteSource, FrameError, FrameOptions, FrameReader};
use heddle_net::socket::{Activity, ShutdownHandle, WriteHalf, close_when_idle, pause};

use super::Options;
use crate::door::Met;
use crate::link::ByteSink;
use crate::session::{End, Noted};
use crate::signal::Signal;
use crate::wire::{Body, CALL_HEADER_BYTES_MAX, Encoder, PREFIX_BYTES, decode};

/// Frames taken from one connection before others get their turn.
const FRAMES_PER_TURN: u32 = 16;

/// What goes over a connection at one end.
pub(super) trait Talk {
    /// What ends the connection and wakes its halves.
    fn line(&self) -> &Line;

    /// What goes out now. Never called before what was given before is in the kernel.
    fn next(&self) -> Option<Body>;

    /// Takes what has come.
    fn take(&self, body: Body) -> Result<(), End>;

    /// Whether there is room for more.
    fn has_room(&self) -> bool;
}

/// What both halves of a connection share.
#[derive(Default)]
pub(super) struct Line {
    is_over: Cell<bool>,
    closer: RefCell<Option<ShutdownHandle>>,
    /// Wakes the writing half.
    pub(super) outgoing: Signal,
    /// Wakes the reading half when there is room again.
    pub(super) room: Signal,
}

impl Line {
    /// Ends the connection, or keeps it from beginning.
    pub(super) fn end(&self) {
        self.is_over.set(true);
        if let Some(closer) = &*self.closer.borrow() {
            closer.shutdown(Shutdown::Both);
        }
        self.outgoing.raise();
        self.room.raise();
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }
}

/// Carries a connection until it ends.
pub(super) async fn carry(met: Met, talk: &impl Talk, options: &Options) -> End {
    let Met { read, unread, write, closer, .. } = met;
    let line = talk.line();
    *line.closer.borrow_mut() = Some(closer.clone());
    if line.is_over() {
        return End::Closed;
    }
    let activity = Activity::default();
    let frame_bytes_max = PREFIX_BYTES + CALL_HEADER_BYTES_MAX + options.payload_bytes_max;
    let frames = FrameReader::resume(Noted::new(read, &activity), FrameOptions::new(frame_bytes_max), unread);
    let reading = async {
        let end = read_all(frames, talk, &activity, options.ping_every).await;
        line.end();
        end
    };
    let writing = async {
        let writer = Writer { write, encoder: Encoder::new(), chunks: Vec::new(), pinged: None };
        let end = writer.run(talk, options.ping_every).await;
        line.end();
        end
    };
    let both = future::zip(reading, writing);
    let (read, written) = close_when_idle(activity.clone(), options.silence_max, closer, both).await;
    // Whichever half failed first has closed the other.
    match (read, written) {
        (End::Closed | End::Frame(FrameError::Io(_)), Err(error)) => error,
        (end, _) => end,
    }
}

async fn read_all<S: ByteSource>(
    mut frames: FrameReader<S>,
    talk: &impl Talk,
    activity: &Activity,
    ping_every: Duration,
) -> End {
    let line = talk.line();
    for count in 1u32.. {
        // Who is not listened to cannot be called silent.
        while !talk.has_room() && !line.is_over() {
            future::or(line.room.wait(), pause(ping_every)).await;
            activity.note();
        }
        let frame = match frames.next().await {
            Ok(Some(frame)) if !line.is_over() => frame.freeze(),
            Ok(_) => return End::Closed,
            Err(error) => return error.into(),
        };
        let taken = match decode(frame) {
            Ok(Body::Ping(_)) => Ok(()),
            Ok(Body::Refused(refusal)) => Err(End::Refused(refusal)),
            Ok(body) => talk.take(body),
            Err(error) => Err(error.into()),
        };
        if let Err(end) = taken {
            return end;
        }
        if count.is_multiple_of(FRAMES_PER_TURN) {
            future::yield_now().await;
        }
    }
    End::Closed
}

/// The writing half.
struct Writer {
    write: WriteHalf,
    encoder: Encoder,
    chunks: Vec<Bytes>,
    /// The last ping and when it went out.
    pinged: Option<(u64, Instant)>,
}

impl Writer {
    async fn run(mut self, talk: &impl Talk, ping_every: Duration) -> Result<(), End> {
        let line = talk.line();
        while !line.is_over() {
            let rest = self.pinged.map_or(Duration::ZERO, |(_, at)| ping_every.saturating_sub(at.elapsed()));
            if rest.is_zero() {
                let number = self.pinged.map_or(0, |(number, _)| number) + 1;
                self.pinged = Some((number, Instant::now()));
                self.send(&Body::Ping(number)).await?;
            } else if let Some(body) = talk.next() {
                self.send(&body).await?;
                future::yield_now().await;
            } else {
                future::or(line.outgoing.wait(), pause(rest)).await;
            }
        }
        Ok(())
    }

    async fn send(&mut self, body: &Body) -> Result<(), End> {
        self.chunks.clear();
        self.encoder.encode(body, &mut self.chunks)?;
        self.write.write_all(&self.chunks).await?;
        self.chunks.clear();
        Ok(())
    }
}
