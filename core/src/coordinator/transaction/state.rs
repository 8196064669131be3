//! One transactional id: its producer, and where its transaction stands.

use std::{collections::BTreeSet, time::Duration};

use heddle_proto::{
    batch::Outcome,
    ids::{ProducerEpoch, ProducerId, TopicPartition},
};

use super::message::ProducerIdentity;
use crate::coordinator::group::Millis;

/// The last epoch a client may have; the one above is kept for fencing it.
pub const EPOCH_MAX: i16 = i16::MAX - 1;

/// Where a transactional id stands. The numbers are Kafka's, and those on disk.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// No transaction yet.
    Empty = 0,
    /// One is open.
    Ongoing = 1,
    /// Decided; markers are being written.
    PrepareCommit = 2,
    /// Decided; markers are being written.
    PrepareAbort = 3,
    /// The last one was committed.
    CompleteCommit = 4,
    /// The last one was aborted.
    CompleteAbort = 5,
    /// Forgotten.
    Dead = 6,
}

impl State {
    /// Every state.
    pub const ALL: [State; 7] = [
        State::Empty,
        State::Ongoing,
        State::PrepareCommit,
        State::PrepareAbort,
        State::CompleteCommit,
        State::CompleteAbort,
        State::Dead,
    ];

    /// The state with this number.
    pub fn from_code(code: u8) -> Option<State> {
        State::ALL.into_iter().find(|state| *state as u8 == code)
    }

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Ongoing => "Ongoing",
            State::PrepareCommit => "PrepareCommit",
            State::PrepareAbort => "PrepareAbort",
            State::CompleteCommit => "CompleteCommit",
            State::CompleteAbort => "CompleteAbort",
            State::Dead => "Dead",
        }
    }

    /// Decided, and not done.
    pub fn decided(self) -> Option<Outcome> {
        match self {
            State::PrepareCommit => Some(Outcome::Commit),
            State::PrepareAbort => Some(Outcome::Abort),
            _ => None,
        }
    }

    /// Done.
    pub fn done(self) -> Option<Outcome> {
        match self {
            State::CompleteCommit => Some(Outcome::Commit),
            State::CompleteAbort => Some(Outcome::Abort),
            _ => None,
        }
    }
}

/// The durable state of one transactional id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// Who writes.
    pub producer: ProducerIdentity,
    /// What the client had before its last request raised its epoch: a retry of that request names it.
    pub previous: Option<ProducerIdentity>,
    /// Takes the producer's place when this transaction is done: its epochs are used up.
    pub successor: Option<ProducerId>,
    /// An open transaction is aborted after this long.
    pub timeout: Duration,
    /// Where it stands.
    pub state: State,
    /// Where it has written or is about to.
    pub partitions: BTreeSet<TopicPartition>,
    /// When the open transaction began.
    pub started: Option<Millis>,
    /// When this last changed.
    pub updated: Millis,
}

impl Transaction {
    /// A producer that was never seen.
    pub fn new(producer: ProducerId, timeout: Duration, now: Millis) -> Self {
        Self {
            producer: ProducerIdentity { id: producer, epoch: ProducerEpoch::new(0) },
            previous: None,
            successor: None,
            timeout,
            state: State::Empty,
            partitions: BTreeSet::new(),
            started: None,
            updated: now,
        }
    }

    /// Whether no epoch is left for another life or transaction of this producer id.
    pub fn is_exhausted(&self) -> bool {
        self.producer.epoch.get() >= EPOCH_MAX
    }

    /// The epoch after the present one; the last one stays.
    pub fn next_epoch(&self) -> ProducerEpoch {
        ProducerEpoch::new(self.producer.epoch.get().saturating_add(1))
    }

    /// Decides the open transaction with markers of the given epoch.
    pub fn decide(&mut self, outcome: Outcome, epoch: ProducerEpoch) {
        self.producer.epoch = epoch;
        self.state = match outcome {
            Outcome::Commit => State::PrepareCommit,
            Outcome::Abort => State::PrepareAbort,
        };
    }

    /// The markers are written.
    pub fn complete(&mut self, outcome: Outcome) {
        self.state = match outcome {
            Outcome::Commit => State::CompleteCommit,
            Outcome::Abort => State::CompleteAbort,
        };
        self.partitions.clear();
        self.started = None;
        if let Some(successor) = self.successor.take() {
            self.producer = ProducerIdentity { id: successor, epoch: ProducerEpoch::new(0) };
        }
    }
}
