//! A node: a disk, and while it is up a log store and a driver over it, with their futures polled by hand.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use heddle_core::metadata::{ClusterImage, PartitionImage};
use heddle_log_store::disk::{Disk, MemoryDisk};
use heddle_log_store::{
    Hooks, Log, LogConfig, LogId, LogPositions, LogStore, Options as StoreOptions, ReadError,
    RecoveredPartitions, StorageError, SyncMode, WriteTimes, list_partitions, list_wal_dirs, replay_wal,
};
use heddle_proto::ids::{CoreId, Epoch, NodeId, Offset, TopicPartition};
use heddle_replication::history::History;
use heddle_replication::message::Life;
use heddle_replication::replica::Hold;
use heddle_replication::stream;
use heddle_replication_driver::promises::{self, PromiseFiles, Promises};
use heddle_replication_driver::{Done, Driver, JobError, Options, Peer, encode_history, restore_history};

use crate::plan::{Bug, Plan};
use crate::session::Session;

type Deleting = Pin<Box<dyn Future<Output = (TopicPartition, Result<(), StorageError>)>>>;
type Loop = Pin<Box<dyn Future<Output = Result<(), StorageError>>>>;
type Running = Pin<Box<dyn Future<Output = Result<Done, JobError>>>>;
type Reading = Pin<Box<dyn Future<Output = (TopicPartition, Result<Vec<Bytes>, ReadError>)>>>;
type Trimming = Pin<Box<dyn Future<Output = (TopicPartition, Result<Offset, ReadError>)>>>;

/// Sizes so small that every edge is met within seconds.
fn store_options() -> StoreOptions {
    StoreOptions {
        dir: PathBuf::from("/data"),
        wal_file_bytes: 64 << 10,
        wal_files_max: 4,
        group_bytes_max: 16 << 10,
        direct_drain_bytes: 6 << 10,
        io_bytes_max: 16 << 10,
        drain_bytes: 12 << 10,
        drain_bytes_max: 32 << 10,
        dirty_bytes_max: 512 << 10,
        cache_bytes_max: 64 << 10,
        reserve_bytes: 64 << 10,
        index_interval_bytes: 2 << 10,
        read_ahead_bytes_min: 4 << 10,
        read_ahead_bytes_max: 32 << 10,
        preallocate_bytes_max: 64 << 10,
        state_interval_bytes: 48 << 10,
        snapshot_bytes_max: 1 << 10,
        ..StoreOptions::default()
    }
}

/// Sizes of streams that a few small batches fill.
fn driver_options(plan: &Plan) -> Options {
    Options {
        stream: stream::Options {
            window_bytes: 32 << 10,
            catch_up_window_bytes: 12 << 10,
            frame_bytes_max: 4 << 10,
            catch_up_bytes_per_second: 4 << 20, // more than clients write, or nobody ever catches up
            commit_delay: Duration::from_millis(3),
        },
        resend_after: Duration::from_millis(100) + plan.delay_max,
        stuck_after: Duration::from_millis(400),
        lag_max: Duration::from_millis(1500),
    }
}

/// What the log store tells this node: kept until the driver can hear it.
struct NodeHooks {
    durable: RefCell<Vec<LogId>>,
    driver: RefCell<Weak<RefCell<Driver<MemoryDisk>>>>,
    /// What belongs to logs that the driver does not know yet.
    kept: RefCell<BTreeMap<LogId, Bytes>>,
}

impl Hooks for NodeHooks {
    fn durable(&self, log: LogId, _: Offset, _: WriteTimes) {
        self.durable.borrow_mut().push(log);
    }

