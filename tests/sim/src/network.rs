//! The network: packets take time, overtake each other, get lost, arrive twice; links are cut, also one way only.
//!
//! Frames between cores travel in connections, which keep their order: what is lost takes the rest of its connection along,
//! until that is made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use heddle_core::cluster::message::Tell;
use heddle_core::metadata::{ClusterImage, Command};
use heddle_proto::ids::NodeId;
use heddle_replication_driver::Frame;

use crate::metadata::Leader;
use crate::plan::Plan;
use crate::random::Random;

/// The address of the agreement on the metadata, which is nowhere in particular.
pub const METADATA: NodeId = NodeId::new(1000);

/// What is late comes up to so much later than the longest delay of a frame.
const LATE_MAX: Duration = Duration::from_millis(800);

/// What travels.
#[derive(Clone, Debug)]
pub enum Packet {
    /// Between cores.
    Frame(Frame),
    /// From the agreement: the metadata as of some command, and who leads it.
    Image(Arc<ClusterImage>, Option<Leader>),
    /// To whoever leads the metadata: a node lives, and has this to say. With the number of the question.
    Tell(u64, Tell),
    /// Whether the tell of this number was heard by one who leads.
    Told(u64, bool),
    /// To the agreement: a command, and the number of the question.
    Propose(u64, Command),
    /// The proposal of this number is decided upon in the image of this index.
    Decided(u64, u64),
}

/// See the module.
pub struct Network {
    random: Random,
    loss_rate: u64,
    duplicate_rate: u64,
    delay_max: Duration,
    /// Packets beside frames that are late, out of a million.
    late_rate: u64,
    cut: BTreeSet<(NodeId, NodeId)>,
    under_way: BTreeMap<(Duration, u64), (NodeId, NodeId, Packet)>,
    /// When the newest frame of a link arrives.
    last_arrival: BTreeMap<(NodeId, NodeId), Duration>,
    /// Connections that have lost something, and when.
    broken: BTreeMap<(NodeId, NodeId), (u64, Duration)>,
    sent_count: u64,
    /// Packets lost or doubled.
    pub harmed_count: u64,
}

impl Network {
    /// A network whose links are all up.
    pub fn new(plan: &Plan) -> Network {
        Network {
            random: Random::new(plan.seed, 2),
            loss_rate: plan.loss_rate,
            duplicate_rate: plan.duplicate_rate,
            delay_max: plan.delay_max,
            late_rate: plan.late_rate,
            cut: BTreeSet::new(),
            under_way: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            broken: BTreeMap::new(),
            sent_count: 0,
            harmed_count: 0,
        }
    }

    /// No more faults.
    pub fn heal(&mut self) {
        self.cut.clear();
        (self.loss_rate, self.duplicate_rate, self.late_rate) = (0, 0, 0);
        self.delay_max = Duration::from_millis(1);
    }

    /// Cuts a link in one direction, or mends it.
    pub fn set_cut(&mut self, from: NodeId, to: NodeId, is_cut: bool) {
        if is_cut {
            self.cut.insert((from, to));
        } else {
            self.cut.remove(&(from, to));
        }
    }

    /// Whether a link is cut in one direction or both.
    pub fn is_cut(&self, one: NodeId, other: NodeId) -> bool {
        self.cut.contains(&(one, other)) || self.cut.contains(&(other, one))
    }

    /// Mends every link.
    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// Sends a packet.
    pub fn send(&mut self, now: Duration, from: NodeId, to: NodeId, packet: Packet) {
        let is_lost = self.cut.contains(&(from, to)) || self.random.chance(self.loss_rate);
        self.harmed_count += u64::from(is_lost);
        let connection = match &packet {
            Packet::Frame(frame) => Some(frame.connection),
            _ => None,
        };
        if let Some(connection) = connection {
            let is_broken = self.broken.get(&(from, to)).is_some_and(|(number, _)| *number == connection);
            if is_lost && !is_broken {
                self.broken.insert((from, to), (connection, now));
            }
            if is_lost || is_broken {
                return;
            }
        } else if is_lost {
            return;
        }
        // A proposal whose answer is lost is not made again.
        let is_doubled = !matches!(packet, Packet::Propose(..)) && self.random.chance(self.duplicate_rate);
        self.harmed_count += u64::from(is_doubled);
        for _ in 0..1 + u64::from(is_doubled) {
            let mut delay = Duration::from_micros(100 + self.random.below(self.delay_max.as_micros() as u64));
            if connection.is_none() && self.random.chance(self.late_rate) {
                delay += Duration::from_micros(self.random.below(LATE_MAX.as_micros() as u64));
            }
            let mut arrival = now + delay;
            if connection.is_some() {
                let last = self.last_arrival.entry((from, to)).or_default();
                arrival = arrival.max(*last);
                *last = arrival;
            }
            self.sent_count += 1;
            self.under_way.insert((arrival, self.sent_count), (from, to, packet.clone()));
        }
    }

    /// Ends of connections at `from` that have been broken for so long that it shows.
    pub fn broken_at(&mut self, now: Duration, from: NodeId) -> Vec<NodeId> {
        const SHOWS_AFTER: Duration = Duration::from_millis(150);
        let shows = |since: Duration| now.saturating_sub(since) >= SHOWS_AFTER;
        let ends = self.broken.iter().filter(|((at, _), (_, since))| *at == from && shows(*since));
        let peers: Vec<NodeId> = ends.map(|((_, to), _)| *to).collect();
        self.broken.retain(|(at, to), _| *at != from || !peers.contains(to));
        peers
    }

    /// A packet waits at its destination.
    pub fn delay(&mut self, until: Duration, from: NodeId, to: NodeId, packet: Packet) {
        self.sent_count += 1;
        self.under_way.insert((until, self.sent_count), (from, to, packet));
    }

    /// The next packet that has arrived by now.
    pub fn arrived(&mut self, now: Duration) -> Option<(NodeId, NodeId, Packet)> {
        let first = self.under_way.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}
