//! Drives a coordinator as its host does, with a disk that remembers what was flushed.

use std::{sync::Arc, time::Duration};

use heddle_proto::{
    batch::Outcome,
    error::ErrorCode,
    ids::{PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicPartition},
};

use crate::coordinator::{
    group::{Millis, RequestId, WriteSequence},
    transaction::*,
};

pub const MINUTE: Duration = Duration::from_secs(60);

pub fn id(name: &str) -> TransactionalId {
    TransactionalId::new(name)
}

pub fn at(index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::new([9; 16]), PartitionIndex::new(index))
}

pub fn identity(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id: ProducerId::new(id), epoch: ProducerEpoch::new(epoch) }
}

pub fn init(name: &str, current: Option<ProducerIdentity>, fresh: Option<i64>) -> Request {
    let fresh = fresh.map(ProducerId::new);
    Request::InitProducerId(InitProducerId { id: id(name), timeout: MINUTE, current, fresh })
}

pub fn add(name: &str, producer: ProducerIdentity, indexes: &[u32]) -> Request {
    let partitions = indexes.iter().map(|index| at(*index)).collect();
    Request::AddPartitions(AddPartitions { id: id(name), producer, partitions })
}

pub fn end(name: &str, producer: ProducerIdentity, outcome: Outcome, raises_epoch: bool) -> Request {
    Request::EndTxn(EndTxn { id: id(name), producer, outcome, raises_epoch, fresh: None })
}

/// A coordinator with its topic.
pub struct Driver {
    pub machine: TransactionCoordinator,
    pub config: TransactionConfig,
    pub now: Millis,
    /// Every write, in order; only the first `flushed` of this life are durable.
    pub topic: Vec<Vec<TransactionRecord>>,
    before: usize,
    pub flushed: usize,
    held: Vec<Held<(RequestId, Reply)>>,
    held_markers: Vec<Held<EndMarkers>>,
    pub replies: Vec<(RequestId, Reply)>,
    /// Markers that were let out and not reported as written.
    pub markers: Vec<EndMarkers>,
    last_request: u64,
}

impl Driver {
    pub fn new() -> Self {
        Self::with(TransactionConfig::default())
    }

    pub fn with(config: TransactionConfig) -> Self {
        let mut driver = Self {
            machine: TransactionCoordinator::new(Arc::new(config.clone())),
            config,
            now: Millis::new(1_000_000),
            topic: Vec::new(),
            before: 0,
            flushed: 0,
            held: Vec::new(),
            held_markers: Vec::new(),
            replies: Vec::new(),
            markers: Vec::new(),
            last_request: 0,
        };
        let effects = driver.machine.loaded(driver.now);
        driver.take(effects);
        driver
    }

    pub fn send(&mut self, request: Request) -> RequestId {
        self.last_request += 1;
        let to = RequestId::new(self.last_request);
        let effects = self.machine.request(to, request, self.now);
        self.take(effects);
        to
    }

    /// Sends, flushes, and gives the reply, if there is one by then.
    pub fn ask(&mut self, request: Request) -> Option<Reply> {
        let to = self.send(request);
        self.flush(usize::MAX);
        self.reply_to(to)
    }

    pub fn reply_to(&mut self, to: RequestId) -> Option<Reply> {
        let index = self.replies.iter().position(|(id, _)| *id == to)?;
        Some(self.replies.swap_remove(index).1)
    }

    /// The identity that a new life of a producer gets.
    pub fn init(&mut self, name: &str, fresh: i64) -> ProducerIdentity {
        match self.ask(init(name, None, Some(fresh))) {
            Some(Reply::InitProducerId(Ok(identity))) => identity,
            other => panic!("{other:?}"),
        }
    }

    pub fn add(&mut self, name: &str, producer: ProducerIdentity, indexes: &[u32]) -> Result<(), ErrorCode> {
        match self.ask(add(name, producer, indexes)) {
            Some(Reply::AddPartitions(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&mut self, name: &str) -> State {
        match self.ask(Request::Describe(id(name))) {
            Some(Reply::Describe(described)) => described.map_or(State::Dead, |described| described.state),
            other => panic!("{other:?}"),
        }
    }

    /// Reports the oldest markers as written.
    pub fn deliver(&mut self) -> Option<EndMarkers> {
        if self.markers.is_empty() {
            return None;
        }
        let markers = self.markers.remove(0);
        self.send(Request::MarkersWritten(markers.clone()));
        Some(markers)
    }

    pub fn wait(&mut self, span: Duration) {
        self.now = self.now.plus(span);
        while self.machine.next_deadline().is_some_and(|next| next <= self.now) {
            let effects = self.machine.tick(self.now);
            self.take(effects);
        }
    }

    /// Makes up to so many more writes durable.
    pub fn flush(&mut self, count: usize) {
        self.flushed = self.flushed.saturating_add(count).min(self.topic.len() - self.before);
        let durable = WriteSequence::new(self.flushed as u64);
        let (out, held) = std::mem::take(&mut self.held).into_iter().partition(|held| held.after <= durable);
        self.held = held;
        let out: Vec<Held<(RequestId, Reply)>> = out;
        self.replies.extend(out.into_iter().map(|held| held.what));
        let markers = std::mem::take(&mut self.held_markers).into_iter();
        let (out, held): (Vec<_>, Vec<_>) = markers.partition(|held| held.after <= durable);
        self.held_markers = held;
        self.markers.extend(out.into_iter().map(|held| held.what));
    }

    /// Loses what is not durable, and everything in memory.
    pub fn crash(&mut self) {
        self.topic.truncate(self.before + self.flushed);
        self.before = self.topic.len();
        self.flushed = 0;
        self.held.clear();
        self.held_markers.clear();
        self.replies.clear();
        self.markers.clear();
        self.machine = self.replayed();
        let effects = self.machine.loaded(self.now);
        self.take(effects);
    }

    fn replayed(&self) -> TransactionCoordinator {
        let mut machine = TransactionCoordinator::new(Arc::new(self.config.clone()));
        for record in self.topic.iter().flatten() {
            let (key, value) = (record.encode_key(), record.encode_value());
            machine.replay(TransactionRecord::decode(&key, value.as_deref()).expect("decodes"));
        }
        machine
    }

    fn take(&mut self, effects: Effects) {
        if let Some(write) = effects.write {
            self.topic.push(write.records);
            assert_eq!(write.sequence.get(), (self.topic.len() - self.before) as u64);
        }
        self.held.extend(effects.replies);
        self.held_markers.extend(effects.markers);
        self.flush(0);
        // Reading everything again after every write is for short histories.
        if self.topic.len() < 300 {
            assert_eq!(self.machine.snapshot(), self.replayed().snapshot(), "memory is not what is written");
        }
    }
}
