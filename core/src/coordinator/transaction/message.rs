//! What goes into the transaction coordinator and what comes out of it, as plain values.

use std::{fmt, sync::Arc, time::Duration};

use heddle_proto::{
    batch::Outcome,
    error::ErrorCode,
    ids::{ProducerEpoch, ProducerId, TopicPartition},
};

use super::state::State;
use crate::coordinator::group::Millis;

/// Name of a producer that survives its restarts (Kafka: `transactional.id`). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionalId(Arc<str>);

impl TransactionalId {
    /// Takes the text as it is.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TransactionalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TransactionalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A producer id with an epoch.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ProducerIdentity {
    /// The id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// A question or an order.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each is described where it is defined
pub enum Request {
    InitProducerId(InitProducerId),
    AddPartitions(AddPartitions),
    VerifyPartitions(VerifyPartitions),
    EndTxn(EndTxn),
    /// All markers of a decided transaction are written.
    MarkersWritten(EndMarkers),
    /// What is known of one id.
    Describe(TransactionalId),
    List(ListTransactions),
}

/// A producer begins its life: it gets an epoch that no earlier life has, and what those left open is aborted.
#[derive(Clone, Debug)]
pub struct InitProducerId {
    /// Its name.
    pub id: TransactionalId,
    /// After this long an open transaction is aborted.
    pub timeout: Duration,
    /// Set by a producer that wants its epoch raised in the middle of its life (KIP-360): what it has.
    pub current: Option<ProducerIdentity>,
    /// A producer id that nobody had before, to be used if one is needed.
    pub fresh: Option<ProducerId>,
}

/// Partitions become part of the transaction, which begins if none is open.
#[derive(Clone, Debug)]
pub struct AddPartitions {
    /// Whose.
    pub id: TransactionalId,
    /// As the client knows itself.
    pub producer: ProducerIdentity,
    /// To be added; the one of a group's offsets is that of the internal topic.
    pub partitions: Vec<TopicPartition>,
}

/// Are these partitions part of the open transaction?
#[derive(Clone, Debug)]
pub struct VerifyPartitions {
    /// Whose.
    pub id: TransactionalId,
    /// As the client knows itself.
    pub producer: ProducerIdentity,
    /// Asked about.
    pub partitions: Vec<TopicPartition>,
}

/// Commit or abort the open transaction.
#[derive(Clone, Debug)]
pub struct EndTxn {
    /// Whose.
    pub id: TransactionalId,
    /// As the client knows itself.
    pub producer: ProducerIdentity,
    /// Which.
    pub outcome: Outcome,
    /// The second version of the protocol: the epoch rises with each transaction, and the client learns the new one.
    pub raises_epoch: bool,
    /// A producer id that nobody had before, to be used if one is needed.
    pub fresh: Option<ProducerId>,
}

/// Which transactions to list; what is empty or `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct ListTransactions {
    /// In one of these states.
    pub states: Vec<State>,
    /// Of one of these producers.
    pub producers: Vec<ProducerId>,
    /// Open for longer than this.
    pub open_for: Option<Duration>,
}

/// The answer to a [`Request`] of the same name.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// The producer's identity from now on.
    InitProducerId(Result<ProducerIdentity, Refusal>),
    /// The partitions are part of the transaction.
    AddPartitions(Result<(), ErrorCode>),
    /// One answer for each partition, in the order asked.
    VerifyPartitions(Result<Vec<bool>, ErrorCode>),
    /// The transaction is over; the producer's identity from now on.
    EndTxn(Result<ProducerIdentity, Refusal>),
    /// Noted.
    MarkersWritten,
    /// What is known, if the id is.
    Describe(Option<Described>),
    /// In the order of their ids.
    List(Vec<Listed>),
}

/// Why a request that may need a new producer id was not done.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Come back with a fresh producer id.
    NeedsProducerId,
    /// Tell the client.
    Error(ErrorCode),
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Refusal::Error(code)
    }
}

/// The markers of a decided transaction, to be written to every one of its partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndMarkers {
    /// Whose.
    pub id: TransactionalId,
    /// What stands in the markers.
    pub producer: ProducerIdentity,
    /// How it ended.
    pub outcome: Outcome,
    /// Where to write them.
    pub partitions: Vec<TopicPartition>,
}

/// What operators see of one id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    /// Who.
    pub producer: ProducerIdentity,
    /// In which state.
    pub state: State,
    /// Its timeout.
    pub timeout: Duration,
    /// When the open transaction began.
    pub started: Option<Millis>,
    /// In the order of their ids.
    pub partitions: Vec<TopicPartition>,
}

/// One line of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its name.
    pub id: TransactionalId,
    /// Who.
    pub producer: ProducerId,
    /// In which state.
    pub state: State,
}
