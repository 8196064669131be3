//! All connections of one core to its peers: who dials, who is let in, and what happens when one breaks.
//!
//! Between two cores there is one connection, and the core of the node with the lower id dials it, again and again while it is
//! needed. Where an end finds a new one made while it still has an old one, the new one is right: the old one is dead and this
//! end has not noticed. A [`Peers`] belongs to its core; clones share it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future;
use heddle_net::frame::FrameError;
use heddle_net::socket::{
    AcceptError, Activity, Listener, ListenerShutdown, ReadHalf, ShutdownHandle, Stream, WriteHalf,
    close_when_idle, pause, spawn,
};
use heddle_replication_driver::Peer;

use crate::backoff::Backoff;
use crate::counters::{Counters, StreamCounts};
use crate::handshake::{Greeted, HandshakeError, Identity, Roster, Secret, accept, dial, random};
use crate::link::Link;
use crate::session::{End, Pulse, Replicas, Session, carry};
use crate::signal::Signal;
use crate::wire::{CLUSTER_ID_BYTES_MAX, Refusal};

/// Times and limits of the connections of one core.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Waits between attempts to dial.
    pub backoff: Backoff,
    /// How long each address of a peer may take to answer.
    pub connect_time_max: Duration,
    /// How long a handshake may take.
    pub handshake_time_max: Duration,
    /// Connections that are being greeted at once, each holding a few kilobytes; more are closed at once.
    pub greeting_count_max: usize,
    /// How often each end asks for a sign of life.
    pub ping_every: Duration,
    /// A connection over which no byte has come for so long is closed.
    pub silence_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            connect_time_max: Duration::from_secs(1),
            handshake_time_max: Duration::from_secs(3),
            greeting_count_max: 64,
            ping_every: Duration::from_millis(500),
            silence_max: Duration::from_secs(2),
        }
    }
}

/// Connections that came to nothing before both ends knew each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandshakeCounts {
    /// Refused here, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Of another version.
    pub version: u64,
    /// Another protocol, garbage, or what does not belong there.
    pub garbage: u64,
    /// That took too long.
    pub too_slow: u64,
    /// Closed unread, because too many others were being greeted.
    pub too_many: u64,
}

/// See the module.
#[derive(Clone)]
pub struct Peers<C>(Rc<Inner<C>>);

struct Inner<C> {
    identity: Identity,
    secret: Secret,
    options: Options,
    replicas: C,
    roster: RefCell<Roster>,
    entries: RefCell<BTreeMap<Peer, Rc<Entry>>>,
    greeting_count: Cell<usize>,
    handshakes: RefCell<HandshakeCounts>,
    listeners: RefCell<Vec<ListenerShutdown>>,
    is_stopped: Cell<bool>,
}

/// What is known of one peer.
#[derive(Default)]
struct Entry {
    /// Where it is; `None` for one that nobody here needs, or that dials itself.
    address: RefCell<Option<String>>,
    is_dialing: Cell<bool>,
    /// Ends a wait between attempts.
    retry: Signal,
    session: RefCell<Option<Rc<Session>>>,
    counters: Rc<Counters>,
}

impl<C: Replicas> Peers<C> {
    /// A core without connections.
    ///
    /// # Panics
    /// If the cluster id is too long, or a connection would be closed between two pings.
    pub fn new(identity: Identity, secret: Secret, options: Options, replicas: C) -> Self {
        assert!(
            identity.cluster.len() <= CLUSTER_ID_BYTES_MAX,
            "cluster id of {} bytes",
            identity.cluster.len()
        );
        assert!(options.ping_every < options.silence_max, "{options:?}");
        Peers(Rc::new(Inner {
            identity,
            secret,
            options,
            replicas,
            roster: RefCell::default(),
            entries: RefCell::default(),
            greeting_count: Cell::new(0),
            handshakes: RefCell::default(),
            listeners: RefCell::default(),
            is_stopped: Cell::new(false),
        }))
    }

