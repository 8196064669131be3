//! Moves a log's batches from memory into its segment, in large aligned writes, and makes them durable there.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use heddle_proto::ids::{Epoch, Offset, Timestamp};

use super::shared::Store;
use super::stats::add;
use crate::codec::align_up;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{CREATE, IoContext, RESERVE, StorageError};
use crate::event::JobSet;
use crate::layout;
use crate::log::inner::{LogInner, StagedSnapshot};
use crate::log::tail::TailBatch;
use crate::segment::drain_header::{DRAIN_HEADER_BYTES, DrainHeader};
use crate::segment::index::IndexEntry;
use crate::segment::{ACTIVE, Segment};
use crate::types::{SyncMode, WriteTimes};

/// Contiguous undrained batches of one epoch, to be written together.
struct Plan {
    first: Offset,
    next: Offset,
    epoch: Epoch,
    batches: Vec<TailBatch>,
    data_bytes: usize,
}

impl Plan {
    /// The oldest undrained batches of the log, at most `bytes_max` of them but at least one.
    fn of(log: &LogInner, bytes_max: usize) -> Option<Self> {
        let tail = log.tail.borrow();
        let stop = log.drain_stop();
        let mut batches = tail.from(log.drained()).peekable();
        let first = batches.peek()?;
        let mut plan = Self {
            first: first.base,
            next: first.base,
            epoch: first.epoch,
            batches: Vec::new(),
            data_bytes: 0,
        };
        for batch in batches {
            let fits = plan.batches.is_empty() || plan.data_bytes + batch.len() <= bytes_max;
            let stops = stop.is_some_and(|stop| batch.base >= stop && !plan.batches.is_empty());
            if batch.base != plan.next || batch.epoch != plan.epoch || !fits || stops {
                break;
            }
            plan.next = batch.next;
            plan.data_bytes += batch.len();
            plan.batches.push(batch.clone());
        }
        Some(plan)
    }

    fn padded_bytes(&self) -> u64 {
        align_up((DRAIN_HEADER_BYTES + self.data_bytes) as u64)
    }
}

/// How far a segment file grows when `need_bytes` of it are needed: about doubling, so that ten thousand small
/// partitions reserve little and a busy one is extended rarely.
fn allocation(position: u64, need_bytes: u64, step_max: u64) -> u64 {
    const STEP_MIN: u64 = 64 << 10;
    let step = (need_bytes - position).max(position).clamp(STEP_MIN, step_max.max(STEP_MIN));
    align_up(need_bytes.max(position + step))
}

impl<D: Disk> Store<D> {
    /// Drains the log's oldest undrained batches, then decides what comes next for it.
    pub(crate) async fn drain(self: &Rc<Self>, log: &Rc<LogInner>) -> Result<(), StorageError> {
        let outcome = {
            let _guard = log.maintenance.acquire().await;
            self.drain_locked(log, || self.is_drain_awaited(log)).await
        };
        match outcome {
            Err(error) if error.is_disk_full() => self.park(log),
            other => {
                other?;
                self.after_drain(log);
            }
        }
        Ok(())
    }

    /// Drains until nothing is left in memory only. For recovery and shutdown.
    pub(crate) async fn drain_all(self: &Rc<Self>, log: &Rc<LogInner>) -> Result<(), StorageError> {
        let _guard = log.maintenance.acquire().await;
        while log.dirty_bytes.get() > 0 && !log.deleted.get() {
            self.drain_locked(log, || true).await?;
        }
        Ok(())
    }

    /// Whether somebody waits for what a drain of this log writes, or for the room in the WAL, or will soon wait for the memory.
    /// Who sends what a patient log takes is made to wait before that.
    fn is_drain_awaited(&self, log: &LogInner) -> bool {
        let is_memory_short = if log.is_patient() { self.is_pressed() } else { self.is_filling() };
        is_memory_short || self.wal_stalled.get() || log.held.get() || log.drained() < log.flush_target.get()
    }

