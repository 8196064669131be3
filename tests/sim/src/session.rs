//! A node's session with whoever leads the metadata, as the broker's core 0 keeps it: what its replicas say is kept and told,
//! changes of in-sync sets are proposed, and a node that leads runs the broker's controller.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use heddle_core::cluster::controller::{Controller, HEARTBEAT};
use heddle_core::cluster::message::Tell;
use heddle_core::cluster::note::Note;
use heddle_core::cluster::notes::{self, Notes, SAY_AGAIN, Teller};
use heddle_core::metadata::{ClusterImage, Command};
use heddle_proto::ids::{Epoch, NodeId, TopicPartition};
use heddle_replication::message::Life;

use crate::metadata::Leader;
use crate::mistakes::Mistakes;
use crate::network::{METADATA, Network, Packet};
use crate::plan::Bug;

/// How often a controller looks at the clock.
const DECIDE_EVERY: Duration = Duration::from_millis(50);
/// A question that is not answered by then counts as lost, as when a connection breaks.
const ANSWER_MAX: Duration = Duration::from_millis(300);
/// So long a node that leaves waits for others to lead what it led.
const HAND_OVER_MAX: Duration = Duration::from_secs(3);

/// A proposal on its way.
struct Proposal {
    number: u64,
    until: Duration,
    /// The image that shows what came of it.
    index: Option<u64>,
}

/// See the module. Times are of the node's clock.
pub struct Session {
    node: NodeId,
    life: Life,
    seen: Arc<ClusterImage>,
    leader: Option<Leader>,
    led_before: Option<u32>,
    notes: Notes,
    leaves_at: Option<Duration>,
    question_count: u64,
    /// The tell that is not answered yet: its number, how long that is waited for, and what it said.
    telling: Option<(u64, Duration, Vec<TopicPartition>)>,
    tell_at: Duration,
    changing: Option<Proposal>,
    change_at: Duration,
    controller: Option<(u64, Controller)>,
    /// What the controller has decided and not proposed yet.
    commands: VecDeque<Command>,
    deciding: Option<Proposal>,
    decide_at: Duration,
    mistakes: Mistakes,
}

/// The way out of a node: from it, at this time.
pub struct Way<'a> {
    /// The time of the network.
    pub now: Duration,
    /// The network.
    pub network: &'a mut Network,
}

impl Session {
    /// The session of a life that begins with this image.
    pub fn new(
        clock: Duration,
        (node, life): (NodeId, Life),
        seen: Arc<ClusterImage>,
        bug: Option<Bug>,
    ) -> Self {
        Session {
            node,
            life,
            seen,
            leader: None,
            led_before: None,
            notes: Notes::default(),
            leaves_at: None,
            question_count: u64::from(life.0) << 32,
            telling: None,
            tell_at: clock,
            changing: None,
            change_at: clock,
            controller: None,
            commands: VecDeque::new(),
            deciding: None,
            decide_at: clock,
            mistakes: Mistakes::new(bug),
        }
    }

    /// The newest image that has come here.
    pub fn seen(&self) -> &Arc<ClusterImage> {
        &self.seen
    }

    /// Who leads the metadata, as far as is known here.
    pub fn leader(&self) -> Option<Leader> {
        self.leader
    }

    /// An image has come, and who leads. Returns whether it is newer than what was known.
    pub fn see(&mut self, image: Arc<ClusterImage>, leader: Option<Leader>) -> bool {
        self.leader = self.leader.max(leader);
        let is_newer = image.index > self.seen.index;
        if is_newer {
            self.seen = image;
        }
        is_newer
    }

    /// A replica has something to say.
    pub fn note(&mut self, clock: Duration, note: Note) {
        let at = if self.notes.take(note) { &mut self.change_at } else { &mut self.tell_at };
        *at = clock;
    }

    /// The node is to stop, and hands over before.
    pub fn leave(&mut self, clock: Duration) {
        self.leaves_at.get_or_insert(clock + HAND_OVER_MAX);
        self.tell_at = clock;
    }

    /// Whether it has been asked to hand over what it leads.
    pub fn is_leaving(&self) -> bool {
        self.leaves_at.is_some()
    }

    /// Whether the node has handed over, or waited for that long enough.
    pub fn has_left(&self, clock: Duration) -> bool {
        self.leaves_at
            .is_some_and(|at| clock >= at || !notes::leads_what_others_could(&self.seen, self.node.get()))
    }

    /// A wish that somebody else leads a partition has come to whoever leads the metadata.
    pub fn hand_over(&mut self, clock: Duration, at: TopicPartition, epoch: Epoch) {
        if let Some((_, controller)) = self.controller.as_mut() {
            controller.hand_over(at, epoch.get());
            self.decide_at = clock;
        }
    }

