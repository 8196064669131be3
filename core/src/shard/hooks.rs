//! The log store's callbacks: durable progress reaches the partition it belongs to.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

use ahash::AHashMap;
use bytes::Bytes;
use heddle_log_store::{Disk, Hooks, LogId, WriteTimes};
use heddle_proto::{batch::BatchHeader, ids::Offset};

use crate::{partition::Partition, runtime::event::Waiters};

/// Finds the partition of a log.
pub struct ShardHooks<D: Disk> {
    partitions: RefCell<AHashMap<LogId, Weak<Partition<D>>>>,
    room: Rc<Waiters>,
}

impl<D: Disk> Default for ShardHooks<D> {
    fn default() -> Self {
        ShardHooks { partitions: RefCell::default(), room: Rc::default() }
    }
}

impl<D: Disk> ShardHooks<D> {
    /// From here on the log's progress goes to this partition.
    pub fn attach(&self, log: LogId, partition: &Rc<Partition<D>>) {
        self.partitions.borrow_mut().insert(log, Rc::downgrade(partition));
    }

    /// The log is gone.
    pub fn detach(&self, log: LogId) {
        self.partitions.borrow_mut().remove(&log);
    }

    /// Who waits for memory.
    pub fn room(&self) -> Rc<Waiters> {
        self.room.clone()
    }

    fn find(&self, log: LogId) -> Option<Rc<Partition<D>>> {
        self.partitions.borrow().get(&log)?.upgrade()
    }
}

impl<D: Disk> Hooks for ShardHooks<D> {
    fn durable(&self, log: LogId, _upto: Offset, times: WriteTimes) {
        if let Some(partition) = self.find(log) {
            partition.advance(Some(times));
            partition.tell_durable(log);
        }
    }

    fn snapshot(&self, log: LogId) -> Bytes {
        self.find(log).map(|partition| partition.snapshot()).unwrap_or_default()
    }

    fn compact_upto(&self, log: LogId) -> Offset {
        self.find(log).map_or(Offset::ZERO, |partition| partition.compact_upto())
    }

    fn is_last_of_producer(&self, log: LogId, batch: &BatchHeader) -> bool {
        self.find(log).is_some_and(|partition| partition.is_last_of_producer(batch))
    }

    fn budget_freed(&self) {
        self.room.fire();
    }
}
