//! One log as its owner sees it: append, read, positions, retention of its own, and what recovery found.

mod aborted;
mod append;
pub(crate) mod cursor;
pub(crate) mod inner;
mod read;
pub(crate) mod tail;
mod time;

use std::rc::Rc;

use bytes::Bytes;
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::{Offset, TopicPartition};

use crate::disk::Disk;
use crate::error::{ReadError, StorageError};
use crate::store::shared::Store;
use crate::types::{Cut, Damage, LogConfig, LogId, LogPositions, SyncMode};
use inner::LogInner;

/// A handle to one log. Cheap to clone; lives on the core that owns the store.
pub struct Log<D: Disk> {
    pub(crate) store: Rc<Store<D>>,
    pub(crate) inner: Rc<LogInner>,
}

impl<D: Disk> Clone for Log<D> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), inner: self.inner.clone() }
    }
}

impl<D: Disk> Log<D> {
    /// The name the hooks know it by.
    pub fn id(&self) -> LogId {
        self.inner.id
    }

    /// Whose log it is.
    pub fn partition(&self) -> TopicPartition {
        self.inner.partition
    }

    /// How far it has come.
    pub fn positions(&self) -> LogPositions {
        self.inner.positions()
    }

    /// Where whole batches begin: at the start or before it, as a request may have moved that into a batch, or into a segment.
    /// Nothing before the start is readable; the batch that holds it is read as a whole.
    pub fn begin(&self) -> Offset {
        let start = self.inner.positions().start;
        let segment = self.inner.segments.borrow().holding(start).map(|segment| segment.base);
        let batch = || self.inner.tail.borrow().from(start).next().map(|batch| batch.base.min(start));
        segment.or_else(batch).unwrap_or(start)
    }

    /// What recovery found, once: the newest snapshot of the owner, and the headers of all batches after it in order.
    /// From now on the owner may be asked for snapshots, so it must have rebuilt its state before it next yields. Take it
    /// before the first append.
    pub fn recovered_state(&self) -> (Option<Bytes>, Vec<BatchHeader>) {
        let Some(recovered) = self.inner.recovered.borrow_mut().take() else { return (None, Vec::new()) };
        self.inner.attached.set(true);
        self.inner.staged.borrow_mut().take();
        self.store.request_state(&self.inner); // what recovery drained is told by a record with a fresh snapshot
        (recovered.snapshot, recovered.headers)
    }

    /// Its present configuration.
    pub fn config(&self) -> LogConfig {
        self.inner.config()
    }

    /// Changes the configuration from the next append, drain and retention check on.
    pub fn set_config(&self, config: LogConfig) {
        let before = self.inner.sync();
        self.inner.set_config(config);
        if before != self.inner.sync() {
            self.sync_has_changed();
        }
    }

    /// Whether nobody waits for what is appended from now on, as where a replica catches up with what others have committed:
    /// then it becomes durable in large pieces and within 100 ms, and disturbs others less.
    pub fn set_patient(&self, patient: bool) {
        if self.store.set_patient(&self.inner, patient) {
            self.sync_has_changed();
        }
    }

    fn sync_has_changed(&self) {
        if self.inner.dirty_bytes.get() == 0 {
            return;
        }
        match self.inner.sync() {
            // What never joined the WAL must be on disk before anything later may join it.
            SyncMode::Wal => {
                self.inner.held.set(true);
                self.store.request_direct_drain(&self.inner);
            }
            SyncMode::Flush { .. } => self.store.arm_flush(&self.inner),
        }
    }

    /// Bytes on disk and in memory that count against retention by size.
    pub fn size_bytes(&self) -> u64 {
        self.inner.segments.borrow().data_bytes() + self.inner.dirty_bytes.get() as u64
    }

    /// Below this offset each key has one record; zero if nobody has looked since the start.
    pub fn compacted_upto(&self) -> Offset {
        self.inner.compaction.get().map_or(Offset::ZERO, |known| known.clean_upto)
    }

