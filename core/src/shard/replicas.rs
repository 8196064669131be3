//! The replicas of this core: which partitions have one here, what they are told of the metadata, and what they say.
//!
//! A partition with several replicas is opened on every core that has one, as soon as the metadata says so: a backup works
//! without being asked. Whoever leads is said by the metadata alone.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use heddle_log_store::{Disk, Log, StorageError};
use heddle_proto::ids::{CoreId, Epoch, NodeId, TopicPartition};
use heddle_replication::{history::History, message::Life};
use heddle_replication_driver::{
    Driver, Event, JobError, Options, Peer,
    promises::{PromiseFiles, Promises},
};
use heddle_replication_transport::{Door, Observer, Peers, Runner};

use super::{
    Shard,
    homes::Homes,
    news::{self, News},
    request::CoreRequest,
};
use crate::{
    cluster::note::Note,
    fatal::{Fatal, fatal},
    metadata::{ClusterImage, NodeImage, PartitionImage, TopicImage},
    runtime::{Queue, event, signals, time::sleep},
};

/// How often a driver looks at its clock. What it waits for takes a quarter of a second and more.
const TICK: Duration = Duration::from_millis(50);

/// How long a node with a damaged log goes on before it starts anew: a disk that fails all the time must not keep it from
/// doing anything else.
const MEND_PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked for clients that wait for replicas which are not in sync any more.
const STARVED_EVERY: Duration = Duration::from_secs(1);

/// How long a backup goes on taking records in an election where the primary alone commits. Such an election cannot end
/// without the primary's answer, and none of the others can win it without all that the primary has taken until it heard of
/// it. Shorter than elections wait for answers.
const SEALS_AFTER: Duration = Duration::from_millis(150);

/// The replicas of one core.
pub struct Replicas<D: Disk + 'static> {
    life: Life,
    runner: Runner<D>,
    observer: Rc<ShardObserver<D>>,
    peers: RefCell<Option<Peers<Runner<D>>>>,
    /// The metadata when this life began.
    at_start: Arc<ClusterImage>,
    /// What each replica was last told.
    told: RefCell<BTreeMap<TopicPartition, PartitionImage>>,
    /// And how many replicas are to hold what is committed.
    required: RefCell<BTreeMap<TopicPartition, u16>>,
    needed: RefCell<BTreeMap<Peer, String>>,
    /// Replicas that have left what they have in good order.
    stopped: RefCell<BTreeSet<TopicPartition>>,
    is_in_touch: Cell<bool>,
    /// Logs of replicas that have gone elsewhere, while they are being deleted.
    deleting: RefCell<BTreeSet<TopicPartition>>,
    homes: Arc<Homes>,
    /// A replica is to come here whose log another core of this node has.
    is_waiting: Cell<bool>,
}

impl<D: Disk + 'static> Replicas<D> {
    /// A core without replicas, with the promises that its life before left.
    pub fn new(
        me: (NodeId, Life),
        options: Options,
        at_start: Arc<ClusterImage>,
        store: heddle_log_store::LogStore<D>,
        (files, found): (PromiseFiles<D>, Option<(Promises, u64)>),
        homes: Arc<Homes>,
    ) -> Self {
        let observer = Rc::new(ShardObserver {
            shard: RefCell::default(),
            notes: RefCell::default(),
            is_noting: Cell::new(false),
        });
        let driver = Driver::new(me.0, me.1, options, store, files, found);
        let runner = Runner::new(driver, options, TICK, observer.clone());
        Replicas {
            life: me.1,
            runner,
            observer,
            peers: RefCell::default(),
            at_start,
            told: RefCell::default(),
            required: RefCell::default(),
            needed: RefCell::default(),
            stopped: RefCell::default(),
            is_in_touch: Cell::new(true),
            deleting: RefCell::default(),
            homes,
            is_waiting: Cell::new(false),
        }
    }

    /// The way to the replicas.
    pub fn runner(&self) -> &Runner<D> {
        &self.runner
    }

    /// The files of a log of this core are gone.
    pub(super) fn left(&self, at: TopicPartition, core: CoreId) {
        self.homes.leave(at, core);
    }

    /// Connections to the other nodes, if there are any.
    pub fn peers(&self) -> Option<Peers<Runner<D>>> {
        self.peers.borrow().clone()
    }

    /// Ends the connections and the clock.
    pub fn stop(&self) {
        self.runner.stop();
        if let Some(peers) = self.peers.take() {
            peers.stop();
        }
    }
}

