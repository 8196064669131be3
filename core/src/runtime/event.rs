//! Something that happens once and that one task of this core waits for, from any number of places.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use super::weak_list::WeakList;

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

/// The events that wait for one source.
pub type Waiters = WeakList<Event>;

impl Waiters {
    /// Fires every waiter once and forgets them.
    pub fn fire(&self) {
        self.drain(|event| event.fire());
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
}
