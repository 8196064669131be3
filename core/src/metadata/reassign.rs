//! Replicas that move: the commands on it. The data is moved by the partition's primary, as after any fault.
//!
//! While a move is under way a partition has its replicas of before and those that come. When all that are to stay are in
//! sync, the others are dropped from its replicas, and its primary takes them out of the in-sync set; until then such a
//! replica is kept as one that leaves. A command may come too late; it is then refused, or passed over.
//!
//! A partition that has had one replica ever since is led by its node without an election. With its first move it becomes as
//! all others: the same node is elected, which alone is in sync, and it stays so wherever it goes.

use std::collections::BTreeSet;

use heddle_proto::ids::TopicId;

use super::{
    command::{MetadataError, Outcome, put},
    elections::edit,
    filling,
    image::{ClusterImage, PartitionImage, ReplicaSlot, TopicImage},
};

/// A move that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The topic's id.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: u32,
    /// The nodes where it was to go, as the proposer knew them: if they are others by now, it is not over.
    pub target: Vec<u32>,
}

/// A move that the cluster itself wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The topic's id.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: u32,
    /// The nodes where it was to be, as the proposer knew them: if they are others by now, somebody else has placed it.
    pub from: Vec<u32>,
    /// Where its replicas are to be, the preferred primary first.
    pub target: Vec<ReplicaSlot>,
}

impl PartitionImage {
    /// Whether replicas are on the move.
    pub fn is_moving(&self) -> bool {
        !self.target.is_empty()
    }

    /// The replica on a node, also one that leaves.
    pub fn replica_on(&self, node: u32) -> Option<&ReplicaSlot> {
        self.replicas.iter().chain(&self.leaving).find(|replica| replica.node == node)
    }

    /// The replicas that are to be, the preferred primary first.
    pub fn wanted(&self) -> &[ReplicaSlot] {
        if self.is_moving() { &self.target } else { &self.replicas }
    }

    /// The nodes that get a replica by the move under way.
    pub fn adding(&self) -> impl Iterator<Item = &ReplicaSlot> {
        self.target.iter().filter(|replica| !has(&self.origin, replica.node))
    }

    /// The nodes that lose their replica by the move under way.
    pub fn removing(&self) -> impl Iterator<Item = &ReplicaSlot> {
        self.origin.iter().filter(|replica| self.is_moving() && !has(&self.target, replica.node))
    }

    /// Whether every replica that is to be is in sync, so that the others can go.
    pub fn has_moved(&self) -> bool {
        self.is_moving() && self.target.iter().all(|replica| self.isr.contains(&replica.node))
    }

    /// Whether a replica has to give up the leadership, because it goes and all that stay are in sync.
    pub fn must_yield(&self, node: u32) -> bool {
        has(&self.leaving, node) || self.has_moved() && !has(&self.target, node)
    }

    /// These replicas, with the slots that they have where they are known.
    fn known(&self, replicas: &[ReplicaSlot]) -> Vec<ReplicaSlot> {
        replicas.iter().map(|replica| *self.replica_on(replica.node).unwrap_or(replica)).collect()
    }

    /// Sets out for other replicas. Who is in sync and not among them any more is kept as one that leaves.
    fn move_to(&mut self, target: Vec<ReplicaSlot>) {
        let origin = if self.is_moving() { std::mem::take(&mut self.origin) } else { self.replicas.clone() };
        let was_replicated = self.is_replicated();
        let mut replicas = origin.clone();
        replicas.extend(target.iter().filter(|replica| !has(&origin, replica.node)));
        (self.target, self.origin) = (target, origin);
        self.replace(replicas);
        if nodes(&self.target) == nodes(&self.origin) {
            self.arrive();
        } else if !was_replicated {
            self.electing = self.leadership().begin_election().get();
        }
    }

    /// The replicas are where they were to go.
    fn arrive(&mut self) {
        let target = std::mem::take(&mut self.target);
        self.origin.clear();
        self.replace(target);
    }

