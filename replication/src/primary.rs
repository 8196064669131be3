//! The primary of a partition in one epoch: what its backups hold, what is committed, who is in sync.

use std::collections::{BTreeMap, BTreeSet};

use heddle_proto::ids::{Epoch, NodeId, Offset};

use crate::catch_up::Peer;
use crate::io::{LogView, Output, Refusal};
use crate::leadership::Change;
use crate::message::{Join, Life, Message};
use crate::quorum::{self, InSync};
use crate::replica::Config;
use crate::rules::Rule;

/// State of a primary. It lives as long as its epoch, and no longer than the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Primary {
    /// The epoch in which it leads.
    pub epoch: Epoch,
    /// Where its log ended when it was elected. What lies before may be committed without this primary knowing it.
    pub elected_end: Offset,
    me: NodeId,
    in_sync: InSync,
    /// The set it has asked metadata for, until metadata has answered.
    pending: Option<InSync>,
    peers: BTreeMap<NodeId, Peer>,
}

impl Primary {
    /// Begins to lead.
    pub fn new(epoch: Epoch, me: NodeId, elected_end: Offset, in_sync: InSync) -> Primary {
        Primary { epoch, elected_end, me, in_sync, pending: None, peers: BTreeMap::new() }
    }

    /// Takes over the in-sync set that metadata holds.
    pub fn update(&mut self, in_sync: &InSync) {
        if in_sync.version > self.in_sync.version {
            self.in_sync = in_sync.clone();
            self.pending = None;
        }
    }

    /// Sends nothing more to backups that are neither in sync nor among these: such a replica may be deleted. One that is placed again
    /// before it has heard of that goes on where it is as soon as it acknowledges.
    pub fn pause_others(&mut self, replicas: &BTreeSet<NodeId>) {
        let members = &self.in_sync.members;
        for (node, peer) in &mut self.peers {
            if !members.contains(node) && !replicas.contains(node) {
                peer.pause(self.in_sync.version);
            }
        }
    }

    /// Whether enough members acknowledge in this epoch for new records to be committed.
    ///
    /// # Errors
    /// [`Refusal::NotEnoughReplicas`].
    pub fn admits(&self) -> Result<(), Refusal> {
        let acknowledges = |node: &&NodeId| {
            **node == self.me || self.peers.get(node).is_some_and(|peer| peer.held.is_some())
        };
        let in_sync_count = self.in_sync.members.iter().filter(acknowledges).count();
        if in_sync_count < self.in_sync.quorum {
            return Err(Refusal::NotEnoughReplicas { in_sync_count, quorum: self.in_sync.quorum });
        }
        Ok(())
    }

    /// So many members hold what is committed.
    pub fn quorum(&self) -> usize {
        self.in_sync.quorum
    }

    /// The in-sync set.
    pub fn members(&self) -> &BTreeSet<NodeId> {
        &self.in_sync.members
    }

    /// Whether it has asked metadata for another set and has not heard of it since.
    pub fn is_changing(&self) -> bool {
        self.pending.is_some()
    }

    /// What has arrived at a backup that has joined.
    pub fn written(&self, node: NodeId) -> Option<Offset> {
        self.peers.get(&node).map(|peer| peer.written)
    }

    /// What has arrived at a backup that has said so since it joined, and acknowledges nothing of it yet.
    pub fn filling(&self, node: NodeId) -> Option<Offset> {
        let peer = self.peers.get(&node).filter(|peer| peer.is_streaming() && peer.held.is_none());
        peer.map(|peer| peer.written)
    }

    /// What a backup has acknowledged in this epoch.
    pub fn held(&self, node: NodeId) -> Option<Offset> {
        self.peers.get(&node)?.held
    }

