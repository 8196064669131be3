//! One node that is asked: its connection, and how long it is left alone after it could not be reached.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use heddle_net::socket::{pause, spawn};
use heddle_replication_driver::Peer;

use super::asking::Asking;
use super::{CallError, Options};
use crate::door::{DialError, Door, reach};
use crate::handshake::{Aim, Caller, random};

/// See the module.
#[derive(Default)]
pub(super) struct Target {
    /// The connection there is or that is being made, and its address.
    current: RefCell<Option<(Rc<Asking>, String)>>,
    /// An attempt to connect to that address is under way, even if nobody waits for it any more.
    is_trying: Cell<bool>,
    failure_count: Cell<u32>,
    /// Until when it is left alone, and why.
    rest: RefCell<Option<(Instant, String)>>,
    /// Why the ends did not fit together the last time, which is told once.
    mismatch: RefCell<Option<String>>,
}

impl Target {
    /// The connection to this address: the one there is, or a new one that is being made.
    pub(super) fn asking(
        self: &Rc<Self>,
        door: &Door,
        options: &Options,
        to: Peer,
        address: &str,
    ) -> Result<Rc<Asking>, CallError> {
        let current = self.current.borrow().clone();
        match current {
            Some((asking, at)) if at == address => {
                if !asking.is_over() {
                    return Ok(asking);
                }
                if self.is_trying.get() {
                    return Err(CallError::Unreachable(TOO_SLOW.to_owned()));
                }
                if let Some((until, why)) = &*self.rest.borrow()
                    && Instant::now() < *until
                {
                    return Err(CallError::Unreachable(why.clone()));
                }
            }
            Some((asking, _)) => {
                asking.end("the node has another address now");
                self.failure_count.set(0);
            }
            None => {}
        }
        let asking = Rc::new(Asking::new(*options));
        *self.current.borrow_mut() = Some((asking.clone(), address.to_owned()));
        self.rest.take();
        self.is_trying.set(true);
        let (target, door, options, made) = (self.clone(), door.clone(), *options, asking.clone());
        let address = address.to_owned();
        spawn(async move { target.run(&door, &options, &made, to, &address).await });
        Ok(asking)
    }

    /// Ends its connection.
    pub(super) fn end(&self) {
        if let Some((asking, _)) = self.current.take() {
            asking.end("this node has stopped");
        }
    }

    /// Makes a connection and asks over it until it ends.
    async fn run(&self, door: &Door, options: &Options, asking: &Rc<Asking>, to: Peer, address: &str) {
        let identity = door.identity();
        let me = (&identity, door.secret(), &**door.roster());
        let began = Instant::now();
        let time_max = options.attempt_time_max;
        give_up_after(time_max, asking);
        let met = reach(address, (time_max, time_max), me, Aim::Calls(to)).await;
        if self.is_current(asking) {
            self.is_trying.set(false);
        }
        let met = match met {
            Ok(met) => met,
            Err(error) => {
                self.tell_mismatch(to, address, &error);
                return self.failed(options, asking, Duration::ZERO, &error.to_string());
            }
        };
        self.mismatch.take();
        if asking.is_over() {
            return self.failed(options, asking, Duration::ZERO, TOO_SLOW);
        }
        let Some(caller) = Caller::note(door.roster(), to.node, met.process) else {
            return self.failed(options, asking, Duration::ZERO, "its node id is in use by another process");
        };
        asking.carry(met, Some(caller)).await;
        self.failed(options, asking, began.elapsed(), "the connection has just broken");
    }

    fn is_current(&self, asking: &Rc<Asking>) -> bool {
        self.current.borrow().as_ref().is_some_and(|(current, _)| Rc::ptr_eq(current, asking))
    }

    /// Nobody but an operator can mend it when the ends do not fit together.
    fn tell_mismatch(&self, to: Peer, address: &str, error: &DialError) {
        let DialError::Handshake(error) = error else { return };
        let why = error.is_mismatch().then(|| error.to_string());
        if why.is_some() && *self.mismatch.borrow() != why {
            tracing::warn!(%error, "{to} at {address} and this node do not fit together");
        }
        *self.mismatch.borrow_mut() = why;
    }

    /// A connection ended, or could not be made: it is left alone for a while, unless it had lasted.
    fn failed(&self, options: &Options, asking: &Rc<Asking>, lived: Duration, why: &str) {
        if self.is_current(asking) {
            let failure_count = options.backoff.failures_after(self.failure_count.get(), lived);
            self.failure_count.set(failure_count);
            if let Some(doublings) = failure_count.checked_sub(1) {
                let wait = options.backoff.wait(doublings, random().map_or(0, u32::from_le_bytes));
                *self.rest.borrow_mut() = Some((Instant::now() + wait, why.to_owned()));
            }
        }
        tracing::debug!(why, "a connection for calls ended or was not made");
        asking.end(why);
    }
}

const TOO_SLOW: &str = "it took too long to connect";

/// Whoever waits is not kept longer than that, however long the system takes over a name or an address.
pub(super) fn give_up_after(time_max: Duration, asking: &Rc<Asking>) {
    let asking = Rc::downgrade(asking);
    spawn(async move {
        pause(time_max).await;
        if let Some(asking) = asking.upgrade().filter(|asking| asking.met().is_none()) {
            asking.end(TOO_SLOW);
        }
    });
}
