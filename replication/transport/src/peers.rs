//! All streams of one core: who dials, who is let in, and what happens when a connection breaks.
//!
//! Between two cores there is one connection, and the core of the node with the lower id dials it, again and again while it is
//! needed. Where an end finds a new one made while it still has an old one, the new one is right: the old one is dead and this
//! end has not noticed. A [`Peers`] belongs to its core; clones share it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use futures_lite::future;
use heddle_net::socket::{Listener, pause, spawn};
use heddle_replication::message::Life;
use heddle_replication_driver::Peer;

use crate::counters::{Counters, StreamCounts};
use crate::door::{DialError, Door, HandshakeCounts, Met, Options, reach};
use crate::handshake::{Aim, Identity, Secret, random};
use crate::session::{Pulse, Replicas, Session, carry};
use crate::signal::Signal;
use crate::wire::Purpose;

/// See the module.
#[derive(Clone)]
pub struct Peers<C>(Rc<Inner<C>>);

struct Inner<C> {
    door: Door,
    /// Nobody else has it, so that it ends with this.
    owns_door: bool,
    /// As the streams tell it.
    identity: Identity,
    options: Options,
    replicas: C,
    entries: RefCell<BTreeMap<Peer, Rc<Entry>>>,
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
    /// A core without connections, behind a door of its own.
    ///
    /// # Panics
    /// As [`Door::new`].
    pub fn new(identity: Identity, secret: Secret, options: Options, replicas: C) -> Self {
        let life = identity.life;
        Self::assemble(&Door::new(identity, secret, options), life, replicas, true)
    }

    /// A core without connections, in this life of its node; from now on the door lets streams in.
    pub fn behind(door: &Door, life: Life, replicas: C) -> Self {
        Self::assemble(door, life, replicas, false)
    }

    fn assemble(door: &Door, life: Life, replicas: C, owns_door: bool) -> Self {
        door.live(life);
        let inner = Rc::new(Inner {
            door: door.clone(),
            owns_door,
            identity: door.identity(),
            options: door.options(),
            replicas,
            entries: RefCell::default(),
            is_stopped: Cell::new(false),
        });
        let weak = Rc::downgrade(&inner);
        let taker = Rc::new(move |greeted: Met| -> future::BoxedLocal<()> {
            let inner = weak.upgrade().filter(|inner| !inner.is_stopped.get());
            Box::pin(async move {
                if let Some(inner) = inner {
                    inner.carry(greeted).await;
                }
            })
        });
        door.take(Purpose::Streams, taker);
        Peers(inner)
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

    /// Lets others in until [`Self::stop`].
    pub async fn serve(&self, listener: Listener) {
        self.0.door.serve(listener).await;
    }

    /// Counts of every peer that is needed or connected.
    pub fn streams(&self) -> Vec<(Peer, StreamCounts)> {
        self.0.entries.borrow().iter().map(|(peer, entry)| (*peer, entry.counters.get())).collect()
    }

    /// Counts of what was not let in.
    pub fn handshakes(&self) -> HandshakeCounts {
        self.0.door.handshakes()
    }

    /// Ends all connections, and the door if it was not given. Tasks end soon after.
    pub fn stop(&self) {
        self.0.is_stopped.set(true);
        self.0.door.refuse(Purpose::Streams);
        if self.0.owns_door {
            self.0.door.stop();
        }
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

    async fn dial(&self, peer: Peer, address: &str) -> Result<Met, DialError> {
        let times = (self.options.connect_time_max, self.options.handshake_time_max);
        let me = (&self.identity, self.door.secret(), &**self.door.roster());
        reach(address, times, me, Aim::Streams(peer)).await
    }

    /// Carries a connection until it ends; one that there was before ends at once.
    async fn carry(&self, greeted: Met) {
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
        entry.counters.note(|counts| counts.bad_frame_count += u64::from(end.is_bad()));
        let is_ours = entry.session.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, &session));
        if is_ours {
            entry.session.take();
            entry.counters.note(|counts| counts.is_connected = false);
        }
    }
}
