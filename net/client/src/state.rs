//! What the clients, calls and subscriptions of one connection share with its driver.
//!
//! One mutex, held for moments and never across an await. Wakers are collected under it and woken after it is
//! released.
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ahash::AHashMap;
use bytes::Bytes;
use heddle_proto::native::{Reply, Request};

use crate::connection::ClientOptions;
use crate::error::ClientError;
use crate::subscription::{Delivery, Inbox};
use crate::wire::{Incoming, Outgoing};

/// Pushes carry this instead of the number of a request.
const CORRELATION_PUSH: u32 = 0;

/// What a call has been answered with.
pub(crate) type Answer = Result<(Reply, Bytes), ClientError>;

/// The state of one connection.
pub(crate) struct Shared {
    state: Mutex<State>,
    options: ClientOptions,
}

struct State {
    outgoing: Outgoing,
    calls: AHashMap<u32, CallState>,
    /// Calls not yet answered that somebody waits for.
    awaited_count: usize,
    inboxes: AHashMap<u32, Inbox>,
    last_correlation: u32,
    last_subscription: u32,
    /// The broker's limit for a frame, once it has told us.
    frame_bytes_max: usize,
    handle_count: usize,
    failed: Option<ClientError>,
    driver: Option<Waker>,
    room_waiters: Vec<Waker>,
}

#[derive(Debug)]
enum CallState {
    Waiting(Option<Waker>),
    Answered(Answer),
    /// Nobody wants the answer any more.
    Abandoned,
}

/// Wakers to be woken once the lock is released.
#[derive(Default)]
struct Wakes(Vec<Waker>);

impl Wakes {
    fn add(&mut self, waker: &mut Option<Waker>) {
        self.0.extend(waker.take());
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let (call_count, queued_bytes) = (state.calls.len(), state.outgoing.bytes());
        f.debug_struct("Connection")
            .field("call_count", &call_count)
            .field("queued_bytes", &queued_bytes)
            .field("failed", &state.failed)
            .finish()
    }
}

