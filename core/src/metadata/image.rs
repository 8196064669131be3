//! The state the cluster agrees on, as an immutable image that every core reads.
//!
//! Images are cheap to copy: topics sit behind `Arc`, so a change clones the maps' pointers only.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ahash::AHashMap;
use heddle_proto::{
    error::ErrorCode,
    ids::{CoreId, Epoch, NodeId, PartitionIndex, ProducerId, TopicId, TopicPartition},
};
use serde::{Deserialize, Serialize};

pub use crate::config::PortMode;

use super::{quota::Quotas, topic_config::TopicConfig};

/// A node as it registered itself at its last start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeImage {
    /// The node's id, chosen by its operator.
    pub id: NodeId,
    /// The host name or address that clients are told.
    pub host: String,
    /// The port of core 0 (per-core) or of the node (single).
    pub port: u16,
    /// How many cores serve.
    pub core_count: u16,
    /// How clients reach them.
    pub port_mode: PortMode,
    /// How many times it has started: a number that no two of its lives share.
    pub life: u32,
    /// Where core 0 hears its peers, as `HOST:PORT`; core n does n ports above. Empty for a node that has none.
    pub peer_address: String,
    /// Where it stands: replicas of a partition go to different racks where there are several. Empty for none.
    pub rack: String,
}

/// Broker ids of one node are spaced this far apart on the Kafka wire, so that every core has its own.
pub const BROKER_IDS_PER_NODE: i32 = 1000;

/// One broker as Kafka and native clients see it: a core of a node, or a whole node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// The id on the wire.
    pub id: i32,
    /// Where to connect.
    pub host: String,
    /// Where to connect.
    pub port: u16,
}

impl NodeImage {
    /// The wire id of one core of this node.
    pub fn broker_id(&self, core: CoreId) -> i32 {
        let base = self.id.get() as i32 * BROKER_IDS_PER_NODE;
        match self.port_mode {
            PortMode::PerCore => base + i32::from(core.get()),
            PortMode::Single => base,
        }
    }

    /// Every broker this node shows to clients.
    pub fn brokers(&self) -> impl Iterator<Item = Broker> + '_ {
        let shown = match self.port_mode {
            PortMode::PerCore => self.core_count,
            PortMode::Single => 1,
        };
        (0..shown).map(|core| Broker {
            id: self.broker_id(CoreId::new(core)),
            host: self.host.clone(),
            port: self.port.saturating_add(core),
        })
    }

    /// Where it stands, if that is said.
    pub fn rack(&self) -> Option<&str> {
        Some(self.rack.as_str()).filter(|rack| !rack.is_empty())
    }

    /// Where a core of this node hears its peers.
    pub fn peer_address_of(&self, core: CoreId) -> Option<String> {
        let (host, port) = self.peer_address.rsplit_once(':')?;
        let port = port.parse::<u16>().ok()?.checked_add(core.get())?;
        Some(format!("{host}:{port}"))
    }
}

/// One replica of a partition: which node has it, and its slot there (see [`core_of`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSlot {
    /// The node's id.
    pub node: u32,
    /// Dealt out in turn per topic and node, so that a small topic spreads over the cores.
    pub slot: u32,
}

/// One partition: where it lives and who leads it in which epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionImage {
    /// All replicas, the preferred primary first.
    pub replicas: Vec<ReplicaSlot>,
    /// Node ids of the in-sync replicas.
    pub isr: Vec<u32>,
    /// Rises with every change of the in-sync replicas.
    pub isr_version: u32,
    /// So many in-sync replicas hold what is committed: what `min.insync.replicas` says as soon as the primary has seen to it,
    /// and at most as many as there are.
    pub quorum: u16,
    /// Node id of the primary; [`NOBODY`] before the first election.
    pub leader: u32,
    /// The life of the primary that leads; where there is one replica, any.
    pub leader_life: u32,
    /// Generation of the leadership.
    pub epoch: i32,
    /// The epoch of the election under way; 0 for none.
    pub electing: i32,
    /// The last epoch that began with an election in which committed records may have been lost; 0 for none.
    pub lossy: i32,
    /// The replicas that are to be while some are on the move (`replicas` has those of before, too); else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<ReplicaSlot>,
    /// The replicas before the move under way; else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origin: Vec<ReplicaSlot>,
    /// Replicas that are in sync and not among `replicas` any more, until the primary has taken them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<ReplicaSlot>,
}

/// The leader of a partition that has none.
pub const NOBODY: u32 = u32::MAX;

impl PartitionImage {
    /// The epoch as its own type.
    pub fn epoch(&self) -> Epoch {
        Epoch::new(self.epoch)
    }
}

/// One topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its id: unique for ever, also when a topic of the same name is created again.
    pub id: TopicId,
    /// What it overrides, as given.
    pub overrides: BTreeMap<String, String>,
    /// The settings in force.
    pub config: TopicConfig,
    /// The partitions, by index.
    pub partitions: Vec<PartitionImage>,
}

impl TopicImage {
    /// Looks a partition up.
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionImage> {
        self.partitions.get(index.get() as usize)
    }

    /// The indexes of all partitions.
    pub fn indexes(&self) -> impl Iterator<Item = PartitionIndex> + use<> {
        (0..self.partitions.len() as u32).map(PartitionIndex::new)
    }
}

