//! Starting one pinned executor per CPU and waiting for all of them.

use std::{future::Future, time::Duration};

use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};

use crate::fatal::Fatal;

/// Registered I/O memory of an executor when the memlock limit allows it, in bytes.
const IO_MEMORY_BYTES_MAX: usize = 4 << 20;

/// The least glommio works with, in bytes.
const IO_MEMORY_BYTES_MIN: usize = 64 << 10;

/// Each of an executor's three rings registers the same memory, and each registration counts against the limit.
const RINGS_PER_EXECUTOR: u64 = 3;

/// What of the memlock limit is left for the rings themselves and for other processes of the user.
const MEMLOCK_SHARE_USED: u64 = 2;

/// How an executor behaves.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorOptions {
    /// How long it looks for work before it sleeps.
    pub spin: Duration,
    /// How much memory it registers for I/O, in bytes.
    pub io_memory_bytes: usize,
}

/// Chooses the registered memory so that `core_count` executors fit within the memlock limit (`None`: no limit).
pub fn io_memory_bytes(memlock_bytes: Option<u64>, core_count: u16) -> usize {
    let Some(limit) = memlock_bytes else { return IO_MEMORY_BYTES_MAX };
    let each = limit / MEMLOCK_SHARE_USED / RINGS_PER_EXECUTOR / u64::from(core_count.max(1));
    (each as usize & !4095).clamp(IO_MEMORY_BYTES_MIN, IO_MEMORY_BYTES_MAX)
}

/// The memlock limit of this process, in bytes; `None` when there is none.
pub fn memlock_limit_bytes() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to fill in.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } != 0;
    (!failed && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// A started executor.
pub struct Core<T: Send + 'static> {
    index: usize,
    handle: glommio::ExecutorJoinHandle<T>,
}

/// Starts an executor for core `core`, pinned to `cpu`, that runs what `main` makes on its own thread.
///
/// # Errors
/// [`Fatal::Core`] when the machine does not let it start.
pub fn start<G, F, T>(core: usize, cpu: usize, options: ExecutorOptions, main: G) -> Result<Core<T>, Fatal>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("core-{core}"))
        .spin_before_park(options.spin)
        .io_memory(options.io_memory_bytes)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .spawn(main)
        .map(|handle| Core { index: core, handle })
        .map_err(|error| Fatal::Core {
            core,
            detail: format!("its executor on CPU {cpu} does not start: {error}"),
        })
}

impl<T: Send + 'static> Core<T> {
    /// Waits until the executor has ended.
    ///
    /// # Errors
    /// [`Fatal::Core`] when its thread died.
    pub fn join(self) -> Result<T, Fatal> {
        let core = self.index;
        self.handle.join().map_err(|error| Fatal::Core { core, detail: format!("its thread died: {error}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_memory_fits_the_default_limit() {
        for cores in [1, 2, 8, 64] {
            let each = io_memory_bytes(Some(8 << 20), cores);
            assert!((IO_MEMORY_BYTES_MIN..=IO_MEMORY_BYTES_MAX).contains(&each));
            if cores <= 16 {
                assert!(each as u64 * RINGS_PER_EXECUTOR * u64::from(cores) <= 8 << 20);
            }
        }
        assert_eq!(io_memory_bytes(None, 64), IO_MEMORY_BYTES_MAX);
    }
}