    /// A peer is needed, and is at `HOST:PORT`. To be called again when that changes.
    pub fn need(&self, peer: Peer, address: &str) {
        if self.0.is_stopped.get() || peer.node == self.0.identity.me.node {
            return;
        }
        let entry = self.0.entry(peer);
        let old = entry.address.borrow_mut().replace(address.to_owned());
        if old.as_deref() != Some(address) {
            entry.retry.raise();
        }
        let dials = self.0.identity.me.node < peer.node;
        if dials && !entry.is_dialing.replace(true) {
            let inner = self.0.clone();
            spawn(async move { inner.keep_dialed(peer, entry).await });
        }
    }

    /// A peer is needed no more: its connection ends.
    pub fn forget(&self, peer: Peer) {
        let entry = self.0.entries.borrow_mut().remove(&peer);
        if let Some(entry) = entry {
            entry.end();
        }
    }

    /// Ends the connection to a peer, if there is one; where it is needed it is made anew.
    pub fn disconnect(&self, peer: Peer) {
        let session = self.0.entries.borrow().get(&peer).and_then(|entry| entry.session.borrow().clone());
        if let Some(session) = session {
            session.end();
        }
    }

    /// Lets peers in until [`Self::stop`].
    pub async fn serve(&self, listener: Listener) {
        self.0.listeners.borrow_mut().push(listener.shutdown_handle());
        while !self.0.is_stopped.get() {
            match listener.accept().await {
                Ok(stream) => self.let_in(stream),
                Err(AcceptError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "a peer could not be let in");
                    pause(Duration::from_millis(20)).await;
                }
            }
        }
    }

    fn let_in(&self, stream: Stream) {
        let inner = self.0.clone();
        if inner.greeting_count.get() >= inner.options.greeting_count_max {
            inner.handshakes.borrow_mut().too_many += 1;
            return;
        }
        inner.greeting_count.set(inner.greeting_count.get() + 1);
        spawn(async move {
            let greeted = inner.greet(stream).await;
            inner.greeting_count.set(inner.greeting_count.get() - 1);
            if let Some(greeted) = greeted {
                inner.carry(greeted).await;
            }
        });
    }

    /// Counts of every peer that is needed or connected.
    pub fn streams(&self) -> Vec<(Peer, StreamCounts)> {
        self.0.entries.borrow().iter().map(|(peer, entry)| (*peer, entry.counters.get())).collect()
    }

    /// Counts of what was not let in.
    pub fn handshakes(&self) -> HandshakeCounts {
        self.0.handshakes.borrow().clone()
    }

    /// Ends all connections and listeners. Tasks end soon after.
    pub fn stop(&self) {
        self.0.is_stopped.set(true);
        self.0.listeners.take().iter().for_each(ListenerShutdown::shutdown);
        for entry in self.0.entries.take().values() {
            entry.end();
        }
    }
}

impl Entry {
    /// Nobody needs it any more.
    fn end(&self) {
        self.address.take();
        self.retry.raise();
        if let Some(session) = self.session.take() {
            session.end();
        }
    }
}

impl<C: Replicas> Inner<C> {
    fn entry(&self, peer: Peer) -> Rc<Entry> {
        self.entries.borrow_mut().entry(peer).or_default().clone()
    }

    /// Dials a peer for as long as it is needed.
    async fn keep_dialed(self: Rc<Self>, peer: Peer, entry: Rc<Entry>) {
        let (mut failure_count, mut is_known) = (0u32, false);
        loop {
            let Some(address) = entry.address.borrow().clone() else { break };
            match self.dial(peer, &address).await {
                // Nobody needs it any more: it is dropped, and that closes it.
                Ok(_) if entry.address.borrow().is_none() => break,
                Ok(greeted) => {
                    let began = Instant::now();
                    self.carry(greeted).await;
                    failure_count = self.options.backoff.failures_after(failure_count, began.elapsed());
                    is_known = false;
                }
                Err(error) => {
                    failure_count = failure_count.saturating_add(1);
                    entry.counters.note(|counts| counts.failed_dial_count += 1);
                    // The first failure is news, the others are not.
                    match std::mem::replace(&mut is_known, true) {
                        false => tracing::warn!(%error, "{peer} at {address} cannot be reached"),
                        true => {
                            tracing::debug!(%error, failure_count, "{peer} at {address} cannot be reached")
                        }
                    }
                }
            }
            let chance = random().map_or(0, u32::from_le_bytes);
            let wait = self.options.backoff.wait(failure_count, chance);
            future::or(entry.retry.wait(), pause(wait)).await;
        }
        entry.is_dialing.set(false);
    }