    fn snapshot(&self, log: LogId) -> Bytes {
        let driver = self.driver.borrow().upgrade();
        let kept = driver.and_then(|driver| driver.borrow().history(log).map(encode_history));
        kept.or_else(|| self.kept.borrow().get(&log).cloned()).unwrap_or_default()
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What there is while the process runs.
pub struct Up {
    /// Which life of the node this is.
    pub life: Life,
    /// Its replicas.
    pub driver: Rc<RefCell<Driver<MemoryDisk>>>,
    /// Its logs.
    pub store: LogStore<MemoryDisk>,
    /// What it hears of the metadata, and says.
    pub session: Session,
    /// What each replica was last told.
    pub told: BTreeMap<TopicPartition, PartitionImage>,
    /// Epochs that replicas are to promise, and when.
    pub late_seals: Vec<(Duration, TopicPartition, Epoch)>,
    /// The metadata when this life began.
    pub at_start: Arc<ClusterImage>,
    /// Where logs are damaged that the disk had lost something of when this life began.
    pub damaged: BTreeMap<TopicPartition, Offset>,
    /// Logs of replicas that have gone elsewhere, while they are being deleted.
    pub deleting: BTreeSet<TopicPartition>,
    /// When the process ends, whether all replicas have stopped by then or not.
    pub ends_at: Option<Duration>,
    hooks: Rc<NodeHooks>,
    deletions: Vec<Deleting>,
    loops: Vec<Loop>,
    jobs: Vec<Running>,
    readings: Vec<Reading>,
    trimmings: Vec<Trimming>,
    /// Replicas that have said that they stopped.
    pub stopped: BTreeSet<TopicPartition>,
    /// Reads that have ended.
    pub read: Vec<(TopicPartition, Result<Vec<Bytes>, ReadError>)>,
}

/// See the module.
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Its disk; it outlives the process, and sometimes does not.
    pub disk: MemoryDisk,
    /// The process, if it runs.
    pub up: Option<Up>,
    /// It does not get any CPU before this time.
    pub paused_until: Duration,
    /// How far its clock is ahead.
    pub clock_ahead: Duration,
    /// Up to where its replicas had their logs on stable storage when the process ended.
    pub kept: BTreeMap<TopicPartition, Offset>,
    /// A mistake planted in it.
    pub bug: Option<Bug>,
    pub(crate) plan: Plan,
}

pub(crate) fn log_config(plan: &Plan) -> LogConfig {
    let sync = match plan.hold {
        Hold::Durable => SyncMode::Wal,
        Hold::Written => SyncMode::Flush { after: Duration::from_millis(50), bytes: 16 << 10 },
    };
    LogConfig { sync, segment_bytes: 40 << 10, ..LogConfig::default() }
}

impl Node {
    /// A node with an empty disk that does not run.
    pub fn new(plan: &Plan, id: NodeId, now: Duration) -> Node {
        let disk = MemoryDisk::new(plan.seed ^ u64::from(id.get()) << 40);
        disk.advance_to(now);
        let bug = plan.bug.filter(|_| id.get() == 0);
        Node {
            id,
            disk,
            up: None,
            paused_until: now,
            clock_ahead: Duration::ZERO,
            kept: BTreeMap::new(),
            bug,
            plan: plan.clone(),
        }
    }

    /// Its clock.
    pub fn clock(&self, now: Duration) -> Duration {
        now + self.clock_ahead
    }

    /// Whether it runs and gets CPU.
    pub fn is_awake(&self, now: Duration) -> bool {
        self.up.is_some() && now >= self.paused_until
    }

    /// The process is killed and the power cut.
    pub fn crash(&mut self) {
        if let Some(up) = self.up.take() {
            self.kept = up.positions(|positions| positions.durable);
        }
        self.disk = self.disk.crash();
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&mut self, now: Duration) {
        self.crash();
        self.kept.clear();
        let seed = self.disk.entropy();
        self.disk = MemoryDisk::new(seed);
        self.disk.advance_to(now);
    }

    /// Starts the process over what the disk holds, in a life that begins with this image.
    ///
    /// # Errors
    /// If the disk refuses, as one that is full does.
    pub fn start(&mut self, now: Duration, life: Life, image: Arc<ClusterImage>) -> Result<(), String> {
        self.disk.set_latency(None);
        let hooks = Rc::new(NodeHooks {
            durable: RefCell::default(),
            driver: RefCell::default(),
            kept: RefCell::default(),
        });
        let disk = self.disk.clone();
        let owner = (self.id, image.clone());
        let files = PromiseFiles::new(disk.clone(), PathBuf::from("/data/promises"));
        let booting = boot((disk, &files), owner, &self.plan, hooks.clone());
        let (store, promises) = self.disk.run(booting).map_err(|error| error.to_string())?;
        let driver = Driver::new(self.id, life, driver_options(&self.plan), store.clone(), files, promises);
        let driver = Rc::new(RefCell::new(driver));
        *hooks.driver.borrow_mut() = Rc::downgrade(&driver);
        let (commit, background) = (store.clone(), store.clone());
        let loops: Vec<Loop> = vec![
            Box::pin(async move { commit.run_commit().await }),
            Box::pin(async move { background.run_background().await }),
        ];
        let clock = self.clock(now);
        let mut up = Up {
            life,
            driver,
            store,
            session: Session::new(clock, (self.id, life), image.clone(), self.plan.bug),
            told: BTreeMap::new(),
            late_seals: Vec::new(),
            at_start: image,
            damaged: BTreeMap::new(),
            deleting: BTreeSet::new(),
            ends_at: None,
            hooks,
            deletions: Vec::new(),
            loops,
            jobs: Vec::new(),
            readings: Vec::new(),
            trimmings: Vec::new(),
            stopped: BTreeSet::new(),
            read: Vec::new(),
        };
        self.mend(&mut up)?;
        let recovered = up.store.recovered();
        up.follow(clock, self.id, &self.plan);
        up.delete_moved(self.id, recovered);
        self.disk.set_latency(Some(Duration::from_micros(50)..Duration::from_micros(1500)));
        self.up = Some(up);
        Ok(())
    }

