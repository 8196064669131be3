//! Refusals of the requests about transactions, each in the shape of its reply.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

pub(super) fn add_partitions_to_txn(
    request: &AddPartitionsToTxnRequest,
    code: i16,
) -> AddPartitionsToTxnResponse {
    if request.transactions.is_empty() && request.v3_and_below_topics.is_empty() {
        return AddPartitionsToTxnResponse::default().with_error_code(code);
    }
    let transactions = request.transactions.iter().map(|transaction| {
        AddPartitionsToTxnResult::default()
            .with_transactional_id(transaction.transactional_id.clone())
            .with_topic_results(add_topics(&transaction.topics, code))
    });
    AddPartitionsToTxnResponse::default()
        .with_results_by_transaction(transactions.collect())
        .with_results_by_topic_v3_and_below(add_topics(&request.v3_and_below_topics, code))
}

fn add_topics(topics: &[AddPartitionsToTxnTopic], code: i16) -> Vec<AddPartitionsToTxnTopicResult> {
    let topics = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|&index| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(code)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    topics.collect()
}

pub(super) fn txn_offset_commit(request: &TxnOffsetCommitRequest, code: i16) -> TxnOffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

pub(super) fn write_txn_markers(request: &WriteTxnMarkersRequest, code: i16) -> WriteTxnMarkersResponse {
    let markers = request.markers.iter().map(|marker| {
        let topics = marker.topics.iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|&index| {
                WritableTxnMarkerPartitionResult::default().with_partition_index(index).with_error_code(code)
            });
            WritableTxnMarkerTopicResult::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics.collect())
    });
    WriteTxnMarkersResponse::default().with_markers(markers.collect())
}

pub(super) fn describe_producers(
    request: &DescribeProducersRequest,
    code: i16,
    words: Option<&StrBytes>,
) -> DescribeProducersResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|&index| {
            PartitionResponse::default()
                .with_partition_index(index)
                .with_error_code(code)
                .with_error_message(words.cloned())
        });
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

pub(super) fn describe_transactions(
    request: &DescribeTransactionsRequest,
    code: i16,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.iter();
    let states =
        states.map(|id| TransactionState::default().with_transactional_id(id.clone()).with_error_code(code));
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}
