//! Errors, one enum per family of operations.

use std::io;
use std::path::{Path, PathBuf};

use heddle_proto::ids::Offset;

use crate::types::Damage;

/// The disk failed or holds something this version cannot use. During operation it is fatal: the process must stop
/// and recover from what the disk really holds.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A file operation failed.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        operation: &'static str,
        /// The file or directory it was done to.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A write ended before all its bytes were on disk.
    #[error("short write to {}: {done_bytes} of {want_bytes} bytes at {position}", path.display())]
    ShortWrite {
        /// The file.
        path: PathBuf,
        /// Where the write began.
        position: u64,
        /// Bytes that were to be written.
        want_bytes: usize,
        /// Bytes that were.
        done_bytes: usize,
    },
    /// The options contradict each other.
    #[error("storage options: {0}")]
    Options(String),
    /// A file of the data directory has a shape that no version of this program makes.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl StorageError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    /// Whether the disk refused because it has no space left, before anything was written. Only then may the same
    /// thing be tried again later.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { operation: CREATE | RESERVE, source, .. } if is_full(source))
    }
}

/// Making a file or directory.
pub(crate) const CREATE: &str = "create";
/// Allocating space ahead of writes.
pub(crate) const RESERVE: &str = "reserve space in";

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Adds the operation and the path to an I/O result.
pub(crate) trait IoContext<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError::io(operation, path, source))
    }
}

/// Why a batch was not appended. Nothing of it was kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Free space is below the reserve. Retry after space has been freed.
    #[error("the disk is full up to its reserve")]
    DiskFull,
    /// Too many bytes wait to be drained. Retry after [`crate::Hooks::budget_freed`].
    #[error("too many undrained bytes")]
    OverBudget,
    /// Acknowledged records of this log are unreadable; it takes no new ones until repaired or deleted past them.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
    /// The log has been deleted.
    #[error("the log has been deleted")]
    Deleted,
    /// The batch does not continue the log, or its header does not describe its bytes.
    #[error("the batch begins at {got}, the log ends at {expected}")]
    OutOfOrder {
        /// Where the log ends.
        expected: Offset,
        /// Where the batch begins.
        got: Offset,
    },
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the log's start or beyond its end.
    #[error("offset out of range: the log holds {start} to {end}")]
    OutOfRange {
        /// First readable offset.
        start: Offset,
        /// Exclusive end.
        end: Offset,
    },
    /// The records are known to be unreadable; nothing at or past this offset is served.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
    /// The log has been deleted.
    #[error("the log has been deleted")]
    Deleted,
    /// The disk refused to read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
