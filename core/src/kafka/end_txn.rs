//! EndTxn: commits or aborts. Answered when the markers are written, so that what was committed is visible then.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{EndTxnRequest, EndTxnResponse, ProducerId};
use heddle_proto::{batch::Outcome, error::ErrorCode};

use super::{
    groups::text,
    transactional::{fenced, identity},
};
use crate::{
    coordinator::transaction::{EndTxn, ProducerIdentity, Refusal, Reply, Request, TransactionalId},
    shard::Shard,
};

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_SINCE: i16 = 2;

/// The first version in which every transaction has an epoch of its own (KIP-890).
const RAISES_SINCE: i16 = 5;

/// Answers one request.
pub async fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: EndTxnRequest, version: i16) -> EndTxnResponse {
    let raises_epoch = version >= RAISES_SINCE;
    match end(shard, &request, raises_epoch).await {
        Ok(producer) if raises_epoch => EndTxnResponse::default()
            .with_producer_id(ProducerId(producer.id.get()))
            .with_producer_epoch(producer.epoch.get()),
        Ok(_) => EndTxnResponse::default(),
        Err(code) => EndTxnResponse::default().with_error_code(fenced(code, version >= FENCED_SINCE).code()),
    }
}

async fn end<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: &EndTxnRequest,
    raises_epoch: bool,
) -> Result<ProducerIdentity, ErrorCode> {
    let id = TransactionalId::new(text(&request.transactional_id));
    let producer = identity(request.producer_id.0, request.producer_epoch);
    let outcome = if request.committed { Outcome::Commit } else { Outcome::Abort };
    let ask = |fresh| Request::EndTxn(EndTxn { id: id.clone(), producer, outcome, raises_epoch, fresh });
    match shard.ask_transactions_with_id(&id, ask).await? {
        Reply::EndTxn(Ok(producer)) => Ok(producer),
        Reply::EndTxn(Err(Refusal::Error(code))) => Err(code),
        Reply::EndTxn(Err(Refusal::NeedsProducerId)) => Err(ErrorCode::CoordinatorNotAvailable),
        other => unreachable!("EndTxn was answered with {other:?}"),
    }
}
