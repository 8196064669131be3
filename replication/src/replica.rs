//! One replica of a partition: its role, its promises, its positions. Every input goes through [`Replica::step`].

use heddle_proto::ids::{Epoch, NodeId, Offset};

use crate::backup::{Backup, Greeting};
use crate::history::History;
use crate::io::{Fault, Input, LogView, Output, Promise, Refusal};
use crate::leadership::{Grant, SealAnswer};
use crate::message::{Join, Life, Message};
use crate::primary::Primary;
use crate::rules::{Rule, Rules};

/// What "a replica holds a record" means: the topic's durability.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// It is on stable storage (`fsync`).
    Durable,
    /// It is in memory and reaches stable storage later (`replicated`, `async`).
    Written,
}

/// Settings of a replica.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The topic's durability.
    pub hold: Hold,
    /// A backup further behind than this many records catches up, within the budget for that.
    pub catch_up_records_max: i64,
    /// Which rules hold: all of them.
    pub rules: Rules,
}

/// What a replica finds when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Restored {
    /// Its promise; `None` when there is none on its disk.
    pub promise: Option<Promise>,
    /// Its log. It begins between two batches, so that a backup can begin there too.
    pub log: LogView,
    /// Up to where it is known to be committed: only what is leaves a log at its beginning. It may lie within a batch.
    pub committed: Offset,
    /// [`crate::leadership::Leadership::newest_epoch`] when the node registered its new life with the metadata.
    pub newest_epoch: Epoch,
    /// Whether the partition had had a primary by then: before that nobody can have forgotten anything.
    pub was_led: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    /// Sealed, or waiting for metadata.
    Idle,
    Primary(Primary),
    Backup(Backup),
    /// In contradiction with the rest of the world.
    Halted,
}

/// The state machine of one replica in one life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    me: NodeId,
    life: Life,
    config: Config,
    log: LogView,
    committed: Offset,
    /// The epoch in which `committed` was learned.
    committed_in: Epoch,
    /// What is to be on stable storage, what is being written there, what is there.
    promise: Promise,
    recording: Option<Promise>,
    recorded: Promise,
    /// Holds everything it ever acknowledged.
    whole: bool,
    /// Cuts that are not yet on stable storage.
    cuts_outstanding: u32,
    answer_due: Option<Epoch>,
    stopping: bool,
    role: Role,
}

impl Replica {
    /// A replica at its start. It takes no part before metadata tells it who leads.
    pub fn start(
        me: NodeId,
        life: Life,
        config: Config,
        restored: Restored,
        out: &mut Vec<Output>,
    ) -> Replica {
        let stored = restored.promise.unwrap_or(NO_PROMISE);
        let forgot = restored.was_led && !stored.intact;
        let mut promise = stored;
        match config.hold {
            Hold::Durable => promise.intact = !forgot || !config.rules.hold(Rule::ForgettingIsStable),
            Hold::Written => promise.intact &= !config.rules.hold(Rule::CleanMarkRemoved),
        }
        if forgot {
            promise.accepted = Epoch::new(0);
            if config.rules.hold(Rule::PromiseFromMetadata) {
                promise.sealed = promise.sealed.max(restored.newest_epoch);
            }
        }
        let mut replica = Replica {
            me,
            life,
            config,
            committed: restored.committed,
            committed_in: Epoch::new(0),
            log: restored.log,
            promise,
            recording: None,
            recorded: stored,
            whole: !forgot,
            cuts_outstanding: 0,
            answer_due: None,
            stopping: false,
            role: Role::Idle,
        };
        replica.settle(out);
        replica.check();
        replica
    }

