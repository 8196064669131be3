//! CreatePartitions: a topic grows, by a count or with the brokers of each new replica given.

use std::{collections::BTreeMap, rc::Rc};

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        CreatePartitionsRequest, CreatePartitionsResponse, create_partitions_request::CreatePartitionsTopic,
        create_partitions_response::CreatePartitionsTopicResult,
    },
};
use heddle_proto::error::ErrorCode;

use super::{create_topics::brokers, words};
use crate::{
    metadata::{Command, MetadataError},
    shard::{
        Shard,
        request::OpError,
        topics::{place, refusal},
    },
};

/// Answers one request: each topic succeeds or fails for itself.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    let mut counts: BTreeMap<StrBytes, u32> = BTreeMap::new();
    request.topics.iter().for_each(|topic| *counts.entry(topic.name.0.clone()).or_default() += 1);
    for topic in request.topics {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        let grown = match counts[&topic.name.0] {
            1 => grow(shard, topic, request.validate_only).await,
            _ => Err(OpError::new(ErrorCode::InvalidRequest, "the request names this topic twice")),
        };
        results.push(match grown {
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
    let name = topic.name.to_string();
    let image = shard.image();
    let unknown = || refusal(&MetadataError::UnknownTopic(name.clone()));
    let id = image.topic(&name).ok_or_else(unknown)?.id;
    let assignment = topic.assignments.unwrap_or_default();
    let assignment = assignment.iter().map(|new| brokers(new.broker_ids.iter().map(|id| id.0)));
    let assignment = assignment.collect::<Result<Vec<_>, _>>()?;
    let command = Command::GrowTopic {
        replicas: place(&image, id, &assignment)?,
        name,
        partition_count: u32::try_from(topic.count).unwrap_or(0),
    };
    if validate_only {
        return shard.would_change(&command).map(drop);
    }
    shard.change_topic(command).await.map(drop)
}
