//! The cluster and its clock: a millisecond at a time everything that is due happens, in the same order for the same seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::{NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use heddle_replication::replica::Hold;
use heddle_replication_driver::{Event, Frame};

use crate::checkers::{self, Checkers, Finding, Replica};
use crate::client::Clients;
use crate::controller::Controller;
use crate::faults::Faults;
use crate::network::{CONTROLLER, Network, Packet};
use crate::node::{Node, cores_of, peer};
use crate::plan::{Bug, Plan};

const TICK: Duration = Duration::from_millis(1);
/// A healed cluster has so long to become whole again.
const HEALING: Duration = Duration::from_secs(30);

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What the checkers found.
    pub findings: Vec<Finding>,
    /// A fingerprint of everything that happened.
    pub trace: u64,
    /// The last things that happened.
    pub log: Vec<String>,
    /// Batches that were acknowledged.
    pub acked_count: usize,
    /// Faults injected into nodes, disks, links, clocks and placement.
    pub fault_count: u64,
    /// Frames lost or doubled.
    pub harmed_frame_count: u64,
    /// Virtual time.
    pub elapsed: Duration,
}

/// See the module.
pub struct Cluster {
    pub(crate) plan: Plan,
    pub(crate) now: Duration,
    pub(crate) nodes: Vec<Node>,
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) controller: Controller,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    checkers: Checkers,
    trace: u64,
    log: Vec<String>,
    pub(crate) fault_count: u64,
}

/// Runs a plan from its beginning to the verdict.
pub fn run(plan: &Plan) -> Outcome {
    let mut cluster = Cluster::new(plan);
    let mut faults = Faults::new(plan);
    (0..cluster.nodes.len()).for_each(|index| cluster.start(index));
    while cluster.now < plan.faulty_for && cluster.checkers.findings.is_empty() {
        if cluster.now > Duration::from_millis(300) {
            faults.tick(&mut cluster);
        }
        cluster.step();
    }
    if cluster.checkers.findings.is_empty() {
        cluster.heal();
    }
    Outcome {
        acked_count: cluster.clients.views.values().map(|view| view.acked.len()).sum(),
        findings: cluster.checkers.findings,
        trace: cluster.trace,
        log: cluster.log,
        fault_count: cluster.fault_count,
        harmed_frame_count: cluster.network.harmed_count,
        elapsed: cluster.now,
    }
}

impl Cluster {
    fn new(plan: &Plan) -> Cluster {
        let topic = TopicId::new([7; 16]);
        let partitions: Vec<TopicPartition> = (0..plan.partition_count)
            .map(|index| TopicPartition::new(topic, PartitionIndex::new(index)))
            .collect();
        let nodes = (0..plan.node_count).map(|id| Node::new(plan, NodeId::new(id), Duration::ZERO)).collect();
        Cluster {
            now: Duration::ZERO,
            nodes,
            controller: Controller::new(plan, &partitions),
            network: Network::new(plan),
            clients: Clients::new(plan, &partitions),
            checkers: Checkers::default(),
            partitions,
            trace: 0xcbf2_9ce4_8422_2325,
            log: Vec::new(),
            fault_count: 0,
            plan: plan.clone(),
        }
    }

