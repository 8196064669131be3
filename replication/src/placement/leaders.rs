//! Which replica is the preferred leader: the order of replicas, which moves no data.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::table::{NodeIndex, PartitionSlot, Shares, Table};

/// No node that leaves is preferred where another replica can be.
pub(super) fn leave(table: &mut Table) {
    for partition in 0..table.partition_count() {
        let replicas = table.replicas(partition);
        let Some(leader) = replicas.first() else { continue };
        if !table.nodes[*leader].is_leaving() {
            continue;
        }
        let others = replicas.iter().copied().filter(|node| table.nodes[*node].is_up());
        let least = others.min_by_key(|node| table.nodes[*node].led.len());
        if let Some(least) = least {
            table.lead(partition, least);
        }
    }
}

/// Spreads the leaders of partitions from `first` on over the nodes that are up, given all that they lead.
///
/// A node that leads too much may share no partition with one that leads too little; then others pass leaders on between
/// them. So this looks for the shortest way, as flows are made maximal, and ends when there is none, or after `ways_max`.
pub(super) fn spread(table: &mut Table, first: PartitionSlot, ways_max: usize) {
    let shares = Shares::new(table, |node| node.led.len());
    for _ in 0..ways_max {
        let Some(way) = way(table, &shares, first) else { return };
        for (partition, to) in way {
            table.lead(partition, to);
        }
    }
}

/// Who is to lead what instead, so that one node that leads too much leads one less and one that leads too little one more.
fn way(table: &Table, shares: &Shares, first: PartitionSlot) -> Option<Vec<(PartitionSlot, NodeIndex)>> {
    let mut by_excess: Vec<_> = table.up().collect();
    by_excess.sort_by_key(|node| Reverse(shares.excess(&table.nodes[*node])));
    let least = by_excess.iter().copied().rfind(|node| table.nodes[*node].takes)?;
    for start in by_excess {
        if !shares.pays(&table.nodes[start], &table.nodes[least]) {
            return None;
        }
        if let Some(way) = way_from(table, shares, first, start) {
            return Some(way);
        }
    }
    None
}

/// The shortest way from `start`, by breadth first.
fn way_from(
    table: &Table,
    shares: &Shares,
    first: PartitionSlot,
    start: NodeIndex,
) -> Option<Vec<(PartitionSlot, NodeIndex)>> {
    // How each node was reached: from which one, and by passing on what.
    let mut reached: Vec<Option<(NodeIndex, PartitionSlot)>> = vec![None; table.nodes.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        if table.nodes[node].takes && shares.pays(&table.nodes[start], &table.nodes[node]) {
            let mut way = Vec::new();
            let mut to = node;
            while let Some((from, partition)) = reached[to] {
                way.push((partition, to));
                to = from;
            }
            return Some(way);
        }
        for partition in table.nodes[node].led.range(first..).filter(|it| !table.fixed.contains(it)) {
            for to in table.replicas(*partition).iter().copied() {
                if to != start && table.nodes[to].is_up() && reached[to].is_none() {
                    reached[to] = Some((node, *partition));
                    queue.push_back(to);
                }
            }
        }
    }
    None
}
