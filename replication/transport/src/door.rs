//! Where others come in: greets whoever connects and hands the connection to who takes those of its purpose.
//!
//! A door is what others see of a core: its identity, the secret, whom it has met. It is there before anybody takes anything:
//! calls are let in as soon as somebody answers them, streams when there are [`crate::Peers`] behind it, which need to know the
//! life of the node first. A [`Door`] belongs to its core; clones share it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::BoxedLocal;
use heddle_net::socket::{
    AcceptError, Activity, Listener, ListenerShutdown, ReadHalf, ShutdownHandle, Stream, WriteHalf,
    close_when_idle, pause, spawn,
};
use heddle_replication::message::Life;

use crate::backoff::Backoff;
use crate::handshake::{Aim, Greeted, HandshakeError, Identity, Roster, Secret, accept, dial};
use crate::link::Link;
use crate::scarce::Scarce;
use crate::wire::{CLUSTER_ID_BYTES_MAX, Purpose, Refusal};

/// Times and limits of the connections of one core.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Waits between attempts to dial.
    pub backoff: Backoff,
    /// How long each address of a peer may take to answer.
    pub connect_time_max: Duration,
    /// How long a handshake may take.
    pub handshake_time_max: Duration,
    /// Connections that are being greeted at once, each holding a few kilobytes. The oldest is closed for another: a peer needs
    /// a moment, and those that are silent leave the place to it.
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
    /// Closed for others, because too many were being greeted.
    pub too_many: u64,
}

/// A connection over a socket.
pub(crate) type Met = Greeted<ReadHalf, WriteHalf>;

/// Carries connections of one purpose that were let in.
pub(crate) type Taker = Rc<dyn Fn(Met) -> BoxedLocal<()>>;

/// See the module.
#[derive(Clone)]
pub struct Door(Rc<Inner>);

struct Inner {
    identity: RefCell<Identity>,
    secret: Secret,
    options: Options,
    roster: Rc<RefCell<Roster>>,
    takers: RefCell<BTreeMap<Purpose, Taker>>,
    /// Those that are being greeted, the oldest first, by a number that rises.
    greeting: RefCell<BTreeMap<u64, ShutdownHandle>>,
    greeting_next: Cell<u64>,
    handshakes: RefCell<HandshakeCounts>,
    failures: Scarce<(Discriminant<HandshakeError>, Option<Refusal>)>,
    listeners: RefCell<Vec<ListenerShutdown>>,
    is_stopped: Cell<bool>,
}

impl Door {
    /// A core that lets nobody in yet. Its life may be told later, by [`crate::Peers::behind`].
    ///
    /// # Panics
    /// If the cluster id is too long or missing, or a connection would be closed between two pings.
    pub fn new(identity: Identity, secret: Secret, options: Options) -> Door {
        let cluster_bytes = identity.cluster.len();
        assert!((1..=CLUSTER_ID_BYTES_MAX).contains(&cluster_bytes), "cluster id of {cluster_bytes} bytes");
        assert!(options.ping_every < options.silence_max, "{options:?}");
        Door(Rc::new(Inner {
            identity: RefCell::new(identity),
            secret,
            options,
            roster: Rc::default(),
            takers: RefCell::default(),
            greeting: RefCell::default(),
            greeting_next: Cell::new(0),
            handshakes: RefCell::default(),
            failures: Scarce::default(),
            listeners: RefCell::default(),
            is_stopped: Cell::new(false),
        }))
    }

