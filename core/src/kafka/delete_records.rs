//! DeleteRecords: moves the first offset of partitions.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse,
    delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
};
use heddle_proto::ids::{Offset, TopicPartition};

use super::locate;
use crate::shard::{Shard, request::OpError};

/// "Everything that is committed".
const ALL: i64 = -1;

/// Answers one request: each partition succeeds or fails for itself.
pub async fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let at = locate(&shard.image(), &topic.name, partition.partition_index);
            let reply =
                DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
            partitions.push(match delete(shard, at, partition.offset).await {
                Ok(start) => reply.with_low_watermark(start.get()),
                Err(error) => reply.with_low_watermark(-1).with_error_code(error.code.code()),
            });
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete<D: Disk>(shard: &Rc<Shard<D>>, at: TopicPartition, before: i64) -> Result<Offset, OpError> {
    let before = (before != ALL).then(|| Offset::new(before));
    shard.delete_records(at, before).await
}
