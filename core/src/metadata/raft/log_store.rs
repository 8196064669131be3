//! The Raft log: entries in memory as far as no snapshot has replaced them, and all of it on disk.
//!
//! Lives on core 0. Entries, votes, the committed position, cuts and purges are on stable storage when the call that
//! makes them returns, so nothing that the consensus library says to another node rests on what a crash can take back.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt::Debug,
    ops::{Bound, RangeBounds},
    path::Path,
    rc::Rc,
};

use heddle_log_store::Disk;
use openraft::{
    LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};

use super::{
    entry::log_id,
    journal::{Journal, Read, frame},
    runtime::Executor,
    snapshot_mark::SnapshotMark,
    types::{Entry, LogId, StorageError, Types, Vote},
};
use crate::{
    fields::{Field, Reader, put_length},
    metadata::frame::{Kind, MetadataLogError, make_dir},
};

/// How many entries share a frame when the file is written anew.
const ENTRIES_PER_FRAME: usize = 64;

/// The log, its one writer.
pub struct LogStore<E: Executor, D: Disk> {
    journal: Journal<D>,
    snapshots: Rc<SnapshotMark>,
    held: Rc<RefCell<Held<E>>>,
}

/// A view of the log for those that send it to other nodes.
pub struct LogReader<E: Executor> {
    held: Rc<RefCell<Held<E>>>,
}

/// What the file says.
struct Held<E: Executor> {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: VecDeque<Entry<E>>,
}

impl<E: Executor, D: Disk> LogStore<E, D> {
    /// Reads the log in `dir`, or makes an empty one. Entries go only when `snapshots` have them.
    ///
    /// # Errors
    /// When the disk refuses, or when what is there cannot be trusted; nothing was changed then.
    pub async fn open(disk: D, dir: &Path, snapshots: Rc<SnapshotMark>) -> Result<Self, MetadataLogError> {
        make_dir(&disk, dir).await?;
        let mut held = Held { vote: None, committed: None, purged: None, entries: VecDeque::new() };
        let journal = Journal::open(disk, dir, |read| held.read(&read)).await?;
        Ok(LogStore { journal, snapshots, held: Rc::new(RefCell::new(held)) })
    }

    /// Drops the entries that a snapshot replaced which was in its place before a crash, while the log was not cut yet.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn catch_up_with(&mut self, snapshot: LogId) -> Result<(), MetadataLogError> {
        let is_behind = self.held.borrow().last().is_none_or(|last| last.index < snapshot.index);
        if is_behind {
            self.write(purged_frame(snapshot), |held| held.purge(snapshot)).await?;
        }
        Ok(())
    }

    /// Makes frames durable, then lets the change be seen.
    async fn write(
        &mut self,
        frames: Result<Vec<u8>, MetadataLogError>,
        change: impl FnOnce(&mut Held<E>),
    ) -> Result<(), MetadataLogError> {
        self.journal.append(&frames?).await?;
        change(&mut self.held.borrow_mut());
        if self.journal.is_stale() {
            let frames = self.held.borrow().frames()?;
            self.journal.replace(&frames).await?;
        }
        Ok(())
    }
}

impl<E: Executor> Held<E> {
    /// The index that the next entry must have.
    fn next_index(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id).or(self.purged)
    }

    fn read(&mut self, read: &Read<'_>) -> Result<(), String> {
        let mut reader = Reader::new(read.body);
        match read.kind {
            Kind::ENTRIES => {
                let entries: Vec<Entry<E>> = take(&mut reader)?;
                for entry in entries {
                    let (next, index) = (self.next_index(), entry.log_id.index);
                    if index != next {
                        return Err(format!("entry {index} where entry {next} was due"));
                    }
                    self.entries.push_back(entry);
                }
            }
            Kind::VOTE => self.vote = Some(take(&mut reader)?),
            Kind::COMMITTED => self.committed = take(&mut reader)?,
            Kind::TRUNCATED => self.truncate(read.index),
            Kind::PURGED => self.purge(log_id(read.term, read.index)),
            Kind(other) => return Err(format!("frames of kind {other} do not belong here")),
        }
        reader.finish().map_err(|error| error.to_string())
    }

    fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= from) {
            self.entries.pop_back();
        }
    }

    fn purge(&mut self, upto: LogId) {
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            self.entries.pop_front();
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// All of it as the frames of a new file.
    fn frames(&self) -> Result<Vec<u8>, MetadataLogError> {
        let mut frames = Vec::new();
        if let Some(purged) = self.purged {
            frames.extend(purged_frame(purged)?);
        }
        let mut entries = self.entries.iter().cloned();
        loop {
            let some: Vec<Entry<E>> = entries.by_ref().take(ENTRIES_PER_FRAME).collect();
            if some.is_empty() {
                break;
            }
            frames.extend(entries_frame(&some)?);
        }
        if let Some(vote) = &self.vote {
            frames.extend(vote_frame(vote)?);
        }
        frames.extend(committed_frame(self.committed)?);
        Ok(frames)
    }
}

