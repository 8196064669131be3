//! Cuts a connection's bytes into frames, after telling the native protocol from Kafka's.
//!
//! A [`FrameReader`] belongs to one connection. It reads into a shared chunk, so several small frames come
//! out of one receive; a frame that does not fit a chunk gets a buffer of exactly its size and is received
//! straight into it.
//!
//! What a peer may cost: one chunk (4 KiB, growing to 64 KiB while its reads fill it), plus for a large frame
//! the greater of [`FrameOptions::eager_bytes`] and twice what has arrived. A length field alone therefore
//! never makes the reader allocate more than `eager_bytes`, and never anything above `frame_bytes_max`. There
//! is no timer here: a peer that sends slowly holds no more than that, and whoever is in charge ends it
//! through the connection's shutdown handle.
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use heddle_proto::native::{FRAMING_VERSION, NativeError, PREFACE, check_preface};
use thiserror::Error;

use crate::socket::ReadHalf;

#[cfg(test)]
mod tests;

/// Bytes of the length that stands before each frame, in both protocols.
pub const LENGTH_BYTES: usize = 4;

/// A first chunk, and the most that is read while large frames follow each other (their beginnings are copied
/// once).
const CHUNK_BYTES_MIN: usize = 4 << 10;

/// A chunk with less room than this is not read into any more, unless moving its content would cost more than
/// it gains.
const SPARE_BYTES_MIN: usize = 1 << 10;

/// The two protocols of a data port.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// Heddle's own; frames are led by a little-endian length.
    Native,
    /// Kafka's; requests are led by a big-endian length.
    Kafka,
}

/// What a connection that is neither native nor Kafka seems to be.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Foreign {
    /// An HTTP request.
    Http,
    /// A TLS handshake.
    Tls,
    /// Nothing we know.
    Unknown,
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Foreign::Http => "HTTP, which has its own address (--admin)",
            Foreign::Tls => "TLS, which this port does not speak",
            Foreign::Unknown => "neither the native nor the Kafka protocol",
        })
    }
}

/// Why no further frame can be read; the connection is of no use after any of these.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The first bytes belong to no protocol of this port.
    #[error("the connection speaks {0}")]
    Foreign(Foreign),
    /// The native preface names another version of the protocol.
    #[error("native protocol version {version} is not spoken here (expected {FRAMING_VERSION})")]
    NativeVersion {
        /// The version the client named.
        version: u8,
    },
    /// The length before a frame is above the limit.
    #[error("a frame of {bytes} bytes is above the limit of {bytes_max}")]
    TooLarge {
        /// The length claimed.
        bytes: u32,
        /// The limit.
        bytes_max: usize,
    },
    /// The length before a frame is zero or negative.
    #[error("{0} is no length of a frame")]
    BadLength(i32),
    /// The connection ended inside a frame, or inside the preface.
    #[error("the connection ended inside a frame, {missing_bytes} bytes before its end")]
    Truncated {
        /// How many bytes of the frame never came.
        missing_bytes: usize,
    },
    /// Reading failed.
    #[error("reading from the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// Limits of a [`FrameReader`].
#[derive(Copy, Clone, Debug)]
pub struct FrameOptions {
    /// The largest frame taken, in bytes without its length.
    pub frame_bytes_max: usize,
    /// A chunk's size when reads keep filling it, in bytes. More would pin more memory under a single
    /// retained frame.
    pub chunk_bytes_max: usize,
    /// How much is allocated for a large frame before its bytes have come. The default of 2 MiB lets a frame
    /// of the usual 1 MiB batches be received into one buffer without a copy.
    pub eager_bytes: usize,
}

impl FrameOptions {
    /// The defaults, with a limit for a frame.
    pub const fn new(frame_bytes_max: usize) -> FrameOptions {
        FrameOptions { frame_bytes_max, chunk_bytes_max: 64 << 10, eager_bytes: 2 << 20 }
    }
}

/// Where a [`FrameReader`] reads from. 0 bytes is the end of the stream.
pub trait ByteSource {
    /// Reads into initialised memory.
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>>;

    /// Appends at most `bytes_max` bytes within the capacity of `buffer`.
    fn read_limited(
        &mut self,
        buffer: &mut BytesMut,
        bytes_max: usize,
    ) -> impl Future<Output = io::Result<usize>>;
}

impl ByteSource for ReadHalf {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        ReadHalf::read(self, buffer).await
    }

    async fn read_limited(&mut self, buffer: &mut BytesMut, bytes_max: usize) -> io::Result<usize> {
        ReadHalf::read_limited(self, buffer, bytes_max).await
    }
}

/// What was read from a connection but not yet taken as a frame; travels with a connection handed to another
/// core.
#[derive(Debug)]
pub struct Unread {
    protocol: Option<Protocol>,
    bytes: Bytes,
}