impl<D: Disk + 'static> Shard<D> {
    /// Begins to work with replicas: from now on they say what they have to say, and peers come in.
    pub fn start_replicas(self: &Rc<Self>, door: Option<&Door>) {
        *self.replicas.observer.shard.borrow_mut() = Rc::downgrade(self);
        if let Some(door) = door {
            let peers = Peers::behind(door, self.replicas.life, self.replicas.runner.clone());
            *self.replicas.peers.borrow_mut() = Some(peers);
        }
        let runner = self.replicas.runner.clone();
        self.queues.spawn(Queue::Hot, async move { runner.run().await });
        let shard = self.clone();
        self.queues.spawn(Queue::Hot, async move {
            while !shard.is_stopping() {
                let freed = event::Event::new();
                shard.room.add(&freed);
                freed.wait().await;
                shard.replicas.runner.room_freed();
            }
        });
        let shard = self.clone();
        self.queues.spawn(Queue::Control, async move {
            while !shard.is_stopping() {
                sleep(STARVED_EVERY).await;
                shard.partitions.borrow().values().for_each(|partition| partition.release_starved());
            }
        });
    }

    /// Cuts those of these logs that the primary has to fill up again, where the disk has damaged them. To be called before
    /// replicas are opened, and once they are doubted on stable storage.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn mend_replicas(&self, damaged: Vec<TopicPartition>) -> Result<(), StorageError> {
        let image = self.image();
        for at in damaged {
            let topic = image.topic_by_id(at.topic);
            let is_mended = |partition: &PartitionImage| partition.has_others_in_sync(self.node.get());
            let Some(topic) = topic.filter(|topic| topic.partition(at.partition).is_some_and(is_mended))
            else {
                continue;
            };
            if image.core_on(self.node, at) != Some(self.core()) {
                continue;
            }
            let damage = self.store.log(at, topic.config.log).damage();
            if let Some(damage) = damage {
                tracing::warn!(topic = %topic.name, partition = %at.partition, offset = %damage.offset, "the log of a replica is damaged: what lies behind comes from the primary");
                // What is written with the cut is what the partition knows then.
                let partition = self.open(at);
                partition.follow_cut(damage.offset);
                partition.log().cut(damage.offset).await?;
            }
        }
        Ok(())
    }

    /// Whether other nodes are sure to have what a replica here has.
    fn has_others_in_sync(&self, at: TopicPartition) -> bool {
        let image = self.image();
        let partition = image.topic_by_id(at.topic).and_then(|topic| topic.partition(at.partition));
        partition.is_some_and(|partition| partition.has_others_in_sync(self.node.get()))
    }

    /// Every replica leaves what it has in good order; returns when they have, or after `patience`.
    pub async fn stop_replicas(&self, patience: Duration) {
        let hosted: Vec<TopicPartition> = self.replicas.told.borrow().keys().copied().collect();
        self.replicas.runner.with(Driver::stop);
        let deadline = std::time::Instant::now() + patience;
        // A replica may say more than once that it has stopped.
        let has_stopped = |at: &TopicPartition| self.replicas.stopped.borrow().contains(at);
        while !hosted.iter().all(has_stopped) && std::time::Instant::now() < deadline {
            sleep(Duration::from_millis(2)).await;
        }
        self.replicas.stop();
    }

    /// The node is in touch with whoever leads the metadata, or not: then it may have been replaced in all that it leads,
    /// and takes no records.
    pub fn touch(&self, is_in_touch: bool) {
        self.replicas.is_in_touch.set(is_in_touch);
        self.partitions.borrow().values().for_each(|partition| partition.admit(is_in_touch));
    }

    /// Opens the replicas that this core has, tells them what is new, and closes those that are gone.
    pub fn follow_replicas(self: &Rc<Self>) {
        let image = self.image();
        let mut here = BTreeSet::new();
        for (topic, at, partition) in news::replicas_on(&image, (self.node, self.core())) {
            if self.replicas.deleting.borrow().contains(&at) {
                continue;
            }
            let told = self.replicas.told.borrow().get(&at).cloned();
            if told.is_none() && !self.replicas.homes.take(at, self.core()) {
                self.follow_soon();
                continue;
            }
            here.insert(at);
            if told.as_ref() != Some(partition) {
                let me = (self.node, self.replicas.life);
                let news = News::of(&image, me, topic, partition, told.as_ref());
                self.tell_replica(topic, at, news, told.is_none());
                self.replicas.told.borrow_mut().insert(at, partition.clone());
            }
            let required = partition.required_quorum(topic.config.commit_quorum);
            if self.replicas.required.borrow_mut().insert(at, required) != Some(required) {
                self.replicas.runner.with(|driver, _| driver.require(at, usize::from(required)));
            }
        }
        let gone: Vec<TopicPartition> =
            self.replicas.told.borrow().keys().filter(|at| !here.contains(at)).copied().collect();
        for at in &gone {
            self.replicas.told.borrow_mut().remove(at);
            self.replicas.required.borrow_mut().remove(at);
            self.replicas.runner.with(|driver, _| driver.remove(*at));
        }
        self.delete_moved(gone);
        self.follow_peers(&image);
    }

    /// Another core has to hear of a move first, and to delete.
    fn follow_soon(self: &Rc<Self>) {
        if self.replicas.is_waiting.replace(true) {
            return;
        }
        let shard = self.clone();
        self.queues.spawn(Queue::Control, async move {
            sleep(TICK).await;
            shard.replicas.is_waiting.set(false);
            if !shard.is_stopping() {
                shard.follow_replicas();
            }
        });
    }

    /// Deletes the logs of those of these partitions that are still there, but not on this core any more.
    pub fn delete_moved(self: &Rc<Self>, logs: Vec<TopicPartition>) {
        let image = self.image();
        let me = (self.node, self.core());
        for at in logs.into_iter().filter(|at| news::is_elsewhere(&image, me, *at)) {
            if !self.replicas.deleting.borrow_mut().insert(at) {
                continue;
            }
            self.close_moved(at);
            let shard = self.clone();
            self.queues.spawn(Queue::Control, async move {
                match shard.store.delete(at).await {
                    Ok(()) => {
                        shard.replicas.left(at, shard.core());
                        tracing::info!(topic = %at.topic, partition = %at.partition, "a replica has gone elsewhere; its files are deleted");
                    }
                    Err(error) => tracing::warn!(topic = %at.topic, partition = %at.partition, %error, "files of a replica that has gone stay for now"),
                }
                shard.replicas.deleting.borrow_mut().remove(&at);
                // Meanwhile it may have been given back.
                if !shard.is_stopping() {
                    shard.follow_replicas();
                }
            });
        }
    }

    fn close_moved(&self, at: TopicPartition) {
        let opened = self.partitions.borrow_mut().remove(&at);
        if let Some(opened) = opened {
            opened.lead(false);
            self.hooks.detach(opened.log().id());
            opened.close();
        }
    }

    fn tell_replica(self: &Rc<Self>, topic: &TopicImage, at: TopicPartition, news: News, is_new: bool) {
        let opened = self.partitions.borrow().get(&at).cloned();
        let opened = opened.unwrap_or_else(|| self.open(at));
        opened.replicate(self.replicas.runner.clone());
        let leads = news.leads;
        if !leads {
            // Nobody waits for what this replica may not commit any more.
            opened.lead(false);
        }
        if is_new {
            let log: Log<D> = opened.log().clone();
            let is_damaged = log.damage().is_some();
            let history = History::from_entries(opened.history()).unwrap_or_default();
            let placement = news.placement(&self.replicas.at_start, topic, at, (history, is_damaged));
            self.replicas.runner.with(|driver, now| driver.add(now, placement, log));
        }
        if let Some(epoch) = news.seal.filter(|_| news.seals_late) {
            self.seal_late(at, epoch);
        }
        self.replicas.runner.with(|driver, now| news.tell(now, at, driver));
        opened.lead(leads);
        opened.admit(self.replicas.is_in_touch.get());
    }

    /// Promises an epoch after what its primary is still sending.
    fn seal_late(self: &Rc<Self>, at: TopicPartition, epoch: Epoch) {
        let shard = self.clone();
        self.queues.spawn(Queue::Hot, async move {
            sleep(SEALS_AFTER).await;
            let is_due = |told: &PartitionImage| told.electing() == Some(epoch);
            if shard.replicas.told.borrow().get(&at).is_some_and(is_due) {
                shard.replicas.runner.with(|driver, now| driver.seal(now, at, epoch));
            }
        });
    }

    /// Connects to the cores of other nodes that replicas here need, and to no others.
    fn follow_peers(&self, image: &ClusterImage) {
        let Some(peers) = self.replicas.peers() else { return };
        let wanted: BTreeMap<Peer, String> = self
            .replicas
            .runner
            .look(Driver::peers)
            .into_iter()
            .filter_map(|peer| {
                let node: &Arc<NodeImage> = image.nodes.get(&peer.node.get())?;
                Some((peer, node.peer_address_of(peer.core)?))
            })
            .collect();
        let needed = self.replicas.needed.replace(wanted.clone());
        for peer in needed.keys().filter(|peer| !wanted.contains_key(peer)) {
            peers.forget(*peer);
        }
        for (peer, address) in &wanted {
            if needed.get(peer) != Some(address) {
                peers.need(*peer, address);
            }
        }
    }
}

