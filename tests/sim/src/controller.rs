//! The controller: the metadata's half of replication, by the real rules, as if its consensus never failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heddle_proto::ids::{Epoch, NodeId, Offset, TopicPartition};
use heddle_replication::leadership::Leadership;
use heddle_replication::message::Life;
use heddle_replication::quorum::InSync;
use heddle_replication::rules::Rules;

use crate::network::{CONTROLLER, Network, Packet};
use crate::plan::{Bug, Plan};

/// A node is taken for dead after so long without a heartbeat.
const DEAD_AFTER: Duration = Duration::from_millis(600);
/// An election waits so long for all who live.
const PATIENCE: Duration = Duration::from_millis(200);
const TELL_EVERY: Duration = Duration::from_millis(100);

struct Partition {
    leadership: Leadership,
    replicas: BTreeSet<NodeId>,
    election_since: Duration,
    answered: BTreeSet<NodeId>,
    told_at: Duration,
    needs_election: bool,
    lossy_count: u32,
}

/// See the module.
pub struct Controller {
    partitions: BTreeMap<TopicPartition, Partition>,
    lives: BTreeMap<NodeId, Life>,
    heard_at: BTreeMap<NodeId, Duration>,
    bug: Option<Bug>,
}

impl Controller {
    /// A cluster in which nothing was ever led.
    pub fn new(plan: &Plan, partitions: &[TopicPartition]) -> Controller {
        let placed = partitions.iter().enumerate().map(|(index, partition)| {
            let nodes = (0..plan.replica_count).map(|at| (at + index as u32) % plan.node_count);
            let replicas: BTreeSet<NodeId> = nodes.map(NodeId::new).collect();
            let members = replicas.clone();
            let (quorum, commit_all) = (plan.quorum, plan.commit_all);
            let in_sync = InSync { members, quorum, commit_all, version: 0 };
            let placed = Partition {
                leadership: Leadership::new(in_sync, Rules::default()),
                replicas,
                election_since: Duration::ZERO,
                answered: BTreeSet::new(),
                told_at: Duration::ZERO,
                needs_election: false,
                lossy_count: 0,
            };
            (*partition, placed)
        });
        Controller {
            partitions: placed.collect(),
            lives: BTreeMap::new(),
            heard_at: BTreeMap::new(),
            bug: plan.bug,
        }
    }

    /// A node starts and gets its life.
    pub fn register(&mut self, now: Duration, node: NodeId) -> Life {
        let life = self.lives.entry(node).or_default();
        life.0 += 1;
        self.heard_at.insert(node, now);
        *life
    }

    /// The newest epoch anybody can have promised, and whether the partition was ever led.
    pub fn newest(&self, partition: TopicPartition) -> (Epoch, bool) {
        let leadership = &self.partitions[&partition].leadership;
        (leadership.newest_epoch(), leadership.grant().primary.is_some())
    }

    /// The nodes that are to have a replica.
    pub fn replicas(&self, partition: TopicPartition) -> &BTreeSet<NodeId> {
        &self.partitions[&partition].replicas
    }

    /// Members of the in-sync set.
    pub fn members(&self, partition: TopicPartition) -> &BTreeSet<NodeId> {
        &self.partitions[&partition].leadership.grant().in_sync.members
    }

    /// Who leads, as far as the controller knows.
    pub fn primary(&self, partition: TopicPartition) -> Option<NodeId> {
        self.partitions[&partition].leadership.grant().primary.map(|(node, _)| node)
    }

    /// How many elections may have lost what was committed.
    pub fn lossy_count(&self, partition: TopicPartition) -> u32 {
        self.partitions[&partition].lossy_count
    }

