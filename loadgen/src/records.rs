//! Walks the records of an uncompressed batch in place: only where each value lies, nothing is copied.

use heddle_proto::batch::BATCH_HEADER_BYTES;
use std::ops::Range;

/// The positions of record values in an uncompressed batch, in order. Ends at the first malformed record.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    batch: &'a [u8],
    position: usize,
}

/// Walks `batch`, one whole RecordBatch v2 without compression.
pub fn values(batch: &[u8]) -> Values<'_> {
    Values { batch, position: BATCH_HEADER_BYTES.min(batch.len()) }
}

impl Iterator for Values<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let mut at = self.position;
        let length = usize::try_from(varint(self.batch, &mut at)?).ok()?;
        let end = at.checked_add(length).filter(|end| *end <= self.batch.len())?;
        at += 1; // attributes
        varint(self.batch, &mut at)?; // timestamp delta
        varint(self.batch, &mut at)?; // offset delta
        let key_bytes = usize::try_from(varint(self.batch, &mut at)?.max(0)).ok()?;
        at = at.checked_add(key_bytes)?;
        let value_bytes = usize::try_from(varint(self.batch, &mut at)?.max(0)).ok()?;
        let value_end = at.checked_add(value_bytes).filter(|value_end| *value_end <= end)?;
        self.position = end;
        Some(at..value_end)
    }
}

/// A zigzag varint at `at`, which moves behind it.
fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut raw = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_proto::Timestamp;
    use heddle_proto::batch::{BatchBuilder, Compression};

    #[test]
    fn finds_the_values_of_a_built_batch() {
        let wanted: Vec<Vec<u8>> = (0..200usize).map(|i| vec![i as u8; i * 3]).collect();
        let mut builder = BatchBuilder::new(Compression::None);
        for (index, value) in wanted.iter().enumerate() {
            let key = (index % 2 == 0).then_some(&b"key"[..]);
            let headers = [(bytes::Bytes::from_static(b"h"), None)];
            builder.push(Timestamp::new(index as i64 * 50), key, Some(value), &headers).unwrap();
        }
        let batch = builder.build().unwrap();
        let found: Vec<_> = values(&batch).map(|range| batch[range].to_vec()).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn garbage_ends_the_walk() {
        for length in 0..200 {
            let garbage: Vec<u8> = (0..length).map(|i| (i * 37 + length) as u8 | 0x80).collect();
            for range in values(&garbage) {
                assert!(range.end <= garbage.len());
            }
        }
    }
}
