//! Which node holds which replica.

use std::cmp::Reverse;

use heddle_proto::ids::TopicPartition;

use super::table::{NodeIndex, PartitionSlot, Shares, Table};

/// Adds a partition with `replica_count` replicas, each on the best node left. There are as many nodes that are up.
pub(super) fn add(table: &mut Table, partition: TopicPartition, replica_count: usize) {
    let mut replicas = Vec::with_capacity(replica_count);
    for _ in 0..replica_count {
        replicas.push(best(table, partition, &replicas).expect("as many nodes as replicas"));
    }
    table.insert(partition, replicas);
}

/// The node that takes replicas, not in `replicas`, in a rack that they are not in if there is one, and with the least load for its
/// weight. Among equals a hash of both decides, so that what two partitions share they share by chance: the partitions of one
/// node that fails have their other replicas on all nodes.
fn best(table: &Table, partition: TopicPartition, replicas: &[NodeIndex]) -> Option<NodeIndex> {
    let candidates = table.takers().filter(|node| !replicas.contains(node));
    candidates.min_by(|left, right| {
        let (left, right) = (&table.nodes[*left], &table.nodes[*right]);
        let shares_rack = |rack| replicas.iter().any(|replica| table.nodes[*replica].rack == rack);
        let load = |node: &super::table::TableNode, other: i64| (node.held.len() as i64 + 1) * other;
        shares_rack(left.rack)
            .cmp(&shares_rack(right.rack))
            .then_with(|| load(left, right.weight).cmp(&load(right, left.weight)))
            .then_with(|| lot(partition, left.id.get()).cmp(&lot(partition, right.id.get())))
    })
}

/// The same number for the same partition and node everywhere and always (SplitMix64's mixing function over each part).
fn lot(partition: TopicPartition, node: u32) -> u64 {
    let mix = |word: u64| {
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    let topic = u128::from_be_bytes(*partition.topic.as_bytes());
    let words = [topic as u64, (topic >> 64) as u64, u64::from(partition.partition.get()), u64::from(node)];
    words.into_iter().fold(0x9e37_79b9_7f4a_7c15, |state: u64, word| mix(state ^ word))
}

/// Takes every replica from nodes that leave. The partitions for which there is no other node are returned.
pub(super) fn evacuate(table: &mut Table) -> Vec<TopicPartition> {
    let mut stranded = Vec::new();
    for partition in 0..table.partition_count() {
        for from in table.replicas(partition).to_vec() {
            if !table.nodes[from].is_leaving() {
                continue;
            }
            // Those that leave do not count: neither for what is taken, nor for their racks.
            let stay: Vec<_> = table
                .replicas(partition)
                .iter()
                .copied()
                .filter(|node| !table.nodes[*node].is_leaving())
                .collect();
            match best(table, table.partition(partition), &stay) {
                Some(to) => table.move_replica(partition, from, to),
                None => stranded.push(table.partition(partition)),
            }
        }
    }
    stranded.dedup();
    stranded
}

/// Moves replicas that share a rack to racks that their partition is not in; `left` is how many replicas may still move.
pub(super) fn spread_racks(table: &mut Table, left: &mut usize) {
    for partition in 0..table.partition_count() {
        if table.fixed.contains(&partition) {
            continue;
        }
        while *left > 0
            && let Some((from, to)) = to_another_rack(table, partition)
        {
            table.move_replica(partition, from, to);
            *left -= 1;
        }
    }
}

/// From the most loaded node of those that share a rack.
fn to_another_rack(table: &Table, partition: PartitionSlot) -> Option<(NodeIndex, NodeIndex)> {
    let replicas = table.replicas(partition);
    let is_alone = |node: NodeIndex| {
        let rack = table.nodes[node].rack;
        replicas.iter().filter(|replica| table.nodes[**replica].rack == rack).count() == 1
    };
    let sharing = replicas.iter().copied().filter(|node| table.nodes[*node].is_up() && !is_alone(*node));
    let from = sharing.max_by_key(|node| table.nodes[*node].held.len())?;
    let to = best(table, table.partition(partition), replicas)?;
    let is_better = table.rack_count(partition, from, to) > table.rack_count(partition, from, from);
    is_better.then_some((from, to))
}

/// Moves replicas from nodes above their share to nodes below, while that makes them more equal and no partition is on fewer
/// racks; `left` is how many replicas may still move.
pub(super) fn spread_load(table: &mut Table, left: &mut usize) {
    let shares = Shares::new(table, |node| node.held.len());
    while *left > 0
        && let Some((partition, from, to)) = paying_move(table, &shares)
    {
        table.move_replica(partition, from, to);
        *left -= 1;
    }
}

fn paying_move(table: &Table, shares: &Shares) -> Option<(PartitionSlot, NodeIndex, NodeIndex)> {
    let mut by_excess: Vec<_> = table.up().collect();
    by_excess.sort_by_key(|node| Reverse(shares.excess(&table.nodes[*node])));
    for from in by_excess.iter().copied() {
        for to in by_excess.iter().copied().rev().filter(|to| table.nodes[*to].takes) {
            if !shares.pays(&table.nodes[from], &table.nodes[to]) {
                break;
            }
            if let Some(partition) = movable(table, from, to) {
                return Some((partition, from, to));
            }
        }
    }
    None
}

/// A partition whose replica may go from one node to the other; rather one that the first does not lead.
fn movable(table: &Table, from: NodeIndex, to: NodeIndex) -> Option<PartitionSlot> {
    let may_move = |partition: &PartitionSlot| {
        !table.fixed.contains(partition)
            && !table.nodes[to].held.contains(partition)
            && table.rack_count(*partition, from, to) >= table.rack_count(*partition, from, from)
    };
    let from = &table.nodes[from];
    let followers = from.held.difference(&from.led);
    followers.chain(&from.led).copied().find(may_move)
}
