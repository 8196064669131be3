//! The file of the Raft log: frames that are appended durably, and written anew when too much of them is stale.
//!
//! Lives on core 0. After a crash it holds every frame whose [`Journal::append`] had returned; of the one that was
//! being written, nothing. What frames mean is the caller's business.

use std::path::{Path, PathBuf};

use heddle_log_store::{Disk, DiskFile, OpenMode};

use crate::metadata::frame::{
    FRAME_BYTES_MAX, HEADER_BYTES, Kind, LOG_BYTES_MAX, MetadataLogError, at, decode_frame, encode_frame,
    nonsense, read_all, remove_unfinished, replace_file, torn_or_damaged, write_all,
};

/// The name of the log below the metadata's directory.
pub const LOG_NAME: &str = "raft.log";

/// One frame as its reader sees it.
pub(super) struct Read<'a> {
    pub(super) kind: Kind,
    pub(super) term: u64,
    pub(super) index: u64,
    pub(super) body: &'a [u8],
}

/// The open file, positioned behind its last frame.
pub(super) struct Journal<D: Disk> {
    disk: D,
    dir: PathBuf,
    path: PathBuf,
    file: D::File,
    position: u64,
    /// How long the file was when it was last written anew.
    fresh_bytes: u64,
}

impl<D: Disk> Journal<D> {
    /// Opens the file or makes it, cuts a torn tail, and shows every frame in order.
    ///
    /// # Errors
    /// When the disk refuses, when there is damage before the end, or when `show` says that a frame makes no sense.
    pub(super) async fn open(
        disk: D,
        dir: &Path,
        mut show: impl FnMut(Read<'_>) -> Result<(), String>,
    ) -> Result<Self, MetadataLogError> {
        let names = remove_unfinished(&disk, dir).await?;
        let path = dir.join(LOG_NAME);
        if !names.iter().any(|name| name == LOG_NAME) {
            replace_file(&disk, dir, LOG_NAME, &[]).await?;
        }
        let bytes = read_all(&disk, &path).await?;
        let mut position = 0;
        while position < bytes.len() {
            let Some(frame) = decode_frame(&bytes[position..]) else {
                torn_or_damaged(&path, &bytes, position)?;
                break;
            };
            let body = &bytes[position + HEADER_BYTES..position + HEADER_BYTES + frame.body_bytes];
            let read = Read { kind: frame.kind, term: frame.term, index: frame.index, body };
            show(read).map_err(|reason| nonsense(&path, format!("at byte {position}: {reason}")))?;
            position += frame.frame_bytes;
        }
        let file = at(&path, disk.open(&path, OpenMode::EXISTING.dsync(true)).await)?;
        let position = position as u64;
        if position < bytes.len() as u64 {
            at(&path, file.truncate(position).await)?;
            at(&path, file.sync().await)?;
        }
        Ok(Journal { disk, dir: dir.to_owned(), path, file, position, fresh_bytes: 0 })
    }

    /// Writes frames behind the last one and returns when they are on stable storage.
    ///
    /// # Errors
    /// When the write failed: what the disk holds is then unknown, and the process must stop.
    pub(super) async fn append(&mut self, frames: &[u8]) -> Result<(), MetadataLogError> {
        write_all(&self.disk, &self.file, &self.path, frames, self.position).await?;
        self.position += frames.len() as u64;
        Ok(())
    }

    /// Whether most of a long file may be stale.
    pub(super) fn is_stale(&self) -> bool {
        self.position > LOG_BYTES_MAX.max(self.fresh_bytes.saturating_mul(2))
    }

    /// Puts a file with just these frames in the place of the old one.
    ///
    /// # Errors
    /// As for [`Journal::append`].
    pub(super) async fn replace(&mut self, frames: &[u8]) -> Result<(), MetadataLogError> {
        self.path = replace_file(&self.disk, &self.dir, LOG_NAME, frames).await?;
        self.file = at(&self.path, self.disk.open(&self.path, OpenMode::EXISTING.dsync(true)).await)?;
        self.position = frames.len() as u64;
        self.fresh_bytes = self.position;
        Ok(())
    }
}

/// A frame, if it is not larger than a reader takes.
pub(super) fn frame(kind: Kind, term: u64, index: u64, body: &[u8]) -> Result<Vec<u8>, MetadataLogError> {
    if body.len() > FRAME_BYTES_MAX {
        return Err(nonsense(Path::new(LOG_NAME), format!("an entry of {} bytes is too large", body.len())));
    }
    Ok(encode_frame(kind, term, index, body))
}
