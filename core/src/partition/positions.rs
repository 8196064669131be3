//! How committed and stable follow the log, and what is released when they move: the only place where they are set.

use std::time::Instant;

use heddle_log_store::{Disk, WriteTimes};
use heddle_proto::ids::Offset;

use super::Partition;
use crate::{admin::stages::Release, metadata::Durability};

impl<D: Disk> Partition<D> {
    /// The offset after the last record that is safe on the commit quorum: Kafka's high watermark.
    pub fn committed(&self) -> Offset {
        self.committed.get()
    }

    /// Whether nothing waits to be safe on the commit quorum.
    pub fn is_all_committed(&self) -> bool {
        self.committed() >= self.log.positions().written
    }

    /// The first offset that is still there.
    pub fn start(&self) -> Offset {
        self.log.positions().start
    }

    /// The offset after the last record that this replica holds in the sense of the topic's durability.
    pub fn held(&self) -> Offset {
        let positions = self.log.positions();
        match self.config.borrow().durability {
            Durability::Fsync => positions.durable,
            Durability::Replicated | Durability::Async => positions.written,
        }
    }

    /// Called when the log moved, with the write that moved it if there was one: commits by the quorum rule, then releases
    /// the acks and wakes the readers.
    pub fn advance(&self, write: Option<WriteTimes>) {
        let held = self.held();
        let release = Release { write, at: Instant::now() };
        self.pending_primary.borrow_mut().release(held, release);
        if self.is_replicated() {
            return self.catch_up_committed();
        }
        // The only replica is all of the commit quorum.
        if held > self.committed.get() {
            self.move_committed(held, release);
        }
    }

    pub(super) fn move_committed(&self, committed: Offset, release: Release) {
        self.committed.set(committed);
        assert!(
            committed <= self.log.positions().written,
            "{}/{}: committed {committed} is past the end of the log",
            self.topic,
            self.at.partition
        );
        self.advance_stable(committed);
        self.pending_quorum.borrow_mut().release(committed, release);
        self.flags.raise();
    }

    /// Stable follows committed up to the first transaction that is not ended by a committed marker.
    fn advance_stable(&self, committed: Offset) {
        let mut unstable = self.unstable.borrow_mut();
        if !unstable.is_empty() {
            unstable.settle(committed);
        }
        let stable = unstable.first().map_or(committed, |first| first.min(committed));
        assert!(
            self.stable.get() <= stable && stable <= committed,
            "{}/{}: stable goes from {} to {stable}, committed is {committed}",
            self.topic,
            self.at.partition,
            self.stable.get()
        );
        self.stable.set(stable);
    }
}
