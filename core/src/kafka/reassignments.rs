//! AlterPartitionReassignments and ListPartitionReassignments: replicas move between nodes.
//!
//! A broker is a core, and a replica is moved to the core that is named; one that its node has already stays on its core.

use std::{collections::BTreeSet, rc::Rc};

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
        ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
        alter_partition_reassignments_response::{ReassignablePartitionResponse, ReassignableTopicResponse},
        list_partition_reassignments_response::{OngoingPartitionReassignment, OngoingTopicReassignment},
    },
};
use heddle_proto::error::ErrorCode;

use super::{create_topics::brokers, words};
use crate::{
    metadata::{
        ClusterImage, Command, MetadataError, PartitionImage, PortMode, ReplicaSlot, TopicImage,
        image::slot_for, placing::Slots,
    },
    shard::{Shard, request::OpError, topics::refusal},
};

/// Answers a request to move replicas: each partition succeeds or fails for itself. To ask for what is so already
/// succeeds.
pub async fn alter<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let mut responses = Vec::with_capacity(request.topics.len());
    let may_change_factor = request.allow_replication_factor_change;
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let wanted = partition.replicas.as_deref();
            let reply =
                ReassignablePartitionResponse::default().with_partition_index(index).with_error_message(None);
            partitions.push(match alter_one(shard, &topic.name, index, wanted, may_change_factor).await {
                Ok(()) => reply,
                Err(error) => {
                    reply.with_error_code(error.code.code()).with_error_message(Some(words(error.message)))
                }
            });
        }
        responses.push(
            ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions),
        );
    }
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(may_change_factor)
        .with_error_message(None)
        .with_responses(responses)
}

async fn alter_one<D: Disk>(
    shard: &Rc<Shard<D>>,
    topic: &str,
    index: i32,
    wanted: Option<&[BrokerId]>,
    may_change_factor: bool,
) -> Result<(), OpError> {
    let command = command(&shard.image(), topic, index, wanted, may_change_factor)?;
    shard.propose(command).await.map(drop).map_err(|error| refusal(&error))
}

fn command(
    image: &ClusterImage,
    topic: &str,
    index: i32,
    wanted: Option<&[BrokerId]>,
    may_change_factor: bool,
) -> Result<Command, OpError> {
    let number = u32::try_from(index).unwrap_or(u32::MAX);
    let unknown = || refusal(&MetadataError::UnknownPartition(topic.to_owned(), number));
    let found = image.topic(topic).ok_or_else(unknown)?;
    let partition = found.partitions.get(number as usize).ok_or_else(unknown)?;
    let target = match wanted {
        None => None,
        Some(wanted) => {
            let wanted = brokers(wanted.iter().map(|broker| broker.0))?;
            if !may_change_factor && wanted.len() != partition.wanted().len() {
                return Err(OpError::new(
                    ErrorCode::InvalidReplicationFactor,
                    format!("{topic}/{index} has {} replicas", partition.wanted().len()),
                ));
            }
            Some(target(image, found, partition, &wanted)?)
        }
    };
    Ok(Command::Reassign { topic: topic.to_owned(), partition: number, target })
}

fn target(
    image: &ClusterImage,
    topic: &TopicImage,
    partition: &PartitionImage,
    wanted: &[i32],
) -> Result<Vec<ReplicaSlot>, OpError> {
    let wrong = |why: String| OpError::new(ErrorCode::InvalidReplicaAssignment, why);
    let mut slots = Slots::default();
    let mut nodes = BTreeSet::new();
    let mut one = |broker: i32| {
        let (node, core) =
            image.broker(broker).ok_or_else(|| wrong(format!("there is no broker {broker}")))?;
        let id = node.id.get();
        if !nodes.insert(id) {
            return Err(wrong(format!("two of these brokers are cores of node {id}")));
        }
        let slot = slots.of(topic, partition, id);
        match (partition.replica_on(id), node.port_mode) {
            (_, PortMode::Single) => Ok(slot),
            (None, PortMode::PerCore) => {
                Ok(ReplicaSlot { slot: slot_for(topic.id, core, node.core_count), ..slot })
            }
            (Some(replica), PortMode::PerCore) => match image.replica_broker(topic.id, replica) {
                there if there == broker => Ok(slot),
                there => Err(wrong(format!(
                    "broker {there} has a replica, and one does not move between cores of a node"
                ))),
            },
        }
    };
    wanted.iter().map(|broker| one(*broker)).collect()
}

/// Answers which replicas are being moved, of all partitions or of those that are named.
pub fn list<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let image = shard.image();
    let topics: Vec<OngoingTopicReassignment> = match request.topics {
        None => image.topics.values().filter_map(|topic| moving(&image, topic, |_| true)).collect(),
        Some(topics) => topics
            .into_iter()
            .filter_map(|asked| {
                let is_asked = |index: i32| asked.partition_indexes.contains(&index);
                moving(&image, image.topic(&asked.name)?, is_asked)
            })
            .collect(),
    };
    ListPartitionReassignmentsResponse::default().with_error_message(None).with_topics(topics)
}

fn moving(
    image: &ClusterImage,
    topic: &TopicImage,
    is_asked: impl Fn(i32) -> bool,
) -> Option<OngoingTopicReassignment> {
    let broker = |replica: &ReplicaSlot| BrokerId(image.replica_broker(topic.id, replica));
    let partitions = topic.indexes().map(|index| index.get() as i32).zip(&topic.partitions);
    let moving: Vec<OngoingPartitionReassignment> = partitions
        .filter(|(index, partition)| partition.is_moving() && is_asked(*index))
        .map(|(index, partition)| {
            OngoingPartitionReassignment::default()
                .with_partition_index(index)
                .with_replicas(partition.replicas.iter().map(broker).collect())
                .with_adding_replicas(partition.adding().map(broker).collect())
                .with_removing_replicas(partition.removing().map(broker).collect())
        })
        .collect();
    let name = TopicName(StrBytes::from_string(topic.name.to_string()));
    (!moving.is_empty()).then(|| OngoingTopicReassignment::default().with_name(name).with_partitions(moving))
}
