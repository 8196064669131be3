//! What one run is like: the cluster and the faults, drawn from the seed.

use std::time::Duration;

use heddle_replication::replica::Hold;

use crate::random::Random;

/// A mistake planted to see that a checker finds it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Disks say that they have stored what goes to the write-ahead log, and have not.
    DiskLies,
    /// A client sends again what may have arrived, behind what it has sent since.
    RetryOutOfOrder,
    /// A node changes a record that it receives.
    AltersRecord,
    /// The controller grants an epoch to two nodes.
    TwoPrimaries,
    /// The controller takes the shortest log for the longest.
    ElectsShortest,
    /// A node hides the newest committed record from readers.
    HidesNewest,
    /// A node never hears that its promises are on stable storage.
    DeafToPromises,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Nodes; each partition has replicas on some of them.
    pub node_count: u32,
    /// Replicas of a partition.
    pub replica_count: u32,
    /// `min.insync.replicas`.
    pub quorum: usize,
    /// Whether all members commit.
    pub commit_all: bool,
    /// Durability of the topic.
    pub hold: Hold,
    /// Partitions.
    pub partition_count: u32,
    /// How long faults happen.
    pub faulty_for: Duration,
    /// Chance of each kind of fault in a millisecond, out of a million.
    pub fault_rate: u64,
    /// Frames lost, out of a million.
    pub loss_rate: u64,
    /// Frames that arrive twice, out of a million.
    pub duplicate_rate: u64,
    /// Longest delay of a frame; frames overtake each other within it.
    pub delay_max: Duration,
    /// Lost disks and flipped bits happen as well.
    pub harms_disks: bool,
    /// Print every event as it happens.
    pub follow: bool,
    /// A mistake to find.
    pub bug: Option<Bug>,
}

/// Nodes, replicas, quorum, whether all commit, durability.
const TOPOLOGIES: [(u32, u32, usize, bool, Hold); 9] = [
    (3, 3, 2, false, Hold::Durable),
    (3, 3, 2, false, Hold::Written),
    (3, 3, 2, true, Hold::Durable),
    (4, 3, 2, false, Hold::Durable),
    (5, 5, 3, false, Hold::Durable),
    (5, 5, 4, false, Hold::Durable),
    (2, 2, 1, false, Hold::Durable),
    (3, 3, 1, true, Hold::Written),
    (5, 3, 2, true, Hold::Durable),
];

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Plan {
        let mut random = Random::new(seed, 1);
        let (node_count, replica_count, quorum, commit_all, hold) =
            TOPOLOGIES[random.below(TOPOLOGIES.len() as u64) as usize];
        Plan {
            seed,
            node_count,
            replica_count,
            quorum,
            commit_all,
            hold,
            partition_count: 1 + random.below(3) as u32,
            faulty_for: Duration::from_millis(3000 + random.below(4000)),
            fault_rate: [200, 600, 1500][random.below(3) as usize],
            loss_rate: [0, 5_000, 50_000][random.below(3) as usize],
            duplicate_rate: [0, 20_000][random.below(2) as usize],
            delay_max: Duration::from_millis([1, 3, 20][random.below(3) as usize]),
            harms_disks: random.below(2) == 0 && quorum >= 2,
            follow: false,
            bug: None,
        }
    }
}
