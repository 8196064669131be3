//! SyncGroup: a member asks for its assignment; the leader brings all of them.

use heddle_net::kafka::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{
    groups::{expect_reply, text},
    words,
};
use crate::coordinator::group::{
    Generation, GroupId, InstanceId, MemberId, ProtocolName, Reply, Request,
    message::{MemberAssignment, SyncGroup},
};

/// What to ask the coordinator.
pub fn request(sync: &SyncGroupRequest) -> Request {
    let assignments = sync.assignments.iter().map(|given| MemberAssignment {
        member: MemberId::new(text(&given.member_id)),
        assignment: given.assignment.clone(),
    });
    Request::SyncGroup(SyncGroup {
        group: GroupId::new(text(&sync.group_id)),
        generation: Generation::new(sync.generation_id),
        member: MemberId::new(text(&sync.member_id)),
        instance: sync.group_instance_id.as_ref().map(|id| InstanceId::new(text(id))),
        protocol_type: sync.protocol_type.as_ref().map(|name| ProtocolName::new(text(name))),
        protocol: sync.protocol_name.as_ref().map(|name| ProtocolName::new(text(name))),
        assignments: assignments.collect(),
    })
}

/// What to tell the client.
pub fn reply(reply: Reply) -> SyncGroupResponse {
    let answer = expect_reply!(reply, SyncGroup);
    SyncGroupResponse::default()
        .with_error_code(answer.error.code())
        .with_protocol_type(answer.protocol_type.map(|name| words(name.as_str())))
        .with_protocol_name(answer.protocol.map(|name| words(name.as_str())))
        .with_assignment(answer.assignment)
}
