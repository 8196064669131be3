//! The cluster by index: nodes, racks, and who holds and leads what, kept up to date by every change.

use std::collections::{BTreeMap, BTreeSet};

use heddle_proto::ids::{NodeId, TopicPartition};

use super::{NodeState, Nodes, Placement};

/// Index of a node in the [`Table`].
pub(super) type NodeIndex = usize;

/// Index of a partition in the [`Table`], in the order they came.
pub(super) type PartitionSlot = usize;

pub(super) struct TableNode {
    pub id: NodeId,
    pub rack: usize,
    pub weight: i64,
    /// `None`: gone for good.
    pub state: Option<NodeState>,
    /// Whether it may get a replica, or a turn to lead, that makes the nodes more equal.
    pub takes: bool,
    /// What it holds a replica of.
    pub held: BTreeSet<PartitionSlot>,
    /// What it is the preferred leader of.
    pub led: BTreeSet<PartitionSlot>,
}

impl TableNode {
    pub fn is_up(&self) -> bool {
        self.state == Some(NodeState::Up)
    }

    /// Whether what it holds has to go elsewhere.
    pub fn is_leaving(&self) -> bool {
        matches!(self.state, None | Some(NodeState::Draining))
    }
}

pub(super) struct Table {
    pub nodes: Vec<TableNode>,
    partitions: Vec<(TopicPartition, Vec<NodeIndex>)>,
    /// Partitions that count and stay as they are.
    pub fixed: BTreeSet<PartitionSlot>,
}

impl Table {
    pub fn new(nodes: &Nodes, placement: &Placement) -> Table {
        let mut racks = BTreeMap::new();
        let mut rack_count = 0;
        let mut new_rack = || {
            rack_count += 1;
            rack_count - 1
        };
        let mut table = Table { nodes: Vec::new(), partitions: Vec::new(), fixed: BTreeSet::new() };
        let mut indexes = BTreeMap::new();
        for (id, node) in nodes {
            let rack = match &node.rack {
                Some(name) => *racks.entry(name.as_str()).or_insert_with(&mut new_rack),
                None => new_rack(),
            };
            indexes.insert(*id, table.nodes.len());
            table.nodes.push(TableNode {
                id: *id,
                rack,
                weight: i64::from(node.weight.max(1)),
                state: Some(node.state),
                takes: node.state == NodeState::Up,
                held: BTreeSet::new(),
                led: BTreeSet::new(),
            });
        }
        for (partition, replicas) in placement {
            let replicas = replicas.iter().map(|id| {
                *indexes.entry(*id).or_insert_with(|| {
                    let (rack, held, led) = (new_rack(), BTreeSet::new(), BTreeSet::new());
                    let gone = TableNode { id: *id, rack, weight: 1, state: None, takes: false, held, led };
                    table.nodes.push(gone);
                    table.nodes.len() - 1
                })
            });
            let replicas = replicas.collect();
            table.insert(*partition, replicas);
        }
        table
    }

    /// A partition more, with these replicas.
    pub fn insert(&mut self, partition: TopicPartition, replicas: Vec<NodeIndex>) {
        let index = self.partitions.len();
        for node in &replicas {
            let is_new = self.nodes[*node].held.insert(index);
            assert!(is_new, "two replicas of {partition:?} on one node");
        }
        if let Some(leader) = replicas.first() {
            self.nodes[*leader].led.insert(index);
        }
        self.partitions.push((partition, replicas));
    }

    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    pub fn partition(&self, partition: PartitionSlot) -> TopicPartition {
        self.partitions[partition].0
    }

    /// The preferred leader comes first.
    pub fn replicas(&self, partition: PartitionSlot) -> &[NodeIndex] {
        &self.partitions[partition].1
    }

    /// Puts the replica on `from` on `to`, with its place in the order.
    pub fn move_replica(&mut self, partition: PartitionSlot, from: NodeIndex, to: NodeIndex) {
        let place = self.place_of(partition, from);
        self.partitions[partition].1[place] = to;
        self.nodes[from].held.remove(&partition);
        let is_new = self.nodes[to].held.insert(partition);
        assert!(is_new, "two replicas of {:?} on one node", self.partition(partition));
        if place == 0 {
            self.nodes[from].led.remove(&partition);
            self.nodes[to].led.insert(partition);
        }
    }

    /// Makes a replica the preferred leader; the one that was takes its place.
    pub fn lead(&mut self, partition: PartitionSlot, leader: NodeIndex) {
        let place = self.place_of(partition, leader);
        let replicas = &mut self.partitions[partition].1;
        self.nodes[replicas[0]].led.remove(&partition);
        replicas.swap(0, place);
        self.nodes[leader].led.insert(partition);
    }

    fn place_of(&self, partition: PartitionSlot, node: NodeIndex) -> usize {
        let place = self.replicas(partition).iter().position(|replica| *replica == node);
        place.expect("a node that holds a replica")
    }

    /// How many racks the replicas would be on if the one on `from` were on `to`. With `from == to`: are on.
    pub fn rack_count(&self, partition: PartitionSlot, from: NodeIndex, to: NodeIndex) -> usize {
        let nodes = self.replicas(partition).iter().map(|node| if *node == from { to } else { *node });
        nodes.map(|node| self.nodes[node].rack).collect::<BTreeSet<_>>().len()
    }

    pub fn up(&self) -> impl Iterator<Item = NodeIndex> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up())
    }

    /// The nodes that may get something.
    pub fn takers(&self) -> impl Iterator<Item = NodeIndex> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].takes)
    }

    /// Partitions from `first` on, with their replicas by name.
    pub fn placement(&self, first: PartitionSlot) -> impl Iterator<Item = (TopicPartition, Vec<NodeId>)> {
        self.partitions[first..].iter().map(|(partition, replicas)| {
            (*partition, replicas.iter().map(|node| self.nodes[*node].id).collect())
        })
    }
}

/// How far the nodes that are up are from their shares of what `count` counts: each share goes by weight. In
/// parts of one: [`Shares::one`] is one replica.
pub(super) struct Shares {
    total: i64,
    weight: i64,
    count: fn(&TableNode) -> usize,
}

impl Shares {
    /// The shares stay the same while replicas move between nodes that are up.
    pub fn new(table: &Table, count: fn(&TableNode) -> usize) -> Shares {
        let total = table.up().map(|node| count(&table.nodes[node]) as i64).sum();
        Shares { total, weight: table.up().map(|node| table.nodes[node].weight).sum(), count }
    }

    /// What `node` has above its share; below 0: what it lacks.
    pub fn excess(&self, node: &TableNode) -> i64 {
        (self.count)(node) as i64 * self.weight - self.total * node.weight
    }

    /// Whether moving one from the first node to the second makes them more equal: the sum of the squares of what is above and
    /// below falls exactly then, which is why moves come to an end.
    pub fn pays(&self, from: &TableNode, to: &TableNode) -> bool {
        self.excess(from) - self.excess(to) > self.one()
    }

    fn one(&self) -> i64 {
        self.weight
    }
}