    /// A backup asks where its log parts from ours.
    pub fn on_join(
        &mut self,
        from: NodeId,
        join: &Join,
        log: &LogView,
        committed: Offset,
        config: &Config,
        out: &mut Vec<Output>,
    ) {
        let life = join.life;
        let known = self.peers.get(&from).map(|peer| (peer.life, peer.written));
        if known.is_some_and(|(known, _)| life < known) && config.rules.hold(Rule::AckOfThisLife) {
            return;
        }
        // A replica that was given up and is back in the same life has less than it said.
        if known.is_none_or(|(known, written)| known != life || join.end < written) {
            self.peers.insert(from, Peer::joined(life));
        }
        // Where a log no longer knows its older epochs, what the backup knows to be committed is shared all the same.
        let forgotten = log.history.is_full()
            || join.history.is_full()
            || log.start > Offset::ZERO
            || join.start > Offset::ZERO;
        let certain = join.committed.min(join.end).min(log.written);
        let unknown = if forgotten { certain } else { Offset::ZERO };
        let shared = log.history.shared_end(log.written, &join.history, join.end).unwrap_or(unknown);
        let (epoch, elected_end, start) = (self.epoch, self.elected_end, log.start);
        let message = Message::Welcome { epoch, life, shared, start, elected_end, committed };
        out.push(Output::say(from, message));
    }

