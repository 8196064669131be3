//! The vocabulary shared by the whole crate: log ids, positions, configuration of one log, damage, and the owner's hooks.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::Offset;

/// A log within one [`crate::LogStore`]. Given out in order of first use and never again for another log.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogId(u32);

impl LogId {
    pub(crate) const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The bare number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How far one log has come. Always `start <= durable <= written`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct LogPositions {
    /// The first offset that may be read.
    pub start: Offset,
    /// Exclusive end of what is on stable storage.
    pub durable: Offset,
    /// Exclusive end of what is in memory: the base offset of the next batch.
    pub written: Offset,
}

/// Where a log is cut.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    /// What lies at or behind this offset goes, and the next batch begins here.
    pub(crate) to: Offset,
    /// What lies before it goes too: the log is empty, and begins here.
    pub(crate) begins_anew: bool,
}

impl Cut {
    /// What lies before this offset stays.
    pub(crate) fn kept_to(self) -> Offset {
        if self.begins_anew { Offset::ZERO } else { self.to }
    }
}

/// How a log becomes durable.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SyncMode {
    /// Every append joins the open commit group and is durable a few hundred microseconds later.
    Wal,
    /// Appends stay in memory until the oldest is `after` old or `bytes` have gathered; they never touch the WAL.
    Flush {
        /// Longest time a batch stays undurable.
        after: Duration,
        /// Most bytes that stay undurable before a flush begins.
        bytes: u64,
    },
}

/// What the owner of a log may choose. Cheap to copy.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// How appends become durable.
    pub sync: SyncMode,
    /// A segment is closed when the next drain would make it larger than this.
    pub segment_bytes: u64,
    /// A segment is closed when it is older than this, so that retention by age can reach it.
    pub segment_age_max: Duration,
    /// Whole closed segments are deleted, oldest first, while the log is larger than this. `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// Whole closed segments are deleted when their newest record is older than this. `None`: no limit.
    pub retention_age: Option<Duration>,
    /// Whether only the newest record of each key is kept, and how. `None`: every record is.
    pub compaction: Option<Compaction>,
}

impl LogConfig {
    /// The age at which a segment is closed although it is not full: no later than compaction needs it.
    pub(crate) fn segment_age(&self) -> Duration {
        let lag_max = self.compaction.and_then(|compaction| compaction.lag_max);
        lag_max.map_or(self.segment_age_max, |lag_max| lag_max.min(self.segment_age_max))
    }
}

/// How a log is compacted. Kafka's settings of a topic, in other units.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Compaction {
    /// Compaction begins when this share of the bytes it may touch, in thousandths, was not compacted yet.
    pub dirty_permille_min: u16,
    /// A segment whose newest record is younger is not touched.
    pub lag_min: Duration,
    /// A record that waits for longer makes compaction begin whatever the share. `None`: none does.
    pub lag_max: Option<Duration>,
    /// For how long a tombstone stays after it was first met.
    pub tombstone_retention: Duration,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            dirty_permille_min: 500,
            lag_min: Duration::ZERO,
            lag_max: None,
            tombstone_retention: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            sync: SyncMode::Wal,
            segment_bytes: 256 << 20, // deleting one is one unlink; a lost index is rebuilt from one in about 0.2 s
            segment_age_max: Duration::from_secs(7 * 24 * 3600),
            retention_bytes: None,
            retention_age: None,
            compaction: None,
        }
    }
}

/// Where acknowledged bytes of a log can no longer be read. The log refuses to serve from `offset` on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The first offset that is missing or unreadable.
    pub offset: Offset,
    /// The file that should hold it; empty when no file is known to.
    pub file: PathBuf,
    /// Where in that file the first bad byte run begins.
    pub position: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} at byte {} of {}", self.offset, self.position, self.file.display())
    }
}

/// When a durable write went through its steps. Statistics only: nothing is decided by it, and it is real time even on
/// a disk with a clock of its own.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct WriteTimes {
    /// What belongs to the write was settled.
    pub sealed: Instant,
    /// The write was built and handed to the kernel.
    pub submitted: Instant,
    /// The kernel said that it is on stable storage.
    pub durable: Instant,
}

/// What the store asks of the owner of the logs. Called from inside the store's futures, never with anything borrowed.
pub trait Hooks {
    /// Everything below `upto` of `log` is on stable storage, by a write with these `times`. For one log `upto` only
    /// grows, but for a cut; until that is made it may still tell of records that are taken back.
    fn durable(&self, log: LogId, upto: Offset, times: WriteTimes);

    /// Opaque state of the owner as of everything appended so far (producer table, epoch history), to be given back
    /// by [`crate::Log::recovered_state`]. At most [`crate::Options::snapshot_bytes_max`]; larger ones are not stored.
    fn snapshot(&self, log: LogId) -> Bytes {
        let _ = log;
        Bytes::new()
    }

    /// Exclusive end of what compaction may touch: nothing that could still be taken back, and nothing of a transaction
    /// that is not decided. No owner, no compaction: answer zero for a log that nobody is attached to.
    fn compact_upto(&self, log: LogId) -> Offset {
        let _ = log;
        Offset::new(i64::MAX)
    }

    /// Whether this is the last batch that its producer wrote to the log: compaction keeps its header.
    fn is_last_of_producer(&self, log: LogId, batch: &BatchHeader) -> bool {
        let _ = (log, batch);
        false
    }

    /// Undrained bytes have become fewer: [`crate::LogStore::has_room`] may answer differently now.
    fn budget_freed(&self) {}
}
