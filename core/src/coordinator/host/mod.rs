//! The host of a coordinator: drives a [`StateMachine`] over one partition of an internal topic.
//!
//! A [`Host`] lives on the core that owns the partition and is the only writer of it. Its task ([`Host::run`]):
//!
//! 1. **Load.** Reads the partition from its first offset to its end through the partition's own read path, a piece at a
//!    time, and replays every record. Until that is done requests are refused with `CoordinatorLoadInProgress`, and with
//!    `CoordinatorNotAvailable` once it has failed.
//! 2. **Apply.** [`Host::call`] and [`Host::notify`] apply an input at once, in the order of the calls. Nothing is borrowed
//!    while anything is awaited.
//! 3. **Write.** The records of an input are appended as one record batch through the partition's own produce path, before
//!    the next input is looked at, so that the partition has the order of the inputs. Many writes may be under way.
//! 4. **Release.** What an input answers is held until the partition has committed the write it names: synced to disk and
//!    on the commit quorum.
//! 5. **Tick.** One sleep for the whole machine, until the earliest of its deadlines.
//!
//! **When a write is refused** (the disk is full, the log is damaged) memory is ahead of the log: the machine is unloaded,
//! everybody who waits is refused, and it is loaded again. A write that finds no memory waits for it, with all later ones
//! behind it; beyond [`BACKLOG_BYTES_MAX`] requests are refused. After a crash the machine is that of a prefix of the
//! writes, and no reply has ever rested on anything behind that prefix.
//!
//! Time is the disk's monotonic clock added to its wall clock as of the start: it never goes back.

mod backlog;
mod batch;
mod hosts;
mod load;
mod machine;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use ahash::AHashMap;
use futures_lite::future;
use heddle_log_store::{Disk, LogStore};
use heddle_proto::{
    error::ErrorCode,
    ids::{PartitionIndex, Timestamp},
};

use super::ids::{Millis, RequestId, WriteSequence};
use crate::{
    partition::{
        Partition,
        produce::{Accepted, Acks, ProduceError},
    },
    runtime::{
        event::{Event, Waiters},
        oneshot::{Receiver, Sender, oneshot},
    },
};
use backlog::Backlog;
use load::LoadError;

pub use hosts::Hosts;
pub use machine::{Effects, Held, Input, KeyValue, StateMachine, Write};

/// Most bytes of writes that wait for memory before requests are refused: the largest batch fits once.
pub const BACKLOG_BYTES_MAX: usize = heddle_proto::limits::BATCH_BYTES_MAX;

/// How long a coordinator that could not be loaded waits before it tries again.
const RELOAD_PAUSE: Duration = Duration::from_secs(5);

/// A tick that comes later than this finds that the whole core was held up. Requests that came meanwhile are still in the
/// sockets and are let in first, so that members who did call are not taken for silent.
const LATE: Duration = Duration::from_secs(1);

/// What a host works with.
pub struct HostParts<M: StateMachine, D: Disk> {
    /// The partition, whose only writer this host is.
    pub partition: Rc<Partition<D>>,
    /// The store of its log.
    pub store: LogStore<D>,
    /// Fired when the store has freed memory.
    pub room: Rc<Waiters>,
    /// Makes an empty machine, for every load.
    pub make: Box<dyn Fn() -> M>,
    /// Takes what the machine wants done.
    pub act: Box<dyn Fn(M::Action)>,
}

/// See the [module](self).
pub struct Host<M: StateMachine, D: Disk> {
    parts: HostParts<M, D>,
    state: RefCell<State<M>>,
    waiting: RefCell<AHashMap<RequestId, Sender<M::Reply>>>,
    held: RefCell<BTreeMap<WriteSequence, Released<M>>>,
    /// Appended and not committed yet.
    unsettled: RefCell<VecDeque<(WriteSequence, Accepted)>>,
    /// Not appended yet, for want of memory.
    backlog: RefCell<Backlog>,
    durable: Cell<WriteSequence>,
    request_next: Cell<u64>,
    /// Fired when there is something to settle, or nothing more to do.
    written: RefCell<Rc<Event>>,
    /// Fired when the deadline moved forward, or there is nothing more to do.
    sooner: RefCell<Rc<Event>>,
    /// When the sleeping task wakes by itself.
    armed: Cell<Option<Millis>>,
    wall_at_start: Timestamp,
    clock_at_start: Duration,
}

enum State<M> {
    Loading,
    /// Loading failed, and is tried again.
    Unreadable,
    Ready(M),
    Stopped,
}

/// What a durable write lets out, in the order in which it was said.
struct Released<M: StateMachine> {
    replies: Vec<(RequestId, M::Reply)>,
    actions: Vec<M::Action>,
}

impl<M: StateMachine> Default for Released<M> {
    fn default() -> Self {
        Self { replies: Vec::new(), actions: Vec::new() }
    }
}