    /// One drain. The caller holds the log's maintenance lock.
    async fn drain_locked(
        self: &Rc<Self>,
        log: &Rc<LogInner>,
        is_awaited: impl Fn() -> bool,
    ) -> Result<(), StorageError> {
        if log.deleted.get() {
            return Ok(());
        }
        self.stage_snapshot(log);
        let Some(plan) = Plan::of(log, self.options.drain_bytes_max) else { return Ok(()) };
        let sealed = Instant::now();
        let (position, submitted) = self.write_drain(log, &plan, is_awaited).await?;
        if !log.deleted.get() {
            let times = WriteTimes { sealed, submitted, durable: Instant::now() };
            self.apply_drain(log, plan, position, times);
        }
        Ok(())
    }

    /// If a state record will be due after this drain and the WAL will not hold everything by then, the owner is asked
    /// now, so that its snapshot is reached by this drain or a later one.
    fn stage_snapshot(&self, log: &Rc<LogInner>) {
        let soon = log.unrecorded_bytes.get() + log.dirty_bytes.get() as u64;
        let due = log.state_due.get() || soon >= self.options.state_interval_bytes;
        if !due || log.is_all_joined() || !log.attached.get() {
            return;
        }
        let waits = log.staged.borrow().as_ref().is_some_and(|staged| staged.end > log.joined());
        if !waits {
            let (end, bytes) = (log.positions().written, self.take_snapshot(log));
            *log.staged.borrow_mut() = Some(StagedSnapshot { end, bytes, reached: None });
        }
    }

    /// Writes the plan to the end of the active segment and returns where, and when the write began, once it is durable.
    async fn write_drain(
        self: &Rc<Self>,
        log: &Rc<LogInner>,
        plan: &Plan,
        is_awaited: impl Fn() -> bool,
    ) -> Result<(u64, Instant), StorageError> {
        if self.must_roll(log, plan) {
            self.seal_active(log).await?;
            self.create_segment(log, plan.first).await?;
        }
        let (base, position) = active_end(log);
        let path = self.segment_path(log, base);
        let mode = OpenMode::EXISTING.dsync(self.options.segment_dsync);
        let file = self
            .segment_files
            .get(&self.disk, (log.id, base, ACTIVE), &path, mode)
            .await
            .context("open", &path)?;
        self.reserve(log, &file, position + plan.padded_bytes(), &path).await?;
        let header = DrainHeader {
            position,
            segment_base: base,
            first: plan.first,
            next: plan.next,
            epoch: plan.epoch,
            data_bytes: plan.data_bytes as u32,
            owner: log.owner,
            compacted_upto: Offset::ZERO,
        };
        let pieces = std::iter::once(Bytes::copy_from_slice(&header.encode()))
            .chain(plan.batches.iter().map(|batch| batch.bytes.clone()));
        let submitted = Instant::now();
        self.write_pieces(&file, (position, plan.padded_bytes()), pieces, &path, is_awaited).await?;
        self.sync_drain(log, base, &file, &path).await?;
        Ok((position, submitted))
    }

    /// Makes a drain durable: its bytes, and the names that lead to them if the file is new. All at once, since the
    /// file system then needs to commit its journal only once.
    async fn sync_drain(
        &self,
        log: &Rc<LogInner>,
        base: Offset,
        file: &Rc<D::File>,
        path: &Path,
    ) -> Result<(), StorageError> {
        let unnamed = log.segments.borrow().get(base).is_some_and(|segment| segment.unnamed);
        let root = layout::topics_root(&self.options.dir);
        let mut syncs: JobSet<'_, Result<(), StorageError>> = JobSet::new();
        if !self.options.segment_dsync {
            syncs.push(async move { file.sync().await.context("sync", path) });
        }
        if unnamed {
            for dir in path.ancestors().skip(1).take_while(|dir| dir.starts_with(&root)) {
                syncs.push(async move { self.disk.sync_dir(dir).await.context("sync", dir) });
            }
        }
        syncs.finish().await?;
        if let Some(segment) = log.segments.borrow_mut().get_mut(base) {
            segment.unnamed = false;
        }
        Ok(())
    }

