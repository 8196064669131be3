//! A partition with several replicas: its log is shared with the state machine of its replica, which says what is committed.
//!
//! On the primary, records are appended through the replica; on a backup the replica appends what the primary sent, and the
//! partition follows, so that it knows its producers and epochs when it is elected. What is appended may be cut again as
//! long as it is not committed: then the partition goes back to what it knew at the end of what stays.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    time::Instant,
};

use bytes::BytesMut;
use heddle_log_store::{Disk, LogId};
use heddle_proto::{
    batch::{BatchHeader, Outcome},
    ids::{Epoch, NodeId, Offset},
};
use heddle_replication::io::Refusal;
use heddle_replication_driver::ProduceError as ReplicaError;
use heddle_replication_transport::Runner;

use super::{Known, Partition, produce::ProduceError, unstable::Unstable};
use crate::admin::stages::Release;

/// What a partition with several replicas has besides.
pub struct Replicated<D: Disk + 'static> {
    pub(super) runner: Runner<D>,
    /// Whether clients may use it here.
    pub(super) leads: Cell<bool>,
    /// Whether they may write.
    admits: Cell<bool>,
    /// What was known at the end of what is settled, and the batches behind it.
    settled: RefCell<Settled>,
    /// While a batch goes through the replica, what that commits waits until the batch is known here.
    is_appending: Cell<bool>,
    /// Where the log ended when this replica began to lead: as far as that, what is committed is not known at first.
    led_from: Cell<Offset>,
    committed_due: Cell<Option<Offset>>,
}

struct Settled {
    known: Known,
    tail: VecDeque<BatchHeader>,
}

impl<D: Disk + 'static> Replicated<D> {
    pub(super) fn new(runner: Runner<D>, known: Known) -> Self {
        Replicated {
            runner,
            leads: Cell::new(false),
            admits: Cell::new(true),
            settled: RefCell::new(Settled { known, tail: VecDeque::new() }),
            is_appending: Cell::new(false),
            led_from: Cell::new(Offset::ZERO),
            committed_due: Cell::new(None),
        }
    }

    /// A batch is behind the others.
    fn note(&self, header: &BatchHeader) {
        self.settled.borrow_mut().tail.push_back(*header);
    }

    /// What lies before `committed` is never cut.
    fn settle(&self, committed: Offset) {
        let settled = &mut *self.settled.borrow_mut();
        while let Some(header) = settled.tail.front().filter(|header| header.next_offset() <= committed) {
            settled.known.note(header);
            settled.tail.pop_front();
        }
    }

    /// What is known at the end of a log that was cut.
    fn cut(&self, end: Offset) -> Known {
        let settled = &mut *self.settled.borrow_mut();
        while settled.tail.back().is_some_and(|header| header.base_offset >= end) {
            settled.tail.pop_back();
        }
        settled.known.truncate(end);
        let mut known = settled.known.clone();
        for header in &settled.tail {
            known.note(header);
        }
        known
    }
}

impl Known {
    /// A batch was appended. The outcome of a marker is not known from its header: it counts as one that may have aborted.
    pub(super) fn note(&mut self, header: &BatchHeader) -> Option<Offset> {
        self.epochs.note(header.epoch, header.base_offset);
        if header.is_control() {
            self.last_abort = header.base_offset;
            self.producers.end(header.producer_id, header.producer_epoch)
        } else {
            self.producers.record(header, header.base_offset)
        }
    }

    pub(super) fn truncate(&mut self, end: Offset) {
        self.epochs.truncate(end);
        self.producers.truncate(end);
    }
}

impl<D: Disk> Partition<D> {
    /// From now on it has a replica, because it is to have several or move: the log stays, and so does what waits for it to be
    /// committed. Nobody leads it until the metadata says who.
    pub fn replicate(&self, runner: Runner<D>) {
        if self.is_replicated() {
            return;
        }
        let known = Known {
            epochs: self.epochs.borrow().clone(),
            producers: self.producers.borrow().clone(),
            last_abort: self.last_abort.get(),
        };
        let _ = self.replicated.set(Replicated::new(runner, known));
    }

    /// Whether it has several replicas, or had.
    pub fn is_replicated(&self) -> bool {
        self.replicated.get().is_some()
    }

    /// Whether clients write and read here.
    pub fn leads(&self) -> bool {
        self.replicated.get().is_none_or(|replicated| replicated.leads.get())
    }

    /// Whether this is the primary's replica, and the one on `node` has acknowledged everything before `offset`.
    pub(super) fn replica_holds(&self, node: NodeId, offset: Offset) -> bool {
        let Some(replicated) = self.replicated.get() else { return false };
        let held = replicated.runner.look(|driver| driver.replica(self.at)?.primary()?.held(node));
        held.is_some_and(|held| held >= offset)
    }

