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

use super::unstable::OPEN_MAX;

/// How many batches back a retry is recognised: a Kafka client has at most five requests in flight.
pub const BATCHES_REMEMBERED: usize = 5;

/// How many producers a partition remembers; beyond it the one that was silent longest is forgotten.
pub const PRODUCERS_MAX: usize = 5_000;

/// How much of a checkpoint the table may take, in bytes: with the epochs it must fit into one WAL entry (64 KiB). Stored
/// are all producers with an open transaction, then the most recently active ones, and with all their batches while there
/// is room for that: a retry that comes after a restart is almost always one of the last batch of an active producer.
pub const STORED_BYTES_MAX: usize = 62 << 10;

/// Bytes of a producer in a checkpoint besides its batches.
const STORED_PRODUCER_BYTES: usize = 8 + 2 + 8 + 1;

/// Bytes of a batch in a checkpoint.
const STORED_BATCH_BYTES: usize = 24;

const _: () = assert!(OPEN_MAX * (STORED_PRODUCER_BYTES + STORED_BATCH_BYTES) + 4 <= STORED_BYTES_MAX);

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
    /// A producer in a transaction sent a batch outside of it.
    #[error("producer {0} has a transaction open in this partition and sent a batch that is not part of it")]
    NotTransactional(ProducerId),
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
    /// Where its open transaction begins.
    open: Option<Offset>,
    used: u64,
}

/// What is known of one producer, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerFacts {
    /// Who.
    pub producer: ProducerId,
    /// Its last epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record, [`Sequence::NONE`] for none in this epoch.
    pub last_sequence: Sequence,
    /// Where its open transaction begins.
    pub open: Option<Offset>,
}

/// The table of one partition.
#[derive(Clone, Debug, Default)]
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
        if known.open.is_some() && !batch.is_transactional() {
            return Err(SequenceError::NotTransactional(batch.producer_id));
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

    /// The producer's open transaction: its epoch, and where it begins.
    pub fn open(&self, producer: ProducerId) -> Option<(ProducerEpoch, Offset)> {
        let known = self.table.get(&producer)?;
        known.open.map(|first| (known.epoch, first))
    }

    /// The producer's last epoch.
    pub fn epoch(&self, producer: ProducerId) -> Option<ProducerEpoch> {
        self.table.get(&producer).map(|known| known.epoch)
    }

    /// Remembers a batch that was appended at `base_offset`; gives that offset back if a transaction begins with it.
    pub fn record(&mut self, batch: &BatchHeader, base_offset: Offset) -> Option<Offset> {
        if batch.producer_id == ProducerId::NONE {
            return None;
        }
        let remembered = Remembered {
            first: batch.base_sequence,
            last: batch.last_sequence(),
            base_offset,
            last_offset: base_offset.plus(i64::from(batch.last_offset_delta)),
        };
        let producer = self.entry(batch.producer_id, batch.producer_epoch);
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(remembered);
        let begins = batch.is_transactional() && producer.open.is_none();
        if begins {
            producer.open = Some(base_offset);
        }
        if self.table.len() > PRODUCERS_MAX {
            self.forget_oldest();
        }
        begins.then_some(base_offset)
    }

    /// Notes the end of a producer's transaction by a marker with `epoch`; gives back where it began, if it was open.
    pub fn end(&mut self, producer: ProducerId, epoch: ProducerEpoch) -> Option<Offset> {
        let first = self.entry(producer, epoch).open.take();
        if self.table.len() > PRODUCERS_MAX {
            self.forget_oldest();
        }
        first
    }

    /// The producer's entry in its newest epoch.
    fn entry(&mut self, id: ProducerId, epoch: ProducerEpoch) -> &mut Producer {
        self.clock += 1;
        let used = self.clock;
        let fresh = || Producer { epoch, batches: VecDeque::new(), open: None, used };
        let producer = self.table.entry(id).or_insert_with(fresh);
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer.used = used;
        producer
    }

    /// All producers, in the order of their ids.
    pub fn facts(&self) -> Vec<ProducerFacts> {
        let mut facts: Vec<ProducerFacts> = self
            .table
            .iter()
            .map(|(id, known)| ProducerFacts {
                producer: *id,
                epoch: known.epoch,
                last_sequence: known.batches.back().map_or(Sequence::NONE, |batch| batch.last),
                open: known.open,
            })
            .collect();
        facts.sort_unstable_by_key(|facts| facts.producer);
        facts
    }

    /// Where each open transaction begins.
    pub fn open_transactions(&self) -> impl Iterator<Item = Offset> {
        self.table.values().filter_map(|producer| producer.open)
    }

    fn forget_oldest(&mut self) {
        let idle = self.table.iter().filter(|(_, producer)| producer.open.is_none());
        let oldest = idle.min_by_key(|(_, producer)| producer.used).map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.table.remove(&id);
        }
    }

    /// Forgets batches at and after `end`: they were not recovered, so a retry of them is new.
    pub fn truncate(&mut self, end: Offset) {
        self.table.retain(|_, producer| {
            let had_batches = !producer.batches.is_empty();
            producer.batches.retain(|batch| batch.last_offset < end);
            producer.open = producer.open.filter(|first| *first < end);
            !had_batches || !producer.batches.is_empty()
        });
    }

    /// Writes producers for a checkpoint, as many as fit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut ranked: Vec<(&ProducerId, &Producer)> = self.table.iter().collect();
        ranked.sort_unstable_by_key(|(_, producer)| {
            std::cmp::Reverse((producer.open.is_some(), producer.used))
        });
        let least =
            |producer: &Producer| STORED_PRODUCER_BYTES + producer.batches.len().min(1) * STORED_BATCH_BYTES;
        let mut left_bytes = STORED_BYTES_MAX - 4;
        let kept = ranked.iter().take_while(|(_, producer)| match left_bytes.checked_sub(least(producer)) {
            Some(left) => {
                left_bytes = left;
                true
            }
            None => false,
        });
        let kept = kept.count();
        ranked.truncate(kept);
        out.extend_from_slice(&(kept as u32).to_le_bytes());
        for (id, producer) in ranked {
            let more = producer.batches.len().saturating_sub(1).min(left_bytes / STORED_BATCH_BYTES);
            left_bytes -= more * STORED_BATCH_BYTES;
            let stored = producer.batches.len().min(more + 1);
            producer.encode(*id, stored, out);
        }
    }

    /// Reads what [`Producers::encode`] wrote; `None` when the bytes are not that.
    pub fn decode(reader: &mut super::codec::Reader<'_>) -> Option<Producers> {
        let mut producers = Producers::default();
        let count = reader.u32()?;
        for rank in 0..count {
            let (id, mut producer) = Producer::decode(reader)?;
            producer.used = u64::from(count - rank);
            producers.table.insert(id, producer);
        }
        producers.clock = u64::from(count);
        Some(producers)
    }
}

