//! The transaction operations: each goes to the coordinator of its transactional id, on this core or over the mesh.
//!
//! The coordinator of an id is the core that owns the id's partition of the internal topic; [`Transactions`] has those of
//! this core. Who ends a transaction waits for its markers, so requests to another core are answered by a message of
//! their own and hold no slot of the mesh.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use heddle_log_store::Disk;
use heddle_proto::{
    batch::Outcome,
    error::ErrorCode,
    ids::{CoreId, ProducerId, TopicPartition},
};

use super::{
    Shard,
    request::{CoreReply, CoreRequest, OpError},
    transactions::is_over,
};
use crate::{
    cluster::remote::{Ask, End},
    coordinator::{
        group::Call,
        host::{Host, HostParts, Hosts},
        transaction::{
            EndMarkers, ListTransactions, Listed, Refusal, Reply, Request, TransactionConfig,
            TransactionCoordinator, TransactionalId,
        },
    },
    metadata::internal::InternalTopic,
    partition::transactions::EndTransaction,
    runtime::{
        Queue,
        oneshot::{Sender, oneshot},
    },
};

/// What a request of a transactional producer comes to.
pub type TransactionResult = Result<Reply, ErrorCode>;

/// How long a marker that could not be written waits before it is tried again: at first, and at most.
const MARKER_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// How long a request waits for the markers of the transaction before it: at first, and altogether. After a commit is
/// answered there is nothing to wait for; this is for clients that come back after an abort they did not ask for.
const PREDECESSOR_PAUSE: Duration = Duration::from_millis(5);
const PREDECESSOR_WAIT: Duration = Duration::from_secs(1);

/// The transaction coordinators of one core, and the requests that wait for another one's.
pub struct Transactions<D: Disk> {
    config: Arc<TransactionConfig>,
    hosts: Hosts<TransactionCoordinator, D>,
    far: RefCell<AHashMap<u64, Sender<TransactionResult>>>,
    far_next: Cell<u64>,
}

impl<D: Disk> Default for Transactions<D> {
    fn default() -> Self {
        Self {
            config: Arc::default(),
            hosts: Hosts::default(),
            far: RefCell::default(),
            far_next: Cell::new(0),
        }
    }
}

impl<D: Disk> Transactions<D> {
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

impl<D: Disk> Shard<D> {
    /// Sends a request to the coordinator of `id` and waits for the reply.
    ///
    /// # Errors
    /// What the client is to be told instead; most of it makes the client look for the coordinator again.
    pub async fn ask_transactions(
        self: &Rc<Self>,
        id: &TransactionalId,
        request: Request,
    ) -> TransactionResult {
        let at = self.internal_partition(InternalTopic::Transactions, id.as_str());
        let at = at.ok_or(ErrorCode::NotCoordinator)?;
        let core = self.owner(at).map_err(|_| ErrorCode::NotCoordinator)?;
        if core == self.core() {
            return self.ask_transactions_here(at, request).await;
        }
        self.metrics.mesh_hops.add(1);
        let name = self.transactions.far_next.get();
        self.transactions.far_next.set(name + 1);
        let (sender, receiver) = oneshot();
        self.transactions.far.borrow_mut().insert(name, sender);
        let request =
            CoreRequest::Transaction { from: self.core(), id: name, at, request: Box::new(request) };
        if self.mesh.call(core, request).await.is_err() {
            self.transactions.far.borrow_mut().remove(&name);
            return Err(ErrorCode::NotCoordinator);
        }
        receiver.await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
    }

    /// As [`Self::ask_transactions`]; while the transaction before is being finished, it asks again for a while.
    ///
    /// # Errors
    /// As there.
    pub async fn ask_transactions_patiently(
        self: &Rc<Self>,
        id: &TransactionalId,
        request: Request,
    ) -> TransactionResult {
        let (mut pause, mut waited) = (PREDECESSOR_PAUSE, Duration::ZERO);
        loop {
            let reply = self.ask_transactions(id, request.clone()).await?;
            let must_wait = matches!(
                reply,
                Reply::AddPartitions(Err(ErrorCode::ConcurrentTransactions))
                    | Reply::VerifyPartitions(Err(ErrorCode::ConcurrentTransactions))
            );
            if !must_wait || waited >= PREDECESSOR_WAIT || self.is_stopping() {
                return Ok(reply);
            }
            self.store.disk().sleep(pause).await;
            waited += pause;
            pause *= 2;
        }
    }

