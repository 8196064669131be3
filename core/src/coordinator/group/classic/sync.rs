//! SyncGroup: the leader brings the assignment, everybody takes theirs.

use std::collections::BTreeMap;

use bytes::Bytes;
use heddle_proto::error::ErrorCode;

use super::{ClassicGroup, Phase};
use crate::coordinator::group::{
    context::Context,
    ids::{MemberId, ProtocolName, RequestId},
    message::{Reply, SyncAnswer, SyncGroup},
};

impl ClassicGroup {
    /// A member asks for its assignment. The answer comes now, or when the leader has brought it.
    pub fn on_sync(&mut self, cx: &mut Context<'_>, to: RequestId, request: SyncGroup) {
        if let Err(error) = self.check_sync(&request) {
            cx.reply(to, Reply::SyncGroup(SyncAnswer::refuse(error)));
            return;
        }
        let id = request.member;
        self.not_synced.remove(&id);
        if self.phase == Phase::Stable {
            let answer = self.synced(&id);
            cx.reply(to, Reply::SyncGroup(answer));
        } else {
            // An unanswered one of its own is refused: the client that sent it has given up.
            self.answer_sync(cx, &id, SyncAnswer::refuse(ErrorCode::RebalanceInProgress));
            if let Some(member) = self.members.get_mut(&id) {
                member.syncing = Some(to);
            }
            if self.leader.as_ref() == Some(&id) {
                let assignments = request.assignments.into_iter();
                self.assign(cx, assignments.map(|given| (given.member, given.assignment)).collect());
            }
        }
        if self.not_synced.is_empty() {
            self.end_sync_phase(cx);
        }
    }

    fn check_sync(&self, request: &SyncGroup) -> Result<(), ErrorCode> {
        let differs =
            |asked: &Option<ProtocolName>, chosen: &Option<ProtocolName>| asked.is_some() && asked != chosen;
        self.validate(&request.member, request.instance.as_ref())?;
        if request.generation != self.generation {
            Err(ErrorCode::IllegalGeneration)
        } else if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            Err(ErrorCode::InconsistentGroupProtocol)
        } else {
            match self.phase {
                Phase::Empty => Err(ErrorCode::UnknownMemberId),
                Phase::Preparing(_) => Err(ErrorCode::RebalanceInProgress),
                Phase::Completing | Phase::Stable => Ok(()),
            }
        }
    }

    /// The leader has decided. Members it left out get nothing; names it made up are ignored.
    fn assign(&mut self, cx: &mut Context<'_>, mut given: BTreeMap<MemberId, Bytes>) {
        self.clear_assignments();
        let bytes: usize = self.members.keys().filter_map(|id| given.get(id)).map(Bytes::len).sum();
        if self.bytes + bytes > cx.config.group_bytes_max {
            // What does not fit a record cannot be kept.
            self.fail_syncs(cx, ErrorCode::UnknownServerError);
            self.prepare_rebalance(cx);
            return;
        }
        self.bytes += bytes;
        for (id, member) in &mut self.members {
            member.assignment = given.remove(id).unwrap_or_default();
        }
        self.phase = Phase::Stable;
        self.since = cx.now;
        self.record(cx);
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.synced(&id);
            if self.answer_sync(cx, &id, answer) {
                let timeout = self.members[&id].session_timeout;
                cx.schedule(cx.classic_session(&id), timeout);
            }
        }
    }

    fn synced(&self, id: &MemberId) -> SyncAnswer {
        SyncAnswer {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    pub(super) fn clear_assignments(&mut self) {
        for member in self.members.values_mut() {
            self.bytes -= member.assignment.len();
            member.assignment = Bytes::new();
        }
    }
}
