//! A consumer group as operators see it.

use heddle_proto::error::ErrorCode;

use super::ConsumerGroup;
use crate::coordinator::group::{
    ids::GroupId,
    message::{DescribedConsumerGroup, DescribedConsumerMember, GroupState},
    record::MemberState,
};

impl ConsumerGroup {
    /// Where it stands.
    pub fn state(&self) -> GroupState {
        let target_epoch = self.target_epoch.unwrap_or_default();
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.value.epoch > target_epoch {
            GroupState::Assigning
        } else if self
            .members
            .values()
            .all(|member| member.has.state == MemberState::Stable && member.has.epoch == target_epoch)
        {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// With all its members.
    pub fn describe(&self, group: &GroupId) -> DescribedConsumerGroup {
        let members = self.members.iter().map(|(id, member)| DescribedConsumerMember {
            member: id.clone(),
            instance: member.wants.instance.clone(),
            rack: member.wants.rack.clone(),
            epoch: member.has.epoch,
            client: member.wants.client.clone(),
            subscribed_names: member.wants.subscribed_names.clone(),
            subscribed_regex: member.wants.subscribed_regex.clone(),
            assignment: member.has.assigned.clone(),
            target: self.target.get(id).cloned().unwrap_or_default(),
        });
        DescribedConsumerGroup {
            error: ErrorCode::None,
            group: group.clone(),
            state: self.state(),
            epoch: self.value.epoch,
            target_epoch: self.target_epoch.unwrap_or_default(),
            assignor: self.assignor(),
            members: members.collect(),
        }
    }
}
