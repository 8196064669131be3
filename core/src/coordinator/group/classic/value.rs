//! A classic group as a record and back, and as operators see it.

use bytes::Bytes;
use heddle_proto::error::ErrorCode;

use super::{ClassicGroup, Member, Phase, subscription::subscribed_topics};
use crate::coordinator::group::{
    context::Context,
    deadlines::Timer,
    ids::{GroupId, MemberId, ProtocolName, RequestId},
    message::{DescribedGroup, DescribedMember, JoinAnswer, MemberProtocol, Reply, SyncAnswer},
    record::{ClassicGroupValue, ClassicMemberValue, GroupRecord},
};

impl Member {
    /// What it said under `protocol`.
    pub(super) fn metadata(&self, protocol: Option<&ProtocolName>) -> Bytes {
        let said = self.protocols.iter().find(|said| Some(&said.name) == protocol);
        said.map(|said| said.metadata.clone()).unwrap_or_default()
    }
}

impl ClassicGroup {
    /// Writes the group as it is now. Called by an empty group, too, that takes the place of a consumer group.
    pub fn record(&mut self, cx: &mut Context<'_>) {
        self.is_recorded = true;
        cx.write(GroupRecord::ClassicGroup { group: cx.group.clone(), value: Some(self.value()) });
    }

    /// Whether a record of this group exists, which a deletion must take back.
    pub fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// The group's record, if it has one and no rebalance is under way that has changed the group since.
    pub fn settled_value(&self) -> Option<ClassicGroupValue> {
        let is_settled = matches!(self.phase, Phase::Empty | Phase::Stable);
        (is_settled && self.is_recorded).then(|| self.value())
    }

    fn value(&self) -> ClassicGroupValue {
        let members = self.members.iter().map(|(id, member)| ClassicMemberValue {
            member: id.clone(),
            instance: member.instance.clone(),
            client: member.client.clone(),
            rebalance_timeout: member.rebalance_timeout,
            session_timeout: member.session_timeout,
            metadata: member.metadata(self.protocol.as_ref()),
            assignment: member.assignment.clone(),
        });
        ClassicGroupValue {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since: self.since,
            members: members.collect(),
        }
    }

    /// The group that a record describes: empty, or stable with all its members.
    pub fn from_value(value: ClassicGroupValue) -> Self {
        let mut group = Self::new(value.since);
        group.is_recorded = true;
        group.protocol_type = value.protocol_type;
        group.protocol = value.protocol;
        group.generation = value.generation;
        group.leader = value.leader;
        for saved in value.members {
            if group.members.contains_key(&saved.member) {
                continue; // no machine writes that
            }
            let protocol = group.protocol.clone().unwrap_or_default();
            let member = Member {
                instance: saved.instance,
                client: saved.client,
                rebalance_timeout: saved.rebalance_timeout,
                session_timeout: saved.session_timeout,
                protocols: [MemberProtocol { name: protocol, metadata: saved.metadata }].into(),
                assignment: saved.assignment,
                is_new: false,
                joining: None,
                syncing: None,
            };
            group.insert(saved.member, member);
        }
        if !group.members.is_empty() {
            group.phase = Phase::Stable;
        }
        group.subscribed = subscribed_topics(&group);
        group
    }

    /// The group was read from its record: its members' time runs from now. With more members than are allowed today
    /// everybody joins anew.
    pub fn on_loaded(&mut self, cx: &mut Context<'_>) {
        for (id, member) in &self.members {
            cx.schedule(cx.classic_session(id), member.session_timeout);
        }
        if self.members.len() > cx.config.members_max {
            self.prepare_rebalance(cx);
        }
    }

    /// The group goes: no timer of it may stay. Only an empty one goes, so nobody waits.
    pub fn on_removed(&mut self, cx: &mut Context<'_>) {
        assert!(self.members.is_empty(), "a group with members is not removed");
        for id in std::mem::take(&mut self.pending) {
            cx.cancel(&cx.classic_session(&id));
        }
        cx.cancel(&Timer::JoinPhase(cx.group.clone()));
    }

    /// Who waits for an answer, with the answer that the coordinator has moved away.
    pub fn refuse_waiting(&self, error: ErrorCode) -> Vec<(RequestId, Reply)> {
        let mut refused = Vec::new();
        for (id, member) in &self.members {
            let join = member.joining.map(|to| (to, Reply::JoinGroup(JoinAnswer::refuse(error, id.clone()))));
            let sync = member.syncing.map(|to| (to, Reply::SyncGroup(SyncAnswer::refuse(error))));
            refused.extend(join.into_iter().chain(sync));
        }
        refused
    }

    /// As an operator sees it. What members said and got is shown of a stable group alone.
    pub fn describe(&self, group: &GroupId) -> DescribedGroup {
        let is_stable = self.phase == Phase::Stable;
        let members = self.members.iter().map(|(id, member): (&MemberId, &Member)| DescribedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            client: member.client.clone(),
            metadata: if is_stable { member.metadata(self.protocol.as_ref()) } else { Bytes::new() },
            assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
        });
        DescribedGroup {
            error: ErrorCode::None,
            group: group.clone(),
            state: self.state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().filter(|_| is_stable).unwrap_or_default(),
            members: members.collect(),
        }
    }
}
