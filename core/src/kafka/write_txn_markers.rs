//! WriteTxnMarkers: ends transactions in single partitions, whatever their coordinators think. Kafka's coordinators use
//! it; here only an operator does, to free the readers of a partition from a transaction that nobody ends any more.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    TopicName, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
    write_txn_markers_request::WritableTxnMarker,
    write_txn_markers_response::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    },
};
use heddle_proto::{batch::Outcome, error::ErrorCode};

use super::{locate, transactional::identity};
use crate::{metadata::internal::InternalTopic, partition::transactions::EndTransaction, shard::Shard};

/// Answers one request: each marker succeeds or fails in each partition by itself.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let mut results = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        let end = end_of(&marker);
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in marker.topics {
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for index in topic.partition_indexes {
                let code = write(shard, &topic.name, index, end).await;
                let result = WritableTxnMarkerPartitionResult::default().with_partition_index(index);
                partitions.push(result.with_error_code(code.code()));
            }
            let result = WritableTxnMarkerTopicResult::default().with_name(topic.name);
            topics.push(result.with_partitions(partitions));
        }
        let result = WritableTxnMarkerResult::default().with_producer_id(marker.producer_id);
        results.push(result.with_topics(topics));
    }
    WriteTxnMarkersResponse::default().with_markers(results)
}

fn end_of(marker: &WritableTxnMarker) -> EndTransaction {
    let producer = identity(marker.producer_id.0, marker.producer_epoch);
    EndTransaction {
        producer: producer.id,
        epoch: producer.epoch,
        outcome: if marker.transaction_result { Outcome::Commit } else { Outcome::Abort },
        coordinator_epoch: marker.coordinator_epoch,
    }
}

async fn write<D: Disk>(
    shard: &Rc<Shard<D>>,
    topic: &TopicName,
    index: i32,
    end: EndTransaction,
) -> ErrorCode {
    if end.producer.get() < 0 || end.epoch.get() < 0 {
        return ErrorCode::InvalidRequest;
    }
    // What a coordinator keeps there is written by no producer.
    if InternalTopic::of(topic) == Some(InternalTopic::Transactions) {
        return ErrorCode::TopicAuthorizationFailed;
    }
    let at = locate(&shard.image(), topic, index);
    match shard.end_in(at, end).await {
        Ok(()) => ErrorCode::None,
        Err(error) => error.code,
    }
}
