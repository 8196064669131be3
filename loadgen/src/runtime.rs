//! Executors: one glommio executor per generator processor, and one for control work of the main thread.

use crate::cli::CoreList;
use glommio::{LocalExecutorBuilder, Placement};
use std::time::Duration;

/// The generator does no file I/O through the ring, so the smallest registered memory will do.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// Where generator threads run.
pub fn placements(cores: Option<&CoreList>) -> Vec<Placement> {
    match cores {
        Some(list) => list.0.iter().map(|core| Placement::Fixed(*core)).collect(),
        None => vec![Placement::Unbound],
    }
}

fn builder(placement: Placement, spin: Duration) -> LocalExecutorBuilder {
    let builder = LocalExecutorBuilder::new(placement).io_memory(IO_MEMORY_BYTES);
    match spin.is_zero() {
        true => builder,
        false => builder.spin_before_park(spin),
    }
}

/// Runs `future` on this thread, on an executor of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let executor = builder(Placement::Unbound, Duration::ZERO).make().map_err(explain)?;
    Ok(executor.run(future))
}

/// Runs what `make` makes on a new thread of its own; joins through the returned handle.
pub fn spawn<F: Future<Output = ()> + 'static>(
    name: String,
    placement: Placement,
    spin: Duration,
    make: impl FnOnce() -> F + Send + 'static,
) -> Result<std::thread::JoinHandle<Result<(), String>>, String> {
    std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            let executor = builder(placement, spin).make().map_err(explain)?;
            executor.run(async move {
                // glommio's first sleep can take 40 ms: have it over before anything is measured.
                glommio::timer::sleep(Duration::from_micros(1)).await;
                make().await;
            });
            Ok(())
        })
        .map_err(|e| e.to_string())
}

fn explain(error: glommio::GlommioError<()>) -> String {
    format!(
        "cannot start an executor: {error}. The generator needs io_uring (Linux 5.8 or newer, not forbidden by a container's \
         seccomp profile) and 512 KiB of lockable memory per thread (ulimit -l)"
    )
}