    /// Takes one input and says what is to be done about it.
    ///
    /// # Panics
    /// When an invariant is broken: a bug here or in the driver.
    pub fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        let committed_before = self.committed;
        match input {
            Input::Written(end) => self.on_written(end),
            Input::Durable(upto) if self.cuts_outstanding == 0 => {
                self.log.durable = upto.min(self.log.written)
            }
            Input::Durable(_) => {}
            Input::CutDone => self.cuts_outstanding -= 1,
            Input::Retained(start) => {
                assert!(
                    start <= self.committed && start <= self.log.durable,
                    "retention removes what is safe"
                );
                self.log.start = self.log.start.max(start);
            }
            Input::Recorded => self.recorded = self.recording.take().expect("a promise was being recorded"),
            Input::Message { from, message } => self.on_message(from, message, out),
            Input::Resend(peer) => self.on_resend(peer, out),
            Input::Granted(grant) => self.on_granted(&grant, out),
            Input::Placed(replicas) => {
                if let Role::Primary(primary) = &mut self.role {
                    primary.pause_others(&replicas);
                }
            }
            Input::Seal(epoch) => self.on_seal(epoch),
            Input::Shrink(node) => self.on_shrink(node, out),
            Input::Grow(node) => self.on_grow(node, out),
            Input::Require(quorum) => self.on_require(quorum, out),
            Input::Stop => {
                self.stopping = true;
                self.answer_due = None;
                self.role = Role::Idle;
            }
        }
        self.settle(out);
        self.check();
        if self.committed > committed_before {
            out.push(Output::Committed(self.committed));
        }
    }

    /// Whether a client's records may be appended here now, and in which epoch.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn admits(&self) -> Result<Epoch, Refusal> {
        match &self.role {
            Role::Primary(primary) => primary.admits().map(|()| primary.epoch),
            _ => Err(Refusal::NotPrimary),
        }
    }

    /// The epoch in which this replica leads, if it does.
    pub fn leads(&self) -> Option<Epoch> {
        match &self.role {
            Role::Primary(primary) => Some(primary.epoch),
            _ => None,
        }
    }

    /// What it knows as primary, if it is one.
    pub fn primary(&self) -> Option<&Primary> {
        match &self.role {
            Role::Primary(primary) => Some(primary),
            _ => None,
        }
    }

    /// The primary that it has asked where their logs part, while that has not answered.
    pub fn joins(&self) -> Option<NodeId> {
        match &self.role {
            Role::Backup(backup) if backup.greeting.is_none() => Some(backup.primary),
            _ => None,
        }
    }

    /// The offset after the last record known to be committed.
    pub fn committed(&self) -> Offset {
        self.committed
    }

    /// Whether it is a backup of this epoch, and what is meant for this life is meant for it.
    pub fn follows(&self, epoch: Epoch, life: Life) -> bool {
        matches!(&self.role, Role::Backup(backup) if backup.epoch == epoch) && life == self.life
    }

    /// Whether records that end at `upto` reach so late that their primary, whose commit position is `committed`, does not count
    /// this replica among those that keep up.
    pub fn is_far_behind(&self, upto: Offset, committed: Offset) -> bool {
        committed.since(upto) > self.config.catch_up_records_max
    }

    /// Its log, as far as it has been told.
    pub fn log(&self) -> &LogView {
        &self.log
    }

    /// The newest epoch it has promised or follows: it takes nothing older.
    pub fn epoch(&self) -> Epoch {
        self.promise.sealed
    }

    /// Whether it holds everything it ever acknowledged.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether it has stopped because of a contradiction.
    pub fn is_halted(&self) -> bool {
        self.role == Role::Halted
    }

    /// Its life.
    pub fn life(&self) -> Life {
        self.life
    }

    /// The offset after the last record that it holds in the sense of the topic's durability.
    fn held(&self) -> Offset {
        match self.config.hold {
            Hold::Durable => self.log.durable,
            Hold::Written => self.log.written,
        }
    }

    fn on_written(&mut self, end: Offset) {
        let Role::Primary(primary) = &self.role else { panic!("only a primary appends on its own") };
        assert!(end > self.log.written, "an append moves the end of the log");
        self.log.history.note(primary.epoch, self.log.written);
        self.log.written = end;
    }

    fn on_message(&mut self, from: NodeId, message: Message, out: &mut Vec<Output>) {
        match (&mut self.role, message) {
            (Role::Primary(primary), Message::Join(join)) if join.epoch == primary.epoch => {
                primary.on_join(from, &join, &self.log, self.committed, &self.config, out);
            }
            (Role::Primary(primary), Message::Ack { epoch, life, written, held, version })
                if epoch == primary.epoch || !self.config.rules.hold(Rule::AckOfThisEpoch) =>
            {
                primary.on_ack(from, life, (written, held, version), self.log.written, &self.config);
            }
            (
                Role::Backup(backup),
                Message::Welcome { epoch, life, shared, start, elected_end, committed },
            ) if epoch == backup.epoch && life == self.life => {
                // Who follows shares all it has; another welcome matters when retention has overtaken it.
                let shared = if backup.greeting.is_none() { shared } else { self.log.written };
                if backup.greeting.is_none() || shared < start {
                    backup.greeting = Some(Greeting { elected_end, committed });
                    self.on_welcome(shared, start, out);
                }
            }
            (Role::Backup(backup), Message::Append { epoch, life, from, upto, history, committed })
                if epoch == backup.epoch && life == self.life && backup.greeting.is_some() =>
            {
                backup.ack_again();
                self.on_append(from, upto, &history, committed, out);
            }
            (Role::Backup(backup), Message::Commit { epoch, life, committed })
                if epoch == backup.epoch && life == self.life && backup.greeting.is_some() =>
            {
                self.learn_committed(committed);
            }
            _ => {}
        }
    }

    /// The primary said where the logs part: what lies beyond goes.
    fn on_welcome(&mut self, shared: Offset, start: Offset, out: &mut Vec<Output>) {
        let Role::Backup(backup) = &self.role else { return };
        if shared < self.committed {
            if !backup.lossy && shared < self.shared_for_certain() {
                let fault = Fault::CutsCommitted { epoch: backup.epoch, shared, committed: self.committed };
                self.role = Role::Halted;
                out.push(Output::Halt(fault));
                return;
            }
            if backup.lossy {
                out.push(Output::Lost { from: shared, upto: self.committed });
            }
            self.committed = shared;
        }
        if shared < start.max(self.log.start) {
            out.push(Output::Begin(start));
            self.cuts_outstanding += 1;
            self.log = LogView { start, durable: start, written: start, history: History::default() };
            self.committed = start;
        } else if shared < self.log.written && self.config.rules.hold(Rule::CutDivergence) {
            out.push(Output::Cut(shared));
            self.cuts_outstanding += 1;
            self.log.written = shared;
            self.log.durable = self.log.durable.min(shared);
            self.log.history.truncate(shared);
        }
    }

    fn on_append(
        &mut self,
        from: Offset,
        upto: Offset,
        history: &History,
        committed: Offset,
        out: &mut Vec<Output>,
    ) {
        let end = self.log.written;
        if from > end {
            return; // Something before it was lost; our acknowledgement says from where to go on.
        }
        if upto > end {
            out.push(Output::Append { from: end, upto });
            self.log.history.extend(end, history);
            self.log.written = upto;
        }
        self.learn_committed(committed);
    }

    /// What this replica has of what the primary has committed: after the greeting all it has is the primary's.
    fn learn_committed(&mut self, committed: Offset) {
        let committed = committed.min(self.log.written);
        if committed > self.committed {
            self.committed = committed;
            self.committed_in = self.promise.sealed;
        }
    }

    fn on_resend(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Primary(primary) => primary.resend(peer, &self.log, self.committed, out),
            Role::Backup(backup) if backup.primary == peer => match backup.greeting {
                None => {
                    let lossy = backup.lossy;
                    let join = self.join(lossy);
                    out.push(Output::say(peer, join));
                }
                Some(_) => backup.ack_again(),
            },
            _ => {}
        }
    }

    fn on_granted(&mut self, grant: &Grant, out: &mut Vec<Output>) {
        let Some((node, life)) = grant.primary else { return };
        if self.stopping || self.role == Role::Halted || grant.epoch < self.promise.sealed {
            return;
        }
        match &mut self.role {
            Role::Primary(primary) if primary.epoch == grant.epoch => return primary.update(&grant.in_sync),
            Role::Backup(backup) if backup.epoch == grant.epoch => {
                return backup.learn(grant.in_sync.version);
            }
            _ => {}
        }
        self.promise.sealed = grant.epoch;
        self.answer_due = None;
        self.role = Role::Idle;
        if node != self.me {
            let lossy = grant.lossy > self.committed_in;
            self.role = Role::Backup(Backup::new(grant.epoch, node, lossy, grant.in_sync.version));
            out.push(Output::say(node, self.join(lossy)));
        } else if life == self.life || !self.config.rules.hold(Rule::LeadInOneLife) {
            self.role =
                Role::Primary(Primary::new(grant.epoch, self.me, self.log.written, grant.in_sync.clone()));
        } else {
            out.push(Output::NeedElection);
        }
    }

    /// Up to where every log is the same as this one, between two batches. What it knows to be committed from its own disk alone may
    /// end within one, where no two logs part.
    fn shared_for_certain(&self) -> Offset {
        if self.committed_in > Epoch::new(0) { self.committed } else { self.log.start }
    }

    fn join(&self, lossy: bool) -> Message {
        Message::Join(Join {
            epoch: self.promise.sealed,
            life: self.life,
            start: self.log.start,
            end: self.log.written,
            committed: if lossy { Offset::ZERO } else { self.shared_for_certain() },
            history: self.log.history.clone(),
        })
    }

    fn on_seal(&mut self, epoch: Epoch) {
        if self.stopping || self.role == Role::Halted || epoch < self.promise.sealed {
            return;
        }
        let takes_part = match &self.role {
            Role::Primary(primary) => primary.epoch == epoch,
            Role::Backup(backup) => backup.epoch == epoch,
            Role::Idle | Role::Halted => false,
        };
        if takes_part {
            return; // That election is over.
        }
        self.answer_due = Some(epoch);
        if self.config.rules.hold(Rule::SealRefusesOlder) {
            self.promise.sealed = epoch;
            self.role = Role::Idle;
        }
    }

    fn on_shrink(&mut self, node: NodeId, out: &mut Vec<Output>) {
        let own = self.own_held();
        if let Role::Primary(primary) = &mut self.role {
            primary.shrink(node, own, self.committed, &self.config, out);
        }
    }

    fn on_grow(&mut self, node: NodeId, out: &mut Vec<Output>) {
        let own = self.own_held();
        if let Role::Primary(primary) = &mut self.role {
            primary.grow(node, own, self.committed, &self.config, out);
        }
    }

    fn on_require(&mut self, quorum: usize, out: &mut Vec<Output>) {
        let own = self.own_held();
        if let Role::Primary(primary) = &mut self.role {
            primary.require(quorum, own, self.committed, &self.config, out);
        }
    }

    /// Does what has become due: promises, answers, acknowledgements, commits.
    fn settle(&mut self, out: &mut Vec<Output>) {
        self.accept();
        self.leave_clean_mark(out);
        if self.recording.is_none() && self.promise != self.recorded {
            self.recording = Some(self.promise);
            out.push(Output::Record(self.promise));
        }
        self.answer(out);
        self.acknowledge(out);
        self.commit();
        if let Role::Primary(primary) = &mut self.role {
            primary.send_due(&self.log, self.committed, &self.config, out);
        }
    }

    /// Accepts the epoch once the log with which its primary was elected is held here.
    fn accept(&mut self) {
        let epoch = match &self.role {
            Role::Primary(primary) => {
                (self.held() >= primary.elected_end && self.cuts_outstanding == 0).then_some(primary.epoch)
            }
            Role::Backup(backup) => {
                let ready = self.may_accept(backup) && self.config.rules.hold(Rule::AcceptBeforeAck);
                ready.then_some(backup.epoch)
            }
            Role::Idle | Role::Halted => None,
        };
        if let Some(epoch) = epoch
            && self.promise.accepted < epoch
        {
            self.promise.accepted = epoch;
            self.promise.intact |= self.config.hold == Hold::Durable;
            self.whole = true;
        }
    }

    fn may_accept(&self, backup: &Backup) -> bool {
        let rules = self.config.rules;
        let Some(greeting) = backup.greeting else { return false };
        (self.held() >= greeting.elected_end || !rules.hold(Rule::ElectedLogBeforeAccept))
            && (self.cuts_outstanding == 0 || !rules.hold(Rule::CutBeforeAccept))
            && (self.whole || self.held() >= greeting.committed || !rules.hold(Rule::WholeWhenCaughtUp))
    }

    /// What this replica holds in the epoch it takes part in, as it may be counted.
    fn own_held(&self) -> Option<Offset> {
        let (accepted, early) = match &self.role {
            Role::Primary(primary) => (self.recorded.accepted == primary.epoch, false),
            Role::Backup(backup) => {
                let early = !self.config.rules.hold(Rule::AcceptBeforeAck) && self.may_accept(backup);
                (self.recorded.accepted == backup.epoch, early)
            }
            Role::Idle | Role::Halted => return None,
        };
        let counts = accepted && self.mark_removed() && self.cuts_outstanding == 0;
        (early || counts).then(|| self.held())
    }

    /// Whether a crash from here on is seen to have lost what is in memory only.
    fn mark_removed(&self) -> bool {
        self.config.hold == Hold::Durable
            || !self.recorded.intact
            || !self.config.rules.hold(Rule::CleanMarkRemoved)
    }

    fn answer(&mut self, out: &mut Vec<Output>) {
        let rules = self.config.rules;
        let Some(epoch) = self.answer_due else { return };
        let stable = self.recorded.sealed >= epoch && self.mark_removed();
        if stable || !rules.hold(Rule::SealIsStable) || !rules.hold(Rule::SealRefusesOlder) {
            self.answer_due = None;
            let answer = SealAnswer {
                life: self.life,
                accepted: self.promise.accepted,
                end: self.log.written,
                last_epoch: self.log.history.last_epoch().unwrap_or_default(),
                forgot: !self.whole,
            };
            out.push(Output::Answer { epoch, answer });
        }
    }

    fn acknowledge(&mut self, out: &mut Vec<Output>) {
        let (life, written, held) = (self.life, self.log.written, self.own_held());
        if let Role::Backup(backup) = &mut self.role
            && backup.greeting.is_some()
            && let Some(message) = backup.due_ack(life, written, held)
        {
            out.push(Output::say(backup.primary, message));
        }
    }

    fn commit(&mut self) {
        let Role::Primary(primary) = &self.role else { return };
        let Some(own) = self.own_held() else { return };
        if let Some(committed) = primary.committable(own, &self.config)
            && committed > self.committed
        {
            assert!(
                committed >= primary.elected_end || !self.config.rules.all_hold(),
                "who acknowledges in an epoch holds the log with which it began"
            );
            self.committed = committed;
            self.committed_in = primary.epoch;
        }
    }

    /// A replica that stops in good order says so on stable storage, where memory counts as holding a record.
    fn leave_clean_mark(&mut self, out: &mut Vec<Output>) {
        if !self.stopping || self.cuts_outstanding > 0 || self.log.durable < self.log.written {
            return;
        }
        let may_mark = self.whole || !self.config.rules.hold(Rule::CleanMarkOfWhole);
        if self.config.hold == Hold::Written && may_mark {
            self.promise.intact = true;
        }
        if self.recorded == self.promise {
            out.push(Output::Stopped);
        }
    }

    fn check(&self) {
        if !self.config.rules.all_hold() {
            return;
        }
        let log = &self.log;
        assert!(log.start <= log.durable && log.durable <= log.written, "positions are in order: {self:?}");
        assert!(log.start <= self.committed, "only committed records are forgotten: {self:?}");
        assert!(self.committed <= log.written, "what is committed is here: {self:?}");
        assert!(log.history.entries().last().is_none_or(|(_, start)| *start < log.written), "{self:?}");
        assert!(self.promise.accepted <= self.promise.sealed, "no epoch is accepted unseen: {self:?}");
        assert!(self.recorded.sealed <= self.promise.sealed, "no promise is taken back: {self:?}");
        match &self.role {
            Role::Primary(primary) => {
                assert_eq!(primary.epoch, self.promise.sealed, "a sealed primary leads no more: {self:?}");
                assert!(primary.elected_end <= log.written, "a primary cuts nothing: {self:?}");
            }
            Role::Backup(backup) => assert_eq!(backup.epoch, self.promise.sealed, "{self:?}"),
            Role::Idle | Role::Halted => {}
        }
    }
}

/// Of a replica that never promised anything.
const NO_PROMISE: Promise = Promise { sealed: Epoch::new(0), accepted: Epoch::new(0), intact: false };
