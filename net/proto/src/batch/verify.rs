//! Checking whole batches, walking concatenated ones, and the in-place changes a primary makes to them.

use std::ops::Range;

use super::BatchError;
use super::header::{Attributes, BATCH_HEADER_BYTES, BatchHeader, at, put};
use crate::crc::crc32c;
use crate::ids::{Epoch, Offset, Timestamp};

/// Checks that `bytes` is exactly one whole batch as a producer sends it: length, magic, codec, CRC, and one
/// offset per record. Control batches pass; refusing them from clients is the produce handler's business.
///
/// # Errors
/// Every [`BatchError`] except those about records and decompression.
pub fn verify(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = verify_stored(bytes)?;
    verify_fresh(&header)?;
    Ok(header)
}

/// As [`verify`], but accepts what compaction leaves behind: fewer records than offsets, even none.
///
/// # Errors
/// As [`verify`].
pub fn verify_stored(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let need_bytes = header.batch_bytes as usize;
    if bytes.len() < need_bytes {
        return Err(BatchError::Truncated { need_bytes, have_bytes: bytes.len() });
    }
    if bytes.len() > need_bytes {
        return Err(BatchError::TrailingBytes(bytes.len() - need_bytes));
    }
    let computed = crc32c(&bytes[at::CRC_COVERED..]);
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    Ok(header)
}

fn verify_fresh(header: &BatchHeader) -> Result<(), BatchError> {
    if header.record_count == 0 || header.record_count != header.last_offset_delta + 1 {
        return Err(BatchError::Counts {
            record_count: header.record_count as i32,
            last_offset_delta: header.last_offset_delta as i32,
        });
    }
    let has_producer = header.producer_id.is_some() && !header.is_control();
    if has_producer && (header.base_sequence.get() < 0 || header.producer_epoch.get() < 0) {
        return Err(BatchError::Producer);
    }
    Ok(())
}

/// Walks `bytes` as batches laid end to end, reading headers only; use [`verify`] on each slice for its CRC.
/// After the first error the iterator ends.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { bytes, at: 0 }
}

/// Iterator of [`batches`]: each item is a header and where in the input its whole batch lies.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Batches<'_> {
    /// How many bytes have been walked without an error.
    pub fn position(&self) -> usize {
        self.at
    }

    fn parse_next(&self) -> Result<(BatchHeader, Range<usize>), BatchError> {
        let rest = &self.bytes[self.at..];
        let header = BatchHeader::parse(rest)?;
        let need_bytes = header.batch_bytes as usize;
        if rest.len() < need_bytes {
            return Err(BatchError::Truncated { need_bytes, have_bytes: rest.len() });
        }
        Ok((header, self.at..self.at + need_bytes))
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<(BatchHeader, Range<usize>), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.bytes.len() {
            return None;
        }
        let item = self.parse_next();
        match &item {
            Ok((_, range)) => self.at = range.end,
            Err(_) => self.bytes = &self.bytes[..self.at],
        }
        Some(item)
    }
}

/// Writes the offset of the first record and the epoch into the header, in place. Both lie outside the CRC.
///
/// # Panics
/// If `bytes` is shorter than a header: only verified batches come here.
pub fn assign(bytes: &mut [u8], base: Offset, epoch: Epoch) {
    assert!(bytes.len() >= BATCH_HEADER_BYTES, "assign needs a verified batch");
    put(bytes, at::BASE_OFFSET, &base.get().to_be_bytes());
    put(bytes, at::EPOCH, &epoch.get().to_be_bytes());
}

/// Gives every record the broker's time: sets the timestamp type and the max timestamp, and computes the CRC anew.
///
/// # Panics
/// If `bytes` is shorter than a header: only verified batches come here.
pub fn set_append_time(bytes: &mut [u8], now: Timestamp) {
    assert!(bytes.len() >= BATCH_HEADER_BYTES, "set_append_time needs a verified batch");
    bytes[at::ATTRIBUTES + 1] |= Attributes::LOG_APPEND_TIME as u8;
    put(bytes, at::MAX_TIMESTAMP, &now.get().to_be_bytes());
    let crc = crc32c(&bytes[at::CRC_COVERED..]);
    put(bytes, at::CRC, &crc.to_be_bytes());
}
