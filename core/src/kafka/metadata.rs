//! Metadata: brokers, topics and who leads their partitions; creates a topic that is asked for when the node allows it.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        BrokerId, MetadataRequest, MetadataResponse, TopicName,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
};
use heddle_proto::{error::ErrorCode, ids::TopicId};

use super::words;
use crate::{
    metadata::{ClusterImage, PartitionImage, TopicImage, internal::InternalTopic, name::check_topic_name},
    shard::{Shard, request::OpError},
};

/// The first version in which the client says whether topics may be created.
const AUTO_CREATION_FLAG_VERSION: i16 = 4;

/// The first version in which a topic may be asked for by its id.
const TOPIC_ID_VERSION: i16 = 12;

/// Answers one request.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: MetadataRequest,
    version: i16,
) -> MetadataResponse {
    let may_create = request.allow_auto_topic_creation || version < AUTO_CREATION_FLAG_VERSION;
    let topics = match request.topics {
        None => shard.image().topics.values().map(|topic| describe(&shard.image(), topic)).collect(),
        Some(asked) => {
            let mut topics = Vec::with_capacity(asked.len());
            for topic in asked {
                let id = TopicId::from_bytes(*topic.topic_id.as_bytes());
                if version < TOPIC_ID_VERSION && (topic.name.is_none() || !id.is_zero()) {
                    topics.push(
                        MetadataResponseTopic::default()
                            .with_name(topic.name)
                            .with_topic_id(topic.topic_id)
                            .with_error_code(ErrorCode::InvalidRequest.code()),
                    );
                    continue;
                }
                topics.push(one(shard, topic.name.as_ref(), id, may_create).await);
            }
            topics
        }
    };
    let image = shard.image();
    let brokers = image.nodes.values().flat_map(|node| node.brokers().map(move |it| (it, node.rack())));
    let brokers = brokers.map(|(broker, rack)| {
        MetadataResponseBroker::default()
            .with_rack(rack.map(words))
            .with_node_id(BrokerId(broker.id))
            .with_host(words(broker.host))
            .with_port(i32::from(broker.port))
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(words(image.cluster_id.to_string())))
        .with_controller_id(BrokerId(shard.broker_id()))
        .with_topics(topics)
}

async fn one<D: Disk>(
    shard: &Rc<Shard<D>>,
    name: Option<&TopicName>,
    id: TopicId,
    may_create: bool,
) -> MetadataResponseTopic {
    let image = shard.image();
    let Some(name) = name else {
        return match image.topic_by_id(id) {
            Some(topic) => describe(&image, topic),
            None => MetadataResponseTopic::default()
                .with_error_code(ErrorCode::UnknownTopicId.code())
                .with_topic_id(uuid::Uuid::from_bytes(*id.as_bytes())),
        };
    };
    if let Some(topic) = image.topic(name) {
        return describe(&image, topic);
    }
    let created = if may_create {
        shard.auto_create(name).await
    } else {
        match check_topic_name(name) {
            Ok(()) => Err(OpError::new(ErrorCode::UnknownTopicOrPartition, "no such topic")),
            Err(reason) => Err(OpError::new(ErrorCode::InvalidTopicException, reason)),
        }
    };
    let image = shard.image();
    match (created, image.topic(name)) {
        (Ok(()), Some(topic)) => describe(&image, topic),
        (Ok(()), None) => refused(name, ErrorCode::UnknownTopicOrPartition),
        (Err(error), _) => refused(name, error.code),
    }
}

fn refused(name: &TopicName, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_name(Some(name.clone())).with_error_code(code.code())
}

/// The brokers of one partition, as Kafka clients know them.
pub(super) struct Placement {
    /// LEADER_NOT_AVAILABLE while nobody leads it.
    pub error: ErrorCode,
    /// Who leads it, -1 while nobody does.
    pub leader: i32,
    /// Who has a replica.
    pub replicas: Vec<BrokerId>,
    /// Whose replica is in sync.
    pub isr: Vec<BrokerId>,
}

/// Where a partition is.
pub(super) fn placement(image: &ClusterImage, topic: &TopicImage, partition: &PartitionImage) -> Placement {
    let broker_of = |node: u32| {
        BrokerId(partition.replica_on(node).map_or(-1, |replica| image.replica_broker(topic.id, replica)))
    };
    let leader = image.leader_broker(topic, partition);
    Placement {
        error: ClusterImage::leader_error(leader),
        leader,
        replicas: partition.replicas.iter().map(|replica| broker_of(replica.node)).collect(),
        isr: partition.isr.iter().map(|node| broker_of(*node)).collect(),
    }
}

fn describe(image: &ClusterImage, topic: &TopicImage) -> MetadataResponseTopic {
    let partitions = topic.indexes().zip(&topic.partitions).map(|(index, partition)| {
        let Placement { error, leader, replicas, isr } = placement(image, topic, partition);
        MetadataResponsePartition::default()
            .with_error_code(error.code())
            .with_partition_index(index.get() as i32)
            .with_leader_id(BrokerId(leader))
            .with_leader_epoch(partition.epoch)
            .with_replica_nodes(replicas)
            .with_isr_nodes(isr)
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.to_string()))))
        .with_topic_id(uuid::Uuid::from_bytes(*topic.id.as_bytes()))
        .with_is_internal(InternalTopic::of(&topic.name).is_some())
        .with_partitions(partitions.collect())
}
