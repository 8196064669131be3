//! Which nodes and slots new partitions get: [`heddle_replication::placement`], asked about the image.
//!
//! Every node that applies a command asks the same of the same image, so all get the same answer.

use std::collections::{BTreeMap, BTreeSet};

use heddle_proto::ids::{NodeId, PartitionIndex, TopicId, TopicPartition};
use heddle_replication::placement::{self, Node, NodeState, Nodes, PlaceError, Placement};

use super::{
    command::{MetadataError, Outcome},
    filling,
    image::{ClusterImage, PartitionImage, ReplicaSlot, TopicImage},
};

/// The registered nodes as placement sees them: those that are drained take nothing.
pub fn nodes(image: &ClusterImage) -> Nodes {
    let node = |id: &u32, node: &super::image::NodeImage| {
        let rack = (!node.rack.is_empty()).then(|| node.rack.clone());
        let state = if image.draining.contains(id) { NodeState::Draining } else { NodeState::Up };
        (NodeId::new(*id), Node { rack, weight: u32::from(node.core_count), state })
    };
    image.nodes.iter().map(|(id, image)| node(id, image)).collect()
}

/// Where all partitions are.
pub fn existing(image: &ClusterImage) -> Placement {
    let mut placement = Placement::new();
    for topic in image.topics.values() {
        for (index, partition) in topic.indexes().zip(&topic.partitions) {
            placement.insert(TopicPartition::new(topic.id, index), homes(partition));
        }
    }
    placement
}

/// The nodes of a partition's replicas, each once.
fn homes(partition: &PartitionImage) -> Vec<NodeId> {
    let mut seen = BTreeSet::new();
    let nodes = partition.wanted().iter().map(|replica| replica.node);
    nodes.filter(|node| seen.insert(*node)).map(NodeId::new).collect()
}

/// Has a node give all it has away, or be as others again.
///
/// # Errors
/// When it is not registered.
pub(super) fn drain(
    image: &mut ClusterImage,
    node: u32,
    is_draining: bool,
) -> Result<Outcome, MetadataError> {
    if !image.nodes.contains_key(&node) {
        return Err(no_node(node));
    }
    if is_draining {
        image.draining.insert(node);
        filling::end(image, &[node]);
    } else if image.draining.remove(&node) {
        filling::came(image, node);
    }
    Ok(Outcome::Done)
}

/// Takes a node out of the cluster for good.
///
/// # Errors
/// When it is not registered, or partitions have replicas on it.
pub(super) fn remove(image: &mut ClusterImage, node: u32) -> Result<Outcome, MetadataError> {
    if !image.nodes.contains_key(&node) {
        return Err(no_node(node));
    }
    let has_replica = |partition: &&PartitionImage| {
        partition.replica_on(node).is_some() || partition.isr.contains(&node) || partition.leader == node
    };
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    match partitions.filter(has_replica).count() {
        0 => {}
        count => {
            return Err(MetadataError::InvalidRequest(format!(
                "node {node} has replicas of {count} partitions; drain it first"
            )));
        }
    }
    image.nodes.remove(&node);
    image.draining.remove(&node);
    filling::end(image, &[node]);
    for waiting in image.deleting.values_mut() {
        waiting.remove(&node);
    }
    image.deleting.retain(|_, waiting| !waiting.is_empty());
    Ok(Outcome::Done)
}

fn no_node(node: u32) -> MetadataError {
    MetadataError::InvalidRequest(format!("there is no node {node}"))
}

/// Gives a topic new partitions, up to `count`, on the nodes and slots that suit the cluster best.
///
/// # Errors
/// When fewer nodes take replicas than each partition needs; the topic is as it was then.
pub(super) fn grow(
    image: &ClusterImage,
    topic: &mut TopicImage,
    factor: usize,
    count: u32,
) -> Result<(), MetadataError> {
    let new: Vec<TopicPartition> = (topic.partitions.len() as u32..count)
        .map(|index| TopicPartition::new(topic.id, PartitionIndex::new(index)))
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    let placed = placement::place(&nodes(image), &existing(image), &new, factor);
    let placed = placed.map_err(|PlaceError::TooFewNodes { up, .. }| {
        MetadataError::InvalidReplicationFactor { wanted: factor as u16, available: up }
    })?;
    let quorum = topic.config.commit_quorum;
    let slots = deal_slots(topic, placed.into_values().collect());
    topic.partitions.extend(slots.into_iter().map(|replicas| PartitionImage::new(replicas, quorum)));
    Ok(())
}

/// Deals the slots of each node out in turn, behind those that the topic has there: first to the replicas that are to
/// lead, so that these alone are spread over the cores, then to the others.
fn deal_slots(topic: &TopicImage, placed: Vec<Vec<NodeId>>) -> Vec<Vec<ReplicaSlot>> {
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    for replica in topic.partitions.iter().flat_map(|partition| &partition.replicas) {
        let free = next.entry(replica.node).or_default();
        *free = (*free).max(replica.slot + 1);
    }
    let mut take = |node: NodeId| {
        let free = next.entry(node.get()).or_default();
        *free += 1;
        ReplicaSlot { node: node.get(), slot: *free - 1 }
    };
    let mut slots: Vec<Vec<ReplicaSlot>> =
        placed.iter().map(|nodes| nodes.iter().take(1).map(|node| take(*node)).collect()).collect();
    for (slots, nodes) in slots.iter_mut().zip(&placed) {
        slots.extend(nodes.iter().skip(1).map(|node| take(*node)));
    }
    slots
}

/// Slots that are free: of each topic and node in turn, so that what comes spreads over the cores.
#[derive(Default)]
pub struct Slots {
    next: BTreeMap<(TopicId, u32), u32>,
}

impl Slots {
    /// The slot of a replica on a node: the one that it has there, else a free one.
    pub fn of(&mut self, topic: &TopicImage, partition: &PartitionImage, node: u32) -> ReplicaSlot {
        if let Some(replica) = partition.replica_on(node) {
            return *replica;
        }
        let used = || {
            let all = topic.partitions.iter().flat_map(|it| it.replicas.iter().chain(&it.leaving));
            all.filter(|replica| replica.node == node).map(|replica| replica.slot + 1).max().unwrap_or(0)
        };
        let next = self.next.entry((topic.id, node)).or_insert_with(used);
        *next += 1;
        ReplicaSlot { node, slot: *next - 1 }
    }
}
