//! Heartbeat: a member of a classic group is alive.

use heddle_net::kafka::messages::{HeartbeatRequest, HeartbeatResponse};

use super::groups::{expect_reply, text};
use crate::coordinator::group::{
    Generation, GroupId, InstanceId, MemberId, Reply, Request, message::Heartbeat,
};

/// What to ask the coordinator.
pub fn request(beat: &HeartbeatRequest) -> Request {
    Request::Heartbeat(Heartbeat {
        group: GroupId::new(text(&beat.group_id)),
        generation: Generation::new(beat.generation_id),
        member: MemberId::new(text(&beat.member_id)),
        instance: beat.group_instance_id.as_ref().map(|id| InstanceId::new(text(id))),
    })
}

/// What to tell the client.
pub fn reply(reply: &Reply) -> HeartbeatResponse {
    let answer = expect_reply!(reply, Heartbeat);
    HeartbeatResponse::default().with_error_code(answer.error.code())
}
