//! Which replicas leave the nodes that are drained next: a pure function of the image.

use heddle_proto::ids::{NodeId, TopicPartition};
use heddle_replication::placement::{self, Change, NodeState};

use crate::metadata::{
    ClusterImage, Command, PartitionImage, TopicImage,
    placing::{self, Slots},
};

/// The most partitions that move at once, whoever began it: each copies its records.
pub const MOVES_AT_ONCE_MAX: usize = 20;

/// The next moves away from nodes that are drained, as many as may begin now. Nodes that are not alive get nothing.
pub fn next_moves(image: &ClusterImage, is_alive: impl Fn(u32) -> bool) -> Vec<Command> {
    let moving =
        image.topics.values().flat_map(|topic| &topic.partitions).filter(|it| it.is_moving()).count();
    let free = MOVES_AT_ONCE_MAX.saturating_sub(moving);
    if free == 0 || !holds_anything(image) {
        return Vec::new();
    }
    let mut nodes = placing::nodes(image);
    for (id, node) in nodes.iter_mut().filter(|(id, _)| !is_alive(id.get())) {
        if node.state == NodeState::Up && image.nodes.contains_key(&id.get()) {
            node.state = NodeState::Down;
        }
    }
    let plan = placement::rebalance(&nodes, &placing::existing(image));
    let drains = |node: &NodeId| image.draining.contains(&node.get());
    // Who is to lead what can change along with it: that copies nothing.
    let is_order_alone = |change: &Change| change.added().next().is_none();
    let mut slots = Slots::default();
    plan.changes
        .iter()
        .filter(|change| {
            is_order_alone(change) || change.from.iter().any(|node| drains(node) && !change.to.contains(node))
        })
        .filter_map(|change| {
            let (topic, partition) = find(image, change.partition)?;
            let can_move = partition.is_replicated() && !partition.is_moving();
            can_move.then(|| Command::Reassign {
                topic: topic.name.to_string(),
                partition: change.partition.partition.get(),
                target: Some(change.to.iter().map(|node| slots.of(topic, partition, node.get())).collect()),
            })
        })
        .take(free)
        .collect()
}

fn holds_anything(image: &ClusterImage) -> bool {
    let drains = |partition: &PartitionImage| {
        partition.is_replicated() && partition.wanted().iter().any(|it| image.draining.contains(&it.node))
    };
    image.topics.values().flat_map(|topic| &topic.partitions).any(drains)
}

fn find(image: &ClusterImage, at: TopicPartition) -> Option<(&TopicImage, &PartitionImage)> {
    let topic = image.topic_by_id(at.topic)?;
    Some((topic, topic.partition(at.partition)?))
}
