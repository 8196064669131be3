//! A world of stores over one in-memory disk, with the owner's side of the contract: hooks, snapshots, and the loops.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use heddle_log_store::{
    Disk, Hooks, Log, LogConfig, LogId, LogStore, MemoryDisk, Options, RecoveredPartitions, StorageError,
    WalContents, WriteTimes, list_partitions, list_wal_dirs, replay_wal,
};
use heddle_proto::batch::{self, BatchBuilder, BatchHeader, Compression};
use heddle_proto::ids::{
    CoreId, Epoch, Offset, PartitionIndex, ProducerId, Timestamp, TopicId, TopicPartition,
};

/// Sizes so small that every edge is met within a few operations.
pub fn tiny() -> Options {
    Options {
        dir: PathBuf::from("/data"),
        wal_file_bytes: 32 << 10,
        wal_files_max: 4,
        group_bytes_max: 16 << 10,
        groups_in_flight_max: 3,
        direct_drain_bytes: 6 << 10,
        direct_drains_in_flight_max: 2,
        io_bytes_max: 16 << 10,
        io_in_flight_max: 3,
        background_io_bytes_max: 8 << 10,
        background_ios_in_flight_max: 2,
        read_ios_in_flight_max: 2,
        drain_bytes: 24 << 10,
        drain_bytes_max: 32 << 10,
        drains_in_flight_max: 2,
        dirty_bytes_max: 160 << 10,
        cache_bytes_max: 16 << 10,
        reserve_bytes: 64 << 10,
        index_interval_bytes: 2 << 10,
        index_cache_bytes_max: 1 << 10,
        open_files_max: 3,
        read_ahead_bytes_min: 4 << 10,
        read_ahead_bytes_max: 32 << 10,
        read_cursors_max: 2,
        read_bytes_max: 128 << 10,
        preallocate_bytes_max: 64 << 10,
        state_interval_bytes: 48 << 10,
        snapshot_bytes_max: 1 << 10,
        recoveries_in_flight_max: 3,
        compaction_interval: Duration::from_millis(300),
        compaction_map_bytes_max: 400,
        compaction_io_bytes: 8 << 10,
        compaction_bytes_per_second: 2 << 20,
        scrub_interval: Duration::from_secs(2),
        ..Options::default()
    }
}

pub fn partition(index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::new([index as u8 % 3 + 1; 16]), PartitionIndex::new(index))
}

/// A batch of `record_count` records whose content follows from its place, about `bytes` long.
pub fn make_batch(
    base: Offset,
    epoch: i32,
    record_count: u32,
    bytes: usize,
    timestamp: i64,
) -> (Bytes, BatchHeader) {
    let mut builder = BatchBuilder::new(Compression::None);
    let each = (bytes / record_count as usize).max(1);
    for index in 0..record_count {
        let seed = base.get() as u8 ^ (index as u8).wrapping_mul(31);
        let value: Vec<u8> = (0..each).map(|at| seed.wrapping_add(at as u8)).collect();
        builder.push(Timestamp::new(timestamp + i64::from(index)), None, Some(&value), &[]).unwrap();
    }
    let mut bytes = builder.build().unwrap();
    batch::assign(&mut bytes, base, Epoch::new(epoch));
    let header = BatchHeader::parse(&bytes).unwrap();
    (bytes.freeze(), header)
}

/// What the owner of a log keeps beside it: here only how much it appended.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnerState {
    pub batches: u64,
    pub end: i64,
}

impl OwnerState {
    pub fn add(&mut self, header: &BatchHeader) {
        assert_eq!(self.end, header.base_offset.get(), "the owner sees every batch once and in order");
        self.batches += 1;
        self.end = header.next_offset().get();
    }

    fn encode(self) -> Bytes {
        [self.batches.to_le_bytes(), self.end.to_le_bytes()].concat().into()
    }

    pub fn decode(bytes: &[u8]) -> Self {
        let number = |range: std::ops::Range<usize>| u64::from_le_bytes(bytes[range].try_into().unwrap());
        Self { batches: number(0..8), end: number(8..16) as i64 }
    }
}

#[derive(Default)]
pub struct Owner {
    pub durable: RefCell<BTreeMap<LogId, Offset>>,
    pub states: RefCell<BTreeMap<LogId, OwnerState>>,
    /// Where the last batch of each producer begins.
    pub last_batches: RefCell<BTreeMap<(LogId, ProducerId), Offset>>,
}

impl Hooks for Owner {
    fn durable(&self, log: LogId, upto: Offset, _: WriteTimes) {
        let last = self.durable.borrow_mut().insert(log, upto);
        assert!(last.is_none_or(|last| last < upto), "durable went from {last:?} to {upto}");
    }

    fn snapshot(&self, log: LogId) -> Bytes {
        self.states.borrow().get(&log).copied().unwrap_or_default().encode()
    }

    fn is_last_of_producer(&self, log: LogId, batch: &BatchHeader) -> bool {
        let last = self.last_batches.borrow().get(&(log, batch.producer_id)).copied();
        last == Some(batch.base_offset)
    }
}

type Loop = Pin<Box<dyn Future<Output = Result<(), StorageError>>>>;

pub struct Node {
    pub store: LogStore<MemoryDisk>,
    pub owner: Rc<Owner>,
}

