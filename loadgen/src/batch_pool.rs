//! Ready-made record batches: built once, then stamped with new times in place and sent again.
//!
//! Building a batch record by record and filling payloads costs more than a broker spends on it. A batch that came
//! back from a connection is reused: only its timestamps, the stamps in its values and its CRC change.

use crate::clock::Nanos;
use crate::records::values;
use crate::stamp::{STAMP_BYTES, Stamp};
use ahash::AHashMap;
use bytes::{Bytes, BytesMut};
use heddle_proto::Timestamp;
use heddle_proto::batch::{BATCH_HEADER_BYTES, BatchBuilder, BatchError, BatchHeader, Compression};
use heddle_proto::crc::crc32c;
use std::rc::Rc;

/// Where the part of a batch begins that its CRC covers.
const CRC_COVERED: usize = 21;
/// A key is a number in so many hexadecimal digits.
const KEY_BYTES: usize = 16;
/// Payloads of one pool take at most this; a larger pool asked for has fewer of them.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Batches kept for reuse take at most this for one producer thread.
const KEPT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a record's value looks like.
#[derive(Copy, Clone, Debug)]
pub struct PayloadShape {
    /// Bytes of a value; at least [`STAMP_BYTES`].
    pub record_bytes: usize,
    /// Share of random bytes, 0.0 to 1.0; the rest is zero.
    pub random_ratio: f64,
    /// How many different values there are.
    pub pool: u32,
    /// How many different keys there are; 0: records have none.
    pub keys: u64,
    /// Seed of the random bytes.
    pub seed: u64,
}

/// A stamped batch on its way, to be given back when it was answered.
pub struct Stamped {
    /// The batch.
    pub bytes: Bytes,
    positions: Rc<[usize]>,
}

struct Idle {
    bytes: BytesMut,
    /// Where each value begins.
    positions: Rc<[usize]>,
}

/// The batches of one generator thread.
pub struct BatchPool {
    payloads: Vec<Vec<u8>>,
    next_payload: usize,
    keys: u64,
    /// Draws keys.
    rng: fastrand::Rng,
    idle: AHashMap<u32, Vec<Idle>>,
    idle_bytes: usize,
}

impl BatchPool {
    /// A pool without batches.
    ///
    /// # Panics
    /// If a value would be too short for its stamp.
    pub fn new(shape: PayloadShape) -> Self {
        assert!(shape.record_bytes >= STAMP_BYTES, "a record holds at least its stamp");
        let mut rng = fastrand::Rng::with_seed(shape.seed);
        let count = (shape.pool.max(1) as usize).min((PAYLOAD_BYTES_MAX / shape.record_bytes).max(1));
        let random_bytes = (shape.record_bytes as f64 * shape.random_ratio.clamp(0.0, 1.0)) as usize;
        let payloads = (0..count)
            .map(|_| {
                let mut payload = vec![0; shape.record_bytes];
                rng.fill(&mut payload[..random_bytes]);
                payload
            })
            .collect();
        Self { payloads, next_payload: 0, keys: shape.keys, rng, idle: AHashMap::new(), idle_bytes: 0 }
    }

    /// A batch of `count` records, due at `intended` one after the other.
    pub fn stamp(
        &mut self,
        count: u32,
        run: u32,
        producer: u32,
        intended: impl Fn(u32) -> Nanos,
    ) -> Result<Stamped, BatchError> {
        let idle = self.idle.get_mut(&count).and_then(Vec::pop);
        let mut batch = match idle {
            Some(batch) => {
                self.idle_bytes -= batch.bytes.len();
                batch
            }
            None => self.build(count)?,
        };
        for (index, position) in (0..count).zip(batch.positions.iter()) {
            let stamp = Stamp { intended: intended(index), run, producer };
            stamp.write(&mut batch.bytes[*position..*position + STAMP_BYTES]);
            if self.keys > 0 {
                let key = format!("{:0KEY_BYTES$x}", self.rng.u64(..self.keys));
                let start = *position - self.key_distance();
                batch.bytes[start..start + KEY_BYTES].copy_from_slice(key.as_bytes());
            }
        }
        let time = Timestamp::new(intended(0).unix_millis());
        reseal(&mut batch.bytes, time)?;
        Ok(Stamped { bytes: batch.bytes.freeze(), positions: batch.positions })
    }

    /// Takes a batch back that was answered. One whose bytes somebody still holds is let go.
    pub fn give_back(&mut self, stamped: Stamped) {
        let count = stamped.positions.len() as u32;
        if self.idle_bytes + stamped.bytes.len() > KEPT_BYTES_MAX {
            return;
        }
        if let Ok(bytes) = stamped.bytes.try_into_mut() {
            self.idle_bytes += bytes.len();
            self.idle.entry(count).or_default().push(Idle { bytes, positions: stamped.positions });
        }
    }

    /// From where a key begins to where its value does: the key, and the length of the value as a varint.
    fn key_distance(&self) -> usize {
        let zigzag = 2 * self.payloads[0].len();
        KEY_BYTES + (usize::BITS - zigzag.leading_zeros()).div_ceil(7) as usize
    }

