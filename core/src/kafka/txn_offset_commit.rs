//! TxnOffsetCommit: offsets of a group that count once the transaction is committed.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::{
    ControlReply, ControlRequest,
    messages::{
        TxnOffsetCommitRequest, TxnOffsetCommitResponse,
        txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic},
    },
    refuse_control,
};
use heddle_proto::{
    error::ErrorCode,
    ids::{Epoch, Offset},
};

use super::{
    groups::{expect_reply, index, text},
    transactional::{OFFSETS_ADD_SINCE, fenced, identity, join},
};
use crate::{
    coordinator::{
        group::{
            GroupId, InstanceId, MemberId, Reply, Request, TopicName,
            message::{CommitPartition, TopicPartitionName, TxnOffsetCommit},
        },
        transaction::TransactionalId,
    },
    metadata::internal::InternalTopic,
    shard::Shard,
};

/// Answers one request.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: TxnOffsetCommitRequest,
    version: i16,
) -> ControlReply {
    match commit(shard, &request, version).await {
        Ok(answer) => reply(&answer, &request).into(),
        Err(code) => {
            let code = fenced(code, false);
            refuse_control(&ControlRequest::TxnOffsetCommit(request), code, None)
        }
    }
}

async fn commit<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: &TxnOffsetCommitRequest,
    version: i16,
) -> Result<Reply, ErrorCode> {
    let made = shard.ensure_internal_topic(InternalTopic::Groups, shard.config.group_partition_count).await;
    made.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
    let at = shard.internal_partition(InternalTopic::Groups, &request.group_id);
    let at = at.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let id = TransactionalId::new(text(&request.transactional_id));
    let producer = identity(request.producer_id.0, request.producer_epoch);
    join(shard, &id, producer, vec![at], version >= OFFSETS_ADD_SINCE).await?;
    shard.ask_group(&request.group_id, ask(request)).await.reply().await
}

fn ask(request: &TxnOffsetCommitRequest) -> Request {
    let producer = identity(request.producer_id.0, request.producer_epoch);
    let partitions = request.topics.iter().flat_map(|topic| {
        let name = TopicName::new(text(&topic.name));
        topic.partitions.iter().map(move |partition| CommitPartition {
            partition: TopicPartitionName {
                topic: name.clone(),
                partition: index(partition.partition_index),
            },
            offset: Offset::new(partition.committed_offset),
            leader_epoch: Epoch::new(partition.committed_leader_epoch),
            metadata: partition.committed_metadata.as_ref().map(text),
        })
    });
    Request::TxnOffsetCommit(TxnOffsetCommit {
        group: GroupId::new(text(&request.group_id)),
        producer: producer.id,
        producer_epoch: producer.epoch,
        generation_or_epoch: request.generation_id,
        member: MemberId::new(text(&request.member_id)),
        instance: request.group_instance_id.as_ref().map(|id| InstanceId::new(text(id))),
        partitions: partitions.collect(),
    })
}

/// The results are in the order of the request.
fn reply(answer: &Reply, request: &TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let answer = expect_reply!(answer, TxnOffsetCommit);
    let mut results = answer.partitions.iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut results).map(|(partition, result)| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(result.error.code())
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}
