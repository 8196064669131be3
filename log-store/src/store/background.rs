//! The background loop: drains, the next WAL file, release of old ones, flush deadlines, retention, compaction, scrub, free space.

use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use heddle_proto::ids::{Offset, TopicPartition};

use super::commit::open_wal_file;
use super::shared::Store;
use crate::disk::{Disk, DiskFile, OpenMode, sync_parent};
use crate::error::{CREATE, IoContext, RESERVE, StorageError};
use crate::event::JobSet;
use crate::layout;
use crate::log::inner::LogInner;

type Jobs = JobSet<'static, (Job, Result<(), StorageError>)>;

/// What a background job was, so that the loop knows when to start its like again.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Job {
    Drain,
    PrepareWal,
    ReleaseWal,
    Retention,
    Compaction { again: bool },
    Scrub,
}

/// Which jobs of a kind run, and when the clock-driven ones are due.
struct Schedule {
    drains: usize,
    preparing: bool,
    releasing: bool,
    retaining: bool,
    compacting: bool,
    free_check_at: Duration,
    retention_at: Duration,
    retention_after: Option<TopicPartition>,
    compaction_at: Duration,
    scrubbing: bool,
    scrub_at: Duration,
}

/// Logs looked at by one retention job, so that ten thousand of them never hold up a drain.
const RETENTION_LOGS: usize = 256;
/// Logs asked at once to let go of a WAL file, or to drain when idle.
const CLAIMS_AT_ONCE: usize = 64;

impl<D: Disk> Store<D> {
    /// Runs until the disk fails. See [`crate::LogStore::run_background`].
    pub(crate) async fn run_background(self: &Rc<Self>) -> Result<(), StorageError> {
        let now = self.disk.now();
        let mut schedule = Schedule {
            drains: 0,
            preparing: false,
            releasing: false,
            retaining: false,
            compacting: false,
            free_check_at: now,
            retention_at: now + self.options.retention_interval,
            retention_after: None,
            compaction_at: now + self.options.compaction_interval,
            scrubbing: false,
            scrub_at: self.first_scrub_at(),
        };
        let mut jobs = Jobs::new();
        loop {
            let mut work = pin!(self.background_event.listen());
            self.tick(&mut schedule);
            self.start_jobs(&mut schedule, &mut jobs);
            let mut clock = pin!(self.disk.sleep(self.next_wake(&schedule)));
            let finished = std::future::poll_fn(|cx| {
                if let Poll::Ready(job) = jobs.poll_one(cx) {
                    return Poll::Ready(Some(job));
                }
                let woken = work.as_mut().poll(cx).is_ready() || clock.as_mut().poll(cx).is_ready();
                if woken { Poll::Ready(None) } else { Poll::Pending }
            })
            .await;
            if let Some((job, result)) = finished {
                result?;
                schedule.finish(job);
            }
        }
    }

    fn next_wake(&self, schedule: &Schedule) -> Duration {
        let now = self.disk.now();
        let flush = self.flushes.borrow().keys().next().map_or(Duration::MAX, |(at, _)| *at);
        let idle_check =
            if self.dirty_bytes.get() > 0 { now + self.options.idle_drain_delay } else { Duration::MAX };
        let retention = if schedule.retaining { Duration::MAX } else { schedule.retention_at };
        let compaction = if schedule.compacting { Duration::MAX } else { schedule.compaction_at };
        let scrub = if schedule.scrubbing { Duration::MAX } else { schedule.scrub_at };
        let next =
            flush.min(idle_check).min(retention).min(compaction).min(scrub).min(schedule.free_check_at);
        next.saturating_sub(now).max(Duration::from_millis(1))
    }

    /// What the clock alone makes due.
    fn tick(self: &Rc<Self>, schedule: &mut Schedule) {
        let now = self.disk.now();
        if now >= schedule.free_check_at {
            schedule.free_check_at = now + self.options.free_check_interval;
            self.check_free();
            let stuck = std::mem::take(&mut *self.stuck.borrow_mut());
            stuck.iter().for_each(|log| self.request_drain(log));
        }
        self.start_due_flushes(now);
        self.relieve_pressure();
        let last_append = Duration::from_nanos(self.last_append.get());
        if self.dirty_bytes.get() > 0 && now.saturating_sub(last_append) >= self.options.idle_drain_delay {
            self.drain_oldest(CLAIMS_AT_ONCE);
        }
    }

    fn start_due_flushes(&self, now: Duration) {
        loop {
            let due = self
                .flushes
                .borrow_mut()
                .first_entry()
                .filter(|entry| entry.key().0 <= now)
                .map(|e| e.remove());
            let Some(log) = due else { return };
            log.flush_at.set(None);
            if log.dirty_bytes.get() > 0 {
                self.request_drain(&log);
            }
        }
    }

    /// Above half of the budget the logs that became dirty first are drained.
    fn relieve_pressure(&self) {
        let queued = self.drains.borrow().len();
        if self.dirty_bytes.get() > self.options.dirty_bytes_max / 2
            && queued < self.options.drains_in_flight_max
        {
            self.drain_oldest(self.options.drains_in_flight_max - queued);
        }
    }

