//! Compaction: of each key the newest record stays, and segments are written anew without the others.
//!
//! A run belongs to one log and makes one or more passes. A pass reads the newest part of the closed segments that it may
//! touch and remembers for each key where its newest record is ([`offset_map`]), as far as its memory goes; then it writes
//! every segment from the start of the log up to there anew ([`run`], [`filter`], [`writer`]), several small ones into one
//! ([`plan`]), and puts each new file in the place of the old ones in one step ([`swap`]).
//!
//! Offsets never change. Where whole batches go, an empty batch stands for their offsets, so that a segment still has every
//! offset exactly once and damage is found as ever; readers skip it. After a crash each place holds the old file or the new
//! one, and what was being written is removed. A source that is not what was written ends the run and is reported: nothing
//! of it is dropped.

pub(crate) mod choose;
pub(crate) mod filter;
pub(crate) mod offset_map;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod swap;
pub(crate) mod transactions;
pub(crate) mod writer;

use std::cell::Cell;
use std::time::Duration;

use heddle_proto::ids::Offset;

/// What is known of one compacted log between runs. Lost at a restart: the segments themselves tell how far they are
/// compacted.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Progress {
    /// Below this offset each key has one record.
    pub(crate) clean_upto: Offset,
    /// Bytes of closed segments below it.
    pub(crate) clean_bytes: u64,
    /// Bytes of closed segments above it that compaction may touch.
    pub(crate) dirty_bytes: u64,
    /// Monotonic time before which the log is not looked at again, after a run that found no space.
    pub(crate) not_before: Duration,
}

impl Progress {
    /// Share of the dirty bytes, in thousandths.
    pub(crate) fn dirty_permille(&self) -> u64 {
        let all = self.clean_bytes + self.dirty_bytes;
        (self.dirty_bytes * 1000).checked_div(all).unwrap_or(0)
    }
}

/// What the store says about compaction as a whole.
#[derive(Default)]
pub(crate) struct Gauges {
    /// A run is under way.
    pub(crate) running: Cell<bool>,
    /// Wall time at which the last run ended, in seconds; 0 before the first.
    pub(crate) ended_at: Cell<u64>,
    /// How long the last run took.
    pub(crate) took: Cell<Duration>,
}