impl Shared {
    pub(crate) fn new(options: ClientOptions) -> Arc<Shared> {
        let state = State {
            outgoing: Outgoing::with_preface(),
            calls: AHashMap::new(),
            awaited_count: 0,
            inboxes: AHashMap::new(),
            last_correlation: CORRELATION_PUSH,
            last_subscription: 0,
            frame_bytes_max: options.frame_bytes_max,
            handle_count: 0,
            failed: None,
            driver: None,
            room_waiters: Vec::new(),
        };
        Arc::new(Shared { state: Mutex::new(state), options })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` under the lock and wakes whom it names after.
    fn change<T>(&self, change: impl FnOnce(&mut State, &mut Wakes) -> T) -> T {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let result = change(&mut state, &mut wakes);
        drop(state);
        result
    }

    pub(crate) fn add_handle(&self) {
        self.lock().handle_count += 1;
    }

    pub(crate) fn remove_handle(&self) {
        self.change(|state, wakes| {
            state.handle_count -= 1;
            if state.handle_count == 0 {
                wakes.add(&mut state.driver);
            }
        });
    }

    pub(crate) fn failure(&self) -> Option<ClientError> {
        self.lock().failed.clone()
    }

    /// Queues a request and registers its call; within the limits.
    pub(crate) fn call(&self, request: &Request, payload: Bytes) -> Result<u32, ClientError> {
        self.change(|state, wakes| {
            state.check(payload.len(), &self.options)?;
            let correlation = state.next_correlation();
            state.send(correlation, request, payload, wakes)?;
            state.calls.insert(correlation, CallState::Waiting(None));
            state.awaited_count += 1;
            Ok(correlation)
        })
    }

    /// Queues a request that has no reply; within the limits.
    pub(crate) fn tell(&self, request: &Request, payload: Bytes) -> Result<(), ClientError> {
        self.change(|state, wakes| {
            state.check(payload.len(), &self.options)?;
            let correlation = state.next_correlation();
            state.send(correlation, request, payload, wakes)
        })
    }

    /// Ready when a request would be taken.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        let mut state = self.lock();
        match state.check(0, &self.options) {
            Err(ClientError::Overloaded { .. }) => {
                if !state.room_waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
                    state.room_waiters.push(cx.waker().clone());
                }
                Poll::Pending
            }
            other => Poll::Ready(other),
        }
    }

    pub(crate) fn poll_answer(&self, correlation: u32, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut state = self.lock();
        match state.calls.remove(&correlation) {
            Some(CallState::Answered(answer)) => Poll::Ready(answer),
            Some(waiting) => {
                debug_assert!(matches!(waiting, CallState::Waiting(_)));
                state.calls.insert(correlation, CallState::Waiting(Some(cx.waker().clone())));
                Poll::Pending
            }
            None => Poll::Ready(Err(ClientError::ConnectionClosed)),
        }
    }

    /// The caller is gone: its answer will be thrown away.
    pub(crate) fn abandon(&self, correlation: u32) {
        self.change(|state, wakes| match state.calls.get_mut(&correlation) {
            Some(call @ CallState::Waiting(_)) => {
                *call = CallState::Abandoned;
                state.awaited_count -= 1;
                wakes.add(&mut state.driver);
            }
            Some(CallState::Answered(_)) => drop(state.calls.remove(&correlation)),
            Some(CallState::Abandoned) | None => {}
        });
    }

    /// A new subscription's number and inbox.
    pub(crate) fn open_inbox(&self, credit_bytes: u64) -> u32 {
        let mut state = self.lock();
        loop {
            state.last_subscription = state.last_subscription.wrapping_add(1);
            let subscription = state.last_subscription;
            if !state.inboxes.contains_key(&subscription) {
                let mut inbox = Inbox::new(credit_bytes);
                if let Some(failed) = &state.failed {
                    drop(inbox.end(Some(failed.clone())));
                }
                state.inboxes.insert(subscription, inbox);
                return subscription;
            }
        }
    }

    /// The next delivery; `None` after the end. Credit for what is taken goes back to the broker.
    pub(crate) fn poll_delivery(
        &self,
        subscription: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Delivery, ClientError>>> {
        self.change(|state, wakes| {
            let Some(inbox) = state.inboxes.get_mut(&subscription) else { return Poll::Ready(None) };
            let delivery = inbox.poll_next(cx);
            if let Some(bytes) = inbox.take_credit()
                && state.failed.is_none()
            {
                state.notify(&Request::Credit { subscription, bytes }, wakes);
            }
            delivery
        })
    }

    /// Forgets a subscription and, if the broker may still push, tells it to stop.
    pub(crate) fn close_inbox(&self, subscription: u32) {
        self.change(|state, wakes| {
            let ended = state.inboxes.remove(&subscription).is_none_or(|inbox| inbox.is_ended());
            if ended || state.failed.is_some() {
                return;
            }
            let correlation = state.notify(&Request::Unsubscribe { subscription }, wakes);
            state.calls.insert(correlation, CallState::Abandoned);
        });
    }

    /// Forgets a subscription the broker never began.
    pub(crate) fn forget_inbox(&self, subscription: u32) {
        self.lock().inboxes.remove(&subscription);
    }

    /// Notes who drives the connection, and hands over what is to be sent.
    pub(crate) fn take_outgoing(&self, cx: &Context<'_>, into: &mut VecDeque<Bytes>) {
        let mut state = self.lock();
        match &mut state.driver {
            Some(driver) => driver.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        state.outgoing.take(into);
    }

    pub(crate) fn on_sent(&self, bytes: usize) {
        self.change(|state, wakes| {
            state.outgoing.on_sent(bytes);
            wakes.0.append(&mut state.room_waiters);
        });
    }

    /// Gives a reply to whom it belongs.
    pub(crate) fn on_reply(&self, incoming: Incoming) -> Result<(), ClientError> {
        self.change(|state, wakes| match incoming.correlation {
            CORRELATION_PUSH => state.on_push(incoming, wakes),
            _ => state.on_answer(incoming, wakes),
        })
    }

    /// Whether everybody is gone and everything is sent and answered.
    pub(crate) fn is_finished(&self) -> bool {
        let state = self.lock();
        state.handle_count == 0 && state.awaited_count == 0 && state.outgoing.bytes() == 0
    }

    /// Ends the connection for everybody.
    pub(crate) fn fail(&self, error: &ClientError) {
        self.change(|state, wakes| state.fail(error, wakes));
    }
}

impl State {
    /// Whether a request with this payload may be queued.
    fn check(&self, payload_bytes: usize, options: &ClientOptions) -> Result<(), ClientError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        // The header of a request with a payload is far below 1 KiB.
        if payload_bytes + (1 << 10) > self.frame_bytes_max {
            return Err(ClientError::TooLarge { bytes: payload_bytes, bytes_max: self.frame_bytes_max });
        }
        let (call_count, queued_bytes) = (self.calls.len(), self.outgoing.bytes());
        if call_count >= options.call_count_max || queued_bytes >= options.queued_bytes_max {
            return Err(ClientError::Overloaded { call_count, queued_bytes });
        }
        Ok(())
    }

    fn next_correlation(&mut self) -> u32 {
        loop {
            self.last_correlation = self.last_correlation.wrapping_add(1);
            if self.last_correlation != CORRELATION_PUSH && !self.calls.contains_key(&self.last_correlation) {
                return self.last_correlation;
            }
        }
    }

    fn send(
        &mut self,
        correlation: u32,
        request: &Request,
        payload: Bytes,
        wakes: &mut Wakes,
    ) -> Result<(), ClientError> {
        self.outgoing.push(correlation, request, payload)?;
        wakes.add(&mut self.driver);
        Ok(())
    }

    /// Queues a request of a subscription, whatever the limits: there are few of them, and each is small.
    fn notify(&mut self, request: &Request, wakes: &mut Wakes) -> u32 {
        let correlation = self.next_correlation();
        let sent = self.send(correlation, request, Bytes::new(), wakes);
        sent.expect("a request of a few bytes is within every limit");
        correlation
    }

    fn on_answer(&mut self, incoming: Incoming, wakes: &mut Wakes) -> Result<(), ClientError> {
        if let Reply::Hello { frame_bytes_max, .. } = &incoming.reply {
            self.frame_bytes_max = *frame_bytes_max as usize;
        }
        wakes.0.append(&mut self.room_waiters);
        match self.calls.remove(&incoming.correlation) {
            Some(CallState::Waiting(mut waiter)) => {
                let answer = CallState::Answered(answer(incoming.reply, incoming.payload));
                self.calls.insert(incoming.correlation, answer);
                self.awaited_count -= 1;
                wakes.add(&mut waiter);
                Ok(())
            }
            Some(CallState::Abandoned) => Ok(()),
            Some(CallState::Answered(_)) | None => Err(ClientError::Protocol(format!(
                "an answer to request {}, which awaits none",
                incoming.correlation
            ))),
        }
    }

    fn on_push(&mut self, incoming: Incoming, wakes: &mut Wakes) -> Result<(), ClientError> {
        match incoming.reply {
            Reply::Push { subscription, committed } => {
                // One we have just dropped may still be on its way.
                let Some(inbox) = self.inboxes.get_mut(&subscription) else { return Ok(()) };
                wakes.0.extend(inbox.push(Delivery { batches: incoming.payload, committed })?);
                Ok(())
            }
            Reply::SubscriptionEnded { subscription, code, message } => {
                if let Some(inbox) = self.inboxes.get_mut(&subscription) {
                    let error = (!code.is_none()).then(|| ClientError::refused(code, message));
                    wakes.0.extend(inbox.end(error));
                }
                Ok(())
            }
            Reply::Error { code, message } => Err(ClientError::refused(code, message)),
            other => Err(ClientError::Protocol(format!("{other:?} was pushed"))),
        }
    }

    fn fail(&mut self, error: &ClientError, wakes: &mut Wakes) {
        if self.failed.is_some() {
            return;
        }
        self.failed = Some(error.clone());
        self.awaited_count = 0;
        self.calls.retain(|_, call| match call {
            CallState::Waiting(waiter) => {
                wakes.add(waiter);
                *call = CallState::Answered(Err(error.clone()));
                true
            }
            CallState::Answered(_) => true,
            CallState::Abandoned => false,
        });
        for inbox in self.inboxes.values_mut() {
            wakes.0.extend(inbox.end(Some(error.clone())));
        }
        wakes.0.append(&mut self.room_waiters);
        wakes.add(&mut self.driver);
    }
}

fn answer(reply: Reply, payload: Bytes) -> Answer {
    match reply {
        Reply::Error { code, message } => Err(ClientError::Refused { code, message }),
        reply => Ok((reply, payload)),
    }
}
