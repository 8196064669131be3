//! The coordinator: all transactional ids of one partition of the internal topic, and the way from an input to its effects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use heddle_proto::{error::ErrorCode, ids::ProducerId};

use super::{
    config::TransactionConfig,
    effects::{Effects, Held, Write},
    message::{EndMarkers, ProducerIdentity, Reply, Request, TransactionalId},
    record::TransactionRecord,
    state::{State, Transaction},
};
use crate::coordinator::group::{Millis, RequestId, WriteSequence};

/// One id with what is not durable of it.
pub(super) struct Entry {
    pub(super) transaction: Transaction,
    /// Who asked for the end of the transaction and is told when it is done.
    pub(super) waiting: Option<RequestId>,
    last_write: WriteSequence,
    deadline: Option<Millis>,
}

/// See the [module](super) for how it is driven.
pub struct TransactionCoordinator {
    pub(super) config: Arc<TransactionConfig>,
    pub(super) entries: BTreeMap<TransactionalId, Entry>,
    pub(super) now: Millis,
    deadlines: BTreeSet<(Millis, TransactionalId)>,
    last_write: WriteSequence,
}

/// How many ids one tick looks at, so that a record batch stays small.
const TIMERS_PER_TICK_MAX: usize = 100;

/// The effects of one input while they are collected.
#[derive(Default)]
pub(super) struct Output {
    changed: BTreeSet<TransactionalId>,
    replies: Vec<(RequestId, Reply, Option<TransactionalId>)>,
    markers: Vec<EndMarkers>,
}

impl Output {
    /// The id's state has changed and must be written.
    pub(super) fn changed(&mut self, id: &TransactionalId) {
        self.changed.insert(id.clone());
    }

    /// Answers with what is known of one id.
    pub(super) fn reply(&mut self, to: RequestId, reply: Reply, about: &TransactionalId) {
        self.replies.push((to, reply, Some(about.clone())));
    }

    /// Answers with what is known of all ids.
    pub(super) fn reply_about_all(&mut self, to: RequestId, reply: Reply) {
        self.replies.push((to, reply, None));
    }

    /// Asks for the markers of a decided transaction.
    pub(super) fn write_markers(&mut self, markers: EndMarkers) {
        self.markers.push(markers);
    }
}

impl TransactionCoordinator {
    /// A coordinator that knows nothing yet.
    pub fn new(config: Arc<TransactionConfig>) -> Self {
        Self {
            config,
            entries: BTreeMap::new(),
            now: Millis::new(i64::MIN),
            deadlines: BTreeSet::new(),
            last_write: WriteSequence::default(),
        }
    }

    /// Applies a record that was read from the internal topic.
    pub fn replay(&mut self, record: TransactionRecord) {
        match record.value {
            None => drop(self.entries.remove(&record.id)),
            Some(transaction) => {
                self.entries.insert(record.id, Entry::new(transaction));
            }
        }
    }

    /// All records are read. What was decided and not done is done again.
    pub fn loaded(&mut self, now: Millis) -> Effects {
        self.now = now;
        let mut output = Output::default();
        let ids: Vec<TransactionalId> = self.entries.keys().cloned().collect();
        for id in ids {
            self.schedule(&id);
            if let Some(markers) = self.entries.get(&id).and_then(|entry| entry.markers(&id)) {
                output.write_markers(markers);
            }
        }
        self.finish(output)
    }

    /// Takes a request.
    pub fn request(&mut self, to: RequestId, request: Request, now: Millis) -> Effects {
        self.now = self.now.max(now);
        let mut output = Output::default();
        match request {
            Request::InitProducerId(request) => self.on_init_producer_id(&mut output, to, &request),
            Request::AddPartitions(request) => self.on_add_partitions(&mut output, to, request),
            Request::VerifyPartitions(request) => self.on_verify_partitions(&mut output, to, &request),
            Request::EndTxn(request) => self.on_end_txn(&mut output, to, &request),
            Request::MarkersWritten(markers) => self.on_markers_written(&mut output, to, &markers),
            Request::Describe(id) => self.on_describe(&mut output, to, &id),
            Request::List(request) => self.on_list(&mut output, to, &request),
        }
        self.finish(output)
    }

    /// A deadline passed: transactions that are open for too long are aborted, ids that are idle for too long forgotten.
    pub fn tick(&mut self, now: Millis) -> Effects {
        self.now = self.now.max(now);
        let mut output = Output::default();
        for _ in 0..TIMERS_PER_TICK_MAX {
            if self.next_deadline().is_none_or(|next| next > self.now) {
                break;
            }
            let Some((_, id)) = self.deadlines.pop_first() else { break };
            self.on_deadline(&mut output, &id);
        }
        self.finish(output)
    }

