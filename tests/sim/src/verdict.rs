//! The end of a run: the faults are over, the cluster has to become whole, and everything has to be there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use heddle_core::metadata::{Command, ReplicaSlot};
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::{NodeId, Offset, TopicPartition};
use heddle_replication::replica::Hold;

use crate::checkers::{self, Replica};
use crate::cluster::{Cluster, TICK};
use crate::node::Node;

/// A healed cluster has so long to become whole again.
const HEALING: Duration = Duration::from_secs(45);

impl Cluster {
    /// Faults end; the cluster has to become whole, and everything has to be there.
    pub(crate) fn heal(&mut self) {
        self.network.heal();
        for node in &mut self.nodes {
            node.disk.set_capacity(None);
            node.paused_until = self.now;
        }
        // The power fails everywhere at once: where a commit means stable storage nothing may be lost by it.
        if self.plan.hold == Hold::Durable && self.plan.seed.is_multiple_of(2) {
            self.note(format_args!("power cut"));
            self.fault_count += 1;
            (0..self.nodes.len()).for_each(|index| self.crash(index));
        }
        if !self.plan.stays_drained {
            for node in self.metadata.image().draining.clone() {
                let undrained = self.command(&Command::DrainNode { node, is_draining: false });
                assert!(undrained.is_ok(), "a node is drained no more: {undrained:?}");
            }
        }
        let until = self.now + HEALING;
        while self.now < until && self.checkers.findings.is_empty() {
            for index in 0..self.nodes.len() {
                self.start(index);
            }
            self.step(true);
            // Who has been asked to go before the faults ended goes, and comes back.
            let stays = |node: &Node| {
                node.up.as_ref().is_some_and(|up| up.ends_at.is_none() && !up.session.is_leaving())
            };
            if self.now.as_millis().is_multiple_of(100) && self.nodes.iter().all(stays) && self.is_whole() {
                break;
            }
        }
        let missing = self.not_whole();
        self.checkers.stuck(missing);
        if self.checkers.findings.is_empty() {
            self.verdict();
        }
    }

    fn is_whole(&self) -> bool {
        self.not_whole().is_empty()
    }

    /// What is not as it should be in a cluster without faults.
    fn not_whole(&self) -> Vec<(TopicPartition, String)> {
        self.partitions
            .iter()
            .filter_map(|partition| {
                let what = self.state_of(*partition).err()?;
                Some((*partition, format!("{what}; {}", self.replicas_of(*partition))))
            })
            .collect()
    }

    fn state_of(&self, partition: TopicPartition) -> Result<(), String> {
        self.placement_of(partition)?;
        let primary = self.metadata.primary(partition).ok_or("nobody leads")?;
        let up = self.nodes[primary.get() as usize].up.as_ref().ok_or("the primary is down")?;
        let driver = up.driver.borrow();
        let replica = driver.replica(partition).ok_or("the primary has no replica")?;
        replica.admits().map_err(|refusal| refusal.to_string())?;
        let leads = replica.primary().ok_or("the primary does not lead")?;
        let replicas = self.metadata.partition(partition).replicas.iter();
        let wanted: BTreeSet<NodeId> = replicas.map(|replica| NodeId::new(replica.node)).collect();
        if *leads.members() != wanted {
            let positions: Vec<_> =
                wanted.iter().map(|node| (node.get(), leads.written(*node), leads.held(*node))).collect();
            let (members, changing) = (leads.members(), leads.is_changing());
            let (committed, log) = (replica.committed(), replica.log());
            return Err(format!(
                "in sync are {members:?}, not {wanted:?}; written and held are {positions:?}, {committed} committed of {log:?}, \
                 changing: {changing}"
            ));
        }
        let view = &self.clients.views[&partition];
        let end = replica.committed();
        let recent = end.since(view.position);
        // Clients go on meanwhile: a few records are always under way.
        if recent > 64 || replica.log().written.since(end) > 64 {
            return Err(format!(
                "{recent} records are not read, {} not committed",
                replica.log().written.since(end)
            ));
        }
        let fresh = view.acked.last().is_some_and(|acked| acked.base.plus(64) >= end);
        if fresh || end == Offset::ZERO { Ok(()) } else { Err("nothing new is acknowledged".into()) }
    }

    /// What each node has of a partition, for whoever looks into it.
    fn replicas_of(&self, partition: TopicPartition) -> String {
        let up = self.nodes.iter().filter_map(|node| Some((node.id, node.up.as_ref()?)));
        let told = up.map(|(id, up)| {
            let driver = up.driver.borrow();
            let is_deleting = up.deleting.contains(&partition);
            let Some(replica) = driver.replica(partition) else {
                return format!("node {id}: no replica, deleting: {is_deleting}");
            };
            let (epoch, joins, committed) = (replica.epoch(), replica.joins(), replica.committed());
            let positions = driver.log(partition).map(|log| log.positions());
            format!("node {id}: epoch {epoch}, joins {joins:?}, {committed} committed of {positions:?}")
        });
        told.collect::<Vec<_>>().join("; ")
    }

