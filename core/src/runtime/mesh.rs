//! How cores talk: between each two of them one bounded single-producer queue in each direction.
//!
//! A call takes one of [`IN_FLIGHT_MAX`] slots towards its peer before it is sent, and a queue holds as many requests plus
//! as many replies, so a send never finds the queue full and no two cores can wait for each other's room. Waiting for a
//! slot is the back-pressure. Calls of one task arrive in the order in which they were made.

use std::{cell::RefCell, future::Future, pin::Pin, rc::Rc};

use glommio::{
    channels::shared_channel::{
        ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
    },
    sync::Semaphore,
};
use heddle_proto::ids::CoreId;

use super::{
    Queue, Queues,
    oneshot::{Receiver, Sender, oneshot},
};

/// The most calls of one core that one peer has not answered. Long polls of a single-port node park here, hence more
/// than a pipeline would need.
pub const IN_FLIGHT_MAX: usize = 4096;

enum Envelope<Q, R> {
    Request(u32, Q),
    Reply(u32, R),
}

/// A boxed future that stays on its core.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// What a core does with a request of a peer.
pub enum Answer<R> {
    /// It is answered already.
    Now(R),
    /// It will be: this runs as a task of its own.
    Later(LocalFuture<R>),
}

type PeerEnds<Q, R> = (SharedSender<Envelope<Q, R>>, SharedReceiver<Envelope<Q, R>>);
type PeerReceiver<Q, R> = (Rc<Peer<Q, R>>, ConnectedReceiver<Envelope<Q, R>>);

/// The ends of the queues of one core, before the core runs. Moves to the core's thread.
pub struct MeshEnds<Q: Send, R: Send> {
    me: usize,
    peers: Vec<Option<PeerEnds<Q, R>>>,
}

/// Makes the queues between all cores.
pub fn full_mesh<Q: Send, R: Send>(core_count: u16) -> Vec<MeshEnds<Q, R>> {
    let count = usize::from(core_count);
    let mut ends: Vec<MeshEnds<Q, R>> =
        (0..count).map(|me| MeshEnds { me, peers: (0..count).map(|_| None).collect() }).collect();
    for a in 0..count {
        for b in a + 1..count {
            let (to_b, from_a) = new_bounded(2 * IN_FLIGHT_MAX);
            let (to_a, from_b) = new_bounded(2 * IN_FLIGHT_MAX);
            ends[a].peers[b] = Some((to_b, from_b));
            ends[b].peers[a] = Some((to_a, from_a));
        }
    }
    ends
}

struct Peer<Q: Send, R: Send> {
    sender: ConnectedSender<Envelope<Q, R>>,
    slots: RefCell<Slots<R>>,
    free: Semaphore,
}

struct Slots<R> {
    waiting: Vec<Option<Sender<R>>>,
    free: Vec<u32>,
}

/// The mesh as one core sees it.
pub struct Mesh<Q: Send + 'static, R: Send + 'static> {
    me: CoreId,
    peers: Vec<Option<Rc<Peer<Q, R>>>>,
    receivers: RefCell<Vec<PeerReceiver<Q, R>>>,
}

/// A call could not be made or answered because the peer has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("core {0} has stopped")]
pub struct PeerStopped(pub CoreId);

impl<Q: Send + 'static, R: Send + 'static> MeshEnds<Q, R> {
    /// Connects to all peers; every core must do so at the same time.
    pub async fn connect(self) -> Mesh<Q, R> {
        let mut peers: Vec<Option<Rc<Peer<Q, R>>>> = Vec::with_capacity(self.peers.len());
        let mut receivers = Vec::new();
        // Each side of a queue waits for the other to connect, so all of them must be under way at once.
        let under_way: Vec<_> = self
            .peers
            .into_iter()
            .map(|ends| {
                ends.map(|(sender, receiver)| {
                    (glommio::spawn_local(sender.connect()), glommio::spawn_local(receiver.connect()))
                })
            })
            .collect();
        for tasks in under_way {
            let Some((sender, receiver)) = tasks else {
                peers.push(None);
                continue;
            };
            let peer = Rc::new(Peer {
                sender: sender.await,
                slots: RefCell::new(Slots { waiting: Vec::new(), free: Vec::new() }),
                free: Semaphore::new(IN_FLIGHT_MAX as u64),
            });
            receivers.push((peer.clone(), receiver.await));
            peers.push(Some(peer));
        }
        Mesh { me: CoreId::new(self.me as u16), peers, receivers: RefCell::new(receivers) }
    }
}

