//! Offsets that are committed with a transaction, and the producers whose transactions those are.

use heddle_proto::{
    error::ErrorCode,
    ids::{ProducerEpoch, ProducerId},
};

use super::{
    coordinator::GroupCoordinator,
    effects::Output,
    group::Committer,
    ids::{GroupId, RequestId},
    message::{OffsetsCommitted, PartitionResult, Reply, TxnOffsetCommit},
    record::{GroupRecord, ProducerValue},
};

impl GroupCoordinator {
    pub(super) fn on_txn_offset_commit(
        &mut self,
        output: &mut Output,
        to: RequestId,
        request: TxnOffsetCommit,
    ) {
        let id = request.group.clone();
        if let Err(error) = self.check_txn_group(&request) {
            let partitions = request.partitions.into_iter();
            let partitions = partitions.map(|commit| PartitionResult { partition: commit.partition, error });
            let answer = OffsetsCommitted { partitions: partitions.collect() };
            return output.reply(to, Reply::TxnOffsetCommit(answer));
        }
        let (producer, epoch) = (request.producer, request.producer_epoch);
        self.with_group(&id, output, |group, cx| {
            let who = Committer {
                member: &request.member,
                instance: request.instance.as_ref(),
                generation_or_epoch: request.generation_or_epoch,
                is_transactional: true,
                knows_consumer_groups: true,
            };
            let partitions = match group.check_commit(cx, &who) {
                Ok(()) => group.offsets.commit_pending(cx, producer, request.partitions),
                Err(error) => {
                    let partitions = request.partitions.into_iter();
                    partitions.map(|commit| PartitionResult { partition: commit.partition, error }).collect()
                }
            };
            cx.reply(to, Reply::TxnOffsetCommit(OffsetsCommitted { partitions }));
        });
        if self.groups.get(&id).is_some_and(|group| group.offsets.has_pending_of(producer)) {
            self.note_open(producer, &id, true);
            self.remember_producer(output, producer, epoch);
        }
        self.drop_if_nothing_was_written(&id);
    }

    fn check_txn_group(&mut self, request: &TxnOffsetCommit) -> Result<(), ErrorCode> {
        let known = self.producers.get(&request.producer);
        if request.group.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else if known.is_some_and(|known| request.producer_epoch < known.epoch) {
            Err(ErrorCode::InvalidProducerEpoch)
        } else if request.generation_or_epoch < 0 {
            self.ensure_group(&request.group)
        } else if self.groups.contains_key(&request.group) {
            Ok(())
        } else {
            Err(ErrorCode::IllegalGeneration)
        }
    }

    /// A transaction was decided. It may be told twice: the second time changes nothing.
    pub(super) fn on_transaction_ended(
        &mut self,
        output: &mut Output,
        producer: ProducerId,
        epoch: ProducerEpoch,
        committed: bool,
    ) {
        if self.producers.get(&producer).is_some_and(|known| epoch < known.epoch) {
            // A marker of a transaction that is long over.
            return;
        }
        for id in self.open.remove(&producer).unwrap_or_default() {
            self.with_group(&id, output, |group, cx| group.offsets.end_transaction(cx, producer, committed));
        }
        self.remember_producer(output, producer, epoch);
    }

    /// Keeps the highest epoch of a producer that was seen.
    fn remember_producer(&mut self, output: &mut Output, producer: ProducerId, epoch: ProducerEpoch) {
        if self.producers.get(&producer).is_some_and(|known| epoch <= known.epoch) {
            return;
        }
        let value = ProducerValue { epoch, since: self.now };
        self.producers.insert(producer, value);
        output.write(GroupRecord::Producer { producer, value: Some(value) });
    }

    /// Notes whether a group has offsets that wait for the end of this producer's transaction.
    pub(super) fn note_open(&mut self, producer: ProducerId, id: &GroupId, is_open: bool) {
        if is_open {
            self.open.entry(producer).or_default().insert(id.clone());
        } else if let Some(groups) = self.open.get_mut(&producer) {
            groups.remove(id);
            if groups.is_empty() {
                self.open.remove(&producer);
            }
        }
    }

    /// Notes that a group may have lost such offsets in another way.
    pub(super) fn note_closed(&mut self, id: &GroupId) {
        let offsets = self.groups.get(id).map(|group| &group.offsets);
        self.open.retain(|producer, groups| {
            if offsets.is_none_or(|offsets| !offsets.has_pending_of(*producer)) {
                groups.remove(id);
            }
            !groups.is_empty()
        });
    }

    /// Forgets producers without an open transaction that were not heard of for long.
    pub(super) fn expire_producers(&mut self, output: &mut Output, count_max: usize) {
        let retention = self.config.producer_retention;
        let over: Vec<ProducerId> = self
            .producers
            .iter()
            .filter(|(producer, value)| {
                value.since.plus(retention) <= self.now && !self.open.contains_key(*producer)
            })
            .map(|(producer, _)| *producer)
            .take(count_max)
            .collect();
        for producer in over {
            self.producers.remove(&producer);
            output.write(GroupRecord::Producer { producer, value: None });
        }
    }
}
