//! Appending a batch: into memory, into the line for the next group, and sometimes straight to a drain. No await.

use bytes::Bytes;
use heddle_proto::batch::BatchHeader;

use super::Log;
use super::tail::TailBatch;
use crate::disk::Disk;
use crate::error::AppendError;
use crate::store::stats::add;
use crate::types::{LogPositions, SyncMode};

impl<D: Disk> Log<D> {
    /// Takes a verified batch whose base offset is `positions().written`. It is readable at once and durable when
    /// [`crate::Hooks::durable`] says so. Keeps the slice handed in.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing of the batch is kept then.
    pub fn append(&self, batch: Bytes, header: &BatchHeader) -> Result<(), AppendError> {
        self.check_append(&batch, header)?;
        let (log, store) = (&self.inner, &self.store);
        let bytes = batch.len();
        log.note_marker(&batch, header);
        log.tail.borrow_mut().push(TailBatch::new(batch, header));
        log.set_positions(LogPositions { written: header.next_offset(), ..log.positions() });
        let dirty_before = store.dirty_bytes.get();
        store.add_dirty(log, bytes);
        log.pending_bytes.set(log.pending_bytes.get() + bytes);
        store.last_append.set(u64::try_from(store.disk.now().as_nanos()).unwrap_or(u64::MAX));
        add(&store.counters.appends, 1);
        add(&store.counters.append_bytes, bytes as u64);
        store.list_dirty(log);
        self.route(dirty_before == 0);
        Ok(())
    }

    fn check_append(&self, batch: &Bytes, header: &BatchHeader) -> Result<(), AppendError> {
        let (log, store) = (&self.inner, &self.store);
        let expected = log.positions().written;
        if log.deleted.get() {
            return Err(AppendError::Deleted);
        }
        if let Some(damage) = log.damage() {
            return Err(AppendError::Damaged(damage));
        }
        if header.base_offset != expected || batch.len() != header.batch_bytes as usize {
            return Err(AppendError::OutOfOrder { expected, got: header.base_offset });
        }
        if store.disk_full.get() {
            add(&store.counters.disk_full_refusals, 1);
            return Err(AppendError::DiskFull);
        }
        if !store.has_room(batch.len()) {
            return Err(AppendError::OverBudget);
        }
        Ok(())
    }

    /// Decides how the newest batch becomes durable.
    fn route(&self, was_clean: bool) {
        let (log, store) = (&self.inner, &self.store);
        let dirty = log.dirty_bytes.get();
        match log.sync() {
            SyncMode::Flush { .. } => store.arm_flush(log),
            SyncMode::Wal if log.held.get() => return,
            SyncMode::Wal if log.pending_bytes.get() >= store.options.direct_drain_bytes => {
                log.held.set(true);
                return store.request_direct_drain(log);
            }
            SyncMode::Wal => store.queue_group(log),
        }
        if store.wants_drain(log, dirty) {
            store.request_drain(log);
        }
        if was_clean || store.dirty_bytes.get() > store.options.dirty_bytes_max / 2 {
            store.background_event.notify();
        }
    }
}
