//! Waking one task of the same core, and a bell that wakes many.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

/// What one task waits for. Raised while nobody waits, it ends the next wait.
#[derive(Default)]
pub struct Signal {
    is_raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// Ends the wait that is under way, or the next one.
    pub fn raise(&self) {
        self.is_raised.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until it is raised. One task at a time; dropping the wait loses nothing.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.is_raised.take() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Raises the signals of everybody who listens. Clones share the listeners.
#[derive(Clone, Default)]
pub struct Bell(Rc<RefCell<Vec<Weak<Signal>>>>);

impl Bell {
    /// Listens until what is returned is dropped.
    pub fn listen(&self) -> Rc<Signal> {
        let signal = Rc::new(Signal::default());
        let mut listeners = self.0.borrow_mut();
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Rc::downgrade(&signal));
        signal
    }

    /// Wakes everybody.
    pub fn ring(&self) {
        for listener in self.0.borrow().iter() {
            if let Some(signal) = listener.upgrade() {
                signal.raise();
            }
        }
    }
}
