//! What one core owns: its partitions over its log store, its view of the metadata, and its way to the other cores.
//!
//! Both front doors call the operations defined here ([`produce`], [`fetch`], [`offsets`], [`topics`]); each operation
//! runs here when this core owns the partition and crosses the mesh when another does. Lives on one core as an `Rc`;
//! after a crash everything here is rebuilt from the log store and the metadata log.

pub mod apply;
pub mod fetch;
pub mod fetch_set;
pub mod groups;
pub mod hand_over;
pub mod handoff;
pub mod homes;
pub mod hooks;
pub mod news;
pub mod offsets;
pub mod produce;
pub mod producer_ids;
pub mod quotas;
pub mod replicas;
pub mod request;
pub mod serve;
pub mod topics;
pub mod transactional;
pub mod transactions;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use ahash::{AHashMap, AHashSet};
use heddle_log_store::{Disk, LogStore};
use heddle_net::{outbox::budget::Budget, socket::ShutdownHandle};
use heddle_proto::{
    error::ErrorCode,
    ids::{CoreId, NodeId, TopicId, TopicPartition},
};

use crate::{
    admin::metrics::CoreMetrics,
    cluster::session::Session,
    config::Config,
    kafka::sessions::Sessions,
    metadata::{ClusterImage, image::NOBODY},
    partition::Partition,
    runtime::{Queues, event::Waiters, mesh::Mesh},
};
use hooks::ShardHooks;
use request::{CoreReply, CoreRequest, OpError};

/// The mesh with this broker's messages.
pub type ShardMesh = Mesh<CoreRequest, CoreReply>;

/// One core's share of the broker.
pub struct Shard<D: Disk> {
    /// The node's settings.
    pub config: Arc<Config>,
    /// This node.
    pub node: NodeId,
    /// This core's task queues.
    pub queues: Queues,
    /// The other cores.
    pub mesh: ShardMesh,
    /// The logs of this core's partitions.
    pub store: LogStore<D>,
    /// Counters and histograms of this core.
    pub metrics: Rc<CoreMetrics>,
    /// The way to the metadata, on core 0 only.
    pub metadata: Option<Rc<Session<D>>>,
    /// The coordinators of consumer groups on this core.
    pub groups: groups::Groups<D>,
    /// The coordinators of transactional producers on this core.
    pub transactions: transactional::Transactions<D>,
    /// Memory for what is read for connections and not sent yet.
    pub unsent: Rc<Budget>,
    image: RefCell<Arc<ClusterImage>>,
    partitions: RefCell<AHashMap<TopicPartition, Rc<Partition<D>>>>,
    hooks: Rc<ShardHooks<D>>,
    producer_ids: producer_ids::Block,
    /// What clients used of their quotas.
    pub quotas: quotas::QuotaState,
    /// Fetch sessions of Kafka clients.
    pub sessions: Sessions,
    /// Readers of sockets that wait for memory.
    room: Rc<Waiters>,
    connections: RefCell<AHashMap<u64, ShutdownHandle>>,
    connection_next: Cell<u64>,
    deletions: RefCell<AHashSet<TopicId>>,
    stopping: Cell<bool>,
    /// Others are to lead what this node leads: see [`hand_over`].
    handing_over: Cell<bool>,
    /// The replicas of this core.
    pub replicas: replicas::Replicas<D>,
}

/// What a shard is made of.
pub struct ShardParts<D: Disk> {
    /// The node's settings.
    pub config: Arc<Config>,
    /// This core's task queues.
    pub queues: Queues,
    /// The other cores.
    pub mesh: ShardMesh,
    /// The opened log store.
    pub store: LogStore<D>,
    /// Its callbacks.
    pub hooks: Rc<ShardHooks<D>>,
    /// Counters of this core.
    pub metrics: Rc<CoreMetrics>,
    /// The way to the metadata, on core 0.
    pub metadata: Option<Rc<Session<D>>>,
    /// The metadata to start with.
    pub image: Arc<ClusterImage>,
    /// The replicas, of which there are none yet.
    pub replicas: replicas::Replicas<D>,
}

impl<D: Disk> Shard<D> {
    /// Puts a shard together. Partitions come to life when they are first used.
    pub fn new(parts: ShardParts<D>) -> Rc<Shard<D>> {
        let room = parts.hooks.room();
        let quotas = quotas::QuotaState::default();
        quotas.apply(&parts.image.quotas);
        Rc::new(Shard {
            node: NodeId::new(parts.config.node_id),
            unsent: Budget::new(usize::try_from(parts.config.connection_bytes()).unwrap_or(usize::MAX)),
            transactions: transactional::Transactions::default(),
            groups: groups::Groups::new(parts.config.groups.clone()),
            config: parts.config,
            queues: parts.queues,
            mesh: parts.mesh,
            store: parts.store,
            metrics: parts.metrics,
            metadata: parts.metadata,
            image: RefCell::new(parts.image),
            partitions: RefCell::default(),
            hooks: parts.hooks,
            producer_ids: producer_ids::Block::default(),
            quotas,
            sessions: Sessions::default(),
            room,
            connections: RefCell::default(),
            connection_next: Cell::new(0),
            deletions: RefCell::default(),
            stopping: Cell::new(false),
            handing_over: Cell::new(false),
            replicas: parts.replicas,
        })
    }