    /// The first known damage, if any.
    pub fn damage(&self) -> Option<Damage> {
        self.inner.damage()
    }

    /// Waits until the next start will know of the damage that is known by now, or there is none any more. Whoever ends the
    /// process because of damage waits for this first: otherwise the next start may take the log for whole again.
    pub async fn damage_recorded(&self) {
        let told = self.inner.state_version.get();
        loop {
            let progress = self.inner.progress.listen();
            let is_recorded = self.inner.durable_state.get().version > told;
            if is_recorded || self.inner.deleted.get() || self.inner.damage_offset().is_none() {
                return;
            }
            if !self.inner.state_due.get() {
                self.store.request_state(&self.inner);
            }
            progress.await;
        }
    }

    /// Waits until everything written by now is durable.
    ///
    /// # Errors
    /// [`ReadError::Deleted`] if the log is deleted meanwhile.
    pub async fn flush(&self) -> Result<(), ReadError> {
        let written = self.inner.positions().written;
        self.inner.flush_target.set(written.max(self.inner.flush_target.get()));
        loop {
            let target = written.min(self.inner.positions().written);
            let progress = self.inner.progress.listen();
            if self.inner.deleted.get() {
                return Err(ReadError::Deleted);
            }
            if self.inner.positions().durable >= target {
                return Ok(());
            }
            if self.inner.avoids_wal() {
                self.store.request_drain(&self.inner);
            }
            progress.await;
        }
    }

    /// Makes everything below `before` unreadable and frees whole segments below it. Durable on return; returns the new
    /// start, which is `before` unless the log already started later.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] if `before` is beyond what is durable, or an error of the disk.
    pub async fn delete_records(&self, before: Offset) -> Result<Offset, ReadError> {
        let positions = self.inner.positions();
        if before > positions.durable {
            return Err(ReadError::OutOfRange { start: positions.start, end: positions.durable });
        }
        self.store.advance_start(&self.inner, before).await?;
        self.store.remove_old_segments(&self.inner).await?;
        Ok(self.inner.positions().start)
    }

    /// Takes back everything from `to` on: the next batch begins there. Durable when the future ends, made or not made after
    /// a crash before that. Readers of what is taken back find the end of the log.
    ///
    /// The cut begins with this call, not with the first poll: before the owner next yields it sets its state back to what lies
    /// before `to`, and from then on its snapshots say that. Until the future has ended it appends nothing, starts no other
    /// cut and does not drop the future. Needs both loops to be running.
    ///
    /// # Errors
    /// If the disk fails; the process must exit.
    ///
    /// # Panics
    /// If `to` lies outside the log or within a batch, if another cut is under way, or if the owner has not taken
    /// [`Self::recovered_state`].
    pub fn cut(&self, to: Offset) -> impl Future<Output = Result<(), StorageError>> + use<D> {
        let positions = self.inner.positions();
        assert!(positions.start <= to && to <= positions.written, "a cut at {to} of {positions:?}");
        self.store.cut(&self.inner, Cut { to, begins_anew: false })
    }

    /// Takes back everything: the log is empty and begins at `start`, wherever it was before. As [`Self::cut`] in all else.
    ///
    /// # Errors
    /// As [`Self::cut`].
    ///
    /// # Panics
    /// As [`Self::cut`].
    pub fn begin_anew(&self, start: Offset) -> impl Future<Output = Result<(), StorageError>> + use<D> {
        self.store.cut(&self.inner, Cut { to: start, begins_anew: true })
    }

    /// Largest record timestamp and the first record that carries it, or `None` if the log is empty.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn max_timestamp(&self) -> Result<Option<(Offset, heddle_proto::ids::Timestamp)>, ReadError> {
        match self.newest_timestamp().await? {
            Some(newest) => self.offset_at(newest).await,
            None => Ok(None),
        }
    }

    pub(crate) fn storage_error(&self, operation: &'static str, error: std::io::Error) -> StorageError {
        StorageError::io(operation, &self.store.partition_dir(&self.inner), error)
    }
}
