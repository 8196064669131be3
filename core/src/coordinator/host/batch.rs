//! Between a machine's records and the record batches of its partition.

use bytes::{Bytes, BytesMut};
use heddle_proto::{
    batch::{BatchBuilder, BatchError, BatchHeader, Compression, records_shared},
    ids::{Offset, Timestamp},
    limits::DECOMPRESSED_BYTES_MAX,
};

use super::machine::{KeyValue, StateMachine};

/// Makes the one batch of a write; more only if the write is larger than a batch may be.
///
/// # Errors
/// When one record alone is.
pub fn encode(records: &[KeyValue], now: Timestamp) -> Result<Vec<BytesMut>, BatchError> {
    let mut batches = Vec::with_capacity(1);
    let mut builder = BatchBuilder::new(Compression::None);
    for record in records {
        let value = record.value.as_deref();
        match builder.push(now, Some(&record.key), value, &[]) {
            Err(BatchError::TooLarge(_)) if !builder.is_empty() => {
                let full = std::mem::replace(&mut builder, BatchBuilder::new(Compression::None));
                batches.push(full.build()?);
                builder.push(now, Some(&record.key), value, &[])?;
            }
            pushed => pushed?,
        }
    }
    batches.push(builder.build()?);
    Ok(batches)
}

/// Applies the records of a batch from `from` on; returns the offset behind it.
///
/// # Errors
/// What cannot be read, and where.
pub fn replay<M: StateMachine>(machine: &mut M, batch: &Bytes, from: Offset) -> Result<Offset, String> {
    let header = BatchHeader::parse(batch).map_err(|error| format!("at offset {from}: {error}"))?;
    let end = header.base_offset.plus(i64::from(header.last_offset_delta) + 1);
    if header.is_control() {
        return Ok(end);
    }
    let records = records_shared(batch, DECOMPRESSED_BYTES_MAX);
    for record in records.map_err(|error| format!("at offset {}: {error}", header.base_offset))? {
        let record = record.map_err(|error| format!("in the batch at {}: {error}", header.base_offset))?;
        if record.offset < from {
            continue;
        }
        let key = record.key.unwrap_or_default();
        let applied = machine.replay(&key, record.value.as_deref());
        applied.map_err(|why| format!("the record at offset {}: {why}", record.offset))?;
    }
    Ok(end)
}
