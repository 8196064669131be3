//! ElectLeaders: partitions are led by their preferred replica already, and the answer says so.

use std::{collections::BTreeMap, rc::Rc};

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    ElectLeadersRequest, ElectLeadersResponse,
    elect_leaders_response::{PartitionResult, ReplicaElectionResult},
};
use heddle_proto::error::ErrorCode;

use super::{locate, words};
use crate::{metadata::ClusterImage, shard::Shard};

/// Kafka's election types: the preferred replica, and any replica that is left.
const TYPES: std::ops::RangeInclusive<i8> = 0..=1;

/// Answers one request. Asked for every partition, Kafka leaves out those that need no election: here, all.
pub fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let image = shard.image();
    if !TYPES.contains(&request.election_type) {
        return ElectLeadersResponse::default().with_error_code(ErrorCode::InvalidRequest.code());
    }
    let mut results = BTreeMap::new();
    for topic in request.topic_partitions.into_iter().flatten() {
        let partitions: &mut Vec<PartitionResult> = results.entry(topic.topic.clone()).or_default();
        for index in topic.partitions {
            let (code, message) = verdict(&image, &topic.topic, index, request.election_type);
            partitions.push(
                PartitionResult::default()
                    .with_partition_id(index)
                    .with_error_code(code.code())
                    .with_error_message(Some(words(message))),
            );
        }
    }
    let results = results.into_iter().map(|(topic, partitions)| {
        ReplicaElectionResult::default().with_topic(topic).with_partition_result(partitions)
    });
    ElectLeadersResponse::default().with_replica_election_results(results.collect())
}

fn verdict(image: &ClusterImage, topic: &str, index: i32, kind: i8) -> (ErrorCode, String) {
    let at = locate(image, topic, index);
    let partition = image.topic_by_id(at.topic).and_then(|topic| topic.partition(at.partition));
    let Some(partition) = partition else {
        return (ErrorCode::UnknownTopicOrPartition, format!("there is no partition {index} of {topic}"));
    };
    let preferred = partition.replicas.first().map(|replica| replica.node);
    if kind == 0 && preferred != Some(partition.leader) {
        let message = "the preferred replica does not lead, and leaders are not moved by request";
        return (ErrorCode::PreferredLeaderNotAvailable, message.to_owned());
    }
    (ErrorCode::ElectionNotNeeded, format!("node {} leads the partition already", partition.leader))
}
