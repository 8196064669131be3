//! CreateTopics: by counts, or with the brokers of each replica given.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse,
        create_topics_request::{CreatableReplicaAssignment, CreatableTopic},
        create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
    },
};
use heddle_proto::error::ErrorCode;

use super::{topic_settings, words};
use crate::{
    metadata::TopicImage,
    shard::{Shard, request::OpError, topics::NewTopic},
};

/// Kafka's "the broker's default" in counts.
const DEFAULT: i32 = -1;

/// Answers one request: each topic succeeds or fails for itself.
pub async fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    let mut counts: BTreeMap<StrBytes, u32> = BTreeMap::new();
    request.topics.iter().for_each(|topic| *counts.entry(topic.name.0.clone()).or_default() += 1);
    for topic in request.topics {
        let result = CreatableTopicResult::default().with_name(topic.name.clone());
        let created = if counts[&topic.name.0] > 1 {
            Err(OpError::new(ErrorCode::InvalidRequest, "the request names this topic twice"))
        } else {
            create(shard, topic, request.validate_only, result.clone()).await
        };
        results.push(match created {
            Ok(result) => result,
            Err(error) => result
                .with_error_code(error.code.code())
                .with_error_message(Some(words(error.message)))
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(None),
        });
    }
    CreateTopicsResponse::default().with_topics(results)
}

async fn create<D: Disk>(
    shard: &Rc<Shard<D>>,
    topic: CreatableTopic,
    validate_only: bool,
    result: CreatableTopicResult,
) -> Result<CreatableTopicResult, OpError> {
    let new = new_topic(&topic)?;
    if validate_only {
        return Ok(describe(shard, result, &*shard.would_create(new)?));
    }
    let id = shard.create_topic(new).await?;
    let result = result.with_topic_id(uuid::Uuid::from_bytes(*id.as_bytes()));
    Ok(match shard.image().topic_by_id(id) {
        Some(topic) => describe(shard, result, topic),
        // Somebody deleted it already.
        None => result,
    })
}

fn new_topic(topic: &CreatableTopic) -> Result<NewTopic, OpError> {
    let mut overrides = BTreeMap::new();
    for config in &topic.configs {
        let missing =
            || OpError::new(ErrorCode::InvalidConfig, format!("{} is given without a value", &*config.name));
        let value = config.value.as_ref().ok_or_else(missing)?;
        overrides.insert(config.name.to_string(), value.to_string());
    }
    let name = topic.name.to_string();
    if !topic.assignments.is_empty() {
        let assignment = assignment(topic)?;
        return Ok(NewTopic {
            name,
            partition_count: u32::try_from(assignment.len()).ok(),
            replication_factor: u16::try_from(assignment[0].len()).ok(),
            overrides,
            assignment,
        });
    }
    Ok(NewTopic {
        name,
        partition_count: count(topic.num_partitions, ErrorCode::InvalidPartitions)?,
        replication_factor: count(topic.replication_factor.into(), ErrorCode::InvalidReplicationFactor)?
            .map(|factor| u16::try_from(factor).unwrap_or(u16::MAX)),
        overrides,
        assignment: Vec::new(),
    })
}

/// The brokers of each partition, in the order of the partitions, which must be 0, 1, 2 and so on.
fn assignment(topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, OpError> {
    if topic.num_partitions != DEFAULT || i32::from(topic.replication_factor) != DEFAULT {
        return Err(OpError::new(
            ErrorCode::InvalidRequest,
            "counts are given beside an assignment of replicas; then they must be -1",
        ));
    }
    let wrong = |message: &str| OpError::new(ErrorCode::InvalidReplicaAssignment, message);
    let mut by_index: BTreeMap<i32, &CreatableReplicaAssignment> = BTreeMap::new();
    for partition in &topic.assignments {
        if by_index.insert(partition.partition_index, partition).is_some() {
            return Err(wrong("a partition is assigned twice"));
        }
    }
    if !by_index.keys().copied().eq(0..by_index.len() as i32) {
        return Err(wrong("partitions are numbered 0, 1, 2 and so on, without a gap"));
    }
    by_index.into_values().map(|partition| brokers(partition.broker_ids.iter().map(|id| id.0))).collect()
}

/// The brokers of one partition.
///
/// # Errors
/// When there are none, or one is named twice.
pub(super) fn brokers(ids: impl Iterator<Item = i32>) -> Result<Vec<i32>, OpError> {
    let ids: Vec<i32> = ids.collect();
    let wrong = |message: &str| Err(OpError::new(ErrorCode::InvalidReplicaAssignment, message));
    match ids.iter().collect::<BTreeSet<_>>().len() {
        0 => wrong("a partition needs at least one replica"),
        count if count < ids.len() => wrong("a broker is named twice"),
        _ => Ok(ids),
    }
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
    topic: &TopicImage,
) -> CreatableTopicResult {
    let configs = topic_settings::of(&shard.config, topic).map(|setting| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(setting.entry.name))
            .with_value(Some(words(setting.value)))
            .with_config_source(setting.source)
    });
    let factor = topic.partitions.first().map_or(-1, |partition| partition.replicas.len() as i16);
    result
        .with_error_message(None)
        .with_num_partitions(topic.partitions.len() as i32)
        .with_replication_factor(factor)
        .with_configs(Some(configs.collect()))
}
