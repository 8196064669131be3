//! Taking back the end of a log, or all of it: what a backup does with records that its primary does not have.
//!
//! First the WAL says durably up to where the log counts; only then are files touched, and a state record ends the matter.
//! Recovery that finds the first without the last does the same again.

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
    pub(crate) async fn cut(self: &Rc<Self>, log: &Rc<LogInner>, cut: Cut) -> Result<(), StorageError> {
        log.cutting.set(Some(cut));
        self.announce_cut(log).await;
        {
            let _guard = log.maintenance.acquire().await;
            let kept_to = log.drained();
            self.cut_memory(log, cut);
            if cut.begins_anew || cut.to < kept_to {
                self.cut_segments(log, cut).await?;
            }
        }
        log.cutting.set(None);
        self.request_state(log);
        loop {
            let progress = log.progress.listen();
            if log.durable_state.get().generation > 0 || log.deleted.get() {
                return Ok(());
            }
            progress.await;
        }
    }

    /// Waits until nothing of the log is on its way to the WAL, then until the WAL holds the cut.
    async fn announce_cut(&self, log: &Rc<LogInner>) {
        let mut asked = false;
        loop {
            let progress = log.progress.listen();
            if asked && log.cut_durable.get() {
                return;
            }
            if !asked && log.positions().durable >= log.joined() {
                asked = true;
                log.cut_durable.set(false);
                log.cut_due.set(true);
                self.queue_group(log);
            }
            progress.await;
        }
    }

    /// Everything beyond the cut is forgotten at once, so that readers stop before files change under them.
    fn cut_memory(&self, log: &Rc<LogInner>, cut: Cut) {
        let (dirty, clean) = {
            let mut tail = log.tail.borrow_mut();
            tail.cut(if cut.begins_anew { Offset::ZERO } else { cut.to }, log.drained())
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
        let from = if cut.begins_anew { Offset::ZERO } else { cut.to };
        let mut removed = false;
        loop {
            let Some((base, version)) = log.segments.borrow_mut().pop_last_from(from) else { break };
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
        for path in [layout::segment_file(dir, base), layout::index_file(dir, base)] {
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
        let from = if cut.begins_anew { Offset::ZERO } else { cut.to };
        while let Some(last) = segments.pop_if(|last| last.base >= from) {
            self.remove_segment(&dir, last.base).await?;
        }
        let Some(last) = segments.last() else { return Ok(()) };
        self.disk.sync_dir(&dir).await.context("sync", &dir)?;
        let data_bytes = last.file_bytes - last.file_bytes % crate::codec::BLOCK_BYTES as u64;
        // A last segment that ends before the cut is as it should be: the rest is in the WAL.
        self.cut_segment_file(&dir, log.owner, last.base, data_bytes, cut.to).await.map(drop)
    }
}