    /// Cuts logs where the disk has damaged them: what lay behind comes from the primary.
    fn mend(&self, up: &mut Up) -> Result<(), String> {
        for partition in up.store.recovered() {
            if up.at_start.core_on(self.id, partition).is_none() {
                continue;
            }
            let log = up.store.log(partition, log_config(&self.plan));
            let Some(damage) = log.damage() else { continue };
            up.damaged.insert(partition, damage.offset);
            up.keep_history(&log, damage.offset);
            let mut cutting = Box::pin(log.cut(damage.offset));
            let loops = &mut up.loops;
            let outcome = self.disk.run(std::future::poll_fn(|cx| {
                for each in loops.iter_mut() {
                    if let Poll::Ready(result) = each.as_mut().poll(cx) {
                        return Poll::Ready(result);
                    }
                }
                cutting.as_mut().poll(cx)
            }));
            outcome.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Lets everything run that can. `Err` if the disk ended the process.
    ///
    /// # Errors
    /// What the disk said.
    pub fn run(&mut self, now: Duration) -> Result<(), String> {
        let clock = self.clock(now);
        self.disk.advance_to(clock);
        let bug = self.bug;
        let Some(up) = self.up.as_mut() else { return Ok(()) };
        let (id, plan) = (self.id, &self.plan);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        // Each round something moved; a node that never comes to rest is a bug of its own.
        for _ in 0..10_000 {
            let jobs = up.driver.borrow_mut().jobs();
            let has_jobs = !jobs.is_empty();
            up.jobs.extend(jobs.into_iter().map(|job| Box::pin(job.run()) as Running));
            if !woken.0.swap(false, Ordering::Relaxed) && !has_jobs {
                return Ok(());
            }
            up.poll(&mut cx, clock, (id, plan, bug))?;
        }
        panic!("node {} never comes to rest at {now:?}", self.id);
    }

    /// Begins to read from a log; the answer comes in [`Up::read`].
    pub fn read(&mut self, partition: TopicPartition, from: Offset, upto: Offset) {
        let Some(up) = self.up.as_mut() else { return };
        let Some(log) = up.driver.borrow().log(partition).cloned() else { return };
        up.readings.push(Box::pin(async move { (partition, log.read(from, upto, 16 << 10).await) }));
    }

    /// Begins to remove what lies before `before` from a log.
    pub fn trim(&mut self, partition: TopicPartition, before: Offset) {
        let Some(up) = self.up.as_mut() else { return };
        let Some(log) = up.driver.borrow().log(partition).cloned() else { return };
        up.trimmings.push(Box::pin(async move { (partition, log.delete_records(before).await) }));
    }
}

/// The only core of a node.
pub fn peer(node: NodeId) -> Peer {
    Peer { node, core: CoreId::new(0) }
}

impl Up {
    /// A position in the log of each replica.
    pub fn positions(&self, which: impl Fn(LogPositions) -> Offset) -> BTreeMap<TopicPartition, Offset> {
        let driver = self.driver.borrow();
        let logs = self.told.keys().filter_map(|at| Some((*at, driver.log(*at)?.positions())));
        logs.map(|(at, positions)| (at, which(positions))).collect()
    }

    /// What is kept with a log until the driver knows it: which epochs it is made of up to here.
    pub(crate) fn keep_history(&self, log: &Log<MemoryDisk>, end: Offset) -> History {
        let (snapshot, headers) = log.recovered_state();
        let history = restore_history(snapshot.as_deref(), &headers, end);
        self.hooks.kept.borrow_mut().insert(log.id(), encode_history(&history));
        history
    }

    /// Begins to delete a log.
    pub(crate) fn delete(&mut self, partition: TopicPartition) {
        let store = self.store.clone();
        self.deletions.push(Box::pin(async move { (partition, store.delete(partition).await) }));
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: Duration,
        (id, plan, bug): (NodeId, &Plan, Option<Bug>),
    ) -> Result<(), String> {
        for each in &mut self.loops {
            if let Poll::Ready(result) = each.as_mut().poll(cx) {
                return result.map_err(|error| error.to_string());
            }
        }
        for log in std::mem::take(&mut *self.hooks.durable.borrow_mut()) {
            self.driver.borrow_mut().durable(clock, log);
        }
        for done in take_ready(&mut self.jobs, cx) {
            let done = done.map_err(|error| error.to_string())?;
            if bug == Some(Bug::DeafToPromises) && matches!(done, Done::Promises) {
                continue;
            }
            self.driver.borrow_mut().done(clock, done);
            cx.waker().wake_by_ref();
        }
        for (partition, _) in take_ready(&mut self.deletions, cx) {
            self.deleting.remove(&partition);
            // Meanwhile it may have been given back. What could not be deleted stays until the next start.
            self.follow(clock, id, plan);
            cx.waker().wake_by_ref();
        }
        take_ready(&mut self.trimmings, cx); // the driver comes upon what they did
        let read = take_ready(&mut self.readings, cx);
        self.read.extend(read);
        Ok(())
    }
}

fn take_ready<T>(running: &mut Vec<Pin<Box<dyn Future<Output = T>>>>, cx: &mut Context<'_>) -> Vec<T> {
    let mut done = Vec::new();
    running.retain_mut(|each| match each.as_mut().poll(cx) {
        Poll::Ready(output) => {
            done.push(output);
            false
        }
        Poll::Pending => true,
    });
    done
}

/// Opens the store and takes up the promises. Where frames are lost no log can be sure to be whole. Of logs that have no replica
/// here there is only the name left.
async fn boot(
    (disk, files): (MemoryDisk, &PromiseFiles<MemoryDisk>),
    (node, image): (NodeId, Arc<ClusterImage>),
    plan: &Plan,
    hooks: Rc<NodeHooks>,
) -> std::io::Result<(LogStore<MemoryDisk>, Option<(Promises, u64)>)> {
    let failed = |error: StorageError| std::io::Error::other(error.to_string());
    let options = store_options();
    let dirs = list_wal_dirs(&disk, &options).await.map_err(failed)?;
    let mut recovered = RecoveredPartitions::new();
    let mut lost = false;
    for partition in list_partitions(&disk, &options).await.map_err(failed)? {
        recovered.insert(partition, Default::default());
    }
    for dir in &dirs {
        let contents = replay_wal(&disk, &options, *dir).await.map_err(failed)?;
        lost |= !contents.lost_frames.is_empty() || contents.damaged_entries > 0;
        let mine = contents.partitions.into_iter().filter(|(at, _)| image.core_on(node, *at).is_some());
        if plan.bug != Some(Bug::ForgetsWrites) {
            recovered.extend(mine);
        }
    }
    let store = LogStore::open(disk, options, CoreId::new(0), recovered, hooks).await.map_err(failed)?;
    let is_damaged = |at: &TopicPartition| lost || store.log(*at, log_config(plan)).damage().is_some();
    let promises = take_promises(files, (node, &image), is_damaged).await?;
    store.retire_old_wals(&dirs).await.map_err(failed)?;
    Ok((store, promises))
}

/// What the replicas of this node have promised; those that are elsewhere now have nothing to keep.
async fn take_promises(
    files: &PromiseFiles<MemoryDisk>,
    (node, image): (NodeId, &ClusterImage),
    is_damaged: impl Fn(&TopicPartition) -> bool,
) -> std::io::Result<Option<(Promises, u64)>> {
    let Some((found, number)) = files.read().await? else { return Ok(None) };
    let mut promises = found.clone();
    promises.retain(|at, _| image.core_on(node, *at).is_some());
    let damaged: Vec<TopicPartition> = promises.keys().copied().filter(is_damaged).collect();
    promises::doubt(&mut promises, damaged);
    let number = if promises == found { number } else { files.replace(&promises, number).await? };
    Ok(Some((promises, number)))
}