    /// Makes a request that may need a producer id that nobody had before: first without, then with one.
    ///
    /// # Errors
    /// As [`Self::ask_transactions`], or why there is no new id.
    pub async fn ask_transactions_with_id(
        self: &Rc<Self>,
        id: &TransactionalId,
        request: impl Fn(Option<ProducerId>) -> Request,
    ) -> TransactionResult {
        let reply = self.ask_transactions(id, request(None)).await?;
        let needs_id = matches!(
            reply,
            Reply::InitProducerId(Err(Refusal::NeedsProducerId))
                | Reply::EndTxn(Err(Refusal::NeedsProducerId))
        );
        if !needs_id {
            return Ok(reply);
        }
        let (fresh, _) = self.new_producer().await.map_err(|error| error.code)?;
        self.ask_transactions(id, request(Some(fresh))).await
    }

    async fn ask_transactions_here(&self, at: TopicPartition, request: Request) -> TransactionResult {
        if self.is_stopping() {
            return Err(ErrorCode::NotCoordinator);
        }
        let host = self.transactions.hosts.get(at).ok_or(ErrorCode::NotCoordinator)?;
        host.call(request)?.await.map_err(|_| ErrorCode::CoordinatorNotAvailable)
    }

    /// A request of another core, which is told the result when there is one.
    pub fn on_transaction(self: &Rc<Self>, from: CoreId, id: u64, at: TopicPartition, request: Request) {
        let shard = self.clone();
        self.queues.spawn(Queue::Hot, async move {
            let result = Box::new(shard.ask_transactions_here(at, request).await);
            // A core that has stopped needs no reply.
            let _ = shard.mesh.call(from, CoreRequest::TransactionReply { id, result }).await;
        });
    }

    /// The result of a request to another core.
    pub fn on_transaction_reply(&self, id: u64, result: TransactionResult) {
        let waiting = self.transactions.far.borrow_mut().remove(&id);
        if let Some(sender) = waiting {
            sender.send(result);
        }
    }

    /// The transactions whose coordinator is this core.
    ///
    /// # Errors
    /// When some are not known yet.
    pub async fn list_transactions_here(&self, asked: ListTransactions) -> Result<Vec<Listed>, ErrorCode> {
        let mut listed = Vec::new();
        for host in self.transactions.hosts.all() {
            let reply = host.call(Request::List(asked.clone()))?.await;
            match reply.map_err(|_| ErrorCode::CoordinatorNotAvailable)? {
                Reply::List(lines) => listed.extend(lines),
                other => unreachable!("a list was answered with {other:?}"),
            }
        }
        Ok(listed)
    }

    /// The transactions of all cores of this node.
    ///
    /// # Errors
    /// When some are not known yet.
    pub async fn list_transactions(&self, asked: ListTransactions) -> Result<Vec<Listed>, ErrorCode> {
        let mut listed = self.list_transactions_here(asked.clone()).await?;
        for core in self.mesh.peers() {
            match self.mesh.ask(core, CoreRequest::ListTransactions(asked.clone())).await {
                Ok(CoreReply::TransactionsListed(lines)) => listed.extend(lines?),
                _ => return Err(ErrorCode::CoordinatorNotAvailable),
            }
        }
        Ok(listed)
    }

    /// Follows new metadata: starts the coordinators of partitions that came to this core, stops those that went.
    pub fn follow_transactions(self: &Rc<Self>) {
        let image = self.image();
        let Some(internal) = image.topic(InternalTopic::Transactions.name()) else {
            return self.transactions.hosts.follow(&[], |_| None);
        };
        let owned: Vec<TopicPartition> = internal
            .indexes()
            .map(|partition| TopicPartition { topic: internal.id, partition })
            .filter(|at| self.owner(*at) == Ok(self.core()))
            .collect();
        self.transactions.hosts.follow(&owned, |at| self.start_transaction_host(at));
    }

