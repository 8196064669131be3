//! A node's session with whoever leads the metadata, and what the node does while it leads itself.
//!
//! Every heartbeat the node says that it lives, with what its replicas have to say since; a node that leads hears itself.
//! What a replica says is kept until the metadata shows that it was heard, and said again where a leader may have lost it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::{Duration, Instant},
};

use futures_lite::future;
use heddle_log_store::Disk;
use heddle_proto::{
    error::ErrorCode,
    ids::{NodeId, TopicPartition},
};
use heddle_replication_transport::Door;

use super::{
    controller::{Controller, DEAD_AFTER, HEARTBEAT},
    message::{Join, LeaderAt, Reply, Request, Tell, decode_reply, encode_request},
    note::Note,
    notes::{self, Notes, SAY_AGAIN, Teller},
    remote::Ask,
    voters,
};
use crate::{
    metadata::{
        ClusterImage, Command,
        peers::PeerTransport,
        raft::{ChangeError, types::Id},
        service::MetadataService,
    },
    runtime::{event::Event, mesh::LocalFuture, time::sleep},
};

/// A node that was not heard for so long takes no records: its clients find out who leads now. Longer than it takes to
/// replace whoever leads the metadata.
const OUT_OF_TOUCH_AFTER: Duration = Duration::from_millis(1500);

/// How often a controller looks at the clock.
const DECIDE_EVERY: Duration = Duration::from_millis(50);

/// How often the leader looks who should vote.
const VOTERS_EVERY: Duration = Duration::from_millis(250);

/// See the module. Lives on core 0.
pub struct Session<D: Disk> {
    node: u32,
    life: Cell<u32>,
    metadata: Rc<MetadataService<D>>,
    transport: Rc<PeerTransport>,
    /// Whether nodes that came get their share while this node leads the metadata.
    fills: Cell<bool>,
    began: Instant,
    notes: RefCell<Notes>,
    is_leaving: Cell<bool>,
    is_stopped: Cell<bool>,
    /// When whoever leads the metadata last heard this node.
    heard_at: Cell<Duration>,
    /// Who led the metadata when somebody last did, apart from this node.
    led_before: Cell<Option<u32>>,
    /// In the term of that number this node leads.
    controller: RefCell<Option<(u64, Controller)>>,
    tell_now: RefCell<Rc<Event>>,
    change_now: RefCell<Rc<Event>>,
    decide_now: RefCell<Rc<Event>>,
    /// Elections begun here, and those that were lossy.
    elections: Cell<(u64, u64)>,
    /// Members of the agreement that are not registered, and since when this node has seen that.
    strangers: RefCell<BTreeMap<u32, Duration>>,
    /// The door of core 0.
    door: RefCell<Option<Door>>,
    /// Answers what other nodes ask, once this one serves.
    answer: RefCell<Option<Answer>>,
}

/// What answers another node's question.
pub type Answer = Rc<dyn Fn(Ask) -> LocalFuture<Reply>>;

impl<D: Disk> Session<D> {
    /// The session of a node that has not begun its life yet.
    pub fn new(node: NodeId, metadata: Rc<MetadataService<D>>, transport: Rc<PeerTransport>) -> Rc<Self> {
        Rc::new(Session {
            node: node.get(),
            life: Cell::new(0),
            metadata,
            transport,
            fills: Cell::new(true),
            began: Instant::now(),
            notes: RefCell::default(),
            is_leaving: Cell::new(false),
            led_before: Cell::new(None),
            heard_at: Cell::new(Duration::ZERO),
            is_stopped: Cell::new(false),
            controller: RefCell::new(None),
            tell_now: RefCell::new(Event::new()),
            change_now: RefCell::new(Event::new()),
            decide_now: RefCell::new(Event::new()),
            elections: Cell::default(),
            strangers: RefCell::default(),
            door: RefCell::new(None),
            answer: RefCell::new(None),
        })
    }

    /// Whether nodes that came get their share while this node leads the metadata. They do, unless told otherwise.
    pub fn fill_new_nodes(&self, fills: bool) {
        self.fills.set(fills);
    }

    /// Peers come in here.
    pub fn opened(&self, door: Door) {
        *self.door.borrow_mut() = Some(door);
    }

    /// Where peers come in on core 0, if the node has any.
    pub fn door(&self) -> Option<Door> {
        self.door.borrow().clone()
    }

    /// From now on questions of other nodes are answered.
    pub fn answer_with(&self, answer: Answer) {
        *self.answer.borrow_mut() = Some(answer);
    }