    /// From now on clients may use this replica, or may not: then nobody waits here any more.
    pub fn lead(&self, leads: bool) {
        let Some(replicated) = self.replicated.get() else { return };
        let led = replicated.leads.replace(leads);
        if leads && !led {
            replicated.led_from.set(self.log.positions().written);
        }
        if led && !leads {
            self.pending_primary.take();
            self.pending_quorum.take();
            self.flags.raise();
        }
    }

    /// Whether this replica knows all that was committed before it led (KIP-207).
    pub fn knows_committed(&self) -> bool {
        self.replicated.get().is_none_or(|replicated| self.committed() >= replicated.led_from.get())
    }

    /// From now on records are taken, or not: then nobody waits for them to be committed any more.
    pub fn admit(&self, admits: bool) {
        let Some(replicated) = self.replicated.get() else { return };
        if replicated.admits.replace(admits) && !admits {
            self.pending_primary.take();
            self.pending_quorum.take();
        }
    }

    /// Appends a batch through the replica; its header, as it was written, is noted there.
    pub(super) fn append_replicated(
        &self,
        replicated: &Replicated<D>,
        bytes: BytesMut,
    ) -> Result<BatchHeader, ProduceError> {
        if !replicated.admits.get() {
            return Err(ProduceError::OutOfTouch);
        }
        replicated.is_appending.set(true);
        let appended = replicated.runner.with(|driver, now| driver.produce(now, self.at, bytes));
        replicated.is_appending.set(false);
        let header = appended.map_err(|error| match error {
            ReplicaError::Refused(Refusal::NotEnoughReplicas { in_sync_count, quorum }) => {
                let now = replicated.runner.now();
                let out_of_sync = replicated.runner.look(|driver| driver.out_of_sync(now, self.at));
                ProduceError::NotEnoughReplicas { in_sync_count, quorum, out_of_sync }
            }
            ReplicaError::Batch(error) => ProduceError::Corrupt(error),
            ReplicaError::Append(error) => ProduceError::Log(error),
            ReplicaError::Unknown | ReplicaError::Refused(Refusal::NotPrimary) | ReplicaError::Cutting => {
                ProduceError::NotLeader
            }
        })?;
        replicated.note(&header);
        Ok(header)
    }

    /// Who waits for records to be committed is told when too few replicas are in sync for that: what comes next is
    /// refused for the same reason.
    pub fn release_starved(&self) {
        let Some(replicated) = self.replicated.get() else { return };
        if !replicated.leads.get() || self.pending_quorum.borrow().is_empty() {
            return;
        }
        let now = replicated.runner.now();
        let admits = replicated.runner.look(|driver| driver.admits(now, self.at));
        if matches!(admits, Err(ReplicaError::Refused(Refusal::NotEnoughReplicas { .. }))) {
            self.pending_quorum.take();
        }
    }

    /// The log store says that more of the log is durable.
    pub fn tell_durable(&self, log: LogId) {
        if let Some(replicated) = self.replicated.get() {
            replicated.runner.durable(log);
        }
    }

    /// Which epochs the log is made of.
    pub fn history(&self) -> Vec<(Epoch, Offset)> {
        self.epochs.borrow().entries().to_vec()
    }

    /// Takes up what was committed while a batch was appended.
    pub(super) fn catch_up_committed(&self) {
        let due = self.replicated.get().and_then(|replicated| replicated.committed_due.take());
        if let Some(committed) = due {
            self.commit_to(committed);
        }
    }

    /// The replica says that everything before `committed` is committed.
    pub fn commit_to(&self, committed: Offset) {
        let Some(replicated) = self.replicated.get() else { return };
        if replicated.is_appending.get() {
            replicated.committed_due.set(Some(committed));
            return;
        }
        if committed <= self.committed.get() {
            return;
        }
        replicated.settle(committed);
        self.move_committed(committed, Release { write: None, at: Instant::now() });
    }

    /// The replica has appended what its primary sent.
    pub fn follow(&self, header: &BatchHeader) {
        let Some(replicated) = self.replicated.get() else { return };
        replicated.note(header);
        self.epochs.borrow_mut().note(header.epoch, header.base_offset);
        if header.is_control() {
            self.note_end(header, Outcome::Abort);
        } else {
            self.refused.borrow_mut().forget(header.producer_id);
            let begins = self.producers.borrow_mut().record(header, header.base_offset);
            if let Some(first) = begins {
                self.begin_transaction(header.producer_id, first);
            }
        }
    }

    /// The replica has cut its log.
    pub fn follow_cut(&self, end: Offset) {
        let Some(replicated) = self.replicated.get() else { return };
        let known = replicated.cut(end);
        let mut unstable = Unstable::default();
        known.producers.open_transactions().for_each(|first| unstable.open(first));
        *self.unstable.borrow_mut() = unstable;
        *self.epochs.borrow_mut() = known.epochs;
        *self.producers.borrow_mut() = known.producers;
        self.last_abort.set(known.last_abort);
        // Only after an election that lost what was committed does the log end before that.
        if end < self.committed.get() {
            self.committed.set(end);
            self.stable.set(self.stable.get().min(end));
        }
    }
}
