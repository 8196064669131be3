//! ListTransactions: the transactional ids of this node, filtered by state, producer, age and name.

use std::{rc::Rc, time::Duration};

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId,
    list_transactions_response::TransactionState,
};
use heddle_proto::{error::ErrorCode, ids};

use super::words;
use crate::{
    coordinator::{
        pattern::compile_whole,
        transaction::{ListTransactions, Listed, State},
    },
    shard::Shard,
};

/// The longest expression for names, in bytes: no transactional id of a sensible length needs more.
const PATTERN_BYTES_MAX: usize = 1024;

/// Answers one request. States nobody knows are named in the reply and match nothing.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let state_of = |name: &str| State::ALL.into_iter().find(|state| state.name() == name);
    let (known, unknown): (Vec<_>, Vec<_>) =
        request.state_filters.into_iter().partition(|name| state_of(name).is_some());
    let reply = ListTransactionsResponse::default();
    if known.is_empty() && !unknown.is_empty() {
        return reply.with_unknown_state_filters(unknown);
    }
    let pattern = request.transactional_id_pattern.filter(|pattern| !pattern.is_empty());
    let regex = match pattern
        .map(|pattern| (pattern.len() <= PATTERN_BYTES_MAX).then(|| compile_whole(&pattern)).flatten())
    {
        Some(None) => return reply.with_error_code(ErrorCode::InvalidRegularExpression.code()),
        Some(regex) => regex,
        None => None,
    };
    let is_meant = |listed: &&Listed| regex.as_ref().is_none_or(|regex| regex.is_match(listed.id.as_str()));
    let asked = ListTransactions {
        states: known.iter().filter_map(|name| state_of(name)).collect(),
        producers: request.producer_id_filters.iter().map(|id| ids::ProducerId::new(id.0)).collect(),
        open_for: u64::try_from(request.duration_filter).ok().map(Duration::from_millis),
    };
    let reply = reply.with_unknown_state_filters(unknown);
    match shard.list_transactions(asked).await {
        Ok(listed) => reply.with_transaction_states(listed.iter().filter(is_meant).map(line).collect()),
        Err(code) => reply.with_error_code(code.code()),
    }
}

fn line(listed: &Listed) -> TransactionState {
    TransactionState::default()
        .with_transactional_id(words(listed.id.as_str()).into())
        .with_producer_id(ProducerId(listed.producer.get()))
        .with_transaction_state(words(listed.state.name()))
}