    fn start_transaction_host(
        self: &Rc<Self>,
        at: TopicPartition,
    ) -> Option<Rc<Host<TransactionCoordinator, D>>> {
        let partition = self.partition(at).ok()?;
        let config = self.transactions.config.clone();
        let shard = Rc::downgrade(self);
        let act = move |markers: EndMarkers| {
            if let Some(shard) = shard.upgrade() {
                let task = shard.clone().finish_transaction(at, markers);
                shard.queues.spawn(Queue::Control, task);
            }
        };
        let host = Host::new(HostParts {
            partition,
            store: self.store.clone(),
            room: self.room.clone(),
            make: Box::new(move || TransactionCoordinator::new(config.clone())),
            act: Box::new(act),
        });
        self.queues.spawn(Queue::Control, host.clone().run());
        Some(host)
    }

    /// Writes the markers of a decided transaction, all at once, and tells the coordinator when every one is durable.
    async fn finish_transaction(self: Rc<Self>, coordinator: TopicPartition, markers: EndMarkers) {
        let mut waiting = Vec::with_capacity(markers.partitions.len());
        for at in &markers.partitions {
            let (sender, receiver) = oneshot();
            let (shard, at, end) = (self.clone(), *at, end_of(&markers));
            self.queues.spawn(Queue::Control, async move {
                if shard.write_marker(at, end).await {
                    sender.send(());
                }
            });
            waiting.push(receiver);
        }
        for receiver in waiting {
            if receiver.await.is_err() {
                return; // the core stops; the next start asks for the markers again
            }
        }
        // A coordinator that is loaded anew asks for the markers again by itself; one that is busy is told later.
        let busy = Err(ErrorCode::CoordinatorNotAvailable);
        let report = || Request::MarkersWritten(markers.clone());
        while self.ask_transactions_here(coordinator, report()).await == busy {
            self.store.disk().sleep(MARKER_PAUSE.1).await;
        }
    }

    /// Ends a transaction in one partition, and tries until it is done or this core stops.
    async fn write_marker(self: &Rc<Self>, at: TopicPartition, end: EndTransaction) -> bool {
        let (mut pause, pause_max) = MARKER_PAUSE;
        let mut is_told = false;
        while !self.is_stopping() {
            match self.end_anywhere(at, end).await {
                Ok(()) => return true,
                Err(error) if is_over(&error) => return true,
                Err(error) => {
                    if pause == pause_max && !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(partition = %at, %error, "a transaction cannot be ended here; readers wait");
                    }
                }
            }
            self.store.disk().sleep(pause).await;
            pause = (pause * 2).min(pause_max);
        }
        false
    }

    /// As [`Shard::end_in`], wherever the partition is led.
    async fn end_anywhere(self: &Rc<Self>, at: TopicPartition, end: EndTransaction) -> Result<(), OpError> {
        let Some(node) = self.leader_elsewhere(at) else { return self.end_in(at, end).await };
        let order = End {
            at,
            producer: end.producer.get(),
            epoch: end.epoch.get(),
            is_commit: end.outcome == Outcome::Commit,
            coordinator_epoch: end.coordinator_epoch,
        };
        self.ask_node(node, Ask::End(order)).await
    }

    /// Ends a transaction in a partition, or the offsets that it committed to groups.
    ///
    /// # Errors
    /// As [`Shard::end_transaction`].
    pub async fn end_in(self: &Rc<Self>, at: TopicPartition, end: EndTransaction) -> Result<(), OpError> {
        let image = self.image();
        let groups = image.topic(InternalTopic::Groups.name()).map(|topic| topic.id);
        if groups != Some(at.topic) {
            return self.end_transaction(at, end).await;
        }
        let committed = end.outcome == Outcome::Commit;
        let call = Call::EndTransaction { producer: end.producer, epoch: end.epoch, committed };
        let reply = self.call_group_at(at, call).await.reply().await;
        reply.map(drop).map_err(|code| OpError::new(code, "the group coordinator is not there"))
    }
}

fn end_of(markers: &EndMarkers) -> EndTransaction {
    EndTransaction {
        producer: markers.producer.id,
        epoch: markers.producer.epoch,
        outcome: markers.outcome,
        coordinator_epoch: 0, // one coordinator at a time: its partition's epoch fences it
    }
}
