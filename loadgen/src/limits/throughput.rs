//! What the machine moves when latency does not matter: large durable writes, large direct reads, and a connection.

use super::file::{AlignedBuffer, IO_BYTES_MAX, ScratchFile};
use super::{LimitError, stream};
use crate::clock::{Clock, Nanos};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Sequential figures, in millions of bytes per second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Throughput {
    /// Bytes of one I/O.
    pub io_bytes: usize,
    /// I/Os at a time.
    pub depth: u32,
    /// Durable writes into space that was allocated and never written, as a log that grows makes them.
    pub first_write_mb_per_s: f64,
    /// Durable writes over what was written before.
    pub write_mb_per_s: f64,
    /// Direct reads.
    pub read_mb_per_s: f64,
    /// One connection over loopback.
    pub loopback_mb_per_s: f64,
}

/// Writes into a file of `file_bytes` in `dir` once, then writes and reads it round and round, `depth` I/Os at a time; then
/// sends over loopback. Each for `duration`, the first only as far as the file goes.
pub fn measure_throughput(
    dir: &Path,
    file_bytes: usize,
    depth: u32,
    duration: Duration,
) -> Result<Throughput, LimitError> {
    let file_bytes = file_bytes.max(IO_BYTES_MAX).next_multiple_of(IO_BYTES_MAX);
    let write = |file: &File, buffer: &mut AlignedBuffer, position| file.write_all_at(buffer.get(), position);
    let allocated = ScratchFile::allocate(dir, file_bytes)?;
    let first_write = sweep(&allocated, Rounds::One, depth, duration, ScratchFile::open_durable, write)?;
    drop(allocated);
    let scratch = ScratchFile::create(dir, file_bytes)?;
    let write = sweep(&scratch, Rounds::Many, depth, duration, ScratchFile::open_durable, write)?;
    let read =
        sweep(&scratch, Rounds::Many, depth, duration, ScratchFile::open_read, |file, buffer, position| {
            file.read_exact_at(buffer.get_mut(), position)
        })?;
    Ok(Throughput {
        io_bytes: IO_BYTES_MAX,
        depth,
        first_write_mb_per_s: first_write,
        write_mb_per_s: write,
        read_mb_per_s: read,
        loopback_mb_per_s: stream::measure(duration)?,
    })
}

/// How often a sweep goes over its file.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Rounds {
    One,
    Many,
}

fn sweep(
    scratch: &ScratchFile,
    rounds: Rounds,
    depth: u32,
    duration: Duration,
    open: fn(&ScratchFile) -> Result<File, LimitError>,
    operation: fn(&File, &mut AlignedBuffer, u64) -> std::io::Result<()>,
) -> Result<f64, LimitError> {
    let (clock, next) = (Clock::start(), AtomicUsize::new(0));
    let (start, slots) = (clock.now(), scratch.length / IO_BYTES_MAX);
    let end = start.plus(duration);
    let lane = |seed| -> Result<Nanos, LimitError> {
        let file = open(scratch)?;
        let mut buffer = AlignedBuffer::random(IO_BYTES_MAX, seed);
        while clock.now() < end {
            let slot = next.fetch_add(1, Ordering::Relaxed);
            if rounds == Rounds::One && slot >= slots {
                break;
            }
            let slot = slot % slots;
            operation(&file, &mut buffer, (slot * IO_BYTES_MAX) as u64)
                .map_err(scratch.error("moving data"))?;
        }
        Ok(clock.now())
    };
    let mut stop = start;
    thread::scope(|scope| {
        let lanes: Vec<_> =
            (0..u64::from(depth.max(1))).map(|seed| scope.spawn(move || lane(seed))).collect();
        for lane in lanes {
            stop = stop.max(lane.join().map_err(|_| LimitError::Panicked)??);
        }
        Ok::<_, LimitError>(())
    })?;
    let io_count = match rounds {
        Rounds::One => next.load(Ordering::Relaxed).min(slots),
        Rounds::Many => next.load(Ordering::Relaxed),
    };
    let moved = io_count * IO_BYTES_MAX;
    Ok(crate::histogram::round(moved as f64 / 1000.0 / (stop.since(start) as f64 / 1e6)))
}
