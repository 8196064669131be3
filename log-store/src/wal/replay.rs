//! Reads the WAL of one core back: which frames count, where the end is torn, and what damage in the middle cost.
//!
//! Frames of one incarnation are numbered without gaps. A frame that is missing or bad is a torn end if no other frame
//! says that it was durable: nothing after it was ever acknowledged. Otherwise acknowledged bytes are gone, and what
//! can still be read around them is kept.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use heddle_proto::ids::{Epoch, Offset, TopicPartition};

use super::frame::{self, Entry, EntryKind, FrameHeader};
use super::state::PartitionState;
use crate::codec::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile, OpenMode, ReadBuffer, read_parallel, wait_for_writes};
use crate::error::{IoContext, StorageError};
use crate::layout;
use crate::options::{Options, WAL_FILE_BYTES_MAX};
use crate::types::Cut;

/// A batch found in a WAL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveredBatch {
    /// First offset.
    pub base: Offset,
    /// Offset after the last.
    pub next: Offset,
    /// Epoch it was written in.
    pub epoch: Epoch,
    /// Its bytes; `None` if they are damaged although they were acknowledged.
    pub bytes: Option<Bytes>,
}

/// What the WALs say about one partition. [`Self::default`] stands for one that only has segments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveredPartition {
    /// The newest state record.
    pub state: Option<PartitionState>,
    /// Batches, in no particular order and perhaps twice.
    pub batches: Vec<RecoveredBatch>,
    /// The log starts here or later, whatever the state record says.
    pub start_min: Offset,
    /// The partition was deleted, and its files may still be there.
    pub deleted: bool,
    /// The version that the newest record of a deletion has; 0 for none. What was told before it counts for nothing.
    pub(crate) version_min: u64,
    /// A cut that no state record follows: the segments may still hold what lies behind it.
    pub(crate) cut: Option<Cut>,
    /// One of its state records is damaged: which of two runs is the later one cannot be told by them.
    pub(crate) lacks_state: bool,
}

/// Partitions by name. Ordered, so that recovery is the same every time.
pub type RecoveredPartitions = BTreeMap<TopicPartition, RecoveredPartition>;

/// An acknowledged frame of which nothing is left, not even whose batches it held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostFrame {
    /// The file in which, or after which, it should be.
    pub file: PathBuf,
    /// Its number.
    pub sequence: u64,
}

/// What one or more WALs hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WalContents {
    /// What each partition has in there.
    pub partitions: RecoveredPartitions,
    /// Acknowledged frames that are gone. If there are any, no partition can be sure to be whole.
    pub lost_frames: Vec<LostFrame>,
    /// Frames that were never acknowledged and do not count.
    pub torn_frames: u64,
    /// Acknowledged batches and records that are damaged.
    pub damaged_entries: u64,
}

impl WalContents {
    /// Takes in what another WAL, or another run of the same core, holds.
    pub fn merge(&mut self, other: Self) {
        for (partition, found) in other.partitions {
            self.partitions.entry(partition).or_default().merge(found);
        }
        self.lost_frames.extend(other.lost_frames);
        self.torn_frames += other.torn_frames;
        self.damaged_entries += other.damaged_entries;
    }
}

impl RecoveredPartition {
    /// A run tells the state of all it took over, after it has drained what it found, before it does anything else. So what
    /// earlier runs say counts for nothing then; of their files some may be gone, and with them a cut.
    fn merge(&mut self, other: Self) {
        match self.age_order(&other) {
            Ordering::Less => *self = other,
            Ordering::Greater => {}
            Ordering::Equal => self.join(other),
        }
    }

    /// The version of the newest state record.
    pub(crate) fn version(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.version).max(self.version_min)
    }

    /// Nothing is told of the partition, or only that it is gone: another core may have made it again.
    pub(crate) fn is_nothing(&self) -> bool {
        let told = self.state.is_some() || self.cut.is_some() || self.deleted || self.lacks_state;
        !told && self.batches.is_empty()
    }

    fn age_order(&self, other: &Self) -> Ordering {
        match self.lacks_state || other.lacks_state || self.is_nothing() || other.is_nothing() {
            true => Ordering::Equal,
            false => self.version().cmp(&other.version()),
        }
    }

    fn join(&mut self, other: Self) {
        self.batches.extend(other.batches);
        self.start_min = self.start_min.max(other.start_min);
        self.cut = other.cut.or(self.cut);
        self.lacks_state |= other.lacks_state;
        self.deleted |= other.deleted;
        self.version_min = self.version_min.max(other.version_min);
        other.state.into_iter().for_each(|state| self.note_state(state));
    }

    /// The partition was deleted, with its files or not yet: what was said before counts for nothing.
    fn note_deletion(&mut self, state: Option<&PartitionState>, is_over: bool) {
        let version = state.map_or(self.version() + 1, |state| state.version);
        *self = Self { deleted: !is_over, version_min: version, ..Self::default() };
    }

    /// What was said before a cut counts only up to there.
    fn note_cut(&mut self, cut: Cut, state: Option<PartitionState>) {
        self.batches.retain(|batch| batch.next <= cut.kept_to());
        self.lacks_state |= state.is_none();
        let state =
            state.unwrap_or_else(|| PartitionState::of_damaged_cut(self.state.take(), self.start_min, cut));
        if cut.begins_anew {
            self.start_min = cut.to;
        }
        self.cut = Some(cut);
        self.note_state(state);
    }

    fn note_state(&mut self, state: PartitionState) {
        if self.state.as_ref().is_none_or(|known| known.version < state.version) {
            self.state = Some(state);
        }
    }
}

