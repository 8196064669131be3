//! The store of one core: all its logs over one WAL, and the loops that keep them durable.

mod background;
mod commit;
mod cut;
mod drain;
mod open;
pub(crate) mod retention;
pub(crate) mod shared;
pub(crate) mod stats;

use std::rc::Rc;

use heddle_proto::ids::{CoreId, TopicId, TopicPartition};

use crate::disk::Disk;
use crate::error::{IoContext, StorageError};
use crate::layout;
use crate::log::Log;
use crate::log::inner::LogInner;
use crate::options::Options;
use crate::types::{Hooks, LogConfig};
use crate::wal::replay::{self, RecoveredPartitions, WalContents};
use shared::Store;
use stats::Stats;

/// Reads what the WAL directory of core `dir_core` holds, whoever wrote it.
///
/// # Errors
/// If the directory or a file in it cannot be read.
pub async fn replay_wal<D: Disk>(
    disk: &D,
    options: &Options,
    dir_core: u16,
) -> Result<WalContents, StorageError> {
    replay::replay_dir(disk, options, &layout::wal_dir(&options.dir, dir_core)).await
}

/// The cores that have a WAL directory, in order.
///
/// # Errors
/// If the directory cannot be read.
pub async fn list_wal_dirs<D: Disk>(disk: &D, options: &Options) -> Result<Vec<u16>, StorageError> {
    let root = layout::wal_root(&options.dir);
    let entries = disk.list(&root).await.context("list", &root)?;
    let mut cores: Vec<u16> =
        entries.iter().filter(|entry| entry.is_dir).filter_map(|entry| entry.name.parse().ok()).collect();
    cores.sort_unstable();
    Ok(cores)
}

/// Every partition that has a directory, in order. Finishes deletions that a crash interrupted; call it once per start,
/// before the cores open.
///
/// # Errors
/// If a directory cannot be read or a leftover cannot be removed.
pub async fn list_partitions<D: Disk>(
    disk: &D,
    options: &Options,
) -> Result<Vec<TopicPartition>, StorageError> {
    let root = layout::topics_root(&options.dir);
    let mut partitions = Vec::new();
    for topic in disk.list(&root).await.context("list", &root)? {
        let Some(topic) = layout::parse_topic_dir(&topic.name) else { continue };
        let dir = layout::topic_dir(&options.dir, topic);
        for entry in disk.list(&dir).await.context("list", &dir)? {
            if layout::is_trash(&entry.name) {
                let trash = dir.join(&entry.name);
                disk.remove_dir_all(&trash).await.context("remove", &trash)?;
            }
            let partition = layout::parse_partition_dir(&entry.name).filter(|_| entry.is_dir);
            partitions.extend(partition.map(|partition| TopicPartition::new(topic, partition)));
        }
    }
    partitions.sort_unstable();
    Ok(partitions)
}

/// A handle to one core's store. Cheap to clone; lives on that core.
pub struct LogStore<D: Disk> {
    store: Rc<Store<D>>,
    recovered: Rc<[TopicPartition]>,
}

impl<D: Disk> Clone for LogStore<D> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), recovered: self.recovered.clone() }
    }
}

impl<D: Disk> LogStore<D> {
    /// Recovers the logs in `recovered` and opens the store of `core`: batches from the WALs are drained into segments
    /// and fresh state records are durable on return. The old WAL files stay until [`Self::retire_old_wals`].
    ///
    /// # Errors
    /// If the options contradict each other or the disk fails.
    pub async fn open(
        disk: D,
        options: Options,
        core: CoreId,
        recovered: RecoveredPartitions,
        hooks: Rc<dyn Hooks>,
    ) -> Result<Self, StorageError> {
        let (store, names) = open::open(disk, options, core, recovered, hooks).await?;
        Ok(Self { store, recovered: names.into() })
    }

