//! How members go: on their own, for a while, or because they were silent or slow.

use heddle_proto::error::ErrorCode;

use super::{ConsumerGroup, Refusal};
use crate::coordinator::group::{
    context::Context,
    ids::{GroupEpoch, MemberId},
    message::{Assignment, ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer},
    record::{CurrentAssignmentValue, GroupRecord, MemberState},
};

impl ConsumerGroup {
    /// A member leaves, for good or, when it is static, for a while.
    pub(super) fn on_leave(
        &mut self,
        cx: &mut Context<'_>,
        request: &ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupHeartbeatAnswer, Refusal> {
        let id = &request.member;
        let unknown = Refusal::new(ErrorCode::UnknownMemberId, "The member is not a member of the group.");
        if let Some(instance) = &request.instance {
            let holder = self.instances.get(instance).ok_or(unknown)?;
            if holder != id {
                return Err(Refusal::new(
                    ErrorCode::FencedInstanceId,
                    "The member was fenced by another member with the same instance id.",
                ));
            }
        }
        let member = self.members.get(id).ok_or(unknown)?;
        if request.epoch == GroupEpoch::LEAVING_FOR_A_WHILE {
            let has = CurrentAssignmentValue {
                epoch: GroupEpoch::LEAVING_FOR_A_WHILE,
                // Its process is gone and owns nothing; it keeps its place.
                revoking: Assignment::new(),
                state: MemberState::Stable,
                ..member.has.clone()
            };
            cx.cancel(&cx.consumer_rebalance(id));
            self.write_current(cx, id, has);
        } else {
            self.remove(cx, id);
        }
        Ok(ConsumerGroupHeartbeatAnswer {
            error: ErrorCode::None,
            message: None,
            member: id.clone(),
            epoch: request.epoch,
            heartbeat_interval: cx.config.consumer_heartbeat_interval,
            assignment: None,
        })
    }

    /// The member was silent for too long.
    pub fn on_session_over(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        self.remove(cx, id);
    }

    /// The member has not given up its partitions in time; others wait for them.
    pub fn on_rebalance_over(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        if self.members.get(id).is_some_and(|member| member.has.state == MemberState::Unrevoked) {
            self.remove(cx, id);
        }
    }

    /// The member goes, its partitions are free, and the rest will divide them.
    fn remove(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        if !self.members.contains_key(id) {
            return;
        }
        self.take_out(cx, id);
        self.forget_unused_regexes(cx);
        self.update_epoch(cx, true);
    }

    /// Takes a member out of all three layers.
    fn take_out(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        cx.cancel(&cx.consumer_session(id));
        cx.cancel(&cx.consumer_rebalance(id));
        let (group, member) = (cx.group.clone(), id.clone());
        self.write(cx, GroupRecord::CurrentAssignment { group, member, value: None });
        if self.target.contains_key(id) {
            self.write_target(cx, id.clone(), None);
        }
        let (group, member) = (cx.group.clone(), id.clone());
        self.write(cx, GroupRecord::ConsumerMember { group, member, value: None });
    }

    /// A static member came back under a new name: it takes over what the old one was to have and had, without a
    /// rebalance.
    pub(super) fn replace_static(&mut self, cx: &mut Context<'_>, old: &MemberId, new: &MemberId) {
        let Some(member) = self.members.get(old).cloned() else { return };
        let target = self.target.get(old).cloned();
        self.take_out(cx, old);
        let (group, id) = (cx.group.clone(), new.clone());
        self.write(cx, GroupRecord::ConsumerMember { group, member: id, value: Some(member.wants) });
        if let Some(target) = target {
            self.write_target(cx, new.clone(), Some(target));
        }
        let has = CurrentAssignmentValue {
            epoch: GroupEpoch::JOINING,
            previous_epoch: GroupEpoch::JOINING,
            ..member.has
        };
        self.write_current(cx, new, has);
    }
}
