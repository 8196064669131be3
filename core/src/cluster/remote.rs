//! What the coordinators and partitions of one node ask those of another, by way of core 0 of both.
//!
//! Clients talk to whoever leads a partition; these are the few things that brokers do among each other: a transaction ends
//! in partitions that other nodes lead, and a partition asks the coordinator of a transaction that another node leads.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_proto::{
    batch::Outcome,
    error::ErrorCode,
    ids::{CoreId, NodeId, ProducerEpoch, ProducerId, TopicPartition},
};

use super::message::Reply;
use crate::{
    coordinator::transaction::{ProducerIdentity, TransactionalId},
    fields::{enum_fields, struct_fields},
    kafka::transactional,
    partition::transactions::EndTransaction,
    shard::{
        Shard,
        request::{CoreReply, CoreRequest, OpError},
    },
};

/// A question or an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// End a transaction in a partition, or the offsets of it in a partition of the groups' topic.
    End(End),
    /// Make sure that partitions are part of a transaction.
    Take(Take),
}

/// See [`EndTransaction`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Where.
    pub at: TopicPartition,
    /// Whose.
    pub producer: i64,
    /// The producer's epoch.
    pub epoch: i16,
    /// It was committed, not aborted.
    pub is_commit: bool,
    /// Generation of the coordinator.
    pub coordinator_epoch: i32,
}

/// See [`transactional::join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// The transaction.
    pub id: String,
    /// The producer's id.
    pub producer: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Which.
    pub partitions: Vec<TopicPartition>,
    /// Adds them, where they are not part of it.
    pub adds: bool,
}

enum_fields!(Ask { 0 => End(end), 1 => Take(take) });
struct_fields!(End { at, producer, epoch, is_commit, coordinator_epoch });
struct_fields!(Take { id, producer, epoch, partitions, adds });

impl<D: Disk> Shard<D> {
    /// The other node that leads a partition, if one does.
    pub fn leader_elsewhere(&self, at: TopicPartition) -> Option<u32> {
        let image = self.image();
        let partition = image.topic_by_id(at.topic)?.partition(at.partition)?;
        let is_elsewhere = partition.leader != self.node.get() && partition.electing == 0;
        (is_elsewhere && image.nodes.contains_key(&partition.leader)).then_some(partition.leader)
    }

    /// Asks another node.
    ///
    /// # Errors
    /// Its refusal, or that it cannot be reached.
    pub async fn ask_node(self: &Rc<Self>, node: u32, ask: Ask) -> Result<(), OpError> {
        let reply = match &self.metadata {
            Some(session) => session.ask(NodeId::new(node), ask).await,
            None => match self.mesh.ask(CoreId::new(0), CoreRequest::AskNode(node, ask)).await {
                Ok(CoreReply::Asked(reply)) => reply,
                _ => None,
            },
        };
        match reply {
            Some(Reply::Asked(code)) if code == ErrorCode::None.code() => Ok(()),
            Some(Reply::Asked(code)) => {
                Err(OpError::new(ErrorCode::from_code_lossy(code), format!("node {node} refuses")))
            }
            _ => {
                Err(OpError::new(ErrorCode::CoordinatorNotAvailable, format!("node {node} does not answer")))
            }
        }
    }

    /// Answers another node, here on core 0.
    pub async fn answer_node(self: &Rc<Self>, ask: Ask) -> Reply {
        let code = match ask {
            Ask::End(end) => {
                let order = EndTransaction {
                    producer: ProducerId::new(end.producer),
                    epoch: ProducerEpoch::new(end.epoch),
                    outcome: if end.is_commit { Outcome::Commit } else { Outcome::Abort },
                    coordinator_epoch: end.coordinator_epoch,
                };
                self.end_in(end.at, order).await.map_or_else(|error| error.code, |()| ErrorCode::None)
            }
            Ask::Take(take) => {
                let producer = ProducerIdentity {
                    id: ProducerId::new(take.producer),
                    epoch: ProducerEpoch::new(take.epoch),
                };
                let id = TransactionalId::new(take.id);
                let taken = transactional::join_here(self, &id, producer, take.partitions, take.adds).await;
                taken.err().unwrap_or(ErrorCode::None)
            }
        };
        Reply::Asked(code.code())
    }
}
