//! OffsetCommit: a group, or a client without one, says how far it has read.

use heddle_net::kafka::{
    ControlReply, ControlRequest,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    },
};
use heddle_proto::ids::{Epoch, Offset, Timestamp};

use super::groups::{expect_reply, index, text};
use crate::{
    coordinator::group::{
        GroupId, InstanceId, MemberId, Reply, Request, TopicName,
        message::{CommitPartition, OffsetCommit, TopicPartitionName},
    },
    runtime::time,
};

/// From this version on clients understand the errors of consumer groups (KIP-848).
const CONSUMER_GROUPS_VERSION: i16 = 9;

/// What to ask the coordinator.
pub fn request(commit: &OffsetCommitRequest, version: i16) -> Request {
    let partitions = commit.topics.iter().flat_map(|topic| {
        let name = TopicName::new(text(&topic.name));
        topic.partitions.iter().map(move |partition| CommitPartition {
            partition: TopicPartitionName {
                topic: name.clone(),
                partition: index(partition.partition_index),
            },
            offset: Offset::new(partition.committed_offset),
            leader_epoch: Epoch::new(partition.committed_leader_epoch),
            metadata: partition.committed_metadata.as_ref().map(text),
        })
    });
    Request::OffsetCommit(OffsetCommit {
        group: GroupId::new(text(&commit.group_id)),
        generation_or_epoch: commit.generation_id_or_member_epoch,
        member: MemberId::new(text(&commit.member_id)),
        instance: commit.group_instance_id.as_ref().map(|id| InstanceId::new(text(id))),
        knows_consumer_groups: version >= CONSUMER_GROUPS_VERSION,
        expires: (commit.retention_time_ms >= 0)
            .then(|| Timestamp::new(time::now().get().saturating_add(commit.retention_time_ms))),
        partitions: partitions.collect(),
    })
}

/// What to tell the client: the results are in the order of the request.
pub fn reply(reply: &Reply, request: &ControlRequest) -> ControlReply {
    let answer = expect_reply!(reply, OffsetCommit);
    let ControlRequest::OffsetCommit(request) = request else { unreachable!("it was one when it came") };
    let mut results = answer.partitions.iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut results).map(|(partition, result)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(result.error.code())
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect()).into()
}