pub struct World {
    pub disk: MemoryDisk,
    pub options: Options,
    pub nodes: Vec<Node>,
    loops: Vec<Loop>,
}

/// Virtual time after which an operation counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1800);

impl World {
    /// An empty disk with `cores` stores.
    pub fn new(seed: u64, options: Options, cores: u16) -> Self {
        let disk = MemoryDisk::new(seed);
        let mut world = Self { disk, options, nodes: Vec::new(), loops: Vec::new() };
        let contents = world.open(cores).unwrap();
        assert!(contents.partitions.is_empty());
        world
    }

    /// Stops every store where it stands; nothing in memory survives.
    pub fn abandon(&mut self) {
        self.loops.clear();
        self.nodes.clear();
    }

    pub fn crash(&mut self) {
        let disk = self.disk.crash();
        self.abandon();
        self.disk = disk;
    }

    /// Boots `cores` stores from the disk. Lost frames are an error of the caller's to judge.
    pub fn open(&mut self, cores: u16) -> Result<WalContents, StorageError> {
        let (nodes, contents) = self.disk.run(boot(self.disk.clone(), self.options.clone(), cores))?;
        for node in &nodes {
            let (commit, background) = (node.store.clone(), node.store.clone());
            self.loops.push(Box::pin(async move { commit.run_commit().await }));
            self.loops.push(Box::pin(async move { background.run_background().await }));
        }
        self.nodes = nodes;
        Ok(contents)
    }

    /// Begins to boot and stops after so many steps. Returns whether it came to its end.
    pub fn open_for(&mut self, cores: u16, polls: u32) -> bool {
        let boot = boot(self.disk.clone(), self.options.clone(), cores);
        self.disk.run(for_polls(polls, pin!(boot))).is_some()
    }

    pub fn node(&self, partition: TopicPartition) -> &Node {
        &self.nodes[owner_of(partition, self.nodes.len() as u16)]
    }

    pub fn log(&self, partition: TopicPartition, config: LogConfig) -> Log<MemoryDisk> {
        self.node(partition).store.log(partition, config)
    }

    /// Runs `work` with all loops behind it. `Err` if a loop reports a broken disk first.
    pub fn try_run<T>(&mut self, work: impl Future<Output = T>) -> Result<T, StorageError> {
        let mut work = pin!(work);
        let loops = &mut self.loops;
        let disk = self.disk.clone();
        let deadline = disk.now() + STUCK_AFTER;
        self.disk.run(std::future::poll_fn(|cx| {
            assert!(disk.now() < deadline, "the operation is stuck");
            for each in loops.iter_mut() {
                if let Poll::Ready(result) = each.as_mut().poll(cx) {
                    return Poll::Ready(Err(result.expect_err("the loops never end well")));
                }
            }
            work.as_mut().poll(cx).map(Ok)
        }))
    }

    pub fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.try_run(work).unwrap()
    }

    /// Runs `work` with all loops behind it, for so many steps at most.
    pub fn run_for<T>(&mut self, polls: u32, work: &mut Pin<Box<dyn Future<Output = T>>>) -> Option<T> {
        self.run(for_polls(polls, work.as_mut()))
    }

    pub fn wait(&mut self, duration: Duration) {
        let sleep = self.disk.sleep(duration);
        self.run(sleep);
    }
}

/// Polls `work` so many times, at least once.
fn for_polls<T, F: Future<Output = T> + ?Sized>(
    polls: u32,
    mut work: Pin<&mut F>,
) -> impl Future<Output = Option<T>> {
    let mut left = polls;
    std::future::poll_fn(move |cx| {
        left = left.saturating_sub(1);
        match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
}

pub fn owner_of(partition: TopicPartition, cores: u16) -> usize {
    partition.partition.get() as usize % usize::from(cores)
}

async fn boot(
    disk: MemoryDisk,
    options: Options,
    cores: u16,
) -> Result<(Vec<Node>, WalContents), StorageError> {
    let dirs = list_wal_dirs(&disk, &options).await?;
    let mut contents = WalContents::default();
    for dir in &dirs {
        contents.merge(replay_wal(&disk, &options, *dir).await?);
    }
    if !contents.lost_frames.is_empty() {
        return Ok((Vec::new(), contents));
    }
    let mut parts: Vec<RecoveredPartitions> = vec![RecoveredPartitions::new(); usize::from(cores)];
    for partition in list_partitions(&disk, &options).await? {
        parts[owner_of(partition, cores)].entry(partition).or_default();
    }
    for (partition, found) in &contents.partitions {
        parts[owner_of(*partition, cores)].insert(*partition, found.clone());
    }
    let mut nodes = Vec::new();
    for (core, recovered) in parts.into_iter().enumerate() {
        let owner = Rc::new(Owner::default());
        let core = CoreId::new(core as u16);
        let store = LogStore::open(disk.clone(), options.clone(), core, recovered, owner.clone()).await?;
        nodes.push(Node { store, owner });
    }
    for (core, node) in nodes.iter().enumerate() {
        let own: Vec<u16> =
            dirs.iter().copied().filter(|dir| usize::from(*dir) % nodes.len() == core).collect();
        node.store.retire_old_wals(&own).await?;
    }
    Ok((nodes, contents))
}
