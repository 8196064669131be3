//! The bytes of a connection: requests gathered for sending, replies cut out of what was received.
use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use heddle_proto::native::{
    Encoder, FRAME_LENGTH_BYTES, HEADER_LENGTH_BYTES, NativeError, PREFACE, Reply, Request, decode_reply,
    split_frame_ref,
};

use crate::error::ClientError;

/// Payloads smaller than this are copied behind their header; larger ones are sent from where they lie.
const COPY_BYTES_MAX: usize = 4 << 10;

/// The first receive buffer, and the largest one kept for frames that fit it.
const BUFFER_BYTES_MIN: usize = 8 << 10;
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Allocated for a large frame before its bytes have come.
const EAGER_BYTES: usize = 2 << 20;

/// Requests on their way to the socket.
pub(crate) struct Outgoing {
    encoder: Encoder,
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    bytes: usize,
}

impl Outgoing {
    pub(crate) fn with_preface() -> Outgoing {
        let tail = BytesMut::from(&PREFACE[..]);
        Outgoing { encoder: Encoder::new(), chunks: VecDeque::new(), bytes: tail.len(), tail }
    }

    /// Appends a request; errors if its header or the whole is larger than the protocol allows, and then
    /// appends nothing.
    pub(crate) fn push(
        &mut self,
        correlation: u32,
        request: &Request,
        payload: Bytes,
    ) -> Result<(), ClientError> {
        let before = self.tail.len();
        self.encoder.request(correlation, request, &mut self.tail, payload.len()).map_err(too_large)?;
        self.bytes += self.tail.len() - before + payload.len();
        if payload.len() < COPY_BYTES_MAX {
            self.tail.extend_from_slice(&payload);
        } else {
            self.chunks.push_back(self.tail.split().freeze());
            self.chunks.push_back(payload);
        }
        Ok(())
    }

    /// Everything gathered since the last call, in order.
    pub(crate) fn take(&mut self, into: &mut VecDeque<Bytes>) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
        into.append(&mut self.chunks);
    }

    pub(crate) fn on_sent(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// Bytes gathered and not yet taken by the socket.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A reply with the batches that came with it.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) correlation: u32,
    pub(crate) reply: Reply,
    pub(crate) payload: Bytes,
}

/// Cuts replies out of received bytes. A frame's claimed length never makes it allocate more than 2 MiB or
/// twice what has come.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// Initialised throughout; the first `filled` bytes are received and not yet taken.
    buffer: BytesMut,
    filled: usize,
    buffer_bytes: usize,
    frame_bytes_max: usize,
}

impl Receiver {
    pub(crate) fn new(frame_bytes_max: usize) -> Receiver {
        Receiver { buffer: BytesMut::new(), filled: 0, buffer_bytes: BUFFER_BYTES_MIN, frame_bytes_max }
    }

    /// Where to receive into; never empty. Call [`Receiver::next`] until it has nothing before asking again.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.buffer.len() == self.filled {
            self.grow();
        }
        &mut self.buffer[self.filled..]
    }

    pub(crate) fn on_received(&mut self, count: usize) {
        self.filled += count;
        if self.filled == self.buffer.len() {
            self.buffer_bytes = (self.buffer_bytes * 2).min(BUFFER_BYTES_MAX);
        }
    }

    /// Whether the connection may end here.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.filled == 0
    }

    fn grow(&mut self) {
        let wanted = self.frame_bytes().map_or(0, |frame| FRAME_LENGTH_BYTES + frame);
        let allowed = wanted.min(EAGER_BYTES.max(self.filled * 2));
        let mut buffer = BytesMut::zeroed(allowed.max(self.filled + self.buffer_bytes));
        if allowed > self.filled + self.buffer_bytes {
            buffer.truncate(allowed); // exactly the frame: what follows belongs to a small buffer again
        }
        buffer[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
        self.buffer = buffer;
    }

    fn frame_bytes(&self) -> Option<usize> {
        let received = &self.buffer[..self.filled];
        received.first_chunk().map(|length| u32::from_le_bytes(*length) as usize)
    }

    /// The next whole reply, if it has come.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, ClientError> {
        let Some(frame_bytes) = self.frame_bytes() else { return Ok(None) };
        if frame_bytes > self.frame_bytes_max {
            return Err(protocol(format!("a frame of {frame_bytes} bytes (limit {})", self.frame_bytes_max)));
        }
        if self.filled < FRAME_LENGTH_BYTES + frame_bytes {
            return Ok(None);
        }
        let frame = self.buffer.split_to(FRAME_LENGTH_BYTES + frame_bytes).freeze();
        self.filled -= frame.len();
        decode(frame).map(Some)
    }
}

fn decode(mut frame: Bytes) -> Result<Incoming, ClientError> {
    frame.advance(FRAME_LENGTH_BYTES);
    let (header, _) = split_frame_ref(&frame).map_err(|error| protocol(error.to_string()))?;
    let (correlation, reply) = decode_reply(header).map_err(|error| protocol(error.to_string()))?;
    let payload_at = HEADER_LENGTH_BYTES + header.len();
    Ok(Incoming { correlation, reply, payload: frame.slice(payload_at..) })
}

fn protocol(what: impl Into<String>) -> ClientError {
    ClientError::Protocol(what.into())
}

fn too_large(error: NativeError) -> ClientError {
    match error {
        NativeError::FrameTooLarge { frame_bytes: bytes, bytes_max }
        | NativeError::HeaderTooLarge { header_bytes: bytes, bytes_max } => {
            ClientError::TooLarge { bytes, bytes_max }
        }
        other => ClientError::Protocol(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use heddle_proto::native;

    use super::*;

    fn receive(receiver: &mut Receiver, mut bytes: &[u8]) -> Result<usize, ClientError> {
        let mut count = 0;
        while !bytes.is_empty() {
            let room = receiver.room();
            let taken = room.len().min(bytes.len());
            room[..taken].copy_from_slice(&bytes[..taken]);
            receiver.on_received(taken);
            bytes = &bytes[taken..];
            while receiver.next()?.is_some() {
                count += 1;
            }
        }
        Ok(count)
    }

    #[test]
    fn a_claimed_length_allocates_no_more_than_twice_what_came() {
        for come in [4, 100, 100_000, 5 << 20] {
            let mut bytes = vec![0; come];
            bytes[..4].copy_from_slice(&(60u32 << 20).to_le_bytes());
            let mut receiver = Receiver::new(64 << 20);
            assert_eq!(receive(&mut receiver, &bytes).unwrap(), 0);
            receiver.room();
            let held = receiver.buffer.capacity();
            assert!(held <= EAGER_BYTES.max(2 * come), "{held} for {come}");
            assert!(!receiver.is_between_frames());
        }
    }

    #[test]
    fn replies_are_cut_out_of_any_pieces() {
        let mut bytes = BytesMut::new();
        let sizes = [0, 1, 5000, 70_000, 3 << 20, 10];
        for (i, size) in sizes.into_iter().enumerate() {
            let reply = Reply::ClusterStatus { json: i.to_string() };
            native::encode_reply(i as u32 + 1, &reply, &mut bytes, size).unwrap();
            bytes.resize(bytes.len() + size, i as u8);
        }
        for piece_bytes in [1000, 8192, 1 << 20, usize::MAX] {
            let mut receiver = Receiver::new(64 << 20);
            let pieces = bytes.chunks(piece_bytes.min(bytes.len()));
            let count: usize = pieces.map(|piece| receive(&mut receiver, piece).unwrap()).sum();
            assert_eq!(count, sizes.len());
            assert!(receiver.is_between_frames());
        }
    }
}
