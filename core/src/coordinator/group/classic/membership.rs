//! Who is in a classic group: the bookkeeping that every change of members goes through.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use heddle_proto::error::ErrorCode;

use super::{ClassicGroup, InitialDelay, Member, Phase};
use crate::coordinator::group::{
    context::Context,
    ids::{InstanceId, MemberId, ProtocolName, RequestId},
    message::{Client, JoinAnswer, JoinGroup, MemberProtocol, Reply, SyncAnswer},
};

/// What a JoinGroup may change of a member that is there already.
pub struct Terms<'a> {
    /// In order of preference.
    pub protocols: &'a Arc<[MemberProtocol]>,
    /// How long it may take to join.
    pub rebalance_timeout: Duration,
    /// How long it may be silent.
    pub session_timeout: Duration,
}

impl<'a> Terms<'a> {
    /// Those of a request.
    pub fn of(request: &'a JoinGroup) -> Self {
        Self {
            protocols: &request.protocols,
            rebalance_timeout: request.rebalance_timeout,
            session_timeout: request.session_timeout,
        }
    }
}

/// About what a member's protocols take, in memory and in a record.
pub fn protocol_bytes(protocols: &[MemberProtocol]) -> usize {
    const OVERHEAD_BYTES: usize = 16;
    protocols
        .iter()
        .map(|protocol| OVERHEAD_BYTES + protocol.name.as_str().len() + protocol.metadata.len())
        .sum()
}

/// About what a member's names take.
pub fn name_bytes(instance: Option<&InstanceId>, client: &Client) -> usize {
    instance.map_or(0, |instance| instance.as_str().len()) + client.id.len() + client.host.len()
}

impl ClassicGroup {
    /// Kafka's check of who speaks for which member (KIP-345): an unknown name is unknown, and a static member that was
    /// replaced is fenced.
    pub(super) fn validate(&self, member: &MemberId, instance: Option<&InstanceId>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether a member with these protocols could take part.
    pub(super) fn supports(&self, protocol_type: &ProtocolName, protocols: &[MemberProtocol]) -> bool {
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|protocol| self.support.get(&protocol.name).copied().unwrap_or(0) == self.members.len())
    }

    /// The protocol that all offer and most like best; of equals the first by name.
    pub(super) fn select_protocol(&self) -> Option<ProtocolName> {
        let by_all = |name: &ProtocolName| self.support.get(name) == Some(&self.members.len());
        let mut votes: BTreeMap<&ProtocolName, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(first) = member.protocols.iter().find(|protocol| by_all(&protocol.name)) {
                *votes.entry(&first.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// Takes in a member whose JoinGroup waits.
    pub(super) fn add(&mut self, id: MemberId, to: RequestId, request: &JoinGroup) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if let Phase::Preparing(Some(initial)) = &mut self.phase {
            *initial = InitialDelay { member_added: true, ..*initial };
        }
        self.pending.remove(&id);
        self.leader.get_or_insert_with(|| id.clone());
        let member = Member {
            instance: request.instance.clone(),
            client: request.client.clone(),
            rebalance_timeout: request.rebalance_timeout,
            session_timeout: request.session_timeout,
            protocols: request.protocols.clone(),
            assignment: bytes::Bytes::new(),
            is_new: true,
            joining: Some(to),
            syncing: None,
        };
        self.joining_count += 1;
        self.insert(id, member);
    }

    /// Counts a member in.
    pub(super) fn insert(&mut self, id: MemberId, member: Member) {
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.count_protocols(&member.protocols, true);
        self.bytes += member.assignment.len() + name_bytes(member.instance.as_ref(), &member.client);
        let before = self.members.insert(id, member);
        assert!(before.is_none(), "a member is taken in once");
    }

    /// Puts a member or a pending name out; waiting requests are answered with `error`.
    pub(super) fn remove(&mut self, cx: &mut Context<'_>, id: &MemberId, error: ErrorCode) {
        cx.cancel(&cx.classic_session(id));
        self.pending.remove(id);
        self.not_synced.remove(id);
        self.answer_join(cx, id, JoinAnswer::refuse(error, MemberId::default()));
        self.answer_sync(cx, id, SyncAnswer::refuse(error));
        self.take_out(id);
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Takes a member out of all counts, and nothing else.
    fn take_out(&mut self, id: &MemberId) -> Option<Member> {
        let member = self.members.remove(id)?;
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        self.count_protocols(&member.protocols, false);
        self.bytes -= member.assignment.len() + name_bytes(member.instance.as_ref(), &member.client);
        Some(member)
    }

    /// A member joins again, perhaps with other wishes. An unanswered join of its own is refused: the client that sent
    /// it has given up.
    pub(super) fn update(&mut self, cx: &mut Context<'_>, id: &MemberId, terms: &Terms<'_>, to: RequestId) {
        self.answer_join(cx, id, JoinAnswer::refuse(ErrorCode::RebalanceInProgress, id.clone()));
        let Some(member) = self.members.get_mut(id) else { return };
        member.rebalance_timeout = terms.rebalance_timeout;
        member.session_timeout = terms.session_timeout;
        member.joining = Some(to);
        self.joining_count += 1;
        let before = std::mem::replace(&mut member.protocols, terms.protocols.clone());
        self.count_protocols(&before, false);
        self.count_protocols(terms.protocols, true);
    }

    /// A static member came back under a new name (KIP-345): the old one is fenced, everything else stays.
    pub(super) fn replace(&mut self, cx: &mut Context<'_>, old: &MemberId, new: &MemberId) {
        cx.cancel(&cx.classic_session(old));
        self.answer_join(cx, old, JoinAnswer::refuse(ErrorCode::FencedInstanceId, old.clone()));
        self.answer_sync(cx, old, SyncAnswer::refuse(ErrorCode::FencedInstanceId));
        if self.not_synced.remove(old) {
            self.not_synced.insert(new.clone());
        }
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(new.clone());
        }
        if let Some(member) = self.take_out(old) {
            self.insert(new.clone(), member);
        }
    }

    /// Answers a member's waiting JoinGroup; says whether there was one.
    pub(super) fn answer_join(&mut self, cx: &mut Context<'_>, id: &MemberId, answer: JoinAnswer) -> bool {
        let Some(to) = self.members.get_mut(id).and_then(|member| member.joining.take()) else {
            return false;
        };
        self.joining_count -= 1;
        cx.reply(to, Reply::JoinGroup(answer));
        true
    }

    /// Answers a member's waiting SyncGroup; says whether there was one.
    pub(super) fn answer_sync(&mut self, cx: &mut Context<'_>, id: &MemberId, answer: SyncAnswer) -> bool {
        let Some(to) = self.members.get_mut(id).and_then(|member| member.syncing.take()) else {
            return false;
        };
        cx.reply(to, Reply::SyncGroup(answer));
        true
    }

    fn count_protocols(&mut self, protocols: &[MemberProtocol], added: bool) {
        let bytes = protocol_bytes(protocols);
        self.bytes = if added { self.bytes + bytes } else { self.bytes - bytes };
        let mut names: Vec<&ProtocolName> = protocols.iter().map(|protocol| &protocol.name).collect();
        names.sort_unstable();
        names.dedup(); // a name given twice is one offer
        for name in names {
            if added {
                *self.support.entry(name.clone()).or_default() += 1;
            } else if let Some(count) = self.support.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.support.remove(name);
                }
            }
        }
    }
}
