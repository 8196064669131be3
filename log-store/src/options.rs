//! The sizes and limits of one core's store, with their reasons, and the checks that they fit together.

use std::path::PathBuf;
use std::time::Duration;

use crate::codec::BLOCK_BYTES;
use crate::error::StorageError;
use crate::wal::frame;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Geometry and budgets of one core's store. Every field may be tiny, so that tests reach every edge.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory. The store uses `wal/<core>/` and `topics/<topic>/<partition>/` below it.
    pub dir: PathBuf,
    /// Size of one WAL file. Zeroed once, then recycled.
    pub wal_file_bytes: u64,
    /// Most WAL files of one core with batches in them: bounds the disk space and the time of recovery. When all are full and
    /// only state records can let go of the oldest, there is one more for those.
    pub wal_files_max: usize,
    /// Largest WAL frame, padding included. One frame is one I/O.
    pub group_bytes_max: usize,
    /// WAL writes in flight at once. Four keep a fast drive busy (25,000 against 10,000 writes/s at one).
    pub groups_in_flight_max: usize,
    /// When this much of one partition waits for the same group, it is drained to its segment at once instead.
    pub direct_drain_bytes: usize,
    /// Partitions drained at once on behalf of waiting producers.
    pub direct_drains_in_flight_max: usize,
    /// Largest single I/O. Above the device's own limit some kernels stall.
    pub io_bytes_max: usize,
    /// I/Os of one drain that is awaited, or of recovery, in flight at once.
    pub io_in_flight_max: usize,
    /// Largest single write that nobody waits for, and largest single read of a reader that lags behind. Large ones in a burst are
    /// what a small durable write waits behind: one of 256 KiB at a time leaves it 0.3 ms at the 99th percentile where eight of
    /// 512 KiB make it 2.5 ms, and still writes 1.9 GB/s where those write 2.8.
    pub background_io_bytes_max: usize,
    /// Such writes of the whole core in flight at once. A device that takes requests one after another makes a small durable write
    /// wait for all that came before it, three times: for its data, its inode, and the flush.
    pub background_ios_in_flight_max: usize,
    /// Such reads of one reader in flight at once. A reader of everything gets 1.26 GB/s with one, 1.55 with two, 1.80 with four and
    /// no more with eight of 512 KiB; where one reads at a time, producers do not feel the difference.
    pub read_ios_in_flight_max: usize,
    /// A partition with this many undrained bytes is drained in the background.
    pub drain_bytes: usize,
    /// Most bytes one drain moves before it makes them durable.
    pub drain_bytes_max: usize,
    /// Partitions drained at once in the background.
    pub drains_in_flight_max: usize,
    /// Undrained batches kept in memory by the whole core; beyond it appends are refused.
    pub dirty_bytes_max: usize,
    /// Drained batches kept in memory for consumers near the tail, whole core.
    pub cache_bytes_max: usize,
    /// Appends are refused while the disk has less free space than this; drains and the WAL may use it.
    pub reserve_bytes: u64,
    /// How often free space is asked for; in between it is estimated downwards.
    pub free_check_interval: Duration,
    /// One index entry per so many bytes of a segment.
    pub index_interval_bytes: u64,
    /// Index entries of closed segments kept in memory, in bytes, whole core.
    pub index_cache_bytes_max: usize,
    /// Segment files kept open, whole core.
    pub open_files_max: usize,
    /// First read of a reader that comes from disk; doubled while it reads on.
    pub read_ahead_bytes_min: usize,
    /// Largest read on behalf of one sequential reader.
    pub read_ahead_bytes_max: usize,
    /// Sequential disk readers remembered, whole core.
    pub read_cursors_max: usize,
    /// Memory of what was read for them, what a slow client has not taken included, whole core. From there on nothing is read ahead:
    /// a reader has what it asks for read, in whole blocks and batches, and no more.
    pub read_bytes_max: usize,
    /// Segment files grow on disk by at most this much at a time.
    pub preallocate_bytes_max: u64,
    /// A partition's state record is written again after so many drained bytes.
    pub state_interval_bytes: u64,
    /// Largest snapshot of the owner stored with a state record.
    pub snapshot_bytes_max: usize,
    /// After so much quiet the last frame is vouched for by another one, and direct drains by a state record.
    pub cover_delay: Duration,
    /// After so much quiet everything is drained. Also the pace of the background loop's clock.
    pub idle_drain_delay: Duration,
    /// How often each log is checked for segments to delete.
    pub retention_interval: Duration,
    /// How often the core looks for a log to compact.
    pub compaction_interval: Duration,
    /// Memory for the newest record of each key in one pass of compaction. Fewer bytes, more passes.
    pub compaction_map_bytes_max: usize,
    /// Bytes that compaction reads or writes in one step.
    pub compaction_io_bytes: usize,
    /// Bytes that compaction reads and writes in a second at most, so that producers do not wait for it.
    pub compaction_bytes_per_second: u64,
    /// Within this time every byte in segments is read again and held against its checksum. Zero: never.
    pub scrub_interval: Duration,
    /// Bytes that the scrub reads in a second at most, even if the interval is not kept then.
    pub scrub_bytes_per_second: u64,
    /// Logs recovered at once.
    pub recoveries_in_flight_max: usize,
    /// Segment writes use `O_DSYNC` instead of a sync per drain.
    pub segment_dsync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("heddle-data"),
            wal_file_bytes: 64 * MIB as u64,
            wal_files_max: 6,
            group_bytes_max: 512 * KIB,
            groups_in_flight_max: 4,
            direct_drain_bytes: 256 * KIB,
            direct_drains_in_flight_max: 32,
            io_bytes_max: 512 * KIB,
            io_in_flight_max: 8,
            background_io_bytes_max: 256 * KIB,
            background_ios_in_flight_max: 1,
            read_ios_in_flight_max: 4,
            drain_bytes: MIB,
            drain_bytes_max: 16 * MIB,
            drains_in_flight_max: 32,
            dirty_bytes_max: 128 * MIB,
            cache_bytes_max: 128 * MIB,
            reserve_bytes: 512 * MIB as u64,
            free_check_interval: Duration::from_secs(1),
            index_interval_bytes: 64 * KIB as u64,
            index_cache_bytes_max: 16 * MIB,
            open_files_max: 1024,
            read_ahead_bytes_min: 128 * KIB,
            read_ahead_bytes_max: 2 * MIB, // twice per remembered reader: one window in use, one on its way
            read_cursors_max: 24,
            read_bytes_max: 96 * MIB,
            preallocate_bytes_max: 32 * MIB as u64,
            state_interval_bytes: 16 * MIB as u64,
            snapshot_bytes_max: 64 * KIB,
            cover_delay: Duration::from_millis(30),
            idle_drain_delay: Duration::from_secs(1),
            retention_interval: Duration::from_secs(10),
            compaction_interval: Duration::from_secs(15),
            compaction_map_bytes_max: 16 * MIB,
            compaction_io_bytes: 256 * KIB,
            compaction_bytes_per_second: 64 * MIB as u64,
            scrub_interval: Duration::from_secs(7 * 24 * 3600),
            scrub_bytes_per_second: 64 * MIB as u64,
            recoveries_in_flight_max: 32,
            segment_dsync: false,
        }
    }
}

