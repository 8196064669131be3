//! The world of the model: replicas that run the real state machines, their disks, the network, the metadata, and a ghost
//! that remembers what was committed.

use std::collections::BTreeSet;
use std::sync::Arc;

use heddle_proto::ids::{Epoch, NodeId, Offset};
use heddle_replication::history::History;
use heddle_replication::io::{Input, LogView, Output, Promise};
use heddle_replication::leadership::{Change, Leadership};
use heddle_replication::message::{Life, Message};
use heddle_replication::quorum::InSync;
use heddle_replication::replica::{Config, Hold, Replica, Restored};

use super::instance::{Budget, Instance};

/// A record: the epoch it was written in, and a number that no other record has.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    pub epoch: Epoch,
    pub id: u8,
}

/// A write to a log that is not yet on stable storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogWrite {
    Append(Vec<Record>),
    Cut(usize),
    /// The log begins anew at the end of these records, all of which were committed and have been removed elsewhere.
    Begin(Vec<Record>),
}

/// One node: its disk, what is on its way there, and the machine while it is up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub life: Life,
    pub machine: Option<Replica>,
    /// The log as its process sees it.
    pub log: Vec<Record>,
    pub disk_log: Vec<Record>,
    /// Where the log on disk begins. What lies before is kept here, for comparison, and out of the machine's sight.
    pub disk_start: usize,
    pub disk_promise: Option<Promise>,
    pub log_writes: Vec<LogWrite>,
    pub promise_write: Option<Promise>,
    /// Epoch and version of the newest grant it has seen in this life.
    pub seen: (Epoch, u32),
    /// The newest seal it was asked for in this life.
    pub asked: Epoch,
}

/// Something under way on the network. It may be delivered at any time, in any order, twice, or never.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Packet {
    Peer { from: usize, to: usize, message: Message, records: Vec<Record> },
    ToMetadata(Change),
}

/// What must never happen.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Violation {
    /// A replica took for committed what is not, or in another order.
    Disagreement,
    /// Two primaries committed in one epoch.
    TwoPrimaries,
    /// A record was committed that is not on stable storage of enough nodes.
    NotHeld,
    /// A replica halted: it was told to cut what it knows to be committed.
    Halted,
}

/// What an observer outside knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Ghost {
    /// All committed records, in order.
    pub committed: Vec<Record>,
    /// Who committed in which epoch.
    pub committers: Vec<(Epoch, NodeId, Life)>,
    pub violation: Option<Violation>,
    pub record_count: u8,
    /// Committed records that lossy elections took back.
    pub lost_count: u8,
    /// The largest commit quorum that a primary was to ask for.
    pub asked_quorum: usize,
    /// A node lost its disk: what is on stable storage may be gone.
    pub wiped: bool,
}

/// A state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub nodes: Vec<Arc<Node>>,
    pub leadership: Arc<Leadership>,
    pub network: BTreeSet<Arc<Packet>>,
    pub ghost: Arc<Ghost>,
    pub budget: Budget,
}

fn node_id(index: usize) -> NodeId {
    NodeId::new(index as u32)
}

fn history_of(log: &[Record], start: usize) -> History {
    let mut history = History::default();
    for (offset, record) in log.iter().enumerate().skip(start) {
        history.note(record.epoch, Offset::new(offset as i64));
    }
    history
}

fn apply(log: &mut Vec<Record>, write: &LogWrite) {
    match write {
        LogWrite::Append(records) => log.extend(records),
        LogWrite::Cut(to) => log.truncate(*to),
        LogWrite::Begin(removed) => log.clone_from(removed),
    }
}

impl Node {
    /// Whether all of `claimed` is on stable storage here, as far as retention has left it.
    fn holds_on_disk(&self, claimed: &[Record]) -> bool {
        let start = self.disk_start.min(claimed.len());
        self.disk_log.len() >= claimed.len() && self.disk_log[start..claimed.len()] == claimed[start..]
    }

