//! The Kafka front door: one file per request kind, each with the same steps: decode, route, call, map the error.
//!
//! [`connection`] reads requests in order and sends replies in order. Produce, Fetch and the requests of groups may
//! be answered later; everything else is answered before the next request of the connection is looked at.

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod alter_configs;
pub mod connection;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_producers;
pub mod describe_transactions;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
pub mod groups;
pub mod heartbeat;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod produce;
pub mod sync_group;
pub mod transactional;
pub mod txn_offset_commit;

use heddle_net::kafka::StrBytes;
use heddle_proto::ids::{Epoch, TopicId, TopicPartition};

use crate::metadata::ClusterImage;

/// The partition a client means by a topic's name and a number; unknown names map to the zero id, unknown numbers to a
/// number that exists nowhere, so that routing refuses them in one place.
fn locate(image: &ClusterImage, topic: &str, index: i32) -> TopicPartition {
    let id = image.topic(topic).map_or(TopicId::ZERO, |topic| topic.id);
    let partition = u32::try_from(index).unwrap_or(u32::MAX);
    TopicPartition { topic: id, partition: heddle_proto::ids::PartitionIndex::new(partition) }
}

/// Kafka's -1 for "no idea" becomes `None`.
fn epoch(raw: i32) -> Option<Epoch> {
    (raw >= 0).then(|| Epoch::new(raw))
}

fn words(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
