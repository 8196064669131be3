//! Plain counters and gauges of one store, for the owner to render.

use std::cell::Cell;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the store was opened.
        #[derive(Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Cell<u64>,)*
        }

        impl Counters {
            pub(super) fn values(&self) -> CounterValues {
                CounterValues { $($name: self.$name.get(),)* }
            }
        }

        /// Counters since the store was opened.
        #[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
        pub struct CounterValues {
            $($(#[$doc])* pub $name: u64,)*
        }
    };
}

counters! {
    /// Batches appended.
    appends,
    /// Their bytes.
    append_bytes,
    /// WAL frames written, with or without batches.
    wal_frames,
    /// Bytes of WAL frames, padding included.
    wal_bytes,
    /// Batches that became durable through the WAL.
    wal_batches,
    /// Drains of any kind.
    drains,
    /// Bytes drained, padding included.
    drain_bytes,
    /// Drains on behalf of waiting producers.
    direct_drains,
    /// State records written.
    states,
    /// Reads served from memory.
    cache_reads,
    /// Reads that needed the disk.
    disk_reads,
    /// Bytes read from segments.
    disk_read_bytes,
    /// Places where stored bytes were not what was written.
    corruptions,
    /// Segments deleted by retention or request.
    segments_deleted,
    /// Times an append was refused because the disk is full.
    disk_full_refusals,
    /// Runs of compaction, each over one log.
    compactions,
    /// Runs that found too little space.
    compactions_without_space,
    /// Passes over a log.
    compaction_passes,
    /// Bytes that compaction read.
    compaction_read_bytes,
    /// Bytes that compaction wrote.
    compaction_written_bytes,
    /// Segments that compaction wrote anew.
    compaction_segments,
    /// Records that compaction removed.
    compaction_records_removed,
    /// Passes of the scrub over all logs.
    scrubs,
    /// Bytes that the scrub read.
    scrub_read_bytes,
    /// Segments that the disk refused to read for the scrub.
    scrub_unreadable_segments,
    /// Times the WAL had no room for a group.
    wal_stalls,
}

/// Adds to a counter.
pub(crate) fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get().wrapping_add(count));
}

/// A view of one store.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Since the store was opened.
    pub counters: CounterValues,
    /// Logs in memory.
    pub logs: usize,
    /// Bytes of batches not drained yet.
    pub dirty_bytes: usize,
    /// Bytes of drained batches kept in memory.
    pub cache_bytes: usize,
    /// Bytes of memory that hold what was read from disk, read ahead or not taken yet by whom it was read for.
    pub read_bytes: usize,
    /// Bytes of WAL frames that recovery would have to read.
    pub wal_used_bytes: u64,
    /// WAL files on disk.
    pub wal_files: usize,
    /// WAL writes in flight.
    pub groups_in_flight: usize,
    /// Segment files open.
    pub open_files: usize,
    /// Estimated free space of the data directory.
    pub free_bytes: u64,
    /// Free space is below the reserve.
    pub disk_full: bool,
    /// Logs with known damage.
    pub damaged_logs: usize,
    /// Compaction as it stands.
    pub compaction: CompactionStats,
    /// Wall time at which the last pass of the scrub ended, in seconds since 1970; 0 before the first.
    pub scrub_ended_at: u64,
    /// How long it took.
    pub scrub_took: std::time::Duration,
}

/// Compaction of one store as it stands. What it did so far is among the counters.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct CompactionStats {
    /// Logs that are compacted.
    pub logs: usize,
    /// A run is under way.
    pub running: bool,
    /// Bytes of closed segments that wait, as of when they were last measured.
    pub dirty_bytes: u64,
    /// The largest dirty share of a log, in thousandths, as of when it was last measured.
    pub dirty_permille_max: u64,
    /// Wall time at which the last run ended, in seconds since 1970; 0 before the first.
    pub ended_at: u64,
    /// How long the last run took.
    pub took: std::time::Duration,
}
