//! What a host runs: a coordinator as a pure state machine, and the consequences that it gives.

use heddle_proto::error::ErrorCode;

use crate::coordinator::ids::{Millis, RequestId, WriteSequence};

/// A coordinator's state and rules. It reads no clock and does no IO; see the [module](super) for how it is driven.
pub trait StateMachine: Sized + 'static {
    /// What somebody asks who waits for a reply.
    type Request;
    /// What is told about the world; nobody waits for a reply.
    type Notice;
    /// The answer to a request.
    type Reply: 'static;
    /// What the host's owner has to do once a write is durable. A machine that only answers requests has none:
    /// `std::convert::Infallible`.
    type Action: 'static;

    /// Applies a record that was read from the partition, in the order of the partition.
    ///
    /// # Errors
    /// What cannot be understood about it; the coordinator then does not come up.
    fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String>;

    /// All records are read: timers run from now, and requests may come.
    fn loaded(&mut self, now: Millis) -> Effects<Self::Reply, Self::Action>;

    /// Takes an input.
    fn apply(
        &mut self,
        input: Input<Self::Request, Self::Notice>,
        now: Millis,
    ) -> Effects<Self::Reply, Self::Action>;

    /// When to come back with [`Input::Tick`], at the latest.
    fn next_deadline(&self) -> Option<Millis>;

    /// The coordinator goes away: answers whoever waits inside of it with `error`.
    fn unload(self, error: ErrorCode) -> Vec<(RequestId, Self::Reply)>;
}

/// Everything that can happen to a machine that is loaded.
#[derive(Clone, Debug)]
pub enum Input<Q, N> {
    /// Somebody asks; the reply, now or later, carries the same id.
    Request(RequestId, Q),
    /// The world changed.
    Notice(N),
    /// A deadline passed.
    Tick,
}

/// The consequences of one input.
#[derive(Clone, Debug)]
#[must_use]
pub struct Effects<R, A> {
    /// To be made durable, whole or not at all.
    pub write: Option<Write>,
    /// To be sent, each once its write is durable.
    pub replies: Vec<Held<(RequestId, R)>>,
    /// To be done, each once its write is durable.
    pub actions: Vec<Held<A>>,
}

impl<R, A> Default for Effects<R, A> {
    fn default() -> Self {
        Self { write: None, replies: Vec::new(), actions: Vec::new() }
    }
}

/// Records that belong together: they go into one record batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// Goes up by one with each write, from 1.
    pub sequence: WriteSequence,
    /// In the order in which they must stand in the topic. Never empty.
    pub records: Vec<KeyValue>,
}

/// One record of an internal topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyValue {
    /// Records with equal keys replace each other.
    pub key: Vec<u8>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Something that must not be seen before a write, and all before it, are durable. 0 waits for nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held<T> {
    /// The write.
    pub after: WriteSequence,
    /// What waits for it.
    pub what: T,
}
