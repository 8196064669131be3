//! Recovery of one core's logs: what the WALs and the segments say is put together, drained, and told by fresh state
//! records, before anything old is let go.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::{CoreId, Offset, Timestamp, TopicPartition};

use super::retention::{remove_if_there, remove_partition};
use super::shared::Store;
use crate::codec::BLOCK_BYTES;
use crate::disk::{self, Disk, DiskFile, OpenMode};
use crate::error::{CREATE, IoContext, StorageError};
use crate::event::JobSet;
use crate::layout;
use crate::log::inner::{LogInner, RecoveredState, SegmentsEnd, StagedSnapshot};
use crate::log::tail::TailBatch;
use crate::options::Options;
use crate::segment::SegmentRef;
use crate::segment::index::Index;
use crate::segment::scan::{Broken, Scan, scan};
use crate::segment::walk::Walker;
use crate::segment::{ACTIVE, Segment};
use crate::types::{Damage, Hooks, LogConfig, LogPositions};
use crate::wal::replay::{
    RecoveredBatch, RecoveredPartition, RecoveredPartitions, generations, next_generation, void_generations,
};
use crate::wal::state::PartitionState;

/// A segment file found on disk.
#[derive(Copy, Clone)]
pub(crate) struct FoundSegment {
    pub(crate) base: Offset,
    pub(crate) file_bytes: u64,
}

/// What is known while one partition is put together.
struct Rebuild {
    log: Rc<LogInner>,
    start: Offset,
    /// Exclusive end of what the segments hold so far.
    end: Offset,
    headers: VecDeque<BatchHeader>,
    damage: Option<Damage>,
}

impl Rebuild {
    fn note_damage(&mut self, damage: Damage) {
        if self.damage.as_ref().is_none_or(|known| damage.offset < known.offset) {
            self.damage = Some(damage);
        }
    }

    fn hole(&mut self, offset: Offset, file: &Path, position: u64) {
        self.note_damage(Damage { offset, file: file.to_owned(), position });
    }
}

/// Opens the store of one core over what recovery found for it. See [`crate::LogStore::open`].
pub(crate) async fn open<D: Disk>(
    disk: D,
    options: Options,
    core: CoreId,
    recovered: RecoveredPartitions,
    hooks: Rc<dyn Hooks>,
) -> Result<(Rc<Store<D>>, Vec<TopicPartition>), StorageError> {
    options.validate()?;
    let wal_dir = layout::wal_dir(&options.dir, core.get());
    for dir in [wal_dir.clone(), layout::topics_root(&options.dir)] {
        disk::create_dir_durable(&disk, &options.dir, &dir).await.context(CREATE, &dir)?;
    }
    disk::sync_parent(&disk, &options.dir).await.context("sync the directory of", &options.dir)?;
    let first_generation = next_generation(&disk, &wal_dir).await?;
    let store = Store::new(disk, options, core, first_generation, hooks);
    store.check_free();
    store.prepare_wal().await?;
    store.recover_all(recovered).await?;
    store.settle().await?;
    let gone = |log: &Rc<LogInner>| log.deleted.get();
    store.logs.borrow_mut().retain(|_, log| !gone(log));
    let names = store.logs.borrow().keys().copied().collect();
    Ok((store, names))
}

impl<D: Disk> Store<D> {
    async fn recover_all(self: &Rc<Self>, recovered: RecoveredPartitions) -> Result<(), StorageError> {
        let mut jobs: JobSet<'_, Result<(), StorageError>> = JobSet::new();
        for (partition, found) in recovered {
            jobs.push(async move { self.recover(partition, found).await });
            if jobs.len() == self.options.recoveries_in_flight_max {
                jobs.next().await.unwrap_or(Ok(()))?;
            }
        }
        jobs.finish().await
    }

