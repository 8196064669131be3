//! The produce operation: to this core's partition, or over the mesh to its owner.

use std::rc::Rc;

use bytes::BytesMut;
use heddle_log_store::Disk;
use heddle_proto::{
    error::ErrorCode,
    ids::{Epoch, TopicPartition},
};

use super::{
    Shard,
    request::{CoreReply, CoreRequest, OpError, Produced},
};
use crate::{
    admin::stages::Arrival,
    metadata::internal::InternalTopic,
    partition::{
        produce::{Accepted, Acks, ProduceError},
        transactions::Permit,
    },
    runtime::{oneshot::Receiver, time},
};

/// An append that was admitted: its place in the log is fixed, its safety is not yet.
pub struct Ticket<D: Disk> {
    shard: Rc<Shard<D>>,
    arrival: Arrival,
    state: State,
}

enum State {
    Here(Accepted),
    There(Receiver<CoreReply>),
    Refused(OpError),
}

impl<D: Disk> Ticket<D> {
    /// Waits until the records are as safe as was asked.
    ///
    /// # Errors
    /// The refusal, as the client is to see it.
    pub async fn settled(self) -> Result<Produced, OpError> {
        let result = match self.state {
            State::Here(accepted) => settle(accepted).await,
            State::There(reply) => match reply.await {
                Ok(CoreReply::Produced(result)) => result,
                _ => Err(stopping()),
            },
            State::Refused(error) => Err(error),
        };
        match &result {
            Ok(produced) => self.shard.metrics.stages.appended(self.arrival, &produced.times),
            Err(error) => self.shard.metrics.refused(error.code),
        }
        result
    }
}

impl<D: Disk> Shard<D> {
    /// Appends whole batches to a partition. Returns once their order is fixed, which on this core is at once if there is memory; calls of
    /// one connection, made one after the other, are appended in that order.
    pub async fn produce(
        self: &Rc<Self>,
        at: TopicPartition,
        records: BytesMut,
        epoch: Option<Epoch>,
        acks: Acks,
        permit: Option<Permit>,
        arrival: Arrival,
    ) -> Ticket<D> {
        self.metrics.produce_requests.add(1);
        let owner = match self.owner(at) {
            Ok(core) if !self.is_handing_over() => Ok(core),
            _ => {
                self.wait_for_leader(at, arrival.decoded).await;
                self.owner(at)
            }
        };
        let state = match owner {
            Err(error) => State::Refused(error),
            Ok(core) if core == self.core() => {
                // There was room when the request was let in, but others may have been let in at the same time.
                self.wait_for_room(records.len()).await;
                match self.append(at, records, epoch, acks, permit) {
                    Ok(accepted) => State::Here(accepted),
                    Err(error) => State::Refused(error),
                }
            }
            Ok(core) => {
                self.metrics.mesh_hops.add(1);
                let request = CoreRequest::Produce { at, records, epoch, acks, permit };
                match self.mesh.call(core, request).await {
                    Ok(reply) => State::There(reply),
                    Err(_) => State::Refused(stopping()),
                }
            }
        };
        Ticket { shard: self.clone(), arrival, state }
    }

    /// A request that is refused before it comes to a partition.
    pub fn refuse(self: &Rc<Self>, error: OpError, arrival: Arrival) -> Ticket<D> {
        self.metrics.produce_requests.add(1);
        Ticket { shard: self.clone(), arrival, state: State::Refused(error) }
    }

    /// Appends to a partition of this core.
    ///
    /// # Errors
    /// The refusal, as the client is to see it; nothing was written.
    pub fn append(
        &self,
        at: TopicPartition,
        records: BytesMut,
        epoch: Option<Epoch>,
        acks: Acks,
        permit: Option<Permit>,
    ) -> Result<Accepted, OpError> {
        if self.is_stopping() {
            return Err(stopping());
        }
        let partition = self.partition(at)?;
        if InternalTopic::of(&partition.topic).is_some() {
            return Err(OpError::new(
                ErrorCode::InvalidTopicException,
                format!("'{}' is an internal topic: only the broker writes to it", partition.topic),
            ));
        }
        self.metrics.produce_bytes.add(records.len() as u64);
        partition
            .produce_permitted(records, epoch, acks, permit, time::now())
            .map_err(|error| refusal(&error, &partition.topic, at))
    }
}

/// Waits for an append of this core.
///
/// # Errors
/// When the partition was deleted meanwhile.
pub async fn settle(accepted: Accepted) -> Result<Produced, OpError> {
    let (base_offset, append_time, start) = (accepted.base_offset, accepted.append_time, accepted.start);
    match accepted.settled().await {
        Ok(times) => Ok(Produced { base_offset, append_time, start, times }),
        // Not NOT_LEADER_OR_FOLLOWER: clients take that for a promise that nothing was written, and would write it again under
        // a new producer epoch where nobody can tell that it is a retry.
        Err(_) => Err(OpError::new(
            ErrorCode::NotEnoughReplicasAfterAppend,
            "before the records were safe, this node lost touch with the majority of its cluster or leads the partition \
             no more, too few of its replicas are in sync, or it was deleted",
        )),
    }
}

fn refusal(error: &ProduceError, topic: &str, at: TopicPartition) -> OpError {
    let told = OpError::new(error.code(), format!("{topic}/{}: {error}", at.partition));
    OpError { faults: error.faults().to_vec(), ..told }
}

/// What a client is told while the broker stops: it finds another broker, or this one again later.
pub fn stopping() -> OpError {
    OpError::new(ErrorCode::NotLeaderOrFollower, "the broker is shutting down")
}
