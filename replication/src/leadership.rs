//! Who leads a partition: the part of the cluster's metadata that replication rests on, and the rules by which it changes.
//!
//! It is a value in the replicated metadata log; every function here is one command on it, so all nodes compute the same.

use std::collections::{BTreeMap, BTreeSet};

use heddle_proto::ids::{Epoch, NodeId, Offset};

use crate::message::Life;
use crate::quorum::InSync;
use crate::rules::{Rule, Rules};

/// What every replica is told when leadership or the in-sync set changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The epoch in force; 0 before the first election.
    pub epoch: Epoch,
    /// Who leads in it, and in which life.
    pub primary: Option<(NodeId, Life)>,
    /// The in-sync set.
    pub in_sync: InSync,
    /// The last epoch that began with an election in which committed records may have been lost; 0 for none. A replica
    /// that knows more as committed from before it may be cut.
    pub lossy: Epoch,
}

/// A replica's answer to a seal.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct SealAnswer {
    /// The life that answers.
    pub life: Life,
    /// The last epoch it accepted; 0 for none.
    pub accepted: Epoch,
    /// The offset after the last record in its log.
    pub end: Offset,
    /// The epoch of that record.
    pub last_epoch: Epoch,
    /// It may have lost records that it once acknowledged.
    pub forgot: bool,
}

/// A primary's wish for another in-sync set, or another commit quorum of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// The epoch of the primary that asks.
    pub epoch: Epoch,
    /// The set it was made for.
    pub from: InSync,
    /// The members it should have.
    pub members: BTreeSet<NodeId>,
    /// The quorum it should have.
    pub quorum: usize,
}

/// Why a command on the leadership of a partition was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The change is of another epoch than the current one.
    #[error("it is of an epoch that is over")]
    OtherEpoch,
    /// The set is no longer the one the change was made for.
    #[error("the in-sync set has changed meanwhile")]
    OtherVersion,
    /// An election is under way.
    #[error("an election is under way")]
    ElectionUnderWay,
    /// The set would be smaller than the commit quorum, or lack the primary.
    #[error("the in-sync set must hold the primary and a commit quorum")]
    TooSmall,
    /// No election is under way, or it waits for more answers.
    #[error("not enough replicas have answered the seal")]
    TooFewAnswers,
}

/// Leadership of one partition as the metadata holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leadership {
    grant: Grant,
    election: Option<Election>,
    rules: Rules,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Election {
    epoch: Epoch,
    answers: BTreeMap<NodeId, SealAnswer>,
}

impl Leadership {
    /// A new partition. It has no primary until the first election.
    pub fn new(in_sync: InSync, rules: Rules) -> Leadership {
        let grant = Grant { epoch: Epoch::new(0), primary: None, in_sync, lossy: Epoch::new(0) };
        Leadership { grant, election: None, rules }
    }

    /// One as the metadata holds it, with the election under way if there is one, which nobody has answered.
    pub fn restore(grant: Grant, electing: Option<Epoch>, rules: Rules) -> Leadership {
        let election = electing.map(|epoch| Election { epoch, answers: BTreeMap::new() });
        Leadership { grant, election, rules }
    }

    /// What is in force.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The epoch of the election under way: whoever is asked to seal promises it.
    pub fn electing(&self) -> Option<Epoch> {
        self.election.as_ref().map(|election| election.epoch)
    }

    /// The newest epoch that any replica can have promised.
    pub fn newest_epoch(&self) -> Epoch {
        self.electing().unwrap_or(self.grant.epoch)
    }

    /// Replicas are placed or taken away: a newcomer may come where another one was before, and a wish for one that goes is void.
    pub fn place(&mut self) {
        let members = self.grant.in_sync.members.clone();
        self.grant.in_sync = self.grant.in_sync.changed(members);
    }

    /// Begins an election, or begins it anew in a higher epoch.
    pub fn begin_election(&mut self) -> Epoch {
        let epoch = Epoch::new(self.newest_epoch().get() + 1);
        self.election = Some(Election { epoch, answers: BTreeMap::new() });
        epoch
    }

    /// Takes a replica's answer. Answers to other elections, from outside the in-sync set, or from an older life are ignored.
    pub fn answer(&mut self, node: NodeId, epoch: Epoch, answer: SealAnswer) {
        let Some(election) = self.election.as_mut().filter(|election| election.epoch == epoch) else {
            return;
        };
        let known = election.answers.get(&node);
        if self.grant.in_sync.members.contains(&node) && known.is_none_or(|known| known.life <= answer.life) {
            election.answers.insert(node, answer);
        }
    }

