//! What all parts of one core's store share: logs, queues, budgets and the events that wake the loops.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use heddle_proto::ids::{CoreId, Offset, TopicPartition};

use super::stats::{CompactionStats, Counters, Stats, add};
use crate::compact::Gauges;
use crate::disk::Disk;
use crate::event::{Event, Permits};
use crate::layout;
use crate::log::cursor::Cursors;
use crate::log::inner::LogInner;
use crate::options::Options;
use crate::pacer::Pacer;
use crate::scrub;
use crate::segment::files::FileCache;
use crate::segment::index::Index;
use crate::segment::index_file::{self, IndexCache};
use crate::types::{Damage, Hooks, LogConfig, LogId, SyncMode, WriteTimes};
use crate::wal::files::WalFiles;

/// Drained batches of one log that are kept as a cache, to be evicted in this order.
struct CleanRun {
    log: Rc<LogInner>,
    upto: Offset,
}

/// Where the WAL stands.
pub(crate) struct WalSequence {
    /// Sequence of the last frame built.
    pub(crate) built: Cell<u64>,
    /// Everything up to this frame is durable.
    pub(crate) durable: Cell<u64>,
    /// A durable frame says so about everything up to this one.
    pub(crate) covered: Cell<u64>,
    /// The last durable frame with entries.
    pub(crate) with_entries: Cell<u64>,
}

/// See the module. Owned by one core; every clone of the `Rc` lives there too.
pub(crate) struct Store<D: Disk> {
    pub(crate) disk: D,
    pub(crate) options: Options,
    pub(crate) core: CoreId,
    pub(crate) hooks: Rc<dyn Hooks>,
    pub(crate) wal_dir: PathBuf,
    pub(crate) incarnation: u64,
    pub(crate) first_generation: u64,
    pub(crate) logs: RefCell<BTreeMap<TopicPartition, Rc<LogInner>>>,
    next_log: Cell<u32>,
    pub(crate) wal: RefCell<WalFiles<D::File>>,
    pub(crate) sequence: WalSequence,
    /// Write a frame even if no log has anything for it.
    pub(crate) frame_wanted: Cell<bool>,
    /// The WAL had no room for what waits, and nothing has been sealed since.
    pub(crate) wal_stalled: Cell<bool>,
    pub(crate) groups: RefCell<VecDeque<Rc<LogInner>>>,
    pub(crate) direct_drains: RefCell<VecDeque<Rc<LogInner>>>,
    pub(crate) drains: RefCell<VecDeque<Rc<LogInner>>>,
    /// For each write that nobody waits for.
    pub(crate) background_ios: Permits,
    /// Logs whose drain found no space on the disk.
    pub(crate) stuck: RefCell<Vec<Rc<LogInner>>>,
    pub(crate) dirty: RefCell<VecDeque<Rc<LogInner>>>,
    pub(crate) unrecorded: RefCell<Vec<Rc<LogInner>>>,
    pub(crate) flushes: RefCell<BTreeMap<(Duration, LogId), Rc<LogInner>>>,
    clean: RefCell<VecDeque<CleanRun>>,
    pub(crate) dirty_bytes: Cell<usize>,
    /// Those of them in logs that are patient.
    patient_bytes: Cell<usize>,
    cache_bytes: Cell<usize>,
    pub(crate) free_bytes: Cell<u64>,
    pub(crate) disk_full: Cell<bool>,
    pub(crate) groups_in_flight: Cell<usize>,
    pub(crate) commit_running: Cell<bool>,
    pub(crate) last_append: Cell<u64>,
    pub(crate) segment_files: FileCache<D::File>,
    pub(crate) indexes: IndexCache,
    pub(crate) cursors: Cursors,
    pub(crate) counters: Counters,
    pub(crate) compaction: Gauges,
    pub(crate) compaction_pacer: Pacer,
    pub(crate) scrub: scrub::Gauges,
    pub(crate) scrub_pacer: Pacer,
    pub(crate) commit_event: Event,
    pub(crate) background_event: Event,
    /// Something advanced that a waiting job may depend on.
    pub(crate) progress: Event,
}

