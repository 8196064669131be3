//! One connection whose ends know each other: frames in to the driver, and out of it as fast as the peer takes them.
//!
//! The writing half asks the driver for the next frame only when the one before is in the kernel. So what waits for a slow peer
//! waits in its stream, where it is merged and bounded, and the memory of a connection is one frame each way. Pings and their
//! answers go between frames.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_lite::future;
use heddle_net::frame::{ByteSource, FrameError, FrameOptions, FrameReader};
use heddle_net::socket::{Activity, ShutdownHandle, close_when_idle, pause};
use heddle_replication_driver::{Frame, Peer};

use crate::counters::Counters;
use crate::handshake::Greeted;
use crate::link::ByteSink;
use crate::signal::{Bell, Signal};
use crate::wire::{Body, Encoder, FRAME_BYTES_MAX, Refusal, WireError, decode, pieces};

/// Frames taken from one connection before others get their turn.
const FRAMES_PER_TURN: u32 = 16;

/// The replicas of a core, as its connections need them: they own the driver and the time.
pub trait Replicas: Clone + 'static {
    /// A frame has come.
    fn receive(&self, from: Peer, frame: Frame);

    /// A connection has been made, for the first time or anew.
    fn connected(&self, peer: Peer);

    /// What goes to a peer now. Never called before the frame before it was written.
    fn flush(&self, peer: Peer) -> Option<Frame>;

    /// Rings when there may be something to flush.
    fn bell(&self) -> &Bell;
}

/// How it is noticed that a peer has gone without a word.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    pub(crate) ping_every: Duration,
    pub(crate) silence_max: Duration,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the connection was closed, or nothing came over it for too long")]
    Closed,
    #[error("the other end refuses this one: {0}")]
    Refused(Refusal),
    #[error("a message that does not belong there")]
    Unexpected,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl End {
    /// Whether it is because of what the other end sent.
    pub(crate) fn is_bad(&self) -> bool {
        match self {
            End::Wire(_) | End::Unexpected => true,
            End::Frame(error) => !matches!(error, FrameError::Io(_) | FrameError::Truncated { .. }),
            End::Closed | End::Refused(_) | End::Io(_) => false,
        }
    }
}

/// What both halves of a connection, and whoever wants to end it, share.
pub(crate) struct Session {
    is_over: Cell<bool>,
    closer: ShutdownHandle,
    /// Wakes the writing half.
    signal: Rc<Signal>,
    /// A ping of the peer that is to be answered: of several only the last.
    pong_due: Cell<Option<u64>>,
    /// Our last ping and when it went out.
    ping: Cell<Option<(u64, Instant)>>,
    counters: Rc<Counters>,
}

impl Session {
    pub(crate) fn new(closer: ShutdownHandle, bell: &Bell, counters: Rc<Counters>) -> Session {
        let (is_over, pong_due, ping) = (Cell::new(false), Cell::new(None), Cell::new(None));
        Session { is_over, closer, signal: bell.listen(), pong_due, ping, counters }
    }

    /// Ends the connection. Nothing of it reaches the driver any more, and it takes nothing from the driver.
    pub(crate) fn end(&self) {
        self.is_over.set(true);
        self.closer.shutdown(Shutdown::Both);
        self.signal.raise();
    }
}

/// Carries a connection until it ends. The driver has been told that it is there.
pub(crate) async fn carry<R: ByteSource, W: ByteSink>(
    greeted: Greeted<R, W>,
    session: &Session,
    replicas: &impl Replicas,
    pulse: Pulse,
) -> End {
    let Greeted { peer, read, unread, write, closer, .. } = greeted;
    let activity = Activity::default();
    let source = Noted::new(read, &activity);
    let frames = FrameReader::resume(source, FrameOptions::new(FRAME_BYTES_MAX), unread);
    let reading = async {
        let end = read_all(frames, session, replicas, peer).await;
        session.end();
        end
    };
    let writing = async {
        let end =
            Writer { write, encoder: Encoder::new(), chunks: Vec::new(), session, pulse, pinged_at: None };
        let end = end.run(replicas, peer).await;
        session.end();
        end
    };
    let both = future::zip(reading, writing);
    let (read, written) = close_when_idle(activity, pulse.silence_max, closer, both).await;
    // Whichever half failed first has closed the other.
    match (read, written) {
        (End::Closed | End::Frame(FrameError::Io(_)), Err(error)) => error,
        (end, _) => end,
    }
}

