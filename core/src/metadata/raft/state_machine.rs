//! What the committed entries make: the [`ClusterImage`], and its snapshots on disk.
//!
//! Lives on core 0. The image is in memory only; after a crash it is that of the newest snapshot with the committed
//! entries behind it applied again. A snapshot is in its place, and durable, before anything counts on it.

use std::{
    cell::RefCell,
    io::{self, Cursor},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
};

use heddle_log_store::Disk;
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageIOError,
    storage::RaftStateMachine,
};

use super::{
    entry::{log_id, membership},
    runtime::Executor,
    snapshot_mark::SnapshotMark,
    types::{Answer, Entry, Id, LogId, StorageError, StoredMembership, Types},
};
use crate::metadata::{
    command::{self, Outcome},
    frame::{
        HEADER_BYTES, Kind, MetadataLogError, at, decode_frame, encode_frame, from_json, make_dir, nonsense,
        read_all, remove_unfinished, replace_file, to_json,
    },
    image::ClusterImage,
    service::Publish,
    snapshot::{self, Members},
};

const SNAPSHOT: &str = ".snapshot";

/// The state machine, its one writer.
pub struct StateMachine<D: Disk> {
    shared: Rc<Shared<D>>,
    publish: Publish,
}

/// Takes snapshots while entries go on being applied.
pub struct SnapshotBuilder<D: Disk> {
    shared: Rc<Shared<D>>,
    taken: State,
}

/// The newest image, for those that read.
pub struct ImageReader<D: Disk> {
    shared: Rc<Shared<D>>,
}

struct Shared<D: Disk> {
    disk: D,
    dir: PathBuf,
    state: RefCell<State>,
    /// What the newest snapshot file holds.
    newest: RefCell<Option<Meta>>,
    mark: Rc<SnapshotMark>,
}

type Meta = SnapshotMeta<Id, openraft::BasicNode>;

#[derive(Clone, Default)]
struct State {
    image: Arc<ClusterImage>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl<D: Disk> StateMachine<D> {
    /// Reads the newest snapshot in `dir`. Every new image goes through `publish` before the entries
    /// that made it are answered.
    ///
    /// # Errors
    /// When the disk refuses or the snapshot is damaged.
    pub async fn open(disk: D, dir: PathBuf, publish: Publish) -> Result<Self, MetadataLogError> {
        make_dir(&disk, &dir).await?;
        let names = remove_unfinished(&disk, &dir).await?;
        let newest = names.iter().filter(|name| name.ends_with(SNAPSHOT)).max();
        let (mut state, mut meta) = (State::default(), None);
        if let Some(name) = newest {
            let path = dir.join(name);
            let bytes = read_all(&disk, &path).await?;
            let frame = decode_frame(&bytes)
                .ok_or_else(|| MetadataLogError::Damaged { path: path.clone(), position: 0 })?;
            let body = bytes[HEADER_BYTES..HEADER_BYTES + frame.body_bytes].to_vec();
            state =
                decode(log_id(frame.term, frame.index), body).map_err(|reason| nonsense(&path, reason))?;
            meta = state.meta();
        }
        let mark = Rc::new(SnapshotMark::default());
        if let Some(applied) = state.applied {
            mark.reach(applied);
        }
        let shared = Shared { disk, dir, state: RefCell::new(state), newest: RefCell::new(meta), mark };
        Ok(StateMachine { shared: Rc::new(shared), publish })
    }

    /// The last entry that the state has in it.
    pub fn applied(&self) -> Option<LogId> {
        self.shared.state.borrow().applied
    }

    /// How far its snapshots reach.
    pub fn snapshots(&self) -> Rc<SnapshotMark> {
        self.shared.mark.clone()
    }

    /// A reader of the newest image.
    pub fn reader(&self) -> ImageReader<D> {
        ImageReader { shared: self.shared.clone() }
    }
}

impl<D: Disk> ImageReader<D> {
    /// The image that the last applied entry made.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.shared.state.borrow().image.clone()
    }
}

impl State {
    fn meta(&self) -> Option<Meta> {
        let last = self.applied?;
        let snapshot_id = format!("{}-{}", last.leader_id.term, last.index);
        Some(SnapshotMeta { last_log_id: Some(last), last_membership: self.membership.clone(), snapshot_id })
    }

    /// Applies one entry to `image`, which is to be the next one.
    fn apply<E: Executor>(&mut self, image: &mut ClusterImage, entry: Entry<E>) -> Answer {
        self.applied = Some(entry.log_id);
        image.index = entry.log_id.index;
        match entry.payload {
            EntryPayload::Blank => Ok(Outcome::Done),
            EntryPayload::Normal(command) => command::apply(image, &command),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Ok(Outcome::Done)
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let set_at = self.membership.log_id().map(|at| (at.leader_id.term, at.index));
        let membership = self.membership.membership();
        let nodes = membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect();
        let members = Members { set_at, voters: membership.get_joint_config().clone(), nodes };
        let mut snapshot = snapshot::Snapshot::of(&self.image);
        snapshot.members = Some(members);
        to_json(&snapshot)
    }
}

/// The state that a snapshot's bytes hold, which was taken after the entry at `last`.
fn decode(last: LogId, mut body: Vec<u8>) -> Result<State, String> {
    let mut snapshot: snapshot::Snapshot = from_json(&mut body)?;
    if snapshot.index() != last.index {
        return Err(format!("the snapshot of entry {} is one of entry {}", last.index, snapshot.index()));
    }
    let members = snapshot.members.take().ok_or("the snapshot names no members")?;
    let voters = membership(members.voters, members.nodes.into_iter().collect());
    let membership = StoredMembership::new(
        members.set_at.map(|(term, index)| log_id(term, index)),
        voters.ok_or("the snapshot has members that cannot be")?,
    );
    let image = snapshot.into_image().map_err(|error| error.to_string())?;
    Ok(State { image: Arc::new(image), applied: Some(last), membership })
}

impl<D: Disk> Shared<D> {
    /// The bytes of the snapshot that was taken after the entry at `last`.
    async fn read(&self, last: LogId) -> Result<Vec<u8>, MetadataLogError> {
        let path = self.dir.join(file_name(last.index));
        let bytes = read_all(&self.disk, &path).await?;
        let frame = decode_frame(&bytes).ok_or(MetadataLogError::Damaged { path, position: 0 })?;
        Ok(bytes[HEADER_BYTES..HEADER_BYTES + frame.body_bytes].to_vec())
    }

