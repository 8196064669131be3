//! Placement against what it promises, on clusters made by chance.

use std::collections::{BTreeMap, BTreeSet};

use heddle_proto::ids::{NodeId, PartitionIndex, TopicId, TopicPartition};
use heddle_replication::placement::{
    Node, NodeState, Nodes, PlaceError, Placement, Rebalance, fill, place, rebalance,
};
use proptest::prelude::*;
use proptest::sample::subsequence;

fn partition(index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::from_bytes([7; 16]), PartitionIndex::new(index))
}

fn partitions(count: u32) -> Vec<TopicPartition> {
    (0..count).map(partition).collect()
}

fn node(rack: Option<&str>, weight: u32, state: NodeState) -> Node {
    Node { rack: rack.map(str::to_owned), weight, state }
}

/// Equal nodes without racks, from 0.
fn equal_nodes(count: u32) -> Nodes {
    (0..count).map(|id| (NodeId::new(id), node(None, 1, NodeState::Up))).collect()
}

fn any_node() -> impl Strategy<Value = Node> {
    let rack = prop_oneof![Just(None), Just(Some("a")), Just(Some("b")), Just(Some("c"))];
    let state =
        prop_oneof![6 => Just(NodeState::Up), 1 => Just(NodeState::Down), 1 => Just(NodeState::Draining)];
    (rack, 1_u32..4, state).prop_map(|(rack, weight, state)| node(rack, weight, state))
}

/// Up to eight nodes, and partitions on those and two that are gone.
fn any_cluster(partition_count_max: usize) -> impl Strategy<Value = (Nodes, Placement)> {
    prop::collection::vec(any_node(), 1..=8).prop_flat_map(move |nodes| {
        let ids: Vec<u32> = (0..nodes.len() as u32 + 2).collect();
        let replicas_max = ids.len().min(4);
        let replicas = subsequence(ids, 1..=replicas_max).prop_shuffle();
        prop::collection::vec(replicas, 0..=partition_count_max).prop_map(move |placed| {
            let nodes = (0..).map(NodeId::new).zip(nodes.clone()).collect();
            let placed = placed.into_iter().map(|ids| ids.into_iter().map(NodeId::new).collect());
            (nodes, (0..).map(partition).zip(placed).collect())
        })
    })
}

fn applied(placement: &Placement, rebalance: &Rebalance) -> Placement {
    let mut placement = placement.clone();
    for change in &rebalance.changes {
        let from = placement.insert(change.partition, change.to.clone());
        assert_eq!(from.as_ref(), Some(&change.from));
        assert_ne!(change.from, change.to);
    }
    placement
}

fn state(nodes: &Nodes, id: NodeId) -> Option<NodeState> {
    nodes.get(&id).map(|node| node.state)
}

fn is_up(nodes: &Nodes, id: NodeId) -> bool {
    state(nodes, id) == Some(NodeState::Up)
}

/// What fails together with a node: its rack, or the node.
fn rack(nodes: &Nodes, id: NodeId) -> Result<&str, NodeId> {
    nodes.get(&id).and_then(|node| node.rack.as_deref()).ok_or(id)
}

fn rack_count<'a>(nodes: &'a Nodes, replicas: impl Iterator<Item = &'a NodeId>) -> usize {
    replicas.map(|id| rack(nodes, *id)).collect::<BTreeSet<_>>().len()
}

fn loads(placement: &Placement) -> BTreeMap<NodeId, i64> {
    let mut loads = BTreeMap::new();
    for id in placement.values().flatten() {
        *loads.entry(*id).or_insert(0) += 1;
    }
    loads
}

fn leaders(placement: &Placement) -> BTreeMap<NodeId, i64> {
    let mut leaders = BTreeMap::new();
    for replicas in placement.values() {
        *leaders.entry(replicas[0]).or_insert(0) += 1;
    }
    leaders
}

/// What each node that is up has above its share, times the sum of the weights, and that sum.
fn excess(nodes: &Nodes, counts: &BTreeMap<NodeId, i64>) -> (BTreeMap<NodeId, i64>, i64) {
    let up: Vec<_> = nodes.iter().filter(|(_, node)| node.state == NodeState::Up).collect();
    let weight: i64 = up.iter().map(|(_, node)| i64::from(node.weight)).sum();
    let count = |id: &NodeId| counts.get(id).copied().unwrap_or(0);
    let total: i64 = up.iter().map(|(id, _)| count(id)).sum();
    let each = up.into_iter().map(|(id, node)| (*id, count(id) * weight - total * i64::from(node.weight)));
    (each.collect(), weight)
}

