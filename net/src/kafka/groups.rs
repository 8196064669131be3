//! What versions of the group apis say differently, and the refusals of all of them.
//!
//! Handlers see the newest form: LeaveGroup names its `members`, OffsetFetch its `groups`. Encoding drops what an old
//! version cannot say, lifts the error of the only member of an old LeaveGroup to the top, and takes the flat answer of an
//! old OffsetFetch from the first of `groups`.

use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::control::{ControlReply, ControlRequest, OPERATIONS_UNKNOWN};
use super::header::ReplyHeader;

/// What DescribeGroups and ConsumerGroupDescribe call a group that is not there.
const DEAD: StrBytes = StrBytes::from_static_str("Dead");

/// Moves what old versions say elsewhere to where new ones say it.
pub(super) fn normalise(request: &mut ControlRequest, version: i16) {
    match request {
        ControlRequest::LeaveGroup(request) if version <= 2 => {
            let member = std::mem::take(&mut request.member_id);
            request.members = vec![MemberIdentity::default().with_member_id(member)];
        }
        ControlRequest::OffsetFetch(request) if version <= 7 => {
            let topics = request.topics.take().map(|topics| {
                let topics = topics.into_iter().map(|topic| {
                    OffsetFetchRequestTopics::default()
                        .with_name(topic.name)
                        .with_partition_indexes(topic.partition_indexes)
                });
                topics.collect()
            });
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(std::mem::take(&mut request.group_id))
                .with_topics(topics);
            request.groups = vec![group];
        }
        _ => {}
    }
}

/// Resets what `version` has no field for.
pub(super) fn fit_version(reply: &mut ControlReply, version: i16) {
    match reply {
        ControlReply::JoinGroup(reply) => {
            if version < 9 {
                reply.skip_assignment = false;
            }
            if version < 7 {
                reply.protocol_name.get_or_insert_default();
            }
        }
        ControlReply::LeaveGroup(reply) if version < 3 => {
            let members = std::mem::take(&mut reply.members);
            if reply.error_code == 0 {
                reply.error_code = members.first().map_or(0, |member| member.error_code);
            }
        }
        ControlReply::OffsetFetch(reply) => fit_offset_fetch(reply, version),
        ControlReply::DescribeGroups(reply) => {
            for group in &mut reply.groups {
                if version < 6 {
                    group.error_message = None;
                }
                if version < 3 {
                    group.authorized_operations = OPERATIONS_UNKNOWN;
                }
            }
        }
        ControlReply::ConsumerGroupDescribe(reply) if version < 1 => {
            let members = reply.groups.iter_mut().flat_map(|group| group.members.iter_mut());
            members.for_each(|member| member.member_type = -1);
        }
        _ => {}
    }
}

/// Version 1 tells a group's error with each partition; later ones tell it once, and then no partitions.
fn fit_offset_fetch(reply: &mut OffsetFetchResponse, version: i16) {
    if version >= 2 {
        reply.groups.iter_mut().filter(|group| group.error_code != 0).for_each(|group| group.topics.clear());
    }
    if version >= 8 {
        return;
    }
    let Some(group) = std::mem::take(&mut reply.groups).into_iter().next() else { return };
    if version >= 2 {
        reply.error_code = group.error_code;
    }
    let topics = group.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code)
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    reply.topics = topics.collect();
}

