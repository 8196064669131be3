//! Every native request that is neither produce, fetch nor subscription.

use std::{collections::BTreeMap, rc::Rc};

use heddle_log_store::Disk;
use heddle_proto::{
    error::ErrorCode,
    ids::{Offset, PartitionIndex, Timestamp, TopicId, TopicPartition},
    native::{Broker, ConfigEntry, PartitionDetail, PartitionInfo, Reply, Request, StartFrom, TopicInfo},
};

use crate::{
    admin::status::latency_json,
    cluster::message,
    metadata::{
        ClusterImage, Command, MetadataError, Outcome, ReplicaSlot, TopicImage, placing::Slots, topic_config,
    },
    partition::transactions::Isolation,
    shard::{Shard, request::OpError, topics::NewTopic, topics::refusal},
};

/// The version of the native protocol's messages that this broker speaks.
pub const VERSION: u16 = 1;

/// Answers one request.
///
/// # Errors
/// The refusal, as the client is to see it.
pub async fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: Request) -> Result<Reply, OpError> {
    match request {
        Request::Hello { version, cluster, .. } => hello(shard, version, cluster),
        Request::Metadata { topics, auto_create } => Ok(metadata(shard, topics, auto_create).await),
        Request::ListOffsets { topic, partition, at } => {
            list_offsets(shard, TopicPartition { topic, partition }, at).await
        }
        Request::CreateTopic { name, partition_count, replication_factor, configs } => {
            let new = NewTopic {
                name,
                partition_count: (partition_count > 0).then_some(partition_count),
                replication_factor: (replication_factor > 0).then_some(replication_factor),
                overrides: configs.into_iter().collect(),
                assignment: Vec::new(),
            };
            Ok(Reply::Topic { id: shard.create_topic(new).await? })
        }
        Request::DeleteTopic { name } => {
            Ok(Reply::Topic { id: shard.change_topic(Command::DeleteTopic { name }).await? })
        }
        Request::AlterTopic { name, configs, partition_count } => {
            alter_topic(shard, name, configs.into_iter().collect(), partition_count).await
        }
        Request::DescribeTopic { name } => describe_topic(shard, &name).await,
        Request::DeleteRecords { topic, partition, before } => {
            let start = shard.delete_records(TopicPartition { topic, partition }, Some(before)).await?;
            Ok(Reply::DeletedRecords { start })
        }
        Request::InitProducer {} => {
            let (id, epoch) = shard.new_producer().await?;
            Ok(Reply::Producer { id, epoch })
        }
        Request::ClusterStatus {} => Ok(Reply::ClusterStatus { json: shard.status_json().await }),
        Request::DrainNode { node, is_draining } => {
            done(shard.propose(Command::DrainNode { node: node.get(), is_draining }).await)
        }
        Request::RemoveNode { node } => remove_node(shard, node.get()).await,
        Request::MoveReplicas { topic, partition, nodes } => {
            let nodes: Vec<u32> = nodes.iter().map(|node| node.get()).collect();
            let target = (!nodes.is_empty()).then(|| target(&shard.image(), &topic, partition, &nodes));
            let partition = partition.get();
            done(shard.propose(Command::Reassign { topic, partition, target }).await)
        }
        Request::Latency {} => Ok(Reply::Latency { json: latency_json(shard).await }),
        other => Err(OpError::new(ErrorCode::InvalidRequest, format!("unexpected request {other:?}"))),
    }
}

fn done(outcome: Result<Outcome, MetadataError>) -> Result<Reply, OpError> {
    outcome.map(|_| Reply::Done {}).map_err(|error| refusal(&error))
}

async fn remove_node<D: Disk>(shard: &Rc<Shard<D>>, node: u32) -> Result<Reply, OpError> {
    match shard.ask_leader(message::Request::Remove(node)).await {
        message::Reply::Done => Ok(Reply::Done {}),
        message::Reply::Refused(why) => Err(OpError::new(ErrorCode::InvalidRequest, why)),
        other => {
            Err(OpError::new(ErrorCode::CoordinatorNotAvailable, format!("unexpected answer {other:?}")))
        }
    }
}

/// Where replicas go on these nodes: a partition that is not there is refused later.
fn target(image: &ClusterImage, topic: &str, partition: PartitionIndex, nodes: &[u32]) -> Vec<ReplicaSlot> {
    let found = image.topic(topic).and_then(|topic| Some((topic, topic.partition(partition)?)));
    let mut slots = Slots::default();
    found.map_or_else(Vec::new, |(topic, partition)| {
        nodes.iter().map(|node| slots.of(topic, partition, *node)).collect()
    })
}