fn spread(counts: &BTreeMap<NodeId, i64>, nodes: &Nodes) -> i64 {
    let of = |id| counts.get(id).copied().unwrap_or(0);
    nodes.keys().map(of).max().unwrap_or(0) - nodes.keys().map(of).min().unwrap_or(0)
}

fn check_replicas(nodes: &Nodes, before: &[NodeId], after: &[NodeId], is_stranded: bool) {
    assert_eq!(before.len(), after.len());
    assert_eq!(after.iter().collect::<BTreeSet<_>>().len(), after.len(), "distinct nodes");
    let leaving = |id: &NodeId| !matches!(state(nodes, *id), Some(NodeState::Up | NodeState::Down));
    assert_eq!(after.iter().any(leaving), is_stranded);
    if is_stranded {
        let mut up = nodes.keys().filter(|id| is_up(nodes, **id));
        assert!(up.all(|id| after.contains(id)), "stranded although a node is left");
    }
    let down = |replicas: &[NodeId]| {
        let down = replicas.iter().copied().filter(|id| state(nodes, *id) == Some(NodeState::Down));
        down.collect::<BTreeSet<_>>()
    };
    assert_eq!(down(before), down(after), "a node that is down keeps what it has and takes nothing");
    if state(nodes, before[0]) == Some(NodeState::Down) {
        assert_eq!(before[0], after[0], "and its turn to lead");
    }
    if !is_stranded {
        let fixed: BTreeSet<_> = down(after).into_iter().map(|id| rack(nodes, id)).collect();
        let others = nodes.keys().filter(|id| is_up(nodes, **id)).map(|id| rack(nodes, *id));
        let others: BTreeSet<_> = others.filter(|rack| !fixed.contains(rack)).collect();
        let possible = fixed.len() + others.len().min(after.len() - down(after).len());
        assert_eq!(rack_count(nodes, after.iter()), possible, "as many racks as there are to have");
    }
}

/// Nothing is left that would make the loads more equal and keep the racks.
fn check_load(nodes: &Nodes, placement: &Placement) {
    check_load_of(nodes, placement, |_| true, |_| true);
}

/// The same of what those that `takes` could get of partitions that `may_change`.
fn check_load_of(
    nodes: &Nodes,
    placement: &Placement,
    takes: impl Fn(&NodeId) -> bool,
    may_change: impl Fn(&TopicPartition) -> bool,
) {
    let (excess, one) = excess(nodes, &loads(placement));
    for (from, above) in &excess {
        for (to, below) in excess.iter().filter(|(to, _)| takes(to)) {
            if above - below <= one {
                continue;
            }
            let changeable = placement.iter().filter(|(partition, _)| may_change(partition));
            for (_, replicas) in changeable.filter(|(_, replicas)| replicas.contains(from)) {
                let moved: Vec<_> = replicas.iter().map(|id| if id == from { *to } else { *id }).collect();
                assert!(
                    replicas.contains(to)
                        || rack_count(nodes, moved.iter()) < rack_count(nodes, replicas.iter()),
                    "{from} could give {to} a replica: {placement:?}"
                );
            }
        }
    }
}

fn unevenness(nodes: &Nodes, placement: &Placement) -> i64 {
    excess(nodes, &leaders(placement)).0.values().map(|excess| excess * excess).sum()
}

/// The least of all ways to choose leaders among replicas that are up.
fn least_unevenness(nodes: &Nodes, placement: &Placement) -> i64 {
    let mut placements = vec![placement.clone()];
    for (partition, replicas) in placement {
        if !is_up(nodes, replicas[0]) {
            continue;
        }
        placements = placements
            .into_iter()
            .flat_map(|placement| {
                let leaders = (0..replicas.len()).filter(|at| is_up(nodes, replicas[*at]));
                leaders.map(move |at| {
                    let mut placement = placement.clone();
                    placement.get_mut(partition).expect("a partition of it").swap(0, at);
                    placement
                })
            })
            .collect();
    }
    placements.iter().map(|placement| unevenness(nodes, placement)).min().expect("one at least")
}

