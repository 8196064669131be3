//! Checksummed frames of 4 KiB blocks: what every file below `<data>/metadata/` is made of.
//!
//! A frame is a header with a CRC32C, then a body, then zeros up to the next block. Its kind says what the body is, its
//! term and index where it belongs in the log. Frames are written one after another, each durable before the next, so
//! that only the last one of a file can be torn.

use std::path::{Path, PathBuf};

use heddle_log_store::{Disk, DiskFile, OpenMode};
use heddle_proto::crc::crc32c;
use serde::{Deserialize, Serialize};

pub(super) const BLOCK_BYTES: usize = 4096;
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"HMET");
pub(super) const HEADER_BYTES: usize = 32;

/// The largest frame: a snapshot of some hundred thousand partitions.
pub(super) const FRAME_BYTES_MAX: usize = 256 << 20;

/// A log file larger than this is replaced by a snapshot or written anew, in bytes.
pub(super) const LOG_BYTES_MAX: u64 = 8 << 20;

/// What a single write carries at most, below the largest I/O that every kernel takes.
const WRITE_BYTES_MAX: usize = 512 << 10;

/// Why the metadata log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetadataLogError {
    /// The disk refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A frame is damaged although a later one is not.
    #[error("{}: damaged at byte {position}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        position: u64,
    },
    /// A frame is whole and cannot be what it says.
    #[error("{}: {reason}", path.display())]
    Nonsense {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What the body of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(pub(super) u32);

impl Kind {
    /// Commands as JSON, or a snapshot.
    pub(super) const COMMANDS: Kind = Kind(0);
    /// Entries of a Raft log.
    pub(super) const ENTRIES: Kind = Kind(1);
    /// The vote of this node.
    pub(super) const VOTE: Kind = Kind(2);
    /// Entries up to here are committed.
    pub(super) const COMMITTED: Kind = Kind(3);
    /// Entries from here on are gone: they were never committed.
    pub(super) const TRUNCATED: Kind = Kind(4);
    /// Entries up to here are gone: a snapshot holds what they did.
    pub(super) const PURGED: Kind = Kind(5);
}

#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) term: u64,
    pub(super) index: u64,
    pub(super) body_bytes: usize,
    pub(super) frame_bytes: usize,
}