    /// Removes or recycles the WAL files that earlier runs left in the directories of `dirs`. Only after every core of
    /// this node has opened its store: until then they may be the only copy of another core's batches. And before any core
    /// makes a log: they may tell that one of its name was deleted.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn retire_old_wals(&self, dirs: &[u16]) -> Result<(), StorageError> {
        self.store.retire_old_wals(dirs).await
    }

    /// The disk below, also for its clocks.
    pub fn disk(&self) -> &D {
        &self.store.disk
    }

    /// The log of a partition under `config`, made in memory if there is none. No file is made before its first drain.
    pub fn log(&self, partition: TopicPartition, config: LogConfig) -> Log<D> {
        let log = Log { store: self.store.clone(), inner: self.store.log(partition, config) };
        log.set_config(config);
        log
    }

    /// The partitions recovered by [`Self::open`], in order.
    pub fn recovered(&self) -> Vec<TopicPartition> {
        self.recovered.to_vec()
    }

    /// The commit loop: seals groups, writes them, completes them in order, and drains on behalf of producers. Spawn it
    /// once, where latency matters; it never returns `Ok`.
    ///
    /// # Errors
    /// If a durable write fails. The process must exit: what is on disk is known again only after recovery.
    pub async fn run_commit(&self) -> Result<(), StorageError> {
        self.store.run_commit().await
    }

    /// The background loop: drains, prepares and releases WAL files, flushes in time, applies retention, watches free
    /// space. Spawn it once; it never returns `Ok`.
    ///
    /// # Errors
    /// As [`Self::run_commit`].
    pub async fn run_background(&self) -> Result<(), StorageError> {
        self.store.run_background().await
    }

    /// Deletes a partition's log with everything in it. Durable on return; a log of that name that is made from then on, on
    /// this core or another, begins empty. Needs the commit loop to be running.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn delete(&self, partition: TopicPartition) -> Result<(), StorageError> {
        self.store.delete(partition).await
    }

    /// The partitions that have a log in memory, in order.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.store.logs.borrow().keys().copied().collect()
    }

    /// Removes the folder of a topic whose logs have been deleted on every core. Durable on return.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn remove_topic(&self, topic: TopicId) -> Result<(), StorageError> {
        let (disk, root) = (&self.store.disk, layout::topics_root(&self.store.options.dir));
        let dir = layout::topic_dir(&self.store.options.dir, topic);
        match disk.remove_dir_all(&dir).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => {
                removed.context("remove", &dir)?;
                disk.sync_dir(&root).await.context("sync", &root)
            }
        }
    }

    /// Drains everything and records it, so that the next start has little to do. No appends may come meanwhile.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn shutdown(&self) -> Result<(), StorageError> {
        let logs: Vec<Rc<LogInner>> = self.store.logs.borrow().values().cloned().collect();
        for log in logs.iter().filter(|log| !log.deleted.get()) {
            self.store.drain_all(log).await?;
            if log.durable_state.get().drained < log.drained() {
                self.store.request_state(log);
            }
            self.write_active_index(log).await;
        }
        self.store.settle().await
    }

    async fn write_active_index(&self, log: &Rc<LogInner>) {
        let found = {
            let segments = log.segments.borrow();
            let active = segments.active().filter(|active| active.index_from == 0 && active.data_bytes > 0);
            active.and_then(|active| Some((active.base, active.index.clone()?)))
        };
        let Some((base, index)) = found else { return };
        let path = self.store.index_path(log, base);
        self.store.write_index(log, &path, &index).await;
    }

    /// Whether batches of `bytes` fit the budget of undrained bytes now. If not, wait for [`Hooks::budget_freed`].
    pub fn has_room(&self, bytes: usize) -> bool {
        self.store.has_room(bytes)
    }

    /// Whether logs that are patient ([`crate::Log::set_patient`]) use more than their part of the memory for undrained batches: who
    /// can make their senders wait does it now. [`crate::Hooks::budget_freed`] tells when that may have changed.
    pub fn is_behind(&self) -> bool {
        self.store.is_behind()
    }

    /// Whether little of the memory for undrained batches is left: who can make others wait before they send does it now.
    /// [`crate::Hooks::budget_freed`] tells when that may have changed.
    pub fn is_pressed(&self) -> bool {
        self.store.is_pressed()
    }

    /// Whether appends are refused for want of space on the disk.
    pub fn is_full(&self) -> bool {
        self.store.disk_full.get()
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        self.store.stats()
    }
}
