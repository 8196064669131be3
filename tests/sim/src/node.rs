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
use heddle_log_store::disk::{Disk, MemoryDisk};
use heddle_log_store::{
    Hooks, LogConfig, LogId, LogStore, Options as StoreOptions, ReadError, RecoveredPartitions, StorageError,
    SyncMode, WriteTimes, list_partitions, list_wal_dirs, replay_wal,
};
use heddle_proto::ids::{CoreId, NodeId, Offset, TopicPartition};
use heddle_replication::message::Life;
use heddle_replication::replica::{Config, Hold};
use heddle_replication::rules::Rules;
use heddle_replication::stream;
use heddle_replication_driver::promises::PromiseFiles;
use heddle_replication_driver::{
    Done, Driver, JobError, Options, Peer, Placement, encode_history, restore_history,
};

use crate::controller::Controller;
use crate::plan::{Bug, Plan};

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
    hooks: Rc<NodeHooks>,
    loops: Vec<Loop>,
    jobs: Vec<Running>,
    readings: Vec<Reading>,
    trimmings: Vec<Trimming>,
    /// Replicas that have said that they stopped.
    pub stopped: u32,
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
    /// A mistake planted in it.
    pub bug: Option<Bug>,
    plan: Plan,
}

fn log_config(plan: &Plan) -> LogConfig {
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
        Node { id, disk, up: None, paused_until: now, clock_ahead: Duration::ZERO, bug, plan: plan.clone() }
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
        self.up = None;
        self.disk = self.disk.crash();
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&mut self, now: Duration) {
        self.crash();
        let seed = self.disk.entropy();
        self.disk = MemoryDisk::new(seed);
        self.disk.advance_to(now);
    }

    /// Starts the process over what the disk holds.
    ///
    /// # Errors
    /// If the disk refuses, as one that is full does.
    pub fn start(
        &mut self,
        now: Duration,
        controller: &mut Controller,
        partitions: &[TopicPartition],
    ) -> Result<(), String> {
        self.disk.set_latency(None);
        let life = controller.register(now, self.id);
        let hooks = Rc::new(NodeHooks {
            durable: RefCell::default(),
            driver: RefCell::default(),
            kept: RefCell::default(),
        });
        let disk = self.disk.clone();
        let booted = self.disk.run(boot(disk.clone(), hooks.clone())).map_err(|error| error.to_string())?;
        let (store, lost) = booted;
        let files = PromiseFiles::new(disk.clone(), PathBuf::from("/data/promises"));
        let promises = self.disk.run(files.read()).map_err(|error| error.to_string())?;
        let options = driver_options(&self.plan);
        let driver = Driver::new(self.id, life, options, store.clone(), files, promises);
        let driver = Rc::new(RefCell::new(driver));
        *hooks.driver.borrow_mut() = Rc::downgrade(&driver);
        let (commit, background) = (store.clone(), store.clone());
        let loops: Vec<Loop> = vec![
            Box::pin(async move { commit.run_commit().await }),
            Box::pin(async move { background.run_background().await }),
        ];
        let (jobs, readings, trimmings, read) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut up = Up { life, driver, store, hooks, loops, jobs, readings, trimmings, stopped: 0, read };
        for partition in partitions {
            self.host(now, &mut up, controller, *partition, lost)?;
        }
        self.disk.set_latency(Some(Duration::from_micros(50)..Duration::from_micros(1500)));
        self.up = Some(up);
        Ok(())
    }

    fn host(
        &self,
        now: Duration,
        up: &mut Up,
        controller: &Controller,
        partition: TopicPartition,
        lost: bool,
    ) -> Result<(), String> {
        let log = up.store.log(partition, log_config(&self.plan));
        let (snapshot, headers) = log.recovered_state();
        let damage = log.damage();
        let end = damage.as_ref().map_or(log.positions().written, |damage| damage.offset);
        let history = restore_history(snapshot.as_deref(), &headers, end);
        up.hooks.kept.borrow_mut().insert(log.id(), encode_history(&history));
        if damage.is_some() {
            // What lies behind the damage comes from the primary.
            let mut cutting = Box::pin(log.cut(end));
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
        let (newest_epoch, was_led) = controller.newest(partition);
        let config = Config { hold: self.plan.hold, catch_up_records_max: 40, rules: Rules::default() };
        let placement = Placement {
            partition,
            config,
            replicas: controller.replicas(partition).clone(),
            cores: cores_of(controller.replicas(partition), controller.members(partition)),
            history,
            is_damaged: damage.is_some() || lost,
            newest_epoch,
            was_led,
        };
        up.driver.borrow_mut().add(self.clock(now), placement, log);
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
            up.poll(&mut cx, clock, bug)?;
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

/// A node has one core here.
pub fn cores_of(replicas: &BTreeSet<NodeId>, members: &BTreeSet<NodeId>) -> BTreeMap<NodeId, CoreId> {
    replicas.union(members).map(|node| (*node, CoreId::new(0))).collect()
}

/// The only core of a node.
pub fn peer(node: NodeId) -> Peer {
    Peer { node, core: CoreId::new(0) }
}

impl Up {
    fn poll(&mut self, cx: &mut Context<'_>, clock: Duration, bug: Option<Bug>) -> Result<(), String> {
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
        for (partition, start) in take_ready(&mut self.trimmings, cx) {
            let mut driver = self.driver.borrow_mut();
            let known = driver.replica(partition).map(|replica| (replica.committed(), replica.log().durable));
            if let (Ok(start), Some((committed, durable))) = (start, known)
                && start <= committed
                && start <= durable
            {
                driver.retained(clock, partition, start);
            }
        }
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

/// Opens the store; also says whether frames are lost, so that no log can be sure to be whole.
async fn boot(disk: MemoryDisk, hooks: Rc<NodeHooks>) -> Result<(LogStore<MemoryDisk>, bool), StorageError> {
    let options = store_options();
    let dirs = list_wal_dirs(&disk, &options).await?;
    let mut recovered = RecoveredPartitions::new();
    let mut lost = false;
    for partition in list_partitions(&disk, &options).await? {
        recovered.insert(partition, Default::default());
    }
    for dir in &dirs {
        let contents = replay_wal(&disk, &options, *dir).await?;
        lost |= !contents.lost_frames.is_empty() || contents.damaged_entries > 0;
        recovered.extend(contents.partitions);
    }
    let store = LogStore::open(disk, options, CoreId::new(0), recovered, hooks).await?;
    store.retire_old_wals(&dirs).await?;
    Ok((store, lost))
}
