//! The Kafka front door: one file per request kind, each with the same steps: decode, route, call, map the error.
//!
//! [`connection`] reads requests in order and sends replies in order. Produce, Fetch and the requests of groups may
//! be answered later; everything else is answered before the next request of the connection is looked at.

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod alter_configs;
pub mod api_versions;
pub mod client_quotas;
pub mod connection;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod elect_leaders;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
pub mod groups;
pub mod heartbeat;
pub mod init_producer_id;
pub mod join_group;
pub mod leaders;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod reassignments;
pub mod sessions;
pub mod sync_group;
pub mod topic_settings;
pub mod transactional;
pub mod txn_offset_commit;
pub mod write_txn_markers;

use heddle_log_store::Disk;
use heddle_net::kafka::{StrBytes, TopicRef};
use heddle_proto::{
    error::ErrorCode,
    ids::{Epoch, TopicId, TopicPartition},
};

use crate::{
    metadata::ClusterImage,
    shard::{Shard, request::OpError},
};

/// The partition a client means by a topic's name and a number; unknown names map to the zero id, unknown numbers to a
/// number that exists nowhere, so that routing refuses them in one place.
fn locate(image: &ClusterImage, topic: &str, index: i32) -> TopicPartition {
    let id = image.topic(topic).map_or(TopicId::ZERO, |topic| topic.id);
    let partition = u32::try_from(index).unwrap_or(u32::MAX);
    TopicPartition { topic: id, partition: heddle_proto::ids::PartitionIndex::new(partition) }
}

/// The same for a topic that may be named by id.
fn locate_topic(image: &ClusterImage, topic: &TopicRef, index: i32) -> TopicPartition {
    match topic {
        TopicRef::Name(name) => locate(image, name, index),
        TopicRef::Id(id) => {
            let partition = u32::try_from(index).unwrap_or(u32::MAX);
            TopicPartition { topic: *id, partition: heddle_proto::ids::PartitionIndex::new(partition) }
        }
    }
}

/// The code of a refusal as the client is to see it: who asks for an id that no topic has is told that, as in Kafka.
fn code_for(image: &ClusterImage, topic: &TopicRef, code: ErrorCode) -> ErrorCode {
    match (topic, code) {
        (TopicRef::Id(id), ErrorCode::UnknownTopicOrPartition) if image.topic_by_id(*id).is_none() => {
            ErrorCode::UnknownTopicId
        }
        (_, code) => code,
    }
}

/// Checks what a client believes of a partition's epoch (-1 for no belief), as Kafka does before it answers.
///
/// # Errors
/// When the partition is not there, or is led in another epoch.
fn check_epoch<D: Disk>(shard: &Shard<D>, at: TopicPartition, given: i32) -> Result<(), OpError> {
    shard.owner(at)?;
    let image = shard.image();
    let partition = image.topic_by_id(at.topic).and_then(|topic| topic.partition(at.partition));
    let current = partition.map_or(-1, |partition| partition.epoch);
    let code = match given {
        given if given < 0 || given == current => return Ok(()),
        given if given < current => ErrorCode::FencedLeaderEpoch,
        _ => ErrorCode::UnknownLeaderEpoch,
    };
    Err(OpError::new(code, format!("the partition is led in epoch {current}; the request says {given}")))
}

/// Kafka's -1 for "no idea" becomes `None`.
fn epoch(raw: i32) -> Option<Epoch> {
    (raw >= 0).then(|| Epoch::new(raw))
}

fn words(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