    fn must_roll(&self, log: &LogInner, plan: &Plan) -> bool {
        let segments = log.segments.borrow();
        let Some(active) = segments.active() else { return true };
        let config = log.config();
        let too_large = active.data_bytes + plan.padded_bytes() > config.segment_bytes;
        let too_old = self.disk.now().saturating_sub(active.created) >= config.segment_age();
        active.end != plan.first || (active.data_bytes > 0 && (too_large || too_old))
    }

    /// Closes the active segment: gives back what it reserved and writes its index.
    pub(crate) async fn seal_active(&self, log: &Rc<LogInner>) -> Result<(), StorageError> {
        let Some((base, data_bytes, index)) = take_active(log) else { return Ok(()) };
        let path = self.segment_path(log, base);
        let mode = OpenMode::EXISTING.dsync(self.options.segment_dsync);
        let file = self
            .segment_files
            .get(&self.disk, (log.id, base, ACTIVE), &path, mode)
            .await
            .context("open", &path)?;
        file.truncate(data_bytes).await.context("truncate", &path)?;
        if let Some(index) = index {
            let index_path = self.index_path(log, base);
            self.write_index(log, &index_path, &index).await;
            self.indexes.insert((log.id, base, ACTIVE), Rc::new(index));
        }
        Ok(())
    }

    async fn create_segment(&self, log: &Rc<LogInner>, base: Offset) -> Result<(), StorageError> {
        let dir = self.partition_dir(log);
        let is_first = log.segments.borrow().len() == 0;
        if is_first {
            self.disk.create_dir_all(&dir).await.context(CREATE, &dir)?;
        }
        let path = layout::segment_file(&dir, base);
        let mode = OpenMode::NEW.dsync(self.options.segment_dsync);
        let file = match self.disk.open(&path, mode).await {
            // Made by an attempt that found no space for the rest: it is empty.
            Err(error)
                if error.kind() == std::io::ErrorKind::AlreadyExists && self.is_empty_file(&path).await? =>
            {
                self.disk
                    .open(&path, OpenMode::EXISTING.dsync(self.options.segment_dsync))
                    .await
                    .context("open", &path)?
            }
            other => other.context(CREATE, &path)?,
        };
        self.segment_files.insert((log.id, base, ACTIVE), Rc::new(file));
        log.segments.borrow_mut().push(Segment::new(base, self.disk.now()));
        Ok(())
    }

    async fn is_empty_file(&self, path: &Path) -> Result<bool, StorageError> {
        let file = self.disk.open(path, OpenMode::EXISTING).await.context("open", path)?;
        Ok(file.size().await.context("measure", path)? == 0)
    }

    /// Makes sure that the file has room up to `need_bytes`, so that a write never meets a full disk half-way.
    async fn reserve(
        &self,
        log: &Rc<LogInner>,
        file: &Rc<D::File>,
        need_bytes: u64,
        path: &Path,
    ) -> Result<(), StorageError> {
        let (position, allocated) = {
            let segments = log.segments.borrow();
            segments.active().map_or((0, 0), |active| (active.data_bytes, active.allocated_bytes))
        };
        if need_bytes <= allocated {
            return Ok(());
        }
        let generous = allocation(position, need_bytes, self.options.preallocate_bytes_max);
        let target = match file.preallocate(generous).await {
            Ok(()) => generous,
            Err(_) => {
                file.preallocate(need_bytes).await.context(RESERVE, path)?;
                need_bytes
            }
        };
        self.spend(target - allocated);
        if let Some(active) = log.segments.borrow_mut().active_mut() {
            active.allocated_bytes = target;
        }
        Ok(())
    }