    /// A question of another node.
    pub async fn answer_ask(&self, ask: Ask) -> Reply {
        let answer = self.answer.borrow().clone();
        match answer {
            Some(answer) => answer(ask).await,
            None => Reply::Asked(ErrorCode::CoordinatorNotAvailable.code()),
        }
    }

    /// Asks another node; `None` when no reply comes.
    pub async fn ask(&self, node: NodeId, ask: Ask) -> Option<Reply> {
        let address = self.metadata.node().address_of(node)?;
        let request = encode_request(&Request::Ask(ask));
        let reply = self.transport.ask(Id::from(node.get()), &address, request).await.ok()?;
        decode_reply(&reply).ok()
    }

    /// Tells whoever leads the metadata where this node is reached, until it has heard it or the node lives: who leads
    /// cannot find a node that has moved.
    pub async fn tell_address(&self, address: &str) {
        let moved = Join { node: self.node, address: address.to_owned() };
        let request = encode_request(&Request::Moved(moved));
        while self.life.get() == 0 && !self.is_stopped.get() {
            let members = self.metadata.node().members();
            for member in members.voters.union(&members.learners).filter(|member| member.get() != self.node) {
                let Some(at) = self.metadata.node().address_of(*member) else { continue };
                let reply = self.transport.ask(Id::from(member.get()), &at, request.clone()).await;
                if matches!(reply.map(|bytes| decode_reply(&bytes)), Ok(Ok(Reply::Done))) {
                    return;
                }
            }
            sleep(SAY_AGAIN).await;
        }
    }

    /// The node has registered, and lives from now on.
    pub fn live(&self, life: u32) {
        self.life.set(life);
        self.heard_at.set(self.now());
        self.tell_now.borrow().fire();
    }

    /// The metadata that it is about.
    pub fn metadata(&self) -> &Rc<MetadataService<D>> {
        &self.metadata
    }

    /// Replicas of this node have something to say.
    pub fn note(&self, said: Vec<Note>) {
        let mut notes = self.notes.borrow_mut();
        for note in said {
            let now = if notes.take(note) { &self.change_now } else { &self.tell_now };
            now.borrow().fire();
        }
    }

