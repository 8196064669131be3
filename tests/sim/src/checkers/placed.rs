//! Replicas are where the metadata can count on them: in-sync sets hold a quorum and only replicas, moves end when all who
//! stay are in sync, epochs rise.

use std::collections::BTreeSet;

use heddle_core::metadata::{ClusterImage, PartitionImage, ReplicaSlot};
use heddle_proto::ids::TopicPartition;

use super::Checkers;

impl Checkers {
    /// The metadata was this before a command, and is that.
    pub fn changed(&mut self, before: &ClusterImage, after: &ClusterImage) {
        for topic in after.topics.values() {
            for (index, partition) in topic.indexes().zip(&topic.partitions) {
                let at = TopicPartition::new(topic.id, index);
                let known = before.topic_by_id(topic.id).and_then(|topic| topic.partition(index));
                if let Some(known) = known.filter(|known| *known != partition) {
                    self.judge_election(at, known, partition);
                    if let Some(what) = misplaced(known, partition) {
                        self.found("placed", at, format!("{what}: {known:?} became {partition:?}"));
                    }
                }
            }
        }
    }
}

fn misplaced(before: &PartitionImage, after: &PartitionImage) -> Option<&'static str> {
    let isr: BTreeSet<u32> = after.isr.iter().copied().collect();
    let in_sync = |replica: &ReplicaSlot| isr.contains(&replica.node);
    let has_ended = before.is_moving() && !after.is_moving();
    let nodes = |replicas: &[ReplicaSlot]| -> BTreeSet<u32> { replicas.iter().map(|it| it.node).collect() };
    let is_taken_back = nodes(&after.replicas) == nodes(&before.origin);
    if isr.len() < usize::from(after.quorum) {
        Some("fewer are in sync than have to be")
    } else if isr.iter().any(|node| after.replica_on(*node).is_none()) {
        Some("who has no replica is in sync")
    } else if isr.iter().any(|node| before.replica_on(*node).is_none()) {
        Some("who has only just got a replica is in sync")
    } else if after.replicas.len() < usize::from(after.quorum).max(2) {
        Some("replicas are too few")
    } else if after.newest_epoch() < before.newest_epoch() || after.epoch < before.epoch {
        Some("an epoch goes back")
    } else if after.isr_version < before.isr_version {
        Some("a set goes back")
    } else if has_ended && !is_taken_back && !after.replicas.iter().all(in_sync) {
        Some("a move ends too soon")
    } else {
        None
    }
}
