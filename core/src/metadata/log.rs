//! The durable log of metadata commands and its snapshots, below `<data>/metadata/`.
//!
//! Entries carry a term and an index as Raft wants them; a node that is alone appends in term 1. One file holds frames
//! (`frame`) with commands as JSON. A frame is written with one durable write, so after a crash only the last one can be
//! torn; a bad frame before a good one is damage, and the node refuses to start, because metadata that is wrong would
//! delete data that is right. See `docs/disk-format.md`.

use std::path::{Path, PathBuf};

use heddle_log_store::{Disk, DiskFile, OpenMode};
use serde::{Deserialize, Serialize};

use super::{
    command::{self, Command, MetadataError, Outcome},
    frame::{
        HEADER_BYTES, Kind, LOG_BYTES_MAX, at, decode_frame, encode_frame, from_json, make_dir, nonsense,
        read_all, to_json, torn_or_damaged, write_all,
    },
    image::ClusterImage,
    snapshot::Snapshot,
};

pub use super::frame::MetadataLogError;

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
        make_dir(&disk, &dir).await?;
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
            let frame = encode_frame(Kind::COMMANDS, self.term, image.index + 1, &body);
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
        let frame = encode_frame(Kind::COMMANDS, self.term, image.index, &body);
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
        if frame.kind != Kind::COMMANDS {
            return Err(nonsense(path, "it is the log of a group of nodes".to_owned()));
        }
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

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
