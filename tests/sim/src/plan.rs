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
    /// The controller makes the first replica that answers the primary.
    ElectsTooSoon,
    /// The controller hands over to the shortest of the logs.
    HandsOverToShortest,
    /// A replica that is to come counts as in sync at once, and those that are to go are dropped.
    MovesTooSoon,
    /// A node that is drained loses its replicas at once, however few are left.
    DrainsAtOnce,
    /// A node hides the newest committed record from readers.
    HidesNewest,
    /// A node that starts does not look into its write-ahead log.
    ForgetsWrites,
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
    /// What is said to and by the metadata and comes much later than the rest, out of a million packets.
    pub late_rate: u64,
    /// When the faults end, nodes that are drained stay so, and have to become empty.
    pub stays_drained: bool,
    /// When the faults end, preferred replicas have to lead again.
    pub awaits_preferred: bool,
    /// Lost disks and flipped bits happen as well.
    pub harms_disks: bool,
    /// Print every event as it happens.
    pub follow: bool,
    /// A mistake to find.
    pub bug: Option<Bug>,
    /// The only checker whose findings count; `None` for all.
    pub only: Option<&'static str>,
}

/// Nodes, replicas, quorum, durability.
const TOPOLOGIES: [(u32, u32, usize, Hold); 9] = [
    (3, 3, 2, Hold::Durable),
    (3, 3, 2, Hold::Written),
    (4, 3, 2, Hold::Durable),
    (4, 3, 2, Hold::Written),
    (5, 5, 3, Hold::Durable),
    (5, 5, 4, Hold::Durable),
    (2, 2, 1, Hold::Durable),
    (5, 3, 2, Hold::Durable),
    (5, 2, 2, Hold::Durable),
];

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Plan {
        let mut random = Random::new(seed, 1);
        let (node_count, replica_count, quorum, hold) =
            TOPOLOGIES[random.below(TOPOLOGIES.len() as u64) as usize];
        Plan {
            seed,
            node_count,
            replica_count,
            quorum,
            hold,
            partition_count: 1 + random.below(3) as u32,
            faulty_for: Duration::from_millis(3000 + random.below(4000)),
            fault_rate: [200, 600, 1500][random.below(3) as usize],
            loss_rate: [0, 5_000, 50_000][random.below(3) as usize],
            duplicate_rate: [0, 20_000][random.below(2) as usize],
            delay_max: Duration::from_millis([1, 3, 20][random.below(3) as usize]),
            harms_disks: random.below(2) == 0 && quorum >= 2,
            late_rate: [0, 10_000, 100_000][random.below(3) as usize],
            stays_drained: random.below(3) == 0,
            awaits_preferred: random.below(4) == 0,
            follow: false,
            bug: None,
            only: None,
        }
    }
}
