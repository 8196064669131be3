//! Faults, drawn from the seed: what happens to nodes, disks, links, clocks and placement, and when it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_core::metadata::{Command, ReplicaSlot};
use heddle_proto::ids::{NodeId, Offset, TopicPartition};
use heddle_replication::replica::Hold;

use crate::cluster::Cluster;
use crate::metadata::TOPIC;
use crate::network::METADATA;
use crate::random::Random;

/// One kind of fault.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fault {
    Crash,
    CleanStop,
    Leave,
    NewLeader,
    HandOver,
    Drain,
    Undrain,
    Start,
    Pause,
    Partition,
    OneWay,
    Mend,
    FullDisk,
    FreeDisk,
    ClockJump,
    Wipe,
    FlipBit,
    LoseWrite,
    Reassign,
    Trim,
}

/// Each as often as it stands here.
const FAULTS: [Fault; 35] = [
    Fault::Crash,
    Fault::Crash,
    Fault::Crash,
    Fault::CleanStop,
    Fault::Leave,
    Fault::Leave,
    Fault::NewLeader,
    Fault::NewLeader,
    Fault::HandOver,
    Fault::Drain,
    Fault::Undrain,
    Fault::Start,
    Fault::Start,
    Fault::Start,
    Fault::Start,
    Fault::Start,
    Fault::Pause,
    Fault::Pause,
    Fault::Partition,
    Fault::OneWay,
    Fault::Mend,
    Fault::Mend,
    Fault::FullDisk,
    Fault::FreeDisk,
    Fault::FreeDisk,
    Fault::ClockJump,
    Fault::Wipe,
    Fault::FlipBit,
    Fault::LoseWrite,
    Fault::Reassign,
    Fault::Reassign,
    Fault::Reassign,
    Fault::Reassign,
    Fault::Reassign,
    Fault::Trim,
];

/// See the module.
pub struct Faults {
    random: Random,
    rate: u64,
    harms_disks: bool,
    /// Where replicas were to be before the last move.
    before: BTreeMap<TopicPartition, Vec<u32>>,
}

impl Faults {
    /// The faults of a plan.
    pub fn new(plan: &crate::plan::Plan) -> Faults {
        let random = Random::new(plan.seed, 4);
        Faults { random, rate: plan.fault_rate, harms_disks: plan.harms_disks, before: BTreeMap::new() }
    }

    /// Called every millisecond.
    pub fn tick(&mut self, cluster: &mut Cluster) {
        if self.random.chance(self.rate * 5) {
            let fault = FAULTS[self.random.below(FAULTS.len() as u64) as usize];
            self.inject(fault, cluster);
        }
    }

    fn inject(&mut self, fault: Fault, cluster: &mut Cluster) {
        let index = self.random.below(cluster.nodes.len() as u64) as usize;
        let id = cluster.nodes[index].id;
        cluster.note(format_args!("{fault:?} {id}"));
        if !self.is_fair(fault, id, cluster) {
            return;
        }
        let is_remedy = matches!(fault, Fault::Start | Fault::Mend | Fault::FreeDisk | Fault::Undrain);
        cluster.fault_count += u64::from(!is_remedy);
        match fault {
            Fault::Crash => cluster.crash(index),
            Fault::CleanStop => cluster.stop(index),
            Fault::Leave => cluster.leave(index),
            Fault::NewLeader => {
                let candidates = cluster.candidates();
                cluster.metadata.elect(&candidates);
                cluster.note_leader();
            }
            Fault::HandOver => self.hand_over(index, cluster),
            Fault::Drain | Fault::Undrain => {
                let is_draining = fault == Fault::Drain;
                cluster.ask(Command::DrainNode { node: id.get(), is_draining });
            }
            Fault::Start => cluster.start(index),
            Fault::Pause => {
                let pause = Duration::from_millis(self.random.below(2500));
                cluster.nodes[index].paused_until = cluster.now + pause;
            }
            Fault::Partition | Fault::OneWay => self.cut(fault, id, cluster),
            Fault::Mend => cluster.network.mend(),
            Fault::FullDisk => {
                let disk = &cluster.nodes[index].disk;
                disk.set_capacity(Some(disk.used_bytes() + self.random.below(96 << 10)));
            }
            Fault::FreeDisk => cluster.nodes[index].disk.set_capacity(None),
            Fault::ClockJump => {
                cluster.nodes[index].clock_ahead += Duration::from_millis(self.random.below(1500));
            }
            Fault::Wipe => cluster.wipe(index),
            Fault::FlipBit => self.flip_bit(index, cluster),
            Fault::LoseWrite => cluster.nodes[index].disk.lose_next_write(".log"),
            Fault::Reassign => self.reassign(cluster),
            Fault::Trim => self.trim(index, cluster),
        }
    }

