//! How far snapshots on disk reach, so that the log is never cut before they do.
//!
//! The consensus library cuts the log while a snapshot that it received is still being put into its place by another
//! task. A crash in between would leave neither.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use super::types::LogId;
use crate::runtime::event::{Event, Waiters};

/// Shared by the state machine, which moves it, and the log, which waits for it.
#[derive(Default)]
pub struct SnapshotMark {
    newest: Cell<Option<LogId>>,
    failure: RefCell<Option<String>>,
    waiters: Waiters,
}

/// No snapshot will come, because the disk failed.
#[derive(Debug, thiserror::Error)]
#[error("no snapshot covers the entries to remove: {0}")]
pub struct NoSnapshot(String);

impl SnapshotMark {
    /// A snapshot of everything up to `at` is in its place.
    pub fn reach(&self, at: LogId) {
        self.newest.set(self.newest.get().max(Some(at)));
        self.waiters.fire();
    }

    /// A snapshot could not be written: nobody must wait for it.
    pub fn fail(&self, why: String) {
        *self.failure.borrow_mut() = Some(why);
        self.waiters.fire();
    }

    /// Waits until a snapshot of everything up to `at` is in its place.
    ///
    /// # Errors
    /// When it never will be.
    pub async fn wait_for(&self, at: LogId) -> Result<(), NoSnapshot> {
        loop {
            if self.newest.get().is_some_and(|newest| newest.index >= at.index) {
                return Ok(());
            }
            if let Some(why) = self.failure.borrow().clone() {
                return Err(NoSnapshot(why));
            }
            let event: Rc<Event> = Event::new();
            self.waiters.add(&event);
            event.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::metadata::raft::entry::log_id;

    #[test]
    fn waits_until_a_snapshot_reaches_far_enough_or_fails() {
        let mark = SnapshotMark::default();
        let mut waiting = Box::pin(mark.wait_for(log_id(1, 5)));
        assert!(block_on(poll_once(&mut waiting)).is_none());
        mark.reach(log_id(1, 4));
        assert!(block_on(poll_once(&mut waiting)).is_none());
        mark.reach(log_id(2, 5));
        block_on(waiting).expect("it is there");
        let waiting = mark.wait_for(log_id(2, 6));
        mark.fail("disk full".to_owned());
        assert!(block_on(waiting).is_err());
        block_on(mark.wait_for(log_id(1, 3))).expect("it was there before");
    }
}