    /// Which core this is.
    pub fn core(&self) -> CoreId {
        self.mesh.me()
    }

    /// The newest metadata this core knows.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image.borrow().clone()
    }

    /// The wire id of the broker that this core shows itself as.
    pub fn broker_id(&self) -> i32 {
        let image = self.image.borrow();
        image.nodes.get(&self.node.get()).map_or(-1, |node| node.broker_id(self.core()))
    }

    /// How many partitions are in use on this core.
    pub fn partition_count(&self) -> usize {
        self.partitions.borrow().len()
    }

    /// The core of this node that owns a partition.
    ///
    /// # Errors
    /// When there is no such partition, or another node leads it.
    pub fn owner(&self, at: TopicPartition) -> Result<CoreId, OpError> {
        if self.partitions.borrow().get(&at).is_some_and(|partition| partition.leads()) {
            return Ok(self.core());
        }
        let image = self.image.borrow();
        let partition = image
            .topic_by_id(at.topic)
            .and_then(|topic| topic.partition(at.partition))
            .ok_or_else(|| unknown_partition(at))?;
        if partition.electing != 0 || partition.leader == NOBODY {
            return Err(OpError::new(ErrorCode::NotLeaderOrFollower, "a leader is being elected"));
        }
        if partition.leader != self.node.get() {
            return Err(OpError::new(
                ErrorCode::NotLeaderOrFollower,
                format!("node {} leads this partition", partition.leader),
            ));
        }
        image.core_on(self.node, at).ok_or_else(|| unknown_partition(at))
    }

    /// A partition of this core, brought to life if it was not used yet.
    ///
    /// # Errors
    /// When this core does not own it.
    pub fn partition(&self, at: TopicPartition) -> Result<Rc<Partition<D>>, OpError> {
        if let Some(partition) = self.partitions.borrow().get(&at).filter(|partition| partition.leads()) {
            return Ok(partition.clone());
        }
        if self.owner(at)? != self.core() {
            return Err(OpError::new(ErrorCode::NotLeaderOrFollower, "another core owns this partition"));
        }
        if let Some(partition) = self.partitions.borrow().get(&at) {
            return Err(OpError::new(
                ErrorCode::NotLeaderOrFollower,
                format!("this replica of {} does not lead yet", partition.topic),
            ));
        }
        Ok(self.open(at))
    }

    fn open(&self, at: TopicPartition) -> Rc<Partition<D>> {
        let image = self.image();
        let topic = image.topic_by_id(at.topic).expect("its owner was found in the same image");
        let found = topic.partition(at.partition).expect("its owner was found in the same image");
        let config = Arc::new(topic.config.clone());
        let log = self.store.log(at, config.log);
        let id = log.id();
        let runner = found.is_replicated().then(|| self.replicas.runner().clone());
        let partition = Partition::new(at, topic.name.clone(), log, found.epoch(), config, runner);
        self.hooks.attach(id, &partition);
        self.partitions.borrow_mut().insert(at, partition.clone());
        partition
    }

    /// Whether the core is being stopped: connections end, nothing new is taken.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Waits until there is memory for `bytes` more of unwritten records.
    pub async fn wait_for_room(&self, bytes: usize) {
        while !self.store.has_room(bytes) && !self.is_stopping() {
            self.metrics.reads_paused.add(1);
            let event = crate::runtime::event::Event::new();
            self.room.add(&event);
            event.wait().await;
        }
    }

    /// Takes a connection in, unless there are too many.
    pub fn admit_connection(self: &Rc<Self>, handle: ShutdownHandle) -> Option<Admission<D>> {
        if self.connection_count() >= self.config.connections_max || self.is_stopping() {
            self.metrics.connections_refused.add(1);
            return None;
        }
        let id = self.connection_next.get();
        self.connection_next.set(id + 1);
        self.connections.borrow_mut().insert(id, handle);
        self.metrics.connections_opened.add(1);
        Some(Admission { shard: self.clone(), id })
    }

    /// How many connections are open.
    pub fn connection_count(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Handles that end the open connections.
    pub fn connections(&self) -> Vec<ShutdownHandle> {
        self.connections.borrow().values().cloned().collect()
    }
}

/// An open connection's place among the others; given back when dropped.
pub struct Admission<D: Disk> {
    shard: Rc<Shard<D>>,
    id: u64,
}

impl<D: Disk> Drop for Admission<D> {
    fn drop(&mut self) {
        self.shard.connections.borrow_mut().remove(&self.id);
    }
}

fn unknown_partition(at: TopicPartition) -> OpError {
    OpError::new(
        ErrorCode::UnknownTopicOrPartition,
        format!("there is no partition {} of topic {}", at.partition, at.topic),
    )
}
