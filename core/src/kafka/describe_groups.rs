//! DescribeGroups: the members of classic groups.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::{
    ControlReply,
    messages::{
        DescribeGroupsRequest, DescribeGroupsResponse, GroupId as WireGroupId,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
    },
};
use heddle_proto::error::ErrorCode;

use super::{
    groups::{each, expect_reply, text},
    words,
};
use crate::{
    coordinator::group::{
        GroupId, Reply, Request,
        message::{self, DescribeGroups, GroupState},
    },
    runtime::mesh::LocalFuture,
    shard::Shard,
};

/// From this version on a group that is not there is an error (KIP-1043).
const UNKNOWN_IS_ERROR_VERSION: i16 = 6;

/// Asks the coordinators of all groups of the request.
pub async fn begin<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: DescribeGroupsRequest,
    version: i16,
) -> LocalFuture<ControlReply> {
    let mut tickets = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let ask = Request::DescribeGroups(DescribeGroups {
            groups: vec![GroupId::new(text(&group))],
            unknown_is_error: version >= UNKNOWN_IS_ERROR_VERSION,
        });
        let ticket = shard.ask_group(&group, ask).await;
        tickets.push((group, ticket));
    }
    Box::pin(async move {
        let groups = each(tickets, answer).await;
        DescribeGroupsResponse::default().with_groups(groups).into()
    })
}

fn answer(group: WireGroupId, reply: Result<Reply, ErrorCode>) -> DescribedGroup {
    let error = match reply {
        Ok(reply) => match expect_reply!(reply, DescribeGroups).groups.pop() {
            Some(described) => return describe(group, described),
            None => ErrorCode::UnknownServerError,
        },
        Err(error) => error,
    };
    DescribedGroup::default()
        .with_group_id(group)
        .with_group_state(words(GroupState::Dead.name()))
        .with_error_code(error.code())
}

fn describe(group: WireGroupId, described: message::DescribedGroup) -> DescribedGroup {
    let missing = described.error == ErrorCode::GroupIdNotFound;
    let message = missing.then(|| words(format!("there is no classic group '{}'", described.group)));
    let members = described.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(words(member.member.as_str()))
            .with_group_instance_id(member.instance.map(|id| words(id.as_str())))
            .with_client_id(words(&*member.client.id))
            .with_client_host(words(&*member.client.host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    DescribedGroup::default()
        .with_error_code(described.error.code())
        .with_error_message(message)
        .with_group_id(group)
        .with_group_state(words(described.state.name()))
        .with_protocol_type(words(described.protocol_type.as_str()))
        .with_protocol_data(words(described.protocol.as_str()))
        .with_members(members.collect())
}