impl<D: Disk> Store<D> {
    pub(crate) fn new(
        disk: D,
        options: Options,
        core: CoreId,
        first_generation: u64,
        hooks: Rc<dyn Hooks>,
    ) -> Rc<Self> {
        let zero = || Cell::new(0);
        Rc::new(Self {
            wal_dir: layout::wal_dir(&options.dir, core.get()),
            incarnation: disk.entropy(),
            first_generation,
            logs: RefCell::default(),
            next_log: Cell::new(0),
            wal: RefCell::new(WalFiles::new(options.wal_file_bytes, first_generation)),
            sequence: WalSequence { built: zero(), durable: zero(), covered: zero(), with_entries: zero() },
            frame_wanted: Cell::default(),
            wal_stalled: Cell::default(),
            groups: RefCell::default(),
            direct_drains: RefCell::default(),
            drains: RefCell::default(),
            background_ios: Permits::new(options.background_ios_in_flight_max),
            stuck: RefCell::default(),
            dirty: RefCell::default(),
            unrecorded: RefCell::default(),
            flushes: RefCell::default(),
            clean: RefCell::default(),
            dirty_bytes: Cell::default(),
            patient_bytes: Cell::default(),
            cache_bytes: Cell::default(),
            free_bytes: Cell::new(u64::MAX),
            disk_full: Cell::default(),
            groups_in_flight: Cell::default(),
            commit_running: Cell::default(),
            last_append: Cell::default(),
            segment_files: FileCache::new(options.open_files_max),
            indexes: IndexCache::new(options.index_cache_bytes_max),
            cursors: Cursors::new(options.read_cursors_max, options.read_bytes_max),
            counters: Counters::default(),
            compaction: Gauges::default(),
            compaction_pacer: Pacer::new(options.compaction_bytes_per_second),
            scrub: scrub::Gauges::default(),
            scrub_pacer: Pacer::new(options.scrub_bytes_per_second),
            commit_event: Event::default(),
            background_event: Event::default(),
            progress: Event::default(),
            disk,
            options,
            core,
            hooks,
        })
    }

    /// The log of `partition`, made in memory if there is none.
    pub(crate) fn log(&self, partition: TopicPartition, config: LogConfig) -> Rc<LogInner> {
        let mut logs = self.logs.borrow_mut();
        let log = logs.entry(partition).or_insert_with(|| {
            let id = LogId::new(self.next_log.get());
            self.next_log.set(self.next_log.get() + 1);
            LogInner::new(id, partition, config)
        });
        log.clone()
    }

    pub(crate) fn find(&self, partition: TopicPartition) -> Option<Rc<LogInner>> {
        self.logs.borrow().get(&partition).cloned()
    }

    pub(crate) fn partition_dir(&self, log: &LogInner) -> PathBuf {
        layout::partition_dir(&self.options.dir, log.partition)
    }

    pub(crate) fn segment_path(&self, log: &LogInner, base: Offset) -> PathBuf {
        layout::segment_file(&self.partition_dir(log), base)
    }

    /// Writes the index of a segment. It can be rebuilt from the segment at any time, so a failure is only told, and not that
    /// of a log that was deleted meanwhile.
    pub(crate) async fn write_index(&self, log: &LogInner, path: &Path, index: &Index) {
        let written = index_file::write(&self.disk, path, index, self.options.io_bytes_max).await;
        if let Err(error) = written
            && !log.deleted.get()
        {
            tracing::warn!(path = %path.display(), %error, "could not write an index");
        }
    }

    pub(crate) fn index_path(&self, log: &LogInner, base: Offset) -> PathBuf {
        layout::index_file(&self.partition_dir(log), base)
    }

    /// Puts the log in line for the next group.
    pub(crate) fn queue_group(&self, log: &Rc<LogInner>) {
        if !log.in_groups.replace(true) {
            self.groups.borrow_mut().push_back(log.clone());
        }
        self.commit_event.notify();
    }

    /// Asks for a state record.
    pub(crate) fn request_state(&self, log: &Rc<LogInner>) {
        log.state_due.set(true);
        self.queue_group(log);
    }

    /// Asks for a drain; one that producers wait for goes first.
    pub(crate) fn request_drain(&self, log: &Rc<LogInner>) {
        if log.held.get() {
            return self.request_direct_drain(log);
        }
        if !log.in_drains.replace(true) {
            self.drains.borrow_mut().push_back(log.clone());
        }
        self.background_event.notify();
    }

    pub(crate) fn request_direct_drain(&self, log: &Rc<LogInner>) {
        self.direct_drains.borrow_mut().push_back(log.clone());
        self.commit_event.notify();
    }

