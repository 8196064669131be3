//! Watching a message on its way out: when it was ready, and when the kernel had taken it.

use std::time::Instant;

/// What a watched message answers.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A produce request.
    Produce,
    /// A fetch request.
    Fetch,
    /// Nothing: a subscription's delivery.
    Push,
}

/// A note that travels with a message through the outbox.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Watch {
    /// What the message answers.
    pub operation: Operation,
    /// When the work for it began: its request was there, or its data was looked for.
    pub begun: Instant,
    /// When what it says was known.
    pub ready: Instant,
}

/// Who is told of watched messages that were sent.
pub trait Observer {
    /// The kernel took the last byte of the message at `now`.
    fn sent(&self, watch: Watch, now: Instant);
}

/// Nobody looks.
impl Observer for () {
    fn sent(&self, _: Watch, _: Instant) {}
}

impl<T: Observer> Observer for std::rc::Rc<T> {
    fn sent(&self, watch: Watch, now: Instant) {
        T::sent(self, watch, now);
    }
}