    /// Writes `pieces` one after another from `position`, padded with zeros to `total_bytes`: several large I/Os at a time from when on
    /// somebody waits for it, else one smaller one after another.
    pub(crate) async fn write_pieces(
        &self,
        file: &Rc<D::File>,
        (position, total_bytes): (u64, u64),
        pieces: impl Iterator<Item = Bytes>,
        path: &Path,
        is_awaited: impl Fn() -> bool,
    ) -> Result<(), StorageError> {
        let mut pieces = Gather { pieces, current: Bytes::new() };
        let mut jobs: JobSet<'_, Result<(), StorageError>> = JobSet::new();
        let mut done = 0;
        let mut outcome = Ok(());
        while done < total_bytes && outcome.is_ok() {
            let (options, is_awaited) = (&self.options, is_awaited());
            let (bytes_max, in_flight_max) = match is_awaited {
                true => (options.io_bytes_max, options.io_in_flight_max),
                false => (options.background_io_bytes_max, 1),
            };
            let bytes = (total_bytes - done).min(bytes_max as u64) as usize;
            let mut buffer = self.disk.alloc(bytes);
            pieces.fill(buffer.as_mut());
            let (file, at) = (file.clone(), position + done);
            // What small ones take from the device is their number, and that of the syncs behind them.
            let takes_turns = !is_awaited && bytes >= bytes_max / 4;
            jobs.push(async move {
                let _permit = if takes_turns { Some(self.background_ios.acquire().await) } else { None };
                let written = file.write_at(buffer, at).await.context("write", path)?;
                check_whole(path, at, bytes, written)
            });
            done += bytes as u64;
            while jobs.len() >= in_flight_max && outcome.is_ok() {
                outcome = jobs.next().await.unwrap_or(Ok(()));
            }
        }
        outcome.and(jobs.finish().await)
    }

    fn apply_drain(self: &Rc<Self>, log: &Rc<LogInner>, plan: Plan, position: u64, times: WriteTimes) {
        let padded = plan.padded_bytes();
        self.extend_segment(log, &plan, position);
        let joined = log.joined();
        let unjoined: usize =
            plan.batches.iter().filter(|batch| batch.base >= joined).map(TailBatch::len).sum();
        log.pending_bytes.set(log.pending_bytes.get().saturating_sub(unjoined));
        log.set_drained(plan.next);
        let reached = log.segments_end();
        if let Some(staged) = log.staged.borrow_mut().as_mut().filter(|staged| staged.end == plan.next) {
            staged.reached = Some(reached);
        }
        log.unrecorded_bytes.set(log.unrecorded_bytes.get() + padded);
        add(&self.counters.drains, 1);
        add(&self.counters.drain_bytes, padded);
        let bypassed = log.avoids_wal();
        if bypassed {
            add(&self.counters.direct_drains, 1);
            self.list_unrecorded(log);
        }
        if log.unrecorded_bytes.get() >= self.options.state_interval_bytes {
            log.state_due.set(true);
        }
        self.advance_durable(log, plan.next, times);
        self.make_clean(log, plan.next, plan.data_bytes);
        log.progress.notify();
        self.progress.notify();
    }

    fn extend_segment(&self, log: &LogInner, plan: &Plan, position: u64) {
        let mut segments = log.segments.borrow_mut();
        let active = segments.active_mut().expect("the drain was written to it under the maintenance lock");
        let mut at = position + DRAIN_HEADER_BYTES as u64;
        let mut newest = active.max_timestamp.unwrap_or(Timestamp::NONE);
        for batch in &plan.batches {
            let entry = IndexEntry {
                offset: batch.base,
                position: at,
                epoch: batch.epoch,
                max_timestamp: batch.max_timestamp,
            };
            if let Some(index) = &mut active.index {
                index.add(entry, batch.next, self.options.index_interval_bytes);
            }
            newest = newest.max(batch.max_timestamp);
            at += batch.len() as u64;
        }
        let mut markers = log.markers.borrow_mut();
        while let Some(placed) = markers.pop_front_if(|placed| placed.offset < plan.next) {
            if let Some(index) = &mut active.index {
                index.markers.extend([placed]);
            }
        }
        active.end = plan.next;
        active.data_bytes = position + plan.padded_bytes();
        active.max_timestamp = active.max_timestamp.map(|_| newest);
        if let Some(index) = &mut active.index {
            index.data_bytes = active.data_bytes;
        }
    }

    /// The disk is full: the batches stay in memory (and in the WAL, if they ever were) until there is space.
    fn park(&self, log: &Rc<LogInner>) {
        self.check_free();
        self.stuck.borrow_mut().push(log.clone());
        self.background_event.notify();
    }