proptest! {
    #[test]
    fn what_a_rebalance_leaves_keeps_every_promise((nodes, before) in any_cluster(40)) {
        let found = rebalance(&nodes, &before);
        let after = applied(&before, &found);
        for (partition, replicas) in &after {
            check_replicas(&nodes, &before[partition], replicas, found.stranded.contains(partition));
        }
        check_load(&nodes, &after);
        prop_assert_eq!(rebalance(&nodes, &after).changes, []);
    }

    #[test]
    fn leaders_are_as_even_as_the_replicas_allow((nodes, before) in any_cluster(6)) {
        let after = applied(&before, &rebalance(&nodes, &before));
        prop_assert_eq!(unevenness(&nodes, &after), least_unevenness(&nodes, &after), "{:?}", after);
    }

    #[test]
    fn topics_placed_one_after_the_other_are_spread(
        node_count in 3_u32..9,
        topics in prop::collection::vec((1_u32..30, 2_usize..=3), 1..6),
    ) {
        let nodes = equal_nodes(node_count);
        let mut placement = Placement::new();
        for (topic, (count, replica_count)) in (0..).zip(topics) {
            let of_topic = |index| TopicPartition::new(TopicId::from_bytes([topic; 16]), PartitionIndex::new(index));
            let new: Vec<_> = (0..count).map(of_topic).collect();
            let placed = place(&nodes, &placement, &new, replica_count).unwrap();
            prop_assert!(placed.keys().eq(new.iter()));
            prop_assert!(placed.values().all(|replicas| replicas.len() == replica_count));
            prop_assert!(topic > 0 || spread(&leaders(&placed), &nodes) <= 1, "{:?}", leaders(&placed));
            placement.extend(placed);
        }
        prop_assert!(spread(&loads(&placement), &nodes) <= 1);
        // Placing a topic leaves the older ones alone; a rebalance mends what that costs, and moves no data for it.
        let found = rebalance(&nodes, &placement);
        prop_assert_eq!(found.changes.iter().flat_map(|change| change.added()).count(), 0);
        prop_assert!(spread(&leaders(&applied(&placement, &found)), &nodes) <= 1);
    }

    #[test]
    fn a_new_node_gets_its_share_and_nothing_else_moves(node_count in 3_u32..8, count in 1_u32..200) {
        let before = place(&equal_nodes(node_count), &Placement::new(), &partitions(count), 3).unwrap();
        let nodes = equal_nodes(node_count + 1);
        let found = rebalance(&nodes, &before);
        let newcomer = NodeId::new(node_count);
        prop_assert!(found.changes.iter().flat_map(|change| change.added()).all(|node| node == newcomer));
        let after = applied(&before, &found);
        let share = i64::from(count) * 3 / i64::from(node_count + 1);
        prop_assert_eq!(loads(&after).get(&newcomer).copied().unwrap_or(0), share);
        prop_assert!(spread(&leaders(&after), &nodes) <= 1);
    }

    #[test]
    fn filling_step_by_step_ends_with_all_that_newcomers_may_get(
        (nodes, before) in any_cluster(40),
        new in prop::collection::vec(any::<bool>(), 8),
        fixed in prop::collection::vec(prop::bool::weighted(0.2), 40),
        at_once in 1_usize..6,
    ) {
        let is_new = |id: &NodeId| new.get(id.get() as usize) == Some(&true);
        let newcomers: BTreeSet<NodeId> = nodes.keys().copied().filter(is_new).collect();
        let takes = |id: &NodeId| newcomers.contains(id) && is_up(&nodes, *id);
        let may_change = |at: &TopicPartition| !fixed[at.partition.get() as usize];
        let mut after = before.clone();
        let replica_count: usize = before.values().map(Vec::len).sum();
        for turn in 0.. {
            prop_assert!(turn <= 2 * replica_count, "it goes on for ever");
            let changes = fill(&nodes, &after, &newcomers, may_change, at_once);
            let copied: Vec<NodeId> = changes.iter().flat_map(|change| change.added()).collect();
            prop_assert!(copied.len() <= at_once && copied.iter().all(takes), "{changes:?}");
            prop_assert!(changes.iter().all(|change| may_change(&change.partition)));
            let led = |placement: &Placement| unevenness(&nodes, placement);
            let next = applied(&after, &Rebalance { changes, ..Rebalance::default() });
            if next == after {
                break;
            }
            prop_assert!(!copied.is_empty() || led(&next) < led(&after), "without a gain");
            for (partition, replicas) in &next {
                let distinct: BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(distinct.len(), after[partition].len());
                prop_assert!(rack_count(&nodes, replicas.iter()) >= rack_count(&nodes, after[partition].iter()));
            }
            after = next;
        }
        check_load_of(&nodes, &after, takes, may_change);
    }

    #[test]
    fn a_new_node_is_filled_with_no_copy_more_than_its_share(
        node_count in 3_u32..8,
        count in 1_u32..200,
        at_once in 1_usize..30,
    ) {
        let before = place(&equal_nodes(node_count), &Placement::new(), &partitions(count), 3).unwrap();
        let nodes = equal_nodes(node_count + 1);
        let newcomer = NodeId::new(node_count);
        let (mut after, mut copies) = (before.clone(), 0);
        loop {
            let changes = fill(&nodes, &after, &BTreeSet::from([newcomer]), |_| true, at_once);
            if changes.is_empty() {
                break;
            }
            copies += changes.iter().flat_map(|change| change.added()).count() as i64;
            after = applied(&after, &Rebalance { changes, ..Rebalance::default() });
        }
        let share = i64::from(count) * 3 / i64::from(node_count + 1);
        prop_assert_eq!(copies, share);
        let count_of = |counts: BTreeMap<NodeId, i64>| counts.get(&newcomer).copied().unwrap_or(0);
        prop_assert_eq!(count_of(loads(&after)), share);
        prop_assert_eq!(count_of(leaders(&after)), i64::from(count) / i64::from(node_count + 1));
    }

    #[test]
    fn a_drained_node_is_emptied_and_little_else_moves(node_count in 4_u32..9, count in 1_u32..200) {
        let mut nodes = equal_nodes(node_count);
        let before = place(&nodes, &Placement::new(), &partitions(count), 3).unwrap();
        let drained = NodeId::new(count % node_count);
        nodes.get_mut(&drained).unwrap().state = NodeState::Draining;
        let found = rebalance(&nodes, &before);
        let held = loads(&before).get(&drained).copied().unwrap_or(0);
        let copied = found.changes.iter().map(|change| change.added().count() as i64).sum::<i64>();
        prop_assert!(copied <= held + i64::from(node_count), "{copied} copies to empty a node of {held}");
        prop_assert!(!loads(&applied(&before, &found)).contains_key(&drained));
    }
}

