//! Durable logs of one core: write-ahead log, segments, indexes and recovery, over a small seam to the disk.
//!
//! A [`LogStore`] belongs to one core and holds the logs of the partitions that core owns. Appends join the open commit
//! group without waiting; [`Hooks::durable`] tells when they are on stable storage. After a crash everything that was
//! reported durable is read back byte for byte and in order, or the log says exactly from where it is damaged; nothing
//! that was not written is ever served. This crate never sees a socket, and names its runtime only in [`GlommioDisk`].

mod codec;
mod compact;
pub mod disk;
mod error;
mod event;
mod layout;
mod log;
mod options;
mod pacer;
mod scrub;
mod segment;
mod store;
mod types;
mod wal;

pub use disk::{Disk, DiskFile, GlommioDisk, MemoryDisk, OpenMode};
pub use error::{AppendError, ReadError, StorageError};
pub use log::Log;
pub use options::Options;
pub use segment::markers::Aborted;
pub use store::stats::{CompactionStats, CounterValues, Stats};
pub use store::{LogStore, list_partitions, list_wal_dirs, replay_wal};
pub use types::{Compaction, Damage, Hooks, LogConfig, LogId, LogPositions, SyncMode, WriteTimes};
pub use wal::replay::{LostFrame, RecoveredBatch, RecoveredPartition, RecoveredPartitions, WalContents};
pub use wal::state::PartitionState;

/// The decoders of everything read from disk, for fuzzing.
pub mod formats {
    pub use crate::segment::drain_header::DrainHeader;
    pub use crate::segment::index::{Index, IndexEntry};
    pub use crate::segment::markers::Markers;
    pub use crate::segment::walk::{Step, View, Walker};
    pub use crate::wal::frame;
    pub use crate::wal::replay::frames_in;
}
