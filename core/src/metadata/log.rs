//! The durable log of metadata commands and its snapshots, below `<data>/metadata/`.
//!
//! Entries carry a term and an index as Raft wants them; a node that is alone appends in term 1. One file holds frames of
//! 4 KiB blocks: a header with a CRC32C, then the commands as JSON. A frame is written with one durable write, so after
//! a crash only the last one can be torn; a bad frame before a good one is damage, and the node refuses to start, because
//! metadata that is wrong would delete data that is right. See `docs/disk-format.md`.

use std::path::{Path, PathBuf};

use heddle_log_store::{Disk, DiskFile, OpenMode};
use heddle_proto::crc::crc32c;
use serde::{Deserialize, Serialize};

use super::{
    command::{self, Command, MetadataError, Outcome},
    image::ClusterImage,
    snapshot::Snapshot,
};

const BLOCK_BYTES: usize = 4096;
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"HMET");
const HEADER_BYTES: usize = 32;

/// The largest frame: a snapshot of some hundred thousand partitions.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// A log file larger than this is replaced by a snapshot, in bytes.
const LOG_BYTES_MAX: u64 = 8 << 20;

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

#[derive(Serialize, Deserialize)]
struct Entries {
    commands: Vec<Command>,
}

/// The open log, positioned behind its last entry. Lives on core 0.
pub struct MetadataLog<D: Disk> {
    disk: D,
    dir: PathBuf,
    file: D::File,
    path: PathBuf,
    position: u64,
    term: u64,
}

impl<D: Disk> MetadataLog<D> {
    /// Reads the newest snapshot and the log after it; makes an empty log when there is none.
    ///
    /// # Errors
    /// When what is there cannot be trusted; nothing was changed then.
    pub async fn open(disk: D, data_dir: &Path) -> Result<(Self, ClusterImage), MetadataLogError> {
        let dir = data_dir.join("metadata");
        at(&dir, disk.create_dir_all(&dir).await)?;
        at(&dir, disk.sync_dir(data_dir).await)?;
        let names: Vec<String> =
            at(&dir, disk.list(&dir).await)?.into_iter().map(|entry| entry.name).collect();
        let mut image = newest_snapshot(&disk, &dir, &names).await?;
        let mut logs: Vec<&String> = names.iter().filter(|name| name.ends_with(".log")).collect();
        logs.sort();
        let mut last = None;
        for name in logs {
            let path = dir.join(name);
            let end = replay(&disk, &path, &mut image).await?;
            last = Some((path, end));
        }
        let (path, position) = match last {
            Some(found) => found,
            None => (create_log(&disk, &dir, image.index + 1).await?, 0),
        };
        let file = at(&path, disk.open(&path, OpenMode::EXISTING.dsync(true)).await)?;
        Ok((MetadataLog { disk, dir, file, path, position, term: 1 }, image))
    }

    /// Applies commands in order and makes those that took effect durable, in one write. The image is changed only as
    /// far as the log is.
    ///
    /// # Errors
    /// When the write failed: what the disk holds is then unknown, and the process must stop.
    pub async fn commit(
        &mut self,
        image: &mut ClusterImage,
        commands: Vec<Command>,
    ) -> Result<Vec<Result<Outcome, MetadataError>>, MetadataLogError> {
        let mut next = image.clone();
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut taken = Vec::with_capacity(commands.len());
        for command in commands {
            let outcome = command::apply(&mut next, &command);
            if outcome.is_ok() {
                next.index += 1;
                taken.push(command);
            }
            outcomes.push(outcome);
        }
        if !taken.is_empty() {
            let body = to_json(&Entries { commands: taken });
            let frame = encode_frame(self.term, image.index + 1, &body);
            write_all(&self.disk, &self.file, &self.path, &frame, self.position).await?;
            self.position += frame.len() as u64;
        }
        *image = next;
        if self.position > LOG_BYTES_MAX {
            self.compact(image).await?;
        }
        Ok(outcomes)
    }

    /// Replaces the log by a snapshot: the new files are durable before the old ones go.
    async fn compact(&mut self, image: &ClusterImage) -> Result<(), MetadataLogError> {
        let path = self.dir.join(format!("{:020}.snapshot", image.index));
        let body = to_json(&Snapshot::of(image));
        let frame = encode_frame(self.term, image.index, &body);
        let file = at(&path, self.disk.open(&path, OpenMode::NEW.dsync(true)).await)?;
        write_all(&self.disk, &file, &path, &frame, 0).await?;
        at(&path, file.sync().await)?;
        let old =
            std::mem::replace(&mut self.path, create_log(&self.disk, &self.dir, image.index + 1).await?);
        self.file = at(&self.path, self.disk.open(&self.path, OpenMode::EXISTING.dsync(true)).await)?;
        self.position = 0;
        at(&old, self.disk.remove(&old).await)?;
        for entry in at(&self.dir, self.disk.list(&self.dir).await)? {
            let stale = self.dir.join(&entry.name);
            if entry.name.ends_with(".snapshot") && stale != path {
                at(&stale, self.disk.remove(&stale).await)?;
            }
        }
        at(&self.dir, self.disk.sync_dir(&self.dir).await)
    }
}

async fn create_log<D: Disk>(disk: &D, dir: &Path, first: u64) -> Result<PathBuf, MetadataLogError> {
    let path = dir.join(format!("{first:020}.log"));
    let file = at(&path, disk.open(&path, OpenMode::NEW.dsync(true)).await)?;
    at(&path, file.sync().await)?;
    at(dir, disk.sync_dir(dir).await)?;
    Ok(path)
}