impl<Q: Send + 'static, R: Send + 'static> Mesh<Q, R> {
    /// Which core this is.
    pub fn me(&self) -> CoreId {
        self.me
    }

    /// How many cores there are.
    pub fn core_count(&self) -> u16 {
        self.peers.len() as u16
    }

    /// The other cores.
    pub fn peers(&self) -> impl Iterator<Item = CoreId> + use<Q, R> {
        let me = self.me;
        (0..self.core_count()).map(CoreId::new).filter(move |core| *core != me)
    }

    /// How many requests to other cores are not answered yet.
    pub fn in_flight(&self) -> usize {
        let taken = |peer: &Rc<Peer<Q, R>>| IN_FLIGHT_MAX - peer.free.available() as usize;
        self.peers.iter().flatten().map(taken).sum()
    }

    /// Sends a request. Waits only for a free slot; what is returned resolves to the reply.
    ///
    /// # Errors
    /// When the peer has stopped.
    pub async fn call(&self, core: CoreId, request: Q) -> Result<Receiver<R>, PeerStopped> {
        let peer = self.peers[usize::from(core.get())].as_ref().expect("a core does not call itself");
        peer.free.acquire(1).await.map_err(|_| PeerStopped(core))?;
        let (sender, receiver) = oneshot();
        let slot = peer.slots.borrow_mut().put(sender);
        if peer.sender.try_send(Envelope::Request(slot, request)).is_err() {
            peer.slots.borrow_mut().take(slot);
            peer.free.signal(1);
            return Err(PeerStopped(core));
        }
        Ok(receiver)
    }

    /// Sends a request and waits for the reply.
    ///
    /// # Errors
    /// When the peer has stopped.
    pub async fn ask(&self, core: CoreId, request: Q) -> Result<R, PeerStopped> {
        self.call(core, request).await?.await.map_err(|_| PeerStopped(core))
    }

    /// Starts answering the requests of all peers. Called once.
    pub fn serve(&self, queues: Queues, handler: Rc<dyn Fn(CoreId, Q) -> Answer<R>>) {
        let others: Vec<CoreId> = self.peers().collect();
        for ((peer, receiver), from) in self.receivers.take().into_iter().zip(others) {
            queues.spawn(Queue::Hot, receive(peer, receiver, from, queues, handler.clone()));
        }
    }
}

async fn receive<Q: Send + 'static, R: Send + 'static>(
    peer: Rc<Peer<Q, R>>,
    receiver: ConnectedReceiver<Envelope<Q, R>>,
    from: CoreId,
    queues: Queues,
    handler: Rc<dyn Fn(CoreId, Q) -> Answer<R>>,
) {
    while let Some(envelope) = receiver.recv().await {
        match envelope {
            Envelope::Reply(slot, reply) => {
                let waiting = peer.slots.borrow_mut().take(slot);
                peer.free.signal(1);
                if let Some(sender) = waiting {
                    sender.send(reply);
                }
            }
            Envelope::Request(slot, request) => match handler(from, request) {
                Answer::Now(reply) => peer.reply(slot, reply),
                Answer::Later(future) => {
                    let peer = peer.clone();
                    queues.spawn(Queue::Hot, async move { peer.reply(slot, future.await) });
                }
            },
        }
    }
}

impl<Q: Send, R: Send> Peer<Q, R> {
    /// Cannot find the queue full (see the module); a peer that has stopped needs no reply.
    fn reply(&self, slot: u32, reply: R) {
        let _ = self.sender.try_send(Envelope::Reply(slot, reply));
    }
}

impl<R> Slots<R> {
    fn put(&mut self, sender: Sender<R>) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.waiting[slot as usize] = Some(sender);
            return slot;
        }
        self.waiting.push(Some(sender));
        (self.waiting.len() - 1) as u32
    }

    fn take(&mut self, slot: u32) -> Option<Sender<R>> {
        let sender = self.waiting.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(sender)
    }
}