/// Everything the cluster agrees on, as of one index of the metadata log.
#[derive(Clone, Debug, Default)]
pub struct ClusterImage {
    /// Identity of the cluster, made once.
    pub cluster_id: Arc<str>,
    /// Index of the last applied command.
    pub index: u64,
    /// Registered nodes.
    pub nodes: BTreeMap<u32, Arc<NodeImage>>,
    /// Nodes that are to give all they have away and get nothing.
    pub draining: BTreeSet<u32>,
    /// Nodes that came and have not got their share yet of what was there before them.
    pub filling: BTreeSet<u32>,
    /// Partitions that an operator has placed while nodes fill: they stay there.
    pub placed_by_hand: BTreeSet<TopicPartition>,
    /// Topics by name.
    pub topics: BTreeMap<Arc<str>, Arc<TopicImage>>,
    /// The same topics by id.
    pub topics_by_id: AHashMap<TopicId, Arc<TopicImage>>,
    /// Deleted topics whose files may still be on disk, with the nodes that have not removed them.
    pub deleting: BTreeMap<TopicId, BTreeSet<u32>>,
    /// The first producer id that was never handed out.
    pub producer_id_next: i64,
    /// Who may use how much.
    pub quotas: Arc<Quotas>,
}

impl ClusterImage {
    /// Finds a topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// Finds a topic by id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics_by_id.get(&id)
    }

    /// How many nodes take new replicas.
    pub fn up_count(&self) -> usize {
        self.nodes.keys().filter(|node| !self.draining.contains(node)).count()
    }

    /// The first producer id never handed out.
    pub fn producer_id_next(&self) -> ProducerId {
        ProducerId::new(self.producer_id_next)
    }

    /// The core that serves a partition on `node`, or `None` when that node has no replica of it.
    pub fn core_on(&self, node: NodeId, at: TopicPartition) -> Option<CoreId> {
        let partition = self.topic_by_id(at.topic)?.partition(at.partition)?;
        let replica = partition.replica_on(node.get())?;
        let core_count = self.nodes.get(&node.get())?.core_count;
        Some(core_of(at.topic, replica.slot, core_count))
    }

    /// The wire id of the broker that has a partition's replica on a node.
    pub fn broker_on(&self, node: NodeId, at: TopicPartition) -> Option<i32> {
        Some(self.nodes.get(&node.get())?.broker_id(self.core_on(node, at)?))
    }

    /// The wire id of the broker that leads a partition, or -1 while there is none.
    pub fn leader_broker(&self, topic: &TopicImage, partition: &PartitionImage) -> i32 {
        if partition.electing != 0 {
            return -1;
        }
        match (partition.replica_on(partition.leader), self.nodes.get(&partition.leader)) {
            (Some(replica), Some(node)) => node.broker_id(core_of(topic.id, replica.slot, node.core_count)),
            _ => -1,
        }
    }

    /// What clients are told beside the id that [`Self::leader_broker`] gave.
    pub fn leader_error(leader: i32) -> ErrorCode {
        if leader < 0 { ErrorCode::LeaderNotAvailable } else { ErrorCode::None }
    }

    /// The node and core that a wire id means; with one port for the node, core 0.
    pub fn broker(&self, id: i32) -> Option<(&NodeImage, CoreId)> {
        let node = self.nodes.get(&u32::try_from(id / BROKER_IDS_PER_NODE).ok()?)?;
        let core = CoreId::new(u16::try_from(id % BROKER_IDS_PER_NODE).ok()?);
        let shown = node.brokers().any(|broker| broker.id == id);
        shown.then_some((node.as_ref(), core))
    }

    /// The wire id of the broker that holds one replica.
    pub fn replica_broker(&self, topic: TopicId, replica: &ReplicaSlot) -> i32 {
        match self.nodes.get(&replica.node) {
            Some(node) => node.broker_id(core_of(topic, replica.slot, node.core_count)),
            None => replica.node as i32 * BROKER_IDS_PER_NODE,
        }
    }
}

/// The core of a node that owns a replica: `(hash(topic) + slot) mod cores`. Everyone can compute it.
pub fn core_of(topic: TopicId, slot: u32, core_count: u16) -> CoreId {
    let hash = topic.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let core = hash.wrapping_add(u64::from(slot)) % u64::from(core_count.max(1));
    CoreId::new(core as u16)
}

/// The smallest slot whose replica [`core_of`] gives to `core`.
pub fn slot_for(topic: TopicId, core: CoreId, core_count: u16) -> u32 {
    let count = u32::from(core_count.max(1));
    let first = u32::from(core_of(topic, 0, core_count).get());
    (u32::from(core.get()) + count - first) % count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_spreads_evenly_over_cores() {
        for cores in 1..9_u16 {
            let mut owned = vec![0_u32; usize::from(cores)];
            for slot in 0..u32::from(cores) * 3 {
                owned[usize::from(core_of(TopicId::new([7; 16]), slot, cores).get())] += 1;
            }
            assert!(owned.iter().all(|count| *count == 3), "{owned:?}");
        }
    }

    #[test]
    fn there_is_a_slot_for_every_core() {
        for (number, cores) in (1..9_u16).enumerate() {
            let id = TopicId::new([number as u8; 16]);
            for core in (0..cores).map(CoreId::new) {
                let slot = slot_for(id, core, cores);
                assert_eq!((core_of(id, slot, cores), slot < u32::from(cores)), (core, true));
            }
        }
    }

    #[test]
    fn broker_ids_follow_the_port_mode() {
        let mut node = NodeImage {
            id: NodeId::new(2),
            host: "h".into(),
            port: 9092,
            core_count: 2,
            port_mode: PortMode::PerCore,
            life: 1,
            peer_address: "h:9192".into(),
            rack: String::new(),
        };
        assert_eq!(node.peer_address_of(CoreId::new(1)).as_deref(), Some("h:9193"));
        let shown: Vec<(i32, u16)> = node.brokers().map(|broker| (broker.id, broker.port)).collect();
        assert_eq!(shown, [(2000, 9092), (2001, 9093)]);
        node.port_mode = PortMode::Single;
        assert_eq!(node.brokers().count(), 1);
        assert_eq!(node.broker_id(CoreId::new(1)), 2000);
    }
}
