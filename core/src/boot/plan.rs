//! What the cores share while they boot: the configuration, meeting points, and what recovery found for whom.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use heddle_log_store::{Options, RecoveredPartition, RecoveredPartitions, WalContents};
use heddle_proto::ids::{CoreId, NodeId, TopicPartition};
use heddle_replication::{io::Promise, message::Life};
use heddle_replication_driver::{
    Peer,
    promises::{Promises, merge},
};
use heddle_replication_transport::{
    Door,
    handshake::{Identity, Secret},
};

use super::{data_dir::DataDir, meeting::Meeting};
use crate::{config::Config, metadata::ClusterImage, shard::homes::Homes};

/// Shared by all cores until they serve.
pub struct Plan {
    /// The node's settings.
    pub config: Arc<Config>,
    /// The data directory, held until the process ends.
    pub data_dir: DataDir,
    /// Core 0 has read the metadata.
    pub metadata_read: Meeting,
    /// Every WAL and every table of promises has been read, and what is in them dealt out to the owners.
    pub wals_read: Meeting,
    /// Every core has the promises of its replicas on disk in its own name.
    pub promises_taken: Meeting,
    /// Every core has what it recovered on disk in its own name.
    pub recovered: Meeting,
    /// The WALs of earlier runs are gone.
    pub retired: Meeting,
    /// Every core is ready to serve.
    pub ready: Meeting,
    /// Every core has committed what it took, and takes no more of what others can lead.
    pub settled: Meeting,
    /// What this node led is led by others, as far as others could.
    pub handed_over: Meeting,
    /// Every core has stopped serving.
    pub stopped: Meeting,
    /// The replicas of every core have stopped.
    pub replicas_stopped: Meeting,
    /// A number that no other process has.
    pub process: [u8; 16],
    secret: Option<Secret>,
    cluster_id: OnceLock<String>,
    life: OnceLock<Life>,
    image: OnceLock<Arc<ClusterImage>>,
    dealt: Vec<Mutex<WalContents>>,
    promises: Vec<Mutex<Promises>>,
    /// Which core has the log of a replica.
    pub homes: Arc<Homes>,
}

impl Plan {
    /// Before any core runs.
    pub fn new(config: Config, data_dir: DataDir, secret: Option<Secret>) -> Plan {
        let cores = config.core_count();
        Plan {
            config: Arc::new(config),
            data_dir,
            metadata_read: Meeting::new(cores),
            wals_read: Meeting::new(cores),
            promises_taken: Meeting::new(cores),
            recovered: Meeting::new(cores),
            retired: Meeting::new(cores),
            ready: Meeting::new(cores),
            settled: Meeting::new(cores),
            handed_over: Meeting::new(cores),
            stopped: Meeting::new(cores),
            replicas_stopped: Meeting::new(cores),
            process: *uuid::Uuid::new_v4().as_bytes(),
            secret,
            cluster_id: OnceLock::new(),
            life: OnceLock::new(),
            image: OnceLock::new(),
            dealt: (0..cores).map(|_| Mutex::default()).collect(),
            promises: (0..cores).map(|_| Mutex::default()).collect(),
            homes: Arc::default(),
        }
    }

    /// Core 0 shows what it read, in which cluster and life.
    pub fn show(&self, cluster_id: String, life: Life, image: Arc<ClusterImage>) {
        let is_first = self.cluster_id.set(cluster_id).is_ok() && self.life.set(life).is_ok();
        assert!(is_first && self.image.set(image).is_ok(), "core 0 reads the metadata once");
    }

    /// Whether core 0 has read the metadata.
    pub fn is_shown(&self) -> bool {
        self.image.get().is_some()
    }

    /// The life that this process is of its node; after core 0 has read the metadata.
    pub fn life(&self) -> Life {
        *self.life.get().expect("core 0 has read the metadata before this stage")
    }

    /// What the nodes of the cluster share, if this node has peers.
    pub fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }

    /// Who a core of this node is to its peers, before its life is known.
    pub fn identity(&self, core: u16, cluster_id: &str) -> Identity {
        let me = Peer { node: NodeId::new(self.config.node_id), core: CoreId::new(core) };
        Identity { cluster: cluster_id.to_owned(), me, life: Life(0), process: self.process }
    }

    /// The door of a core for its peers; after core 0 has read the metadata.
    pub fn door(&self, core: u16) -> Option<Door> {
        let cluster_id = self.cluster_id.get().expect("core 0 has read the metadata before this stage");
        let secret = self.secret.clone()?;
        Some(Door::new(
            self.identity(core, cluster_id),
            secret,
            heddle_replication_transport::Options::default(),
        ))
    }

    /// What core 0 read; after the meeting of that name.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image.get().expect("core 0 has read the metadata before this stage").clone()
    }

    /// Gives what was found of a partition to its owner.
    pub fn deal(&self, core: u16, at: TopicPartition, found: RecoveredPartition) {
        let mut contents = WalContents::default();
        contents.partitions.insert(at, found);
        self.dealt(core, |dealt| dealt.merge(contents));
    }

    /// Takes what was dealt to a core.
    pub fn take(&self, core: u16) -> RecoveredPartitions {
        self.dealt(core, |dealt| std::mem::take(&mut dealt.partitions))
    }

    /// Gives what a replica has promised to its owner.
    pub fn deal_promise(&self, core: CoreId, at: TopicPartition, promise: Promise) {
        merge(&mut self.promises(core), at, promise);
    }

    /// Takes the promises that were dealt to a core.
    pub fn take_promises(&self, core: CoreId) -> Promises {
        std::mem::take(&mut *self.promises(core))
    }

    fn promises(&self, core: CoreId) -> MutexGuard<'_, Promises> {
        self.promises[usize::from(core.get())].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dealt<T>(&self, core: u16, use_it: impl FnOnce(&mut WalContents) -> T) -> T {
        use_it(&mut self.dealt[usize::from(core)].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The pace of one core's replicas.
    pub fn replica_options(&self) -> heddle_replication_driver::Options {
        let mut options = heddle_replication_driver::Options::default();
        options.stream.catch_up_bytes_per_second = self.config.catch_up_bytes_per_second;
        options
    }

    /// The geometry of one core's logs.
    pub fn store_options(&self) -> Options {
        let config = &self.config;
        Options {
            dir: config.data_dir.clone(),
            wal_file_bytes: config.wal_file_bytes,
            wal_files_max: config.wal_files_max,
            groups_in_flight_max: config.groups_in_flight_max,
            direct_drain_bytes: config.direct_drain_bytes as usize,
            dirty_bytes_max: config.dirty_bytes() as usize,
            cache_bytes_max: config.cache_bytes() as usize,
            read_bytes_max: config.read_bytes() as usize,
            reserve_bytes: config.reserve_bytes,
            compaction_map_bytes_max: config.compaction_bytes() as usize,
            compaction_bytes_per_second: config.compaction_bytes_per_second,
            compaction_interval: config.compaction_interval,
            scrub_interval: config.scrub_interval,
            scrub_bytes_per_second: config.scrub_bytes_per_second,
            ..Options::default()
        }
    }
}
