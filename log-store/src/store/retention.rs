//! Deleting what nobody may read any more: whole closed segments by age, size or request, and whole logs.

use std::rc::Rc;

use heddle_proto::ids::{Offset, TopicPartition};

use super::shared::Store;
use super::stats::add;
use crate::disk::{self, Disk};
use crate::error::{IoContext, StorageError};
use crate::layout;
use crate::log::Log;
use crate::log::inner::LogInner;
use crate::types::LogPositions;

impl<D: Disk> Store<D> {
    /// Applies retention to each of `logs`.
    pub(crate) async fn retain(self: &Rc<Self>, logs: &[Rc<LogInner>]) -> Result<(), StorageError> {
        for log in logs {
            if log.deleted.get() || log.segments.borrow().len() == 0 {
                continue;
            }
            self.roll_aged(log).await?;
            self.learn_ages(log).await;
            let keep_from = self.retention_start(log);
            if keep_from > log.positions().start {
                self.advance_start(log, keep_from).await?;
                self.remove_old_segments(log).await?;
            }
        }
        Ok(())
    }

    /// Closes the active segment of a quiet log when it is old, so that retention by age can reach it.
    async fn roll_aged(&self, log: &Rc<LogInner>) -> Result<(), StorageError> {
        let now = self.disk.now();
        let is_aged = log.segments.borrow().active().is_some_and(|active| {
            active.data_bytes > 0 && now.saturating_sub(active.created) >= log.config().segment_age()
        });
        if is_aged {
            let _guard = log.maintenance.acquire().await;
            self.seal_active(log).await?;
        }
        Ok(())
    }

    /// After a restart the age of a closed segment is known only from its index.
    async fn learn_ages(self: &Rc<Self>, log: &Rc<LogInner>) {
        let Some(kept) = self.oldest_kept(log) else { return };
        let handle = Log { store: self.clone(), inner: log.clone() };
        let closed: Vec<Offset> = log
            .segments
            .borrow()
            .iter()
            .filter(|segment| segment.sealed)
            .map(|segment| segment.base)
            .collect();
        for base in closed {
            match handle.newest_in(base).await {
                Ok(newest) if newest.get() < kept => {}
                // Damage has been noted; neither it nor a younger segment lets retention go on.
                _ => return,
            }
        }
    }

    /// The oldest record timestamp that retention by age keeps, in ms.
    fn oldest_kept(&self, log: &LogInner) -> Option<i64> {
        let age = log.config().retention_age?;
        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Some(self.disk.wall().get().saturating_sub(age_ms))
    }

    /// The offset below which whole closed segments exceed the log's limits.
    fn retention_start(&self, log: &LogInner) -> Offset {
        let config = log.config();
        let segments = log.segments.borrow();
        let mut left_bytes = segments.data_bytes();
        let oldest_kept = self.oldest_kept(log);
        let mut start = log.positions().start;
        for segment in segments.iter().filter(|segment| segment.sealed) {
            let too_much = config.retention_bytes.is_some_and(|bytes_max| left_bytes > bytes_max);
            let newest = segment.max_timestamp.map(|newest| newest.get());
            let too_old = oldest_kept.is_some_and(|kept| newest.is_some_and(|newest| newest < kept));
            if !too_much && !too_old {
                break;
            }
            left_bytes -= segment.data_bytes;
            start = start.max(segment.end);
        }
        start.min(log.positions().durable)
    }

    /// Moves the log's start up to `start`, durably; unless a cut takes back what lies there.
    pub(crate) async fn advance_start(
        self: &Rc<Self>,
        log: &Rc<LogInner>,
        start: Offset,
    ) -> Result<(), StorageError> {
        let (positions, cut_count) = (log.positions(), log.cut_count.get());
        if log.cutting.get().is_some_and(|cut| cut.kept_to() < start) {
            return Ok(());
        }
        if start > positions.start {
            log.set_positions(LogPositions { start, ..positions });
            log.forgive_damage();
        }
        loop {
            let progress = log.progress.listen();
            let is_cut = log.cut_count.get() != cut_count;
            if log.durable_state.get().start >= start || log.deleted.get() || is_cut {
                return Ok(());
            }
            if !log.state_due.get() {
                self.request_state(log);
            }
            progress.await;
        }
    }

    /// Removes the files of closed segments that end at or below the log's start.
    pub(crate) async fn remove_old_segments(&self, log: &Rc<LogInner>) -> Result<(), StorageError> {
        let _guard = log.maintenance.acquire().await;
        let mut removed = false;
        while let Some((base, version)) = take_old_segment(log) {
            removed = true;
            self.segment_files.remove((log.id, base, version));
            self.indexes.remove((log.id, base, version));
            for path in [self.segment_path(log, base), self.index_path(log, base)] {
                remove_if_there(&self.disk, &path).await?;
            }
            add(&self.counters.segments_deleted, 1);
        }
        if removed {
            let dir = self.partition_dir(log);
            self.disk.sync_dir(&dir).await.context("sync", &dir)?;
            self.check_free();
        }
        Ok(())
    }

    /// Deletes a log: first the decision becomes durable, then the files go, then that becomes durable, so that a log of this
    /// name may be made again.
    pub(crate) async fn delete(self: &Rc<Self>, partition: TopicPartition) -> Result<(), StorageError> {
        let Some(log) = self.find(partition) else {
            return remove_partition(&self.disk, &self.options.dir, partition).await;
        };
        log.deleted.set(true);
        log.progress.notify();
        let guard = log.maintenance.acquire().await;
        self.request_state(&log);
        until(&log, || log.durable_state.get().deleted).await;
        self.forget(&log);
        remove_partition(&self.disk, &self.options.dir, partition).await?;
        log.segments.take();
        let told = log.state_version.get();
        log.removed.set(true);
        self.request_state(&log);
        until(&log, || log.durable_state.get().version > told).await;
        drop(guard);
        self.logs.borrow_mut().remove(&partition);
        self.check_free();
        Ok(())
    }
}

/// Waits until a log has come so far.
async fn until(log: &LogInner, has_come: impl Fn() -> bool) {
    loop {
        let progress = log.progress.listen();
        if has_come() {
            return;
        }
        progress.await;
    }
}

fn take_old_segment(log: &LogInner) -> Option<(Offset, u32)> {
    let start = log.positions().start;
    let mut segments = log.segments.borrow_mut();
    segments.first().filter(|segment| segment.sealed && segment.end <= start)?;
    segments.pop_first().map(|segment| (segment.base, segment.version))
}

/// Removes a file, if it is there.
pub(crate) async fn remove_if_there<D: Disk>(disk: &D, path: &std::path::Path) -> Result<(), StorageError> {
    match disk.remove(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StorageError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Removes a partition's directory in one step as far as a crash can see: it is renamed first.
pub(crate) async fn remove_partition<D: Disk>(
    disk: &D,
    dir: &std::path::Path,
    partition: TopicPartition,
) -> Result<(), StorageError> {
    let (path, trash) = (layout::partition_dir(dir, partition), layout::trash_dir(dir, partition));
    match disk.rename(&path, &trash).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.context("rename", &path)?,
    }
    disk::sync_parent(disk, &path).await.context("sync the directory of", &path)?;
    disk.remove_dir_all(&trash).await.context("remove", &trash)?;
    disk::sync_parent(disk, &path).await.context("sync the directory of", &path)
}
