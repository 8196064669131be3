//! DescribeLogDirs: how large the partitions of this broker are, and how full its disk is.

use std::{collections::BTreeMap, rc::Rc};

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName,
        describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic},
    },
};
use heddle_proto::ids::{PartitionIndex, TopicPartition};

use super::words;
use crate::{
    config::PortMode,
    doctor::free_space::space,
    metadata::{ClusterImage, TopicImage},
    shard::Shard,
};

/// Answers one request. A node has one directory; with a port for each core a broker is a core, and answers for the
/// partitions of that core. What is asked for and is not here is left out.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let image = shard.image();
    let asked = wanted(&image, &request);
    let here = |at: &TopicPartition| match shard.config.port_mode {
        PortMode::Single => shard.owner(*at).is_ok(),
        PortMode::PerCore => shard.owner(*at) == Ok(shard.core()),
    };
    let places: Vec<TopicPartition> = asked.into_iter().filter(here).collect();
    let facts = shard.describe(&places).await;
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for (at, facts) in places.iter().zip(facts) {
        // A topic may be deleted meanwhile.
        let (Some(topic), Ok(facts)) = (image.topic_by_id(at.topic), facts) else { continue };
        topics.entry(&topic.name).or_default().push(
            DescribeLogDirsPartition::default()
                .with_partition_index(at.partition.get() as i32)
                .with_partition_size(i64::try_from(facts.size_bytes).unwrap_or(i64::MAX)),
        );
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        DescribeLogDirsTopic::default()
            .with_name(TopicName(StrBytes::from_string(name.to_owned())))
            .with_partitions(partitions)
    });
    let space = space(&shard.config.data_dir);
    let dir = DescribeLogDirsResult::default()
        .with_log_dir(words(shard.config.data_dir.display().to_string()))
        .with_topics(topics.collect())
        .with_total_bytes(bytes(space.map(|space| space.total_bytes)))
        .with_usable_bytes(bytes(space.map(|space| space.free_bytes)));
    DescribeLogDirsResponse::default().with_results(vec![dir])
}

/// Kafka says -1 for what is not known.
fn bytes(known: Option<u64>) -> i64 {
    known.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn wanted(image: &ClusterImage, request: &DescribeLogDirsRequest) -> Vec<TopicPartition> {
    let all = |topic: &TopicImage| -> Vec<TopicPartition> {
        topic.indexes().map(|partition| TopicPartition { topic: topic.id, partition }).collect()
    };
    let Some(topics) = &request.topics else {
        return image.topics.values().flat_map(|topic| all(topic)).collect();
    };
    let mut places = Vec::new();
    for asked in topics {
        let Some(topic) = image.topic(&asked.topic) else { continue };
        let indexes = asked.partitions.iter().filter_map(|index| u32::try_from(*index).ok());
        places.extend(
            indexes.map(|index| TopicPartition { topic: topic.id, partition: PartitionIndex::new(index) }),
        );
    }
    places.sort_unstable();
    places.dedup();
    places
}