    async fn recover(
        self: &Rc<Self>,
        partition: TopicPartition,
        found: RecoveredPartition,
    ) -> Result<(), StorageError> {
        if found.deleted {
            return self.recover_deleted(partition, found.version()).await;
        }
        let dir = layout::partition_dir(&self.options.dir, partition);
        if found.is_nothing() && found.version() > 0 && self.list_segments(&dir).await?.is_empty() {
            return Ok(()); // deleted, and not made again
        }
        let log = self.log(partition, LogConfig::default());
        self.finish_compaction(&dir).await?;
        if let Some(cut) = found.cut {
            self.finish_cut(&log, cut).await?;
        }
        let segments = self.list_segments(&dir).await?;
        let first = segments.first().map(|segment| segment.base);
        let start = found.state.as_ref().map_or(first.unwrap_or(Offset::ZERO), |state| state.start);
        let start = start.max(found.start_min);
        let end =
            first.unwrap_or(found.state.as_ref().map_or(Offset::ZERO, |state| state.drained.min(start)));
        let mut rebuild = Rebuild { log, start, end, headers: VecDeque::new(), damage: None };
        if first.is_some_and(|first| first > start)
            && found.state.as_ref().is_some_and(|state| state.drained > start)
        {
            rebuild.hole(start, &layout::segment_file(&dir, start), 0);
        }
        self.rebuild_segments(&mut rebuild, &segments, &found).await?;
        let mut written = self.rebuild_tail(&mut rebuild, &found);
        if let Some(cut) = found.cut.filter(|cut| written < cut.to) {
            // A cut is announced when everything before it is durable.
            rebuild.hole(written.max(start), Path::new("wal"), 0);
            written = cut.to;
        }
        self.hand_over(&rebuild, (found.state.as_ref(), found.version()), written);
        self.drain_all(&rebuild.log).await?;
        if rebuild.log.drained() < written {
            rebuild.log.set_drained(written); // the newest records are damaged: nothing to drain, but offsets go on
        }
        self.request_state(&rebuild.log);
        Ok(())
    }

    /// The partition was deleted: finishes that, and says so in the new WAL before the old one goes.
    async fn recover_deleted(
        self: &Rc<Self>,
        partition: TopicPartition,
        version: u64,
    ) -> Result<(), StorageError> {
        let log = self.log(partition, LogConfig::default());
        log.state_version.set(version);
        log.deleted.set(true);
        remove_partition(&self.disk, &self.options.dir, partition).await?;
        log.removed.set(true);
        self.request_state(&log);
        Ok(())
    }