    pub(crate) fn list_dirty(&self, log: &Rc<LogInner>) {
        if !log.in_dirty.replace(true) {
            self.dirty.borrow_mut().push_back(log.clone());
        }
    }

    pub(crate) fn list_unrecorded(&self, log: &Rc<LogInner>) {
        if !log.in_unrecorded.replace(true) {
            self.unrecorded.borrow_mut().push(log.clone());
            self.commit_event.notify();
        }
    }

    /// Makes sure that a flushed log is drained in time, which may be sooner than when it was armed.
    pub(crate) fn arm_flush(&self, log: &Rc<LogInner>) {
        let SyncMode::Flush { after, .. } = log.sync() else { return };
        if log.dirty_bytes.get() == 0 {
            return;
        }
        let (at, armed) = (self.disk.now() + after, log.flush_at.get());
        if armed.is_some_and(|armed| armed <= at) {
            return;
        }
        let mut flushes = self.flushes.borrow_mut();
        if let Some(armed) = armed {
            flushes.remove(&(armed, log.id));
        }
        log.flush_at.set(Some(at));
        flushes.insert((at, log.id), log.clone());
        self.background_event.notify();
    }

    /// Everything below `upto` is on stable storage.
    pub(crate) fn advance_durable(&self, log: &LogInner, upto: Offset, times: WriteTimes) {
        let positions = log.positions();
        if upto <= positions.durable || log.deleted.get() {
            return;
        }
        log.set_positions(crate::types::LogPositions { durable: upto, ..positions });
        log.progress.notify();
        self.hooks.durable(log.id, upto, times);
    }

    pub(crate) fn add_dirty(&self, log: &LogInner, bytes: usize) {
        self.set_dirty(log, log.dirty_bytes.get() + bytes);
    }

    fn set_dirty(&self, log: &LogInner, bytes: usize) {
        let before = log.dirty_bytes.replace(bytes);
        self.dirty_bytes.set(self.dirty_bytes.get() + bytes - before);
        if log.is_patient() {
            self.patient_bytes.set(self.patient_bytes.get() + bytes - before);
        }
    }

    /// Returns whether that is news.
    pub(crate) fn set_patient(&self, log: &LogInner, patient: bool) -> bool {
        if log.set_patient(patient) == patient {
            return false;
        }
        let (bytes, all) = (log.dirty_bytes.get(), self.patient_bytes.get());
        self.patient_bytes.set(if patient { all + bytes } else { all - bytes });
        true
    }

    /// `bytes` of the log up to `upto` have been drained and become a cache.
    pub(crate) fn make_clean(&self, log: &Rc<LogInner>, upto: Offset, bytes: usize) {
        self.set_dirty(log, log.dirty_bytes.get() - bytes);
        self.cache_bytes.set(self.cache_bytes.get() + bytes);
        self.clean.borrow_mut().push_back(CleanRun { log: log.clone(), upto });
        self.evict();
        self.hooks.budget_freed();
    }

    fn evict(&self) {
        while self.cache_bytes.get() > self.options.cache_bytes_max {
            let Some(run) = self.clean.borrow_mut().pop_front() else { return };
            let upto = run.upto.min(run.log.drained());
            let bytes = run.log.tail.borrow_mut().evict(upto);
            self.cache_bytes.set(self.cache_bytes.get() - bytes);
        }
    }

    /// Drops drained batches below `upto` from memory: what is on disk has become less.
    pub(crate) fn drop_cached(&self, log: &LogInner, upto: Offset) {
        let bytes = log.tail.borrow_mut().evict(upto.min(log.drained()));
        self.cache_bytes.set(self.cache_bytes.get() - bytes);
    }

    /// So many undrained and drained bytes of the log are no longer in memory.
    pub(crate) fn forget_bytes(&self, log: &LogInner, dirty: usize, clean: usize) {
        self.set_dirty(log, log.dirty_bytes.get() - dirty);
        let pending = log.tail.borrow().from(log.joined()).map(|batch| batch.len()).sum();
        log.pending_bytes.set(pending);
        self.cache_bytes.set(self.cache_bytes.get() - clean);
    }