    /// Puts a snapshot in its place and removes the older ones.
    async fn keep(&self, last: LogId, meta: Meta, body: &[u8]) -> Result<(), StorageError> {
        let signature = meta.signature();
        let written = self.write(last, meta, body).await;
        match &written {
            Ok(()) => self.mark.reach(last),
            Err(error) => self.mark.fail(error.to_string()),
        }
        written.map_err(|error| StorageIOError::write_snapshot(Some(signature), &error).into())
    }

    async fn write(&self, last: LogId, meta: Meta, body: &[u8]) -> Result<(), MetadataLogError> {
        let name = file_name(last.index);
        let frame = encode_frame(Kind::COMMANDS, last.leader_id.term, last.index, body);
        replace_file(&self.disk, &self.dir, &name, &frame).await?;
        let newest = {
            let mut newest = self.newest.borrow_mut();
            if newest.as_ref().is_none_or(|newest| newest.last_log_id < meta.last_log_id) {
                *newest = Some(meta);
            }
            newest.as_ref().and_then(|newest| newest.last_log_id).map_or(name, |last| file_name(last.index))
        };
        for entry in at(&self.dir, self.disk.list(&self.dir).await)? {
            if entry.name.ends_with(SNAPSHOT) && entry.name < newest {
                let stale = self.dir.join(&entry.name);
                match self.disk.remove(&stale).await {
                    // Another snapshot that came to its place meanwhile has removed it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => at(&stale, removed)?,
                }
            }
        }
        at(&self.dir, self.disk.sync_dir(&self.dir).await)
    }
}

fn file_name(index: u64) -> String {
    format!("{index:020}{SNAPSHOT}")
}

fn to_snapshot<E: Executor>(meta: Meta, body: Vec<u8>) -> Snapshot<Types<E>> {
    Snapshot { meta, snapshot: Box::new(Cursor::new(body)) }
}

impl<E: Executor, D: Disk> RaftStateMachine<Types<E>> for StateMachine<D> {
    type SnapshotBuilder = SnapshotBuilder<D>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let state = self.shared.state.borrow();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answer>, StorageError>
    where
        I: IntoIterator<Item = Entry<E>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (answers, image) = {
            let mut state = self.shared.state.borrow_mut();
            let mut next = (*state.image).clone();
            let answers = entries.into_iter().map(|entry| state.apply(&mut next, entry)).collect();
            state.image = Arc::new(next);
            (answers, state.image.clone())
        };
        (self.publish)(image).await;
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<D> {
        SnapshotBuilder { shared: self.shared.clone(), taken: self.shared.state.borrow().clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &Meta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let body = snapshot.into_inner();
        let last = meta.last_log_id.unwrap_or(log_id(0, 0));
        let state = decode(last, body.clone()).map_err(|reason| {
            self.shared.mark.fail(reason.clone());
            let error = nonsense(&self.shared.dir.join("a snapshot from the leader"), reason);
            StorageError::from(StorageIOError::write_snapshot(Some(meta.signature()), &error))
        })?;
        self.shared.keep(last, meta.clone(), &body).await?;
        let image = state.image.clone();
        *self.shared.state.borrow_mut() = state;
        (self.publish)(image).await;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types<E>>>, StorageError> {
        loop {
            let Some(meta) = self.shared.newest.borrow().clone() else { return Ok(None) };
            let Some(last) = meta.last_log_id else { return Ok(None) };
            match self.shared.read(last).await {
                Ok(body) => return Ok(Some(to_snapshot(meta, body))),
                // A newer one came to its place while this one was read.
                Err(_) if self.shared.newest.borrow().as_ref() != Some(&meta) => {}
                Err(error) => {
                    return Err(StorageIOError::read_snapshot(Some(meta.signature()), &error).into());
                }
            }
        }
    }
}

impl<E: Executor, D: Disk> RaftSnapshotBuilder<Types<E>> for SnapshotBuilder<D> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types<E>>, StorageError> {
        let (Some(last), Some(meta)) = (self.taken.applied, self.taken.meta()) else {
            let error = nonsense(&self.shared.dir, "there is nothing to take a snapshot of".to_owned());
            return Err(StorageIOError::write_snapshot(None, &error).into());
        };
        let body = self.taken.encode();
        self.shared.keep(last, meta.clone(), &body).await?;
        Ok(to_snapshot(meta, body))
    }
}
