//! The target assignment: who is to have what, made anew whenever the group has changed.

use std::{collections::BTreeMap, sync::Arc};

use super::ConsumerGroup;
use crate::coordinator::group::{
    assignor::{self, AssignorName, Subscriber},
    context::Context,
    ids::MemberId,
    message::Assignment,
    record::GroupRecord,
};

impl ConsumerGroup {
    /// The assignor that most members ask for; of equals the first by name, and without wishes the default.
    pub fn assignor(&self) -> AssignorName {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(|member| member.wants.server_assignor.as_ref()) {
            *votes.entry(name).or_default() += 1;
        }
        let most = votes.values().max().copied();
        let winner = votes.into_iter().find(|(_, count)| Some(*count) == most);
        winner.and_then(|(name, _)| AssignorName::parse(name)).unwrap_or_default()
    }

    /// Makes the target assignment of the group's epoch and writes what differs from the last.
    pub(super) fn update_target(&mut self, cx: &mut Context<'_>) {
        let none = Assignment::new();
        let members: Vec<Subscriber<'_>> = self
            .members
            .iter()
            .zip(self.topics_of_all(cx.topics))
            .map(|((id, member), topics)| Subscriber {
                member: id,
                instance: member.wants.instance.as_ref(),
                topics,
                current: self.target.get(id).unwrap_or(&none),
            })
            .collect();
        let assigned = assignor::assign(self.assignor(), &members);
        let changed: Vec<(MemberId, Assignment)> = members
            .iter()
            .zip(assigned)
            .filter(|(member, target)| self.target.get(member.member) != Some(target))
            .map(|(member, target)| (member.member.clone(), target))
            .collect();
        for (member, target) in changed {
            self.write_target(cx, member, Some(target));
        }
        let value = Some(self.value.epoch);
        self.write(cx, GroupRecord::TargetEpoch { group: cx.group.clone(), value });
    }

    pub(super) fn write_target(&mut self, cx: &mut Context<'_>, member: MemberId, value: Option<Assignment>) {
        self.write(cx, GroupRecord::TargetMember { group: cx.group.clone(), member, value });
    }
}