    fn build(&mut self, count: u32) -> Result<Idle, BatchError> {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..count {
            let payload = &self.payloads[self.next_payload];
            let key = (self.keys > 0).then_some(&[b'0'; KEY_BYTES][..]);
            builder.push(Timestamp::new(0), key, Some(payload), &[])?;
            self.next_payload = (self.next_payload + 1) % self.payloads.len();
        }
        let bytes = builder.build()?;
        let positions: Rc<[usize]> = values(&bytes).map(|value| value.start).collect();
        debug_assert_eq!(positions.len(), count as usize);
        Ok(Idle { bytes, positions })
    }
}

/// Gives a batch new timestamps and the CRC that goes with its content.
fn reseal(bytes: &mut [u8], time: Timestamp) -> Result<(), BatchError> {
    let mut header = BatchHeader::parse(bytes)?;
    header.base_timestamp = time;
    header.max_timestamp = time;
    bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
    header.crc = crc32c(&bytes[CRC_COVERED..]);
    bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
    Ok(())
}

/// Most records of `record_bytes`, with a key or without, that stay within `batch_bytes`; at least 1.
pub fn records_that_fit(record_bytes: usize, batch_bytes: usize, has_keys: bool) -> u32 {
    // Length, attributes, time delta, offset delta, length of the key, value length, no headers: at most this much.
    const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 1 + 5 + 1 + 5 + 1;
    let key_bytes = if has_keys { KEY_BYTES } else { 0 };
    let room = batch_bytes.saturating_sub(BATCH_HEADER_BYTES);
    u32::try_from(room / (record_bytes + key_bytes + RECORD_OVERHEAD_BYTES)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_proto::batch::{records, verify};

    const SHAPE: PayloadShape =
        PayloadShape { record_bytes: 100, random_ratio: 0.5, pool: 7, keys: 0, seed: 1 };

    fn due(index: u32) -> Nanos {
        Nanos::new(1_700_000_000_123_456_789 + u64::from(index))
    }

    #[test]
    fn batches_are_real_and_bear_their_stamps() {
        let mut pool = BatchPool::new(SHAPE);
        for count in [1, 2, 70, 300] {
            let stamped = pool.stamp(count, 9, 3, due).unwrap();
            let header = verify(&stamped.bytes).unwrap();
            assert_eq!(header.record_count, count);
            assert_eq!(header.max_timestamp.get(), 1_700_000_000_123);
            let all: Vec<_> = records(&stamped.bytes, usize::MAX).unwrap().map(Result::unwrap).collect();
            assert_eq!(all.len(), count as usize);
            for (index, record) in (0u32..).zip(all) {
                let value = record.value.unwrap();
                assert_eq!(value.len(), 100);
                assert_eq!(Stamp::read(&value), Some(Stamp { intended: due(index), run: 9, producer: 3 }));
                assert_eq!(record.timestamp.get(), 1_700_000_000_123);
            }
        }
    }

    #[test]
    fn keys_are_drawn_anew_for_each_batch() {
        for record_bytes in [16, 63, 64, 8191, 8192] {
            let mut pool = BatchPool::new(PayloadShape { record_bytes, keys: 5, ..SHAPE });
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..20 {
                let stamped = pool.stamp(3, 9, 3, due).unwrap();
                verify(&stamped.bytes).unwrap();
                for record in records(&stamped.bytes, usize::MAX).unwrap().map(Result::unwrap) {
                    assert!(Stamp::read(&record.value.unwrap()).is_some(), "the key is not in the value");
                    seen.insert(record.key.unwrap());
                }
                pool.give_back(stamped);
            }
            let wanted = (0..5u64).map(|key| bytes::Bytes::from(format!("{key:016x}")));
            assert_eq!(seen, wanted.collect());
        }
    }

    #[test]
    fn a_batch_given_back_is_used_again_in_place() {
        let mut pool = BatchPool::new(SHAPE);
        let first = pool.stamp(5, 9, 3, due).unwrap();
        let place = first.bytes.as_ptr();
        pool.give_back(first);
        let second = pool.stamp(5, 9, 3, |i| due(i + 1000)).unwrap();
        assert_eq!(second.bytes.as_ptr(), place);
        verify(&second.bytes).unwrap();

        let held = second.bytes.clone();
        pool.give_back(second);
        let third = pool.stamp(5, 9, 3, due).unwrap();
        assert_ne!(third.bytes.as_ptr(), held.as_ptr(), "what somebody holds is not overwritten");
    }

    #[test]
    fn the_number_that_fits_fits() {
        for (record_bytes, batch_bytes) in [(1024, 1 << 20), (100, 131_072), (16, 200), (5000, 100)] {
            let count = records_that_fit(record_bytes, batch_bytes, false);
            let mut pool = BatchPool::new(PayloadShape { record_bytes, ..SHAPE });
            let bytes = pool.stamp(count, 0, 0, due).unwrap().bytes.len();
            assert!(count == 1 || bytes <= batch_bytes, "{count} records take {bytes} of {batch_bytes}");
            assert!(count == 1 || bytes + record_bytes + 40 > batch_bytes * 9 / 10);
        }
    }
}
