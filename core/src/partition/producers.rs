//! Idempotent producers of one partition: which sequence each producer wrote last, so that a retry is not a second copy.
//!
//! The rules are Kafka's (KIP-98, five batches back as in KAFKA-5494). The table lives on the partition's core; it is
//! stored with the log's checkpoints by [`Producers::encode`] and completed from the batch headers after one.

use std::collections::VecDeque;

use ahash::AHashMap;
use heddle_proto::{
    batch::BatchHeader,
    ids::{Offset, ProducerEpoch, ProducerId, Sequence},
};

/// How many batches back a retry is recognised: a Kafka client has at most five requests in flight.
pub const BATCHES_REMEMBERED: usize = 5;

/// How many producers a partition remembers; beyond it the one that was silent longest is forgotten.
pub const PRODUCERS_MAX: usize = 5_000;

/// How many producers a checkpoint keeps, the most recent ones: it must fit into one WAL entry (64 KiB).
pub const PRODUCERS_STORED_MAX: usize = 400;

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: append it.
    New,
    /// It was appended before at these offsets: acknowledge it again once those are safe.
    Duplicate {
        /// Where its first record is.
        base_offset: Offset,
        /// Where its last record is.
        last_offset: Offset,
    },
}

/// Why a batch of an idempotent producer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// A newer instance of the same producer has written already.
    #[error("producer {producer} writes with epoch {given}, but epoch {current} has been seen")]
    Fenced {
        /// Who.
        producer: ProducerId,
        /// With which epoch.
        given: ProducerEpoch,
        /// Which is known.
        current: ProducerEpoch,
    },
    /// A batch before this one is missing, or this one is too old to be told from a new one.
    #[error("producer {producer} sent sequence {given}; {expected} comes next")]
    OutOfOrder {
        /// Who.
        producer: ProducerId,
        /// Which sequence was sent.
        given: Sequence,
        /// Which should come.
        expected: Sequence,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remembered {
    first: Sequence,
    last: Sequence,
    base_offset: Offset,
    last_offset: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    batches: VecDeque<Remembered>,
    used: u64,
}

/// The table of one partition.
#[derive(Debug, Default)]
pub struct Producers {
    table: AHashMap<ProducerId, Producer>,
    clock: u64,
}

impl Producers {
    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Decides about a batch without changing anything. Batches without a producer id are always new.
    ///
    /// # Errors
    /// When the batch must be refused; nothing of it may be written.
    pub fn check(&self, batch: &BatchHeader) -> Result<Verdict, SequenceError> {
        if batch.producer_id == ProducerId::NONE {
            return Ok(Verdict::New);
        }
        let Some(known) = self.table.get(&batch.producer_id) else { return Ok(Verdict::New) };
        if batch.producer_epoch < known.epoch {
            return Err(SequenceError::Fenced {
                producer: batch.producer_id,
                given: batch.producer_epoch,
                current: known.epoch,
            });
        }
        let expected = if batch.producer_epoch > known.epoch { Sequence::new(0) } else { known.next() };
        if batch.base_sequence == expected {
            return Ok(Verdict::New);
        }
        if batch.producer_epoch == known.epoch {
            let last = batch.last_sequence();
            let same = |old: &&Remembered| old.first == batch.base_sequence && old.last == last;
            if let Some(old) = known.batches.iter().find(same) {
                return Ok(Verdict::Duplicate { base_offset: old.base_offset, last_offset: old.last_offset });
            }
        }
        Err(SequenceError::OutOfOrder { producer: batch.producer_id, given: batch.base_sequence, expected })
    }

    /// Whether no batch of its producer comes after this one.
    pub fn is_last(&self, batch: &BatchHeader) -> bool {
        let last = self.table.get(&batch.producer_id).and_then(|known| known.batches.back());
        last.is_some_and(|last| last.last_offset == batch.last_offset())
    }

    /// Remembers a batch that was appended at `base_offset`.
    pub fn record(&mut self, batch: &BatchHeader, base_offset: Offset) {
        if batch.producer_id == ProducerId::NONE {
            return;
        }
        self.clock += 1;
        let remembered = Remembered {
            first: batch.base_sequence,
            last: batch.last_sequence(),
            base_offset,
            last_offset: base_offset.plus(i64::from(batch.last_offset_delta)),
        };
        let used = self.clock;
        let epoch = batch.producer_epoch;
        let producer = self.table.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch,
            batches: VecDeque::new(),
            used,
        });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer.used = used;
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(remembered);
        if self.table.len() > PRODUCERS_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.table.iter().min_by_key(|(_, producer)| producer.used).map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.table.remove(&id);
        }
    }

    /// Forgets batches at and after `end`: they were not recovered, so a retry of them is new.
    pub fn truncate(&mut self, end: Offset) {
        self.table.retain(|_, producer| {
            producer.batches.retain(|batch| batch.last_offset < end);
            !producer.batches.is_empty()
        });
    }

    /// Writes the most recently active producers for a checkpoint.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut recent: Vec<(&ProducerId, &Producer)> = self.table.iter().collect();
        recent.sort_unstable_by_key(|(_, producer)| std::cmp::Reverse(producer.used));
        recent.truncate(PRODUCERS_STORED_MAX);
        out.extend_from_slice(&(recent.len() as u32).to_le_bytes());
        for (id, producer) in recent.into_iter().rev() {
            out.extend_from_slice(&id.get().to_le_bytes());
            out.extend_from_slice(&producer.epoch.get().to_le_bytes());
            out.push(producer.batches.len() as u8);
            for batch in &producer.batches {
                out.extend_from_slice(&batch.first.get().to_le_bytes());
                out.extend_from_slice(&batch.last.get().to_le_bytes());
                out.extend_from_slice(&batch.base_offset.get().to_le_bytes());
                out.extend_from_slice(&batch.last_offset.get().to_le_bytes());
            }
        }
    }

    /// Reads what [`Producers::encode`] wrote; `None` when the bytes are not that.
    pub fn decode(reader: &mut super::codec::Reader<'_>) -> Option<Producers> {
        let mut producers = Producers::default();
        let count = reader.u32()?;
        for _ in 0..count {
            let id = ProducerId::new(reader.i64()?);
            let epoch = ProducerEpoch::new(reader.i16()?);
            let mut batches = VecDeque::with_capacity(BATCHES_REMEMBERED);
            for _ in 0..reader.u8()? {
                batches.push_back(Remembered {
                    first: Sequence::new(reader.i32()?),
                    last: Sequence::new(reader.i32()?),
                    base_offset: Offset::new(reader.i64()?),
                    last_offset: Offset::new(reader.i64()?),
                });
            }
            if batches.len() > BATCHES_REMEMBERED {
                return None;
            }
            producers.clock += 1;
            producers.table.insert(id, Producer { epoch, batches, used: producers.clock });
        }
        Some(producers)
    }
}

