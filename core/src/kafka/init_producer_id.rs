//! InitProducerId: an id for an idempotent producer.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use heddle_proto::error::ErrorCode;

use crate::shard::Shard;

/// Answers one request. Producers with a transactional id are told that no coordinator can serve them.
pub async fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refused = |code: ErrorCode| {
        InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if request.transactional_id.is_some() {
        return refused(ErrorCode::UnsupportedVersion);
    }
    match shard.new_producer().await {
        Ok((id, epoch)) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id.get()))
            .with_producer_epoch(epoch.get()),
        Err(error) => refused(error.code),
    }
}