    fn drain_oldest(&self, count_max: usize) {
        let mut count = 0;
        while count < count_max {
            let Some(log) = self.dirty.borrow_mut().pop_front() else { return };
            log.in_dirty.set(false);
            if log.dirty_bytes.get() > 0 && !log.deleted.get() {
                self.request_drain(&log);
                count += 1;
            }
        }
    }

    fn start_jobs(self: &Rc<Self>, schedule: &mut Schedule, jobs: &mut Jobs) {
        while schedule.drains < self.options.drains_in_flight_max {
            let Some(log) = self.drains.borrow_mut().pop_front() else { break };
            log.in_drains.set(false);
            schedule.drains += 1;
            let store = self.clone();
            jobs.push(async move { (Job::Drain, store.drain(&log).await) });
        }
        if !schedule.preparing && (self.may_prepare_wal() || self.needs_another_wal_file()) {
            schedule.preparing = true;
            let store = self.clone();
            jobs.push(async move { (Job::PrepareWal, store.prepare_wal_or_wait().await) });
        }
        if !schedule.releasing && self.wal.borrow().used_count() >= self.wal_pressure() {
            schedule.releasing = true;
            let store = self.clone();
            jobs.push(async move { (Job::ReleaseWal, store.release_wal().await) });
        }
        self.start_retention(schedule, jobs);
        self.start_compaction(schedule, jobs);
        self.start_scrub(schedule, jobs);
    }

    /// One run at a time: it has the memory for one map.
    fn start_compaction(self: &Rc<Self>, schedule: &mut Schedule, jobs: &mut Jobs) {
        let now = self.disk.now();
        if schedule.compacting || now < schedule.compaction_at {
            return;
        }
        schedule.compaction_at = now + self.options.compaction_interval;
        schedule.compacting = true;
        let store = self.clone();
        jobs.push(async move {
            match store.compact().await {
                Ok(again) => (Job::Compaction { again }, Ok(())),
                Err(error) => (Job::Compaction { again: false }, Err(error)),
            }
        });
    }

    fn start_scrub(self: &Rc<Self>, schedule: &mut Schedule, jobs: &mut Jobs) {
        let now = self.disk.now();
        if schedule.scrubbing || now < schedule.scrub_at {
            return;
        }
        schedule.scrub_at = self.next_scrub_at(now);
        schedule.scrubbing = true;
        let store = self.clone();
        jobs.push(async move {
            store.scrub().await;
            (Job::Scrub, Ok(()))
        });
    }

    fn start_retention(self: &Rc<Self>, schedule: &mut Schedule, jobs: &mut Jobs) {
        let now = self.disk.now();
        if schedule.retaining || now < schedule.retention_at {
            return;
        }
        let logs = self.logs_after(schedule.retention_after, RETENTION_LOGS);
        schedule.retention_after =
            logs.last().map(|log| log.partition).filter(|_| logs.len() == RETENTION_LOGS);
        if schedule.retention_after.is_none() {
            schedule.retention_at = now + self.options.retention_interval;
        }
        schedule.retaining = true;
        let store = self.clone();
        jobs.push(async move { (Job::Retention, store.retain(&logs).await) });
    }

