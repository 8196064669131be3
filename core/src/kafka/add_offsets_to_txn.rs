//! AddOffsetsToTxn: the offsets of a group become part of a transaction.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use heddle_proto::error::ErrorCode;

use super::{
    groups::text,
    transactional::{fenced, identity, join},
};
use crate::{coordinator::transaction::TransactionalId, metadata::internal::InternalTopic, shard::Shard};

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_SINCE: i16 = 2;

/// Answers one request.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: AddOffsetsToTxnRequest,
    version: i16,
) -> AddOffsetsToTxnResponse {
    let code = match add(shard, &request).await {
        Ok(()) => ErrorCode::None,
        Err(code) => fenced(code, version >= FENCED_SINCE),
    };
    AddOffsetsToTxnResponse::default().with_error_code(code.code())
}

async fn add<D: Disk>(shard: &Rc<Shard<D>>, request: &AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    let made = shard.ensure_internal_topic(InternalTopic::Groups, shard.config.group_partition_count).await;
    made.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
    let at = shard.internal_partition(InternalTopic::Groups, &request.group_id);
    let at = at.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let id = TransactionalId::new(text(&request.transactional_id));
    join(shard, &id, identity(request.producer_id.0, request.producer_epoch), vec![at], true).await
}
