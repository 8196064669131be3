//! One partition on the core that owns it: its log, its place in the cluster, who waits for it.
//!
//! [`produce`] appends, [`fetch`] reads, [`positions`] moves committed forward and releases what waits for it,
//! [`producers`] recognises retries, [`refused`] what comes behind a refused batch, [`replicated`] works with a replica
//! where there are several, [`transactions`] says what is stable, [`epochs`] remembers leadership. What it promises after a
//! crash is what its log promises: every offset reported durable is there, byte for byte.

pub mod codec;
pub mod epochs;
pub mod fetch;
pub mod guards;
pub mod pending;
pub mod positions;
pub mod produce;
pub mod producers;
pub mod refused;
pub mod replicated;
pub mod transactions;
pub mod unstable;
pub mod validate;

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use heddle_log_store::{Disk, Log};
use heddle_proto::{
    batch::BatchHeader,
    ids::{Epoch, Offset, TopicPartition},
};
use heddle_replication_transport::Runner;

use crate::{
    metadata::TopicConfig,
    runtime::watch::{Flag, Flags},
};
use codec::Reader;
use epochs::EpochHistory;
use guards::Guards;
use pending::Pending;
use producers::Producers;
use refused::RefusedBatches;
use replicated::Replicated;
use unstable::Unstable;

/// First byte of the blob stored with a checkpoint, so that its layout can change.
const SNAPSHOT_VERSION: u8 = 2;

/// A partition of this core.
pub struct Partition<D: Disk> {
    /// Which one.
    pub at: TopicPartition,
    /// Its topic's name, for messages to people.
    pub topic: Arc<str>,
    log: Log<D>,
    epoch: Cell<Epoch>,
    config: RefCell<Arc<TopicConfig>>,
    committed: Cell<Offset>,
    /// Everything below is of transactions that are ended.
    stable: Cell<Offset>,
    producers: RefCell<Producers>,
    refused: RefCell<RefusedBatches>,
    unstable: RefCell<Unstable>,
    guards: RefCell<Guards>,
    /// No transaction was aborted by a marker after this one; -1 for none at all.
    last_abort: Cell<Offset>,
    epochs: RefCell<EpochHistory>,
    /// Acks that wait for the primary alone (`acks=1`).
    pending_primary: RefCell<Pending>,
    /// Acks that wait for the commit quorum (`acks=all`).
    pending_quorum: RefCell<Pending>,
    /// Fetches and subscriptions that wait for committed to move.
    flags: Flags,
    deleted: Cell<bool>,
    /// Its replica, where there are several, or were.
    replicated: OnceCell<Replicated<D>>,
}

impl<D: Disk> Partition<D> {
    /// Takes over a log, with what its last checkpoint and the batches after it say of producers and epochs.
    pub fn new(
        at: TopicPartition,
        topic: Arc<str>,
        log: Log<D>,
        epoch: Epoch,
        config: Arc<TopicConfig>,
        runner: Option<Runner<D>>,
    ) -> Rc<Self> {
        let (snapshot, headers) = log.recovered_state();
        let known = restore(snapshot, &headers, log.positions().written);
        let replicated = OnceCell::new();
        if let Some(runner) = runner {
            let _ = replicated.set(Replicated::new(runner, known.clone()));
        }
        let Known { epochs, producers, last_abort } = known;
        let mut unstable = Unstable::default();
        producers.open_transactions().for_each(|first| unstable.open(first));
        let partition = Rc::new(Partition {
            at,
            topic,
            log,
            epoch: Cell::new(epoch),
            config: RefCell::new(config),
            committed: Cell::new(Offset::ZERO),
            stable: Cell::new(Offset::ZERO),
            producers: RefCell::new(producers),
            refused: RefCell::default(),
            unstable: RefCell::new(unstable),
            guards: RefCell::default(),
            last_abort: Cell::new(last_abort),
            epochs: RefCell::new(epochs),
            pending_primary: RefCell::default(),
            pending_quorum: RefCell::default(),
            flags: Flags::default(),
            deleted: Cell::new(false),
            replicated,
        });
        partition.advance(None);
        partition
    }

    /// The generation in which this core leads the partition.
    pub fn epoch(&self) -> Epoch {
        self.epoch.get()
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.borrow().clone()
    }

