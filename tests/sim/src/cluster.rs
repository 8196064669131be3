//! The cluster and its clock: a millisecond at a time everything that is due happens, in the same order for the same seed.

use std::fmt;
use std::time::Duration;

use heddle_core::cluster::note::Note;
use heddle_core::metadata::{Command, MetadataError, Outcome as Applied};
use heddle_proto::ids::{NodeId, Offset, PartitionIndex, TopicPartition};
use heddle_replication::message::Life;
use heddle_replication::replica::Hold;
use heddle_replication_driver::{Event, Frame};

use crate::checkers::{Checkers, Finding};
use crate::client::Clients;
use crate::faults::Faults;
use crate::metadata::{Metadata, TOPIC_ID, start_of, topic_of};
use crate::network::{METADATA, Network, Packet};
use crate::node::{Node, peer};
use crate::plan::{Bug, Plan};
use crate::session::Way;

pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Replicas of a node that stops have so long to leave what they have in good order.
const STOP_MAX: Duration = Duration::from_secs(2);

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
    pub(crate) metadata: Metadata,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) checkers: Checkers,
    trace: u64,
    log: Vec<String>,
    pub(crate) fault_count: u64,
}

/// Runs a plan from its beginning to the verdict.
pub fn run(plan: &Plan) -> Outcome {
    let mut cluster = Cluster::new(plan);
    let mut faults = Faults::new(plan);
    (0..cluster.nodes.len()).for_each(|index| cluster.start(index));
    let made = cluster.command(&topic_of(plan));
    assert!(made.is_ok(), "the topic is made: {made:?}");
    while cluster.now < plan.faulty_for && cluster.checkers.findings.is_empty() {
        if cluster.now > Duration::from_millis(300) {
            faults.tick(&mut cluster);
        }
        cluster.step(true);
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
        let partitions: Vec<TopicPartition> = (0..plan.partition_count)
            .map(|index| TopicPartition::new(TOPIC_ID, PartitionIndex::new(index)))
            .collect();
        let nodes = (0..plan.node_count).map(|id| Node::new(plan, NodeId::new(id), Duration::ZERO)).collect();
        Cluster {
            now: Duration::ZERO,
            nodes,
            metadata: Metadata::new(plan),
            network: Network::new(plan),
            clients: Clients::new(plan, &partitions),
            checkers: Checkers::new(plan.only),
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

    /// The next command of the metadata takes effect, and nodes hear of it in time.
    pub(crate) fn command(&mut self, command: &Command) -> Result<Applied, MetadataError> {
        let before = self.metadata.image().clone();
        let applied = self.metadata.apply(command);
        self.note(format_args!("{command:?}: {applied:?}"));
        self.checkers.changed(&before, self.metadata.image());
        self.metadata.publish(self.now, &mut self.network, self.nodes.iter().map(|node| node.id));
        applied
    }

    /// An operator asks for something, which may be refused, and gets it if anybody leads the metadata.
    pub(crate) fn ask(&mut self, command: Command) {
        if self.metadata.is_led() {
            let _ = self.command(&command);
        }
    }

    pub(crate) fn start(&mut self, index: usize) {
        if self.nodes[index].up.is_some() {
            return;
        }
        let (now, id) = (self.now, self.nodes[index].id);
        let Ok(Applied::Life(life)) = self.command(&start_of(id)) else { return };
        let is_harmed = self.nodes[index].disk.is_harmed();
        let outcome = self.nodes[index].start(now, Life(life), self.metadata.image().clone());
        self.note(format_args!("node {id} starts: {outcome:?}"));
        let node = &self.nodes[index];
        if let Some(up) = node.up.as_ref().filter(|_| self.plan.hold == Hold::Durable && !is_harmed) {
            let found = up.positions(|positions| positions.written);
            self.checkers.kept(id, &node.kept, &found);
        }
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
        if let Some(up) = self.nodes[index].up.as_mut().filter(|up| up.ends_at.is_none()) {
            up.driver.borrow_mut().stop(now);
            up.ends_at = Some(now + STOP_MAX);
        }
    }

    /// The process is asked to hand over what it leads, and to stop then.
    pub(crate) fn leave(&mut self, index: usize) {
        let now = self.nodes[index].clock(self.now);
        if let Some(up) = self.nodes[index].up.as_mut() {
            up.session.leave(now);
        }
    }

    /// What a node that stops still has to do; ends it when that is done, or took too long.
    fn end(&mut self, index: usize) {
        let clock = self.nodes[index].clock(self.now);
        let Some(up) = self.nodes[index].up.as_ref() else { return };
        match up.ends_at {
            None if up.session.has_left(clock) => self.stop(index),
            Some(_) if up.told.keys().all(|at| up.stopped.contains(at)) => self.crash(index),
            // Who forgets what it had must not be one too many.
            Some(at)
                if clock >= at
                    && (self.plan.hold == Hold::Durable || self.may_harm(self.nodes[index].id)) =>
            {
                self.crash(index);
            }
            _ => {}
        }
    }

    /// Nodes that could lead the metadata.
    pub(crate) fn candidates(&self) -> Vec<NodeId> {
        let awake = self.nodes.iter().filter(|node| node.is_awake(self.now)).map(|node| node.id);
        awake.filter(|id| !self.network.is_cut(*id, METADATA)).collect()
    }

    /// The agreement's share of this millisecond.
    fn agree(&mut self) {
        let candidates = self.candidates();
        if self.metadata.tick(self.now, &candidates) {
            self.note_leader();
        }
        if Metadata::is_time_to_publish(self.now) {
            let (newest, leader) = (self.metadata.image().index, self.metadata.leader());
            let lacks = |node: &&Node| {
                node.up
                    .as_ref()
                    .is_some_and(|up| up.session.seen().index < newest || up.session.leader() != leader)
            };
            let to: Vec<NodeId> = self.nodes.iter().filter(lacks).map(|node| node.id).collect();
            self.metadata.publish(self.now, &mut self.network, to);
        }
    }

    /// Another node leads the metadata, and nodes hear of it in time.
    pub(crate) fn note_leader(&mut self) {
        self.note(format_args!("{:?} leads the metadata", self.metadata.leader()));
        self.metadata.publish(self.now, &mut self.network, self.nodes.iter().map(|node| node.id));
    }

    /// Whether this node's memory or disk may be harmed without records being lost by right: nobody else lacks anything, and
    /// no other disk holds harm that has not shown yet. Rot in an old segment is found when somebody reads it, and who is not in
    /// sync now may be in sync by then.
    pub(crate) fn may_harm(&self, id: NodeId) -> bool {
        self.plan.quorum >= 2
            && self.nodes.iter().all(|node| node.id == id || !node.disk.is_harmed())
            && self.partitions.iter().all(|partition| {
                let members = self.metadata.members(*partition);
                members.iter().filter(|member| **member != id).all(|member| {
                    let node = &self.nodes[member.get() as usize];
                    let replica = node.up.as_ref().and_then(|up| {
                        up.driver.borrow().replica(*partition).map(|replica| replica.is_whole())
                    });
                    replica == Some(true)
                })
            })
    }

    /// One millisecond, in which clients write or only read.
    pub(crate) fn step(&mut self, are_clients_writing: bool) {
        self.now += TICK;
        let now = self.now;
        while let Some((from, to, packet)) = self.network.arrived(now) {
            self.deliver(from, to, packet);
        }
        self.agree();
        if are_clients_writing {
            self.clients.produce(now, &mut self.nodes, &self.metadata);
        }
        self.clients.read(now, &mut self.nodes, &self.metadata);
        for index in 0..self.nodes.len() {
            self.turn(index);
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, packet: Packet) {
        let now = self.now;
        if to == METADATA {
            return self.propose(from, packet);
        }
        let node = &mut self.nodes[to.get() as usize];
        let clock = node.clock(now);
        if now < node.paused_until {
            // What arrives meanwhile waits in the kernel, and is there when the process goes on.
            return self.network.delay(node.paused_until, from, to, packet);
        }
        let bug = node.bug;
        let Some(up) = node.up.as_mut() else { return };
        match packet {
            Packet::Frame(mut frame) => {
                if bug == Some(Bug::AltersRecord) {
                    alter(&mut frame);
                }
                up.driver.borrow_mut().receive(clock, peer(from), frame);
            }
            Packet::Image(image, leader) => {
                if up.session.see(image, leader) {
                    up.follow(clock, to, &self.plan);
                }
            }
            Packet::Tell(number, tell) => {
                let is_heard = up.session.hear(clock, tell);
                self.network.send(now, to, from, Packet::Told(number, is_heard));
            }
            Packet::Told(number, is_heard) => up.session.told(number, is_heard),
            Packet::Decided(number, index) => up.session.decided(number, index),
            Packet::Propose(..) => {}
        }
    }

    /// A proposal has come to the agreement.
    fn propose(&mut self, from: NodeId, packet: Packet) {
        let Packet::Propose(number, command) = packet else { return };
        if self.metadata.is_led() {
            // A refusal is an answer, too.
            let _ = self.command(&command);
            let index = self.metadata.image().index;
            self.network.send(self.now, METADATA, from, Packet::Decided(number, index));
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
            && let Some(up) = node.up.as_mut()
        {
            up.seal_late(clock);
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
        let Some(up) = node.up.as_mut() else { return };
        up.session.turn(clock, Way { now, network: &mut self.network });
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
        self.end(index);
    }

    fn hear(&mut self, index: usize, event: Event) {
        let (now, id) = (self.now, self.nodes[index].id);
        self.note(format_args!("node {id}: {event:?}"));
        let clock = self.nodes[index].clock(now);
        let Some(up) = self.nodes[index].up.as_mut() else { return };
        let note = Note::of(&event, |at| up.told.get(&at).map_or(0, |partition| partition.epoch));
        note.into_iter().for_each(|note| up.session.note(clock, note));
        match event {
            Event::Committed(partition, committed) => self.on_committed(index, partition, committed),
            Event::Answer(partition, epoch, answer) => {
                self.checkers.answered(partition, epoch, id, answer);
                self.clients.abandoned(id, partition);
            }
            Event::Stopped(partition) => drop(up.stopped.insert(partition)),
            Event::Damaged(..) => self.leave(index),
            Event::Broken(..) => self.crash(index),
            Event::Halted(partition, fault) => self.checkers.halted(partition, id, fault),
            Event::Change(..) | Event::NeedElection(..) | Event::Lost(..) => {}
            Event::Appended(..) | Event::Cut(..) => {}
        }
    }

    fn on_committed(&mut self, index: usize, partition: TopicPartition, committed: Offset) {
        let node = &self.nodes[index];
        let Some(up) = node.up.as_ref() else { return };
        let driver = up.driver.borrow();
        let (Some(replica), Some(log)) = (driver.replica(partition), driver.log(partition)) else { return };
        let lossy_count = self.metadata.lossy_count(partition);
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