    /// A node has said something, or this one. Only a node that leads listens.
    pub fn hear(&mut self, clock: Duration, mut tell: Tell) -> bool {
        let Some(term) = self.leads() else { return false };
        if self.controller.as_ref().is_none_or(|(of, _)| *of != term) {
            let before = self.led_before.filter(|node| *node != self.node.get());
            self.controller = Some((term, Controller::new(clock, before)));
        }
        self.commands.extend(self.mistakes.hear(&mut tell));
        let is_urgent = self.controller.as_mut().is_some_and(|(_, controller)| controller.hear(clock, tell));
        if is_urgent {
            self.decide_at = clock;
        }
        true
    }

    /// The tell of this number was heard, or not.
    pub fn told(&mut self, number: u64, is_heard: bool) {
        let Some((_, _, said)) = self.telling.take_if(|(of, ..)| *of == number) else { return };
        if !is_heard {
            self.notes.unheard(said);
        }
    }

    /// The proposal of this number is decided upon.
    pub fn decided(&mut self, number: u64, index: u64) {
        let proposals = [&mut self.changing, &mut self.deciding];
        for proposal in proposals.into_iter().flatten().filter(|proposal| proposal.number == number) {
            proposal.index = Some(index);
        }
    }

    /// Does what the clock makes due.
    pub fn turn(&mut self, clock: Duration, mut way: Way<'_>) {
        self.tell(clock, &mut way);
        self.change_in_sync(clock, &mut way);
        self.control(clock, &mut way);
    }

    fn leads(&self) -> Option<u64> {
        self.leader.filter(|leader| leader.node == self.node).map(|leader| leader.term)
    }

    fn tell(&mut self, clock: Duration, way: &mut Way<'_>) {
        if let Some((_, _, said)) = self.telling.take_if(|(_, until, _)| clock >= *until) {
            self.notes.unheard(said);
        }
        let Some(leader) = self.leader.filter(|_| self.telling.is_none() && clock >= self.tell_at) else {
            return;
        };
        self.tell_at = clock + HEARTBEAT;
        let teller =
            Teller { node: self.node.get(), life: self.life.0, is_leaving: self.leaves_at.is_some() };
        let tell = self.notes.tell(clock, &self.seen, leader.node, teller);
        if leader.node == self.node {
            self.hear(clock, tell);
            return;
        }
        self.led_before = Some(leader.node.get());
        let said = tell.sealed.iter().map(|it| it.at).chain(tell.wishes.iter().map(|it| it.at)).collect();
        self.question_count += 1;
        self.telling = Some((self.question_count, clock + ANSWER_MAX, said));
        way.network.send(way.now, self.node, leader.node, Packet::Tell(self.question_count, tell));
    }

    fn change_in_sync(&mut self, clock: Duration, way: &mut Way<'_>) {
        self.changing.take_if(|proposal| proposal.is_over(clock, &self.seen));
        if self.changing.is_some() || clock < self.change_at {
            return;
        }
        self.change_at = clock + SAY_AGAIN;
        if let Some(command) = self.notes.changes(&self.seen).into_iter().next() {
            self.changing = Some(self.propose(clock, way, command));
        }
    }

    fn control(&mut self, clock: Duration, way: &mut Way<'_>) {
        self.deciding.take_if(|proposal| proposal.is_over(clock, &self.seen));
        if self.deciding.is_some() {
            return;
        }
        if self.commands.is_empty() && clock >= self.decide_at {
            self.decide_at = clock + DECIDE_EVERY;
            let leads = self.leads();
            self.controller.take_if(|(term, _)| leads != Some(*term));
            if let Some((_, controller)) = self.controller.as_mut() {
                let mut commands = controller.decide(clock, &self.seen);
                self.mistakes.decide(&mut commands);
                self.commands.extend(commands);
            }
        }
        if let Some(command) = self.commands.pop_front() {
            self.deciding = Some(self.propose(clock, way, command));
        }
    }

    fn propose(&mut self, clock: Duration, way: &mut Way<'_>, command: Command) -> Proposal {
        self.question_count += 1;
        way.network.send(way.now, self.node, METADATA, Packet::Propose(self.question_count, command));
        Proposal { number: self.question_count, until: clock + ANSWER_MAX, index: None }
    }
}

impl Proposal {
    fn is_over(&self, clock: Duration, seen: &ClusterImage) -> bool {
        self.index.is_some_and(|index| seen.index >= index) || clock >= self.until
    }
}