    /// Drops everything a deleted log holds in memory.
    pub(crate) fn forget(&self, log: &LogInner) {
        let clean = log.tail.borrow_mut().evict(log.drained());
        self.cache_bytes.set(self.cache_bytes.get() - clean);
        let dirty = log.tail.borrow_mut().evict(log.positions().written);
        debug_assert_eq!(dirty, log.dirty_bytes.get(), "what is not drained is in memory");
        self.set_dirty(log, 0);
        log.pending_bytes.set(0);
        self.wal.borrow_mut().forget(log.id);
        self.segment_files.remove_log(log.id);
        self.indexes.remove_log(log.id);
        self.cursors.remove_log(log.id);
        self.clean.borrow_mut().retain(|run| run.log.id != log.id);
        self.hooks.budget_freed();
    }

    /// Records damage and makes it known to the next start.
    pub(crate) fn note_damage(&self, log: &Rc<LogInner>, damage: Damage) {
        tracing::error!(partition = %log.partition, %damage, "stored records are not what was written");
        add(&self.counters.corruptions, 1);
        if log.note_damage(damage) {
            self.request_state(log);
        }
    }

    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        // One batch always fits an empty budget, however large.
        let dirty = self.dirty_bytes.get();
        dirty == 0 || dirty + bytes <= self.options.dirty_bytes_max
    }

    /// Whether more than a quarter of the budget is used.
    pub(crate) fn is_filling(&self) -> bool {
        self.dirty_bytes.get() > self.options.dirty_bytes_max / 4
    }

    /// Whether logs that are patient use more than a quarter of the budget. That ends without anybody's doing, whatever all the
    /// others use: each of them is drained within the time for it.
    pub(crate) fn is_behind(&self) -> bool {
        self.patient_bytes.get() > self.options.dirty_bytes_max / 4
    }

    /// Whether more than three quarters of the budget are used. Draining is in haste from half of it on, so that this ends
    /// without anybody's doing.
    pub(crate) fn is_pressed(&self) -> bool {
        self.dirty_bytes.get() > self.options.dirty_bytes_max / 4 * 3
    }

    /// Asks the disk how much space is left.
    pub(crate) fn check_free(&self) {
        if let Ok(free) = self.disk.free_bytes(&self.options.dir) {
            self.free_bytes.set(free);
        }
        self.judge_free();
    }

    /// Notes `bytes` as allocated until the disk is asked again.
    pub(crate) fn spend(&self, bytes: u64) {
        self.free_bytes.set(self.free_bytes.get().saturating_sub(bytes));
        self.judge_free();
    }

    /// Whether the disk takes `bytes` more without touching the reserve.
    pub(crate) fn has_space(&self, bytes: u64) -> bool {
        let needed = self.options.reserve_bytes.saturating_add(self.dirty_bytes.get() as u64);
        self.free_bytes.get() >= needed.saturating_add(bytes)
    }

    fn judge_free(&self) {
        let needed = self.options.reserve_bytes.saturating_add(self.dirty_bytes.get() as u64);
        let full = self.free_bytes.get() < needed;
        if self.disk_full.replace(full) != full {
            tracing::warn!(full, free_bytes = self.free_bytes.get(), "free space crossed the reserve");
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let wal = self.wal.borrow();
        let logs = self.logs.borrow();
        Stats {
            counters: self.counters.values(),
            logs: logs.len(),
            dirty_bytes: self.dirty_bytes.get(),
            cache_bytes: self.cache_bytes.get(),
            read_bytes: self.cursors.memory().bytes(),
            wal_used_bytes: wal.used_bytes(),
            wal_files: wal.count(),
            groups_in_flight: self.groups_in_flight.get(),
            open_files: self.segment_files.len(),
            free_bytes: self.free_bytes.get(),
            disk_full: self.disk_full.get(),
            damaged_logs: logs.values().filter(|log| log.damage_offset().is_some()).count(),
            compaction: self.compaction_stats(logs.values()),
            scrub_ended_at: self.scrub.ended_at.get(),
            scrub_took: self.scrub.took.get(),
        }
    }

    fn compaction_stats<'a>(&self, logs: impl Iterator<Item = &'a Rc<LogInner>>) -> CompactionStats {
        let mut stats = CompactionStats {
            running: self.compaction.running.get(),
            ended_at: self.compaction.ended_at.get(),
            took: self.compaction.took.get(),
            ..CompactionStats::default()
        };
        for log in logs.filter(|log| log.config().compaction.is_some()) {
            stats.logs += 1;
            if let Some(known) = log.compaction.get() {
                stats.dirty_bytes += known.dirty_bytes;
                stats.dirty_permille_max = stats.dirty_permille_max.max(known.dirty_permille());
            }
        }
        stats
    }
}
