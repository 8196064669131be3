//! LeaveGroup: members of a classic group leave, or an operator puts them out.

use heddle_net::kafka::messages::{
    LeaveGroupRequest, LeaveGroupResponse, leave_group_response::MemberResponse,
};

use super::{
    groups::{expect_reply, text},
    words,
};
use crate::coordinator::group::{
    GroupId, InstanceId, MemberId, Reply, Request,
    message::{LeaveGroup, LeavingMember},
};

/// What to ask the coordinator.
pub fn request(leave: &LeaveGroupRequest) -> Request {
    let members = leave.members.iter().map(|leaving| LeavingMember {
        member: MemberId::new(text(&leaving.member_id)),
        instance: leaving.group_instance_id.as_ref().map(|id| InstanceId::new(text(id))),
    });
    Request::LeaveGroup(LeaveGroup { group: GroupId::new(text(&leave.group_id)), members: members.collect() })
}

/// What to tell the client.
pub fn reply(reply: Reply) -> LeaveGroupResponse {
    let answer = expect_reply!(reply, LeaveGroup);
    let members = answer.members.into_iter().map(|left| {
        MemberResponse::default()
            .with_member_id(words(left.member.as_str()))
            .with_group_instance_id(left.instance.map(|id| words(id.as_str())))
            .with_error_code(left.error.code())
    });
    LeaveGroupResponse::default().with_error_code(answer.error.code()).with_members(members.collect())
}