    fn on_deadline(&mut self, output: &mut Output, id: &TransactionalId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.deadline = None;
        match entry.transaction.state {
            State::Ongoing => self.abort(output, id),
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                self.entries.remove(id);
                output.changed(id);
            }
            State::PrepareCommit | State::PrepareAbort | State::Dead => {}
        }
    }

    /// When to come back with a tick, at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The coordinator goes away: whoever waits inside it is refused with `error`.
    pub fn unload(self, error: ErrorCode) -> Vec<(RequestId, Reply)> {
        let waiting = self.entries.into_values().filter_map(|entry| entry.waiting);
        waiting.map(|to| (to, Reply::EndTxn(Err(error.into())))).collect()
    }

    /// The durable state as records, one for each id.
    pub fn snapshot(&self) -> Vec<TransactionRecord> {
        let record = |(id, entry): (&TransactionalId, &Entry)| TransactionRecord {
            id: id.clone(),
            value: Some(entry.transaction.clone()),
        };
        self.entries.iter().map(record).collect()
    }

    pub(super) fn insert(
        &mut self,
        id: &TransactionalId,
        producer: ProducerId,
        timeout: std::time::Duration,
    ) {
        let transaction = Transaction::new(producer, timeout, self.now);
        self.entries.insert(id.clone(), Entry::new(transaction));
    }

    /// The entry of a client that is who it says it is. `InvalidRequest` if it says nothing, `InvalidProducerIdMapping` if
    /// the id is not known or another producer's, `ProducerFenced` if there is a newer life of it.
    pub(super) fn entry_of(
        &mut self,
        id: &TransactionalId,
        producer: ProducerIdentity,
    ) -> Result<&mut Entry, ErrorCode> {
        if id.as_str().is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let entry = self.entries.get_mut(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let known = entry.transaction.producer;
        if known.id != producer.id {
            Err(ErrorCode::InvalidProducerIdMapping)
        } else if known.epoch != producer.epoch {
            Err(ErrorCode::ProducerFenced)
        } else {
            Ok(entry)
        }
    }

    fn schedule(&mut self, id: &TransactionalId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let at = match entry.transaction.state {
            State::Ongoing => {
                entry.transaction.started.map(|started| started.plus(entry.transaction.timeout))
            }
            State::PrepareCommit | State::PrepareAbort | State::Dead => None,
            _ => Some(entry.transaction.updated.plus(self.config.id_retention)),
        };
        if let Some(before) = entry.deadline.take() {
            self.deadlines.remove(&(before, id.clone()));
        }
        entry.deadline = at;
        self.deadlines.extend(at.map(|at| (at, id.clone())));
    }

    fn finish(&mut self, output: Output) -> Effects {
        let mut records = Vec::with_capacity(output.changed.len());
        if !output.changed.is_empty() {
            self.last_write = self.last_write.next();
        }
        for id in output.changed {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.transaction.updated = self.now;
                entry.last_write = self.last_write;
            }
            self.schedule(&id);
            let value = self.entries.get(&id).map(|entry| entry.transaction.clone());
            records.push(TransactionRecord { id, value });
        }
        let after = |about: &Option<TransactionalId>| {
            let entry = about.as_ref().and_then(|id| self.entries.get(id));
            entry.map_or(self.last_write, |entry| entry.last_write)
        };
        let replies = output
            .replies
            .into_iter()
            .map(|(to, reply, about)| Held { after: after(&about), what: (to, reply) });
        let replies = replies.collect();
        let markers = output.markers.into_iter();
        let markers =
            markers.map(|markers| Held { after: after(&Some(markers.id.clone())), what: markers }).collect();
        let write = (!records.is_empty()).then_some(Write { sequence: self.last_write, records });
        Effects { write, replies, markers, next_deadline: self.next_deadline() }
    }
}

impl Entry {
    fn new(transaction: Transaction) -> Self {
        Self { transaction, waiting: None, last_write: WriteSequence::default(), deadline: None }
    }

    /// The markers that are due.
    pub(super) fn markers(&self, id: &TransactionalId) -> Option<EndMarkers> {
        Some(EndMarkers {
            id: id.clone(),
            producer: self.transaction.producer,
            outcome: self.transaction.state.decided()?,
            partitions: self.transaction.partitions.iter().copied().collect(),
        })
    }
}