    /// What a finished drain makes possible or necessary.
    pub(crate) fn after_drain(self: &Rc<Self>, log: &Rc<LogInner>) {
        if log.deleted.get() {
            return;
        }
        let dirty = log.dirty_bytes.get();
        if log.held.get() && matches!(log.sync(), SyncMode::Wal) {
            if dirty >= self.options.direct_drain_bytes {
                self.request_direct_drain(log);
            } else {
                log.held.set(false);
                if dirty > 0 {
                    self.queue_group(log);
                }
            }
        } else if self.wants_drain(log, dirty) {
            self.request_drain(log);
        }
        if log.state_due.get() {
            self.queue_group(log);
        }
        if dirty > 0 {
            self.list_dirty(log);
            self.arm_flush(log);
        }
    }

    /// Whether a log with `dirty` undrained bytes is worth a drain of its own.
    pub(crate) fn wants_drain(&self, log: &LogInner, dirty: usize) -> bool {
        let enough = match log.sync() {
            SyncMode::Wal => self.options.drain_bytes,
            SyncMode::Flush { bytes, .. } => {
                usize::try_from(bytes).unwrap_or(usize::MAX).clamp(1, self.options.drain_bytes_max)
            }
        };
        let awaited = matches!(log.sync(), SyncMode::Flush { .. }) && log.drained() < log.flush_target.get();
        let is_early = log.is_patient() && self.is_behind();
        dirty >= enough || ((awaited || is_early) && dirty > 0)
    }
}

fn active_end(log: &LogInner) -> (Offset, u64) {
    let segments = log.segments.borrow();
    let active =
        segments.active().expect("a segment was made before it is written, under the maintenance lock");
    (active.base, active.data_bytes)
}

/// Marks the active segment closed and returns what its files need: base, length, and the index if it is complete.
fn take_active(log: &LogInner) -> Option<(Offset, u64, Option<crate::segment::index::Index>)> {
    let mut segments = log.segments.borrow_mut();
    let active = segments.active_mut()?;
    active.sealed = true;
    active.allocated_bytes = active.data_bytes;
    let index = active.index.take().filter(|_| active.index_from == 0);
    Some((active.base, active.data_bytes, index))
}

fn check_whole(path: &Path, position: u64, want_bytes: usize, done_bytes: usize) -> Result<(), StorageError> {
    if want_bytes == done_bytes {
        return Ok(());
    }
    Err(StorageError::ShortWrite { path: path.to_owned(), position, want_bytes, done_bytes })
}

/// Copies a sequence of pieces into consecutive buffers, then zeros.
struct Gather<I> {
    pieces: I,
    current: Bytes,
}

impl<I: Iterator<Item = Bytes>> Gather<I> {
    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.current.is_empty() {
                match self.pieces.next() {
                    Some(piece) => self.current = piece,
                    None => return out.fill(0),
                }
            }
            let bytes = self.current.len().min(out.len());
            out[..bytes].copy_from_slice(&self.current.split_to(bytes));
            out = &mut out[bytes..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_laid_end_to_end_and_padded() {
        let pieces = [&b"abc"[..], b"", b"defgh"].map(Bytes::from_static);
        let mut gather = Gather { pieces: pieces.into_iter(), current: Bytes::new() };
        let mut buffers = [[1u8; 4]; 3];
        buffers.iter_mut().for_each(|buffer| gather.fill(buffer));
        assert_eq!(&buffers, &[*b"abcd", *b"efgh", [0; 4]]);
    }

    #[test]
    fn files_grow_slowly_at_first_and_in_bounded_steps() {
        assert_eq!(allocation(0, 4096, 32 << 20), 64 << 10);
        assert_eq!(allocation(1 << 20, (1 << 20) + 4096, 32 << 20), 2 << 20);
        assert_eq!(allocation(1 << 30, (1 << 30) + 4096, 32 << 20), (1 << 30) + (32 << 20));
        assert_eq!(allocation(0, 100 << 20, 32 << 20), 100 << 20);
    }
}
