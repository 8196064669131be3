//! The limit a run is compared with: what this disk and this kernel do when nothing but the bare work is done.
//!
//! A durable write of the same size at the same rate on a pre-zeroed file, plus a loopback round trip of the same
//! shape: no broker on this machine acknowledges faster. Plain blocking system calls on plain threads, so that no
//! runtime is in the way.

mod command;
mod file;
mod paced;
mod replicas;
mod round_trip;
mod stream;
mod throughput;
mod write;

pub use command::command;
pub use paced::Timed;
pub use throughput::{Throughput, measure_throughput};

use crate::histogram::{self, Percentiles};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Direct I/O is aligned to this; also the smallest write a broker's log does.
pub const BLOCK_BYTES: usize = 4096;

/// Most threads that write, or connections that ask, at a time. More would measure the scheduler.
pub const DEPTH_MAX: u32 = 16;

/// What to measure.
#[derive(Clone, Debug)]
pub struct LimitPlan {
    /// Directory on the disk in question; a file is made there and removed.
    pub dir: PathBuf,
    /// Bytes of one message; a write is this, aligned up to [`BLOCK_BYTES`].
    pub message_bytes: usize,
    /// Messages per second, open loop; 0 means one after another without a pause.
    pub rate: u64,
    /// Threads, and connections, that share the rate.
    pub depth: u32,
    /// Nodes that hold a message; 0: replicas are not measured.
    pub replicas: u32,
    /// How long each of them is measured.
    pub duration: Duration,
}

impl LimitPlan {
    /// Bytes of one write.
    pub fn write_bytes(&self) -> usize {
        self.message_bytes.max(1).next_multiple_of(BLOCK_BYTES)
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Durable writes.
    pub write: Timed,
    /// Loopback round trips.
    pub round_trip: Timed,
    /// Both at once, on as many nodes as asked.
    pub replicated: Option<Timed>,
}

/// Why a limit could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// A file operation failed.
    #[error("{path}: {action}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The loopback connection failed.
    #[error("loopback round trip: {0}")]
    Socket(#[from] std::io::Error),
    /// A measuring thread ended early.
    #[error("a measuring thread panicked")]
    Panicked,
}

impl Limits {
    /// Measures one after the other, so that they do not disturb each other.
    pub fn measure(plan: &LimitPlan) -> Result<Self, LimitError> {
        let (write, round_trip) = (write::measure(plan)?, round_trip::measure(plan)?);
        let replicated = (plan.replicas > 0).then(|| replicas::measure(plan)).transpose()?;
        Ok(Self { write, round_trip, replicated })
    }

    /// Joins two measurements, as of before and after a run.
    pub fn join(mut self, other: &Self) -> Self {
        self.write.add(&other.write);
        self.round_trip.add(&other.round_trip);
        if let (Some(mine), Some(other)) = (&mut self.replicated, &other.replicated) {
            mine.add(other);
        }
        self
    }

    /// The figures.
    pub fn summary(&self, plan: &LimitPlan) -> LimitSummary {
        let (write, round_trip) = (Percentiles::of(&self.write.due), Percentiles::of(&self.round_trip.due));
        let write_alone = Percentiles::of(&self.write.alone);
        LimitSummary {
            write_bytes: plan.write_bytes(),
            message_bytes: plan.message_bytes,
            rate: plan.rate,
            depth: plan.depth,
            limit_p50_us: histogram::round(write.p50_us + round_trip.p50_us),
            limit_p99_us: histogram::round(write.p99_us + round_trip.p99_us),
            limit_p999_us: histogram::round(write.p999_us + round_trip.p999_us),
            limit_max_us: histogram::round(write.max_us + round_trip.max_us),
            is_saturated: write_alone.p50_us * SATURATED_FACTOR < write.p50_us,
            write_alone_p50_us: write_alone.p50_us,
            write_alone_p99_us: write_alone.p99_us,
            write,
            round_trip,
            replicated: self.replicated.as_ref().map(|timed| Percentiles::of(&timed.due)),
        }
    }
}

/// A disk whose writes wait this many times as long as they take cannot keep up with the rate.
const SATURATED_FACTOR: f64 = 5.0;

/// The limit in figures. Sums of percentiles, as the bars of the project are stated in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LimitSummary {
    /// Bytes of one write.
    pub write_bytes: usize,
    /// Bytes of one message.
    pub message_bytes: usize,
    /// Messages per second; 0: one after another.
    pub rate: u64,
    /// Threads that shared the rate.
    pub depth: u32,
    /// p50 of the write plus p50 of the round trip.
    pub limit_p50_us: f64,
    /// The same of p99.
    pub limit_p99_us: f64,
    /// The same of p99.9.
    pub limit_p999_us: f64,
    /// The same of the maxima.
    pub limit_max_us: f64,
    /// Whether the disk could not do this many writes one by one: the limit is then a queue, and no limit to a broker that
    /// writes several messages at once.
    pub is_saturated: bool,
    /// p50 of a write from when it began, without the wait for the one before.
    pub write_alone_p50_us: f64,
    /// The same, p99.
    pub write_alone_p99_us: f64,
    /// Durable writes, from when each was due.
    pub write: Percentiles,
    /// Round trips, from when each was due.
    pub round_trip: Percentiles,
    /// An echo in the shape of a produce to several nodes on this machine, of one producer, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicated: Option<Percentiles>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(dir: PathBuf, message_bytes: usize, rate: u64, depth: u32) -> LimitPlan {
        LimitPlan { dir, message_bytes, rate, depth, replicas: 3, duration: Duration::from_millis(50) }
    }

    #[test]
    fn writes_are_aligned_up() {
        let bytes = |message| plan(PathBuf::new(), message, 0, 1).write_bytes();
        assert_eq!([bytes(0), bytes(1), bytes(4096), bytes(4097)], [4096, 4096, 4096, 8192]);
    }

    #[test]
    fn both_parts_are_measured_and_summed() {
        let dir = tempfile::tempdir_in(".").unwrap();
        for (rate, depth) in [(0, 1), (400, 2)] {
            let plan = plan(dir.path().to_owned(), 1100, rate, depth);
            let limits = Limits::measure(&plan).unwrap();
            assert!(!limits.write.due.is_empty() && !limits.round_trip.due.is_empty());
            let replicated = limits.replicated.as_ref().unwrap().due.len();
            assert!(replicated > 0);
            let summary = limits.clone().join(&limits).summary(&plan);
            let sum = summary.write.p50_us + summary.round_trip.p50_us;
            assert!((summary.limit_p50_us - sum).abs() < 0.02);
            assert_eq!(summary.write.count, limits.write.alone.len() * 2);
            assert_eq!(summary.replicated.unwrap().count, replicated * 2);
            assert!(summary.write_alone_p50_us <= summary.write.p50_us);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file is removed");
    }

    #[test]
    fn throughput_is_measured() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let figures = measure_throughput(dir.path(), 8 << 20, 4, Duration::from_millis(50)).unwrap();
        assert!(
            figures.first_write_mb_per_s > 0.0
                && figures.write_mb_per_s > 0.0
                && figures.read_mb_per_s > 0.0
                && figures.loopback_mb_per_s > 0.0
        );
    }
}