/// The reply that refuses all of a request of a group api; `None` for other apis.
pub(super) fn refuse(request: &ControlRequest, code: i16, words: Option<StrBytes>) -> Option<ControlReply> {
    Some(match request {
        ControlRequest::JoinGroup(request) => {
            join_group(code).with_member_id(request.member_id.clone()).into()
        }
        ControlRequest::SyncGroup(_) => SyncGroupResponse::default().with_error_code(code).into(),
        ControlRequest::Heartbeat(_) => HeartbeatResponse::default().with_error_code(code).into(),
        ControlRequest::LeaveGroup(_) => LeaveGroupResponse::default().with_error_code(code).into(),
        ControlRequest::OffsetCommit(request) => offset_commit(request, code).into(),
        ControlRequest::OffsetFetch(request) => {
            let groups = request.groups.iter().map(|group| refuse_offset_fetch(group, code));
            OffsetFetchResponse::default().with_groups(groups.collect()).into()
        }
        ControlRequest::OffsetDelete(_) => OffsetDeleteResponse::default().with_error_code(code).into(),
        ControlRequest::ListGroups(_) => ListGroupsResponse::default().with_error_code(code).into(),
        ControlRequest::DescribeGroups(request) => {
            let groups = request.groups.iter().map(|group| {
                DescribedGroup::default()
                    .with_error_code(code)
                    .with_error_message(words.clone())
                    .with_group_id(group.clone())
                    .with_group_state(DEAD)
            });
            DescribeGroupsResponse::default().with_groups(groups.collect()).into()
        }
        ControlRequest::DeleteGroups(request) => {
            let results = request.groups_names.iter().map(|group| {
                DeletableGroupResult::default().with_group_id(group.clone()).with_error_code(code)
            });
            DeleteGroupsResponse::default().with_results(results.collect()).into()
        }
        ControlRequest::ConsumerGroupHeartbeat(_) => consumer_group_heartbeat(code, words).into(),
        ControlRequest::ConsumerGroupDescribe(request) => {
            let groups = request.group_ids.iter().map(|group| {
                DescribedConsumerGroup::default()
                    .with_error_code(code)
                    .with_error_message(words.clone())
                    .with_group_id(group.clone())
                    .with_group_state(DEAD)
            });
            ConsumerGroupDescribeResponse::default().with_groups(groups.collect()).into()
        }
        _ => return None,
    })
}

/// The same from the header alone, where the version has an error field outside its entries.
pub(super) fn refuse_header(header: ReplyHeader, code: i16) -> Option<ControlReply> {
    Some(match header.api {
        ApiKey::JoinGroup => join_group(code).into(),
        ApiKey::SyncGroup => SyncGroupResponse::default().with_error_code(code).into(),
        ApiKey::Heartbeat => HeartbeatResponse::default().with_error_code(code).into(),
        ApiKey::LeaveGroup => LeaveGroupResponse::default().with_error_code(code).into(),
        ApiKey::OffsetFetch if (2..=7).contains(&header.version) => {
            let group = OffsetFetchResponseGroup::default().with_error_code(code);
            OffsetFetchResponse::default().with_groups(vec![group]).into()
        }
        ApiKey::OffsetDelete => OffsetDeleteResponse::default().with_error_code(code).into(),
        ApiKey::ListGroups => ListGroupsResponse::default().with_error_code(code).into(),
        ApiKey::ConsumerGroupHeartbeat => consumer_group_heartbeat(code, None).into(),
        _ => return None,
    })
}

fn join_group(code: i16) -> JoinGroupResponse {
    JoinGroupResponse::default().with_error_code(code).with_generation_id(-1).with_protocol_name(None)
}

fn consumer_group_heartbeat(code: i16, words: Option<StrBytes>) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default().with_error_code(code).with_error_message(words)
}

fn offset_commit(request: &OffsetCommitRequest, code: i16) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// The refusal of one group of an OffsetFetch: with its partitions, for the version that tells errors there.
pub fn refuse_offset_fetch(group: &OffsetFetchRequestGroup, code: i16) -> OffsetFetchResponseGroup {
    let topics = group.topics.iter().flatten().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(*index)
                .with_committed_offset(-1)
                .with_committed_leader_epoch(-1)
                .with_metadata(Some(StrBytes::default()))
                .with_error_code(code)
        });
        OffsetFetchResponseTopics::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponseGroup::default()
        .with_group_id(group.group_id.clone())
        .with_topics(topics.collect())
        .with_error_code(code)
}
