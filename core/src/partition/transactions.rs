//! Transactions in one partition: who may write in one, how a marker ends it, and what is stable.
//!
//! The coordinator decides (see `coordinator::transaction`); a partition only knows which transactions have written here
//! and which of them were ended. All of it is rebuilt after a crash from the checkpoint and the batch headers after it.

use heddle_log_store::Disk;
use heddle_proto::{
    batch::{BatchError, BatchHeader, Marker, Outcome},
    error::ErrorCode,
    ids::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp},
};

use super::{
    Partition,
    guards::Guard,
    produce::{Accepted, Acks, ProduceError},
    producers::{ProducerFacts, SequenceError},
};

/// What readers may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Everything committed, also of transactions that are open or were aborted.
    #[default]
    ReadUncommitted,
    /// Up to the first transaction that is not ended, and with it what was aborted.
    ReadCommitted,
}

impl Isolation {
    /// Kafka's number for it: anything but 1 reads uncommitted.
    pub fn from_code(code: i8) -> Isolation {
        match code {
            1 => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        }
    }
}

/// What lets a batch begin a transaction in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Taken before the coordinator was asked.
    pub guard: Guard,
    /// Every transaction has an epoch of its own (the second version of the protocol): then its first sequence is 0.
    pub has_own_epoch: bool,
}

/// Whether a producer may write in a transaction at once, or its coordinator must be asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its transaction is open here.
    Open,
    /// It has none here: ask, and append with this guard.
    Ask(Guard),
}

/// The end of a transaction, as its coordinator decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransaction {
    /// Whose.
    pub producer: ProducerId,
    /// From now on the producer's lowest epoch here.
    pub epoch: ProducerEpoch,
    /// How it ended.
    pub outcome: Outcome,
    /// Generation of the coordinator.
    pub coordinator_epoch: i32,
}

/// Why a transaction could not be ended here.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// A newer instance of the producer has been here: this end is an old one.
    #[error("the marker has epoch {given} of producer {producer}, but epoch {current} has been seen")]
    Fenced {
        /// Who.
        producer: ProducerId,
        /// The marker's epoch.
        given: ProducerEpoch,
        /// Which is known.
        current: ProducerEpoch,
    },
    /// The marker could not be written.
    #[error("the marker could not be written: {0}")]
    Write(#[from] ProduceError),
    /// The marker could not be built.
    #[error("the marker could not be built: {0}")]
    Build(#[from] BatchError),
    /// The partition went away.
    #[error("the partition was deleted")]
    Deleted,
}

impl EndError {
    /// The error on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            EndError::Fenced { .. } => ErrorCode::InvalidProducerEpoch,
            EndError::Write(error) => error.code(),
            EndError::Build(_) => ErrorCode::UnknownServerError,
            EndError::Deleted => ErrorCode::UnknownTopicOrPartition,
        }
    }
}

impl<D: Disk> Partition<D> {
    /// The offset below which every transaction is ended: Kafka's last stable offset.
    pub fn stable(&self) -> Offset {
        self.stable.get().max(self.start())
    }

    /// The end of what a reader may see.
    pub fn readable(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.committed(),
            Isolation::ReadCommitted => self.stable(),
        }
    }

    /// Whether a producer is in the middle of a transaction here.
    pub fn standing(&self, producer: ProducerId, epoch: ProducerEpoch) -> Standing {
        match self.producers.borrow().open(producer) {
            Some((open_epoch, _)) if open_epoch == epoch => Standing::Open,
            _ => Standing::Ask(self.guards.borrow_mut().take(producer)),
        }
    }

    /// Checks that a new transactional batch belongs to a transaction.
    pub(super) fn check_transaction(
        &self,
        batch: &BatchHeader,
        permit: Option<Permit>,
    ) -> Result<(), ProduceError> {
        let producer = batch.producer_id;
        let (open, known) = {
            let producers = self.producers.borrow();
            (producers.open(producer), producers.epoch(producer))
        };
        let outside = ProduceError::NotInTransaction(producer);
        match open {
            Some((epoch, _)) if epoch == batch.producer_epoch => return Ok(()),
            Some(_) => return Err(outside),
            None => {}
        }
        let permit = permit.filter(|permit| self.guards.borrow().holds(producer, permit.guard));
        let permit = permit.ok_or(outside)?;
        if !self.unstable.borrow().has_room() {
            return Err(ProduceError::TooManyTransactions);
        }
        if permit.has_own_epoch && known.is_none() && batch.base_sequence != Sequence::new(0) {
            let (given, expected) = (batch.base_sequence, Sequence::new(0));
            return Err(SequenceError::OutOfOrder { producer, given, expected }.into());
        }
        Ok(())
    }

    /// A transaction wrote its first record here.
    pub(super) fn begin_transaction(&self, producer: ProducerId, first: Offset) {
        self.unstable.borrow_mut().open(first);
        self.guards.borrow_mut().forget(producer);
    }

    /// Writes the marker that ends a producer's transaction here. What has been written by an earlier call is not written
    /// again, but waited for.
    ///
    /// # Errors
    /// See [`EndError`]; nothing was written.
    pub fn end_transaction(&self, end: EndTransaction, now: Timestamp) -> Result<Accepted, EndError> {
        if self.is_deleted() {
            return Err(EndError::Deleted);
        }
        if !self.leads() {
            return Err(ProduceError::NotLeader.into());
        }
        let EndTransaction { producer, epoch, .. } = end;
        let known = self.producers.borrow().epoch(producer);
        if let Some(current) = known.filter(|known| epoch < *known) {
            return Err(EndError::Fenced { producer, given: epoch, current });
        }
        let first = self.producers.borrow().open(producer).map(|(_, first)| first);
        self.guards.borrow_mut().forget(producer);
        let offset = self.log.positions().written;
        if first.is_none() && known == Some(epoch) {
            return Ok(self.accepted(offset, offset, Timestamp::NONE, Acks::Quorum));
        }
        let open = self.unstable.borrow().first_open_except(first);
        let stable = Some(open.unwrap_or(offset.next()));
        let marker = Marker { outcome: end.outcome, coordinator_epoch: end.coordinator_epoch, first, stable };
        let header = self.write(marker.build(producer, epoch, now)?)?;
        self.note_end(&header, end.outcome);
        self.advance(None);
        Ok(self.accepted(offset, offset.next(), Timestamp::NONE, Acks::Quorum))
    }

    pub(super) fn note_end(&self, marker: &BatchHeader, outcome: Outcome) {
        let first = self.producers.borrow_mut().end(marker.producer_id, marker.producer_epoch);
        if let Some(first) = first {
            self.unstable.borrow_mut().decide(first, marker.base_offset);
        }
        if outcome == Outcome::Abort {
            self.last_abort.set(marker.base_offset);
        }
    }

    /// The producers this partition knows.
    pub fn producer_facts(&self) -> Vec<ProducerFacts> {
        self.producers.borrow().facts()
    }
}
