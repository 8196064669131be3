//! Something that happens once and that one task of this core waits for, from any number of places.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Poll, Waker},
};

/// A one-time signal. Share it by `Rc`; fire it as often as wanted.
#[derive(Default)]
pub struct Event {
    fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Event {
    /// A signal that has not happened.
    pub fn new() -> Rc<Event> {
        Rc::default()
    }

    /// Makes it have happened and wakes the waiting task.
    pub fn fire(&self) {
        self.fired.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether it has happened.
    pub fn has_fired(&self) -> bool {
        self.fired.get()
    }

    /// Waits until it has happened; returns at once when it has.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.fired.get() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// The events that wait for one source. Entries whose waiter is gone are dropped as the list grows.
#[derive(Default)]
pub struct Waiters {
    list: RefCell<Vec<Weak<Event>>>,
    prune_at: Cell<usize>,
}

/// Below this length a list of waiters is not searched for dead entries.
const PRUNE_LENGTH_MIN: usize = 8;

impl Waiters {
    /// Registers a waiter.
    pub fn add(&self, event: &Rc<Event>) {
        let mut list = self.list.borrow_mut();
        if list.len() >= self.prune_at.get().max(PRUNE_LENGTH_MIN) {
            list.retain(|waiter| waiter.strong_count() > 0);
            self.prune_at.set(list.len() * 2);
        }
        list.push(Rc::downgrade(event));
    }

    /// Fires every waiter once and forgets them.
    pub fn fire(&self) {
        if self.list.borrow().is_empty() {
            return;
        }
        let waiters = self.list.take();
        for waiter in waiters {
            if let Some(event) = waiter.upgrade() {
                event.fire();
            }
        }
    }

    /// How many entries the list has, dead ones included.
    pub fn len(&self) -> usize {
        self.list.borrow().len()
    }

    /// Whether nobody is registered.
    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn fires_all_waiters_once() {
        let waiters = Waiters::default();
        let (first, second) = (Event::new(), Event::new());
        waiters.add(&first);
        waiters.add(&second);
        assert!(block_on(poll_once(first.wait())).is_none());
        waiters.fire();
        block_on(first.wait());
        assert!(second.has_fired() && waiters.is_empty());
    }

    #[test]
    fn waiters_that_gave_up_do_not_pile_up() {
        let waiters = Waiters::default();
        let alive = Event::new();
        waiters.add(&alive);
        for _ in 0..1000 {
            waiters.add(&Event::new());
        }
        assert!(waiters.len() <= 2 * PRUNE_LENGTH_MIN, "{}", waiters.len());
        waiters.fire();
        assert!(alive.has_fired());
    }
}
