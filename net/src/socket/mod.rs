//! TCP on one core: listening without sharing a port by accident, accepting, connecting, reading and vectored
//! sending.
//!
//! glommio is named in this folder and nowhere else in the crate. A [`Stream`] belongs to the core that made
//! it; to move a connection to another core, take it apart with [`Stream::into_raw`] and put it together
//! there with [`Stream::from_raw`].
//!
//! A read is never raced against a timer: whoever wants to end a connection calls
//! [`ShutdownHandle::shutdown`], which wakes the blocked reader with an end of stream.
mod bind;
mod connect;
mod idle;
mod listener;
mod stream;
mod sys;

#[cfg(test)]
mod tests;

pub use bind::{BindError, LISTEN_BACKLOG_COUNT, ListenSocket, PortGuard, Share};
pub use connect::ConnectError;
pub use idle::{Activity, close_when_idle};
pub use listener::{AcceptError, Listener, ListenerShutdown};
pub use stream::{RawStream, ReadHalf, ShutdownHandle, Stream, WriteHalf};

/// Runs `task` on this core's executor, beside its caller, until it ends.
///
/// The task inherits the task queue of its caller.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}

/// Waits on this core for `time`.
pub async fn pause(time: std::time::Duration) {
    glommio::timer::sleep(time).await;
}

/// Runs `work` to its end on an executor of its own, on the calling thread.
#[cfg(test)]
pub(crate) fn run_core(work: impl Future<Output = ()>) {
    glommio::LocalExecutorBuilder::default().make().expect("an executor starts").run(work);
}
