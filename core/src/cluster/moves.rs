//! What all moves that the cluster itself begins have in common: how many there may be, and how a plan becomes a command.

use heddle_proto::ids::TopicPartition;
use heddle_replication::placement::{Change, NodeState, Nodes};

use crate::metadata::{
    ClusterImage, Command, PartitionImage, TopicImage,
    placing::{self, Slots},
    reassign::Move,
};

/// The most partitions that move at once, whoever began it: each copies its records.
pub const MOVES_AT_ONCE_MAX: usize = 20;

/// How many more partitions may begin to move now. Moves that wait for a dead node do not count, nor those on their way to a
/// node that is drained by now: they turn round.
pub fn free(image: &ClusterImage, is_alive: impl Fn(u32) -> bool) -> usize {
    let goes_on = |partition: &PartitionImage| {
        partition.isr.iter().any(|node| is_alive(*node))
            && partition.adding().all(|replica| is_alive(replica.node))
            && !goes_to_drained(image, partition)
    };
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    MOVES_AT_ONCE_MAX.saturating_sub(partitions.filter(|it| it.is_moving() && goes_on(it)).count())
}

/// Whether a move under way takes a replica to a node that is drained.
pub fn goes_to_drained(image: &ClusterImage, partition: &PartitionImage) -> bool {
    partition.adding().any(|replica| image.draining.contains(&replica.node))
}

/// The nodes as placement sees them; those that are not alive get nothing and keep what they have.
pub fn nodes(image: &ClusterImage, is_alive: impl Fn(u32) -> bool) -> Nodes {
    let mut nodes = placing::nodes(image);
    for (id, node) in nodes.iter_mut().filter(|(id, _)| !is_alive(id.get())) {
        if node.state == NodeState::Up && image.nodes.contains_key(&id.get()) {
            node.state = NodeState::Down;
        }
    }
    nodes
}

/// A partition and its topic.
pub fn find(image: &ClusterImage, at: TopicPartition) -> Option<(&TopicImage, &PartitionImage)> {
    let topic = image.topic_by_id(at.topic)?;
    Some((topic, topic.partition(at.partition)?))
}

/// The command that carries these changes out; `None` when there are none.
pub fn command(image: &ClusterImage, changes: impl IntoIterator<Item = Change>) -> Option<Command> {
    let mut slots = Slots::default();
    let moves = changes.into_iter().filter_map(|change| {
        let (topic, partition) = find(image, change.partition)?;
        Some(Move {
            topic: topic.id,
            partition: change.partition.partition.get(),
            from: change.from.iter().map(|node| node.get()).collect(),
            target: change.to.iter().map(|node| slots.of(topic, partition, node.get())).collect(),
        })
    });
    let moves: Vec<Move> = moves.collect();
    (!moves.is_empty()).then_some(Command::Rebalance { moves })
}
