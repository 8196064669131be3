//! Small single-threaded async primitives: an event, permits and a set of jobs polled together. They name no runtime.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Wakes everyone who listened before it was notified. Costs no allocation until somebody waits.
#[derive(Default)]
pub(crate) struct Event {
    count: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Event {
    /// Completes every [`Listen`] made before this call.
    pub(crate) fn notify(&self) {
        self.count.set(self.count.get().wrapping_add(1));
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A future that completes at the next [`Self::notify`]. Listen first, then check the condition, then await.
    pub(crate) fn listen(&self) -> Listen<'_> {
        Listen { event: self, seen: self.count.get() }
    }
}

/// See [`Event::listen`].
pub(crate) struct Listen<'a> {
    event: &'a Event,
    seen: u64,
}

impl Future for Listen<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.event.count.get() != self.seen {
            return Poll::Ready(());
        }
        let mut wakers = self.event.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// So many may do something at once, across awaits on one thread; the others wait. One permit is mutual exclusion.
pub(crate) struct Permits {
    free: Cell<usize>,
    released: Event,
}

impl Permits {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Cell::new(count), released: Event::default() }
    }

    /// Waits for a permit, and has it until the guard is dropped.
    pub(crate) async fn acquire(&self) -> Permit<'_> {
        loop {
            let released = self.released.listen();
            if let Some(left) = self.free.get().checked_sub(1) {
                self.free.set(left);
                return Permit { permits: self };
            }
            released.await;
        }
    }
}

/// One of [`Permits`], until dropped.
pub(crate) struct Permit<'a> {
    permits: &'a Permits,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.permits.free.set(self.permits.free.get() + 1);
        self.permits.released.notify();
    }
}

/// A handful of futures polled together: every wake polls all of them, so keep the set small.
pub(crate) struct JobSet<'a, T> {
    jobs: Vec<Pin<Box<dyn Future<Output = T> + 'a>>>,
}

impl<'a, T> JobSet<'a, T> {
    pub(crate) fn new() -> Self {
        Self { jobs: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) fn push(&mut self, job: impl Future<Output = T> + 'a) {
        self.jobs.push(Box::pin(job));
    }

    /// Polls every job and takes out the first that is done.
    pub(crate) fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let mut index = 0;
        while index < self.jobs.len() {
            if let Poll::Ready(output) = self.jobs[index].as_mut().poll(cx) {
                drop(self.jobs.swap_remove(index));
                return Poll::Ready(output);
            }
            index += 1;
        }
        Poll::Pending
    }

    /// The output of the next job to finish, or `None` when the set is empty.
    pub(crate) async fn next(&mut self) -> Option<T> {
        if self.jobs.is_empty() {
            return None;
        }
        Some(std::future::poll_fn(|cx| self.poll_one(cx)).await)
    }
}

impl<T, E> JobSet<'_, Result<T, E>> {
    /// Waits for all jobs. The first error is returned after every job has finished, so that none is abandoned.
    pub(crate) async fn finish(&mut self) -> Result<(), E> {
        let mut outcome = Ok(());
        while let Some(result) = self.next().await {
            outcome = outcome.and(result.map(drop));
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future;

    #[test]
    fn an_event_wakes_those_who_listened_before() {
        let event = Event::default();
        let early = event.listen();
        event.notify();
        let late = event.listen();
        future::block_on(async {
            early.await;
            assert!(future::poll_once(late).await.is_none());
        });
    }

    #[test]
    fn a_job_set_returns_every_output_and_the_first_error() {
        let mut jobs = JobSet::new();
        jobs.push(async { Ok(1) });
        jobs.push(async { Err("broken") });
        jobs.push(async { Ok(3) });
        assert_eq!(future::block_on(jobs.finish()), Err("broken"));
        assert!(jobs.is_empty());
    }

    #[test]
    fn permits_are_given_again_when_they_come_back() {
        for count in 1..4 {
            let permits = Permits::new(count);
            future::block_on(async {
                let mut held = Vec::new();
                for _ in 0..count {
                    held.push(permits.acquire().await);
                }
                let mut next = std::pin::pin!(permits.acquire());
                assert!(future::poll_once(next.as_mut()).await.is_none());
                held.pop();
                assert!(future::poll_once(next).await.is_some());
            });
        }
    }
}
