//! OffsetDelete: an operator forgets offsets of a group.

use heddle_net::kafka::{
    ControlReply, ControlRequest,
    messages::{
        OffsetDeleteRequest, OffsetDeleteResponse,
        offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
    },
};

use super::groups::{expect_reply, index, text};
use crate::coordinator::group::{
    GroupId, Reply, Request, TopicName,
    message::{OffsetDelete, TopicPartitionName},
};

/// What to ask the coordinator.
pub fn request(delete: &OffsetDeleteRequest) -> Request {
    let partitions = delete.topics.iter().flat_map(|topic| {
        let name = TopicName::new(text(&topic.name));
        topic.partitions.iter().map(move |partition| TopicPartitionName {
            topic: name.clone(),
            partition: index(partition.partition_index),
        })
    });
    let group = GroupId::new(text(&delete.group_id));
    Request::OffsetDelete(OffsetDelete { group, partitions: partitions.collect() })
}

/// What to tell the client: the results are in the order of the request.
pub fn reply(reply: &Reply, request: &ControlRequest) -> ControlReply {
    let answer = expect_reply!(reply, OffsetDelete);
    let ControlRequest::OffsetDelete(request) = request else { unreachable!("it was one when it came") };
    let mut results = answer.partitions.iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut results).map(|(partition, result)| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(result.error.code())
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    let topics = topics.filter(|topic| !topic.partitions.is_empty());
    OffsetDeleteResponse::default().with_error_code(answer.error.code()).with_topics(topics.collect()).into()
}
