//! ListOffsets: the first, the last, the youngest record, or the first at or after a timestamp.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    ListOffsetsRequest, ListOffsetsResponse,
    list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
};
use heddle_proto::{
    error::ErrorCode,
    ids::{Timestamp, TopicPartition},
    native::StartFrom,
};

use super::locate;
use crate::{
    partition::transactions::Isolation,
    shard::{Shard, request::OpError},
};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

/// Answers one request.
pub async fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let image = shard.image();
    let isolation = Isolation::from_code(request.isolation_level);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let at = locate(&image, &topic.name, partition.partition_index);
            let reply =
                ListOffsetsPartitionResponse::default().with_partition_index(partition.partition_index);
            partitions.push(match find(shard, at, partition.timestamp, isolation).await {
                Ok((offset, timestamp)) => reply
                    .with_offset(offset)
                    .with_timestamp(timestamp)
                    .with_leader_epoch(leader_epoch(shard, at)),
                Err(error) => reply.with_error_code(error.code.code()),
            });
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

fn leader_epoch<D: Disk>(shard: &Rc<Shard<D>>, at: TopicPartition) -> i32 {
    let image = shard.image();
    let topic = image.topic_by_id(at.topic);
    topic.and_then(|topic| topic.partition(at.partition)).map_or(-1, |partition| partition.epoch)
}

async fn find<D: Disk>(
    shard: &Rc<Shard<D>>,
    at: TopicPartition,
    timestamp: i64,
    isolation: Isolation,
) -> Result<(i64, i64), OpError> {
    let found = match timestamp {
        LATEST => shard.find_offset(at, StartFrom::Latest, isolation).await?,
        EARLIEST => shard.find_offset(at, StartFrom::Earliest, isolation).await?,
        MAX_TIMESTAMP => shard.find_max_timestamp(at).await?,
        time if time >= 0 => {
            shard.find_offset(at, StartFrom::Timestamp(Timestamp::new(time)), isolation).await?
        }
        other => {
            return Err(OpError::new(
                ErrorCode::UnsupportedVersion,
                format!("{other} is no timestamp this version knows"),
            ));
        }
    };
    Ok(found.map_or((-1, -1), |(offset, time)| (offset.get(), time.get())))
}
