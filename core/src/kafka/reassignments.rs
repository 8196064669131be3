//! AlterPartitionReassignments and ListPartitionReassignments: replicas do not move between brokers, and none is moving.

use std::{collections::BTreeSet, rc::Rc};

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
    ListPartitionReassignmentsResponse,
    alter_partition_reassignments_response::{ReassignablePartitionResponse, ReassignableTopicResponse},
};
use heddle_proto::error::ErrorCode;

use super::{locate, metadata::placement, words};
use crate::{
    metadata::ClusterImage,
    shard::{Shard, request::OpError},
};

/// Answers a request to move replicas: each partition succeeds or fails for itself. To ask for what is so already
/// succeeds.
pub fn alter<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let image = shard.image();
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let reply = ReassignablePartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_error_message(None);
            match verdict(&image, &topic.name, partition.partition_index, partition.replicas.as_deref()) {
                Ok(()) => reply,
                Err(error) => {
                    reply.with_error_code(error.code.code()).with_error_message(Some(words(error.message)))
                }
            }
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_error_message(None)
        .with_responses(responses.collect())
}

/// Answers which replicas are being moved: none.
pub fn list() -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}

fn verdict(
    image: &ClusterImage,
    topic: &str,
    index: i32,
    wanted: Option<&[BrokerId]>,
) -> Result<(), OpError> {
    let at = locate(image, topic, index);
    let found = image.topic_by_id(at.topic);
    let Some((found, partition)) = found.and_then(|topic| Some((topic, topic.partition(at.partition)?)))
    else {
        let message = format!("there is no partition {index} of {topic}");
        return Err(OpError::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    let Some(wanted) = wanted else {
        let message = format!("no replica of {topic}/{index} is being moved");
        return Err(OpError::new(ErrorCode::NoReassignmentInProgress, message));
    };
    let impossible = |message: String| Err(OpError::new(ErrorCode::InvalidReplicaAssignment, message));
    let brokers: BTreeSet<i32> = wanted.iter().map(|id| id.0).collect();
    if brokers.is_empty() {
        return impossible("a partition needs at least one replica".to_owned());
    }
    if brokers.len() < wanted.len() {
        return impossible("a broker is named twice".to_owned());
    }
    let known: BTreeSet<i32> =
        image.nodes.values().flat_map(|node| node.brokers()).map(|broker| broker.id).collect();
    if let Some(unknown) = brokers.difference(&known).next() {
        return impossible(format!("there is no broker {unknown}"));
    }
    let now: BTreeSet<i32> =
        placement(image, found, partition).replicas.iter().map(|broker| broker.0).collect();
    if now == brokers {
        return Ok(());
    }
    impossible(format!("{topic}/{index} is on the brokers {now:?}; this version moves no replicas"))
}
