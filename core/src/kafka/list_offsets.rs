//! ListOffsets: the first, the last, the youngest record, or the first at or after a timestamp.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    ListOffsetsRequest, ListOffsetsResponse,
    list_offsets_request::ListOffsetsTopic,
    list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
};
use heddle_proto::{
    error::ErrorCode,
    ids::{Offset, Timestamp, TopicPartition},
    native::StartFrom,
};

use super::{check_epoch, locate};
use crate::{
    partition::transactions::Isolation,
    shard::{
        Shard,
        request::{AskEpochs, OpError},
    },
};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The first offset on this broker's own disks, which is the first there is.
const EARLIEST_LOCAL: i64 = -4;
/// The last offset in tiered storage, of which there is none.
const LATEST_TIERED: i64 = -5;

/// The special timestamps and the first version that has each.
const SPECIAL: [(i64, i16); 5] =
    [(LATEST, 1), (EARLIEST, 1), (MAX_TIMESTAMP, 7), (EARLIEST_LOCAL, 8), (LATEST_TIERED, 9)];

/// Where something was found.
struct Found {
    offset: i64,
    timestamp: i64,
    epoch: i32,
}

/// Nothing was found, which is no error.
const NOTHING: Found = Found { offset: -1, timestamp: -1, epoch: -1 };

/// Answers one request.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    let isolation = Isolation::from_code(request.isolation_level);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        topics.push(answer_topic(shard, topic, (version, isolation)).await);
    }
    mark_duplicates(&mut topics);
    ListOffsetsResponse::default().with_topics(topics)
}

async fn answer_topic<D: Disk>(
    shard: &Rc<Shard<D>>,
    topic: ListOffsetsTopic,
    how: (i16, Isolation),
) -> ListOffsetsTopicResponse {
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in topic.partitions {
        let at = locate(&shard.image(), &topic.name, partition.partition_index);
        let found = match check_epoch(shard, at, partition.current_leader_epoch) {
            Ok(()) => find(shard, at, partition.timestamp, how).await,
            Err(error) => Err(error),
        };
        let reply = ListOffsetsPartitionResponse::default().with_partition_index(partition.partition_index);
        partitions.push(match found {
            Ok(found) => {
                reply.with_offset(found.offset).with_timestamp(found.timestamp).with_leader_epoch(found.epoch)
            }
            Err(error) => reply.with_error_code(error.code.code()),
        });
    }
    ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
}

/// A partition that is asked for twice is refused each time, as Kafka does it.
fn mark_duplicates(topics: &mut [ListOffsetsTopicResponse]) {
    let mut counts = ahash::AHashMap::new();
    for topic in topics.iter() {
        for partition in &topic.partitions {
            *counts.entry((topic.name.clone(), partition.partition_index)).or_insert(0_u32) += 1;
        }
    }
    for topic in topics {
        for partition in &mut topic.partitions {
            if counts[&(topic.name.clone(), partition.partition_index)] > 1 {
                *partition = ListOffsetsPartitionResponse::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(ErrorCode::InvalidRequest.code());
            }
        }
    }
}

async fn find<D: Disk>(
    shard: &Rc<Shard<D>>,
    at: TopicPartition,
    timestamp: i64,
    (version, isolation): (i16, Isolation),
) -> Result<Found, OpError> {
    let is_known = SPECIAL.iter().any(|(special, since)| *special == timestamp && version >= *since);
    if timestamp < 0 && !is_known {
        return Err(OpError::new(
            ErrorCode::UnsupportedVersion,
            format!("{timestamp} is no timestamp that this version of the request has"),
        ));
    }
    let found = match timestamp {
        LATEST => shard.find_offset(at, StartFrom::Latest, isolation).await?,
        EARLIEST | EARLIEST_LOCAL => shard.find_offset(at, StartFrom::Earliest, isolation).await?,
        MAX_TIMESTAMP => shard.find_max_timestamp(at).await?,
        LATEST_TIERED => {
            shard.owner(at)?;
            None
        }
        time => shard.find_offset(at, StartFrom::Timestamp(Timestamp::new(time)), isolation).await?,
    };
    match found {
        Some((offset, time)) => with_epoch(shard, at, offset, time).await,
        None => Ok(NOTHING),
    }
}

async fn with_epoch<D: Disk>(
    shard: &Rc<Shard<D>>,
    at: TopicPartition,
    offset: Offset,
    time: Timestamp,
) -> Result<Found, OpError> {
    let epoch = shard.epochs(at, AskEpochs::Holding(offset)).await?;
    let epoch = epoch.map_or(-1, |(epoch, _)| epoch.get());
    Ok(Found { offset: offset.get(), timestamp: time.get(), epoch })
}
