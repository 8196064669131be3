//! Kafka RecordBatch v2 (magic 2): the one shape of data on the wire, in memory, in the WAL and in segments.

mod builder;
mod codec;
mod error;
mod header;
mod marker;
mod record;
mod rewrite;
#[cfg(test)]
mod tests;
mod varint;
mod verify;

pub use builder::BatchBuilder;
pub use codec::decompress;
pub use error::BatchError;
pub use header::{
    Attributes, BATCH_HEADER_BYTES, BATCH_LENGTH_PREFIX_BYTES, BatchHeader, Compression, TimestampType,
};
pub use marker::{Marker, Outcome};
pub use record::{Record, RecordHeader, Records, records, records_shared, validate_records};
pub use rewrite::{
    Keep, RecordView, Retained, emptied, for_each_record, hole, recompress, retain, with_horizon,
};
pub use verify::{Batches, assign, batches, set_append_time, verify, verify_stored};
