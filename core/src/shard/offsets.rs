//! Operations on offsets: list, delete records, describe.

use std::{rc::Rc, time::Duration};

use heddle_log_store::{Disk, ReadError};
use heddle_proto::{
    error::ErrorCode,
    ids::{CoreId, Epoch, Offset, Timestamp, TopicPartition},
    native::StartFrom,
};

use super::{
    Shard,
    produce::stopping,
    request::{AskEpochs, CoreReply, CoreRequest, OpError, PartitionFacts},
};
use crate::{
    metadata::internal::InternalTopic,
    partition::{Partition, fetch::read_failure, transactions::Isolation},
};

impl<D: Disk> Shard<D> {
    /// Finds an offset of a partition: the first, the one after the last that `isolation` lets the reader see, or the first record at or after a
    /// timestamp (`None` when there is none).
    ///
    /// # Errors
    /// When the partition is not here or cannot be read.
    pub async fn find_offset(
        self: &Rc<Self>,
        at: TopicPartition,
        from: StartFrom,
        isolation: Isolation,
    ) -> Result<Option<(Offset, Timestamp)>, OpError> {
        let core = self.owner(at)?;
        if core == self.core() {
            return self.find_offset_here(at, from, isolation).await;
        }
        match self.hop(core, CoreRequest::FindOffset { at, from, isolation }).await? {
            CoreReply::Offset(result) => result,
            _ => Err(stopping()),
        }
    }

    /// [`Shard::find_offset`] for a partition of this core.
    ///
    /// # Errors
    /// As there.
    pub async fn find_offset_here(
        &self,
        at: TopicPartition,
        from: StartFrom,
        isolation: Isolation,
    ) -> Result<Option<(Offset, Timestamp)>, OpError> {
        let partition = self.partition(at)?;
        if matches!(from, StartFrom::Latest | StartFrom::Timestamp(_)) {
            self.wait_until_known(&partition).await?;
        }
        match from {
            StartFrom::Earliest => Ok(Some((partition.start(), Timestamp::NONE))),
            StartFrom::Latest => Ok(Some((partition.readable(isolation), Timestamp::NONE))),
            StartFrom::Offset(offset) => Ok(Some((offset, Timestamp::NONE))),
            StartFrom::Timestamp(time) => {
                let found = partition.log().offset_at(time).await;
                let found = found.map_err(|error| failure(&partition.topic, at, &error))?;
                Ok(found.filter(|(offset, _)| *offset < partition.readable(isolation)))
            }
        }
    }

    /// A new leader hears what is committed from its backups: until then it tells no end, since a smaller one than was told
    /// before would have readers begin anew.
    async fn wait_until_known(&self, partition: &Rc<Partition<D>>) -> Result<(), OpError> {
        const PAUSE: Duration = Duration::from_millis(5);
        const PATIENCE: u32 = 200;
        for _ in 0..PATIENCE {
            if partition.knows_committed() || !partition.leads() {
                break;
            }
            crate::runtime::time::sleep(PAUSE).await;
        }
        match (partition.leads(), partition.knows_committed()) {
            (false, _) => Err(OpError::new(ErrorCode::NotLeaderOrFollower, "another replica leads by now")),
            (true, false) => Err(OpError::new(
                ErrorCode::OffsetNotAvailable,
                "this replica has been elected and does not know yet what is committed",
            )),
            (true, true) => Ok(()),
        }
    }

    /// Finds the record with the largest timestamp of a partition.
    ///
    /// # Errors
    /// When the partition is not here or cannot be read.
    pub async fn find_max_timestamp(
        self: &Rc<Self>,
        at: TopicPartition,
    ) -> Result<Option<(Offset, Timestamp)>, OpError> {
        let core = self.owner(at)?;
        if core != self.core() {
            return match self.hop(core, CoreRequest::FindMaxTimestamp { at }).await? {
                CoreReply::Offset(result) => result,
                _ => Err(stopping()),
            };
        }
        let partition = self.partition(at)?;
        let found = partition.log().max_timestamp().await;
        found.map_err(|error| failure(&partition.topic, at, &error))
    }

    /// Asks the history of a partition's epochs.
    ///
    /// # Errors
    /// When the partition is not here.
    pub async fn epochs(
        self: &Rc<Self>,
        at: TopicPartition,
        ask: AskEpochs,
    ) -> Result<Option<(Epoch, Offset)>, OpError> {
        let core = self.owner(at)?;
        if core == self.core() {
            return self.epochs_here(at, ask);
        }
        match self.hop(core, CoreRequest::Epochs { at, ask }).await? {
            CoreReply::Epochs(result) => result,
            _ => Err(stopping()),
        }
    }

