//! The newest batches of one log in memory: those not drained yet, and drained ones kept for consumers near the end.

use std::collections::VecDeque;

use bytes::Bytes;
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::{Epoch, Offset, Timestamp};

/// One batch with what is needed of its header.
#[derive(Clone, Debug)]
pub(crate) struct TailBatch {
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    pub(crate) epoch: Epoch,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) crc: u32,
    pub(crate) bytes: Bytes,
}

impl TailBatch {
    pub(crate) fn new(bytes: Bytes, header: &BatchHeader) -> Self {
        Self {
            base: header.base_offset,
            next: header.next_offset(),
            epoch: header.epoch,
            max_timestamp: header.max_timestamp,
            crc: header.crc,
            bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// In offset order. Without a gap, except where recovery found one.
#[derive(Default)]
pub(crate) struct Tail {
    batches: VecDeque<TailBatch>,
}

impl Tail {
    pub(crate) fn push(&mut self, batch: TailBatch) {
        self.batches.push_back(batch);
    }

    /// The batches at or after `offset`; the first may begin before it.
    pub(crate) fn from(&self, offset: Offset) -> impl Iterator<Item = &TailBatch> {
        let skip = self.batches.partition_point(|batch| batch.next <= offset);
        self.batches.range(skip..)
    }

    /// Removes batches that end at or before `offset` from the front and returns how many bytes they held.
    pub(crate) fn evict(&mut self, offset: Offset) -> usize {
        let mut bytes = 0;
        while let Some(batch) = self.batches.front().filter(|batch| batch.next <= offset) {
            bytes += batch.len();
            self.batches.pop_front();
        }
        if self.batches.is_empty() {
            self.batches = VecDeque::new(); // an idle log keeps no buffer
        }
        bytes
    }

    /// Removes the batches from `to` on and returns the bytes of those that were not drained, and of those that were.
    pub(crate) fn cut(&mut self, to: Offset, drained: Offset) -> (usize, usize) {
        let (mut dirty, mut clean) = (0, 0);
        while let Some(batch) = self.batches.pop_back_if(|batch| batch.base >= to) {
            let bytes = if batch.base >= drained { &mut dirty } else { &mut clean };
            *bytes += batch.len();
        }
        assert!(self.batches.back().is_none_or(|last| last.next <= to), "a cut is made between batches");
        (dirty, clean)
    }

    /// Whole batches from the one that holds `from`, all below `upto`; at least one, then up to `bytes_max`. `None` if
    /// `from` is not in memory.
    pub(crate) fn read(&self, from: Offset, upto: Offset, bytes_max: usize) -> Option<Vec<Bytes>> {
        let mut found = Vec::new();
        let (mut expected, mut bytes) = (None, 0);
        for batch in self.from(from) {
            let follows = expected.map_or(batch.base <= from, |expected| batch.base == expected);
            if !follows || batch.next > upto || (bytes > 0 && bytes + batch.len() > bytes_max) {
                break;
            }
            bytes += batch.len();
            expected = Some(batch.next);
            found.push(batch.bytes.clone());
        }
        let in_memory = self.from(from).next().is_some_and(|batch| batch.base <= from);
        in_memory.then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(count: i64) -> Tail {
        let mut tail = Tail::default();
        for index in 0..count {
            tail.push(TailBatch {
                crc: 0,
                base: Offset::new(10 + 2 * index),
                next: Offset::new(12 + 2 * index),
                epoch: Epoch::new(0),
                max_timestamp: Timestamp::NONE,
                bytes: Bytes::from(vec![index as u8; 100]),
            });
        }
        tail
    }

    fn read(tail: &Tail, from: i64, upto: i64, bytes_max: usize) -> Option<usize> {
        tail.read(Offset::new(from), Offset::new(upto), bytes_max).map(|batches| batches.len())
    }

    #[test]
    fn reads_whole_batches_within_both_bounds() {
        let tail = tail(5);
        assert_eq!(read(&tail, 10, 20, usize::MAX), Some(5));
        assert_eq!(read(&tail, 11, 20, 250), Some(2));
        assert_eq!(read(&tail, 11, 20, 1), Some(1));
        assert_eq!(read(&tail, 10, 13, usize::MAX), Some(1));
        assert_eq!(read(&tail, 12, 13, usize::MAX), Some(0));
        assert_eq!(read(&tail, 9, 20, usize::MAX), None);
        assert_eq!(read(&tail, 20, 20, usize::MAX), None);
    }

    #[test]
    fn eviction_takes_only_whole_batches() {
        let mut tail = tail(5);
        assert_eq!(tail.evict(Offset::new(13)), 100);
        assert_eq!(tail.from(Offset::ZERO).next().unwrap().base, Offset::new(12));
        assert_eq!(tail.evict(Offset::new(100)), 400);
        assert!(tail.from(Offset::ZERO).next().is_none());
    }
}