fn hello<D: Disk>(shard: &Rc<Shard<D>>, version: u16, cluster: Option<String>) -> Result<Reply, OpError> {
    let image = shard.image();
    if version < VERSION {
        return Err(OpError::new(
            ErrorCode::UnsupportedVersion,
            format!("the client speaks version {version} of the native protocol; {VERSION} is spoken here"),
        ));
    }
    if let Some(wanted) = cluster
        && *wanted != *image.cluster_id
    {
        return Err(OpError::new(
            ErrorCode::InconsistentClusterId,
            format!("this is cluster {}; the client looks for {wanted}", image.cluster_id),
        ));
    }
    Ok(Reply::Hello {
        version: VERSION,
        node: shard.node,
        cluster: image.cluster_id.to_string(),
        core: shard.core(),
        core_count: shard.mesh.core_count(),
        frame_bytes_max: u32::try_from(shard.config.frame_bytes_max).unwrap_or(u32::MAX),
        software: concat!("heddle ", env!("CARGO_PKG_VERSION")).to_owned(),
    })
}

async fn metadata<D: Disk>(shard: &Rc<Shard<D>>, names: Option<Vec<String>>, auto_create: bool) -> Reply {
    let mut refused: BTreeMap<String, ErrorCode> = BTreeMap::new();
    if auto_create {
        for name in names.iter().flatten() {
            if shard.image().topic(name).is_none()
                && let Err(error) = shard.auto_create(name).await
            {
                refused.insert(name.clone(), error.code);
            }
        }
    }
    let image = shard.image();
    let topics = match names {
        None => image.topics.values().map(|topic| topic_info(&image, topic)).collect(),
        Some(names) => names
            .into_iter()
            .map(|name| match image.topic(&name) {
                Some(topic) => topic_info(&image, topic),
                None => TopicInfo {
                    error: refused.get(&name).copied().unwrap_or(ErrorCode::UnknownTopicOrPartition),
                    name,
                    id: TopicId::ZERO,
                    partitions: Vec::new(),
                },
            })
            .collect(),
    };
    let brokers = image.nodes.values().flat_map(|node| node.brokers());
    let brokers = brokers.map(|broker| Broker { id: broker.id, host: broker.host, port: broker.port });
    Reply::Metadata { brokers: brokers.collect(), topics }
}

fn topic_info(image: &ClusterImage, topic: &TopicImage) -> TopicInfo {
    let partitions = topic.indexes().zip(&topic.partitions).map(|(partition, found)| {
        let broker = image.leader_broker(topic, found);
        PartitionInfo { partition, broker, epoch: found.epoch(), error: ClusterImage::leader_error(broker) }
    });
    TopicInfo {
        error: ErrorCode::None,
        name: topic.name.to_string(),
        id: topic.id,
        partitions: partitions.collect(),
    }
}

async fn list_offsets<D: Disk>(
    shard: &Rc<Shard<D>>,
    at: TopicPartition,
    from: StartFrom,
) -> Result<Reply, OpError> {
    let none_that_young = (Offset::new(-1), Timestamp::NONE);
    let found = shard.find_offset(at, from, Isolation::ReadUncommitted).await?.unwrap_or(none_that_young);
    Ok(Reply::ListOffsets { offset: found.0, timestamp: found.1 })
}

async fn alter_topic<D: Disk>(
    shard: &Rc<Shard<D>>,
    name: String,
    changes: BTreeMap<String, Option<String>>,
    partition_count: u32,
) -> Result<Reply, OpError> {
    let mut id = TopicId::ZERO;
    if !changes.is_empty() || partition_count == 0 {
        id = shard.change_topic(Command::AlterTopic { name: name.clone(), changes }).await?;
    }
    if partition_count > 0 {
        id = shard.change_topic(Command::GrowTopic { name, partition_count, replicas: Vec::new() }).await?;
    }
    Ok(Reply::Topic { id })
}

async fn describe_topic<D: Disk>(shard: &Rc<Shard<D>>, name: &str) -> Result<Reply, OpError> {
    let image = shard.image();
    let topic = image.topic(name).ok_or_else(|| refusal(&MetadataError::UnknownTopic(name.to_owned())))?;
    let places: Vec<TopicPartition> =
        topic.indexes().map(|partition| TopicPartition { topic: topic.id, partition }).collect();
    let facts = shard.describe(&places).await;
    let mut partitions = Vec::with_capacity(places.len());
    for ((index, found), facts) in (0..).zip(&topic.partitions).zip(facts) {
        let facts = facts?;
        partitions.push(PartitionDetail {
            partition: PartitionIndex::new(index),
            broker: image.leader_broker(topic, found),
            epoch: facts.epoch,
            start: facts.start,
            committed: facts.committed,
            size_bytes: facts.size_bytes,
        });
    }
    let configs = topic_config::entries().iter().map(|entry| {
        let set = topic.overrides.get(entry.name);
        ConfigEntry {
            name: entry.name.to_owned(),
            value: set.map_or(entry.default, String::as_str).to_owned(),
            is_default: set.is_none(),
            doc: entry.doc.to_owned(),
        }
    });
    Ok(Reply::TopicDescription {
        name: topic.name.to_string(),
        id: topic.id,
        partitions,
        configs: configs.collect(),
    })
}