impl Producer {
    fn next(&self) -> Sequence {
        self.batches.back().map_or(Sequence::new(0), |batch| batch.last.plus(1))
    }

    /// Writes the entry with its newest `stored` batches.
    fn encode(&self, id: ProducerId, stored: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&id.get().to_le_bytes());
        out.extend_from_slice(&self.epoch.get().to_le_bytes());
        out.extend_from_slice(&self.open.map_or(-1, Offset::get).to_le_bytes());
        out.push(stored as u8);
        for batch in self.batches.iter().skip(self.batches.len() - stored) {
            out.extend_from_slice(&batch.first.get().to_le_bytes());
            out.extend_from_slice(&batch.last.get().to_le_bytes());
            out.extend_from_slice(&batch.base_offset.get().to_le_bytes());
            out.extend_from_slice(&batch.last_offset.get().to_le_bytes());
        }
    }

    fn decode(reader: &mut super::codec::Reader<'_>) -> Option<(ProducerId, Producer)> {
        let id = ProducerId::new(reader.i64()?);
        let epoch = ProducerEpoch::new(reader.i16()?);
        let open = Some(Offset::new(reader.i64()?)).filter(|first| *first >= Offset::ZERO);
        let count = usize::from(reader.u8()?);
        if count > BATCHES_REMEMBERED {
            return None;
        }
        let mut batches = VecDeque::with_capacity(count);
        for _ in 0..count {
            batches.push_back(Remembered {
                first: Sequence::new(reader.i32()?),
                last: Sequence::new(reader.i32()?),
                base_offset: Offset::new(reader.i64()?),
                last_offset: Offset::new(reader.i64()?),
            });
        }
        Some((id, Producer { epoch, batches, open, used: 0 }))
    }
}

#[cfg(test)]
mod tests;
