//! DescribeProducers: the idempotent and transactional producers that partitions know.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    DescribeProducersRequest, DescribeProducersResponse, ProducerId,
    describe_producers_response::{PartitionResponse, ProducerState, TopicResponse},
};
use heddle_proto::ids::Offset;

use super::{locate, words};
use crate::{partition::producers::ProducerFacts, shard::Shard};

/// Answers one request. The time of a producer's last batch and its coordinator's epoch are not kept: -1.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let image = shard.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let reply = PartitionResponse::default().with_partition_index(index);
            partitions.push(match shard.producers(locate(&image, &topic.name, index)).await {
                Ok(facts) => reply.with_active_producers(facts.iter().map(state).collect()),
                Err(error) => {
                    reply.with_error_code(error.code.code()).with_error_message(Some(words(error.message)))
                }
            });
        }
        topics.push(TopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    DescribeProducersResponse::default().with_topics(topics)
}

fn state(facts: &ProducerFacts) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(facts.producer.get()))
        .with_producer_epoch(facts.epoch.get().into())
        .with_last_sequence(facts.last_sequence.get())
        .with_last_timestamp(-1)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(facts.open.map_or(-1, Offset::get))
}
