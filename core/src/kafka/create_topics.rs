//! CreateTopics.

use std::{collections::BTreeMap, rc::Rc};

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    CreateTopicsRequest, CreateTopicsResponse, create_topics_request::CreatableTopic,
    create_topics_response::CreatableTopicResult,
};
use heddle_proto::{error::ErrorCode, ids::TopicId};

use super::words;
use crate::shard::{Shard, request::OpError, topics::NewTopic};

/// Kafka's "the broker's default" in counts.
const DEFAULT: i32 = -1;

/// Answers one request: each topic succeeds or fails for itself.
pub async fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    for topic in request.topics {
        let result = CreatableTopicResult::default().with_name(topic.name.clone());
        let twice = names.iter().filter(|name| **name == topic.name).count() > 1;
        let created = if twice {
            Err(OpError::new(ErrorCode::InvalidRequest, "the request names this topic twice"))
        } else {
            create(shard, topic, request.validate_only).await
        };
        results.push(match created {
            Ok(id) => describe(shard, result, id),
            Err(error) => {
                result.with_error_code(error.code.code()).with_error_message(Some(words(error.message)))
            }
        });
    }
    CreateTopicsResponse::default().with_topics(results)
}

async fn create<D: Disk>(
    shard: &Rc<Shard<D>>,
    topic: CreatableTopic,
    validate_only: bool,
) -> Result<TopicId, OpError> {
    if !topic.assignments.is_empty() {
        return Err(OpError::new(
            ErrorCode::InvalidReplicaAssignment,
            "replicas are placed by the broker; give a partition count instead of assignments",
        ));
    }
    let overrides: BTreeMap<String, String> = topic
        .configs
        .iter()
        .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())))
        .collect();
    let new = NewTopic {
        name: topic.name.to_string(),
        partition_count: count(topic.num_partitions, ErrorCode::InvalidPartitions)?,
        replication_factor: count(topic.replication_factor.into(), ErrorCode::InvalidReplicationFactor)?
            .map(|factor| u16::try_from(factor).unwrap_or(u16::MAX)),
        overrides,
    };
    shard.create_topic(new, validate_only).await
}

fn count(raw: i32, code: ErrorCode) -> Result<Option<u32>, OpError> {
    match u32::try_from(raw) {
        Ok(0) => Err(OpError::new(code, "0 was asked for; it must be at least 1, or -1 for the default")),
        Ok(count) => Ok(Some(count)),
        Err(_) if raw == DEFAULT => Ok(None),
        Err(_) => Err(OpError::new(code, format!("{raw} was asked for; it must be at least 1, or -1"))),
    }
}

fn describe<D: Disk>(
    shard: &Rc<Shard<D>>,
    result: CreatableTopicResult,
    id: TopicId,
) -> CreatableTopicResult {
    let image = shard.image();
    let topic = image.topic_by_id(id);
    let partition_count = topic.map_or(-1, |topic| topic.partitions.len() as i32);
    let factor = topic.and_then(|topic| topic.partitions.first()).map_or(-1, |p| p.replicas.len() as i16);
    result
        .with_topic_id(uuid::Uuid::from_bytes(*id.as_bytes()))
        .with_num_partitions(partition_count)
        .with_replication_factor(factor)
        .with_configs(None)
}