    /// A backup says how far it is. What it cannot have got from here is its bug, and ignored; our log ends at `end`.
    pub fn on_ack(
        &mut self,
        from: NodeId,
        life: Life,
        (written, held, version): (Offset, Option<Offset>, u32),
        end: Offset,
        config: &Config,
    ) {
        if written > end || held > Some(end) {
            return;
        }
        if !config.rules.hold(Rule::AckOfThisEpoch) {
            self.peers.entry(from).or_insert_with(|| Peer::joined(life));
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.life == life || !config.rules.hold(Rule::AckOfThisLife) {
            peer.acked(written, held, version);
        }
    }

    /// Sends to every backup what it is due.
    pub fn send_due(&mut self, log: &LogView, committed: Offset, config: &Config, out: &mut Vec<Output>) {
        for (node, peer) in &mut self.peers {
            if peer.skip_removed(log.start) {
                let (epoch, life, shared, start) = (self.epoch, peer.life, peer.written, log.start);
                let elected_end = self.elected_end;
                let message = Message::Welcome { epoch, life, shared, start, elected_end, committed };
                out.push(Output::say(*node, message));
            }
            if let Some((from, upto, pace)) = peer.next_range(log.written, config.catch_up_records_max) {
                let message = append(self.epoch, peer.life, (from, upto), log, committed);
                out.push(Output::Send { to: *node, message, pace });
            }
        }
    }

    /// What one backup has not acknowledged is due again; when that is nothing, or when it is not known how far it is now, the commit
    /// position alone is sent, which it acknowledges.
    pub fn resend(&mut self, to: NodeId, log: &LogView, committed: Offset, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        peer.rewind();
        if peer.written == log.written || !peer.is_streaming() {
            let message = append(self.epoch, peer.life, (log.written, log.written), log, committed);
            out.push(Output::say(to, message));
        }
    }

    /// What may be committed, given what this primary holds itself.
    pub fn committable(&self, own: Offset, config: &Config) -> Option<Offset> {
        let by_current = self.committable_by(&self.in_sync, own, config)?;
        match &self.pending {
            Some(pending) if config.rules.hold(Rule::BothSets) => {
                Some(by_current.min(self.committable_by(pending, own, config)?))
            }
            _ => Some(by_current),
        }
    }

    fn committable_by(&self, set: &InSync, own: Offset, config: &Config) -> Option<Offset> {
        let others_needed = set.commit_quorum() - 1;
        let others_needed = if config.rules.hold(Rule::CommitQuorum) {
            others_needed
        } else {
            others_needed.saturating_sub(1)
        };
        if others_needed == 0 {
            return Some(own);
        }
        let mut held: Vec<Offset> =
            set.members.iter().filter_map(|node| self.peers.get(node)?.held).collect();
        Some(own.min(quorum::committed(&mut held, others_needed)?))
    }

    /// Asks for the in-sync set without `node`, when that is safe.
    pub fn shrink(
        &mut self,
        node: NodeId,
        own: Option<Offset>,
        committed: Offset,
        config: &Config,
        out: &mut Vec<Output>,
    ) {
        let mut members = self.in_sync.members.clone();
        if node != self.me && members.remove(&node) && members.len() >= self.in_sync.quorum {
            let owed = self.owed(committed, config);
            self.propose(self.in_sync.changed(members), own, owed);
        }
        self.ask(out);
    }

    /// Asks for another commit quorum of the same set, when that is safe.
    pub fn require(
        &mut self,
        quorum: usize,
        own: Option<Offset>,
        committed: Offset,
        config: &Config,
        out: &mut Vec<Output>,
    ) {
        if quorum != self.in_sync.quorum && (1..=self.in_sync.members.len()).contains(&quorum) {
            let owed = self.owed(committed, config);
            self.propose(self.in_sync.requiring(quorum), own, owed);
        }
        self.ask(out);
    }

    /// What a commit quorum must hold where the elections to come need fewer answers: all that may be committed.
    fn owed(&self, committed: Offset, config: &Config) -> Offset {
        let rules = config.rules;
        let committed = if rules.hold(Rule::ShrinkKeepsCommitted) { committed } else { Offset::ZERO };
        let elected = if rules.hold(Rule::ShrinkKeepsElectedLog) { self.elected_end } else { Offset::ZERO };
        committed.max(elected)
    }

    /// Asks for the in-sync set with `node`, when that acknowledges in this epoch and, where all members hold what is committed,
    /// has all of that. It has to know this version of the set: what it acknowledged before, a replica may have said that was taken
    /// away since and given back with nothing in the same life, which makes another version. How far behind it may be otherwise is
    /// the driver's to say. The others need not acknowledge now: what is committed they held when it was, and one that is gone for
    /// good can leave only when somebody has come.
    pub fn grow(
        &mut self,
        node: NodeId,
        own: Option<Offset>,
        committed: Offset,
        config: &Config,
        out: &mut Vec<Output>,
    ) {
        let keeps = self.in_sync.commit_all && config.rules.hold(Rule::GrowKeepsCommitted);
        let owed = if keeps { committed } else { Offset::ZERO };
        let version = self.peers.get(&node).map_or(0, |peer| peer.version);
        let is_new = version >= self.in_sync.version || !config.rules.hold(Rule::GrowOfThisVersion);
        let caught_up = is_new && self.position(node, own).is_some_and(|held| held >= owed);
        let mut members = self.in_sync.members.clone();
        if caught_up && members.insert(node) && self.pending.is_none() {
            self.pending = Some(self.in_sync.changed(members));
        }
        self.ask(out);
    }

    /// Wants a smaller set or another quorum, if a commit quorum of it holds all that may be committed: its elections may need
    /// fewer answers. One change at a time.
    fn propose(&mut self, wanted: InSync, own: Option<Offset>, owed: Offset) {
        let holds = |node: &&NodeId| self.position(**node, own).unwrap_or(Offset::ZERO) >= owed;
        if self.pending.is_none() && wanted.members.iter().filter(holds).count() >= wanted.commit_quorum() {
            self.pending = Some(wanted);
        }
    }

    /// What a member holds and has acknowledged in this epoch.
    fn position(&self, node: NodeId, own: Option<Offset>) -> Option<Offset> {
        if node == self.me { own } else { self.peers.get(&node)?.held }
    }

    /// Asks metadata for the change that is under way, again if need be.
    fn ask(&self, out: &mut Vec<Output>) {
        if let Some(pending) = &self.pending {
            out.push(Output::Change(Change {
                epoch: self.epoch,
                from: self.in_sync.clone(),
                members: pending.members.clone(),
                quorum: pending.quorum,
            }));
        }
    }
}

fn append(
    epoch: Epoch,
    life: Life,
    (from, upto): (Offset, Offset),
    log: &LogView,
    committed: Offset,
) -> Message {
    let history = log.history.of_range(from, upto);
    Message::Append { epoch, life, from, upto, history, committed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::History;
    use crate::replica::Hold;
    use crate::rules::Rules;

    const ME: NodeId = NodeId::new(1);
    const BACKUP: NodeId = NodeId::new(2);
    const LIFE: Life = Life(3);

    fn primary_of(members: &[NodeId]) -> Primary {
        let members = members.iter().copied().collect();
        let in_sync = InSync { members, quorum: 1, commit_all: false, version: 0 };
        Primary::new(Epoch::new(1), ME, Offset::ZERO, in_sync)
    }

    fn join(primary: &mut Primary, end: i64) {
        let join = Join {
            epoch: Epoch::new(1),
            life: LIFE,
            start: Offset::ZERO,
            end: Offset::new(end),
            committed: Offset::ZERO,
            history: History::default(),
        };
        primary.on_join(BACKUP, &join, &log(), Offset::ZERO, &config(), &mut Vec::new());
    }

    fn log() -> LogView {
        let (start, end) = (Offset::ZERO, Offset::new(10));
        LogView { start, durable: end, written: end, history: History::default() }
    }

    fn sent(primary: &mut Primary) -> Vec<Output> {
        let mut out = Vec::new();
        primary.send_due(&log(), Offset::ZERO, &config(), &mut out);
        out
    }

    fn config() -> Config {
        Config { hold: Hold::Durable, catch_up_records_max: 100, rules: Rules::default() }
    }

    fn ack(primary: &mut Primary, upto: i64) {
        ack_knowing(primary, upto, 0);
    }

    fn ack_knowing(primary: &mut Primary, upto: i64, version: u32) {
        let upto = Offset::new(upto);
        primary.on_ack(BACKUP, LIFE, (upto, Some(upto), version), Offset::new(10), &config());
    }

    #[test]
    fn who_acknowledged_before_the_set_changed_does_not_come_into_it() {
        let grows = |primary: &mut Primary| {
            let mut out = Vec::new();
            primary.grow(BACKUP, Some(Offset::new(10)), Offset::ZERO, &config(), &mut out);
            !out.is_empty()
        };
        let mut primary = primary_of(&[ME]);
        join(&mut primary, 0);
        ack_knowing(&mut primary, 10, 0);
        let in_sync = InSync { version: 1, ..primary.in_sync.clone() };
        primary.update(&in_sync);
        assert!(!grows(&mut primary), "it may have been taken away, and given back with nothing");
        ack_knowing(&mut primary, 10, 0);
        assert!(!grows(&mut primary), "that was under way");
        ack_knowing(&mut primary, 10, 1);
        assert!(grows(&mut primary));
    }

    #[test]
    fn who_comes_back_with_less_in_the_same_life_counts_for_nothing() {
        let mut primary = primary_of(&[ME]);
        join(&mut primary, 0);
        ack(&mut primary, 10);
        join(&mut primary, 10);
        assert_eq!(primary.held(BACKUP), Some(Offset::new(10)), "it greets again, and has what it said");
        join(&mut primary, 0);
        assert_eq!((primary.held(BACKUP), primary.written(BACKUP)), (None, Some(Offset::ZERO)));
        ack(&mut primary, 4);
        assert_eq!(primary.held(BACKUP), Some(Offset::new(4)));
    }

    #[test]
    fn who_is_to_have_no_replica_is_sent_nothing_unless_it_is_in_sync() {
        for (members, is_sent) in [(&[ME, BACKUP][..], true), (&[ME], false)] {
            let mut primary = primary_of(members);
            join(&mut primary, 0);
            ack(&mut primary, 4);
            primary.pause_others(&BTreeSet::from([ME]));
            assert_eq!(!sent(&mut primary).is_empty(), is_sent);
        }
    }

    #[test]
    fn who_is_placed_again_before_it_heard_that_it_was_not_goes_on() {
        let mut primary = primary_of(&[ME]);
        join(&mut primary, 0);
        ack(&mut primary, 4);
        let in_sync = InSync { version: 1, ..primary.in_sync.clone() };
        primary.update(&in_sync);
        primary.pause_others(&BTreeSet::from([ME]));
        ack(&mut primary, 4);
        assert!(sent(&mut primary).is_empty(), "that was under way");
        let mut out = Vec::new();
        primary.resend(BACKUP, &log(), Offset::ZERO, &mut out);
        assert!(matches!(&out[..], [Output::Send { message: Message::Append { .. }, .. }]), "{out:?}");
        ack_knowing(&mut primary, 4, 2);
        let sent = sent(&mut primary);
        assert!(
            matches!(&sent[..], [Output::Send { message: Message::Append { from, .. }, .. }] if from.get() == 4),
            "{sent:?}"
        );
    }
}