    pub(crate) async fn list_segments(&self, dir: &Path) -> Result<Vec<FoundSegment>, StorageError> {
        let entries = self.disk.list(dir).await.context("list", dir)?;
        let found = entries.iter().filter(|entry| !entry.is_dir).filter_map(|entry| {
            let base = layout::parse_segment_file(&entry.name)?;
            Some(FoundSegment { base, file_bytes: entry.size })
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|segment| segment.base);
        Ok(found)
    }

    /// Takes closed segments on trust up to the newest state record and verifies everything behind it.
    async fn rebuild_segments(
        &self,
        rebuild: &mut Rebuild,
        segments: &[FoundSegment],
        found: &RecoveredPartition,
    ) -> Result<(), StorageError> {
        let mut state = found.state.as_ref();
        let mut trusted_to = Offset::ZERO;
        if let Some(state) = state {
            self.check_known_segment(rebuild, segments, state);
            trusted_to = self.trusted_to(rebuild, segments, state).await;
        }
        for (index, segment) in segments.iter().enumerate() {
            let next = segments.get(index + 1).map(|next| next.base);
            if let Some(state) = state.filter(|_| segment.base < trusted_to) {
                // If none follows, the segments end where the one would begin that the record speaks of.
                let end = next.unwrap_or(state.segment_base).min(state.drained);
                self.trust(rebuild, *segment, end);
                continue;
            }
            let known = state.take().filter(|state| state.segment_base == segment.base);
            self.verify(rebuild, *segment, next, known, found).await?;
        }
        if let Some(state) = found.state.as_ref().filter(|state| rebuild.end < state.drained) {
            if rebuild.start < state.drained && rebuild.damage.is_none() {
                let path = self.segment_path(&rebuild.log, state.segment_base);
                rebuild.hole(rebuild.end.max(rebuild.start), &path, 0);
            }
            rebuild.end = state.drained;
            seal_last(&rebuild.log);
        }
        Ok(())
    }

    /// Segments below this offset are taken as they are: those before the one that the state record speaks of. If that one
    /// has become part of a compacted segment, which only happens when a newer record was lost, then those before that.
    async fn trusted_to(
        &self,
        rebuild: &Rebuild,
        segments: &[FoundSegment],
        state: &PartitionState,
    ) -> Offset {
        let before = segments.iter().rev().find(|segment| segment.base <= state.segment_base);
        match before {
            Some(before) if before.base < state.segment_base => {
                let next = segments.iter().find(|segment| segment.base > before.base);
                let is_older = state.position > 0 || next.is_some_and(|next| next.base > state.segment_base);
                let is_within = is_older && self.is_compacted(rebuild, *before).await;
                if is_within { before.base } else { state.segment_base }
            }
            _ => state.segment_base,
        }
    }

    async fn is_compacted(&self, rebuild: &Rebuild, segment: FoundSegment) -> bool {
        let segment = SegmentRef {
            base: segment.base,
            end: segment.base,
            version: ACTIVE,
            data_bytes: segment.file_bytes,
            tombstones_due: None,
        };
        self.compacted_upto(&rebuild.log, segment).await > Offset::ZERO
    }

    /// The segment that a state record vouches for must be there and long enough.
    fn check_known_segment(&self, rebuild: &mut Rebuild, segments: &[FoundSegment], state: &PartitionState) {
        let found = segments.iter().find(|segment| segment.base == state.segment_base);
        let file_bytes = found.map_or(0, |segment| segment.file_bytes);
        if file_bytes < state.position && state.start < state.drained {
            let path = self.segment_path(&rebuild.log, state.segment_base);
            tracing::error!(file = %path.display(), file_bytes, position = state.position, "a segment was cut short");
        }
    }

    fn trust(&self, rebuild: &mut Rebuild, segment: FoundSegment, end: Offset) {
        if segment.base > rebuild.end {
            let path = self.segment_path(&rebuild.log, rebuild.end);
            rebuild.hole(rebuild.end, &path, 0);
        }
        rebuild.end = end;
        let sealed = Segment::sealed(segment.base, end, segment.file_bytes, self.disk.now());
        rebuild.log.segments.borrow_mut().push(sealed);
    }

    async fn verify(
        &self,
        rebuild: &mut Rebuild,
        segment: FoundSegment,
        next: Option<Offset>,
        known: Option<&PartitionState>,
        found: &RecoveredPartition,
    ) -> Result<(), StorageError> {
        let path = self.segment_path(&rebuild.log, segment.base);
        let known = known.filter(|state| state.position <= segment.file_bytes);
        if known.is_none() && segment.base > rebuild.end {
            rebuild.hole(rebuild.end, &path, 0);
        }
        let mut from = known.map_or((0, segment.base), |state| (state.position, state.drained));
        let walker =
            |(position, expected)| Walker::at_drain(rebuild.log.owner, segment.base, position, expected);
        let mode = OpenMode::EXISTING.dsync(self.options.segment_dsync);
        let key = (rebuild.log.id, segment.base, ACTIVE);
        let file = self.segment_files.get(&self.disk, key, &path, mode).await.context("open", &path)?;
        disk::wait_for_writes(&*file, segment.file_bytes).await.context("settle", &path)?;
        let data_end = segment.file_bytes - segment.file_bytes % BLOCK_BYTES as u64;
        let mut found_from =
            scan(&*file, &self.options, walker(from), data_end).await.context("scan", &path)?;
        let is_bad = found_from.middle.is_some() || found_from.tail.is_some();
        if is_bad && from.0 > 0 && self.is_compacted(rebuild, segment).await {
            // The record speaks of the segment as it was before it was compacted.
            from = (0, segment.base);
            found_from = scan(&*file, &self.options, walker(from), data_end).await.context("scan", &path)?;
        }
        let (position, mut scan) = (from.0, found_from);
        rebuild.headers.append(&mut scan.headers);
        rebuild.end = scan.end;
        if let Some(middle) = scan.middle {
            rebuild.hole(middle.offset, &path, middle.position);
        }
        let is_whole = self.judge_end(rebuild, &*file, &scan, &path, next, found).await?;
        let rebuilt = self.rebuilt_segment(segment, &scan, position, known, next, is_whole);
        rebuild.end = rebuilt.end;
        rebuild.log.segments.borrow_mut().push(rebuilt);
        Ok(())
    }

    /// A bad end is a drain that never finished, unless something later was acknowledged. Whatever such a drain left is
    /// cut off, so that it is never taken for part of a later one. Returns whether the file may be written on.
    async fn judge_end(
        &self,
        rebuild: &mut Rebuild,
        file: &D::File,
        scan: &Scan,
        path: &Path,
        next: Option<Offset>,
        found: &RecoveredPartition,
    ) -> Result<bool, StorageError> {
        if let Some(next) = next {
            if scan.end < next {
                let broken = scan.tail.map(|tail| (tail.offset, tail.position));
                let (offset, position) = broken.unwrap_or((scan.end, scan.position));
                rebuild.hole(offset, path, position);
            }
            return Ok(false);
        }
        if let Some(tail) = scan.tail.filter(|tail| was_acknowledged(tail, &found.batches)) {
            rebuild.hole(tail.offset, path, tail.position);
            return Ok(false);
        }
        if scan.has_debris || scan.tail.is_some() {
            tracing::info!(file = %path.display(), position = scan.position, "cutting an unfinished drain");
            file.truncate(scan.position).await.context("truncate", path)?;
            file.sync().await.context("sync", path)?;
        }
        Ok(true)
    }

    fn rebuilt_segment(
        &self,
        segment: FoundSegment,
        scan: &Scan,
        scanned_from: u64,
        known: Option<&PartitionState>,
        next: Option<Offset>,
        is_whole: bool,
    ) -> Segment {
        let end = next.unwrap_or(scan.end);
        if !is_whole {
            return Segment::sealed(segment.base, end, segment.file_bytes, self.disk.now());
        }
        let before = known.map_or(Timestamp::NONE, |state| state.segment_max_timestamp);
        let mut rebuilt = Segment::new(segment.base, self.disk.now());
        rebuilt.end = end;
        rebuilt.unnamed = false;
        rebuilt.data_bytes = scan.position;
        let was_cut = scan.has_debris || scan.tail.is_some();
        rebuilt.allocated_bytes = if was_cut { scan.position } else { segment.file_bytes };
        rebuilt.max_timestamp = Some(scan.index.max_timestamp.max(before));
        rebuilt.index = Some(Index { base: segment.base, ..scan.index.clone() });
        rebuilt.index_from = scanned_from;
        rebuilt
    }

    /// Puts the WAL's batches behind the segments' end into the tail and returns the end of the log.
    fn rebuild_tail(&self, rebuild: &mut Rebuild, found: &RecoveredPartition) -> Offset {
        let mut batches: Vec<&RecoveredBatch> =
            found.batches.iter().filter(|batch| batch.next > rebuild.end).collect();
        batches.sort_by_key(|batch| (batch.base, batch.bytes.is_none()));
        batches.dedup_by_key(|batch| batch.base);
        let mut expected = rebuild.end;
        for batch in batches {
            if batch.base != expected {
                rebuild.hole(expected.min(batch.base), Path::new("wal"), 0);
            }
            if batch.base < expected {
                continue;
            }
            match (&batch.bytes, batch.bytes.as_deref().map(BatchHeader::parse)) {
                (Some(bytes), Some(Ok(header))) => {
                    rebuild.headers.push_back(header);
                    rebuild.log.note_marker(bytes, &header);
                    rebuild.log.tail.borrow_mut().push(TailBatch::new(bytes.clone(), &header));
                    self.add_dirty(&rebuild.log, bytes.len());
                }
                _ => rebuild.hole(batch.base, Path::new("wal"), 0),
            }
            expected = batch.next;
        }
        expected
    }

    /// Gives the log its positions and the owner its state.
    fn hand_over(
        &self,
        rebuild: &Rebuild,
        (state, version): (Option<&PartitionState>, u64),
        written: Offset,
    ) {
        let log = &rebuild.log;
        let start = rebuild.start.min(written);
        log.set_positions(LogPositions { start, durable: written, written });
        log.set_drained(rebuild.end);
        log.set_joined(written); // the old WALs hold it until it is drained
        log.state_version.set(version);
        let known = state.and_then(|state| state.damage).map(|offset| Damage {
            offset,
            file: self.segment_path(log, offset),
            position: 0,
        });
        for damage in rebuild.damage.clone().into_iter().chain(known).filter(|damage| damage.offset >= start)
        {
            tracing::error!(partition = %log.partition, %damage, "acknowledged records are missing");
            log.note_damage(damage);
        }
        let usable = state.filter(|state| state.snapshot_end <= written);
        let from = usable.map_or(Offset::ZERO, |state| state.snapshot_end);
        let headers = rebuild.headers.iter().filter(|header| header.base_offset >= from).copied().collect();
        let snapshot = usable.map(|state| state.snapshot.clone()).filter(|snapshot| !snapshot.is_empty());
        self.stage_recovered(log, usable);
        *log.recovered.borrow_mut() = Some(RecoveredState { snapshot, headers });
    }

    /// The owner cannot be asked before it knows the log: until then its old snapshot is told again, together with how
    /// far the segments reached then.
    fn stage_recovered(&self, log: &LogInner, state: Option<&PartitionState>) {
        let first = log.segments.borrow().first().map_or(log.positions().start, |segment| segment.base);
        let reached = state.map_or(
            SegmentsEnd { segment_base: first, position: 0, drained: first, max_timestamp: Timestamp::NONE },
            |state| SegmentsEnd {
                segment_base: state.segment_base,
                position: state.position,
                drained: state.drained,
                max_timestamp: state.segment_max_timestamp,
            },
        );
        let end = state.map_or(first, |state| state.snapshot_end);
        let bytes = state.map(|state| state.snapshot.clone()).unwrap_or_default();
        log.attached.set(false);
        *log.staged.borrow_mut() = Some(StagedSnapshot { end, bytes, reached: Some(reached) });
    }

    /// Waits until every requested state record is durable, committing by itself if nobody else does.
    pub(crate) async fn settle(self: &Rc<Self>) -> Result<(), StorageError> {
        if self.commit_running.get() {
            return self.wait_settled(false).await;
        }
        futures_lite::future::or(self.run_commit(), self.wait_settled(true)).await
    }

    async fn wait_settled(&self, alone: bool) -> Result<(), StorageError> {
        loop {
            let progress = self.progress.listen();
            let waits = !self.groups.borrow().is_empty();
            if !waits && self.groups_in_flight.get() == 0 && !self.is_uncovered() {
                return Ok(());
            }
            if alone && waits && !self.wal.borrow().is_ready() {
                self.prepare_wal().await?;
                continue;
            }
            progress.await;
        }
    }

    /// Lets go of the WAL files of earlier runs. See [`crate::LogStore::retire_old_wals`].
    pub(crate) async fn retire_old_wals(&self, dirs: &[u16]) -> Result<(), StorageError> {
        for &core in dirs {
            let dir = layout::wal_dir(&self.options.dir, core);
            let is_own = core == self.core.get();
            let from = if is_own { self.first_generation } else { next_generation(&self.disk, &dir).await? };
            self.void_files(&dir, from).await?;
            for generation in generations(&self.disk, &dir).await? {
                if generation < from {
                    self.retire_file(&dir, generation, is_own).await?;
                }
            }
            if is_own {
                for generation in void_generations(&self.disk, &dir).await? {
                    remove_if_there(&self.disk, &layout::void_file(&dir, generation)).await?;
                }
            } else {
                self.disk.remove_dir_all(&dir).await.context("remove", &dir)?;
                disk::sync_parent(&self.disk, &dir).await.context("sync the directory of", &dir)?;
            }
        }
        Ok(())
    }

    /// Says that the files before one do not count, all at once. Some of them alone would say the wrong thing: without the newest
    /// it is not known which frames had been released, or what had been deleted.
    async fn void_files(&self, dir: &Path, before: u64) -> Result<(), StorageError> {
        let path = layout::void_file(dir, before);
        match self.disk.open(&path, OpenMode::NEW).await {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => drop(other.context(CREATE, &path)?),
        }
        self.disk.sync_dir(dir).await.context("sync", dir)
    }

    async fn retire_file(&self, dir: &Path, generation: u64, is_own: bool) -> Result<(), StorageError> {
        let path = layout::wal_file(dir, generation);
        if is_own && self.recycle(&path).await? {
            return Ok(());
        }
        self.disk.remove(&path).await.context("remove", &path)?;
        self.disk.sync_dir(dir).await.context("sync", dir)
    }

    /// Gives an old file of the right size a new generation, so that its space need not be zeroed again.
    async fn recycle(&self, path: &Path) -> Result<bool, StorageError> {
        let has_place = self.wal.borrow().count() < self.options.wal_files_max;
        let file = self.disk.open(path, OpenMode::EXISTING).await.context("open", path)?;
        if !has_place || file.size().await.context("measure", path)? != self.options.wal_file_bytes {
            return Ok(false);
        }
        let generation = self.wal.borrow_mut().take_generation();
        let renamed = layout::wal_file(&self.wal_dir, generation);
        self.disk.rename(path, &renamed).await.context("rename", path)?;
        disk::sync_parent(&self.disk, &renamed).await.context("sync the directory of", &renamed)?;
        self.wal.borrow_mut().adopt_free(generation);
        Ok(true)
    }
}

/// Drains of one partition follow one another, and nothing joins the WAL past one under way: a batch in the WAL beyond
/// the bad end proves that the end was once whole.
fn was_acknowledged(tail: &Broken, batches: &[RecoveredBatch]) -> bool {
    let next = batches.iter().filter(|batch| batch.next > tail.drain_first).map(|batch| batch.base).min();
    next.is_some_and(|next| next > tail.drain_first)
}

fn seal_last(log: &LogInner) {
    if let Some(active) = log.segments.borrow_mut().active_mut() {
        active.sealed = true;
        active.index = None;
    }
}
