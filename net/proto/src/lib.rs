//! Wire types of Heddle: ids, RecordBatch v2, native frames and error codes. Pure: bytes in, values out.
//!
//! This crate never does IO, never reads a clock and never allocates more than a stated limit because a
//! length field asked it to.

pub mod batch;
pub mod crc;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod ids;
pub mod limits;
pub mod native;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod samples;

pub use error::ErrorCode;
pub use ids::{
    CoreId, Epoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
    TopicPartition,
};