    /// Ends the election when enough members answered that have not forgotten: every committed record is then on the winner.
    ///
    /// # Errors
    /// [`Refused::TooFewAnswers`].
    pub fn elect(&mut self) -> Result<(), Refused> {
        let election = self.election.as_ref().ok_or(Refused::TooFewAnswers)?;
        let abstains = |answer: &SealAnswer| answer.forgot && self.rules.hold(Rule::ForgotAbstains);
        let members = &self.grant.in_sync.members;
        let answers = election.answers.iter().filter(|(node, _)| members.contains(node));
        let counted: Vec<_> = answers.filter(|(_, answer)| !abstains(answer)).collect();
        let needed = self.grant.in_sync.seal_quorum() - usize::from(!self.rules.hold(Rule::SealQuorum));
        if counted.len() < needed.max(1) {
            return Err(Refused::TooFewAnswers);
        }
        let rank = |answer: &SealAnswer| match self.rules.hold(Rule::HighestAcceptedWins) {
            true => (answer.accepted, answer.end),
            false => (Epoch::new(0), answer.end),
        };
        let winner =
            counted.into_iter().max_by_key(|(node, answer)| (rank(answer), std::cmp::Reverse(**node)));
        let (node, life) = winner.map(|(node, answer)| (*node, answer.life)).ok_or(Refused::TooFewAnswers)?;
        self.grant_to(election.epoch, node, life, false);
        Ok(())
    }

    /// Ends an election that can not end well: all members answered, but too many forgot. The log with the newest, then
    /// the most records wins; what was committed and is not in it is lost, and the grant says so.
    ///
    /// # Errors
    /// [`Refused::TooFewAnswers`] when not all answered, or when enough of them have not forgotten.
    pub fn elect_lossy(&mut self) -> Result<(), Refused> {
        let election = self.election.as_ref().ok_or(Refused::TooFewAnswers)?;
        let in_sync = &self.grant.in_sync;
        let answers: Vec<_> =
            election.answers.iter().filter(|(node, _)| in_sync.members.contains(node)).collect();
        let clean_count = answers.iter().filter(|(_, answer)| !answer.forgot).count();
        if answers.len() < in_sync.members.len() || clean_count >= in_sync.seal_quorum() {
            return Err(Refused::TooFewAnswers);
        }
        let best = answers.into_iter().max_by_key(|(node, answer)| {
            // Retention may have removed the last record of a log: what its replica accepted says as much of it.
            let newest = answer.last_epoch.max(answer.accepted);
            (newest, answer.end, !answer.forgot, std::cmp::Reverse(**node))
        });
        let (node, life) = best.map(|(node, answer)| (*node, answer.life)).ok_or(Refused::TooFewAnswers)?;
        self.grant_to(election.epoch, node, life, true);
        Ok(())
    }

    /// Changes the in-sync set for the primary of the current epoch. A change that is already done is taken again.
    ///
    /// # Errors
    /// [`Refused`]; the primary learns the set in force from its next [`Grant`].
    pub fn change(&mut self, change: &Change) -> Result<(), Refused> {
        let grant = &self.grant;
        if change.epoch != grant.epoch && self.rules.hold(Rule::ChangeOfThisEpoch) {
            return Err(Refused::OtherEpoch);
        }
        if self.election.is_some() && self.rules.hold(Rule::NoChangeInElection) {
            return Err(Refused::ElectionUnderWay);
        }
        if change.from.members != grant.in_sync.members
            || (change.from.version != grant.in_sync.version && self.rules.hold(Rule::ChangeOfThisVersion))
        {
            return Err(Refused::OtherVersion);
        }
        let leads = grant.primary.is_some_and(|(node, _)| change.members.contains(&node));
        if change.quorum == 0 || change.members.len() < change.quorum || !leads {
            return Err(Refused::TooSmall);
        }
        self.grant.in_sync =
            InSync { quorum: change.quorum, ..grant.in_sync.changed(change.members.clone()) };
        Ok(())
    }

    fn grant_to(&mut self, epoch: Epoch, node: NodeId, life: Life, lossy: bool) {
        assert!(epoch > self.grant.epoch, "an election ends in a new epoch");
        assert!(self.grant.in_sync.members.contains(&node), "a member of the in-sync set is elected");
        self.grant.epoch = epoch;
        self.grant.primary = Some((node, life));
        if lossy {
            self.grant.lossy = epoch;
        }
        self.election = None;
    }
}
