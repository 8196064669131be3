//! Waiting on the same thread: a flag that wakes, and a slot for one result.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Wakes one waiting task. A wake before the wait is remembered.
#[derive(Default)]
pub struct Notify {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    /// Wakes the waiter, or the next one.
    pub fn raise(&self) {
        self.raised.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until raised, and lowers it.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.raised.take() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Where one result arrives.
pub struct Slot<T> {
    value: RefCell<Option<T>>,
    ready: Notify,
}

impl<T> Slot<T> {
    /// An empty slot, to be shared by who fills it and who waits.
    pub fn new() -> Rc<Self> {
        Rc::new(Self { value: RefCell::new(None), ready: Notify::default() })
    }

    /// Puts the result in; a second one is dropped.
    pub fn fill(&self, value: T) {
        let mut place = self.value.borrow_mut();
        if place.is_none() {
            *place = Some(value);
        }
        drop(place);
        self.ready.raise();
    }

    /// Waits for the result.
    pub async fn take(&self) -> T {
        loop {
            let value = self.value.borrow_mut().take();
            match value {
                Some(value) => return value,
                None => self.ready.wait().await,
            }
        }
    }
}