/// magic u32, crc u32 (of all that follows, body included), body_bytes u32, kind u32, term u64, index u64, body,
/// zeros to the next 4 KiB.
pub(super) fn encode_frame(kind: Kind, term: u64, index: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; (HEADER_BYTES + body.len()).next_multiple_of(BLOCK_BYTES)];
    frame[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    frame[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
    frame[12..16].copy_from_slice(&kind.0.to_le_bytes());
    frame[16..24].copy_from_slice(&term.to_le_bytes());
    frame[24..32].copy_from_slice(&index.to_le_bytes());
    frame[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(body);
    let crc = crc32c(&frame[8..HEADER_BYTES + body.len()]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame
}

pub(super) fn decode_frame(bytes: &[u8]) -> Option<Frame> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let body_bytes = word(8)? as usize;
    if word(0)? != FRAME_MAGIC || body_bytes > FRAME_BYTES_MAX {
        return None;
    }
    let covered = bytes.get(8..HEADER_BYTES + body_bytes)?;
    (crc32c(covered) == word(4)?).then_some(())?;
    let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (kind, term, index) = (Kind(word(12)?), long(16)?, long(24)?);
    let frame_bytes = (HEADER_BYTES + body_bytes).next_multiple_of(BLOCK_BYTES);
    Some(Frame { kind, term, index, body_bytes, frame_bytes })
}

pub(super) async fn read_all<D: Disk>(disk: &D, path: &Path) -> Result<Vec<u8>, MetadataLogError> {
    let file = at(path, disk.open(path, OpenMode::EXISTING).await)?;
    let size = at(path, file.size().await)? as usize;
    if size > FRAME_BYTES_MAX + LOG_BYTES_MAX as usize {
        return Err(nonsense(path, format!("{size} bytes are more than any version writes")));
    }
    let mut bytes = vec![0; size];
    for (turn, chunk) in bytes.chunks_mut(WRITE_BYTES_MAX).enumerate() {
        at(path, file.read_at((turn * WRITE_BYTES_MAX) as u64, chunk).await)?;
    }
    Ok(bytes)
}

pub(super) async fn write_all<D: Disk>(
    disk: &D,
    file: &D::File,
    path: &Path,
    bytes: &[u8],
    position: u64,
) -> Result<(), MetadataLogError> {
    // Back to front: the header that makes the frame count is written last.
    for (turn, chunk) in bytes.chunks(WRITE_BYTES_MAX).enumerate().rev() {
        let place = position + (turn * WRITE_BYTES_MAX) as u64;
        let written = loop {
            let mut buffer = disk.alloc(chunk.len());
            buffer.as_mut()[..chunk.len()].copy_from_slice(chunk);
            match file.write_at(buffer, place).await {
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    wait_for_space(disk, path).await
                }
                result => break at(path, result)?,
            }
        };
        if written != chunk.len() {
            return Err(nonsense(path, format!("{written} of {} bytes were written", chunk.len())));
        }
    }
    Ok(())
}

/// A full disk is no reason to give up: a node that waits is one that lags behind, and what it waits with was not
/// promised to anybody.
async fn wait_for_space<D: Disk>(disk: &D, path: &Path) {
    tracing::error!(file = %path.display(), "the disk is full: the metadata waits for space");
    disk.sleep(FULL_PAUSE).await;
}

/// How long a write waits for space before it is tried again.
const FULL_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

pub(super) fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T, MetadataLogError> {
    result.map_err(|source| MetadataLogError::Io { path: path.to_owned(), source })
}

pub(super) fn nonsense(path: &Path, reason: String) -> MetadataLogError {
    MetadataLogError::Nonsense { path: path.to_owned(), reason }
}

pub(super) fn torn_or_damaged(path: &Path, bytes: &[u8], position: usize) -> Result<u64, MetadataLogError> {
    let later = (position + BLOCK_BYTES..bytes.len()).step_by(BLOCK_BYTES);
    if later.into_iter().any(|at| decode_frame(&bytes[at..]).is_some()) {
        return Err(MetadataLogError::Damaged { path: path.to_owned(), position: position as u64 });
    }
    if bytes[position..].iter().any(|byte| *byte != 0) {
        tracing::warn!(file = %path.display(), position, "the last metadata entry was torn by a crash; it was never acknowledged");
    }
    Ok(position as u64)
}

pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    simd_json::to_vec(value).expect("plain data becomes JSON")
}

pub(super) fn from_json<T: for<'a> Deserialize<'a>>(bytes: &mut [u8]) -> Result<T, String> {
    simd_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Makes the directory of the metadata; its parent exists.
pub(super) async fn make_dir<D: Disk>(disk: &D, dir: &Path) -> Result<(), MetadataLogError> {
    at(dir, disk.create_dir_all(dir).await)?;
    match dir.parent() {
        Some(parent) => at(parent, disk.sync_dir(parent).await),
        None => Ok(()),
    }
}

/// Puts a file of these bytes in the place of `name`, or makes it: after a crash the old one is there or the new one.
pub(super) async fn replace_file<D: Disk>(
    disk: &D,
    dir: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<PathBuf, MetadataLogError> {
    let (new, path) = (dir.join(format!("{name}{UNFINISHED}")), dir.join(name));
    let file = loop {
        match disk.open(&new, OpenMode::NEW.dsync(true)).await {
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => wait_for_space(disk, &new).await,
            result => break at(&new, result)?,
        }
    };
    write_all(disk, &file, &new, bytes, 0).await?;
    at(&new, file.sync().await)?;
    at(&path, disk.rename(&new, &path).await)?;
    at(dir, disk.sync_dir(dir).await)?;
    Ok(path)
}

/// How the name of a file ends that is not in its place yet.
const UNFINISHED: &str = ".new";

/// Removes what a crash left of [`replace_file`]; gives the names of all other files.
pub(super) async fn remove_unfinished<D: Disk>(
    disk: &D,
    dir: &Path,
) -> Result<Vec<String>, MetadataLogError> {
    let mut names: Vec<String> = at(dir, disk.list(dir).await)?.into_iter().map(|entry| entry.name).collect();
    for name in names.extract_if(.., |name| name.ends_with(UNFINISHED)) {
        let path = dir.join(name);
        at(&path, disk.remove(&path).await)?;
    }
    Ok(names)
}