    /// The node is about to stop: whatever it leads goes to others. Returns when nothing is left that another could
    /// lead, or after `patience`.
    pub async fn leave(&self, patience: Duration) {
        self.is_leaving.set(true);
        self.tell_now.borrow().fire();
        let deadline = Instant::now() + patience;
        while notes::leads_what_others_could(&self.metadata.image(), self.node) && Instant::now() < deadline {
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Whether the loops have been ended.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.get()
    }

    /// Whether whoever leads the metadata has heard this node lately. One that was not heard may have been replaced in
    /// all that it leads.
    pub fn is_in_touch(&self) -> bool {
        self.now().saturating_sub(self.heard_at.get()) < OUT_OF_TOUCH_AFTER
    }

    /// Says every change of [`Session::is_in_touch`], until [`Session::stop`].
    pub async fn watch_touch(&self, mut say: impl AsyncFnMut(bool)) {
        let mut was_in_touch = true;
        while !self.is_stopped.get() {
            sleep(HEARTBEAT).await;
            let is_in_touch = self.is_in_touch();
            if is_in_touch != was_in_touch {
                was_in_touch = is_in_touch;
                let members = self.metadata.node().members();
                if !is_in_touch && members.voters.len() + members.learners.len() > 1 {
                    tracing::warn!(
                        "nobody who leads the metadata hears this node: it takes no records for now"
                    );
                }
                say(is_in_touch).await;
            }
        }
    }

    /// Ends the loops.
    pub fn stop(&self) {
        self.is_stopped.set(true);
        self.transport.stop();
        self.answer.take();
        if let Some(door) = self.door.take() {
            door.stop();
        }
        for event in [&self.tell_now, &self.change_now, &self.decide_now] {
            event.borrow().fire();
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Says every heartbeat that this node lives, until [`Session::stop`].
    pub async fn keep(&self) {
        while !self.is_stopped.get() {
            if self.life.get() > 0 {
                self.tell().await;
            }
            wait(&self.tell_now, HEARTBEAT).await;
        }
    }

    async fn tell(&self) {
        let Some(leader) = self.metadata.node().members().leader else { return };
        let tell = self.tell_to(leader);
        if leader.get() != self.node {
            self.led_before.set(Some(leader.get()));
        }
        if leader.get() == self.node {
            if self.hear(tell) == Reply::Done && self.has_quorum().await {
                self.heard_at.set(self.now());
            }
            return;
        }
        let Some(address) = self.metadata.node().address_of(leader) else { return };
        let said: Vec<TopicPartition> =
            tell.sealed.iter().map(|it| it.at).chain(tell.wishes.iter().map(|it| it.at)).collect();
        let request = encode_request(&Request::Tell(tell));
        let call = self.transport.ask(Id::from(leader.get()), &address, request);
        let late = async {
            sleep(DEAD_AFTER).await;
            None
        };
        let reply = future::or(async { Some(call.await) }, late).await;
        let is_heard = matches!(reply, Some(Ok(bytes)) if decode_reply(&bytes) == Ok(Reply::Done));
        if is_heard {
            self.heard_at.set(self.now());
        } else {
            self.notes.borrow_mut().unheard(said);
        }
    }

    /// Whether a quorum says that this node still leads the metadata.
    async fn has_quorum(&self) -> bool {
        let read = async { self.metadata.node().read().await.is_ok() };
        let late = async {
            sleep(DEAD_AFTER).await;
            false
        };
        future::or(read, late).await
    }

    /// What is to be said now.
    fn tell_to(&self, leader: NodeId) -> Tell {
        let teller = Teller { node: self.node, life: self.life.get(), is_leaving: self.is_leaving.get() };
        self.notes.borrow_mut().tell(self.now(), &self.metadata.image(), leader, teller)
    }

    /// Another node has said something, or this one. Only a node that leads listens.
    pub fn hear(&self, tell: Tell) -> Reply {
        let Some(term) = self.metadata.node().leads() else { return Reply::NotLeader(self.leader()) };
        let now = self.now();
        let mut controller = self.controller.borrow_mut();
        if controller.as_ref().is_none_or(|(of, _)| *of != term) {
            let before = self.led_before.get().filter(|node| *node != self.node);
            *controller = Some((term, Controller::new(now, before).filling(self.fills.get())));
        }
        let is_urgent = controller.as_mut().is_some_and(|(_, controller)| controller.hear(now, tell));
        if is_urgent {
            self.decide_now.borrow().fire();
        }
        Reply::Done
    }

    /// This node's id.
    pub fn node(&self) -> u32 {
        self.node
    }

    /// The way to the other nodes.
    pub(super) fn transport(&self) -> &PeerTransport {
        &self.transport
    }

    /// Uses the controller of the term in which this node leads, which then decides at once; `None` if it does not lead.
    pub(super) fn with_controller<T>(&self, act: impl FnOnce(Duration, &mut Controller) -> T) -> Option<T> {
        let term = self.metadata.node().leads()?;
        let mut controller = self.controller.borrow_mut();
        let (_, controller) = controller.as_mut().filter(|(of, _)| *of == term)?;
        let done = act(self.now(), controller);
        self.decide_now.borrow().fire();
        Some(done)
    }

    /// Who leads the metadata, as far as this node knows.
    pub fn leader(&self) -> Option<LeaderAt> {
        let leader = self.metadata.node().members().leader?;
        let address = self.metadata.node().address_of(leader)?;
        Some(LeaderAt { node: leader.get(), address })
    }

    /// Whether a node was heard lately; only the leader can tell.
    pub fn is_alive(&self, node: u32) -> bool {
        let controller = self.controller.borrow();
        controller.as_ref().is_some_and(|(_, controller)| controller.is_alive(self.now(), node))
    }

    /// Proposes the changes of in-sync sets and quorums that primaries of this node want, until [`Session::stop`].
    pub async fn change_in_sync(&self) {
        while !self.is_stopped.get() {
            let commands = self.notes.borrow_mut().changes(&self.metadata.image());
            for command in commands {
                if let Err(error) = self.metadata.submit(command).await {
                    tracing::debug!(%error, "in-sync sets and quorums stay as they are for now");
                }
            }
            wait(&self.change_now, SAY_AGAIN).await;
        }
    }

    /// Decides while this node leads the metadata, until [`Session::stop`].
    pub async fn control(&self) {
        let mut voters_at = Duration::ZERO;
        while !self.is_stopped.get() {
            self.decide().await;
            if self.now().saturating_sub(voters_at) >= VOTERS_EVERY {
                voters_at = self.now();
                self.look_after_members().await;
            }
            wait(&self.decide_now, DECIDE_EVERY).await;
        }
    }

    async fn decide(&self) {
        let Some(term) = self.metadata.node().leads() else {
            self.controller.take();
            return;
        };
        let image = self.metadata.image();
        let commands = match self.controller.borrow_mut().as_mut() {
            Some((of, controller)) if *of == term => controller.decide(self.now(), &image),
            _ => return,
        };
        for command in commands {
            match &command {
                Command::BeginElections { elections } => {
                    tracing::info!(count = elections.len(), "partitions get another leader");
                    self.count_elections(elections.len(), 0);
                }
                Command::EndElections { elected } => {
                    for lossy in elected.iter().filter(|elected| elected.is_lossy) {
                        tracing::error!(
                            topic = %lossy.topic, partition = lossy.partition, leader = lossy.leader,
                            "nobody is left who is sure to have all that was committed: the longest log leads"
                        );
                        self.count_elections(0, 1);
                    }
                }
                Command::Rebalance { moves } => {
                    tracing::info!(count = moves.len(), "partitions move to other nodes");
                }
                Command::EndFilling { nodes } => {
                    tracing::info!(?nodes, "these nodes have their share of the partitions");
                }
                _ => {}
            }
            if let Err(error) = self.metadata.submit(command).await {
                tracing::warn!(%error, "an election or a move is decided again");
            }
        }
    }

    fn count_elections(&self, begun: usize, lossy: usize) {
        let (begun_before, lossy_before) = self.elections.get();
        self.elections.set((begun_before + begun as u64, lossy_before + lossy as u64));
    }

    /// Elections of partitions that this node began since it started, and how many of them may have lost records.
    pub fn elections(&self) -> (u64, u64) {
        self.elections.get()
    }

    /// Keeps the members of the agreement to those of the cluster, where they are, and an odd number of them voting.
    async fn look_after_members(&self) {
        if self.metadata.node().leads().is_none() {
            return;
        }
        let image = self.metadata.image();
        let members = self.metadata.node().members();
        for node in image.nodes.values().filter(|node| !node.peer_address.is_empty()) {
            let known = self.metadata.node().address_of(node.id);
            if known.is_some_and(|known| known != node.peer_address) {
                let moved = self.metadata.node().admit(node.id, &node.peer_address).await;
                note_failure("a node's new address is not taken", moved);
            }
        }
        let ids = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|node| node.get()).collect::<BTreeSet<u32>>();
        let all: BTreeSet<u32> = ids(&members.voters.union(&members.learners).copied().collect());
        self.expel_strangers(&image, &all).await;
        let known: BTreeSet<u32> = image.nodes.keys().copied().filter(|node| all.contains(node)).collect();
        let chosen = {
            let controller = self.controller.borrow();
            let Some((_, controller)) = controller.as_ref() else { return };
            let silence = |node| controller.silence(self.now(), node);
            voters::choose(&ids(&members.voters), &known, self.node, DEAD_AFTER, silence)
        };
        if let Some(chosen) = chosen {
            let ids = chosen.iter().copied().map(NodeId::new).collect();
            match self.metadata.node().choose_voters(&ids).await {
                Ok(()) => tracing::info!(?chosen, "these nodes vote on the metadata from now on"),
                Err(error) => tracing::warn!(%error, "the voters stay as they are for now"),
            }
        }
    }
}

impl<D: Disk> Session<D> {
    /// Takes members out of the agreement that have not been registered for long: they were removed. A node that joins
    /// is a member for a moment before it registers.
    async fn expel_strangers(&self, image: &ClusterImage, members: &BTreeSet<u32>) {
        let now = self.now();
        let gone: Vec<u32> = {
            let mut strangers = self.strangers.borrow_mut();
            let is_strange = |node: &u32| members.contains(node) && !image.nodes.contains_key(node);
            strangers.retain(|node, _| is_strange(node));
            members.iter().filter(|node| is_strange(node)).for_each(|node| {
                strangers.entry(*node).or_insert(now);
            });
            let is_old = |since: &Duration| now.saturating_sub(*since) >= voters::GONE_AFTER;
            strangers.iter().filter(|(_, since)| is_old(since)).map(|(node, _)| *node).collect()
        };
        for node in gone.into_iter().filter(|node| *node != self.node) {
            let expelled = self.metadata.node().expel(NodeId::new(node)).await;
            note_failure("a node that is not registered stays a member for now", expelled);
        }
    }
}

fn note_failure(what: &str, result: Result<(), ChangeError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what}");
    }
}

/// Waits for an event, which is then new again, but not longer than this.
async fn wait(event: &RefCell<Rc<Event>>, limit: Duration) {
    let waits = event.borrow().clone();
    future::or(waits.wait(), sleep(limit)).await;
    if waits.has_fired() {
        *event.borrow_mut() = Event::new();
    }
}