    /// Into the trace with it.
    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {what}", self.now.as_secs_f64());
        for byte in line.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.plan.follow {
            println!("{line}");
        }
        self.log.push(line);
        if self.log.len() > 4000 {
            self.log.drain(..2000);
        }
    }

    pub(crate) fn start(&mut self, index: usize) {
        let (now, partitions) = (self.now, self.partitions.clone());
        if self.nodes[index].up.is_some() {
            return;
        }
        let outcome = self.nodes[index].start(now, &mut self.controller, &partitions);
        let id = self.nodes[index].id;
        self.note(format_args!("node {id} starts: {outcome:?}"));
    }

    pub(crate) fn crash(&mut self, index: usize) {
        self.nodes[index].crash();
        self.clients.gone(self.nodes[index].id);
    }

    pub(crate) fn wipe(&mut self, index: usize) {
        let now = self.now;
        self.nodes[index].wipe(now);
        self.clients.gone(self.nodes[index].id);
    }

    /// The process is asked to stop; what it does about it takes its time.
    pub(crate) fn stop(&mut self, index: usize) {
        let now = self.nodes[index].clock(self.now);
        if let Some(up) = self.nodes[index].up.as_ref() {
            up.driver.borrow_mut().stop(now);
        }
    }

    /// Whether this node's memory or disk may be harmed without records being lost by right: nobody else lacks anything, and
    /// no other disk holds harm that has not shown yet. Rot in an old segment is found when somebody reads it, and who is not in
    /// sync now may be in sync by then.
    pub(crate) fn may_harm(&self, id: NodeId) -> bool {
        self.plan.quorum >= 2
            && self.nodes.iter().all(|node| node.id == id || !node.disk.is_harmed())
            && self.partitions.iter().all(|partition| {
                let mut members = self.controller.members(*partition).iter().filter(|member| **member != id);
                members.all(|member| {
                    let node = &self.nodes[member.get() as usize];
                    let replica = node.up.as_ref().and_then(|up| {
                        up.driver.borrow().replica(*partition).map(|replica| replica.is_whole())
                    });
                    replica == Some(true)
                })
            })
    }

    fn step(&mut self) {
        self.now += TICK;
        let now = self.now;
        while let Some((from, to, packet)) = self.network.arrived(now) {
            self.deliver(from, to, packet);
        }
        self.controller.tick(now, &mut self.network);
        self.clients.produce(now, &mut self.nodes, &self.controller);
        self.clients.read(now, &mut self.nodes, &self.controller);
        for index in 0..self.nodes.len() {
            self.turn(index);
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, packet: Packet) {
        let now = self.now;
        if to == CONTROLLER {
            return self.controller.receive(now, from, packet);
        }
        let node = &mut self.nodes[to.get() as usize];
        let clock = node.clock(now);
        if now < node.paused_until {
            // What arrives meanwhile waits in the kernel, and is there when the process goes on.
            return self.network.delay(node.paused_until, from, to, packet);
        }
        let bug = node.bug;
        let Some(up) = node.up.as_ref() else { return };
        let mut driver = up.driver.borrow_mut();
        match packet {
            Packet::Frame(mut frame) => {
                if bug == Some(Bug::AltersRecord) {
                    alter(&mut frame);
                }
                driver.receive(clock, peer(from), frame);
            }
            Packet::Seal(partition, epoch) => driver.seal(clock, partition, epoch),
            Packet::Granted(partition, grant, replicas) => {
                let cores = cores_of(&replicas, &grant.in_sync.members);
                driver.place(partition, replicas, cores);
                driver.granted(clock, partition, grant);
            }
            _ => {}
        }
    }

    /// One node's share of this millisecond.
    fn turn(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if !node.is_awake(now) {
            return;
        }
        let (id, clock) = (node.id, node.clock(now));
        if now.as_millis().is_multiple_of(10)
            && let Some(up) = node.up.as_ref()
        {
            let mut driver = up.driver.borrow_mut();
            for node in self.network.broken_at(now, id) {
                driver.connected(clock, peer(node));
            }
            driver.tick(clock);
        }
        if self.plan.bug == Some(Bug::DiskLies) {
            node.disk.lose_next_write(".wal");
        }
        if let Err(error) = node.run(now) {
            self.note(format_args!("node {id} ends: {error}"));
            return self.crash(index);
        }
        self.clients.take(node);
        let Some(up) = node.up.as_ref() else { return };
        let life = up.life;
        if now.as_millis().is_multiple_of(50) {
            self.network.send(now, id, CONTROLLER, Packet::Heartbeat(life));
        }
        let (events, frames) = {
            let mut driver = up.driver.borrow_mut();
            (driver.events(), driver.flush(clock))
        };
        for (peer, frame) in frames {
            self.network.send(now, id, peer.node, Packet::Frame(frame));
        }
        for event in events {
            if self.nodes[index].up.is_some() {
                self.hear(index, event);
            }
        }
    }

    fn hear(&mut self, index: usize, event: Event) {
        let (now, id) = (self.now, self.nodes[index].id);
        self.note(format_args!("node {id}: {event:?}"));
        match event {
            Event::Committed(partition, committed) => self.on_committed(index, partition, committed),
            Event::Answer(partition, epoch, answer) => {
                self.clients.abandoned(id, partition);
                self.network.send(now, id, CONTROLLER, Packet::Answer(partition, epoch, answer));
            }
            Event::Change(partition, change) => {
                self.network.send(now, id, CONTROLLER, Packet::Change(partition, change));
            }
            Event::NeedElection(partition) => {
                let driver = self.nodes[index].up.as_ref().map(|up| up.driver.clone());
                let epoch = driver
                    .and_then(|driver| driver.borrow().replica(partition).map(|replica| replica.epoch()));
                let epoch = epoch.unwrap_or_default();
                self.network.send(now, id, CONTROLLER, Packet::NeedElection(partition, epoch));
            }
            Event::Stopped(_) => {
                let stopped = self.nodes[index].up.as_mut().is_some_and(|up| {
                    up.stopped += 1;
                    up.stopped == self.plan.partition_count
                });
                if stopped {
                    self.crash(index);
                }
            }
            Event::Damaged(..) | Event::Broken(..) => self.crash(index),
            Event::Halted(partition, fault) => self.checkers.halted(partition, id, fault),
            Event::Lost(..) | Event::Appended(..) | Event::Cut(..) => {}
        }
    }

    fn on_committed(&mut self, index: usize, partition: TopicPartition, committed: Offset) {
        let node = &self.nodes[index];
        let Some(up) = node.up.as_ref() else { return };
        let driver = up.driver.borrow();
        let (Some(replica), Some(log)) = (driver.replica(partition), driver.log(partition)) else { return };
        let lossy_count = self.controller.lossy_count(partition);
        let from = self.checkers.seen(partition, node.id, up.life).max(log.positions().start);
        let batches = if from < committed { log.read_cached(from, committed, usize::MAX) } else { None };
        let epoch = replica.leads();
        let (id, life) = (node.id, up.life);
        self.checkers.observed(partition, (id, life), batches.unwrap_or_default(), committed, lossy_count);
        if let Some(epoch) = epoch {
            self.checkers.committed_in(partition, epoch, (id, life));
            self.clients.committed(id, life, partition, committed);
        }
    }

    /// Faults end; the cluster has to become whole, and everything has to be there.
    fn heal(&mut self) {
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
        let until = self.now + HEALING;
        while self.now < until && self.checkers.findings.is_empty() {
            for index in 0..self.nodes.len() {
                self.start(index);
            }
            self.step();
            if self.now.as_millis().is_multiple_of(100) && self.is_whole() {
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
            .filter_map(|partition| Some((*partition, self.state_of(*partition).err()?)))
            .collect()
    }

    fn state_of(&self, partition: TopicPartition) -> Result<(), String> {
        let primary = self.controller.primary(partition).ok_or("nobody leads")?;
        let up = self.nodes[primary.get() as usize].up.as_ref().ok_or("the primary is down")?;
        let driver = up.driver.borrow();
        let replica = driver.replica(partition).ok_or("the primary has no replica")?;
        replica.admits().map_err(|refusal| refusal.to_string())?;
        let leads = replica.primary().ok_or("the primary does not lead")?;
        let replicas = self.controller.replicas(partition);
        let wanted: BTreeSet<NodeId> = replicas.iter().copied().chain([primary]).collect();
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

    /// Lets the last things arrive, reads everything, and asks the checkers.
    fn verdict(&mut self) {
        let quiet = self.now + Duration::from_secs(2);
        while self.now < quiet {
            self.quiet_step();
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
            let lossy = self.controller.lossy_count(partition) > 0;
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
        let known = committed(&self.controller.primary(partition)?)?;
        let members = self.controller.members(partition).iter();
        let heard = members.filter_map(|node| Some((*node, committed(node)?)));
        let mut behind = heard.filter(|(_, heard)| *heard < known);
        behind.next().map(|(node, heard)| format!("node {node} knows {heard} committed, not {known}"))
    }

    /// A step in which clients only read.
    fn quiet_step(&mut self) {
        self.now += TICK;
        let now = self.now;
        while let Some((from, to, packet)) = self.network.arrived(now) {
            self.deliver(from, to, packet);
        }
        self.controller.tick(now, &mut self.network);
        self.clients.read(now, &mut self.nodes, &self.controller);
        (0..self.nodes.len()).for_each(|index| self.turn(index));
    }

    /// Everything committed that a replica holds, read from its disk.
    fn read_all(&mut self, index: usize, partition: TopicPartition) -> Option<Replica> {
        let id = self.nodes[index].id;
        if !self.controller.members(partition).contains(&id) {
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

/// A mistake planted on purpose: a byte of each batch is not what it was, and the checksum agrees with it.
fn alter(frame: &mut Frame) {
    for batch in frame.said.iter_mut().flat_map(|said| &mut said.batches) {
        let mut bytes = batch.to_vec();
        if let Some(last) = bytes.len().checked_sub(3) {
            bytes[last] ^= 1;
        }
        let crc = heddle_proto::crc::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        *batch = bytes.into();
    }
}