/// A frame whose header and table could be read.
struct Found {
    header: FrameHeader,
    file: PathBuf,
    /// Payloads in table order; `None` for those that are not what was written.
    entries: Vec<(Entry, Option<Bytes>)>,
}

impl Found {
    fn is_intact(&self) -> bool {
        self.entries.iter().all(|(_, payload)| payload.is_some())
    }
}

/// A frame's header and its entries with their payloads; `None` for a payload that is not what was written.
pub type ReadFrame = (FrameHeader, Vec<(Entry, Option<Bytes>)>);

/// The frames in the bytes of one WAL file, in order. Never panics, whatever the bytes.
pub fn frames_in(bytes: &Bytes, generation: u64) -> Vec<ReadFrame> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match frame_at(bytes, at, generation) {
            Some((header, entries)) => {
                let end = at + header.frame_bytes as usize;
                found.push((header, take_payloads(&bytes.slice(at..end), &entries)));
                at = end;
            }
            None => at = resume(bytes, at, generation, &mut found),
        }
    }
    found
}

fn belongs(header: &FrameHeader, generation: u64, position: usize, file_bytes: usize) -> bool {
    header.generation == generation
        && header.position == position as u64
        && header.frame_bytes as usize <= file_bytes - position
}

fn frame_at(bytes: &[u8], at: usize, generation: u64) -> Option<(FrameHeader, Vec<Entry>)> {
    frame::decode(&bytes[at..]).filter(|(header, _)| belongs(header, generation, at, bytes.len()))
}

/// Behind unreadable bytes at `at`: the next position where a frame begins, after taking what a second copy tells.
fn resume(bytes: &Bytes, at: usize, generation: u64, found: &mut Vec<ReadFrame>) -> usize {
    let mut end = at + BLOCK_BYTES;
    while end <= bytes.len() {
        if let Some((header, entries)) = frame_ending_at(bytes, at, end, generation) {
            let start = header.position as usize;
            found.push((header, take_payloads(&bytes.slice(start..end), &entries)));
            return end;
        }
        if end < bytes.len() && frame_at(bytes, end, generation).is_some() {
            return end;
        }
        end += BLOCK_BYTES;
    }
    bytes.len()
}

fn frame_ending_at(
    bytes: &[u8],
    from: usize,
    end: usize,
    generation: u64,
) -> Option<(FrameHeader, Vec<Entry>)> {
    frame::decode_back(&bytes[from..end]).filter(|(header, _)| {
        let start = end.checked_sub(header.frame_bytes as usize);
        start.is_some_and(|start| start >= from && belongs(header, generation, start, bytes.len()))
    })
}

fn take_payloads(frame: &Bytes, entries: &[Entry]) -> Vec<(Entry, Option<Bytes>)> {
    // One copy for all payloads, so that what is kept does not hold on to the whole file.
    let mut kept = BytesMut::new();
    let mut lengths = Vec::with_capacity(entries.len());
    for (entry, payload) in frame::payloads(frame, entries) {
        let intact = entry.matches(payload);
        if intact {
            kept.extend_from_slice(payload);
        }
        lengths.push((entry, intact.then_some(payload.len())));
    }
    lengths
        .into_iter()
        .map(|(entry, bytes)| (entry, bytes.map(|bytes| kept.split_to(bytes).freeze())))
        .collect()
}

/// Reads and judges every WAL file of one directory.
pub(crate) async fn replay_dir<D: Disk>(
    disk: &D,
    options: &Options,
    dir: &Path,
) -> Result<WalContents, StorageError> {
    let mut incarnations: Vec<(u64, BTreeMap<u64, Found>)> = Vec::new();
    let mut order: BTreeMap<u64, usize> = BTreeMap::new();
    for generation in counting_generations(disk, dir).await? {
        let path = layout::wal_file(dir, generation);
        let bytes = read_file(disk, options, &path).await?;
        for (header, entries) in frames_in(&bytes, generation) {
            let slot = *order.entry(header.incarnation).or_insert_with(|| {
                incarnations.push((header.incarnation, BTreeMap::new()));
                incarnations.len() - 1
            });
            incarnations[slot].1.insert(header.sequence, Found { header, file: path.clone(), entries });
        }
    }
    let mut contents = WalContents::default();
    for (_, frames) in incarnations {
        contents.merge(judge(frames));
    }
    Ok(contents)
}

