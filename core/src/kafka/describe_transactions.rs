//! DescribeTransactions: where transactional ids stand.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TopicName,
    describe_transactions_response::{TopicData, TransactionState},
};
use heddle_proto::{error::ErrorCode, ids::TopicPartition};

use super::{groups::text, words};
use crate::{
    coordinator::transaction::{Described, Reply, Request, TransactionalId},
    metadata::ClusterImage,
    shard::Shard,
};

/// Answers one request.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let mut states = Vec::with_capacity(request.transactional_ids.len());
    for name in request.transactional_ids {
        let id = TransactionalId::new(text(&name));
        let state = TransactionState::default().with_transactional_id(name);
        let reply = shard.ask_transactions(&id, Request::Describe(id.clone())).await;
        states.push(match reply {
            Ok(Reply::Describe(Some(described))) => fill(state, &described, &shard.image()),
            Ok(Reply::Describe(None)) => state.with_error_code(ErrorCode::TransactionalIdNotFound.code()),
            Ok(other) => unreachable!("DescribeTransactions was answered with {other:?}"),
            Err(code) => state.with_error_code(code.code()),
        });
    }
    DescribeTransactionsResponse::default().with_transaction_states(states)
}

fn fill(state: TransactionState, described: &Described, image: &ClusterImage) -> TransactionState {
    state
        .with_transaction_state(words(described.state.name()))
        .with_transaction_timeout_ms(i32::try_from(described.timeout.as_millis()).unwrap_or(i32::MAX))
        .with_transaction_start_time_ms(described.started.map_or(-1, |started| started.get()))
        .with_producer_id(ProducerId(described.producer.id.get()))
        .with_producer_epoch(described.producer.epoch.get())
        .with_topics(topics(&described.partitions, image))
}

/// Partitions by the names of their topics; those of deleted topics are left out.
fn topics(partitions: &[TopicPartition], image: &ClusterImage) -> Vec<TopicData> {
    let by_topic = partitions.chunk_by(|a, b| a.topic == b.topic);
    let named = by_topic.filter_map(|of_topic| {
        let topic = image.topic_by_id(of_topic.first()?.topic)?;
        let indexes = of_topic.iter().map(|at| at.partition.get() as i32).collect();
        let name = TopicName(words(topic.name.to_string()));
        Some(TopicData::default().with_topic(name).with_partitions(indexes))
    });
    named.collect()
}