/// What the shard does about its replicas.
struct ShardObserver<D: Disk + 'static> {
    shard: RefCell<Weak<Shard<D>>>,
    /// What is to be said and is not on its way yet.
    notes: RefCell<Vec<Note>>,
    is_noting: Cell<bool>,
}

impl<D: Disk + 'static> Observer for ShardObserver<D> {
    fn event(&self, event: Event) {
        let Some(shard) = self.shard.borrow().upgrade() else { return };
        let find = |at: &TopicPartition| shard.partitions.borrow().get(at).cloned();
        match event {
            Event::Committed(at, committed) => {
                if let Some(partition) = find(&at) {
                    partition.commit_to(committed);
                }
            }
            Event::Appended(at, header) => {
                if let Some(partition) = find(&at) {
                    partition.follow(&header);
                }
            }
            Event::Cut(at, end) => {
                if let Some(partition) = find(&at) {
                    partition.follow_cut(end);
                }
            }
            Event::Answer(..) | Event::Change(..) | Event::NeedElection(..) => {
                let epoch = |at| shard.replicas.told.borrow().get(&at).map_or(0, |partition| partition.epoch);
                let note = Note::of(&event, epoch);
                note.into_iter().for_each(|note| self.note(&shard, note));
            }
            Event::Lost(at, from, upto) => {
                tracing::error!(topic = %at.topic, partition = %at.partition, %from, %upto, "committed records are lost");
            }
            Event::Stopped(at) => {
                shard.replicas.stopped.borrow_mut().insert(at);
                tracing::debug!(topic = %at.topic, partition = %at.partition, "a replica has stopped in good order");
            }
            Event::Halted(at, fault) => {
                tracing::error!(topic = %at.topic, partition = %at.partition, ?fault, "a replica is in contradiction with its cluster and takes part no more");
            }
            Event::Damaged(at, damage) if !shard.has_others_in_sync(at) => {
                tracing::error!(topic = %at.topic, partition = %at.partition, offset = %damage.offset, "the log of a replica is damaged, and no other replica has what lies behind");
            }
            Event::Damaged(at, damage) => {
                tracing::error!(topic = %at.topic, partition = %at.partition, offset = %damage.offset, "the log of a replica is damaged: this node hands over and starts anew, to mend it from another replica");
                shard.queues.spawn(Queue::Control, async {
                    sleep(MEND_PAUSE).await;
                    signals::request_restart();
                });
            }
            Event::Broken(at, why) => {
                fatal(Fatal::StorageWrite { detail: format!("{}/{}: {why}", at.topic, at.partition) })
            }
        }
    }

    fn failed(&self, error: JobError) {
        fatal(Fatal::StorageWrite { detail: error.to_string() });
    }
}

impl<D: Disk + 'static> ShardObserver<D> {
    /// What comes in one turn goes to core 0 in one message.
    fn note(&self, shard: &Rc<Shard<D>>, note: Note) {
        self.notes.borrow_mut().push(note);
        if self.is_noting.replace(true) {
            return;
        }
        let told = shard.clone();
        shard.queues.spawn(Queue::Hot, async move {
            let observer = &told.replicas.observer;
            observer.is_noting.set(false);
            let notes = observer.notes.take();
            match &told.metadata {
                Some(session) => session.note(notes),
                // A node that stops has nothing to say any more.
                None => drop(told.mesh.ask(CoreId::new(0), CoreRequest::Note(notes)).await),
            }
        });
    }
}
