//! JoinGroup: who gets in, and whether that starts a rebalance.

use heddle_proto::error::ErrorCode;

use super::{
    ClassicGroup, Phase,
    membership::{Terms, name_bytes, protocol_bytes},
};
use crate::coordinator::group::{
    context::Context,
    ids::{MemberId, RequestId},
    message::{JoinAnswer, JoinGroup, Reply},
};

impl ClassicGroup {
    /// A member joins. The answer comes now, or when the rebalance that this starts or takes part in has gathered
    /// everybody.
    pub fn on_join(&mut self, cx: &mut Context<'_>, to: RequestId, request: &JoinGroup) {
        let result = if !self.accepts(cx, &request.member) {
            self.remove(cx, &request.member, ErrorCode::GroupMaxSizeReached);
            Err((ErrorCode::GroupMaxSizeReached, MemberId::default()))
        } else if !self.has_room_for(cx, request) {
            Err((ErrorCode::GroupMaxSizeReached, request.member.clone()))
        } else if !self.supports(&request.protocol_type, &request.protocols) {
            Err((ErrorCode::InconsistentGroupProtocol, request.member.clone()))
        } else if request.member.is_empty() {
            self.join_new(cx, to, request)
        } else {
            self.join_existing(cx, to, request)
        };
        if let Err((error, member)) = result {
            cx.reply(to, Reply::JoinGroup(JoinAnswer::refuse(error, member)));
        }
        self.maybe_complete_join(cx);
    }

    /// Whether the group's size allows the member. While it rebalances those count that wait: so a group that is over a
    /// limit that was lowered loses those that join last.
    fn accepts(&self, cx: &Context<'_>, member: &MemberId) -> bool {
        let known = self.members.get(member);
        match self.phase {
            Phase::Empty => true,
            Phase::Preparing(_) => {
                known.is_some_and(|member| member.joining.is_some())
                    || self.joining_count < cx.config.members_max
            }
            Phase::Completing | Phase::Stable => {
                known.is_some() || self.members.len() < cx.config.members_max
            }
        }
    }

    /// Whether what the member says still fits the group's record, and its name, if it gets one, the list of those given
    /// away.
    fn has_room_for(&self, cx: &Context<'_>, request: &JoinGroup) -> bool {
        let (before, names) = match self.members.get(&request.member) {
            Some(member) => (protocol_bytes(&member.protocols), 0),
            None => (0, name_bytes(request.instance.as_ref(), &request.client)),
        };
        self.bytes - before + protocol_bytes(&request.protocols) + names <= cx.config.group_bytes_max
            && (!request.member.is_empty() || self.pending.len() < cx.config.members_max)
    }

    fn join_new(
        &mut self,
        cx: &mut Context<'_>,
        to: RequestId,
        request: &JoinGroup,
    ) -> Result<(), (ErrorCode, MemberId)> {
        let new = &request.new_member;
        assert!(!new.is_empty() && !self.members.contains_key(new), "the caller makes unique member names");
        match &request.instance {
            Some(instance) => match self.instances.get(instance).cloned() {
                Some(old) => self.replace_static(cx, to, request, &old),
                None => self.add_and_rebalance(cx, to, request, new),
            },
            None if request.member_id_required => {
                self.pending.insert(new.clone());
                cx.schedule(cx.classic_session(new), request.session_timeout);
                return Err((ErrorCode::MemberIdRequired, new.clone()));
            }
            None => self.add_and_rebalance(cx, to, request, new),
        }
        Ok(())
    }

    fn join_existing(
        &mut self,
        cx: &mut Context<'_>,
        to: RequestId,
        request: &JoinGroup,
    ) -> Result<(), (ErrorCode, MemberId)> {
        let id = &request.member;
        if self.pending.contains(id) && request.instance.is_none() {
            self.add_and_rebalance(cx, to, request, id);
            return Ok(());
        }
        self.validate(id, request.instance.as_ref()).map_err(|error| (error, id.clone()))?;
        let unchanged = self.members.get(id).is_some_and(|member| member.protocols == request.protocols);
        let is_leader = self.leader.as_ref() == Some(id);
        let answer_again = match self.phase {
            Phase::Preparing(_) => false,
            // It may not have received the answer.
            Phase::Completing => unchanged,
            // A leader that joins again wants a rebalance, for example because a topic has more partitions.
            Phase::Stable => unchanged && !is_leader,
            Phase::Empty => return Err((ErrorCode::UnknownMemberId, id.clone())),
        };
        if answer_again {
            let answer = self.joined(id);
            cx.reply(to, Reply::JoinGroup(answer));
        } else {
            self.update(cx, id, &Terms::of(request), to);
            self.rebalance_or_complete(cx);
        }
        Ok(())
    }

    fn add_and_rebalance(&mut self, cx: &mut Context<'_>, to: RequestId, request: &JoinGroup, id: &MemberId) {
        self.add(id.clone(), to, request);
        // It does not know its name yet and cannot send heartbeats; a client that is gone must not stay for ever.
        cx.schedule(cx.classic_session(id), cx.config.new_member_join_timeout);
        self.rebalance_or_complete(cx);
    }

    /// A static member came back under the name of a new process. When nothing about the assignment changes, it takes
    /// the place of the old one without a rebalance.
    fn replace_static(&mut self, cx: &mut Context<'_>, to: RequestId, request: &JoinGroup, old: &MemberId) {
        let new = &request.new_member;
        let leader_before = self.leader.clone().unwrap_or_default();
        self.replace(cx, old, new);
        self.update(cx, new, &Terms::of(request), to);
        cx.schedule(cx.classic_session(new), request.session_timeout);
        match self.phase {
            Phase::Stable if self.protocol == self.select_protocol() => {
                self.record(cx);
                let mut answer = self.joined(new);
                if request.can_skip_assignment {
                    answer.skip_assignment = self.leader.as_ref() == Some(new);
                } else {
                    // Shown itself as leader, a client would assign anew.
                    answer.leader = leader_before;
                    answer.members.clear();
                }
                self.answer_join(cx, new, answer);
            }
            // In the completing phase the leader may have been told the old name.
            Phase::Stable | Phase::Completing => self.prepare_rebalance(cx),
            Phase::Preparing(_) | Phase::Empty => {}
        }
    }
}