    fn apply_to_disk(&mut self, write: &LogWrite) {
        apply(&mut self.disk_log, write);
        match write {
            LogWrite::Append(_) => {}
            LogWrite::Cut(to) => self.disk_start = self.disk_start.min(*to),
            LogWrite::Begin(removed) => self.disk_start = removed.len(),
        }
    }
}

impl World {
    /// All nodes are up, nothing has been elected.
    pub fn new(instance: &Instance) -> World {
        let members: BTreeSet<NodeId> = (0..instance.member_count).map(node_id).collect();
        let in_sync =
            InSync { members, quorum: instance.quorum, commit_all: instance.commit_all, version: 0 };
        let node = Node {
            life: Life(0),
            machine: None,
            log: Vec::new(),
            disk_log: Vec::new(),
            disk_start: 0,
            disk_promise: None,
            log_writes: Vec::new(),
            promise_write: None,
            seen: (Epoch::new(0), 0),
            asked: Epoch::new(0),
        };
        let mut world = World {
            nodes: (0..instance.node_count).map(|_| Arc::new(node.clone())).collect(),
            leadership: Arc::new(Leadership::new(in_sync, instance.rules)),
            network: BTreeSet::new(),
            ghost: Arc::default(),
            budget: instance.budget,
        };
        for index in 0..instance.node_count {
            world.start(instance, index);
        }
        world
    }

    pub fn node(&mut self, index: usize) -> &mut Node {
        Arc::make_mut(&mut self.nodes[index])
    }

    pub fn machine(&self, index: usize) -> Option<&Replica> {
        self.nodes[index].machine.as_ref()
    }

    /// The node that leads in the epoch that is in force.
    pub fn primary(&self) -> Option<usize> {
        let epoch = self.leadership.grant().epoch;
        (0..self.nodes.len())
            .find(|index| self.machine(*index).is_some_and(|machine| machine.leads() == Some(epoch)))
    }

    /// Feeds a machine and does what it asks for.
    pub fn step(&mut self, instance: &Instance, index: usize, input: Input) {
        self.step_with(instance, index, input, (Offset::ZERO, &[]));
    }

    /// The same for a message that brings records, the first of which has offset `carried.0`.
    pub fn step_with(
        &mut self,
        instance: &Instance,
        index: usize,
        input: Input,
        carried: (Offset, &[Record]),
    ) {
        let mut outputs = Vec::new();
        let Some(machine) = self.node(index).machine.as_mut() else { return };
        machine.step(input, &mut outputs);
        self.perform(instance, index, outputs, carried);
    }

    fn perform(
        &mut self,
        instance: &Instance,
        index: usize,
        outputs: Vec<Output>,
        carried: (Offset, &[Record]),
    ) {
        for output in outputs {
            match output {
                Output::Send { to, message, pace: _ } => self.send(instance, index, to, message),
                Output::Record(promise) => self.node(index).promise_write = Some(promise),
                Output::Append { from, upto } => {
                    let range = from.since(carried.0) as usize..upto.since(carried.0) as usize;
                    let records = carried.1[range].to_vec();
                    let node = self.node(index);
                    assert_eq!(node.log.len() as i64, from.get(), "an append has no gap");
                    node.log.extend(&records);
                    node.log_writes.push(LogWrite::Append(records));
                }
                Output::Cut(to) => {
                    let node = self.node(index);
                    let cut = LogWrite::Cut(to.get() as usize);
                    apply(&mut node.log, &cut);
                    node.log_writes.push(cut);
                }
                Output::Begin(start) => {
                    let mut removed = self.ghost.committed.clone();
                    removed.resize(start.get() as usize, Record { epoch: Epoch::new(0), id: u8::MAX });
                    let node = self.node(index);
                    let begin = LogWrite::Begin(removed);
                    apply(&mut node.log, &begin);
                    node.log_writes.push(begin);
                }
                Output::Committed(committed) => {
                    self.on_committed(instance, index, committed.get() as usize);
                    self.tell_commit(instance, index, committed);
                }
                Output::Answer { epoch, answer } => {
                    Arc::make_mut(&mut self.leadership).answer(node_id(index), epoch, answer);
                }
                Output::Change(change) => self.put(instance, Packet::ToMetadata(change)),
                Output::Stopped => self.node(index).machine = None,
                Output::Halt(_) => self.violated(Violation::Halted),
                Output::NeedElection | Output::Lost { .. } => {}
            }
        }
        if !instance.is_slow(index) {
            self.flush_promise(instance, index);
            self.flush_log(instance, index);
        }
    }

