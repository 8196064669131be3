//! One future run to its end on an executor of the calling thread: what the client commands run on.

use std::{
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use glommio::{LocalExecutorBuilder, Placement};

/// Registered I/O memory: the least there is, since a client command does no direct I/O. Bytes.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Runs `future` on a new executor on any CPU.
///
/// # Errors
/// A sentence, when the machine does not let an executor start.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(IO_MEMORY_BYTES).make();
    executor.map(|executor| executor.run(future)).map_err(|error| format!("no executor can start: {error}"))
}

/// Runs `task` beside its caller, to its end or to that of the executor.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}

/// Runs `work`, which may block, on the executor's blocking thread.
///
/// # Errors
/// When it panicked: a panic must not reach the pool, which would never answer again.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let guarded = move || catch_unwind(AssertUnwindSafe(work));
    let result = glommio::executor().spawn_blocking(guarded).await;
    result.map_err(|_| io::Error::other("the blocking work panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_tasks_and_blocking_work() {
        let sum = block_on(async {
            let (sender, receiver) = crate::runtime::oneshot::oneshot();
            spawn(async move {
                sender.send(1);
            });
            receiver.await.expect("the task sends") + run_blocking(|| 2).await.expect("no panic")
        });
        assert_eq!(sum, Ok(3));
    }
}
