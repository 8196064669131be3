//! Operations on the transactions of a partition: may a producer write in one, end one, list the producers.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_proto::{
    error::ErrorCode,
    ids::{ProducerEpoch, ProducerId, TopicPartition},
};

use super::{
    Shard,
    produce::{settle, stopping},
    request::{CoreReply, CoreRequest, OpError},
};
use crate::{
    partition::{
        producers::ProducerFacts,
        transactions::{EndError, EndTransaction, Standing},
    },
    runtime::time,
};

impl<D: Disk> Shard<D> {
    /// Whether a producer's transaction is open in a partition, or its coordinator must be asked first.
    ///
    /// # Errors
    /// When the partition is not here.
    pub async fn standing(
        self: &Rc<Self>,
        at: TopicPartition,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<Standing, OpError> {
        let core = self.owner(at)?;
        if core == self.core() {
            return self.standing_here(at, producer, epoch);
        }
        match self.hop(core, CoreRequest::Standing { at, producer, epoch }).await? {
            CoreReply::Standing(result) => result,
            _ => Err(stopping()),
        }
    }

    /// [`Shard::standing`] for a partition of this core.
    ///
    /// # Errors
    /// As there.
    pub fn standing_here(
        &self,
        at: TopicPartition,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<Standing, OpError> {
        Ok(self.partition(at)?.standing(producer, epoch))
    }

    /// Ends a producer's transaction in a partition. Durable on return, whatever the topic's durability: the coordinator
    /// forgets the transaction then.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` and `UnknownTopicOrPartition` when there is nothing to end any more; others pass.
    pub async fn end_transaction(
        self: &Rc<Self>,
        at: TopicPartition,
        end: EndTransaction,
    ) -> Result<(), OpError> {
        let core = self.owner(at)?;
        if core == self.core() {
            return self.end_transaction_here(at, end).await;
        }
        match self.hop(core, CoreRequest::EndTransaction { at, end }).await? {
            CoreReply::Ended(result) => result,
            _ => Err(stopping()),
        }
    }

    /// [`Shard::end_transaction`] for a partition of this core.
    ///
    /// # Errors
    /// As there.
    pub async fn end_transaction_here(&self, at: TopicPartition, end: EndTransaction) -> Result<(), OpError> {
        if self.is_stopping() {
            return Err(stopping());
        }
        let partition = self.partition(at)?;
        let refusal = |error: &EndError| {
            OpError::new(error.code(), format!("{}/{}: {error}", partition.topic, at.partition))
        };
        let accepted = partition.end_transaction(end, time::now()).map_err(|error| refusal(&error))?;
        settle(accepted).await?;
        partition.log().flush().await.map_err(|_| refusal(&EndError::Deleted))
    }

    /// The producers a partition knows.
    ///
    /// # Errors
    /// When the partition is not here.
    pub async fn producers(self: &Rc<Self>, at: TopicPartition) -> Result<Vec<ProducerFacts>, OpError> {
        let core = self.owner(at)?;
        if core == self.core() {
            return self.producers_here(at);
        }
        match self.hop(core, CoreRequest::Producers { at }).await? {
            CoreReply::Producers(result) => result,
            _ => Err(stopping()),
        }
    }

    /// [`Shard::producers`] for a partition of this core.
    ///
    /// # Errors
    /// As there.
    pub fn producers_here(&self, at: TopicPartition) -> Result<Vec<ProducerFacts>, OpError> {
        Ok(self.partition(at)?.producer_facts())
    }
}

/// Whether a partition has nothing to end any more: the coordinator counts it as done.
pub fn is_over(error: &OpError) -> bool {
    matches!(error.code, ErrorCode::InvalidProducerEpoch | ErrorCode::UnknownTopicOrPartition)
}
