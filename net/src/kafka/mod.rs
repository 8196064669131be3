//! The Kafka wire protocol as pure functions between bytes and values: no IO, and no knowledge of partitions.
//!
//! The order of a request: [`decode_header`] takes the header off the frame, then [`decode_produce`],
//! [`decode_fetch`] or [`decode_control`] read what is left. Produce and Fetch are written by hand, because their
//! batches must stay slices of the frame; everything else goes through the `kafka-protocol` crate, behind a
//! [`shape`] walk that refuses lengths the frame cannot hold before the crate allocates for them. Each reply is
//! encoded with its length prefix and response header. [`refuse`] builds the error replies.

pub mod client;
pub mod control;
pub mod error;
pub mod fetch;
mod group_shapes;
pub mod groups;
pub mod header;
pub mod produce;
pub mod refuse;
mod refuse_admin;
mod refuse_transactions;
pub mod shape;
mod shapes;
pub mod topic;
mod unserved;
pub mod versions;
mod wire;

#[cfg(test)]
mod tests;

pub use control::{ControlReply, ControlRequest, decode_control, encode_reply};
pub use error::{DecodeError, EncodeError};
pub use fetch::{FetchReply, FetchRequest, decode_fetch, encode_fetch};
pub use header::{ReplyHeader, RequestHeader, decode_header};
pub use kafka_protocol::messages;
pub use kafka_protocol::messages::ApiKey;
pub use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
pub use produce::{ProduceReply, ProduceRequest, decode_produce, encode_produce};
pub use refuse::{refuse_control, refuse_header, unsupported_reply};
pub use topic::TopicRef;
pub use versions::{Served, api_versions, is_served, served};