    fn send(&mut self, instance: &Instance, from: usize, to: NodeId, message: Message) {
        let to = to.get() as usize;
        let Message::Append { epoch, life, from: first, upto, history, committed } = message else {
            return self.put(instance, Packet::Peer { from, to, message, records: Vec::new() });
        };
        // A stream cuts long ranges into pieces.
        let mut first = first;
        loop {
            let piece_end = upto.min(first.plus(instance.piece_records_max));
            let records = self.nodes[from].log[first.get() as usize..piece_end.get() as usize].to_vec();
            let history = history.of_range(first, piece_end);
            let message = Message::Append { epoch, life, from: first, upto: piece_end, history, committed };
            self.put(instance, Packet::Peer { from, to, message, records });
            first = piece_end;
            if first == upto {
                return;
            }
        }
    }

    /// What a stream does with a commit position that no records carry.
    fn tell_commit(&mut self, instance: &Instance, index: usize, committed: Offset) {
        let Some(epoch) = self.machine(index).and_then(Replica::leads).filter(|_| instance.tells_commits)
        else {
            return;
        };
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            let message = Message::Commit { epoch, life: self.nodes[other].life, committed };
            self.send(instance, index, node_id(other), message);
        }
    }

    /// A network that is full loses what is new. Nothing is lost by that which could not have been lost anyway.
    fn put(&mut self, instance: &Instance, packet: Packet) {
        if self.network.len() < instance.packets_max {
            self.network.insert(Arc::new(packet));
        }
    }

    pub fn violated(&mut self, violation: Violation) {
        Arc::make_mut(&mut self.ghost).violation.get_or_insert(violation);
    }

    fn on_committed(&mut self, instance: &Instance, index: usize, committed: usize) {
        let node = self.nodes[index].clone();
        let Some(machine) = &node.machine else { return };
        if machine.epoch() < self.leadership.grant().lossy {
            return; // It has not heard yet that what it knows was taken back.
        }
        let claimed = &node.log[..committed];
        let shared = claimed.len().min(self.ghost.committed.len());
        // What retention has removed here nobody can see any more.
        let start = (machine.log().start.get() as usize).min(shared);
        let mut agrees = claimed[start..shared] == self.ghost.committed[start..shared];
        let mut alone = true;
        let mut is_held = true;
        let ghost = Arc::make_mut(&mut self.ghost);
        if let Some(epoch) = machine.leads() {
            ghost.committed.extend_from_slice(&claimed[shared..]);
            if instance.hold == Hold::Durable && !ghost.wiped {
                let holders = self.nodes.iter().filter(|node| node.holds_on_disk(claimed)).count();
                // A lower quorum may have been agreed on that the primary has not heard of, but not a higher one.
                let quorum = machine.primary().map_or(1, |primary| primary.quorum());
                is_held = holders >= quorum;
            }
            let me = (epoch, node_id(index), node.life);
            alone = ghost.committers.iter().all(|known| known.0 != epoch || *known == me);
            if !ghost.committers.contains(&me) {
                ghost.committers.push(me);
                ghost.committers.sort();
            }
        } else {
            agrees &= claimed.len() <= ghost.committed.len();
        }
        if !agrees {
            self.violated(Violation::Disagreement);
        } else if !alone {
            self.violated(Violation::TwoPrimaries);
        } else if !is_held {
            self.violated(Violation::NotHeld);
        }
    }

    pub fn flush_log(&mut self, instance: &Instance, index: usize) {
        if self.nodes[index].log_writes.is_empty() {
            return;
        }
        let node = self.node(index);
        let writes = std::mem::take(&mut node.log_writes);
        let cut_count = writes.iter().filter(|write| !matches!(write, LogWrite::Append(_))).count();
        for write in &writes {
            node.apply_to_disk(write);
        }
        let durable = Offset::new(node.disk_log.len() as i64);
        for _ in 0..cut_count {
            self.step(instance, index, Input::CutDone);
        }
        self.step(instance, index, Input::Durable(durable));
    }

    pub fn flush_promise(&mut self, instance: &Instance, index: usize) {
        if let Some(promise) = self.nodes[index].promise_write {
            let node = self.node(index);
            node.promise_write = None;
            node.disk_promise = Some(promise);
            self.step(instance, index, Input::Recorded);
        }
    }

    /// The process is gone. Of what was on its way to the disk some has arrived: the first `log_kept` writes, and perhaps
    /// the promise.
    pub fn crash(&mut self, index: usize, log_kept: usize, promise_kept: bool) {
        let node = self.node(index);
        node.machine = None;
        for write in std::mem::take(&mut node.log_writes).iter().take(log_kept) {
            node.apply_to_disk(write);
        }
        if let Some(promise) = node.promise_write.take().filter(|_| promise_kept) {
            node.disk_promise = Some(promise);
        }
        node.log.clear();
        node.seen = (Epoch::new(0), 0);
        node.asked = Epoch::new(0);
    }

    /// The process is gone and its disk too.
    pub fn wipe(&mut self, index: usize) {
        self.crash(index, 0, false);
        let node = self.node(index);
        node.disk_log.clear();
        node.disk_start = 0;
        node.disk_promise = None;
        Arc::make_mut(&mut self.ghost).wiped = true;
    }

    /// The replica is taken away, with all it has on disk, and given back. The process goes on, and so does its life.
    pub fn replace(&mut self, instance: &Instance, index: usize) {
        self.crash(index, 0, false);
        let node = self.node(index);
        node.disk_log.clear();
        node.disk_start = 0;
        node.disk_promise = None;
        Arc::make_mut(&mut self.leadership).place();
        self.start_in(instance, index, self.nodes[index].life);
    }

    /// The process is asked to stop: it flushes, leaves its mark, and is gone.
    pub fn stop(&mut self, instance: &Instance, index: usize) {
        self.step(instance, index, Input::Stop);
        // A flush can make another one due.
        for _ in 0..3 {
            self.flush_log(instance, index);
            self.flush_promise(instance, index);
        }
        if self.machine(index).is_none() {
            self.crash(index, 0, false);
        }
    }

    /// The process starts, registers with the metadata, and finds what its disk holds.
    pub fn start(&mut self, instance: &Instance, index: usize) {
        let life = self.nodes[index].life;
        self.start_in(instance, index, Life(life.0 + 1));
    }

    fn start_in(&mut self, instance: &Instance, index: usize, life: Life) {
        let newest_epoch = self.leadership.newest_epoch();
        let was_led = self.leadership.grant().primary.is_some();
        let node = self.node(index);
        node.life = life;
        node.log = node.disk_log.clone();
        node.log_writes.clear();
        let start = Offset::new(node.disk_start as i64);
        let end = Offset::new(node.log.len() as i64);
        let log =
            LogView { start, durable: end, written: end, history: history_of(&node.log, node.disk_start) };
        let committed = log.start;
        let restored = Restored { promise: node.disk_promise, log, committed, newest_epoch, was_led };
        let config = Config { hold: instance.hold, catch_up_records_max: 8, rules: instance.rules };
        let mut outputs = Vec::new();
        node.machine = Some(Replica::start(node_id(index), node.life, config, restored, &mut outputs));
        self.perform(instance, index, outputs, (Offset::ZERO, &[]));
    }

    /// A client's record reaches a primary.
    pub fn append(&mut self, instance: &Instance, index: usize) {
        let Some(epoch) = self.machine(index).and_then(Replica::leads) else { return };
        let id = self.ghost.record_count;
        Arc::make_mut(&mut self.ghost).record_count += 1;
        let node = self.node(index);
        let record = Record { epoch, id };
        node.log.push(record);
        node.log_writes.push(LogWrite::Append(vec![record]));
        let end = Offset::new(node.log.len() as i64);
        self.step(instance, index, Input::Written(end));
        if !instance.is_slow(index) {
            self.flush_log(instance, index);
        }
    }

    /// Retention removes what is committed and on stable storage; `false` when there is nothing to remove.
    pub fn retain(&mut self, instance: &Instance, index: usize) -> bool {
        let Some(machine) = self.machine(index) else { return false };
        let start = machine.committed().min(machine.log().durable);
        if start <= machine.log().start || !self.nodes[index].log_writes.is_empty() {
            return false;
        }
        self.node(index).disk_start = start.get() as usize;
        self.step(instance, index, Input::Retained(start));
        true
    }

    pub fn deliver(&mut self, instance: &Instance, packet: &Packet) {
        match packet {
            Packet::Peer { from, to, message, records } => {
                let first = match message {
                    Message::Append { from, .. } => *from,
                    _ => Offset::ZERO,
                };
                let input = Input::Message { from: node_id(*from), message: message.clone() };
                self.step_with(instance, *to, input, (first, records));
            }
            Packet::ToMetadata(change) => {
                // The primary sees from the next grant whether it was taken.
                let _ = Arc::make_mut(&mut self.leadership).change(change);
            }
        }
    }

    /// A node hears what is in force.
    pub fn learn(&mut self, instance: &Instance, index: usize) {
        let grant = self.leadership.grant().clone();
        self.node(index).seen = (grant.epoch, grant.in_sync.version);
        self.step(instance, index, Input::Granted(grant));
    }

    /// The controller asks a node to seal.
    pub fn seal(&mut self, instance: &Instance, index: usize) {
        if let Some(epoch) = self.leadership.electing() {
            self.node(index).asked = epoch;
            self.step(instance, index, Input::Seal(epoch));
        }
    }

    pub fn elect(&mut self) -> bool {
        Arc::make_mut(&mut self.leadership).elect().is_ok()
    }

    /// Where too many forgot. What the winner does not have is lost, and known to be.
    pub fn elect_lossy(&mut self) -> bool {
        if Arc::make_mut(&mut self.leadership).elect_lossy().is_err() {
            return false;
        }
        if let Some((node, life)) = self.leadership.grant().primary {
            let winner = self.nodes[node.get() as usize].clone();
            if winner.life == life && winner.machine.is_some() {
                let ghost = Arc::make_mut(&mut self.ghost);
                let pairs = ghost.committed.iter().zip(&winner.log).enumerate();
                let kept = pairs
                    .take_while(|(at, (committed, held))| *at < winner.disk_start || committed == held)
                    .count();
                ghost.lost_count += (ghost.committed.len() - kept) as u8;
                ghost.committed.truncate(kept);
            }
        }
        true
    }

    /// Whether the primary of the epoch in force lacks a committed record.
    pub fn has_lost(&self) -> bool {
        let committed = &self.ghost.committed;
        self.primary().is_some_and(|index| {
            let node = &self.nodes[index];
            let start = node.disk_start.min(committed.len());
            node.log.len() < committed.len() || node.log[start..committed.len()] != committed[start..]
        })
    }
}
