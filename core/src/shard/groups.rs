//! The group operations: each goes to the coordinator of its group, on this core or over the mesh.
//!
//! The coordinator of a group is the core that owns the group's partition of the internal topic; [`Groups`] has those of
//! this core. A request for another core is sent there and answered by a message of its own, so that a client which waits
//! in a rebalance for minutes holds no slot of the mesh.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use ahash::AHashMap;
use heddle_log_store::Disk;
use heddle_proto::{
    error::ErrorCode,
    ids::{CoreId, TopicPartition},
};

use super::{
    Shard,
    request::{CoreReply, CoreRequest},
};
use crate::{
    coordinator::{
        group::{
            Call, GroupConfig, GroupCoordinator, Reply, Request, TopicImage, TopicInfo, TopicName,
            message::{ListGroups, ListedGroup},
        },
        host::{Host, HostParts, Hosts},
        placement::partition_of,
    },
    metadata::{ClusterImage, internal::InternalTopic},
    runtime::{
        Queue,
        oneshot::{Receiver, Sender, oneshot},
    },
};

/// What a request of a group comes to.
pub type GroupResult = Result<Reply, ErrorCode>;

/// The group coordinators of one core, and the requests that wait for another one's.
pub struct Groups<D: Disk> {
    config: Arc<GroupConfig>,
    hosts: Hosts<GroupCoordinator, D>,
    topics: RefCell<Arc<TopicImage>>,
    far: RefCell<AHashMap<u64, Sender<GroupResult>>>,
    far_next: Cell<u64>,
}

impl<D: Disk> Groups<D> {
    /// No coordinators yet.
    pub fn new(config: Arc<GroupConfig>) -> Self {
        Self {
            config,
            hosts: Hosts::default(),
            topics: RefCell::default(),
            far: RefCell::default(),
            far_next: Cell::new(0),
        }
    }

    /// The coordinators of this core.
    pub fn hosts(&self) -> Vec<Rc<Host<GroupCoordinator, D>>> {
        self.hosts.all()
    }

    /// How many coordinators cannot read their state.
    pub fn unreadable_count(&self) -> usize {
        self.hosts.unreadable_count()
    }

    /// How many requests wait for a coordinator of another core.
    pub fn far_count(&self) -> usize {
        self.far.borrow().len()
    }

    /// The core stops: whoever waits is refused.
    pub fn stop(&self) {
        self.hosts.stop(ErrorCode::NotCoordinator);
        self.far.take();
    }
}

/// A request whose place in the coordinator's order is fixed, and that waits for its reply. Dropping it gives up the reply.
pub enum GroupTicket {
    /// With a coordinator of this core.
    Here(Receiver<Reply>),
    /// With one of another core.
    Far(Receiver<GroupResult>),
    /// Not with any.
    Refused(ErrorCode),
}

impl GroupTicket {
    /// Waits for the reply.
    ///
    /// # Errors
    /// What the client is to be told instead; most of it makes the client look for the coordinator again.
    pub async fn reply(self) -> GroupResult {
        match self {
            GroupTicket::Here(receiver) => receiver.await.map_err(|_| ErrorCode::CoordinatorNotAvailable),
            GroupTicket::Far(receiver) => receiver.await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable)),
            GroupTicket::Refused(error) => Err(error),
        }
    }
}

impl<D: Disk> Shard<D> {
    /// The partition of an internal topic that has `key`, if the topic is there.
    pub fn internal_partition(&self, topic: InternalTopic, key: &str) -> Option<TopicPartition> {
        let image = self.image();
        let topic = image.topic(topic.name())?;
        let partition = partition_of(key, topic.partitions.len() as u32);
        Some(TopicPartition { topic: topic.id, partition })
    }

    /// Sends a call to the coordinator of `group`. Returns once its order is fixed: calls of one task to one group are
    /// applied in the order in which they were made.
    pub async fn call_group(self: &Rc<Self>, group: &str, call: Call) -> GroupTicket {
        match self.internal_partition(InternalTopic::Groups, group) {
            Some(at) => self.call_group_at(at, call).await,
            None => GroupTicket::Refused(ErrorCode::NotCoordinator),
        }
    }

    /// As [`Self::call_group`], for whoever knows the partition of the internal topic.
    pub async fn call_group_at(self: &Rc<Self>, at: TopicPartition, call: Call) -> GroupTicket {
        match self.owner(at) {
            Err(_) => GroupTicket::Refused(ErrorCode::NotCoordinator),
            Ok(core) if core == self.core() => match self.call_group_here(at, call) {
                Ok(receiver) => GroupTicket::Here(receiver),
                Err(error) => GroupTicket::Refused(error),
            },
            Ok(core) => self.call_group_far(core, at, call).await,
        }
    }

    /// A client's request to a group.
    pub async fn ask_group(self: &Rc<Self>, group: &str, request: Request) -> GroupTicket {
        self.call_group(group, Call::Client(request)).await
    }

    fn call_group_here(&self, at: TopicPartition, call: Call) -> Result<Receiver<Reply>, ErrorCode> {
        if self.is_stopping() {
            return Err(ErrorCode::NotCoordinator);
        }
        let host = self.groups.hosts.get(at).ok_or(ErrorCode::NotCoordinator)?;
        host.call(call)
    }

