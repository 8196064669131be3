//! Requests of one node to another and their replies, for the metadata's quorum and small messages of control.
//!
//! Core 0 of each node dials core 0 of every node that it has something to ask, and keeps that connection; the other way round
//! there is another one. Many requests may be under way on a connection, and replies come in any order. A request is sent once:
//! what is done about one that was lost is for whoever asked.
//!
//! Each end sends pings and closes a connection over which nothing came for too long. Nothing here knows what is asked. A
//! [`Calls`] belongs to its core; clones share it.

mod answering;
mod asking;
mod join;
mod line;
mod target;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::BoxedLocal;
use heddle_proto::ids::{CoreId, NodeId};
use heddle_replication_driver::Peer;

use crate::backoff::Backoff;
use crate::door::{Door, Met};
use crate::wire::{CALL_BYTES_MAX, Purpose};

use answering::Answering;
use target::Target;

pub use join::{JoinError, Joined, cluster_at, join};

/// Times and limits of calls.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// For how long calls fail at once after a node could not be reached.
    pub backoff: Backoff,
    /// How long an attempt to connect may take, handshake included.
    pub attempt_time_max: Duration,
    /// How often each end gives a sign of life.
    pub ping_every: Duration,
    /// A connection over which no byte has come for so long is closed.
    pub silence_max: Duration,
    /// Largest request or reply, in bytes.
    pub payload_bytes_max: usize,
    /// Requests of one connection that are being answered at once; more wait unread.
    pub underway_count_max: usize,
    /// The same by the bytes of the requests: the last one may go beyond it.
    pub underway_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backoff: Backoff { first: Duration::from_millis(50), most: Duration::from_millis(500) },
            attempt_time_max: Duration::from_secs(1),
            ping_every: Duration::from_millis(500),
            silence_max: Duration::from_secs(2),
            payload_bytes_max: CALL_BYTES_MAX,
            underway_count_max: 64,
            underway_bytes_max: 2 * CALL_BYTES_MAX,
        }
    }
}

impl Options {
    fn check(&self) {
        let is_sound = self.ping_every < self.silence_max
            && self.payload_bytes_max <= CALL_BYTES_MAX
            && self.underway_count_max > 0
            && self.underway_bytes_max > 0;
        assert!(is_sound, "{self:?}");
    }
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request did not leave: nobody has heard it.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It may have been heard.
    #[error("no reply: {0}")]
    Lost(String),
}

/// Who asks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CallFrom {
    /// The node, as it says.
    pub node: NodeId,
    /// [`Purpose::Calls`] from a node of this cluster, [`Purpose::Join`] from one that does not know the cluster yet.
    pub purpose: Purpose,
}

/// Answers requests; `None` for what is none, which ends the connection. An answer that was begun goes on to its end when the
/// connection is gone.
pub type Handler = Rc<dyn Fn(CallFrom, Vec<u8>) -> BoxedLocal<Option<Vec<u8>>>>;

/// See the module.
#[derive(Clone)]
pub struct Calls(Rc<Inner>);

struct Inner {
    door: Door,
    options: Options,
    targets: RefCell<BTreeMap<NodeId, Rc<Target>>>,
    /// Connections of others.
    answering: RefCell<Vec<Rc<Answering>>>,
    is_stopped: Cell<bool>,
}

impl Calls {
    /// Of the node that this is the door of.
    ///
    /// # Panics
    /// If the options contradict each other.
    pub fn new(door: &Door, options: Options) -> Calls {
        options.check();
        Calls(Rc::new(Inner {
            door: door.clone(),
            options,
            targets: RefCell::default(),
            answering: RefCell::default(),
            is_stopped: Cell::new(false),
        }))
    }

    /// Asks a node, at `HOST:PORT`, and waits for its reply. Dropping the future gives up: a request that has not left does not
    /// leave any more, a reply that comes later is thrown away.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn call(&self, node: NodeId, address: &str, request: Vec<u8>) -> Result<Vec<u8>, CallError> {
        if self.0.is_stopped.get() {
            return Err(CallError::Unreachable("this node has stopped".to_owned()));
        }
        if node == self.0.door.identity().me.node {
            return Err(CallError::Unreachable("it is this node itself".to_owned()));
        }
        let target = self.0.targets.borrow_mut().entry(node).or_default().clone();
        let to = Peer { node, core: CoreId::new(0) };
        let asking = target.asking(&self.0.door, &self.0.options, to, address)?;
        asking.ask(request).await
    }

    /// From now on others are let in that have something to ask.
    pub fn answer(&self, handler: Handler) {
        if self.0.is_stopped.get() {
            return;
        }
        for purpose in [Purpose::Calls, Purpose::Join] {
            let (weak, handler) = (Rc::downgrade(&self.0), handler.clone());
            let taker = move |met: Met| -> BoxedLocal<()> {
                let (inner, handler) = (weak.upgrade(), handler.clone());
                Box::pin(async move {
                    if let Some(inner) = inner.filter(|inner| !inner.is_stopped.get()) {
                        inner.carry(met, handler).await;
                    }
                })
            };
            self.0.door.take(purpose, Rc::new(taker));
        }
    }

    /// Ends all connections: what is outstanding is lost, and nobody is asked or answered any more.
    pub fn stop(&self) {
        self.0.is_stopped.set(true);
        self.0.door.refuse(Purpose::Calls);
        self.0.door.refuse(Purpose::Join);
        self.0.targets.take().values().for_each(|target| target.end());
        self.0.answering.take().iter().for_each(|answering| answering.end());
    }
}

impl Inner {
    /// Answers what comes over a connection until it ends.
    async fn carry(&self, met: Met, handler: Handler) {
        let from = CallFrom { node: met.peer.node, purpose: met.purpose };
        let Some(answering) = Answering::new(&met, self.door.roster(), handler, self.options) else { return };
        let answering = Rc::new(answering);
        self.newest(&answering);
        let end = answering.carry(met).await;
        if end.is_bad() {
            tracing::warn!(%end, node = %from.node, "a connection on which a node asks ended");
        } else {
            tracing::debug!(%end, node = %from.node, "a connection on which a node asks ended");
        }
        self.answering.borrow_mut().retain(|other| !Rc::ptr_eq(other, &answering));
    }

    /// One connection more. One that a node had before ends at once: its dialer would not have made another.
    fn newest(&self, answering: &Rc<Answering>) {
        let (mut all, from) = (self.answering.borrow_mut(), answering.from());
        if from.purpose == Purpose::Calls {
            all.iter().filter(|other| other.from() == from).for_each(|other| other.end());
        }
        all.push(answering.clone());
    }
}
