//! ConsumerGroupHeartbeat: everything that a member of a consumer group says (KIP-848).

use std::time::Duration;

use heddle_net::kafka::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, consumer_group_heartbeat_response as wire,
};
use heddle_proto::ids::{TopicId, TopicPartition};

use super::{
    groups::{expect_reply, index, text},
    words,
};
use crate::coordinator::group::{
    GroupEpoch, GroupId, InstanceId, MemberId, Reply, Request, TopicName, TopicRegex,
    message::{Assignment, Client, ConsumerGroupHeartbeat},
};

/// What to ask the coordinator.
pub fn request(beat: &ConsumerGroupHeartbeatRequest, client: Client) -> Request {
    let names = beat.subscribed_topic_names.as_ref();
    let owned = beat.topic_partitions.as_ref().map(|topics| {
        let partitions = topics.iter().flat_map(|topic| {
            let id = TopicId::from_bytes(*topic.topic_id.as_bytes());
            topic.partitions.iter().map(move |partition| TopicPartition::new(id, index(*partition)))
        });
        partitions.collect()
    });
    Request::ConsumerGroupHeartbeat(ConsumerGroupHeartbeat {
        group: GroupId::new(text(&beat.group_id)),
        member: MemberId::new(text(&beat.member_id)),
        new_member: MemberId::new(uuid::Uuid::new_v4().to_string()),
        epoch: GroupEpoch::new(beat.member_epoch),
        instance: beat.instance_id.as_ref().map(|id| InstanceId::new(text(id))),
        rack: beat.rack_id.as_ref().map(text),
        rebalance_timeout: u64::try_from(beat.rebalance_timeout_ms).ok().map(Duration::from_millis),
        subscribed_names: names.map(|names| names.iter().map(|name| TopicName::new(text(name))).collect()),
        subscribed_regex: beat.subscribed_topic_regex.as_ref().map(|regex| TopicRegex::new(text(regex))),
        server_assignor: beat.server_assignor.as_ref().map(text),
        owned,
        client,
    })
}

/// What to tell the client.
pub fn reply(reply: Reply) -> ConsumerGroupHeartbeatResponse {
    let answer = expect_reply!(reply, ConsumerGroupHeartbeat);
    let member = Some(answer.member).filter(|member| !member.is_empty());
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(answer.error.code())
        .with_error_message(answer.message.map(words))
        .with_member_id(member.map(|member| words(member.as_str())))
        .with_member_epoch(answer.epoch.get())
        .with_heartbeat_interval_ms(i32::try_from(answer.heartbeat_interval.as_millis()).unwrap_or(i32::MAX))
        .with_assignment(answer.assignment.as_ref().map(assignment))
}

/// The partitions by topic; a set is in the order of the topics.
fn assignment(partitions: &Assignment) -> wire::Assignment {
    let mut topics: Vec<wire::TopicPartitions> = Vec::new();
    for at in partitions {
        let id = uuid::Uuid::from_bytes(*at.topic.as_bytes());
        if topics.last().is_none_or(|last| last.topic_id != id) {
            topics.push(wire::TopicPartitions::default().with_topic_id(id));
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(at.partition.get() as i32);
        }
    }
    wire::Assignment::default().with_topic_partitions(topics)
}
