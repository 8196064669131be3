//! Kafka's control requests: versions, metadata, topics and offsets, through the codec crate.

use super::{Connection, KafkaError, wire};
use crate::target::{Layout, Route, TopicPlan};
use heddle_proto::{ErrorCode, TopicId};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, CreateTopicsRequest, ListOffsetsRequest, ListOffsetsResponse,
    MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

// The newest versions with plain headers, accepted by Kafka 2.1 to 4.x.
const METADATA_VERSION: i16 = 8;
const CREATE_TOPICS_VERSION: i16 = 4;
const LIST_OFFSETS_VERSION: i16 = 4;
const CREATE_WAIT_MS: i32 = 30_000;

/// Timestamp that asks for the end of a partition.
pub const LATEST: i64 = -1;
/// Timestamp that asks for the start of a partition.
pub const EARLIEST: i64 = -2;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn topic_name(value: &str) -> TopicName {
    TopicName(text(value))
}

/// Refuses a broker that does not speak what the generator does, before any load.
pub async fn check_versions(connection: &Connection) -> Result<(), KafkaError> {
    let answer = connection.call("ApiVersions", 0, &ApiVersionsRequest::default()).await?;
    if answer.error_code != 0 {
        return Err(KafkaError::Refused { api: "ApiVersions", code: answer.error_code });
    }
    let needed = [
        ("Produce", wire::PRODUCE_KEY, wire::PRODUCE_VERSION),
        ("Fetch", wire::FETCH_KEY, wire::FETCH_VERSION),
        ("ListOffsets", 2, LIST_OFFSETS_VERSION),
        ("Metadata", 3, METADATA_VERSION),
        ("CreateTopics", 19, CREATE_TOPICS_VERSION),
    ];
    for (api, key, wanted) in needed {
        let range = answer.api_keys.iter().find(|range| range.api_key == key);
        let (min, max) = range.map_or((0, -1), |range| (range.min_version, range.max_version));
        if wanted < min || wanted > max {
            return Err(KafkaError::Version { api, min, max, wanted });
        }
    }
    Ok(())
}

/// Creates every planned topic; one that exists is left as it is.
pub async fn create_topics(connection: &Connection, plan: &TopicPlan) -> Result<(), KafkaError> {
    let configs: Vec<_> = plan
        .configs
        .iter()
        .map(|(name, value)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        })
        .collect();
    let topics = plan.names.iter().map(|name| {
        CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(plan.partition_count as i32)
            .with_replication_factor(if plan.replication_factor == 0 {
                -1
            } else {
                plan.replication_factor as i16
            })
            .with_configs(configs.clone())
    });
    let request =
        CreateTopicsRequest::default().with_topics(topics.collect()).with_timeout_ms(CREATE_WAIT_MS);
    let answer = connection.call("CreateTopics", CREATE_TOPICS_VERSION, &request).await?;
    let refused = answer.topics.iter().find(|topic| {
        topic.error_code != 0 && ErrorCode::from_code(topic.error_code) != Some(ErrorCode::TopicAlreadyExists)
    });
    match refused {
        Some(topic) => Err(KafkaError::Refused { api: "CreateTopics", code: topic.error_code }),
        None => Ok(()),
    }
}

/// Where the partitions of `topics` are. A topic the broker does not know, or without a leader, is an error.
pub async fn layout(connection: &Connection, topics: &[String]) -> Result<Layout, KafkaError> {
    let wanted = topics.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
    let request =
        MetadataRequest::default().with_topics(Some(wanted.collect())).with_allow_auto_topic_creation(false);
    let answer = connection.call("Metadata", METADATA_VERSION, &request).await?;
    let brokers = answer.brokers.iter().map(|b| (b.node_id.0, format!("{}:{}", b.host, b.port))).collect();
    let mut routes = Vec::new();
    for name in topics {
        routes.extend(routes_of(topic_called(&answer, name)?, name)?);
    }
    Ok(Layout { brokers, routes })
}

fn topic_called<'a>(
    answer: &'a MetadataResponse,
    name: &str,
) -> Result<&'a MetadataResponseTopic, KafkaError> {
    let unknown = ErrorCode::UnknownTopicOrPartition as i16;
    let found = answer.topics.iter().find(|topic| topic.name.as_ref().is_some_and(|n| n.0.as_str() == name));
    let topic = found.ok_or(KafkaError::Refused { api: "Metadata", code: unknown })?;
    match topic.error_code {
        0 => Ok(topic),
        code => Err(KafkaError::Refused { api: "Metadata", code }),
    }
}