    /// Lets others in until [`Self::stop`].
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
        let number = inner.begin_greeting(&stream);
        spawn(async move {
            let greeted = inner.greet(stream).await;
            // Without a place any more it was closed for another.
            let kept = inner.greeting.borrow_mut().remove(&number);
            let Some(greeted) = greeted.filter(|_| kept.is_some()) else { return };
            let taker = inner.takers.borrow().get(&greeted.purpose).cloned();
            if let Some(take) = taker {
                drop(inner);
                take(greeted).await;
            }
        });
    }

    /// Counts of what was not let in.
    pub fn handshakes(&self) -> HandshakeCounts {
        self.0.handshakes.borrow().clone()
    }

    /// Ends all listeners, and what is being greeted. Connections that were let in are those of who took them.
    pub fn stop(&self) {
        self.0.is_stopped.set(true);
        self.0.takers.borrow_mut().clear();
        self.0.listeners.take().iter().for_each(ListenerShutdown::shutdown);
    }

    /// From now on connections of this purpose are let in, and go there.
    pub(crate) fn take(&self, purpose: Purpose, taker: Taker) {
        if !self.0.is_stopped.get() {
            self.0.takers.borrow_mut().insert(purpose, taker);
        }
    }

    /// Connections of this purpose are let in no more.
    pub(crate) fn refuse(&self, purpose: Purpose) {
        self.0.takers.borrow_mut().remove(&purpose);
    }

    pub(crate) fn identity(&self) -> Identity {
        self.0.identity.borrow().clone()
    }

    pub(crate) fn live(&self, life: Life) {
        self.0.identity.borrow_mut().life = life;
    }

    pub(crate) fn options(&self) -> Options {
        self.0.options
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.0.secret
    }

    pub(crate) fn roster(&self) -> &Rc<RefCell<Roster>> {
        &self.0.roster
    }
}

impl Inner {
    /// Makes room for one more, at the cost of the oldest.
    fn begin_greeting(&self, stream: &Stream) -> u64 {
        let mut greeting = self.greeting.borrow_mut();
        while greeting.len() >= self.options.greeting_count_max.max(1)
            && let Some((_, oldest)) = greeting.pop_first()
        {
            oldest.shutdown(Shutdown::Both);
            self.handshakes.borrow_mut().too_many += 1;
        }
        let number = self.greeting_next.get();
        self.greeting_next.set(number + 1);
        greeting.insert(number, stream.shutdown_handle());
        number
    }

    async fn greet(&self, stream: Stream) -> Option<Met> {
        let from = stream.peer_addr();
        let link = Link::from(stream);
        let (closer, time_max) = (link.closer.clone(), self.options.handshake_time_max);
        let identity = self.identity.borrow().clone();
        let purposes: Vec<Purpose> = self.takers.borrow().keys().copied().collect();
        let greeting = accept(link, &identity, &self.secret, &self.roster, &purposes);
        match within(time_max, closer, greeting).await {
            Ok(greeted) if !self.is_stopped.get() => return Some(greeted),
            Ok(_) => {}
            Err(error) => {
                self.handshakes.borrow_mut().note(&error);
                let kind = (discriminant(&error), error.refusal());
                if let Some(left_out) = self.failures.due(kind, Instant::now()) {
                    tracing::warn!(%error, ?from, left_out, "a connection of a peer came to nothing");
                }
            }
        }
        None
    }
}

/// Connects and greets whoever is there.
pub(crate) async fn reach(
    address: &str,
    (connect_time_max, handshake_time_max): (Duration, Duration),
    (identity, secret, roster): (&Identity, &Secret, &RefCell<Roster>),
    aim: Aim,
) -> Result<Met, DialError> {
    let link = Link::from(Stream::connect(address, connect_time_max).await?);
    let closer = link.closer.clone();
    Ok(within(handshake_time_max, closer, dial(link, identity, secret, roster, aim)).await?)
}

/// Why dialing came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Connect(#[from] heddle_net::socket::ConnectError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

impl HandshakeCounts {
    fn note(&mut self, error: &HandshakeError) {
        if let Some(refusal) = error.refusal() {
            *self.refused.entry(refusal).or_default() += 1;
        }
        match error {
            HandshakeError::Version(_) => self.version += 1,
            HandshakeError::TooSlow => self.too_slow += 1,
            HandshakeError::Foreign
            | HandshakeError::Unexpected(_)
            | HandshakeError::Frame(_)
            | HandshakeError::Wire(_) => self.garbage += 1,
            HandshakeError::Refusing(_)
            | HandshakeError::OtherCluster { .. }
            | HandshakeError::Refused(_)
            | HandshakeError::Ended
            | HandshakeError::Io(_) => {}
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