#[test]
fn too_few_nodes_are_refused() {
    let mut nodes = equal_nodes(3);
    nodes.get_mut(&NodeId::new(1)).unwrap().state = NodeState::Down;
    let placed = place(&nodes, &Placement::new(), &partitions(1), 3);
    assert_eq!(placed, Err(PlaceError::TooFewNodes { wanted: 3, up: 2 }));
}

#[test]
fn the_partners_of_a_node_are_all_the_others() {
    let nodes = equal_nodes(6);
    let placement = place(&nodes, &Placement::new(), &partitions(300), 3).unwrap();
    for id in nodes.keys() {
        let partners: BTreeSet<_> =
            placement.values().filter(|replicas| replicas.contains(id)).flatten().collect();
        assert_eq!(partners.len(), 6, "{id}");
    }
}

#[test]
fn a_heavier_node_takes_and_leads_more() {
    let mut nodes = equal_nodes(3);
    nodes.get_mut(&NodeId::new(0)).unwrap().weight = 2;
    let placement = place(&nodes, &Placement::new(), &partitions(100), 1).unwrap();
    assert_eq!(loads(&placement)[&NodeId::new(0)], 50);
    assert_eq!(leaders(&placement)[&NodeId::new(0)], 50);
}

/// 10,000 partitions with three replicas, as a cluster is asked to hold, when a node comes.
#[test]
fn a_large_cluster_is_rebalanced() {
    let before = place(&equal_nodes(5), &Placement::new(), &partitions(10_000), 3).unwrap();
    let first = fill(&equal_nodes(6), &before, &BTreeSet::from([NodeId::new(5)]), |_| true, 20);
    assert_eq!(first.iter().flat_map(|change| change.added()).count(), 20);
    let after = applied(&before, &rebalance(&equal_nodes(6), &before));
    assert!(loads(&after).values().all(|load| *load == 5_000));
    assert!(spread(&leaders(&after), &equal_nodes(6)) <= 1);
}
