//! Taking back the end of a log, or all of it: what a backup does with records that its primary does not have.
//!
//! What stays is made durable. Then the WAL says up to where the log counts, with the state that holds from there on; only
//! when that is durable are files touched, and a state record ends the matter. Recovery that finds the first without the last
//! does the same again.

use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;

use heddle_proto::ids::Offset;

use super::retention::remove_if_there;
use super::shared::Store;
use crate::disk::{Disk, OpenMode};
use crate::error::{IoContext, StorageError};
use crate::layout;
use crate::log::inner::LogInner;
use crate::segment::cut::cut_file;
use crate::segment::walk::Walker;
use crate::types::{Cut, Damage};

impl<D: Disk> Store<D> {
    /// See [`crate::Log::cut`] and [`crate::Log::begin_anew`].
    pub(crate) fn cut(
        self: &Rc<Self>,
        log: &Rc<LogInner>,
        cut: Cut,
    ) -> impl Future<Output = Result<(), StorageError>> + use<D> {
        assert!(log.attached.get(), "{}: a cut without an owner to ask for a snapshot", log.partition);
        assert!(log.cutting.replace(Some(cut)).is_none(), "{}: two cuts at a time", log.partition);
        let (store, log) = (self.clone(), log.clone());
        async move { store.make_cut(&log, cut).await }
    }

    async fn make_cut(self: &Rc<Self>, log: &Rc<LogInner>, cut: Cut) -> Result<(), StorageError> {
        self.keep(log, cut).await;
        self.announce_cut(log).await;
        let guard = log.maintenance.acquire().await;
        if log.deleted.get() {
            return Ok(());
        }
        let drained = log.drained();
        self.cut_memory(log, cut);
        if cut.begins_anew || cut.to < drained {
            self.cut_segments(log, cut).await?;
        }
        drop(guard);
        log.cutting.set(None);
        let announced = log.state_version.get();
        self.request_state(log);
        loop {
            let progress = log.progress.listen();
            if log.durable_state.get().version > announced || log.deleted.get() {
                return Ok(());
            }
            progress.await;
        }
    }

    /// Waits until what stays is durable and nothing of the log is on its way to the WAL: a state that says where the log ends
    /// may speak of nothing that a crash could lose.
    async fn keep(&self, log: &Rc<LogInner>, cut: Cut) {
        log.flush_target.set(log.flush_target.get().max(cut.kept_to()));
        loop {
            let progress = log.progress.listen();
            let durable = log.positions().durable;
            if log.deleted.get() || durable >= log.joined().max(cut.kept_to()) {
                return;
            }
            if durable < cut.kept_to() {
                match log.avoids_wal() {
                    true => self.request_drain(log),
                    false => self.queue_group(log),
                }
            }
            progress.await;
        }
    }

    /// Waits until the WAL holds the cut.
    async fn announce_cut(&self, log: &Rc<LogInner>) {
        log.cut_due.set(true);
        self.queue_group(log);
        loop {
            let progress = log.progress.listen();
            // No other state of the log is sealed behind that of the cut.
            let is_durable = log.durable_state.get().version == log.state_version.get();
            if log.deleted.get() || (!log.cut_due.get() && is_durable) {
                return;
            }
            progress.await;
        }
    }

    /// Everything beyond the cut is forgotten at once, so that readers stop before files change under them.
    fn cut_memory(&self, log: &Rc<LogInner>, cut: Cut) {
        let (dirty, clean) = {
            let mut tail = log.tail.borrow_mut();
            tail.cut(cut.kept_to(), log.drained())
        };
        log.cut_to(cut);
        self.forget_bytes(log, dirty, clean);
        log.staged.borrow_mut().take();
        self.wal.borrow_mut().cut(log.id, cut.to);
        self.cursors.remove_log(log.id);
        self.hooks.budget_freed();
    }

    async fn cut_segments(&self, log: &Rc<LogInner>, cut: Cut) -> Result<(), StorageError> {
        let dir = self.partition_dir(log);
        let mut removed = false;
        loop {
            let Some((base, version)) = log.segments.borrow_mut().pop_last_from(cut.kept_to()) else { break };
            removed = true;
            self.segment_files.remove((log.id, base, version));
            self.indexes.remove((log.id, base, version));
            self.remove_segment(&dir, base).await?;
        }
        if removed {
            self.disk.sync_dir(&dir).await.context("sync", &dir)?;
        }
        let last =
            log.segments.borrow().last().map(|last| (last.base, last.version, last.end, last.data_bytes));
        if let Some((base, version, _, data_bytes)) = last.filter(|(_, _, end, _)| *end > cut.to) {
            log.segments.borrow_mut().seal_last_at(cut.to);
            self.segment_files.remove((log.id, base, version));
            self.indexes.remove((log.id, base, version));
            match self.cut_segment_file(&dir, log.owner, base, data_bytes, cut.to).await? {
                Some(bytes) => log.segments.borrow_mut().shorten_last(bytes),
                None => self.note_damage(log, self.damage_at_cut(&dir, base.max(log.positions().start))),
            }
        }
        self.check_free();
        Ok(())
    }

    async fn remove_segment(&self, dir: &Path, base: Offset) -> Result<(), StorageError> {
        for path in [layout::index_file(dir, base), layout::segment_file(dir, base)] {
            remove_if_there(&self.disk, &path).await?;
        }
        Ok(())
    }

    async fn cut_segment_file(
        &self,
        dir: &Path,
        owner: u32,
        base: Offset,
        data_bytes: u64,
        to: Offset,
    ) -> Result<Option<u64>, StorageError> {
        let path = layout::segment_file(dir, base);
        remove_if_there(&self.disk, &layout::index_file(dir, base)).await?;
        let file = self.disk.open(&path, OpenMode::EXISTING).await.context("open", &path)?;
        let walker = Walker::at_drain(owner, base, 0, base);
        let done = cut_file(&self.disk, &self.options, &file, walker, to, data_bytes).await;
        done.context("cut", &path)
    }

    /// What lies before the cut cannot be read whole: the cut cannot be made inside it.
    fn damage_at_cut(&self, dir: &Path, base: Offset) -> Damage {
        Damage { offset: base, file: layout::segment_file(dir, base), position: 0 }
    }

    /// Does to the files of a partition what a cut says that a crash interrupted.
    pub(crate) async fn finish_cut(&self, log: &Rc<LogInner>, cut: Cut) -> Result<(), StorageError> {
        let dir = self.partition_dir(log);
        let mut segments = self.list_segments(&dir).await?;
        while let Some(last) = segments.pop_if(|last| last.base >= cut.kept_to()) {
            self.remove_segment(&dir, last.base).await?;
        }
        // Also for what an earlier attempt has removed: no state record may be written while it could come back.
        match self.disk.sync_dir(&dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            synced => synced.context("sync", &dir)?,
        }
        let Some(last) = segments.last() else { return Ok(()) };
        let data_bytes = last.file_bytes - last.file_bytes % crate::codec::BLOCK_BYTES as u64;
        // A last segment that ends before the cut is as it should be: the rest is in the WAL.
        self.cut_segment_file(&dir, log.owner, last.base, data_bytes, cut.to).await.map(drop)
    }
}
