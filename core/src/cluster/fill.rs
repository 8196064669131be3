//! Which replicas go next to nodes that came, until these have their share: a pure function of the image and of who lives.
//!
//! Replicas go to such nodes alone, from whoever has more than its share, and no partition is touched that need not be. What an
//! operator has placed since such a node came stays where it is.

use std::collections::BTreeSet;

use heddle_proto::ids::{NodeId, TopicPartition};
use heddle_replication::placement;

use super::moves;
use crate::metadata::{ClusterImage, Command, PartitionImage, placing};

/// The next moves to nodes that came and have `settled`, as many as may begin now; once nothing is left for these, that they
/// have their share.
pub fn next(
    image: &ClusterImage,
    is_alive: impl Fn(u32) -> bool,
    has_settled: impl Fn(u32) -> bool,
) -> Option<Command> {
    let free = moves::free(image, &is_alive);
    let settled: Vec<u32> = image.filling.iter().copied().filter(|node| has_settled(*node)).collect();
    if free == 0 || settled.is_empty() {
        return None;
    }
    let newcomers: BTreeSet<NodeId> = settled.iter().copied().map(NodeId::new).collect();
    let (nodes, existing) = (moves::nodes(image, &is_alive), placing::existing(image));
    let is_open = |at: &TopicPartition| !image.placed_by_hand.contains(at);
    let can_begin = |at: &TopicPartition| is_open(at) && is_well(find(image, at), &is_alive);
    let changes = placement::fill(&nodes, &existing, &newcomers, can_begin, free);
    if !changes.is_empty() {
        return moves::command(image, changes);
    }
    // What is not well now may be so later, and a node that is away may come back with what it could give.
    let is_whole = image.nodes.keys().all(|node| image.draining.contains(node) || is_alive(*node));
    let is_done = || placement::fill(&nodes, &existing, &newcomers, is_open, free).is_empty();
    (is_whole && is_done()).then_some(Command::EndFilling { nodes: settled })
}

fn find<'a>(image: &'a ClusterImage, at: &TopicPartition) -> &'a PartitionImage {
    moves::find(image, *at).expect("what exists is in the image").1
}

/// Whether nothing is under way with a partition, and all of its replicas live and are in sync.
fn is_well(partition: &PartitionImage, is_alive: impl Fn(u32) -> bool) -> bool {
    let is_well = |node: u32| is_alive(node) && partition.isr.contains(&node);
    !partition.is_moving()
        && partition.electing().is_none()
        && partition.leaving.is_empty()
        && partition.wanted().iter().all(|replica| is_well(replica.node))
}

#[cfg(test)]
#[path = "fill_tests.rs"]
mod tests;
