//! The native protocol: frames with a FlatBuffers header, and the requests and replies those headers carry.
//!
//! A client sends [`PREFACE`] once. A frame is a `u32` LE with the bytes that follow it, a `u32` LE with the bytes
//! of the header, the header, and a payload of batches laid end to end. `schema/native.fbs` is the specification
//! of the headers; the module `generated` is made from it by
//! `cargo run -p heddle-proto --features codegen --example generate-native`.

mod decode;
mod decode_reply;
mod decode_request;
mod encode;
mod encode_reply;
mod encode_request;
mod error;
mod frame;
#[rustfmt::skip]
#[allow(missing_docs, rust_2018_idioms, unused, clippy::all, clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]
mod generated;
mod message;
#[cfg(test)]
mod tests;

pub use decode_reply::decode_reply;
pub use decode_request::decode_request;
pub use encode::{Encoder, encode_reply, encode_request};
pub use error::NativeError;
pub use frame::{
    FRAME_LENGTH_BYTES, FRAME_PREFIX_BYTES, FRAMING_VERSION, FrameLengths, HEADER_LENGTH_BYTES, PREFACE,
    check_preface, frame_lengths, split_frame, split_frame_ref,
};
pub use message::{
    Broker, ConfigEntry, PartitionDetail, PartitionInfo, Reply, Request, StartFrom, TopicInfo,
};
