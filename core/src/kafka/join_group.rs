//! JoinGroup: a member of a classic group wants to be in the next generation.

use std::time::Duration;

use heddle_net::kafka::messages::{
    JoinGroupRequest, JoinGroupResponse, join_group_response::JoinGroupResponseMember,
};

use super::{
    groups::{expect_reply, text},
    words,
};
use crate::coordinator::group::{
    GroupId, InstanceId, MemberId, ProtocolName, Reply, Request,
    message::{Client, JoinGroup, MemberProtocol},
};

/// Before this version a member has one timeout for both purposes.
const REBALANCE_TIMEOUT_VERSION: i16 = 1;
/// From this version on a new dynamic member comes back with the id that it is given (KIP-394).
const MEMBER_ID_REQUIRED_VERSION: i16 = 4;
/// From this version on a leader can be told not to assign (KIP-814).
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

/// What to ask the coordinator.
pub fn request(join: &JoinGroupRequest, version: i16, client: Client) -> Request {
    let session_timeout = millis(join.session_timeout_ms);
    let rebalance_timeout = match version < REBALANCE_TIMEOUT_VERSION {
        true => session_timeout,
        false => millis(join.rebalance_timeout_ms),
    };
    let instance = join.group_instance_id.as_ref().map(|id| InstanceId::new(text(id)));
    let prefix = instance.as_ref().map_or(&*client.id, InstanceId::as_str);
    let protocols = join.protocols.iter().map(|protocol| MemberProtocol {
        name: ProtocolName::new(text(&protocol.name)),
        metadata: protocol.metadata.clone(),
    });
    Request::JoinGroup(JoinGroup {
        group: GroupId::new(text(&join.group_id)),
        member: MemberId::new(text(&join.member_id)),
        new_member: MemberId::new(format!("{prefix}-{}", uuid::Uuid::new_v4())),
        member_id_required: version >= MEMBER_ID_REQUIRED_VERSION && instance.is_none(),
        can_skip_assignment: version >= SKIP_ASSIGNMENT_VERSION,
        instance,
        client,
        session_timeout,
        rebalance_timeout,
        protocol_type: ProtocolName::new(text(&join.protocol_type)),
        protocols: protocols.collect(),
    })
}

/// A negative time is none.
fn millis(raw: i32) -> Duration {
    Duration::from_millis(u64::try_from(raw).unwrap_or(0))
}

/// What to tell the client.
pub fn reply(reply: Reply) -> JoinGroupResponse {
    let answer = expect_reply!(reply, JoinGroup);
    let members = answer.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(words(member.member.as_str()))
            .with_group_instance_id(member.instance.map(|id| words(id.as_str())))
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_error_code(answer.error.code())
        .with_generation_id(answer.generation.get())
        .with_protocol_type(answer.protocol_type.map(|name| words(name.as_str())))
        .with_protocol_name(answer.protocol.map(|name| words(name.as_str())))
        .with_leader(words(answer.leader.as_str()))
        .with_skip_assignment(answer.skip_assignment)
        .with_member_id(words(answer.member.as_str()))
        .with_members(members.collect())
}
