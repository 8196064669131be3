//! How a member follows the target assignment: give up first, then take what others have given up.

use std::collections::BTreeMap;

use heddle_proto::ids::{TopicId, TopicPartition};

use super::{ConsumerGroup, Member};
use crate::coordinator::group::{
    assignor::Topic,
    context::Context,
    ids::{GroupEpoch, MemberId},
    message::Assignment,
    record::{CurrentAssignmentValue, GroupRecord, MemberState},
};

impl ConsumerGroup {
    /// Moves the member on as far as it can go now. `owned` is what it says it owns; without it, it may own anything.
    pub(super) fn reconcile(
        &mut self,
        cx: &mut Context<'_>,
        id: &MemberId,
        owned: Option<&Assignment>,
        has_subscription_changed: bool,
    ) {
        let Some(member) = self.members.get(id) else { return };
        let topics = self.topics_of(cx.topics, &member.wants);
        let still_owns = |revoking: &Assignment| {
            owned.is_none_or(|owned| revoking.iter().any(|partition| owned.contains(partition)))
        };
        let target_epoch = self.target_epoch.unwrap_or_default();
        let next = match member.has.state {
            MemberState::Stable if member.has.epoch == target_epoch => member.has.clone(),
            MemberState::Unrevoked if still_owns(&member.has.revoking) => {
                if has_subscription_changed {
                    unsubscribed(member, &topics)
                } else {
                    member.has.clone()
                }
            }
            MemberState::Stable | MemberState::Unrevoked | MemberState::Unreleased => {
                self.next_assignment(id, member, &topics, target_epoch, still_owns)
            }
        };
        if next == member.has {
            return;
        }
        let rebalance_timeout = member.wants.rebalance_timeout;
        let timer = cx.consumer_rebalance(id);
        if next.state == MemberState::Unrevoked {
            cx.schedule(timer, rebalance_timeout);
        } else {
            cx.cancel(&timer);
        }
        self.write_current(cx, id, next);
    }

    fn next_assignment(
        &self,
        id: &MemberId,
        member: &Member,
        topics: &BTreeMap<TopicId, Topic>,
        target_epoch: GroupEpoch,
        still_owns: impl Fn(&Assignment) -> bool,
    ) -> CurrentAssignmentValue {
        let target = self.target.get(id).into_iter().flatten();
        let target: Assignment =
            target.filter(|partition| topics.contains_key(&partition.topic)).copied().collect();
        let mut assigned: Assignment = member.has.assigned.intersection(&target).copied().collect();
        let revoking: Assignment = member.has.assigned.difference(&target).copied().collect();
        if !revoking.is_empty() && still_owns(&revoking) {
            let (epoch, previous_epoch) = (member.has.epoch, member.has.previous_epoch);
            return CurrentAssignmentValue {
                epoch,
                previous_epoch,
                state: MemberState::Unrevoked,
                assigned,
                revoking,
            };
        }
        // What it has given up itself is free as well.
        let is_free =
            |partition: &&TopicPartition| self.owners.get(*partition).is_none_or(|owner| owner == id);
        let wanted = target.len();
        let free: Vec<TopicPartition> = target.difference(&assigned).filter(is_free).copied().collect();
        assigned.extend(free);
        let state = if assigned.len() == wanted { MemberState::Stable } else { MemberState::Unreleased };
        let previous_epoch =
            if member.has.epoch == target_epoch { member.has.previous_epoch } else { member.has.epoch };
        CurrentAssignmentValue {
            epoch: target_epoch,
            previous_epoch,
            state,
            assigned,
            revoking: Assignment::new(),
        }
    }

    pub(super) fn write_current(
        &mut self,
        cx: &mut Context<'_>,
        id: &MemberId,
        value: CurrentAssignmentValue,
    ) {
        let (group, member) = (cx.group.clone(), id.clone());
        self.write(cx, GroupRecord::CurrentAssignment { group, member, value: Some(value) });
    }
}

/// A member that has not finished giving up partitions wants even fewer topics.
fn unsubscribed(member: &Member, topics: &BTreeMap<TopicId, Topic>) -> CurrentAssignmentValue {
    let mut next = member.has.clone();
    let (kept, gone): (Assignment, Assignment) =
        next.assigned.iter().partition(|partition| topics.contains_key(&partition.topic));
    next.assigned = kept;
    next.revoking.extend(gone);
    next
}
