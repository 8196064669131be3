//! ConsumerGroupDescribe: the members of consumer groups (KIP-848).

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::{
    ControlReply, StrBytes,
    messages::{
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId as WireGroupId, TopicName,
        consumer_group_describe_response::{Assignment, DescribedGroup, Member, TopicPartitions},
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
        message::{self, ConsumerGroupDescribe, DescribedConsumerGroup, DescribedConsumerMember},
    },
    metadata::ClusterImage,
    runtime::mesh::LocalFuture,
    shard::Shard,
};

/// How version 1 names the protocol of a member: that of KIP-848.
const MEMBER_TYPE_CONSUMER: i8 = 1;

/// Asks the coordinators of all groups of the request.
pub async fn begin<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: ConsumerGroupDescribeRequest,
) -> LocalFuture<ControlReply> {
    let mut tickets = Vec::with_capacity(request.group_ids.len());
    for group in request.group_ids {
        let groups = vec![GroupId::new(text(&group))];
        let ask = Request::ConsumerGroupDescribe(ConsumerGroupDescribe { groups });
        let ticket = shard.ask_group(&group, ask).await;
        tickets.push((group, ticket));
    }
    let image = shard.image();
    Box::pin(async move {
        let groups = each(tickets, |group, reply| answer(group, reply, &image)).await;
        ConsumerGroupDescribeResponse::default().with_groups(groups).into()
    })
}

fn answer(group: WireGroupId, reply: Result<Reply, ErrorCode>, image: &ClusterImage) -> DescribedGroup {
    let error = match reply {
        Ok(reply) => match expect_reply!(reply, ConsumerGroupDescribe).groups.pop() {
            Some(described) if described.error == ErrorCode::None => {
                return describe(group, described, image);
            }
            Some(described) => described.error,
            None => ErrorCode::UnknownServerError,
        },
        Err(error) => error,
    };
    let missing = error == ErrorCode::GroupIdNotFound;
    let message = missing.then(|| words(format!("there is no consumer group '{}'", group.as_str())));
    DescribedGroup::default()
        .with_group_id(group)
        .with_group_state(words(message::GroupState::Dead.name()))
        .with_error_code(error.code())
        .with_error_message(message)
}

fn describe(group: WireGroupId, described: DescribedConsumerGroup, image: &ClusterImage) -> DescribedGroup {
    let members = described.members.into_iter().map(|member| describe_member(member, image));
    DescribedGroup::default()
        .with_group_id(group)
        .with_group_state(words(described.state.name()))
        .with_group_epoch(described.epoch.get())
        .with_assignment_epoch(described.target_epoch.get())
        .with_assignor_name(words(described.assignor.name()))
        .with_members(members.collect())
}

fn describe_member(member: DescribedConsumerMember, image: &ClusterImage) -> Member {
    let names = member.subscribed_names.iter().map(|name| TopicName(words(name.as_str())));
    Member::default()
        .with_member_id(words(member.member.as_str()))
        .with_instance_id(member.instance.map(|id| words(id.as_str())))
        .with_rack_id(member.rack.map(|rack| words(&*rack)))
        .with_member_epoch(member.epoch.get())
        .with_client_id(words(&*member.client.id))
        .with_client_host(words(&*member.client.host))
        .with_subscribed_topic_names(names.collect())
        .with_subscribed_topic_regex(member.subscribed_regex.map(|regex| words(regex.as_str())))
        .with_assignment(partitions(&member.assignment, image))
        .with_target_assignment(partitions(&member.target, image))
        .with_member_type(MEMBER_TYPE_CONSUMER)
}

/// The partitions by topic; those of topics that are gone by now are left out.
fn partitions(assigned: &message::Assignment, image: &ClusterImage) -> Assignment {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    for at in assigned {
        let Some(topic) = image.topic_by_id(at.topic) else { continue };
        let id = uuid::Uuid::from_bytes(*at.topic.as_bytes());
        if topics.last().is_none_or(|last| last.topic_id != id) {
            let name = TopicName(StrBytes::from_string(topic.name.to_string()));
            topics.push(TopicPartitions::default().with_topic_id(id).with_topic_name(name));
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(at.partition.get() as i32);
        }
    }
    Assignment::default().with_topic_partitions(topics)
}
