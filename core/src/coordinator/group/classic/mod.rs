//! A classic group: clients choose a leader's assignment, the coordinator keeps them in step.
//!
//! Durable is what the group was when its last generation became stable, or that it became empty: one record. Waiting
//! requests, timers and an unfinished rebalance are not; after a restart members find their generation as it was, or
//! join again.

mod calls;
mod join;
mod membership;
mod rebalance;
mod subscription;
mod sync;
mod value;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    ids::{Generation, InstanceId, MemberId, Millis, ProtocolName, RequestId, TopicName},
    message::{Client, GroupState, MemberProtocol},
};

/// The protocol type of consumers, whose subscriptions the coordinator can read.
const CONSUMER: &str = "consumer";

/// Where a classic group stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Phase {
    /// No members. Members that were given a name may be pending.
    Empty,
    /// Members join. With `Some` it is the first rebalance of an empty group, which waits for stragglers.
    Preparing(Option<InitialDelay>),
    /// All have joined; the leader assigns.
    Completing,
    /// All have, or may fetch, their assignment.
    Stable,
}

/// How much longer the first rebalance waits.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct InitialDelay {
    /// Of the current wait.
    delay: Duration,
    /// What may be added to it.
    remaining: Duration,
    /// Whether somebody joined meanwhile, which earns another wait.
    member_added: bool,
}

/// One member.
#[derive(Clone, Debug)]
struct Member {
    instance: Option<InstanceId>,
    client: Client,
    rebalance_timeout: Duration,
    session_timeout: Duration,
    protocols: Arc<[MemberProtocol]>,
    assignment: Bytes,
    /// It has not been told its name by an answered join yet, so it cannot send heartbeats.
    is_new: bool,
    /// Its unanswered JoinGroup.
    joining: Option<RequestId>,
    /// Its unanswered SyncGroup.
    syncing: Option<RequestId>,
}

/// A classic group.
#[derive(Clone, Debug)]
pub struct ClassicGroup {
    phase: Phase,
    since: Millis,
    protocol_type: Option<ProtocolName>,
    protocol: Option<ProtocolName>,
    generation: Generation,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
    /// The static ones among the members.
    instances: BTreeMap<InstanceId, MemberId>,
    /// Names given away to clients that have not come back with them (KIP-394).
    pending: BTreeSet<MemberId>,
    /// Members of this generation that have not asked for their assignment.
    not_synced: BTreeSet<MemberId>,
    /// How many members have an unanswered JoinGroup.
    joining_count: usize,
    /// How many members offer each protocol.
    support: BTreeMap<ProtocolName, usize>,
    /// Bytes of the members' metadata and assignments.
    bytes: usize,
    /// Topics that the members of this generation subscribe to; `None` when that cannot be known.
    subscribed: Option<BTreeSet<TopicName>>,
    /// Whether a record of this group was written.
    is_recorded: bool,
}

impl ClassicGroup {
    /// A group that nobody has joined yet.
    pub fn new(now: Millis) -> Self {
        Self {
            phase: Phase::Empty,
            since: now,
            protocol_type: None,
            protocol: None,
            generation: Generation::default(),
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeSet::new(),
            not_synced: BTreeSet::new(),
            joining_count: 0,
            support: BTreeMap::new(),
            bytes: 0,
            subscribed: None,
            is_recorded: false,
        }
    }

    /// Where it stands, for operators.
    pub fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::Preparing(_) => GroupState::PreparingRebalance,
            Phase::Completing => GroupState::CompletingRebalance,
            Phase::Stable => GroupState::Stable,
        }
    }

    /// How many members it has.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether it has no members and no rebalance is under way.
    pub fn is_empty(&self) -> bool {
        self.phase == Phase::Empty
    }

    /// Whether names were given away that have not come back.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// When it came to be as it is.
    pub fn since(&self) -> Millis {
        self.since
    }

    /// The last generation that began.
    #[cfg(test)]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What its members are, for consumers `consumer`.
    pub fn protocol_type(&self) -> Option<&ProtocolName> {
        self.protocol_type.as_ref()
    }

    /// Whether its members are consumers.
    pub fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|name| name.as_str() == CONSUMER)
    }

    /// The topics its members subscribe to, as far as that is known: of consumers, once a generation has begun.
    pub fn subscribed(&self) -> Option<&BTreeSet<TopicName>> {
        self.subscribed.as_ref()
    }

    /// How many clients wait for an answer.
    #[cfg(test)]
    pub fn waiting_count(&self) -> usize {
        self.members
            .values()
            .map(|member| usize::from(member.joining.is_some()) + usize::from(member.syncing.is_some()))
            .sum()
    }

    /// How many members and pending names it holds.
    #[cfg(test)]
    pub fn name_count(&self) -> usize {
        self.members.len() + self.pending.len()
    }
}
