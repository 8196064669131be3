//! The consensus library's runtime over whatever executes tasks here: core 0, or virtual time in tests.

use std::{
    fmt::{self, Debug},
    future::Future,
    marker::PhantomData,
    ops::{Add, AddAssign, Sub, SubAssign},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use openraft::{
    AsyncRuntime, OptionalSend,
    async_runtime::{AsyncOneshotSendExt, OneshotSender as _},
};

use crate::runtime::{
    block_on, mesh::LocalFuture,
    oneshot::{self, Cancelled, oneshot},
    time,
};

/// Tasks, time and chance of one thread.
pub trait Executor: Debug + Clone + Copy + Default + Eq + Ord + 'static {
    /// Starts a task that nobody can end.
    fn spawn(task: impl Future<Output = ()> + 'static);
    /// Monotonic time since some fixed point.
    fn now() -> Duration;
    /// Completes after `duration`. Dropping it is allowed at any time.
    fn sleep(duration: Duration) -> LocalFuture<()>;
    /// A random number: it spreads elections, and is no secret.
    fn random() -> u64;
}