    /// [`Shard::epochs`] for a partition of this core.
    ///
    /// # Errors
    /// As there.
    pub fn epochs_here(
        &self,
        at: TopicPartition,
        ask: AskEpochs,
    ) -> Result<Option<(Epoch, Offset)>, OpError> {
        let partition = self.partition(at)?;
        Ok(match ask {
            AskEpochs::EndOf(epoch) => partition.epoch_end(epoch),
            AskEpochs::Holding(offset) => partition.epoch_holding(offset),
        })
    }

    /// Deletes the records before an offset; gives the new first offset, durable.
    ///
    /// # Errors
    /// When the partition is not here, or the offset is past what is committed.
    pub async fn delete_records(
        self: &Rc<Self>,
        at: TopicPartition,
        before: Option<Offset>,
    ) -> Result<Offset, OpError> {
        let core = self.owner(at)?;
        if core == self.core() {
            return self.delete_records_here(at, before).await;
        }
        match self.hop(core, CoreRequest::DeleteRecords { at, before }).await? {
            CoreReply::Start(result) => result,
            _ => Err(stopping()),
        }
    }

    /// [`Shard::delete_records`] for a partition of this core.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_records_here(
        &self,
        at: TopicPartition,
        before: Option<Offset>,
    ) -> Result<Offset, OpError> {
        let partition = self.partition(at)?;
        if InternalTopic::of(&partition.topic).is_some() {
            let message = format!("'{}' is an internal topic: the broker alone keeps it", partition.topic);
            return Err(OpError::new(ErrorCode::InvalidTopicException, message));
        }
        if !partition.config().deletes {
            let message =
                format!("{}: records are deleted only where cleanup.policy has delete", partition.topic);
            return Err(OpError::new(ErrorCode::PolicyViolation, message));
        }
        let committed = partition.committed();
        let before = before.unwrap_or(committed);
        if before > committed || before < Offset::ZERO {
            return Err(OpError::new(
                ErrorCode::OffsetOutOfRange,
                format!("records can be deleted up to offset {committed}; {before} was asked for"),
            ));
        }
        let start = partition.log().delete_records(before).await;
        // Readers are told the new first offset.
        partition.wake();
        start.map_err(|error| failure(&partition.topic, at, &error))
    }

    /// What is known about partitions, in the order asked for.
    pub async fn describe(
        self: &Rc<Self>,
        partitions: &[TopicPartition],
    ) -> Vec<Result<PartitionFacts, OpError>> {
        let mut facts: Vec<Result<PartitionFacts, OpError>> =
            partitions.iter().map(|at| Err(self.owner(*at).err().unwrap_or_else(stopping))).collect();
        for (core, indexes) in self.by_owner(partitions, |at| *at) {
            let places: Vec<TopicPartition> = indexes.iter().map(|index| partitions[*index]).collect();
            let found = if core == self.core() {
                places.into_iter().map(|at| self.describe_here(at)).collect()
            } else {
                match self.hop(core, CoreRequest::Describe { partitions: places }).await {
                    Ok(CoreReply::Facts(found)) => found,
                    _ => continue,
                }
            };
            indexes.into_iter().zip(found).for_each(|(index, found)| facts[index] = found);
        }
        facts
    }

    /// What is known about a partition of this core.
    ///
    /// # Errors
    /// When it is not this core's.
    pub fn describe_here(&self, at: TopicPartition) -> Result<PartitionFacts, OpError> {
        let partition = self.partition(at)?;
        Ok(PartitionFacts {
            epoch: partition.epoch(),
            start: partition.start(),
            committed: partition.committed(),
            size_bytes: partition.log().size_bytes(),
        })
    }

    pub(super) async fn hop(&self, core: CoreId, request: CoreRequest) -> Result<CoreReply, OpError> {
        self.metrics.mesh_hops.add(1);
        self.mesh.ask(core, request).await.map_err(|_| stopping())
    }
}

fn failure(topic: &str, at: TopicPartition, error: &ReadError) -> OpError {
    OpError::new(ErrorCode::KafkaStorageError, format!("{topic}/{}: {}", at.partition, read_failure(error)))
}