    /// Takes over new metadata: a changed epoch or changed settings.
    pub fn update(&self, epoch: Epoch, config: &Arc<TopicConfig>) {
        self.epoch.set(epoch);
        if **self.config.borrow() != **config {
            *self.config.borrow_mut() = config.clone();
            self.log.set_config(config.log);
            self.advance(None);
        }
    }

    /// The log, for what needs no rule of the partition: sizes, damage, time index.
    pub fn log(&self) -> &Log<D> {
        &self.log
    }

    /// Where an epoch ends (Kafka's OffsetForLeaderEpoch, KIP-101): the newest epoch up to this one that has records,
    /// and the offset after them. Before the first known record the epoch itself ends where that begins. `None` for an
    /// epoch that has not begun.
    pub fn epoch_end(&self, epoch: Epoch) -> Option<(Epoch, Offset)> {
        let (current, end) = (self.epoch(), self.log.positions().written);
        if epoch >= current {
            return (epoch == current).then_some((current, end));
        }
        let epochs = self.epochs.borrow();
        Some(epochs.end_of(epoch, end).unwrap_or((epoch, epochs.first_start().unwrap_or(end))))
    }

    /// The epoch in which the record at `offset` was written and where that ends, if the history still says so. After
    /// the last record it is the current one.
    pub fn epoch_holding(&self, offset: Offset) -> Option<(Epoch, Offset)> {
        let end = self.log.positions().written;
        if offset >= end {
            return Some((self.epoch(), end));
        }
        self.epochs.borrow().holding(offset, end)
    }

    /// Puts a flag up at every move of committed from now on, until it is dropped.
    pub fn watch(&self, flag: &Rc<Flag>) {
        self.flags.add(flag);
    }

    /// Wakes everybody who waits for data, so that they look around.
    pub fn wake(&self) {
        self.flags.raise();
    }

    /// The topic was deleted: everybody who waits is woken and finds it gone.
    pub fn close(&self) {
        self.deleted.set(true);
        self.pending_primary.take();
        self.pending_quorum.take();
        self.flags.raise();
    }

    /// Whether the topic was deleted under this handle.
    pub fn is_deleted(&self) -> bool {
        self.deleted.get()
    }

    /// Exclusive end of what compaction may touch: committed, and below every transaction that is open.
    pub fn compact_upto(&self) -> Offset {
        self.committed().min(self.stable())
    }

    /// Whether this is the last batch that its producer wrote here, so that it must go on telling where it stands.
    pub fn is_last_of_producer(&self, batch: &BatchHeader) -> bool {
        self.producers.borrow().is_last(batch)
    }

    /// What the log stores with its checkpoint.
    pub fn snapshot(&self) -> Bytes {
        let mut out = vec![SNAPSHOT_VERSION];
        self.epochs.borrow().encode(&mut out);
        out.extend_from_slice(&self.last_abort.get().get().to_le_bytes());
        self.producers.borrow().encode(&mut out);
        out.into()
    }
}

/// What a partition remembers besides its records.
#[derive(Clone)]
struct Known {
    epochs: EpochHistory,
    producers: Producers,
    last_abort: Offset,
}

impl Known {
    fn decode(bytes: &[u8]) -> Option<Known> {
        let mut reader = Reader::new(bytes);
        (reader.u8()? == SNAPSHOT_VERSION).then_some(())?;
        Some(Known {
            epochs: EpochHistory::decode(&mut reader)?,
            last_abort: Offset::new(reader.i64()?),
            producers: Producers::decode(&mut reader)?,
        })
    }

    fn nothing() -> Known {
        let last_abort = Offset::new(-1);
        Known { epochs: EpochHistory::default(), producers: Producers::default(), last_abort }
    }
}

/// The checkpoint, then the batches after it. Their headers do not say how a transaction ended, so each marker counts as
/// one that may have aborted: that only costs a look into the index.
fn restore(snapshot: Option<Bytes>, headers: &[BatchHeader], end: Offset) -> Known {
    let mut known = snapshot.as_deref().and_then(Known::decode).unwrap_or_else(Known::nothing);
    known.truncate(end);
    for header in headers {
        known.note(header);
    }
    known
}

#[cfg(test)]
mod tests;
