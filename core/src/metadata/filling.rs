//! Nodes that came and have not got their share yet of what was there before them: what is remembered until they have.
//!
//! A node that registers for the first time, or that is drained no more, is one of them while there are topics. A start, a fault
//! or another leader of the metadata makes no node one, so none of these moves anything. What an operator places meanwhile stays
//! there: it is remembered as long as any node fills.

use heddle_proto::ids::{PartitionIndex, TopicId, TopicPartition};

use super::{command::Outcome, image::ClusterImage};

/// A node is to get its share.
pub(super) fn came(image: &mut ClusterImage, node: u32) {
    if !image.topics.is_empty() {
        image.filling.insert(node);
    }
}

/// These nodes have their share, or are to get none any more.
pub(super) fn end(image: &mut ClusterImage, nodes: &[u32]) -> Outcome {
    image.filling.retain(|node| !nodes.contains(node));
    if image.filling.is_empty() {
        image.placed_by_hand.clear();
    }
    Outcome::Done
}

/// Somebody has said where a partition is to be.
pub(super) fn placed(image: &mut ClusterImage, topic: TopicId, index: u32) {
    if !image.filling.is_empty() {
        image.placed_by_hand.insert(TopicPartition::new(topic, PartitionIndex::new(index)));
    }
}

/// A topic is no more.
pub(super) fn forget(image: &mut ClusterImage, topic: TopicId) {
    image.placed_by_hand.retain(|at| at.topic != topic);
}