    async fn dial(&self, peer: Peer, address: &str) -> Result<Greeted<ReadHalf, WriteHalf>, DialError> {
        let stream = Stream::connect(address, self.options.connect_time_max).await?;
        let link = Link::from(stream);
        let (closer, time_max) = (link.closer.clone(), self.options.handshake_time_max);
        let greeting = dial(link, &self.identity, &self.secret, &self.roster, peer);
        Ok(within(time_max, closer, greeting).await?)
    }

    async fn greet(&self, stream: Stream) -> Option<Greeted<ReadHalf, WriteHalf>> {
        let from = stream.peer_addr();
        let link = Link::from(stream);
        let (closer, time_max) = (link.closer.clone(), self.options.handshake_time_max);
        let greeting = accept(link, &self.identity, &self.secret, &self.roster);
        match within(time_max, closer, greeting).await {
            Ok(greeted) if !self.is_stopped.get() => return Some(greeted),
            Ok(_) => {}
            Err(error) => {
                self.handshakes.borrow_mut().note(&error);
                tracing::warn!(%error, ?from, "a connection of a peer came to nothing");
            }
        }
        None
    }

    /// Carries a connection until it ends; one that there was before ends at once.
    async fn carry(&self, greeted: Greeted<ReadHalf, WriteHalf>) {
        let peer = greeted.peer;
        let entry = self.entry(peer);
        let session =
            Rc::new(Session::new(greeted.closer.clone(), self.replicas.bell(), entry.counters.clone()));
        let old = entry.session.replace(Some(session.clone()));
        if let Some(old) = old {
            old.end();
        }
        entry.counters.note(|counts| {
            counts.is_connected = true;
            counts.connection_count += 1;
        });
        self.replicas.connected(peer);
        let Options { ping_every, silence_max, .. } = self.options;
        let end = carry(greeted, &session, &self.replicas, Pulse { ping_every, silence_max }).await;
        tracing::debug!(%end, "the connection to {peer} ended");
        let is_bad = match &end {
            End::Wire(_) | End::Unexpected => true,
            End::Frame(error) => !matches!(error, FrameError::Io(_) | FrameError::Truncated { .. }),
            End::Closed | End::Refused(_) | End::Io(_) => false,
        };
        entry.counters.note(|counts| counts.bad_frame_count += u64::from(is_bad));
        let is_ours = entry.session.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, &session));
        if is_ours {
            entry.session.take();
            entry.counters.note(|counts| counts.is_connected = false);
        }
    }
}

/// Why dialing came to nothing.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Connect(#[from] heddle_net::socket::ConnectError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

impl HandshakeCounts {
    fn note(&mut self, error: &HandshakeError) {
        match error {
            HandshakeError::Refusing(refusal) => *self.refused.entry(*refusal).or_default() += 1,
            HandshakeError::Version(_) => self.version += 1,
            HandshakeError::TooSlow => self.too_slow += 1,
            HandshakeError::Foreign
            | HandshakeError::Unexpected(_)
            | HandshakeError::Frame(_)
            | HandshakeError::Wire(_) => self.garbage += 1,
            HandshakeError::Refused(_) | HandshakeError::Ended | HandshakeError::Io(_) => {}
        }
    }
}

/// A handshake that takes too long ends with its connection.
async fn within<T>(
    time_max: Duration,
    closer: ShutdownHandle,
    greeting: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    let began = Instant::now();
    let greeted = close_when_idle(Activity::default(), time_max, closer, greeting).await;
    greeted.map_err(|error| if began.elapsed() >= time_max { HandshakeError::TooSlow } else { error })
}