    /// Whether nothing that counts as committed may be lost by it: disks are harmed, and memory where it counts, only while all
    /// others are whole.
    fn is_fair(&self, fault: Fault, id: NodeId, cluster: &Cluster) -> bool {
        match fault {
            Fault::Crash => cluster.plan.hold == Hold::Durable || cluster.may_harm(id),
            Fault::Wipe | Fault::FlipBit | Fault::LoseWrite => self.harms_disks && cluster.may_harm(id),
            _ => true,
        }
    }

    /// Cuts a node off from some others, the metadata among them, in both directions or one.
    fn cut(&mut self, fault: Fault, id: NodeId, cluster: &mut Cluster) {
        let others: Vec<NodeId> = cluster.nodes.iter().map(|node| node.id).chain([METADATA]).collect();
        for other in others.into_iter().filter(|other| *other != id) {
            if self.random.below(3) > 0 {
                cluster.network.set_cut(id, other, true);
                if fault == Fault::Partition {
                    cluster.network.set_cut(other, id, true);
                }
            }
        }
    }

    /// Rot in what has reached a segment, seen at the next start.
    fn flip_bit(&mut self, index: usize, cluster: &mut Cluster) {
        cluster.crash(index);
        let disk = &cluster.nodes[index].disk;
        let mut files = disk.files();
        files.retain(|(path, bytes)| path.to_string_lossy().ends_with(".log") && !bytes.is_empty());
        let Some((path, bytes)) = files.get(self.random.below(files.len().max(1) as u64) as usize) else {
            return;
        };
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
        disk.flip_bit(path, self.random.below(used), self.random.below(8) as u8);
    }

    /// An operator moves the replicas of a partition somewhere else, or takes a move back. What is refused is refused.
    fn reassign(&mut self, cluster: &mut Cluster) {
        let Some(at) = self.random.pick(&cluster.partitions) else { return };
        let mut nodes: Vec<u32> = cluster.nodes.iter().map(|node| node.id.get()).collect();
        let wanted = cluster.metadata.partition(at).wanted().iter().map(|replica| replica.node);
        let wanted: Vec<u32> = wanted.collect();
        let count = match self.random.below(4) {
            0 => 1 + self.random.below(nodes.len() as u64) as usize,
            _ => cluster.plan.replica_count as usize,
        };
        let back = self.before.get(&at).filter(|before| **before != wanted).cloned();
        let drawn: Vec<u32> = match (self.random.below(3), back) {
            (1, Some(before)) => before,
            // One that goes, and perhaps one that comes.
            (0, _) => {
                nodes.retain(|node| !wanted.contains(node));
                let goes = self.random.pick(&wanted);
                let comes = self.random.pick(&nodes).filter(|_| self.random.below(3) > 0);
                wanted.iter().copied().filter(|node| Some(*node) != goes).chain(comes).collect()
            }
            _ => (0..count)
                .map(|_| nodes.swap_remove(self.random.below(nodes.len() as u64) as usize))
                .collect(),
        };
        // With fewer the commit quorum changes as well, which is not simulated.
        if drawn.len() < cluster.plan.quorum.max(2) {
            return;
        }
        let target: Vec<ReplicaSlot> = drawn.into_iter().map(|node| ReplicaSlot { node, slot: 0 }).collect();
        let target = (self.random.below(6) > 0).then_some(target);
        let partition = at.partition.get();
        cluster.ask(Command::Reassign { topic: TOPIC.into(), partition, target });
    }

    /// An operator wants somebody else to lead, as far as one node knows who does.
    fn hand_over(&mut self, index: usize, cluster: &mut Cluster) {
        let Some(at) = self.random.pick(&cluster.partitions) else { return };
        let Some(up) = cluster.nodes[index].up.as_ref() else { return };
        let Some(known) = up.told.get(&at).map(|partition| partition.epoch()) else { return };
        let Some(leader) = cluster.metadata.leader() else { return };
        let (now, node) = (cluster.now, &mut cluster.nodes[leader.node.get() as usize]);
        let clock = node.clock(now);
        if let Some(up) = node.up.as_mut() {
            up.session.hand_over(clock, at, known);
        }
    }

    /// Retention between two batches, or a request that deletes a part of one, on one replica alone.
    fn trim(&mut self, index: usize, cluster: &mut Cluster) {
        let Some(partition) = self.random.pick(&cluster.partitions) else { return };
        let node = &mut cluster.nodes[index];
        let Some(up) = node.up.as_ref().filter(|_| cluster.now >= node.paused_until) else { return };
        let known = up
            .driver
            .borrow()
            .replica(partition)
            .map(|replica| (replica.log().start, replica.committed().min(replica.log().durable)));
        let Some((start, safe)) = known else { return };
        let acked = &cluster.clients.views[&partition].acked;
        let within = |base: &Offset| *base > start && *base <= safe;
        let mut starts: Vec<Offset> = acked.iter().map(|acked| acked.base).filter(within).collect();
        if self.random.chance(500_000) {
            starts = starts.iter().map(|base| base.plus(1)).filter(within).collect();
        }
        if let Some(before) = self.random.pick(&starts) {
            node.trim(partition, before);
        }
    }
}
