//! Frames between cores of one cluster: what they carry, how large they may be, and their bytes.
//!
//! `schema/peer.fbs` is the specification of the headers; the module `generated` is made from it by
//! `cargo run -p heddle-replication-transport --features codegen --example generate-peer`. [`Encoder`] writes a frame as
//! chunks, the batches among them as they are; [`decode`] reads one whose length field has been taken off, and checks every
//! length before it allocates. The checksum covers lengths and header; each batch has its own, which the driver checks, and the
//! payload of a call has one in its header.

mod decode;
mod encode;
mod error;
#[rustfmt::skip]
#[allow(missing_docs, rust_2018_idioms, unused, clippy::all, clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]
mod generated;
mod pieces;

pub use decode::decode;
pub use encode::Encoder;
pub use error::WireError;
pub use pieces::pieces;

use bytes::Bytes;
use heddle_proto::batch::BATCH_HEADER_BYTES;
use heddle_proto::crc::Crc32c;
use heddle_proto::limits::BATCH_BYTES_MAX;
use heddle_replication::history::EPOCHS_MAX;
use heddle_replication::message::Life;
use heddle_replication_driver::{Frame, Peer};

/// The version of everything in this module and of the handshake.
pub const FORMAT_VERSION: u8 = 1;

/// What each end sends once, before anything else. Neither a length that Kafka knows nor the native preface.
pub const PREFACE: [u8; 8] = [0xff, b'H', b'D', b'P', FORMAT_VERSION, 0, 0, 0];

/// Where the version is in [`PREFACE`]; all else is the same in every version.
pub(crate) const PREFACE_VERSION_AT: usize = 4;

/// Bytes of the lengths and the checksum before a header, without the frame's own length.
pub const PREFIX_BYTES: usize = 8;

/// Bytes of the frame's own length, which does not count itself.
pub const LENGTH_BYTES: usize = 4;

/// Largest payload, in bytes: one batch as large as batches get.
pub const PAYLOAD_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// Largest payload of a request or a reply, in bytes: one message of the metadata's quorum as large as they get, and room for
/// what its owner puts before it.
pub const CALL_BYTES_MAX: usize = (16 << 20) + (4 << 10);

/// Largest header of a request or a reply, in bytes: two numbers.
pub const CALL_HEADER_BYTES_MAX: usize = 256;

/// Largest header, in bytes: one message with a payload of the smallest batches there are, 61 bytes each.
pub const HEADER_BYTES_MAX: usize = 2 << 20;

/// Largest frame, in bytes after its length field.
pub const FRAME_BYTES_MAX: usize = PREFIX_BYTES + HEADER_BYTES_MAX + PAYLOAD_BYTES_MAX;

/// Most messages in one frame. Each takes two tables of the header.
pub const SAID_COUNT_MAX: usize = 4096;

/// Largest frame before both ends know each other, in bytes: nobody has a longer cluster id than a kilobyte less the rest.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 1 << 10;

/// Longest cluster id, in bytes.
pub const CLUSTER_ID_BYTES_MAX: usize = 255;

/// A frame is closed when it has this much payload, in bytes: pings and acknowledgements get in between, and the receiver
/// need not hold more than one frame that has not arrived whole.
const PAYLOAD_BYTES_AIM: usize = 1 << 20;

/// Or when its header may have this much, in bytes.
const HEADER_BYTES_AIM: usize = 256 << 10;

/// A message with the longest history there is takes fewer bytes of the header than this, its list of batches apart.
const MESSAGE_BYTES_MAX: usize = 256 + 16 * EPOCHS_MAX;

const _: () = assert!(
    HEADER_BYTES_AIM + MESSAGE_BYTES_MAX + 4 * (PAYLOAD_BYTES_MAX / BATCH_HEADER_BYTES) < HEADER_BYTES_MAX
);
const _: () = assert!(PAYLOAD_BYTES_AIM <= PAYLOAD_BYTES_MAX && FRAME_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(PREFIX_BYTES + CALL_HEADER_BYTES_MAX + CALL_BYTES_MAX <= FRAME_BYTES_MAX);

/// What one frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Each end's first frame.
    Hello(Hello),
    /// The second of who dialed.
    Proof(Digest),
    /// The answer to it; the streams follow.
    Accepted(Digest),
    /// The connection ends.
    Refused(Refusal),
    /// What cores say to each other.
    Streams(Frame),
    /// To be answered with its number.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// Something asked.
    Request(Call),
    /// The answer to the request of that number.
    Reply(Call),
}

/// Random bytes, or what follows from them and a secret.
pub type Digest = [u8; 32];

/// A question or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The number of the request.
    pub number: u64,
    /// What is asked or answered; its owner knows what it means.
    pub payload: Bytes,
}

/// What a connection is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Replication: what the drivers of two cores say to each other.
    Streams,
    /// Requests of one node to another of its cluster.
    Calls,
    /// One request of a node that knows the secret and does not know the cluster yet.
    Join,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Purpose; 3] = [Purpose::Streams, Purpose::Calls, Purpose::Join];
}

/// Who speaks and whom it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster it belongs to; empty from who joins and does not know it.
    pub cluster: String,
    /// The core that speaks.
    pub from: Peer,
    /// The life of its node; 0 where the connection is not for streams, because a node may not know it yet.
    pub life: Life,
    /// Drawn at random when its process started: tells two that claim the same life apart.
    pub process: [u8; 16],
    /// The core it wants to speak to; of no meaning from who joins.
    pub to: Peer,
    /// Random bytes.
    pub challenge: Digest,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// Why an end does not talk to the other.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// A reason that only a later version knows.
    #[error("a reason that this version does not know")]
    Unknown,
    /// It belongs to another cluster.
    #[error("it belongs to another cluster")]
    Cluster,
    /// It claims the node id of who refuses.
    #[error("it claims the node id of the node it talks to")]
    OwnNode,
    /// Another process has that node id: in a later life, or in the same.
    #[error("its node id is in use by another process, or by a later life of its node")]
    NodeInUse,
    /// It wants another core, or another node.
    #[error("it wants to talk to another node or core")]
    NotMe,
    /// It does not know the secret.
    #[error("it does not know the secret of the cluster")]
    Secret,
    /// The connection is for something that is not to be had there, or not yet.
    #[error("connections for this purpose are not taken, or not yet")]
    Purpose,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 7] = [
        Refusal::Unknown,
        Refusal::Cluster,
        Refusal::OwnNode,
        Refusal::NodeInUse,
        Refusal::NotMe,
        Refusal::Secret,
        Refusal::Purpose,
    ];
}

/// The checksum of a frame: its lengths and its header.
fn checksum(frame_bytes: u32, header: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&frame_bytes.to_le_bytes());
    crc.update(&(header.len() as u32).to_le_bytes());
    crc.update(header);
    crc.value()
}

#[cfg(test)]
mod tests;
