//! Commits, in and out of transactions. Who may commit was checked before.

use heddle_proto::{
    error::ErrorCode,
    ids::{ProducerId, Timestamp},
};

use super::GroupOffsets;
use crate::coordinator::group::{
    context::Context,
    ids::Millis,
    message::{CommitPartition, PartitionResult},
    record::CommittedOffset,
};

impl GroupOffsets {
    /// Keeps what can be kept; each partition stands for itself.
    pub fn commit(
        &mut self,
        cx: &mut Context<'_>,
        partitions: Vec<CommitPartition>,
        expires: Option<Timestamp>,
    ) -> Vec<PartitionResult> {
        let expires = expires.map(|at| Millis::new(at.get()));
        each(cx, partitions, expires, |cx, commit, value| {
            self.write_offset(cx, &commit.partition.topic, commit.partition.partition, Some(value));
        })
    }

    /// Keeps it for the end of the producer's transaction.
    pub fn commit_pending(
        &mut self,
        cx: &mut Context<'_>,
        producer: ProducerId,
        partitions: Vec<CommitPartition>,
    ) -> Vec<PartitionResult> {
        each(cx, partitions, None, |cx, commit, value| {
            self.write_pending(cx, producer, &commit.partition, Some(value));
        })
    }

    /// The producer's transaction was decided. Offsets committed outside it since then stay as they are.
    pub fn end_transaction(&mut self, cx: &mut Context<'_>, producer: ProducerId, committed: bool) {
        for (partition, pending) in self.pending.get(&producer).cloned().unwrap_or_default() {
            let (topic, index) = (&partition.topic, partition.partition);
            let known = self.committed.get(topic).and_then(|partitions| partitions.get(&index));
            if committed && known.is_none_or(|known| known.order < pending.order) {
                self.write_offset(cx, topic, index, Some(pending.value));
            }
            self.write_pending(cx, producer, &partition, None);
        }
    }
}

fn each(
    cx: &mut Context<'_>,
    partitions: Vec<CommitPartition>,
    expires: Option<Millis>,
    mut keep: impl FnMut(&mut Context<'_>, &CommitPartition, CommittedOffset),
) -> Vec<PartitionResult> {
    let mut results = Vec::with_capacity(partitions.len());
    for commit in partitions {
        let error = match check(cx, &commit, expires) {
            Ok(value) => {
                keep(cx, &commit, value);
                ErrorCode::None
            }
            Err(error) => error,
        };
        results.push(PartitionResult { partition: commit.partition, error });
    }
    results
}

fn check(
    cx: &Context<'_>,
    commit: &CommitPartition,
    expires: Option<Millis>,
) -> Result<CommittedOffset, ErrorCode> {
    let topic = cx.topics.get(&commit.partition.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if commit.partition.partition.get() >= topic.partition_count {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    let metadata = commit.metadata.clone().unwrap_or_default();
    if metadata.len() > cx.config.offset_metadata_bytes_max {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    Ok(CommittedOffset {
        offset: commit.offset,
        leader_epoch: commit.leader_epoch,
        metadata,
        topic_id: topic.id,
        committed: cx.now,
        expires,
    })
}