    fn replace(&mut self, replicas: Vec<ReplicaSlot>) {
        if nodes(&replicas) != nodes(&self.replicas) {
            let mut leadership = self.leadership();
            leadership.place();
            self.isr_version = leadership.grant().in_sync.version;
        }
        let before = std::mem::replace(&mut self.replicas, replicas);
        self.leaving.extend(before);
        let (replicas, isr) = (&self.replicas, &self.isr);
        self.leaving.retain(|replica| isr.contains(&replica.node) && !has(replicas, replica.node));
    }
}

fn has(replicas: &[ReplicaSlot], node: u32) -> bool {
    replicas.iter().any(|replica| replica.node == node)
}

fn nodes(replicas: &[ReplicaSlot]) -> BTreeSet<u32> {
    replicas.iter().map(|replica| replica.node).collect()
}

/// Begins to move a partition's replicas, or with `None` takes the move under way back. A node that has a replica keeps
/// its slot.
pub(super) fn begin(
    image: &mut ClusterImage,
    name: &str,
    index: u32,
    target: Option<&[ReplicaSlot]>,
) -> Result<Outcome, MetadataError> {
    let topic = image.topic(name).ok_or_else(|| MetadataError::UnknownTopic(name.to_owned()))?;
    let unknown = || MetadataError::UnknownPartition(name.to_owned(), index);
    let partition = topic.partitions.get(index as usize).ok_or_else(unknown)?;
    let mut moved = partition.clone();
    match target {
        Some(target) => {
            check(image, partition, target).map_err(MetadataError::InvalidAssignment)?;
            moved.move_to(partition.known(target));
        }
        None if partition.is_moving() => moved.move_to(partition.origin.clone()),
        None => return Err(MetadataError::NothingMoves(name.to_owned(), index)),
    }
    let mut topic = TopicImage::clone(topic);
    topic.partitions[index as usize] = moved;
    let id = topic.id;
    put(image, topic);
    filling::placed(image, id, index);
    Ok(Outcome::Topic(id))
}

/// Begins moves that the cluster itself wants. What has been placed otherwise meanwhile, or cannot go there any more, stays.
pub(super) fn rebalance(image: &mut ClusterImage, moves: &[Move]) -> Outcome {
    let is_due = |it: &&Move| {
        let partition = image.topic_by_id(it.topic)?.partitions.get(it.partition as usize)?;
        let is_there = partition.wanted().iter().map(|replica| replica.node).eq(it.from.iter().copied());
        is_there.then(|| check(image, partition, &it.target).ok())?
    };
    let due: Vec<&Move> = moves.iter().filter(|it| is_due(it).is_some()).collect();
    edit(
        image,
        &due,
        |it| (it.topic, it.partition),
        |partition, it| {
            let target = partition.known(&it.target);
            partition.move_to(target);
        },
    )
}

fn check(image: &ClusterImage, partition: &PartitionImage, target: &[ReplicaSlot]) -> Result<(), String> {
    let wanted = nodes(target);
    if wanted.len() < target.len() {
        return Err("two replicas of a partition on one node guard against nothing".to_owned());
    }
    if let Some(node) = wanted.iter().find(|node| !image.nodes.contains_key(node)) {
        return Err(format!("there is no node {node}"));
    }
    let added = wanted.iter().find(|node| image.draining.contains(node) && !has(&partition.replicas, **node));
    if let Some(node) = added {
        return Err(format!("node {node} is being drained and takes no replica"));
    }
    if wanted.is_empty() {
        return Err("a partition has one replica at least".to_owned());
    }
    Ok(())
}

/// Ends moves.
pub(super) fn finish(image: &mut ClusterImage, finished: &[Finished]) -> Outcome {
    edit(
        image,
        finished,
        |it| (it.topic, it.partition),
        |partition, finished| {
            let target = partition.target.iter().map(|replica| replica.node);
            if partition.has_moved()
                && target.eq(finished.target.iter().copied())
                && !partition.must_yield(partition.leader)
            {
                partition.arrive();
            }
        },
    )
}

#[cfg(test)]
#[path = "reassign_tests.rs"]
mod tests;
