//! What the requests of transactional producers share: who asks, which error an old client understands, and the permit
//! by which a produced batch begins a transaction in a partition.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_proto::{
    batch::BatchHeader,
    error::ErrorCode,
    ids::{ProducerEpoch, ProducerId, TopicPartition},
};

use crate::{
    cluster::remote::{Ask, Take},
    coordinator::transaction::{
        AddPartitions, ProducerIdentity, Reply, Request, TransactionalId, VerifyPartitions,
    },
    metadata::internal::InternalTopic,
    partition::transactions::{Permit, Standing},
    shard::{Shard, request::OpError},
};

/// From this version on Produce adds a partition to the transaction by itself (KIP-890).
pub const PRODUCE_ADDS_SINCE: i16 = 12;

/// From this version on TxnOffsetCommit adds a group to the transaction by itself (KIP-890).
pub const OFFSETS_ADD_SINCE: i16 = 5;

/// A producer as a client names it.
pub fn identity(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id: ProducerId::new(id), epoch: ProducerEpoch::new(epoch) }
}

/// The code for clients of before PRODUCER_FENCED: `knows_fenced` is whether this one knows it.
pub fn fenced(code: ErrorCode, knows_fenced: bool) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if !knows_fenced => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}

/// Makes sure that partitions are part of the producer's open transaction: adds them, or only looks.
///
/// # Errors
/// What the client is to be told.
pub async fn join<D: Disk>(
    shard: &Rc<Shard<D>>,
    id: &TransactionalId,
    producer: ProducerIdentity,
    partitions: Vec<TopicPartition>,
    adds: bool,
) -> Result<(), ErrorCode> {
    let coordinator = shard.internal_partition(InternalTopic::Transactions, id.as_str());
    let Some(node) = coordinator.and_then(|at| shard.leader_elsewhere(at)) else {
        return join_here(shard, id, producer, partitions, adds).await;
    };
    let (name, epoch) = (id.as_str().to_owned(), producer.epoch.get());
    let take = Take { id: name, producer: producer.id.get(), epoch, partitions, adds };
    shard.ask_node(node, Ask::Take(take)).await.map_err(|error| error.code)
}

/// [`join`] where this node is the coordinator.
///
/// # Errors
/// As there.
pub async fn join_here<D: Disk>(
    shard: &Rc<Shard<D>>,
    id: &TransactionalId,
    producer: ProducerIdentity,
    partitions: Vec<TopicPartition>,
    adds: bool,
) -> Result<(), ErrorCode> {
    let request = match adds {
        true => Request::AddPartitions(AddPartitions { id: id.clone(), producer, partitions }),
        false => Request::VerifyPartitions(VerifyPartitions { id: id.clone(), producer, partitions }),
    };
    match shard.ask_transactions_patiently(id, request).await? {
        Reply::AddPartitions(answer) => answer,
        Reply::VerifyPartitions(answer) => match answer?.iter().all(|is_part| *is_part) {
            true => Ok(()),
            false => Err(ErrorCode::InvalidTxnState),
        },
        other => unreachable!("a transaction was joined and answered with {other:?}"),
    }
}

fn is_internal<D: Disk>(shard: &Rc<Shard<D>>, at: TopicPartition) -> bool {
    let image = shard.image();
    image.topic_by_id(at.topic).is_some_and(|topic| InternalTopic::of(&topic.name).is_some())
}

/// What the batches of a transactional request need to be appended: nothing where the transaction is open already, else
/// the word of the coordinator.
///
/// # Errors
/// What the client is to be told.
pub async fn permit<D: Disk>(
    shard: &Rc<Shard<D>>,
    id: &TransactionalId,
    at: TopicPartition,
    records: &[u8],
    version: i16,
) -> Result<Option<Permit>, OpError> {
    // Batches that cannot be read are refused where they would be appended.
    let Ok(header) = BatchHeader::parse(records) else { return Ok(None) };
    // The same for topics that only the broker writes to: no transaction may end there.
    if !header.is_transactional() || is_internal(shard, at) {
        return Ok(None);
    }
    let producer = ProducerIdentity { id: header.producer_id, epoch: header.producer_epoch };
    let guard = match shard.standing(at, producer.id, producer.epoch).await? {
        Standing::Open => return Ok(None),
        Standing::Ask(guard) => guard,
    };
    let adds = version >= PRODUCE_ADDS_SINCE;
    match join(shard, id, producer, vec![at], adds).await {
        Ok(()) => Ok(Some(Permit { guard, has_own_epoch: adds })),
        Err(code) => {
            let code = match code {
                ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
                // What a client of the first version tries again.
                ErrorCode::ConcurrentTransactions
                | ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::CoordinatorLoadInProgress
                    if !adds =>
                {
                    ErrorCode::NotEnoughReplicas
                }
                code => code,
            };
            Err(OpError::new(code, format!("the coordinator of transactional id '{id}' does not allow it")))
        }
    }
}
