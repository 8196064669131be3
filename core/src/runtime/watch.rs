//! Which of many things moved since somebody looked: the watcher is woken once and told which, whatever their number.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Poll, Waker},
};

use super::weak_list::WeakList;

/// One watcher's flags that are up. One task waits for it at a time.
#[derive(Default)]
pub struct Watch {
    raised: RefCell<Vec<Rc<Flag>>>,
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// What a watcher puts up at one thing; it goes down for good when the watcher drops it.
pub struct Flag {
    watch: Weak<Watch>,
    slot: u32,
    is_up: Cell<bool>,
}

impl Watch {
    /// A watch over nothing yet.
    pub fn new() -> Rc<Watch> {
        Rc::default()
    }

    /// A flag for one thing, which the watcher knows by `slot`.
    pub fn flag(self: &Rc<Self>, slot: u32) -> Rc<Flag> {
        Rc::new(Flag { watch: Rc::downgrade(self), slot, is_up: Cell::new(false) })
    }

    /// The slots of the flags that went up since the last call, each once; their flags are down again.
    pub fn take(&self) -> Vec<u32> {
        self.called.set(false);
        let raised = self.raised.take();
        // A flag that only this list holds belongs to nobody any more.
        let live = raised.into_iter().filter(|flag| Rc::strong_count(flag) > 1);
        live.map(|flag| {
            flag.is_up.set(false);
            flag.slot
        })
        .collect()
    }

    /// Ends the wait that is under way, or the next one.
    pub fn call(&self) {
        self.called.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until a flag goes up or somebody calls.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.called.get() || !self.raised.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Flag {
    /// Puts it up and wakes the watcher.
    pub fn raise(self: &Rc<Self>) {
        let Some(watch) = self.watch.upgrade() else { return };
        if !self.is_up.replace(true) {
            watch.raised.borrow_mut().push(self.clone());
            watch.call();
        }
    }
}

/// The flags put up at one thing.
pub type Flags = WeakList<Flag>;

impl Flags {
    /// The thing moved: every flag goes up.
    pub fn raise(&self) {
        self.for_each(|flag| flag.raise());
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn tells_which_things_moved_and_each_once() {
        let watch = Watch::new();
        let things: Vec<Flags> = (0..1000).map(|_| Flags::default()).collect();
        let flags: Vec<Rc<Flag>> = (0..1000).map(|slot| watch.flag(slot)).collect();
        things.iter().zip(&flags).for_each(|(thing, flag)| thing.add(flag));
        assert!(block_on(poll_once(watch.wait())).is_none());
        for slot in [7, 500, 7, 7] {
            things[slot].raise();
        }
        block_on(watch.wait());
        assert_eq!(watch.take(), [7, 500]);
        assert!(block_on(poll_once(watch.wait())).is_none());
        things[7].raise();
        assert_eq!(watch.take(), [7], "a flag can go up again");
    }

    #[test]
    fn dropped_flags_tell_nothing() {
        let watch = Watch::new();
        let thing = Flags::default();
        let flag = watch.flag(1);
        thing.add(&flag);
        thing.raise();
        drop(flag);
        assert!(watch.take().is_empty());
        let kept = watch.flag(2);
        thing.add(&kept);
        drop(watch);
        thing.raise();
    }

    #[test]
    fn a_call_ends_a_wait_without_a_flag() {
        let watch = Watch::new();
        watch.call();
        block_on(watch.wait());
        assert!(watch.take().is_empty());
        assert!(block_on(poll_once(watch.wait())).is_none());
    }
}