/// Reads frames from one connection. Dropping any of its futures loses nothing: the next call goes on where
/// it stopped.
pub struct FrameReader<S = ReadHalf> {
    source: S,
    options: FrameOptions,
    protocol: Option<Protocol>,
    /// Initialised throughout; the first `filled` bytes are input not yet taken.
    chunk: BytesMut,
    filled: usize,
    /// How much the next read may take, and how large the next chunk is: grows while reads are filled.
    read_bytes: usize,
    large: Option<LargeFrame>,
}

/// A frame being received into its own buffer.
struct LargeFrame {
    body: BytesMut,
    body_bytes: usize,
}

impl<S: ByteSource> FrameReader<S> {
    /// A reader at the beginning of a connection: call [`FrameReader::sniff`] first.
    pub fn new(source: S, options: FrameOptions) -> FrameReader<S> {
        FrameReader {
            source,
            options,
            protocol: None,
            chunk: BytesMut::new(),
            filled: 0,
            read_bytes: CHUNK_BYTES_MIN,
            large: None,
        }
    }

    /// A reader that knows its protocol, for instance the client's side of a connection.
    pub fn with_protocol(source: S, options: FrameOptions, protocol: Protocol) -> FrameReader<S> {
        FrameReader { protocol: Some(protocol), ..FrameReader::new(source, options) }
    }

    /// Goes on with a connection that another core has begun to read.
    pub fn resume(source: S, options: FrameOptions, unread: Unread) -> FrameReader<S> {
        let filled = unread.bytes.len();
        let chunk = BytesMut::from(&unread.bytes[..]);
        FrameReader { protocol: unread.protocol, chunk, filled, ..FrameReader::new(source, options) }
    }

    /// Takes the reader apart, between frames, to hand the connection to another core.
    ///
    /// Panics inside a large frame, that is if a dropped [`FrameReader::next`] had begun one.
    pub fn into_parts(self) -> (S, Unread) {
        assert!(self.large.is_none(), "a connection is handed over between frames");
        let bytes = Bytes::copy_from_slice(&self.chunk[..self.filled]);
        (self.source, Unread { protocol: self.protocol, bytes })
    }

    /// The protocol, once known.
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// The memory this reader holds, in bytes: for the budget of its core.
    pub fn memory_bytes(&self) -> usize {
        self.chunk.capacity() + self.large.as_ref().map_or(0, |large| large.body.capacity())
    }

    /// Tells the protocol by the first bytes, and takes the preface of a native connection.
    ///
    /// `None` if the connection ended before it began. A Kafka connection is one whose first four bytes are a
    /// length within the limit; anything else is refused by name.
    pub async fn sniff(&mut self) -> Result<Option<Protocol>, FrameError> {
        if self.protocol.is_some() || !self.fill(1).await? {
            return Ok(self.protocol);
        }
        let protocol = if self.chunk[0] == PREFACE[0] { Protocol::Native } else { Protocol::Kafka };
        match protocol {
            Protocol::Native => self.take_preface().await?,
            Protocol::Kafka => self.check_first_length().await?,
        }
        self.protocol = Some(protocol);
        Ok(self.protocol)
    }

    async fn take_preface(&mut self) -> Result<(), FrameError> {
        self.fill_whole(PREFACE.len()).await?;
        let mut preface = [0; PREFACE.len()];
        preface.copy_from_slice(&self.take(PREFACE.len()));
        match check_preface(&preface) {
            Ok(()) => Ok(()),
            Err(NativeError::PrefaceVersion(version)) => Err(FrameError::NativeVersion { version }),
            Err(_) => Err(FrameError::Foreign(Foreign::Unknown)),
        }
    }

    async fn check_first_length(&mut self) -> Result<(), FrameError> {
        self.fill_whole(LENGTH_BYTES).await?;
        let first = self.length_bytes();
        match frame_length(Protocol::Kafka, first, self.options.frame_bytes_max) {
            Ok(_) => Ok(()),
            Err(_) => Err(FrameError::Foreign(guess(first))),
        }
    }

    /// The length of the next frame in bytes, once it has come; `None` at the end of the stream. The frame
    /// itself is not yet read nor is memory allocated for it, so this is the place to wait for a memory
    /// budget.
    pub async fn peek_length(&mut self) -> Result<Option<usize>, FrameError> {
        if let Some(large) = &self.large {
            return Ok(Some(large.body_bytes));
        }
        if !self.fill(LENGTH_BYTES).await? {
            return match self.filled {
                0 => Ok(None),
                come => Err(FrameError::Truncated { missing_bytes: LENGTH_BYTES - come }),
            };
        }
        let protocol = self.protocol.expect("the protocol is known before frames are read: call sniff");
        frame_length(protocol, self.length_bytes(), self.options.frame_bytes_max).map(Some)
    }

