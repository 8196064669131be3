//! Writing frames: the reusable encoder and the parts that requests and replies share.

use bytes::{BufMut, BytesMut};
use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::frame::outgoing_lengths;
use super::generated::heddle::native as fb;
use super::{NativeError, Reply, Request, StartFrom};
use crate::ids::TopicId;
use crate::limits::{HEADER_BYTES_MAX, REQUEST_HEADER_BYTES_MAX};

/// A first buffer that fits every message of the data path.
const FIRST_BYTES: usize = 256;

/// After a message as large as this (metadata, mostly) the buffer is given back.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Writes frames and keeps its buffer, so that messages of the data path are encoded without allocating.
pub struct Encoder {
    builder: FlatBufferBuilder<'static>,
}

impl Encoder {
    /// An encoder with a small buffer.
    pub fn new() -> Self {
        Self { builder: FlatBufferBuilder::with_capacity(FIRST_BYTES) }
    }

    /// Appends the lengths and the header of a request to `out`; `payload_bytes` of payload must follow.
    ///
    /// # Errors
    /// [`NativeError::FrameTooLarge`] and [`NativeError::HeaderTooLarge`]; `out` is as it was before.
    pub fn request(
        &mut self,
        correlation: u32,
        request: &Request,
        out: &mut BytesMut,
        payload_bytes: usize,
    ) -> Result<(), NativeError> {
        let (body_type, body) = super::encode_request::body(&mut self.builder, request);
        let args = fb::RequestHeaderArgs { correlation, body_type, body: Some(body) };
        let root = fb::RequestHeader::create(&mut self.builder, &args);
        self.finish(root, out, payload_bytes, REQUEST_HEADER_BYTES_MAX)
    }

    /// Appends the lengths and the header of a reply to `out`; `payload_bytes` of payload must follow.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn reply(
        &mut self,
        correlation: u32,
        reply: &Reply,
        out: &mut BytesMut,
        payload_bytes: usize,
    ) -> Result<(), NativeError> {
        let (body_type, body) = super::encode_reply::body(&mut self.builder, reply);
        let args = fb::ReplyHeaderArgs { correlation, body_type, body: Some(body) };
        let root = fb::ReplyHeader::create(&mut self.builder, &args);
        self.finish(root, out, payload_bytes, HEADER_BYTES_MAX)
    }

    fn finish<T>(
        &mut self,
        root: WIPOffset<T>,
        out: &mut BytesMut,
        payload_bytes: usize,
        header_bytes_max: usize,
    ) -> Result<(), NativeError> {
        self.builder.finish_minimal(root);
        let done = write_frame(self.builder.finished_data(), out, payload_bytes, header_bytes_max);
        if self.builder.finished_data().len() > KEPT_BYTES_MAX {
            self.builder = FlatBufferBuilder::with_capacity(FIRST_BYTES);
        } else {
            self.builder.reset();
        }
        done
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

fn write_frame(
    header: &[u8],
    out: &mut BytesMut,
    payload_bytes: usize,
    header_bytes_max: usize,
) -> Result<(), NativeError> {
    if header.len() > header_bytes_max {
        return Err(NativeError::HeaderTooLarge { header_bytes: header.len(), bytes_max: header_bytes_max });
    }
    let lengths = outgoing_lengths(header.len(), payload_bytes)?;
    out.put_u32_le(lengths.frame_bytes);
    out.put_u32_le(lengths.header_bytes);
    out.extend_from_slice(header);
    Ok(())
}

/// As [`Encoder::request`], with an encoder made for the occasion.
///
/// # Errors
/// As [`Encoder::request`].
pub fn encode_request(
    correlation: u32,
    request: &Request,
    out: &mut BytesMut,
    payload_bytes: usize,
) -> Result<(), NativeError> {
    Encoder::new().request(correlation, request, out, payload_bytes)
}

/// As [`Encoder::reply`], with an encoder made for the occasion.
///
/// # Errors
/// As [`Encoder::request`].
pub fn encode_reply(
    correlation: u32,
    reply: &Reply,
    out: &mut BytesMut,
    payload_bytes: usize,
) -> Result<(), NativeError> {
    Encoder::new().reply(correlation, reply, out, payload_bytes)
}

pub(super) fn uuid(topic: TopicId) -> fb::Uuid {
    fb::Uuid(topic.get())
}

pub(super) fn start_from(from: StartFrom) -> fb::StartFrom {
    match from {
        StartFrom::Earliest => fb::StartFrom::new(fb::StartKind::Earliest, 0),
        StartFrom::Latest => fb::StartFrom::new(fb::StartKind::Latest, 0),
        StartFrom::Offset(offset) => fb::StartFrom::new(fb::StartKind::Offset, offset.get()),
        StartFrom::Timestamp(timestamp) => fb::StartFrom::new(fb::StartKind::Timestamp, timestamp.get()),
    }
}
