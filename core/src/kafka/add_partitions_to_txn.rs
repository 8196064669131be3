//! AddPartitionsToTxn: partitions become part of a transaction. From version 4 on it is brokers who ask, for several
//! transactions at once, and perhaps only whether the partitions are part of them.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, TopicName,
    add_partitions_to_txn_request::AddPartitionsToTxnTopic,
    add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
    },
};
use heddle_proto::error::ErrorCode;

use super::{
    groups::text,
    locate,
    transactional::{fenced, identity, join},
};
use crate::{
    coordinator::transaction::{ProducerIdentity, TransactionalId},
    metadata::internal::InternalTopic,
    shard::Shard,
};

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_SINCE: i16 = 2;

/// Answers one request.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: AddPartitionsToTxnRequest,
    version: i16,
) -> AddPartitionsToTxnResponse {
    if version < 4 {
        let id = TransactionalId::new(text(&request.v3_and_below_transactional_id));
        let producer = identity(request.v3_and_below_producer_id.0, request.v3_and_below_producer_epoch);
        let topics = request.v3_and_below_topics;
        let results = add(shard, &id, producer, &topics, true, version).await;
        return AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results);
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for one in request.transactions {
        let id = TransactionalId::new(text(&one.transactional_id));
        let producer = identity(one.producer_id.0, one.producer_epoch);
        let topics = add(shard, &id, producer, &one.topics, !one.verify_only, version).await;
        let result = AddPartitionsToTxnResult::default().with_transactional_id(one.transactional_id);
        results.push(result.with_topic_results(topics));
    }
    AddPartitionsToTxnResponse::default().with_results_by_transaction(results)
}

/// All of them or none: a partition that is not there, or that only the broker writes to, keeps the others out.
async fn add<D: Disk>(
    shard: &Rc<Shard<D>>,
    id: &TransactionalId,
    producer: ProducerIdentity,
    topics: &[AddPartitionsToTxnTopic],
    adds: bool,
    version: i16,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let image = shard.image();
    let all = topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (&topic.name, *index)));
    let all: Vec<_> = all.map(|(name, index)| (name, locate(&image, name, index))).collect();
    let refused = |topic: &TopicName, at| match shard.owner(at) {
        _ if InternalTopic::of(topic).is_some() => Some(ErrorCode::TopicAuthorizationFailed),
        Ok(_) => None,
        // Wherever it is led, its transaction ends there.
        Err(error) if error.code == ErrorCode::NotLeaderOrFollower => None,
        Err(_) => Some(ErrorCode::UnknownTopicOrPartition),
    };
    let code = match all.iter().any(|(topic, at)| refused(topic, *at).is_some()) {
        true => ErrorCode::OperationNotAttempted,
        false => match join(shard, id, producer, all.iter().map(|(_, at)| *at).collect(), adds).await {
            Ok(()) => ErrorCode::None,
            Err(code) => fenced(code, version >= FENCED_SINCE),
        },
    };
    let results = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|&index| {
            let code = refused(&topic.name, locate(&image, &topic.name, index)).unwrap_or(code);
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(code.code())
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    results.collect()
}
