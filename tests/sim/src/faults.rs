//! Faults, drawn from the seed: what happens to nodes, disks, links, clocks and placement, and when it ends.

use std::time::Duration;

use heddle_proto::ids::{NodeId, Offset};
use heddle_replication::replica::Hold;

use crate::cluster::Cluster;
use crate::network::CONTROLLER;
use crate::random::Random;

/// One kind of fault.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fault {
    Crash,
    CleanStop,
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
const FAULTS: [Fault; 24] = [
    Fault::Crash,
    Fault::Crash,
    Fault::Crash,
    Fault::CleanStop,
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
    Fault::Trim,
];

/// See the module.
pub struct Faults {
    random: Random,
    rate: u64,
    harms_disks: bool,
}

impl Faults {
    /// The faults of a plan.
    pub fn new(plan: &crate::plan::Plan) -> Faults {
        Faults { random: Random::new(plan.seed, 4), rate: plan.fault_rate, harms_disks: plan.harms_disks }
    }

    /// Called every millisecond.
    pub fn tick(&mut self, cluster: &mut Cluster) {
        if self.random.chance(self.rate * 4) {
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
        let is_remedy = matches!(fault, Fault::Start | Fault::Mend | Fault::FreeDisk);
        cluster.fault_count += u64::from(!is_remedy);
        match fault {
            Fault::Crash => cluster.crash(index),
            Fault::CleanStop => cluster.stop(index),
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

    /// Cuts a node off from some others, the controller among them, in both directions or one.
    fn cut(&mut self, fault: Fault, id: NodeId, cluster: &mut Cluster) {
        let others: Vec<NodeId> = cluster.nodes.iter().map(|node| node.id).chain([CONTROLLER]).collect();
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

    /// Moves a replica to a node that has none.
    fn reassign(&mut self, cluster: &mut Cluster) {
        let Some(partition) = self.random.pick(&cluster.partitions) else { return };
        let replicas = cluster.controller.replicas(partition).clone();
        let spare: Vec<NodeId> =
            cluster.nodes.iter().map(|node| node.id).filter(|id| !replicas.contains(id)).collect();
        let leader = cluster.controller.primary(partition);
        let movable: Vec<NodeId> = replicas.into_iter().filter(|id| Some(*id) != leader).collect();
        if let (Some(comes), Some(leaves)) = (self.random.pick(&spare), self.random.pick(&movable)) {
            cluster.controller.reassign(partition, leaves, comes);
        }
    }

    /// Retention, on one replica alone: between two batches, as a driver wants it.
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
        let boundaries: Vec<Offset> = acked.iter().map(|acked| acked.base).filter(within).collect();
        if let Some(before) = self.random.pick(&boundaries) {
            node.trim(partition, before);
        }
    }
}
