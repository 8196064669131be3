//! DescribeTransactions and ListTransactions: what operators ask.

use super::{
    coordinator::{Entry, Output, TransactionCoordinator},
    message::{Described, ListTransactions, Listed, Reply, TransactionalId},
    state::State,
};
use crate::coordinator::group::RequestId;

impl TransactionCoordinator {
    pub(super) fn on_describe(&mut self, output: &mut Output, to: RequestId, id: &TransactionalId) {
        let described = self.entries.get(id).map(|entry| {
            let known = &entry.transaction;
            Described {
                producer: known.producer,
                state: known.state,
                timeout: known.timeout,
                started: known.started,
                partitions: known.partitions.iter().copied().collect(),
            }
        });
        output.reply(to, Reply::Describe(described), id);
    }

    pub(super) fn on_list(&mut self, output: &mut Output, to: RequestId, request: &ListTransactions) {
        let listed = self.entries.iter().filter(|(_, entry)| self.is_wanted(entry, request));
        let listed = listed.map(|(id, entry)| Listed {
            id: id.clone(),
            producer: entry.transaction.producer.id,
            state: entry.transaction.state,
        });
        let listed = listed.collect();
        output.reply_about_all(to, Reply::List(listed));
    }

    fn is_wanted(&self, entry: &Entry, request: &ListTransactions) -> bool {
        let known = &entry.transaction;
        let is_old = |span| {
            let started = known.started.filter(|_| known.state == State::Ongoing);
            started.is_some_and(|started| started.plus(span) < self.now)
        };
        (request.states.is_empty() || request.states.contains(&known.state))
            && (request.producers.is_empty() || request.producers.contains(&known.producer.id))
            && request.open_for.is_none_or(is_old)
    }
}
