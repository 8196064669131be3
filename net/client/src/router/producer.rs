//! Appends batches to partitions by name, wherever they are served.
use bytes::Bytes;
use heddle_proto::PartitionIndex;

use crate::call::Produced;
use crate::client::{Acks, ProduceTo};
use crate::error::ClientError;
use crate::router::{Environment, Located, Router};

/// Produces through a [`Router`].
///
/// Calls may overlap. Overlapping calls for one partition keep their order as long as none of them is tried
/// again; who needs the order in every case awaits each call, or gives the batches a producer id and
/// sequences.
#[derive(Debug)]
pub struct Producer<E> {
    router: Router<E>,
    acks: Acks,
}

impl<E> Clone for Producer<E> {
    fn clone(&self) -> Producer<E> {
        Producer { router: self.router.clone(), acks: self.acks }
    }
}

impl<E: Environment> Producer<E> {
    /// A producer that wants `acks`.
    pub fn new(router: Router<E>, acks: Acks) -> Producer<E> {
        Producer { router, acks }
    }

    /// Appends one or more record batches, trying again where that may help.
    pub async fn produce(
        &self,
        topic: &str,
        partition: PartitionIndex,
        batches: Bytes,
    ) -> Result<Produced, ClientError> {
        let produce =
            |owner: &Located| owner.client.produce(ProduceTo::from(owner), self.acks, batches.clone());
        self.router.at_owner(topic, partition, produce).await
    }
}