    async fn call_group_far(&self, core: CoreId, at: TopicPartition, call: Call) -> GroupTicket {
        self.metrics.mesh_hops.add(1);
        let id = self.groups.far_next.get();
        self.groups.far_next.set(id + 1);
        let (sender, receiver) = oneshot();
        self.groups.far.borrow_mut().insert(id, sender);
        let request = CoreRequest::Group { from: self.core(), id, at, call: Box::new(call) };
        if self.mesh.call(core, request).await.is_err() {
            self.groups.far.borrow_mut().remove(&id);
            return GroupTicket::Refused(ErrorCode::NotCoordinator);
        }
        GroupTicket::Far(receiver)
    }

    /// A call of another core, which is told the result when there is one.
    pub fn on_group(self: &Rc<Self>, from: CoreId, id: u64, at: TopicPartition, call: Call) {
        let ticket = match self.call_group_here(at, call) {
            Ok(receiver) => GroupTicket::Here(receiver),
            Err(error) => GroupTicket::Refused(error),
        };
        let shard = self.clone();
        self.queues.spawn(Queue::Hot, async move {
            let result = Box::new(ticket.reply().await);
            // A core that has stopped needs no reply.
            let _ = shard.mesh.call(from, CoreRequest::GroupReply { id, result }).await;
        });
    }

    /// The result of a call to another core.
    pub fn on_group_reply(&self, id: u64, result: GroupResult) {
        let waiting = self.groups.far.borrow_mut().remove(&id);
        if let Some(sender) = waiting {
            sender.send(result);
        }
    }

    /// The groups whose coordinator is this core. `Err` when some are not known yet.
    pub async fn list_groups_here(&self, asked: ListGroups) -> Result<Vec<ListedGroup>, ErrorCode> {
        let mut groups = Vec::new();
        for host in self.groups.hosts.all() {
            let reply = host.call(Call::Client(Request::ListGroups(asked.clone())))?.await;
            match reply.map_err(|_| ErrorCode::CoordinatorNotAvailable)? {
                Reply::ListGroups(listed) => groups.extend(listed.groups),
                other => unreachable!("a list was answered with {other:?}"),
            }
        }
        Ok(groups)
    }

    /// The groups of all cores of this node.
    pub async fn list_groups_of_node(&self, asked: ListGroups) -> Result<Vec<ListedGroup>, ErrorCode> {
        let mut groups = self.list_groups_here(asked.clone()).await?;
        for core in self.mesh.peers() {
            match self.mesh.ask(core, CoreRequest::ListGroups(asked.clone())).await {
                Ok(CoreReply::GroupsListed(listed)) => groups.extend(listed?),
                _ => return Err(ErrorCode::CoordinatorNotAvailable),
            }
        }
        Ok(groups)
    }

    /// Follows new metadata: starts the coordinators of partitions that came to this core, stops those of partitions that
    /// went, and tells the others which topics there are.
    pub fn follow_groups(self: &Rc<Self>, before: &ClusterImage) {
        let image = self.image();
        let Some(internal) = image.topic(InternalTopic::Groups.name()) else {
            return self.groups.hosts.follow(&[], |_| None);
        };
        if !are_same_topics(before, &image) || self.groups.hosts.all().is_empty() {
            *self.groups.topics.borrow_mut() = Arc::new(topics_of(&image));
            for host in self.groups.hosts.all() {
                host.notify(self.groups.topics.borrow().clone());
            }
        }
        let owned: Vec<TopicPartition> = internal
            .indexes()
            .map(|partition| TopicPartition { topic: internal.id, partition })
            .filter(|at| self.owner(*at) == Ok(self.core()))
            .collect();
        self.groups.hosts.follow(&owned, |at| self.start_group_host(at));
    }

    fn start_group_host(self: &Rc<Self>, at: TopicPartition) -> Option<Rc<Host<GroupCoordinator, D>>> {
        let partition = self.partition(at).ok()?;
        let shard = Rc::downgrade(self);
        let config = self.groups.config.clone();
        let make = move || {
            let topics = shard.upgrade().map(|shard| shard.groups.topics.borrow().clone());
            GroupCoordinator::new(config.clone(), topics.unwrap_or_default())
        };
        let host = Host::new(HostParts {
            partition,
            store: self.store.clone(),
            room: self.room.clone(),
            make: Box::new(make),
            act: Box::new(|never| match never {}),
        });
        self.queues.spawn(Queue::Control, host.clone().run());
        Some(host)
    }
}

/// Whether nothing happened to any topic: images share what did not change.
fn are_same_topics(before: &ClusterImage, after: &ClusterImage) -> bool {
    let pairs = before.topics.values().zip(after.topics.values());
    before.topics.len() == after.topics.len() && pairs.into_iter().all(|(old, new)| Arc::ptr_eq(old, new))
}

/// The topics as coordinators see them.
fn topics_of(image: &ClusterImage) -> TopicImage {
    TopicImage::new(image.topics.values().map(|topic| {
        let info = TopicInfo { id: topic.id, partition_count: topic.partitions.len() as u32 };
        (TopicName::new(topic.name.clone()), info)
    }))
}