/// Generations of the files in a WAL directory, oldest first.
pub(crate) async fn generations<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<u64>, StorageError> {
    numbers(disk, dir, layout::parse_wal_file).await
}

/// A generation that no file in a WAL directory has had, and that counts.
pub(crate) async fn next_generation<D: Disk>(disk: &D, dir: &Path) -> Result<u64, StorageError> {
    let newest = generations(disk, dir).await?.last().copied().unwrap_or(0);
    let void = void_generations(disk, dir).await?.last().copied().unwrap_or(0);
    Ok(void.max(newest + 1))
}

/// The generations that count: a start that was interrupted while it removed the files before its own has said so first.
async fn counting_generations<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<u64>, StorageError> {
    let from = void_generations(disk, dir).await?.last().copied().unwrap_or(0);
    let mut found = generations(disk, dir).await?;
    found.retain(|generation| *generation >= from);
    Ok(found)
}

/// The generations before which no file counts, lowest first; one, unless more than one start was interrupted.
pub(crate) async fn void_generations<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<u64>, StorageError> {
    numbers(disk, dir, layout::parse_void_file).await
}

/// The numbers in the names of the files of one kind, in order.
async fn numbers<D: Disk>(
    disk: &D,
    dir: &Path,
    parse: impl Fn(&str) -> Option<u64>,
) -> Result<Vec<u64>, StorageError> {
    let entries = disk.list(dir).await.context("list", dir)?;
    let files = entries.iter().filter(|entry| !entry.is_dir);
    let mut found: Vec<u64> = files.filter_map(|entry| parse(&entry.name)).collect();
    found.sort_unstable();
    Ok(found)
}

async fn read_file<D: Disk>(disk: &D, options: &Options, path: &Path) -> Result<Bytes, StorageError> {
    let file = disk.open(path, OpenMode::EXISTING).await.context("open", path)?;
    let size = file.size().await.context("measure", path)?;
    if size > WAL_FILE_BYTES_MAX {
        return Err(StorageError::Format {
            path: path.to_owned(),
            reason: format!("a WAL file of {size} bytes"),
        });
    }
    wait_for_writes(&file, size).await.context("settle", path)?;
    let mut buffer = ReadBuffer::new(size as usize);
    let io = (options.io_bytes_max, options.io_in_flight_max);
    read_parallel(&file, 0, &mut buffer, 0, io).await.context("read", path)?;
    buffer.truncate(size as usize);
    Ok(buffer.freeze())
}

/// Decides which frames of one incarnation count, and takes what they hold.
fn judge(frames: BTreeMap<u64, Found>) -> WalContents {
    let mut contents = WalContents::default();
    let headers = || frames.values().map(|found| &found.header);
    let covered = headers().map(|header| header.durable_sequence).max().unwrap_or(0);
    let released = headers().map(|header| header.released_sequence).max().unwrap_or(1);
    let mut expected = released;
    let mut torn = false;
    for (sequence, found) in frames {
        if sequence < released {
            continue; // drained, and told by state records in later frames
        }
        note_missing(expected, sequence, covered, &found.file, &mut contents);
        torn |= sequence > expected && sequence > covered + 1;
        torn |= sequence > covered && !found.is_intact();
        expected = sequence + 1;
        if torn {
            contents.torn_frames += 1;
        } else {
            take_entries(found, &mut contents);
        }
    }
    contents
}

/// Frames from `expected` to before `sequence` are gone; those that were durable are lost.
fn note_missing(expected: u64, sequence: u64, covered: u64, file: &Path, contents: &mut WalContents) {
    for lost in expected..sequence.min(covered + 1) {
        contents.lost_frames.push(LostFrame { file: file.to_owned(), sequence: lost });
    }
}

fn take_entries(found: Found, contents: &mut WalContents) {
    for (entry, payload) in found.entries {
        if payload.is_none() {
            contents.damaged_entries += 1;
        }
        let known = contents.partitions.entry(entry.partition).or_default();
        let state = |payload: Option<Bytes>| payload.as_ref().and_then(PartitionState::decode);
        match entry.kind {
            EntryKind::Batch => known.batches.push(RecoveredBatch {
                base: entry.base,
                next: entry.next(),
                epoch: entry.epoch,
                bytes: payload,
            }),
            EntryKind::Cut => {
                let cut = Cut { to: entry.base, begins_anew: entry.offset_count > 0 };
                known.note_cut(cut, state(payload));
            }
            EntryKind::State if entry.offset_count > 0 => {
                known.note_deletion(state(payload).as_ref(), entry.offset_count == frame::DELETION_OVER);
            }
            EntryKind::State => {
                known.start_min = known.start_min.max(entry.base);
                known.cut = None;
                match state(payload) {
                    Some(state) => known.note_state(state),
                    None => known.lacks_state = true,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