impl<M: StateMachine, D: Disk> Host<M, D> {
    /// A host that does nothing until it is [run](Self::run).
    pub fn new(parts: HostParts<M, D>) -> Rc<Self> {
        let (wall_at_start, clock_at_start) = (parts.store.disk().wall(), parts.store.disk().now());
        Rc::new(Self {
            parts,
            state: RefCell::new(State::Loading),
            waiting: RefCell::default(),
            held: RefCell::default(),
            unsettled: RefCell::default(),
            backlog: RefCell::default(),
            durable: Cell::default(),
            request_next: Cell::new(1),
            written: RefCell::default(),
            sooner: RefCell::default(),
            armed: Cell::new(None),
            wall_at_start,
            clock_at_start,
        })
    }

    /// Which partition it is.
    pub fn index(&self) -> PartitionIndex {
        self.parts.partition.at.partition
    }

    /// Applies a request now. The receiver gets the reply once it may be seen, or `Cancelled` when that will never be.
    /// Dropping it gives the reply up; the request stays applied.
    ///
    /// # Errors
    /// `CoordinatorLoadInProgress`, `CoordinatorNotAvailable` or `NotCoordinator`; nothing was applied.
    pub fn call(&self, request: M::Request) -> Result<Receiver<M::Reply>, ErrorCode> {
        match *self.state.borrow() {
            State::Ready(_) => {}
            State::Loading => return Err(ErrorCode::CoordinatorLoadInProgress),
            State::Unreadable => return Err(ErrorCode::CoordinatorNotAvailable),
            State::Stopped => return Err(ErrorCode::NotCoordinator),
        }
        if self.backlog.borrow().bytes() >= BACKLOG_BYTES_MAX {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let id = RequestId::new(self.request_next.get());
        self.request_next.set(id.get() + 1);
        let (sender, receiver) = oneshot();
        self.waiting.borrow_mut().insert(id, sender);
        self.apply(Input::Request(id, request));
        Ok(receiver)
    }

    /// Tells the machine about the world; one that is still loading is made with that knowledge.
    pub fn notify(&self, notice: M::Notice) {
        self.apply(Input::Notice(notice));
    }

    /// Looks at the machine, if it is loaded.
    pub fn inspect<R>(&self, look: impl FnOnce(&M) -> R) -> Option<R> {
        match &*self.state.borrow() {
            State::Ready(machine) => Some(look(machine)),
            _ => None,
        }
    }

    /// How many requests wait for their reply.
    pub fn waiting_count(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Runs the coordinator until its partition goes away. Spawned once.
    pub async fn run(self: Rc<Self>) {
        while !self.is_stopped() {
            match self.load().await {
                Ok(machine) => {
                    self.begin(machine);
                    future::or(self.settle(), self.tick()).await;
                }
                Err(LoadError::Gone) => self.stop(ErrorCode::NotCoordinator),
                Err(LoadError::Failed(why)) => {
                    let partition = &self.parts.partition;
                    tracing::error!(
                        topic = %partition.topic, partition = %partition.at.partition, %why,
                        "a coordinator cannot read its state and serves nobody; it tries again in a while"
                    );
                    if !self.is_stopped() {
                        self.unload(ErrorCode::CoordinatorNotAvailable, State::Unreadable);
                    }
                    let stopped = self.renew(&self.sooner);
                    future::or(self.parts.store.disk().sleep(RELOAD_PAUSE), stopped.wait()).await;
                }
            }
        }
    }

    /// The partition moved or went away: everybody who waits is refused with `error`, and so is who comes later.
    pub fn stop(&self, error: ErrorCode) {
        self.unload(error, State::Stopped);
    }

    /// Whether [`Host::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        matches!(*self.state.borrow(), State::Stopped)
    }

    /// Whether its state could not be read: nobody is served until an operator has seen to the partition.
    pub fn is_unreadable(&self) -> bool {
        matches!(*self.state.borrow(), State::Unreadable)
    }

    fn is_ready(&self) -> bool {
        matches!(*self.state.borrow(), State::Ready(_))
    }

    /// The time as the machine sees it.
    pub fn now(&self) -> Millis {
        let passed = self.parts.store.disk().now().saturating_sub(self.clock_at_start);
        Millis::new(self.wall_at_start.get()).plus(passed)
    }

    fn begin(&self, mut machine: M) {
        if self.is_stopped() {
            return;
        }
        let effects = machine.loaded(self.now());
        *self.state.borrow_mut() = State::Ready(machine);
        self.take(effects);
    }

    fn apply(&self, input: Input<M::Request, M::Notice>) {
        let now = self.now();
        let effects = match &mut *self.state.borrow_mut() {
            State::Ready(machine) => machine.apply(input, now),
            State::Loading | State::Unreadable | State::Stopped => return,
        };
        self.take(effects);
    }

    fn take(&self, effects: Effects<M::Reply, M::Action>) {
        if let Some(write) = effects.write
            && let Err(error) = self.write(&write)
        {
            tracing::warn!(
                topic = %self.parts.partition.topic, partition = %self.index(), %error,
                "a coordinator's write was refused; it starts again from what is on disk"
            );
            self.unload(ErrorCode::CoordinatorNotAvailable, State::Loading);
            return;
        }
        let mut now = Released::default();
        {
            let (durable, mut held) = (self.durable.get(), self.held.borrow_mut());
            for Held { after, what } in effects.replies {
                let place = if after <= durable { &mut now } else { held.entry(after).or_default() };
                place.replies.push(what);
            }
            for Held { after, what } in effects.actions {
                let place = if after <= durable { &mut now } else { held.entry(after).or_default() };
                place.actions.push(what);
            }
        }
        self.release(now);
        self.rearm();
    }

    /// Appends a write, or queues it behind others that wait for memory.
    fn write(&self, write: &Write) -> Result<(), ProduceError> {
        let batches = batch::encode(&write.records, Timestamp::new(self.now().get()))?;
        let before = WriteSequence::new(write.sequence.get() - 1);
        let last = batches.len() - 1;
        for (index, bytes) in batches.into_iter().enumerate() {
            // The write is durable when its last batch is.
            let reached = if index == last { write.sequence } else { before };
            self.backlog.borrow_mut().push(reached, bytes);
        }
        self.append_backlog()
    }

    /// Appends what there is memory for.
    fn append_backlog(&self) -> Result<(), ProduceError> {
        loop {
            let next = {
                let mut backlog = self.backlog.borrow_mut();
                let has_room = self.parts.store.has_room(backlog.first_bytes());
                if has_room { backlog.pop() } else { None }
            };
            let Some((sequence, bytes)) = next else { break };
            let wall = Timestamp::new(self.now().get());
            let accepted = self.parts.partition.produce(bytes, None, Acks::Quorum, wall)?;
            self.unsettled.borrow_mut().push_back((sequence, accepted));
        }
        self.written.borrow().fire();
        Ok(())
    }

    /// Follows the writes as they become durable; ends when the machine is no longer ready.
    async fn settle(&self) {
        while self.is_ready() {
            let written = self.renew(&self.written);
            let next = self.unsettled.borrow_mut().pop_front();
            match next {
                Some((sequence, accepted)) => match accepted.settled().await {
                    Ok(_) => self.advance(sequence),
                    Err(_) => return self.stop(ErrorCode::NotCoordinator),
                },
                None if self.backlog.borrow().is_empty() => written.wait().await,
                None => self.wait_for_memory().await,
            }
        }
    }

    async fn wait_for_memory(&self) {
        let freed = Event::new();
        self.parts.room.add(&freed);
        if !self.parts.store.has_room(self.backlog.borrow().first_bytes()) {
            freed.wait().await;
        }
        if let Err(error) = self.append_backlog() {
            tracing::warn!(topic = %self.parts.partition.topic, partition = %self.index(), %error, "a coordinator's write was refused");
            self.unload(ErrorCode::CoordinatorNotAvailable, State::Loading);
        }
    }

    fn advance(&self, sequence: WriteSequence) {
        if !self.is_ready() {
            return;
        }
        self.durable.set(sequence);
        let released = {
            let mut held = self.held.borrow_mut();
            let later = held.split_off(&sequence.next());
            std::mem::replace(&mut *held, later)
        };
        released.into_values().for_each(|released| self.release(released));
    }

    fn release(&self, released: Released<M>) {
        for (id, reply) in released.replies {
            let waiting = self.waiting.borrow_mut().remove(&id);
            if let Some(sender) = waiting {
                sender.send(reply);
            }
        }
        released.actions.into_iter().for_each(|action| (self.parts.act)(action));
    }

    /// Sleeps to the machine's deadlines; ends when the machine is no longer ready.
    async fn tick(&self) {
        while self.is_ready() {
            let sooner = self.renew(&self.sooner);
            let deadline = self.inspect(StateMachine::next_deadline).flatten();
            self.armed.set(deadline);
            let Some(deadline) = deadline else {
                sooner.wait().await;
                continue;
            };
            let disk = self.parts.store.disk();
            future::or(disk.sleep(deadline.since(self.now())), sooner.wait()).await;
            if self.now() < deadline {
                continue;
            }
            if self.now().since(deadline) > LATE {
                disk.sleep(LATE).await;
            }
            future::yield_now().await;
            self.apply(Input::Tick);
        }
    }

    /// Wakes the ticking task when it would sleep too long.
    fn rearm(&self) {
        let next = self.inspect(StateMachine::next_deadline).flatten();
        let is_sooner = match (next, self.armed.get()) {
            (Some(next), Some(armed)) => next < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_sooner {
            self.sooner.borrow().fire();
        }
    }

    fn unload(&self, error: ErrorCode, into: State<M>) {
        let before = self.state.replace(into);
        // Whoever waits for these is told that no reply comes, and refuses.
        self.held.take();
        self.unsettled.take();
        self.backlog.take();
        self.durable.set(WriteSequence::default());
        if let State::Ready(machine) = before {
            let replies = machine.unload(error);
            self.release(Released { replies, actions: Vec::new() });
        }
        self.waiting.take();
        self.written.borrow().fire();
        self.sooner.borrow().fire();
    }

    fn renew(&self, event: &RefCell<Rc<Event>>) -> Rc<Event> {
        let fresh = Event::new();
        *event.borrow_mut() = fresh.clone();
        fresh
    }
}