fn routes_of(topic: &MetadataResponseTopic, name: &str) -> Result<Vec<Route>, KafkaError> {
    let mut routes = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        if partition.error_code != 0 {
            return Err(KafkaError::Refused { api: "Metadata", code: partition.error_code });
        }
        routes.push(Route {
            topic: name.to_owned(),
            topic_id: TopicId::default(),
            partition: u32::try_from(partition.partition_index).unwrap_or_default(),
            broker: partition.leader_id.0,
        });
    }
    routes.sort_by_key(|route| route.partition);
    Ok(routes)
}

/// The offset of `timestamp` ([`LATEST`], [`EARLIEST`] or milliseconds) in one partition.
pub async fn list_offset(
    connection: &Connection,
    topic: &str,
    partition: u32,
    timestamp: i64,
) -> Result<i64, KafkaError> {
    let topics = vec![offsets_topic(topic, std::iter::once(partition), timestamp)];
    let answer = list_offsets(connection, topics).await?;
    let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
    match partition {
        None => Err(KafkaError::Malformed("an answer to ListOffsets without the partition")),
        Some(answer) if answer.error_code != 0 => {
            Err(KafkaError::Refused { api: "ListOffsets", code: answer.error_code })
        }
        Some(answer) => Ok(answer.offset),
    }
}

/// Fails unless the broker at the other end leads every one of `routes`, whatever the metadata says: Kafka shows a new
/// topic there before its partitions take records. Routes of one topic must stand together.
pub async fn check_leads(connection: &Connection, routes: &[&Route]) -> Result<(), KafkaError> {
    let topics = routes.chunk_by(|a, b| a.topic == b.topic).map(|of_topic| {
        offsets_topic(&of_topic[0].topic, of_topic.iter().map(|route| route.partition), LATEST)
    });
    all_led(&list_offsets(connection, topics.collect()).await?, routes.len())
}

/// Whether the broker answered for `partition_count` partitions, and for each as its leader.
fn all_led(answer: &ListOffsetsResponse, partition_count: usize) -> Result<(), KafkaError> {
    let partitions = || answer.topics.iter().flat_map(|topic| &topic.partitions);
    match partitions().find(|partition| partition.error_code != 0) {
        Some(refused) => Err(KafkaError::Refused { api: "ListOffsets", code: refused.error_code }),
        None if partitions().count() != partition_count => {
            Err(KafkaError::Malformed("an answer to ListOffsets with other partitions"))
        }
        None => Ok(()),
    }
}

fn offsets_topic(topic: &str, partitions: impl Iterator<Item = u32>, timestamp: i64) -> ListOffsetsTopic {
    let wanted = partitions.map(|partition| {
        ListOffsetsPartition::default()
            .with_partition_index(partition as i32)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp)
    });
    ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(wanted.collect())
}

async fn list_offsets(
    connection: &Connection,
    topics: Vec<ListOffsetsTopic>,
) -> Result<ListOffsetsResponse, KafkaError> {
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics);
    connection.call("ListOffsets", LIST_OFFSETS_VERSION, &request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::list_offsets_response::{
        ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
    };

    fn answer(error_codes: &[i16]) -> ListOffsetsResponse {
        let of_partition = |code: &i16| ListOffsetsPartitionResponse::default().with_error_code(*code);
        let partitions = error_codes.iter().map(of_partition).collect();
        let topic =
            ListOffsetsTopicResponse::default().with_name(topic_name("t")).with_partitions(partitions);
        ListOffsetsResponse::default().with_topics(vec![topic])
    }

    #[test]
    fn a_broker_leads_when_it_answers_for_every_partition() {
        assert!(all_led(&answer(&[0, 0, 0]), 3).is_ok());
        let not_leader = ErrorCode::NotLeaderOrFollower as i16;
        let error = all_led(&answer(&[0, not_leader, 0]), 3).unwrap_err();
        assert!(error.failure().is_stale_route(), "worth another look: {error}");
        let error = all_led(&answer(&[0, 0]), 3).unwrap_err();
        assert!(!error.failure().is_stale_route(), "a broker that leaves one out will do so again: {error}");
    }
}
