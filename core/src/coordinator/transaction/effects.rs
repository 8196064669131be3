//! What the caller must do after an input, and in which order.

use super::{
    message::{EndMarkers, Reply},
    record::TransactionRecord,
};
use crate::coordinator::group::{Millis, RequestId, WriteSequence};

/// The consequences of one input. The contract is in the documentation of the [transaction](super) module.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Effects {
    /// To be made durable, whole or not at all.
    pub write: Option<Write>,
    /// To be sent, each not before its write is durable.
    pub replies: Vec<Held<(RequestId, Reply)>>,
    /// Markers to be written, each not before its write is durable.
    pub markers: Vec<Held<EndMarkers>>,
    /// When to come back with a tick, at the latest.
    pub next_deadline: Option<Millis>,
}

/// Records that belong together.
#[derive(Clone, PartialEq, Debug)]
pub struct Write {
    /// Goes up by one with each write.
    pub sequence: WriteSequence,
    /// In the order in which they must stand in the topic. Never empty.
    pub records: Vec<TransactionRecord>,
}

/// Something that must not be seen before this write, and all before it, are durable. 0 waits for nothing.
#[derive(Clone, PartialEq, Debug)]
pub struct Held<T> {
    /// The write.
    pub after: WriteSequence,
    /// What waits for it.
    pub what: T,
}