impl Options {
    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// [`StorageError::Options`] naming the fields.
    pub fn validate(&self) -> Result<(), StorageError> {
        let block = BLOCK_BYTES as u64;
        let rules = [
            (self.wal_file_bytes.is_multiple_of(block), "wal_file_bytes must be a multiple of 4096"),
            (self.wal_file_bytes <= WAL_FILE_BYTES_MAX, "wal_file_bytes must not exceed 1 GiB"),
            (
                self.wal_files_max >= 3,
                "wal_files_max must be at least 3: one in use, one ready, one being emptied",
            ),
            (is_blocks(self.group_bytes_max), "group_bytes_max must be a multiple of 4096"),
            (self.group_bytes_max as u64 <= self.wal_file_bytes, "group_bytes_max must fit wal_file_bytes"),
            (self.group_bytes_max <= self.io_bytes_max, "group_bytes_max must not exceed io_bytes_max"),
            (is_blocks(self.io_bytes_max), "io_bytes_max must be a multiple of 4096"),
            (
                frame::frame_bytes(2, self.direct_drain_bytes) <= self.group_bytes_max,
                "direct_drain_bytes must fit a frame of group_bytes_max with its tables",
            ),
            (
                frame::frame_bytes(1, self.snapshot_bytes_max + frame::STATE_BYTES_MAX)
                    <= self.group_bytes_max,
                "snapshot_bytes_max must fit a frame of group_bytes_max",
            ),
            (self.groups_in_flight_max > 0, "groups_in_flight_max must not be 0"),
            (self.direct_drains_in_flight_max > 0, "direct_drains_in_flight_max must not be 0"),
            (self.drains_in_flight_max > 0, "drains_in_flight_max must not be 0"),
            (self.io_in_flight_max > 0, "io_in_flight_max must not be 0"),
            (is_blocks(self.background_io_bytes_max), "background_io_bytes_max must be a multiple of 4096"),
            (self.background_ios_in_flight_max > 0, "background_ios_in_flight_max must not be 0"),
            (self.read_ios_in_flight_max > 0, "read_ios_in_flight_max must not be 0"),
            (self.index_interval_bytes > 0, "index_interval_bytes must not be 0"),
            (self.open_files_max > 0, "open_files_max must not be 0"),
            (is_blocks(self.compaction_io_bytes), "compaction_io_bytes must be a multiple of 4096"),
            (self.compaction_bytes_per_second > 0, "compaction_bytes_per_second must not be 0"),
            (self.scrub_bytes_per_second > 0, "scrub_bytes_per_second must not be 0"),
            (self.recoveries_in_flight_max > 0, "recoveries_in_flight_max must not be 0"),
            (
                self.read_ahead_bytes_min <= self.read_ahead_bytes_max,
                "read_ahead_bytes_min exceeds its maximum",
            ),
            (self.read_ahead_bytes_min >= BLOCK_BYTES, "read_ahead_bytes_min must be at least 4096"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(StorageError::Options((*broken).to_owned())),
            None => Ok(()),
        }
    }
}

fn is_blocks(bytes: usize) -> bool {
    bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES)
}

/// A WAL file is read whole at recovery, so its size bounds memory; no version makes larger ones.
pub(crate) const WAL_FILE_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        Options::default().validate().unwrap();
    }

    #[test]
    fn a_contradiction_is_named() {
        let options = Options { group_bytes_max: 1 << 20, ..Options::default() };
        assert!(options.validate().unwrap_err().to_string().contains("io_bytes_max"));
    }
}
