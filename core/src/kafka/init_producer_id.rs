//! InitProducerId: an id for an idempotent producer, or a new life for a transactional one.

use std::{rc::Rc, time::Duration};

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use heddle_proto::error::ErrorCode;

use super::{
    groups::text,
    transactional::{fenced, identity},
};
use crate::{
    coordinator::transaction::{InitProducerId, ProducerIdentity, Refusal, Reply, Request, TransactionalId},
    shard::Shard,
};

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_SINCE: i16 = 4;

/// Answers one request.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: InitProducerIdRequest,
    version: i16,
) -> InitProducerIdResponse {
    let current = match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => Ok(None),
        (-1, _) | (_, -1) => Err(ErrorCode::InvalidRequest),
        (id, epoch) => Ok(Some(identity(id, epoch))),
    };
    let found = match (&request.transactional_id, current) {
        (_, Err(code)) => Err(code),
        (None, Ok(_)) => {
            shard.new_producer().await.map(|(id, epoch)| ProducerIdentity { id, epoch }).map_err(|e| e.code)
        }
        (Some(id), Ok(current)) => {
            let timeout = u64::try_from(request.transaction_timeout_ms).unwrap_or(0);
            let timeout = Duration::from_millis(timeout);
            begin_life(shard, &TransactionalId::new(text(id)), timeout, current).await
        }
    };
    match found {
        Ok(producer) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(producer.id.get()))
            .with_producer_epoch(producer.epoch.get()),
        Err(code) => InitProducerIdResponse::default()
            .with_error_code(fenced(code, version >= FENCED_SINCE).code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

async fn begin_life<D: Disk>(
    shard: &Rc<Shard<D>>,
    id: &TransactionalId,
    timeout: Duration,
    current: Option<ProducerIdentity>,
) -> Result<ProducerIdentity, ErrorCode> {
    let ask = |fresh| Request::InitProducerId(InitProducerId { id: id.clone(), timeout, current, fresh });
    match shard.ask_transactions_with_id(id, ask).await? {
        Reply::InitProducerId(Ok(producer)) => Ok(producer),
        Reply::InitProducerId(Err(Refusal::Error(code))) => Err(code),
        Reply::InitProducerId(Err(Refusal::NeedsProducerId)) => Err(ErrorCode::CoordinatorNotAvailable),
        other => unreachable!("InitProducerId was answered with {other:?}"),
    }
}
