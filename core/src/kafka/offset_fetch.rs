//! OffsetFetch: how far groups have read.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::{
    ControlReply,
    groups::refuse_offset_fetch,
    messages::{
        OffsetFetchRequest, OffsetFetchResponse, TopicName as WireTopicName,
        offset_fetch_request::OffsetFetchRequestGroup,
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
        },
    },
};
use heddle_proto::error::ErrorCode;

use super::{
    groups::{each, expect_reply, index, text},
    words,
};
use crate::{
    coordinator::group::{
        GroupId, MemberId, Reply, Request, TopicName,
        message::{FetchTopics, FetchedPartition, OffsetFetch, TopicPartitionName},
    },
    runtime::mesh::LocalFuture,
    shard::Shard,
};

/// Asks the coordinators of all groups of the request.
pub async fn begin<D: Disk>(shard: &Rc<Shard<D>>, request: OffsetFetchRequest) -> LocalFuture<ControlReply> {
    let require_stable = request.require_stable;
    let mut tickets = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let ticket = shard.ask_group(&group.group_id, ask(&group, require_stable)).await;
        tickets.push((group, ticket));
    }
    Box::pin(async move {
        let groups = each(tickets, |group, reply| answer(&group, reply)).await;
        OffsetFetchResponse::default().with_groups(groups).into()
    })
}

fn ask(group: &OffsetFetchRequestGroup, require_stable: bool) -> Request {
    let topics = match &group.topics {
        None => FetchTopics::All,
        Some(topics) => {
            let partitions = topics.iter().flat_map(|topic| {
                let name = TopicName::new(text(&topic.name));
                topic.partition_indexes.iter().map(move |partition| TopicPartitionName {
                    topic: name.clone(),
                    partition: index(*partition),
                })
            });
            FetchTopics::These(partitions.collect())
        }
    };
    Request::OffsetFetch(OffsetFetch {
        group: GroupId::new(text(&group.group_id)),
        member: group.member_id.as_ref().map(|id| MemberId::new(text(id))),
        epoch: group.member_epoch,
        require_stable,
        topics,
    })
}

fn answer(group: &OffsetFetchRequestGroup, reply: Result<Reply, ErrorCode>) -> OffsetFetchResponseGroup {
    let fetched = match reply {
        Ok(reply) => expect_reply!(reply, OffsetFetch),
        Err(error) => return refuse_offset_fetch(group, error.code()),
    };
    if fetched.error != ErrorCode::None {
        return refuse_offset_fetch(group, fetched.error.code());
    }
    let topics = match &group.topics {
        Some(asked) => {
            let mut fetched = fetched.partitions.into_iter();
            let topics = asked.iter().map(|topic| {
                let partitions = topic.partition_indexes.iter().zip(&mut fetched);
                let partitions = partitions.map(|(index, fetched)| describe(*index, fetched));
                OffsetFetchResponseTopics::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions.collect())
            });
            topics.collect()
        }
        None => by_topic(fetched.partitions),
    };
    OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_topics(topics)
}

/// Everything that a group has, which comes in the order of the topics.
fn by_topic(fetched: Vec<FetchedPartition>) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for partition in fetched {
        let name = partition.partition.topic.clone();
        if topics.last().is_none_or(|last| last.name.as_str() != name.as_str()) {
            let named = OffsetFetchResponseTopics::default().with_name(WireTopicName(words(name.as_str())));
            topics.push(named);
        }
        let index = partition.partition.partition.get() as i32;
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(describe(index, partition));
        }
    }
    topics
}

fn describe(index: i32, fetched: FetchedPartition) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(fetched.offset.get())
        .with_committed_leader_epoch(fetched.leader_epoch.get())
        .with_metadata(Some(words(&*fetched.metadata)))
        .with_error_code(fetched.error.code())
}