async fn read_all<S: ByteSource>(
    mut frames: FrameReader<S>,
    session: &Session,
    replicas: &impl Replicas,
    peer: Peer,
) -> End {
    for count in 1u32.. {
        let frame = match frames.next().await {
            Ok(Some(frame)) if !session.is_over.get() => frame.freeze(),
            Ok(_) => return End::Closed,
            Err(error) => return error.into(),
        };
        session.counters.note(|counts| {
            counts.frames_received += 1;
            counts.bytes_received += (crate::wire::LENGTH_BYTES + frame.len()) as u64;
        });
        match decode(frame) {
            Ok(Body::Streams(frame)) => replicas.receive(peer, frame),
            Ok(Body::Ping(number)) => {
                session.pong_due.set(Some(number));
                session.signal.raise();
            }
            Ok(Body::Pong(number)) => session.answered(number),
            Ok(Body::Refused(refusal)) => return End::Refused(refusal),
            Ok(Body::Hello(_) | Body::Proof(_) | Body::Accepted(_) | Body::Request(_) | Body::Reply(_)) => {
                return End::Unexpected;
            }
            Err(error) => return error.into(),
        }
        if count.is_multiple_of(FRAMES_PER_TURN) {
            future::yield_now().await;
        }
    }
    End::Closed
}

impl Session {
    fn answered(&self, number: u64) {
        if let Some((_, sent_at)) = self.ping.get().filter(|(sent, _)| *sent == number) {
            self.ping.set(None);
            self.counters.note(|counts| counts.round_trip = Some(sent_at.elapsed()));
        }
    }
}

/// The writing half.
struct Writer<'a, W> {
    write: W,
    encoder: Encoder,
    chunks: Vec<Bytes>,
    session: &'a Session,
    pulse: Pulse,
    pinged_at: Option<Instant>,
}

impl<W: ByteSink> Writer<'_, W> {
    async fn run(mut self, replicas: &impl Replicas, peer: Peer) -> Result<(), End> {
        while !self.session.is_over.get() {
            self.keep_alive().await?;
            match replicas.flush(peer) {
                Some(frame) => {
                    self.send_pieces(frame).await?;
                    future::yield_now().await;
                }
                None => future::or(self.session.signal.wait(), pause(self.until_ping())).await,
            }
        }
        Ok(())
    }

    async fn send_pieces(&mut self, frame: Frame) -> Result<(), End> {
        for piece in pieces(frame) {
            self.send(&Body::Streams(piece)).await?;
            self.keep_alive().await?;
        }
        Ok(())
    }

    /// Answers a ping and sends one, where that is due.
    async fn keep_alive(&mut self) -> Result<(), End> {
        if let Some(number) = self.session.pong_due.take() {
            self.send(&Body::Pong(number)).await?;
        }
        if self.until_ping().is_zero() {
            let (now, last) = (Instant::now(), self.session.ping.get());
            let number = last.map_or(0, |(number, _)| number) + 1;
            self.session.ping.set(Some((number, now)));
            self.pinged_at = Some(now);
            self.send(&Body::Ping(number)).await?;
        }
        Ok(())
    }

    fn until_ping(&self) -> Duration {
        self.pinged_at.map_or(Duration::ZERO, |at| self.pulse.ping_every.saturating_sub(at.elapsed()))
    }

    async fn send(&mut self, body: &Body) -> Result<(), End> {
        self.chunks.clear();
        self.encoder.encode(body, &mut self.chunks)?;
        let bytes: usize = self.chunks.iter().map(|chunk| chunk.len()).sum();
        self.write.write_all(&self.chunks).await?;
        self.chunks.clear();
        self.session.counters.note(|counts| {
            counts.frames_sent += 1;
            counts.bytes_sent += bytes as u64;
        });
        Ok(())
    }
}

/// A source whose every byte shows that the peer lives.
pub(crate) struct Noted<S> {
    source: S,
    activity: Activity,
}

impl<S> Noted<S> {
    pub(crate) fn new(source: S, activity: &Activity) -> Self {
        Noted { source, activity: activity.clone() }
    }
}

impl<S: ByteSource> ByteSource for Noted<S> {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer).await;
        self.activity.note();
        count
    }

    async fn read_limited(&mut self, buffer: &mut BytesMut, bytes_max: usize) -> io::Result<usize> {
        let count = self.source.read_limited(buffer, bytes_max).await;
        self.activity.note();
        count
    }
}