async fn newest_snapshot<D: Disk>(
    disk: &D,
    dir: &Path,
    names: &[String],
) -> Result<ClusterImage, MetadataLogError> {
    let mut snapshots: Vec<&String> = names.iter().filter(|name| name.ends_with(".snapshot")).collect();
    snapshots.sort();
    let mut damaged = None;
    for name in snapshots.into_iter().rev() {
        let path = dir.join(name);
        let mut bytes = read_all(disk, &path).await?;
        let Some(frame) = decode_frame(&bytes) else {
            damaged.get_or_insert(MetadataLogError::Damaged { path, position: 0 });
            continue;
        };
        let body = &mut bytes[HEADER_BYTES..HEADER_BYTES + frame.body_bytes];
        let snapshot: Snapshot = from_json(body).map_err(|reason| nonsense(&path, reason))?;
        return snapshot.into_image().map_err(|error| nonsense(&path, error.to_string()));
    }
    // A snapshot that was being written when the node stopped is torn while the log before it is still there.
    let has_first_log = names.iter().any(|name| *name == format!("{:020}.log", 1));
    match damaged {
        Some(error) if !has_first_log => Err(error),
        _ => Ok(ClusterImage::default()),
    }
}

/// Applies a log file's entries beyond the image; gives the position behind the last one.
async fn replay<D: Disk>(disk: &D, path: &Path, image: &mut ClusterImage) -> Result<u64, MetadataLogError> {
    let mut bytes = read_all(disk, path).await?;
    let mut position = 0;
    while position < bytes.len() {
        let Some(frame) = decode_frame(&bytes[position..]) else {
            return torn_or_damaged(path, &bytes, position);
        };
        let body = &mut bytes[position + HEADER_BYTES..position + HEADER_BYTES + frame.body_bytes];
        let entries: Entries = from_json(body).map_err(|reason| nonsense(path, reason))?;
        for (index, command) in (frame.index..).zip(entries.commands) {
            if index <= image.index {
                continue;
            }
            if index != image.index + 1 {
                return Err(nonsense(path, format!("entry {index} follows entry {}", image.index)));
            }
            command::apply(image, &command).map_err(|error| nonsense(path, error.to_string()))?;
            image.index = index;
        }
        position += frame.frame_bytes;
    }
    Ok(position as u64)
}

fn torn_or_damaged(path: &Path, bytes: &[u8], position: usize) -> Result<u64, MetadataLogError> {
    let later = (position + BLOCK_BYTES..bytes.len()).step_by(BLOCK_BYTES);
    if later.into_iter().any(|at| decode_frame(&bytes[at..]).is_some()) {
        return Err(MetadataLogError::Damaged { path: path.to_owned(), position: position as u64 });
    }
    if bytes[position..].iter().any(|byte| *byte != 0) {
        tracing::warn!(file = %path.display(), position, "the last metadata entry was torn by a crash; it was never acknowledged");
    }
    Ok(position as u64)
}

#[derive(Clone, Copy)]
struct Frame {
    index: u64,
    body_bytes: usize,
    frame_bytes: usize,
}

/// magic u32, crc u32 (of all that follows, body included), body_bytes u32, reserved u32, term u64, index u64, body,
/// zeros to the next 4 KiB.
fn encode_frame(term: u64, index: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; (HEADER_BYTES + body.len()).next_multiple_of(BLOCK_BYTES)];
    frame[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    frame[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
    frame[16..24].copy_from_slice(&term.to_le_bytes());
    frame[24..32].copy_from_slice(&index.to_le_bytes());
    frame[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(body);
    let crc = crc32c(&frame[8..HEADER_BYTES + body.len()]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame
}

fn decode_frame(bytes: &[u8]) -> Option<Frame> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let body_bytes = word(8)? as usize;
    if word(0)? != FRAME_MAGIC || body_bytes > FRAME_BYTES_MAX {
        return None;
    }
    let covered = bytes.get(8..HEADER_BYTES + body_bytes)?;
    (crc32c(covered) == word(4)?).then_some(())?;
    let index = u64::from_le_bytes(bytes.get(24..32)?.try_into().ok()?);
    let frame_bytes = (HEADER_BYTES + body_bytes).next_multiple_of(BLOCK_BYTES);
    Some(Frame { index, body_bytes, frame_bytes })
}

async fn read_all<D: Disk>(disk: &D, path: &Path) -> Result<Vec<u8>, MetadataLogError> {
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

async fn write_all<D: Disk>(
    disk: &D,
    file: &D::File,
    path: &Path,
    bytes: &[u8],
    position: u64,
) -> Result<(), MetadataLogError> {
    // Back to front: the header that makes the frame count is written last.
    for (turn, chunk) in bytes.chunks(WRITE_BYTES_MAX).enumerate().rev() {
        let mut buffer = disk.alloc(chunk.len());
        buffer.as_mut()[..chunk.len()].copy_from_slice(chunk);
        let place = position + (turn * WRITE_BYTES_MAX) as u64;
        let written = at(path, file.write_at(buffer, place).await)?;
        if written != chunk.len() {
            return Err(nonsense(path, format!("{written} of {} bytes were written", chunk.len())));
        }
    }
    Ok(())
}

fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T, MetadataLogError> {
    result.map_err(|source| MetadataLogError::Io { path: path.to_owned(), source })
}

fn nonsense(path: &Path, reason: String) -> MetadataLogError {
    MetadataLogError::Nonsense { path: path.to_owned(), reason }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    simd_json::to_vec(value).expect("plain data becomes JSON")
}

fn from_json<T: for<'a> Deserialize<'a>>(bytes: &mut [u8]) -> Result<T, String> {
    simd_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
