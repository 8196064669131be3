//! The consensus library's runtime over whatever executes tasks here: core 0, or virtual time in tests.

use std::{
    fmt::{self, Debug},
    future::Future,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    marker::PhantomData,
    ops::{Add, AddAssign, Sub, SubAssign},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_lite::future;
use openraft::{AsyncRuntime, OptionalSend, async_runtime::AsyncOneshotSendExt};
use rand::RngCore;

use crate::runtime::{
    block_on,
    mesh::LocalFuture,
    oneshot::{Cancelled, Receiver, Sender, oneshot},
    time,
};

/// Tasks, time and chance of one thread.
pub trait Executor: Debug + Clone + Copy + Default + Eq + Ord + Hash + 'static {
    /// Starts a task that nobody waits for.
    fn spawn(task: impl Future<Output = ()> + 'static);
    /// Monotonic time since some fixed point.
    fn now() -> Duration;
    /// Completes after `duration`. It may be dropped at any time.
    fn sleep(duration: Duration) -> LocalFuture<()>;
    /// A random number: it spreads elections, and is no secret.
    fn random() -> u64;
}

/// Waits for `future` for so long; `None` when it was not ready by then.
pub async fn within<E: Executor, T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    future::or(async { Some(future.await) }, async {
        E::sleep(limit).await;
        None
    })
    .await
}

/// The executor of the core that it is used on, in the task queue of whoever starts a node there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreExecutor;

thread_local! {
    static BEGUN: Instant = Instant::now();
    static RANDOM: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Executor for CoreExecutor {
    fn spawn(task: impl Future<Output = ()> + 'static) {
        block_on::spawn(task);
    }

    fn now() -> Duration {
        BEGUN.with(Instant::elapsed)
    }

    fn sleep(duration: Duration) -> LocalFuture<()> {
        Box::pin(time::sleep(duration))
    }

    fn random() -> u64 {
        // Every node must draw other numbers than its peers; the standard library seeds its hashers from the system.
        let turn = RANDOM.get();
        RANDOM.set(turn.wrapping_add(1));
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(turn);
        hasher.finish()
    }
}

/// The library's runtime on an executor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runtime<E>(PhantomData<E>);

impl<E: Executor> AsyncRuntime for Runtime<E> {
    type JoinError = Cancelled;
    type JoinHandle<T: OptionalSend + 'static> = Receiver<T>;
    type Sleep = LocalFuture<()>;
    type Instant = Moment<E>;
    type TimeoutError = TimedOut;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = Random<E>;
    type OneshotSender<T: OptionalSend> = OneshotSender<T>;
    type OneshotReceiverError = Cancelled;
    type OneshotReceiver<T: OptionalSend> = Receiver<T>;

    fn spawn<T>(future: T) -> Receiver<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let (sender, receiver) = oneshot();
        E::spawn(async move { sender.send(future.await) });
        receiver
    }

    fn sleep(duration: Duration) -> LocalFuture<()> {
        E::sleep(duration)
    }

    fn sleep_until(deadline: Moment<E>) -> LocalFuture<()> {
        E::sleep(deadline.since_start.saturating_sub(E::now()))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), sleep: E::sleep(duration) }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Moment<E>, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), sleep: Self::sleep_until(deadline) }
    }

    fn is_panic(_error: &Cancelled) -> bool {
        // A task that panics takes the process with it.
        false
    }

    fn thread_rng() -> Random<E> {
        Random(PhantomData)
    }

    fn oneshot<T>() -> (OneshotSender<T>, Receiver<T>)
    where
        T: OptionalSend,
    {
        let (sender, receiver) = oneshot();
        (OneshotSender(sender), receiver)
    }
}

/// A future with a limit to its time.
pub struct Timeout<T> {
    future: Pin<Box<T>>,
    sleep: LocalFuture<()>,
}

/// The time was over before the future was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time is over")]
pub struct TimedOut;

impl<T: Future> Future for Timeout<T> {
    type Output = Result<T::Output, TimedOut>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        self.sleep.as_mut().poll(cx).map(|()| Err(TimedOut))
    }
}

/// The sending end of a value that is handed over once.
pub struct OneshotSender<T>(Sender<T>);

impl<T> Debug for OneshotSender<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("OneshotSender")
    }
}

impl<T: OptionalSend> AsyncOneshotSendExt<T> for OneshotSender<T> {
    fn send(self, value: T) -> Result<(), T> {
        self.0.send(value);
        Ok(())
    }
}

/// Numbers from the executor.
pub struct Random<E>(PhantomData<E>);

impl<E: Executor> RngCore for Random<E> {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        E::random()
    }

    fn fill_bytes(&mut self, into: &mut [u8]) {
        for chunk in into.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(into);
        Ok(())
    }
}

/// A moment of the executor's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment<E> {
    since_start: Duration,
    executor: PhantomData<fn() -> E>,
}

impl<E> Moment<E> {
    fn at(since_start: Duration) -> Self {
        Moment { since_start, executor: PhantomData }
    }
}

impl<E: Executor> openraft::Instant for Moment<E> {
    fn now() -> Self {
        Moment::at(E::now())
    }
}

impl<E> Add<Duration> for Moment<E> {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Moment::at(self.since_start.saturating_add(duration))
    }
}

impl<E> AddAssign<Duration> for Moment<E> {
    fn add_assign(&mut self, duration: Duration) {
        self.since_start = self.since_start.saturating_add(duration);
    }
}

impl<E> Sub<Duration> for Moment<E> {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Moment::at(self.since_start.saturating_sub(duration))
    }
}

impl<E> Sub for Moment<E> {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since_start.saturating_sub(earlier.since_start)
    }
}

impl<E> SubAssign<Duration> for Moment<E> {
    fn sub_assign(&mut self, duration: Duration) {
        self.since_start = self.since_start.saturating_sub(duration);
    }
}
