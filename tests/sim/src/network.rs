//! The network: packets take time, overtake each other, get lost, arrive twice; links are cut, also one way only.
//!
//! Frames between cores travel in connections, which keep their order: what is lost takes the rest of its connection along,
//! until that is made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heddle_proto::ids::{Epoch, NodeId, TopicPartition};
use heddle_replication::leadership::{Change, Grant, SealAnswer};
use heddle_replication::message::Life;
use heddle_replication_driver::Frame;

use crate::plan::Plan;
use crate::random::Random;

/// The controller's address: the metadata's leader, wherever it is.
pub const CONTROLLER: NodeId = NodeId::new(1000);

/// What travels.
#[derive(Clone, Debug)]
pub enum Packet {
    /// Between cores.
    Frame(Frame),
    /// A node lives.
    Heartbeat(Life),
    /// Promise this.
    Seal(TopicPartition, Epoch),
    /// Promised.
    Answer(TopicPartition, Epoch, SealAnswer),
    /// What is in force, and which nodes are to have replicas.
    Granted(TopicPartition, Grant, BTreeSet<NodeId>),
    /// A primary wants another in-sync set.
    Change(TopicPartition, Change),
    /// A primary cannot lead.
    NeedElection(TopicPartition, Epoch),
}

/// See the module.
pub struct Network {
    random: Random,
    loss_rate: u64,
    duplicate_rate: u64,
    delay_max: Duration,
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
        (self.loss_rate, self.duplicate_rate) = (0, 0);
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
        let is_doubled = self.random.chance(self.duplicate_rate);
        self.harmed_count += u64::from(is_doubled);
        for _ in 0..1 + u64::from(is_doubled) {
            let delay = Duration::from_micros(100 + self.random.below(self.delay_max.as_micros() as u64));
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