    /// The next frame, without its length; `None` at the end of the stream. The frame is the only user of its
    /// bytes, so they may be changed in place.
    ///
    /// Panics if the protocol is not known yet.
    pub async fn next(&mut self) -> Result<Option<BytesMut>, FrameError> {
        let Some(body_bytes) = self.peek_length().await? else { return Ok(None) };
        if self.large.is_none() {
            if self.fits_a_chunk(LENGTH_BYTES + body_bytes) {
                self.fill_whole(LENGTH_BYTES + body_bytes).await?;
                let mut frame = self.take(LENGTH_BYTES + body_bytes);
                frame.advance(LENGTH_BYTES);
                return Ok(Some(frame));
            }
            self.begin_large(body_bytes);
        }
        self.fill_large().await?;
        Ok(self.large.take().map(|large| large.body))
    }

    /// Whether a frame lies in the chunk, or is small enough that moving its beginning to a new chunk is
    /// cheap.
    fn fits_a_chunk(&self, bytes: usize) -> bool {
        bytes <= self.chunk.len() || bytes <= self.options.chunk_bytes_max / 4
    }

    fn begin_large(&mut self, body_bytes: usize) {
        let come = (self.filled - LENGTH_BYTES).min(body_bytes);
        let mut body = BytesMut::with_capacity(body_bytes.min(self.options.eager_bytes.max(come)));
        let beginning = self.take(LENGTH_BYTES + come);
        body.extend_from_slice(&beginning[LENGTH_BYTES..]);
        self.large = Some(LargeFrame { body, body_bytes });
        self.read_bytes = CHUNK_BYTES_MIN;
    }

    async fn fill_large(&mut self) -> Result<(), FrameError> {
        let Some(large) = &mut self.large else { return Ok(()) };
        while let missing_bytes @ 1.. = large.body_bytes - large.body.len() {
            large.make_room();
            if self.source.read_limited(&mut large.body, missing_bytes).await? == 0 {
                return Err(FrameError::Truncated { missing_bytes });
            }
        }
        Ok(())
    }

    /// Reads until `bytes` are there; false if the stream ends before.
    async fn fill(&mut self, bytes: usize) -> Result<bool, FrameError> {
        while self.filled < bytes {
            self.make_room(bytes);
            let end = self.chunk.len().min(self.filled + self.read_bytes.max(bytes - self.filled));
            let room = &mut self.chunk[self.filled..end];
            let room_bytes = room.len();
            let count = self.source.read(room).await?;
            if count == 0 {
                return Ok(false);
            }
            self.filled += count;
            if count == room_bytes {
                self.read_bytes =
                    (self.read_bytes * 2).min(self.options.chunk_bytes_max.max(CHUNK_BYTES_MIN));
            }
        }
        Ok(true)
    }

    async fn fill_whole(&mut self, bytes: usize) -> Result<(), FrameError> {
        match self.fill(bytes).await? {
            true => Ok(()),
            false => Err(FrameError::Truncated { missing_bytes: bytes - self.filled }),
        }
    }

    /// Moves to a new chunk if this one cannot hold `bytes`, or has so little room left that reads would be
    /// cut short.
    fn make_room(&mut self, bytes: usize) {
        let spare = self.chunk.len() - self.filled;
        let cramped = spare < SPARE_BYTES_MIN && self.filled < SPARE_BYTES_MIN;
        if self.chunk.len() >= bytes && !cramped {
            return;
        }
        let mut chunk = BytesMut::zeroed(self.read_bytes.max(bytes));
        chunk[..self.filled].copy_from_slice(&self.chunk[..self.filled]);
        self.chunk = chunk;
    }

    fn take(&mut self, bytes: usize) -> BytesMut {
        self.filled -= bytes;
        self.chunk.split_to(bytes)
    }

    fn length_bytes(&self) -> [u8; LENGTH_BYTES] {
        let mut length = [0; LENGTH_BYTES];
        length.copy_from_slice(&self.chunk[..LENGTH_BYTES]);
        length
    }
}

impl LargeFrame {
    /// Grows the buffer to at most twice what has come, and never beyond the frame.
    fn make_room(&mut self) {
        if self.body.len() < self.body.capacity() {
            return;
        }
        let mut body = BytesMut::with_capacity(self.body_bytes.min(self.body.len() * 2));
        body.extend_from_slice(&self.body);
        self.body = body;
    }
}

fn frame_length(
    protocol: Protocol,
    bytes: [u8; LENGTH_BYTES],
    bytes_max: usize,
) -> Result<usize, FrameError> {
    let length = match protocol {
        Protocol::Native => u32::from_le_bytes(bytes),
        Protocol::Kafka if i32::from_be_bytes(bytes) < 0 => {
            return Err(FrameError::BadLength(i32::from_be_bytes(bytes)));
        }
        Protocol::Kafka => u32::from_be_bytes(bytes),
    };
    match length as usize {
        0 => Err(FrameError::BadLength(0)),
        within if within <= bytes_max => Ok(within),
        _ => Err(FrameError::TooLarge { bytes: length, bytes_max }),
    }
}

fn guess(first: [u8; LENGTH_BYTES]) -> Foreign {
    match &first {
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"TRAC" | b"PRI " => {
            Foreign::Http
        }
        [0x16, 0x03, ..] => Foreign::Tls,
        _ => Foreign::Unknown,
    }
}