fn take<T: Field>(reader: &mut Reader<'_>) -> Result<T, String> {
    T::take(reader).map_err(|error| error.to_string())
}

fn field(value: &impl Field) -> Vec<u8> {
    let mut body = Vec::new();
    value.put(&mut body);
    body
}

fn entries_frame<E: Executor>(entries: &[Entry<E>]) -> Result<Vec<u8>, MetadataLogError> {
    let first = entries.first().map_or(log_id(0, 0), |entry| entry.log_id);
    let mut body = Vec::new();
    put_length(entries.len(), &mut body);
    entries.iter().for_each(|entry| entry.put(&mut body));
    frame(Kind::ENTRIES, first.leader_id.term, first.index, &body)
}

fn vote_frame(vote: &Vote) -> Result<Vec<u8>, MetadataLogError> {
    frame(Kind::VOTE, vote.leader_id.term, 0, &field(vote))
}

fn committed_frame(committed: Option<LogId>) -> Result<Vec<u8>, MetadataLogError> {
    let LogId { leader_id, index } = committed.unwrap_or(log_id(0, 0));
    frame(Kind::COMMITTED, leader_id.term, index, &field(&committed))
}

fn purged_frame(upto: LogId) -> Result<Vec<u8>, MetadataLogError> {
    frame(Kind::PURGED, upto.leader_id.term, upto.index, &[])
}

impl<E: Executor> RaftLogReader<Types<E>> for LogReader<E> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<E>>, StorageError> {
        let held = self.held.borrow();
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let first = held.entries.front().map_or(0, |entry| entry.log_id.index);
        let skipped = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let within =
            held.entries.iter().skip(skipped).take_while(|entry| range.contains(&entry.log_id.index));
        Ok(within.cloned().collect())
    }

    /// What a node is sent must begin where it was meant to; a range that was purged meanwhile gives nothing.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry<E>>, StorageError> {
        let entries = self.try_get_log_entries(start..end).await?;
        let begins = entries.first().is_some_and(|entry| entry.log_id.index == start);
        Ok(if begins { entries } else { Vec::new() })
    }
}

impl<E: Executor, D: Disk> RaftLogReader<Types<E>> for LogStore<E, D> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<E>>, StorageError> {
        LogReader { held: self.held.clone() }.try_get_log_entries(range).await
    }
}

impl<E: Executor, D: Disk> RaftLogStorage<Types<E>> for LogStore<E, D> {
    type LogReader = LogReader<E>;

    async fn get_log_state(&mut self) -> Result<LogState<Types<E>>, StorageError> {
        let held = self.held.borrow();
        Ok(LogState { last_purged_log_id: held.purged, last_log_id: held.last() })
    }

    async fn get_log_reader(&mut self) -> LogReader<E> {
        LogReader { held: self.held.clone() }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = self.write(vote_frame(vote), |held| held.vote = Some(*vote)).await;
        saved.map_err(|error| StorageIOError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.held.borrow().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let saved = self.write(committed_frame(committed), |held| held.committed = committed).await;
        saved.map_err(|error| StorageIOError::write_logs(&error).into())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.held.borrow().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types<E>>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry<E>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry<E>> = entries.into_iter().collect();
        let next = self.held.borrow().next_index();
        assert!(
            entries.first().is_none_or(|first| first.log_id.index == next),
            "entry {next} is due, not {:?}",
            entries.first()
        );
        let saved = self.write(entries_frame(&entries), |held| held.entries.extend(entries)).await;
        saved.map_err(|error| StorageError::from(StorageIOError::write_logs(&error)))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        let cut = frame(Kind::TRUNCATED, from.leader_id.term, from.index, &[]);
        let saved = self.write(cut, |held| held.truncate(from.index)).await;
        saved.map_err(|error| StorageIOError::write_logs(&error).into())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let covered = self.snapshots.wait_for(upto).await;
        covered.map_err(|error| StorageError::from(StorageIOError::write_logs(&error)))?;
        let saved = self.write(purged_frame(upto), |held| held.purge(upto)).await;
        saved.map_err(|error| StorageIOError::write_logs(&error).into())
    }
}

#[cfg(test)]
#[path = "log_store_tests.rs"]
mod tests;
