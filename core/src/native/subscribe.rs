//! Subscriptions: a partition's batches are pushed as they are committed, as far as the client's credit goes.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use ahash::AHashMap;
use heddle_log_store::Disk;
use heddle_net::outbox::{Outbox, ReplySlot};
use heddle_proto::{
    batch::BatchHeader,
    error::ErrorCode,
    ids::{Offset, TopicPartition},
    native::{Reply, StartFrom},
};

use super::reply::{frame, frame_with, refusal};
use crate::{
    partition::transactions::Isolation,
    runtime::{Queue, event::Event},
    shard::{
        Shard,
        fetch::{FetchLimits, WAIT_MAX},
        request::{FetchFrom, OpError, Reach},
    },
};

/// How much one push carries at most, so that replies find their way between pushes, in bytes.
const PUSH_BYTES_MAX: i64 = 1 << 20;

/// How many subscriptions one connection may have; a client of a whole node needs one a partition.
const SUBSCRIPTIONS_MAX: usize = 20_000;

/// How long one look for data takes at most before the subscription checks whether it still exists.
const LOOK: Duration = WAIT_MAX;

struct Subscription {
    id: u32,
    at: TopicPartition,
    next: Cell<Offset>,
    /// What may still be sent; below 0 when the last push was larger than what was left.
    credit_bytes: Cell<i64>,
    changed: RefCell<Rc<Event>>,
    ended: Cell<bool>,
}

/// The subscriptions of one connection; they end with it.
pub struct Subscriptions<D: Disk> {
    shard: Rc<Shard<D>>,
    outbox: Outbox,
    open: Rc<RefCell<AHashMap<u32, Rc<Subscription>>>>,
}

impl<D: Disk> Subscriptions<D> {
    /// None yet.
    pub fn new(shard: Rc<Shard<D>>, outbox: Outbox) -> Self {
        Subscriptions { shard, outbox, open: Rc::default() }
    }

    /// Opens a subscription: `reply` gets the answer, and pushes begin when it worked.
    pub async fn open(
        &self,
        reply: ReplySlot,
        correlation: u32,
        id: u32,
        at: TopicPartition,
        from: StartFrom,
        credit_bytes: u64,
    ) {
        match self.try_open(id, at, from, credit_bytes).await {
            Ok(subscription) => {
                let from = subscription.next.get();
                reply.fill(frame(correlation, &Reply::Subscribed { subscription: id, from }));
                self.start(subscription);
            }
            Err(error) => {
                self.shard.metrics.refused(error.code);
                reply.fill(refusal(correlation, &error));
            }
        }
    }

    async fn try_open(
        &self,
        id: u32,
        at: TopicPartition,
        from: StartFrom,
        credit_bytes: u64,
    ) -> Result<Rc<Subscription>, OpError> {
        if self.open.borrow().contains_key(&id) {
            let message = format!("subscription {id} is open already on this connection");
            return Err(OpError::new(ErrorCode::InvalidRequest, message));
        }
        if self.open.borrow().len() >= SUBSCRIPTIONS_MAX {
            let message = format!("a connection may have {SUBSCRIPTIONS_MAX} subscriptions");
            return Err(OpError::new(ErrorCode::InvalidRequest, message));
        }
        let found = self.shard.find_offset(at, from, Isolation::ReadUncommitted).await?;
        let next = match found {
            Some((offset, _)) => offset,
            // No record is that young: begin with the next one.
            None => self
                .shard
                .find_offset(at, StartFrom::Latest, Isolation::ReadUncommitted)
                .await?
                .map_or(Offset::ZERO, |(end, _)| end),
        };
        let subscription = Rc::new(Subscription {
            id,
            at,
            next: Cell::new(next),
            credit_bytes: Cell::new(i64::try_from(credit_bytes).unwrap_or(i64::MAX)),
            changed: RefCell::new(Event::new()),
            ended: Cell::new(false),
        });
        self.open.borrow_mut().insert(id, subscription.clone());
        Ok(subscription)
    }

    fn start(&self, subscription: Rc<Subscription>) {
        let id = subscription.id;
        let (shard, outbox, open) = (self.shard.clone(), self.outbox.clone(), self.open.clone());
        self.shard.queues.spawn(Queue::Hot, async move {
            if let Err(error) = subscription.push_all(&shard, &outbox).await {
                let (code, message) = (error.code, error.message);
                let ended = Reply::SubscriptionEnded { subscription: id, code, message };
                // A connection that is closed has nobody to tell.
                let _ = outbox.push(frame(0, &ended).into(), None).await;
            }
            if !subscription.ended.get() {
                open.borrow_mut().remove(&id);
            }
        });
    }

    /// Gives more credit. A subscription that has ended meanwhile needs none.
    pub fn credit(&self, id: u32, bytes: u64) {
        if let Some(subscription) = self.open.borrow().get(&id) {
            let more = i64::try_from(bytes).unwrap_or(i64::MAX);
            let credit = subscription.credit_bytes.get().saturating_add(more);
            subscription.credit_bytes.set(credit);
            subscription.changed.borrow().fire();
        }
    }

    /// Ends one.
    pub fn close(&self, id: u32) {
        if let Some(subscription) = self.open.borrow_mut().remove(&id) {
            subscription.end();
        }
    }
}

impl<D: Disk> Drop for Subscriptions<D> {
    fn drop(&mut self) {
        self.open.take().into_values().for_each(|subscription| subscription.end());
    }
}

impl Subscription {
    fn end(&self) {
        self.ended.set(true);
        self.changed.borrow().fire();
    }

    /// Pushes until the subscription ends; an error is why the broker ended it.
    async fn push_all<D: Disk>(&self, shard: &Rc<Shard<D>>, outbox: &Outbox) -> Result<(), OpError> {
        loop {
            if !self.wait_for_credit().await || outbox.closed().is_some() || shard.is_stopping() {
                return Ok(());
            }
            // Nothing is read for a client that does not take what was read before.
            if outbox.push_ready(1).await.is_err() {
                return Ok(());
            }
            let bytes_max = self.credit_bytes.get().min(PUSH_BYTES_MAX) as usize;
            let from = FetchFrom {
                at: self.at,
                offset: self.next.get(),
                epoch: None,
                last_epoch: None,
                isolation: Isolation::ReadUncommitted,
                bytes_max,
                reach: Reach::Leader,
            };
            let limits = FetchLimits { bytes_min: 1, bytes_max, wait: LOOK };
            let (mut results, times) = shard.fetch(vec![from], limits).await;
            let fetched = match results.pop() {
                Some(result) => result?,
                None => continue,
            };
            if self.ended.get() {
                return Ok(());
            }
            let Some(last) = fetched.batches.last() else { continue };
            let last = BatchHeader::parse(last).expect("the log gives whole batches only");
            let bytes = fetched.bytes();
            self.next.set(last.next_offset());
            self.credit_bytes.set(self.credit_bytes.get() - bytes as i64);
            shard.metrics.push_bytes.add(bytes as u64);
            let head = Reply::Push { subscription: self.id, committed: fetched.committed };
            let watch = shard.metrics.stages.pushed(&times);
            if outbox.push(frame_with(0, &head, fetched.batches), Some(watch)).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Waits until there is credit; false when the subscription ended.
    async fn wait_for_credit(&self) -> bool {
        loop {
            if self.ended.get() {
                return false;
            }
            if self.credit_bytes.get() > 0 {
                return true;
            }
            let event = Event::new();
            *self.changed.borrow_mut() = event.clone();
            event.wait().await;
        }
    }
}
