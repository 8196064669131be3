//! Which nodes hold a partition's replicas, and which of them leads it when all are well.
//!
//! Pure and without chance: the same cluster gives the same answer, whoever asks. [`place`] is for a new topic, [`fill`] for
//! nodes that came, [`rebalance`] for everything that changes later: one that is drained, one that is gone for good. What they
//! hold to:
//!
//! - Replicas of a partition are on distinct nodes, and on as many racks as there are to have. A node without a rack is a rack
//!   of its own.
//! - What must move moves; beyond that only what makes the nodes more equal, never the same replica twice. Loads are counted in
//!   replicas and weighed by the cores of a node, within one replica of its share where racks leave the choice.
//! - Leaders are spread the same way, by the order of replicas alone: that moves no data.
//! - A node that is down keeps what it has, also its turn to lead: it comes back, or the operator removes it.
//!
//! The caller is the metadata's leader; how fast changes are carried out is its budget of bandwidth.

mod leaders;
mod replicas;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use heddle_proto::ids::{NodeId, TopicPartition};

use table::Table;

/// What placement has to know of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name of what fails together; `None`: this node alone.
    pub rack: Option<String>,
    /// Its cores: how much it takes beside others. At least 1.
    pub weight: u32,
    /// What may be put on it.
    pub state: NodeState,
}

/// What may be put on a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Takes replicas.
    Up,
    /// Keeps what it has and takes nothing.
    Down,
    /// Gives everything away.
    Draining,
}

/// The cluster. A node that is named by a partition and is not in here is gone for good.
pub type Nodes = BTreeMap<NodeId, Node>;

/// The nodes of each partition's replicas, distinct, the preferred leader first.
pub type Placement = BTreeMap<TopicPartition, Vec<NodeId>>;

/// Why a partition cannot be placed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Replicas must be on distinct nodes.
    #[error("{wanted} replicas need as many nodes that take replicas, and there are {up}")]
    TooFewNodes {
        /// Replicas asked for.
        wanted: usize,
        /// Nodes in state [`NodeState::Up`].
        up: usize,
    },
}

/// New replicas of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The partition.
    pub partition: TopicPartition,
    /// Its replicas now.
    pub from: Vec<NodeId>,
    /// Its replicas after. As many as before; the same ones in another order if only the preferred leader changes.
    pub to: Vec<NodeId>,
}

impl Change {
    /// The nodes that have to copy the partition.
    pub fn added(&self) -> impl Iterator<Item = NodeId> {
        self.to.iter().copied().filter(|node| !self.from.contains(node))
    }
}

/// What [`rebalance`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebalance {
    /// Every partition that should change, in order.
    pub changes: Vec<Change>,
    /// Partitions with a replica on a node that drains or is gone and no other node to take it. They keep it.
    pub stranded: Vec<TopicPartition>,
}

/// Places new partitions beside those that are there.
///
/// # Errors
/// [`PlaceError::TooFewNodes`].
pub fn place(
    nodes: &Nodes,
    existing: &Placement,
    new: &[TopicPartition],
    replica_count: usize,
) -> Result<Placement, PlaceError> {
    let up = nodes.values().filter(|node| node.state == NodeState::Up).count();
    if up < replica_count {
        return Err(PlaceError::TooFewNodes { wanted: replica_count, up });
    }
    let mut table = Table::new(nodes, existing);
    let first_new = table.partition_count();
    for partition in new {
        replicas::add(&mut table, *partition, replica_count);
    }
    leaders::spread(&mut table, first_new, usize::MAX);
    Ok(table.placement(first_new).collect())
}

/// What should change so that every replica is on a node that keeps it and the load is spread.
pub fn rebalance(nodes: &Nodes, existing: &Placement) -> Rebalance {
    let mut table = Table::new(nodes, existing);
    let mut left = usize::MAX;
    let stranded = replicas::evacuate(&mut table);
    replicas::spread_racks(&mut table, &mut left);
    replicas::spread_load(&mut table, &mut left);
    leaders::leave(&mut table);
    leaders::spread(&mut table, 0, usize::MAX);
    Rebalance { changes: changes(&table, existing), stranded }
}

/// What should change next so that the nodes in `newcomers` get their share: replicas go to those alone, at most `moves_max`,
/// and of partitions that `may_change`. Asked again after that it goes on, until nothing is left: each answer makes the nodes
/// more equal.
pub fn fill(
    nodes: &Nodes,
    existing: &Placement,
    newcomers: &BTreeSet<NodeId>,
    may_change: impl Fn(&TopicPartition) -> bool,
    moves_max: usize,
) -> Vec<Change> {
    let mut table = Table::new(nodes, existing);
    for node in &mut table.nodes {
        node.takes &= newcomers.contains(&node.id);
    }
    table.fixed = (0..table.partition_count()).filter(|it| !may_change(&table.partition(*it))).collect();
    let mut left = moves_max;
    replicas::spread_racks(&mut table, &mut left);
    replicas::spread_load(&mut table, &mut left);
    leaders::spread(&mut table, 0, moves_max);
    changes(&table, existing)
}

fn changes(table: &Table, existing: &Placement) -> Vec<Change> {
    let change = |(partition, to)| {
        let from: &Vec<NodeId> = &existing[&partition];
        (*from != to).then(|| Change { partition, from: from.clone(), to })
    };
    table.placement(0).filter_map(change).collect()
}
