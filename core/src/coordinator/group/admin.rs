//! What operators ask: which groups there are, what they do, and to delete them.

use heddle_proto::error::ErrorCode;

use super::{
    assignor::AssignorName,
    coordinator::GroupCoordinator,
    effects::Output,
    group::Members,
    ids::{GroupEpoch, GroupId, ProtocolName, RequestId},
    message::{
        ConsumerGroupDescribe, ConsumerGroupDescribed, DeleteGroups, DescribeGroups, DescribedConsumerGroup,
        DescribedGroup, GroupResult, GroupState, GroupsDeleted, GroupsDescribed, GroupsListed, ListGroups,
        Reply,
    },
};

impl GroupCoordinator {
    pub(super) fn on_list_groups(&self, output: &mut Output, to: RequestId, request: &ListGroups) {
        let matches = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let groups = self.groups.iter().map(|(id, group)| group.list(id)).filter(|listed| {
            matches(&request.states, listed.state.name()) && matches(&request.types, listed.group_type.name())
        });
        output.reply(to, Reply::ListGroups(GroupsListed { groups: groups.collect() }));
    }

    pub(super) fn on_describe_groups(&self, output: &mut Output, to: RequestId, request: &DescribeGroups) {
        let describe = |id: &GroupId| match self.groups.get(id).map(|group| &group.members) {
            Some(Members::Classic(group)) => group.describe(id),
            _ => DescribedGroup {
                error: if request.unknown_is_error { ErrorCode::GroupIdNotFound } else { ErrorCode::None },
                group: id.clone(),
                state: GroupState::Dead,
                protocol_type: ProtocolName::default(),
                protocol: ProtocolName::default(),
                members: Vec::new(),
            },
        };
        let groups = request.groups.iter().map(describe).collect();
        output.reply(to, Reply::DescribeGroups(GroupsDescribed { groups }));
    }

    pub(super) fn on_consumer_group_describe(
        &self,
        output: &mut Output,
        to: RequestId,
        request: &ConsumerGroupDescribe,
    ) {
        let describe = |id: &GroupId| match self.groups.get(id).map(|group| &group.members) {
            Some(Members::Consumer(group)) => group.describe(id),
            _ => DescribedConsumerGroup {
                error: ErrorCode::GroupIdNotFound,
                group: id.clone(),
                state: GroupState::Dead,
                epoch: GroupEpoch::default(),
                target_epoch: GroupEpoch::default(),
                assignor: AssignorName::default(),
                members: Vec::new(),
            },
        };
        let groups = request.groups.iter().map(describe).collect();
        output.reply(to, Reply::ConsumerGroupDescribe(ConsumerGroupDescribed { groups }));
    }

    pub(super) fn on_delete_groups(&mut self, output: &mut Output, to: RequestId, request: DeleteGroups) {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            let error = self.delete_group(output, &group);
            groups.push(GroupResult { group, error });
        }
        output.reply(to, Reply::DeleteGroups(GroupsDeleted { groups }));
    }

    fn delete_group(&mut self, output: &mut Output, id: &GroupId) -> ErrorCode {
        let deleted = self.with_group(id, output, |group, cx| {
            let may_go = group.is_empty();
            if may_go {
                group.delete(cx);
            }
            may_go
        });
        match deleted {
            None => ErrorCode::GroupIdNotFound,
            Some(false) => ErrorCode::NonEmptyGroup,
            Some(true) => {
                self.groups.remove(id);
                self.note_closed(id);
                ErrorCode::None
            }
        }
    }
}
