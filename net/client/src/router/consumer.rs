//! Follows one partition by subscription, wherever it is served.
use heddle_proto::batch::batches;
use heddle_proto::native::StartFrom;
use heddle_proto::{Offset, PartitionIndex};

use crate::error::ClientError;
use crate::router::{Environment, Router};
use crate::subscription::{Delivery, Subscription};

/// Reads one partition in order, and goes on where it was after its broker moved or the connection was lost.
#[derive(Debug)]
pub struct Consumer<E> {
    router: Router<E>,
    topic: String,
    partition: PartitionIndex,
    next: StartFrom,
    credit_bytes: u64,
    subscription: Option<Subscription>,
    failure_count: usize,
}

impl<E: Environment> Consumer<E> {
    /// A consumer that has not begun yet; at most `credit_bytes` (and one batch) are held in memory.
    pub fn new(
        router: Router<E>,
        topic: impl Into<String>,
        partition: PartitionIndex,
        from: StartFrom,
        credit_bytes: u64,
    ) -> Consumer<E> {
        let topic = topic.into();
        Consumer { router, topic, partition, next: from, credit_bytes, subscription: None, failure_count: 0 }
    }

    /// Where the next delivery begins.
    pub fn position(&self) -> StartFrom {
        self.next
    }

    /// Waits for the next batches. The first batch after a start may begin before the position: its records
    /// below it were delivered before, or not asked for.
    ///
    /// Errors after as many failures in a row as the router's options allow, or at once if trying again
    /// cannot help (such as an offset no longer held); calling again goes on from the same position. Dropping
    /// the future loses nothing.
    pub async fn next(&mut self) -> Result<Delivery, ClientError> {
        loop {
            let error = match self.try_next().await {
                Ok(delivery) => {
                    self.failure_count = 0;
                    return Ok(delivery);
                }
                Err(error) => error,
            };
            self.subscription = None;
            self.router.on_failure(&self.topic, &error);
            self.failure_count += 1;
            let given_up = self.failure_count >= self.router.inner.options.attempt_count_max;
            if given_up || !error.is_retryable() {
                self.failure_count = 0;
                return Err(error);
            }
            self.router.pause(self.failure_count).await;
        }
    }

    async fn try_next(&mut self) -> Result<Delivery, ClientError> {
        if self.subscription.is_none() {
            self.subscription = Some(self.subscribe().await?);
        }
        let Some(subscription) = &mut self.subscription else { return Err(ClientError::ConnectionClosed) };
        // A broker that ends a subscription without a reason no longer serves the partition.
        let delivery = subscription.next().await.unwrap_or(Err(ClientError::ConnectionClosed))?;
        self.next = StartFrom::Offset(next_offset(&delivery)?);
        Ok(delivery)
    }

    async fn subscribe(&mut self) -> Result<Subscription, ClientError> {
        let owner = self.router.locate(&self.topic, self.partition).await?;
        let begun = owner.client.subscribe(owner.topic, self.partition, self.next, self.credit_bytes).await?;
        self.next = StartFrom::Offset(begun.from());
        Ok(begun)
    }
}

/// The offset after the last batch of a delivery.
fn next_offset(delivery: &Delivery) -> Result<Offset, ClientError> {
    let mut next = None;
    for batch in batches(&delivery.batches) {
        let (header, _) = batch.map_err(|error| ClientError::Protocol(format!("a broken batch: {error}")))?;
        next = Some(header.next_offset());
    }
    next.ok_or_else(|| ClientError::Protocol("a push without batches".to_owned()))
}