    fn logs_after(&self, after: Option<TopicPartition>, count_max: usize) -> Vec<Rc<LogInner>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let logs = self.logs.borrow();
        let from = after.map_or(Unbounded, Excluded);
        logs.range((from, Unbounded)).take(count_max).map(|(_, log)| log.clone()).collect()
    }

    fn may_prepare_wal(&self) -> bool {
        let wal = self.wal.borrow();
        !wal.is_ready() && (wal.has_free() || wal.count() < self.options.wal_files_max)
    }

    /// So many full files make the store drain what the oldest one still vouches for.
    fn wal_pressure(&self) -> usize {
        (self.options.wal_files_max.saturating_sub(2) / 2).max(1)
    }

    async fn prepare_wal_or_wait(self: &Rc<Self>) -> Result<(), StorageError> {
        if self.remove_surplus_wal().await? && !self.may_prepare_wal() {
            return Ok(());
        }
        match self.prepare_wal().await {
            Err(error) if error.is_disk_full() => {
                // The files there are must do until space is freed.
                self.check_free();
                self.disk.sleep(self.options.free_check_interval).await;
                Ok(())
            }
            other => other,
        }
    }

    /// Removes free files that are there only because records had no room. Returns whether there were any.
    async fn remove_surplus_wal(&self) -> Result<bool, StorageError> {
        let mut removed = false;
        loop {
            let surplus = self.wal.borrow_mut().take_surplus(self.options.wal_files_max);
            let Some(generation) = surplus else { return Ok(removed) };
            removed = true;
            let path = layout::wal_file(&self.wal_dir, generation);
            self.disk.remove(&path).await.context("remove", &path)?;
            sync_parent(&self.disk, &path).await.context("sync the directory of", &path)?;
            self.check_free();
        }
    }

    /// Makes the next WAL file ready: a recycled one under a new name, or a new one full of zeros.
    pub(crate) async fn prepare_wal(&self) -> Result<(), StorageError> {
        let (free, generation) = {
            let mut wal = self.wal.borrow_mut();
            (wal.take_free(), wal.take_generation())
        };
        let path = layout::wal_file(&self.wal_dir, generation);
        match free {
            Some(old) => {
                let old = layout::wal_file(&self.wal_dir, old);
                self.disk.rename(&old, &path).await.context("rename", &old)?;
            }
            None => self.create_wal_file(&path).await?,
        }
        sync_parent(&self.disk, &path).await.context("sync the directory of", &path)?;
        let file = open_wal_file(&self.disk, &path).await?;
        self.wal.borrow_mut().set_ready(file, generation);
        self.commit_event.notify();
        Ok(())
    }

    async fn create_wal_file(&self, path: &std::path::Path) -> Result<(), StorageError> {
        self.wal.borrow_mut().add_new();
        let outcome = self.write_zeros(path).await;
        if outcome.is_err() {
            self.wal.borrow_mut().drop_new();
            drop(self.disk.remove(path).await); // what is left of it does no harm: it holds no frame
        }
        outcome
    }

    async fn write_zeros(&self, path: &std::path::Path) -> Result<(), StorageError> {
        let total = self.options.wal_file_bytes;
        let file = Rc::new(self.disk.open(path, OpenMode::NEW).await.context(CREATE, path)?);
        file.preallocate(total).await.context(RESERVE, path)?;
        self.spend(total);
        let is_awaited = || self.wal_stalled.get() || self.wal.borrow().used_bytes() == 0;
        self.write_pieces(&file, (0, total), std::iter::empty(), path, is_awaited).await?;
        file.sync().await.context("sync", path)
    }

    /// Lets go of the oldest WAL file, after everything in it is drained and told by a state record elsewhere.
    async fn release_wal(self: &Rc<Self>) -> Result<(), StorageError> {
        loop {
            let progress = self.progress.listen();
            let claims = self.claims_on_oldest();
            if claims.is_empty() {
                break;
            }
            claims.iter().for_each(|claim| self.satisfy_claim(claim));
            progress.await;
        }
        self.wal.borrow_mut().release_oldest(self.sequence.built.get() + 1);
        // Only a frame that says so makes the release known to replay; until then the file is not reused.
        self.frame_wanted.set(true);
        self.commit_event.notify();
        Ok(())
    }

    /// Some of the logs that still need the oldest WAL file. Looks at the front only: what is satisfied further back
    /// is noticed when it comes to the front.
    fn claims_on_oldest(&self) -> Vec<Claim> {
        let mut wal = self.wal.borrow_mut();
        let Some(oldest) = wal.oldest_mut() else { return Vec::new() };
        let generation = oldest.generation;
        while let Some(entry) =
            oldest.batches.first_entry().filter(|entry| is_recorded(&entry.get().0, entry.get().1))
        {
            entry.remove();
        }
        while let Some(entry) =
            oldest.states.first_entry().filter(|entry| is_elsewhere(entry.get(), generation))
        {
            entry.remove();
        }
        let batches = oldest.batches.values().map(|(log, end)| Claim { log: log.clone(), drained_to: *end });
        let states = oldest.states.values().map(|log| Claim { log: log.clone(), drained_to: Offset::ZERO });
        let claims = batches.take(CLAIMS_AT_ONCE).chain(states.take(CLAIMS_AT_ONCE));
        claims.filter(|claim| !claim.is_satisfied(generation)).collect()
    }

    fn satisfy_claim(self: &Rc<Self>, claim: &Claim) {
        let log = &claim.log;
        if log.drained() < claim.drained_to && !log.deleted.get() {
            self.request_drain(log);
        } else if !log.state_due.get() {
            self.request_state(log);
        }
    }
}

/// A log that needs a WAL file until it is drained that far and a state record elsewhere says so.
struct Claim {
    log: Rc<LogInner>,
    drained_to: Offset,
}

impl Claim {
    fn is_satisfied(&self, generation: u64) -> bool {
        is_recorded(&self.log, self.drained_to) && is_elsewhere(&self.log, generation)
    }
}

fn is_recorded(log: &LogInner, end: Offset) -> bool {
    let state = log.durable_state.get();
    state.drained >= end || state.deleted
}

fn is_elsewhere(log: &LogInner, generation: u64) -> bool {
    let state = log.durable_state.get();
    state.generation > generation || state.deleted
}

impl Schedule {
    fn finish(&mut self, job: Job) {
        match job {
            Job::Drain => self.drains -= 1,
            Job::PrepareWal => self.preparing = false,
            Job::ReleaseWal => self.releasing = false,
            Job::Retention => self.retaining = false,
            Job::Scrub => self.scrubbing = false,
            Job::Compaction { again } => {
                self.compacting = false;
                if again {
                    self.compaction_at = Duration::ZERO;
                }
            }
        }
    }
}
