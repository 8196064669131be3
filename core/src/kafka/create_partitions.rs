//! CreatePartitions: a topic grows.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, create_partitions_request::CreatePartitionsTopic,
    create_partitions_response::CreatePartitionsTopicResult,
};
use heddle_proto::error::ErrorCode;

use super::words;
use crate::{
    metadata::{Command, command::apply},
    shard::{Shard, request::OpError, topics::refusal},
};

/// Answers one request: each topic succeeds or fails for itself.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        results.push(match grow(shard, topic, request.validate_only).await {
            Ok(()) => result.with_error_message(None),
            Err(error) => {
                result.with_error_code(error.code.code()).with_error_message(Some(words(error.message)))
            }
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn grow<D: Disk>(
    shard: &Rc<Shard<D>>,
    topic: CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), OpError> {
    if topic.assignments.is_some_and(|assignments| !assignments.is_empty()) {
        return Err(OpError::new(
            ErrorCode::InvalidReplicaAssignment,
            "replicas are placed by the broker; give a count without assignments",
        ));
    }
    let command = Command::GrowTopic {
        name: topic.name.to_string(),
        partition_count: u32::try_from(topic.count).unwrap_or(0),
    };
    if validate_only {
        let mut trial = (*shard.image()).clone();
        return apply(&mut trial, &command).map(drop).map_err(|error| refusal(&error));
    }
    shard.change_topic(command).await.map(drop)
}