impl Producer {
    fn next(&self) -> Sequence {
        self.batches.back().map_or(Sequence::new(0), |batch| batch.last.plus(1))
    }
}

#[cfg(test)]
mod tests {
    use heddle_proto::batch::{BatchBuilder, Compression};

    use super::*;

    fn header(id: i64, epoch: i16, first: i32, count: usize) -> BatchHeader {
        let mut builder = BatchBuilder::new(Compression::None).producer(
            ProducerId::new(id),
            ProducerEpoch::new(epoch),
            Sequence::new(first),
        );
        for _ in 0..count {
            builder.push(heddle_proto::ids::Timestamp::new(1), None, Some(b"v"), &[]).expect("fits");
        }
        BatchHeader::parse(&builder.build().expect("builds")).expect("parses")
    }

    fn write(producers: &mut Producers, batch: &BatchHeader, at: i64) -> Result<Verdict, SequenceError> {
        let verdict = producers.check(batch)?;
        if verdict == Verdict::New {
            producers.record(batch, Offset::new(at));
        }
        Ok(verdict)
    }

    #[test]
    fn a_retry_within_five_batches_is_a_duplicate() {
        let mut producers = Producers::default();
        for turn in 0..6 {
            assert_eq!(
                write(&mut producers, &header(1, 0, turn * 2, 2), i64::from(turn) * 2),
                Ok(Verdict::New)
            );
        }
        let again = producers.check(&header(1, 0, 2, 2));
        assert_eq!(
            again,
            Ok(Verdict::Duplicate { base_offset: Offset::new(2), last_offset: Offset::new(3) })
        );
        assert!(matches!(producers.check(&header(1, 0, 0, 2)), Err(SequenceError::OutOfOrder { .. })));
    }

    #[test]
    fn gaps_and_old_epochs_are_refused() {
        let mut producers = Producers::default();
        assert_eq!(write(&mut producers, &header(1, 1, 0, 1), 0), Ok(Verdict::New));
        assert!(matches!(producers.check(&header(1, 1, 2, 1)), Err(SequenceError::OutOfOrder { .. })));
        assert!(matches!(producers.check(&header(1, 0, 1, 1)), Err(SequenceError::Fenced { .. })));
        assert!(matches!(producers.check(&header(1, 2, 1, 1)), Err(SequenceError::OutOfOrder { .. })));
        assert_eq!(write(&mut producers, &header(1, 2, 0, 1), 1), Ok(Verdict::New));
        assert_eq!(producers.check(&header(1, 2, 1, 1)), Ok(Verdict::New));
    }

    #[test]
    fn sequences_wrap() {
        let mut producers = Producers::default();
        assert_eq!(write(&mut producers, &header(1, 0, i32::MAX, 1), 0), Ok(Verdict::New));
        assert_eq!(write(&mut producers, &header(1, 0, 0, 1), 1), Ok(Verdict::New));
    }

    #[test]
    fn survives_a_checkpoint_and_a_lost_tail() {
        let mut producers = Producers::default();
        for turn in 0..4 {
            write(&mut producers, &header(7, 0, turn, 1), i64::from(turn)).expect("is new");
        }
        write(&mut producers, &header(8, 0, 0, 1), 4).expect("is new");
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        let mut restored = Producers::decode(&mut super::super::codec::Reader::new(&bytes)).expect("decodes");
        restored.truncate(Offset::new(3));
        assert_eq!(restored.len(), 1);
        assert_eq!(restored.check(&header(7, 0, 3, 1)), Ok(Verdict::New));
        assert!(matches!(restored.check(&header(7, 0, 2, 1)), Ok(Verdict::Duplicate { .. })));
        for cut in 0..bytes.len() {
            assert!(Producers::decode(&mut super::super::codec::Reader::new(&bytes[..cut])).is_none());
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let mut producers = Producers::default();
        for id in 0..PRODUCERS_MAX as i64 + 10 {
            producers.record(&header(id, 0, 0, 1), Offset::new(id));
        }
        assert_eq!(producers.len(), PRODUCERS_MAX);
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        assert!(bytes.len() < 64 << 10);
    }
}
