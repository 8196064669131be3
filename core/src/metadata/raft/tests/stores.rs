//! The real log and state machine as the checker sees them, and with mistakes planted in them.

use std::{cell::Cell, fmt::Debug, io::Cursor, ops::RangeBounds, rc::Rc};

use heddle_log_store::MemoryDisk;
use openraft::{
    EntryPayload, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    storage::{LogFlushed, RaftLogStorage, RaftStateMachine},
};

use super::{Entry, TypesHere, checker::Checker, virtual_time::Virtual};
use crate::metadata::{
    command::Command,
    raft::{
        log_store::{LogReader, LogStore},
        state_machine::{SnapshotBuilder, StateMachine},
        types::{Answer, Id, LogId, StorageError, StoredMembership, Vote},
    },
};

/// A mistake in one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bug {
    /// None.
    #[default]
    None,
    /// A vote is told before it is on disk, and never gets there.
    VoteNotSaved,
    /// Of the entries that are applied together, the first two change places.
    AppliesOutOfOrder,
    /// The creation of every tenth topic is taken for something that this node knows already.
    SkipsCommands,
    /// Entries are told to be on disk and never get there.
    EntriesNotSaved,
}

/// The log with a bug.
pub struct Log {
    pub inner: LogStore<Virtual, MemoryDisk>,
    pub disk: MemoryDisk,
    pub bug: Bug,
    /// A vote that is only in memory.
    pub vote: Cell<Option<Vote>>,
}

impl RaftLogReader<TypesHere> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.inner.try_get_log_entries(range).await
    }
}

impl RaftLogStorage<TypesHere> for Log {
    type LogReader = LogReader<Virtual>;

    async fn get_log_state(&mut self) -> Result<LogState<TypesHere>, StorageError> {
        self.inner.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogReader<Virtual> {
        self.inner.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        if self.bug == Bug::VoteNotSaved {
            self.vote.set(Some(*vote));
            return Ok(());
        }
        self.inner.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        match self.vote.get() {
            Some(vote) => Ok(Some(vote)),
            None => self.inner.read_vote().await,
        }
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.inner.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.inner.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypesHere>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        if self.bug == Bug::EntriesNotSaved {
            self.disk.lose_next_write("raft.log");
        }
        self.inner.append(entries, callback).await
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        self.inner.truncate(from).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        self.inner.purge(upto).await
    }
}

/// The state machine that shows the checker what it applies.
pub struct Machine {
    pub inner: StateMachine<MemoryDisk>,
    pub id: Id,
    pub checker: Rc<Checker>,
    pub bug: Bug,
}

/// The builder, whose snapshots go through unseen.
pub struct Builder(SnapshotBuilder<MemoryDisk>);

impl RaftSnapshotBuilder<TypesHere> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypesHere>, StorageError> {
        self.0.build_snapshot().await
    }
}

type InnerMachine = StateMachine<MemoryDisk>;

impl RaftStateMachine<TypesHere> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        <InnerMachine as RaftStateMachine<TypesHere>>::applied_state(&mut self.inner).await
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answer>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut entries: Vec<Entry> = entries.into_iter().collect();
        if self.bug == Bug::AppliesOutOfOrder && entries.len() > 1 {
            entries.swap(0, 1);
        }
        entries.iter().for_each(|entry| self.checker.on_apply(self.id, entry));
        if self.bug == Bug::SkipsCommands {
            entries.iter_mut().filter(|entry| is_tenth(entry)).for_each(blank);
        }
        self.inner.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let inner = <InnerMachine as RaftStateMachine<TypesHere>>::get_snapshot_builder(&mut self.inner);
        Builder(inner.await)
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        <InnerMachine as RaftStateMachine<TypesHere>>::begin_receiving_snapshot(&mut self.inner).await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<Id, openraft::BasicNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        <InnerMachine as RaftStateMachine<TypesHere>>::install_snapshot(&mut self.inner, meta, snapshot)
            .await?;
        self.checker.on_begin(self.id, meta.last_log_id);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypesHere>>, StorageError> {
        self.inner.get_current_snapshot().await
    }
}

fn is_tenth(entry: &Entry) -> bool {
    matches!(&entry.payload, EntryPayload::Normal(Command::CreateTopic { name, .. }) if name.ends_with('0'))
}

fn blank(entry: &mut Entry) {
    entry.payload = EntryPayload::Blank;
}