    /// A replica moves to another node.
    pub fn reassign(&mut self, partition: TopicPartition, leaves: NodeId, comes: NodeId) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.replicas.remove(&leaves);
            partition.replicas.insert(comes);
        }
    }

    /// A packet has arrived here.
    pub fn receive(&mut self, now: Duration, from: NodeId, packet: Packet) {
        match packet {
            Packet::Heartbeat(life) if self.lives.get(&from) == Some(&life) => {
                self.heard_at.insert(from, now);
            }
            Packet::Answer(partition, epoch, mut answer) => {
                if self.bug == Some(Bug::ElectsShortest) {
                    (answer.accepted, answer.end) = (Epoch::new(0), Offset::new(i64::MAX - answer.end.get()));
                }
                let Some(partition) = self.partitions.get_mut(&partition) else { return };
                if partition.leadership.electing() == Some(epoch) {
                    partition.answered.insert(from);
                }
                partition.leadership.answer(from, epoch, answer);
            }
            Packet::Change(partition, change) => {
                let Some(partition) = self.partitions.get_mut(&partition) else { return };
                if partition.leadership.change(&change).is_ok() {
                    partition.told_at = Duration::ZERO;
                }
            }
            Packet::NeedElection(partition, epoch) => {
                let Some(partition) = self.partitions.get_mut(&partition) else { return };
                partition.needs_election |= partition.leadership.grant().epoch == epoch;
            }
            _ => {}
        }
    }

    /// Does what the clock makes due.
    pub fn tick(&mut self, now: Duration, network: &mut Network) {
        let heard_at = &self.heard_at;
        let lives =
            |node: &NodeId| heard_at.get(node).is_some_and(|heard| now.saturating_sub(*heard) < DEAD_AFTER);
        let known = &self.lives;
        for (at, partition) in &mut self.partitions {
            let leads = partition.leadership.grant().primary.is_some_and(|(node, life)| {
                lives(&node) && known.get(&node) == Some(&life) && !partition.needs_election
            });
            if partition.leadership.electing().is_none() && !leads {
                partition.leadership.begin_election();
                partition.election_since = now;
                partition.answered.clear();
                partition.needs_election = false;
                partition.told_at = Duration::ZERO;
            }
            partition.elect(now, &lives);
            if partition.told_at == Duration::ZERO || now >= partition.told_at + TELL_EVERY {
                partition.told_at = now;
                let twice = known.iter().filter(|_| self.bug == Some(Bug::TwoPrimaries));
                partition.tell(now, *at, &twice.map(|(node, life)| (*node, *life)).collect(), network);
            }
        }
    }
}

impl Partition {
    fn elect(&mut self, now: Duration, lives: &impl Fn(&NodeId) -> bool) {
        if self.leadership.electing().is_none() {
            return;
        }
        let members = &self.leadership.grant().in_sync.members;
        let all_alive_answered =
            members.iter().filter(|node| lives(node)).all(|node| self.answered.contains(node));
        if !all_alive_answered && now < self.election_since + PATIENCE {
            return;
        }
        if self.leadership.elect().is_ok() {
            self.told_at = Duration::ZERO;
        } else if self.leadership.elect_lossy().is_ok() {
            self.lossy_count += 1;
            self.told_at = Duration::ZERO;
        }
    }

    /// Tells everybody what is in force. Who is in `twice` is told that it leads itself: a mistake planted on purpose.
    fn tell(&self, now: Duration, at: TopicPartition, twice: &BTreeMap<NodeId, Life>, network: &mut Network) {
        let grant = self.leadership.grant();
        let everybody: BTreeSet<NodeId> = self.replicas.union(&grant.in_sync.members).copied().collect();
        for node in everybody {
            if let Some(epoch) = self.leadership.electing().filter(|_| grant.in_sync.members.contains(&node))
            {
                network.send(now, CONTROLLER, node, Packet::Seal(at, epoch));
            }
            let mut told = grant.clone();
            if let Some(life) = twice.get(&node).filter(|_| grant.primary.is_some()) {
                told.primary = Some((node, *life));
            }
            network.send(now, CONTROLLER, node, Packet::Granted(at, told, self.replicas.clone()));
        }
    }
}
