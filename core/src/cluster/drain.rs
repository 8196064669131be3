//! Which replicas leave the nodes that are drained next: a pure function of the image.

use heddle_proto::ids::NodeId;
use heddle_replication::placement::{self, Change};

use super::moves;
use crate::metadata::{ClusterImage, Command, PartitionImage, placing};

/// The next moves away from nodes that are drained, as many as may begin now. Nodes that are not alive get nothing.
pub fn next_moves(image: &ClusterImage, is_alive: impl Fn(u32) -> bool) -> Option<Command> {
    let free = moves::free(image, &is_alive);
    if free == 0 || !holds_anything(image) {
        return None;
    }
    let plan = placement::rebalance(&moves::nodes(image, &is_alive), &placing::existing(image));
    let drains = |node: &NodeId| image.draining.contains(&node.get());
    // Who is to lead what can change along with it: that copies nothing.
    let is_order_alone = |change: &Change| change.added().next().is_none();
    let due = plan.changes.into_iter().filter(|change| {
        is_order_alone(change) || change.from.iter().any(|node| drains(node) && !change.to.contains(node))
    });
    let due = due.filter_map(|change| {
        let (_, partition) = moves::find(image, change.partition)?;
        if moves::goes_to_drained(image, partition) {
            return Some(turned_round(image, partition, change));
        }
        // What lies on dead nodes alone cannot be copied before one of them is back, and is not to take the place of others.
        let can_begin = !partition.is_moving() && partition.isr.iter().any(|node| is_alive(*node));
        can_begin.then_some(change)
    });
    moves::command(image, due.take(free))
}

/// A move to a node that is drained by now ends where it began, if nothing there is drained: that copies nothing.
fn turned_round(image: &ClusterImage, partition: &PartitionImage, change: Change) -> Change {
    let origin = partition.origin.iter().map(|replica| replica.node);
    if origin.clone().any(|node| image.draining.contains(&node)) {
        return change;
    }
    Change { to: origin.map(NodeId::new).collect(), ..change }
}

fn holds_anything(image: &ClusterImage) -> bool {
    let drains =
        |partition: &PartitionImage| partition.wanted().iter().any(|it| image.draining.contains(&it.node));
    image.topics.values().flat_map(|topic| &topic.partitions).any(drains)
}