    /// Where the replicas of a partition are to be in a cluster without faults, and who is to lead.
    fn placement_of(&self, at: TopicPartition) -> Result<(), String> {
        let (image, partition) = (self.metadata.image(), self.metadata.partition(at));
        let nodes = |replicas: &[ReplicaSlot]| -> BTreeSet<u32> {
            replicas.iter().map(|replica| replica.node).collect()
        };
        let (replicas, drains) = (nodes(&partition.replicas), |node: &u32| image.draining.contains(node));
        let can_drain = image.up_count() >= partition.wanted().len();
        let others_could_lead = drains(&partition.leader) && !partition.isr.iter().all(drains);
        let preferred = partition.wanted()[0].node;
        let is_led_by_another = partition.leader != preferred && !drains(&preferred);
        let wrong = if partition.electing != 0 {
            "an election is under way"
        } else if partition.is_moving() || !partition.leaving.is_empty() {
            "a move is under way"
        } else if partition.isr.iter().copied().collect::<BTreeSet<u32>>() != replicas {
            "not all replicas are in sync"
        } else if can_drain && replicas.iter().any(drains) {
            "a node that is drained has a replica"
        } else if others_could_lead {
            "a node that is drained leads"
        } else if self.plan.awaits_preferred && is_led_by_another {
            "the preferred replica does not lead"
        } else {
            return Ok(());
        };
        Err(format!("{wrong}: {partition:?}, drained are {:?}", image.draining))
    }

    /// Lets the last things arrive, reads everything, and asks the checkers.
    fn verdict(&mut self) {
        let quiet = self.now + Duration::from_secs(2);
        while self.now < quiet {
            self.step(false);
        }
        let behind: Vec<_> = self
            .partitions
            .iter()
            .filter_map(|partition| Some((*partition, self.unheard_commit(*partition)?)))
            .collect();
        self.checkers.stuck(behind);
        let mut replicas = BTreeMap::new();
        for index in 0..self.nodes.len() {
            for partition in self.partitions.clone() {
                if let Some(replica) = self.read_all(index, partition) {
                    replicas.insert((partition, self.nodes[index].id), replica);
                }
            }
        }
        for partition in self.partitions.clone() {
            let of_partition: Vec<&Replica> =
                replicas.iter().filter(|((at, _), _)| *at == partition).map(|(_, replica)| replica).collect();
            let lossy = self.metadata.lossy_count(partition) > 0;
            if lossy && self.plan.hold == Hold::Durable {
                self.checkers.lossy(partition);
            }
            let view = &self.clients.views[&partition];
            checkers::judge(&mut self.checkers, partition, view, &of_partition, lossy);
        }
    }

    /// Who follows and has not heard how far the primary has committed, although nothing has happened for long.
    fn unheard_commit(&self, partition: TopicPartition) -> Option<String> {
        let committed = |node: &NodeId| {
            let up = self.nodes[node.get() as usize].up.as_ref()?;
            up.driver.borrow().replica(partition).map(|replica| replica.committed())
        };
        let known = committed(&self.metadata.primary(partition)?)?;
        let members = self.metadata.members(partition);
        let heard = members.iter().filter_map(|node| Some((*node, committed(node)?)));
        let mut behind = heard.filter(|(_, heard)| *heard < known);
        behind.next().map(|(node, heard)| format!("node {node} knows {heard} committed, not {known}"))
    }

    /// Everything committed that a replica holds, read from its disk.
    fn read_all(&mut self, index: usize, partition: TopicPartition) -> Option<Replica> {
        let id = self.nodes[index].id;
        if !self.metadata.members(partition).contains(&id) {
            return None;
        }
        let (start, committed) = {
            let driver = self.nodes[index].up.as_ref()?.driver.borrow();
            (driver.log(partition)?.positions().start, driver.replica(partition)?.committed())
        };
        let (mut at, mut batches): (Offset, Vec<Bytes>) = (start, Vec::new());
        let until = self.now + Duration::from_secs(20);
        while at < committed && self.now < until {
            self.nodes[index].read(partition, at, committed);
            let found = loop {
                self.now += TICK;
                self.nodes[index].run(self.now).ok()?;
                let read = self.nodes[index].up.as_mut()?.read.pop();
                if let Some((_, found)) = read.filter(|(of, _)| *of == partition) {
                    break found;
                }
                if self.now >= until {
                    return None;
                }
            };
            let found = found.ok().filter(|found| !found.is_empty())?;
            at = BatchHeader::parse(found.last()?).ok()?.next_offset();
            batches.extend(found);
        }
        Some(Replica { node: id, start, committed, batches })
    }
}
