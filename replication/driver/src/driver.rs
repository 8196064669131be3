//! All replicas of one core: what goes in, and what the owner takes out. See the crate for the contract.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use heddle_log_store::{AppendError, Damage, Disk, Log, LogId, LogStore};
use heddle_proto::batch::{self, BatchError, BatchHeader};
use heddle_proto::ids::{CoreId, Epoch, NodeId, Offset, TopicPartition};
use heddle_replication::history::History;
use heddle_replication::io::{Fault, Input, LogView, Output, Refusal};
use heddle_replication::leadership::{Change, Grant, SealAnswer};
use heddle_replication::message::{Life, Message};
use heddle_replication::replica::{Config, Replica, Restored};
use heddle_replication::stream;
use heddle_replication::stream::outbound::{Input as StreamInput, Output as StreamOutput};

use crate::connection::{self, Connection, Frame, Peer, Room, Said};
use crate::gaps;
use crate::hosted::Hosted;
use crate::job::{Done, Job, ReadJob};
use crate::promises::{self, PromiseFiles, Promises};

/// Paces of a driver.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Of every connection to a peer.
    pub stream: stream::Options,
    /// What may have been missed is said again after so long.
    pub resend_after: Duration,
    /// A connection over which something is under way and nothing is taken for so long is made anew.
    pub stuck_after: Duration,
    /// A member of the in-sync set that has not caught up for so long is to leave it.
    pub lag_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stream: stream::Options::default(),
            resend_after: Duration::from_millis(250),
            stuck_after: Duration::from_millis(1500),
            lag_max: Duration::from_secs(10),
        }
    }
}

/// What is to be hosted.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Which partition.
    pub partition: TopicPartition,
    /// Its topic's settings.
    pub config: Config,
    /// Every node that is to have a replica.
    pub replicas: BTreeSet<NodeId>,
    /// On which core of its node each replica is: of these nodes, and of members of the in-sync set that are to leave.
    pub cores: BTreeMap<NodeId, CoreId>,
    /// Which epochs its log is made of, as the owner kept it.
    pub history: History,
    /// Its log may lack records that were once reported durable: the disk lost or damaged them.
    pub is_damaged: bool,
    /// As in [`Restored::newest_epoch`].
    pub newest_epoch: Epoch,
    /// As in [`Restored::was_led`].
    pub was_led: bool,
}

/// Something the rest of the node has to know. All of it may be lost in a crash right after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Everything before this offset is committed, and the log can be read up to there.
    Committed(TopicPartition, Offset),
    /// A backup's log has this batch behind the others.
    Appended(TopicPartition, BatchHeader),
    /// A log is going to end here; everything that is appended from now on comes behind it.
    Cut(TopicPartition, Offset),
    /// A lossy election took back what was committed in this range.
    Lost(TopicPartition, Offset, Offset),
    /// Answer a seal of this epoch.
    Answer(TopicPartition, Epoch, SealAnswer),
    /// Ask the metadata for another in-sync set.
    Change(TopicPartition, Change),
    /// Ask the controller for an election.
    NeedElection(TopicPartition),
    /// The replica has left everything in good order.
    Stopped(TopicPartition),
    /// The replica must not go on; an operator has to look.
    Halted(TopicPartition, Fault),
    /// The log turned out to be damaged, whoever read it, and the next start will know: it is to be mended there.
    Damaged(TopicPartition, Damage),
    /// A batch could not be appended although there was room a moment ago: the process has to stop.
    Broken(TopicPartition, String),
}

/// How far a peer is behind.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records of partitions led here that it has not acknowledged.
    pub records: u64,
    /// Bytes of these records, as many as the records of their logs have on average.
    pub bytes: u64,
    /// Bytes of batches that were sent and that it has not taken.
    pub under_way_bytes: u64,
}

/// Why records were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// This node has no replica of the partition.
    #[error("no replica here")]
    Unknown,
    /// The replica does not admit records.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its log is still being cut.
    #[error("the log is being cut")]
    Cutting,
    /// They are not a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The log takes none.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// See the module.
pub struct Driver<D: Disk> {
    pub(crate) me: NodeId,
    life: Life,
    pub(crate) options: Options,
    store: LogStore<D>,
    files: PromiseFiles<D>,
    promises: Promises,
    promise_number: u64,
    /// Promises that are not yet on their way to the disk, and those that are.
    unwritten: BTreeSet<TopicPartition>,
    writing: Option<BTreeSet<TopicPartition>>,
    /// Promises of replicas that are gone are still on the disk.
    is_promises_file_old: bool,
    pub(crate) hosted: BTreeMap<TopicPartition, Hosted<D>>,
    by_log: BTreeMap<LogId, TopicPartition>,
    /// Partitions that something has happened to, or that wait for a peer: the clock looks at them each time.
    pub(crate) restless: Vec<TopicPartition>,
    /// Up to where the clock has looked at all of them in turn.
    pub(crate) swept: Option<TopicPartition>,
    pub(crate) connections: BTreeMap<Peer, Connection>,
    connection_count: u32,
    pub(crate) jobs: Vec<Job<D>>,
    /// The node stops: replicas take part no more.
    is_stopping: bool,
    pub(crate) events: Vec<Event>,
}

impl<D: Disk> Driver<D> {
    /// The driver of a core in one life of its node, with the promises that [`PromiseFiles::read`] found.
    pub fn new(
        me: NodeId,
        life: Life,
        options: Options,
        store: LogStore<D>,
        files: PromiseFiles<D>,
        found: Option<(Promises, u64)>,
    ) -> Self {
        let (promises, promise_number) = found.unwrap_or_default();
        Driver {
            me,
            life,
            options,
            store,
            files,
            promises,
            promise_number,
            unwritten: BTreeSet::new(),
            writing: None,
            is_promises_file_old: false,
            hosted: BTreeMap::new(),
            by_log: BTreeMap::new(),
            restless: Vec::new(),
            swept: None,
            connections: BTreeMap::new(),
            connection_count: 0,
            jobs: Vec::new(),
            is_stopping: false,
            events: Vec::new(),
        }
    }

    /// Hosts a replica over its log.
    pub fn add(&mut self, now: Duration, placement: Placement, log: Log<D>) {
        let Placement { partition, config, replicas, cores, history, is_damaged, newest_epoch, was_led } =
            placement;
        let positions = log.positions();
        let view = LogView {
            start: log.begin(),
            durable: positions.durable,
            written: positions.written,
            history: history.clone(),
        };
        let mut promise = self.promises.get(&partition).copied();
        if let Some(promise) = promise.as_mut().filter(|_| is_damaged) {
            promise.intact = false;
        }
        let restored = Restored { promise, log: view, committed: positions.start, newest_epoch, was_led };
        let mut out = Vec::new();
        let replica = Replica::start(self.me, self.life, config, restored, &mut out);
        self.by_log.insert(log.id(), partition);
        let mut hosted = Hosted::new(replica, (log, history), (replicas, cores), now);
        hosted.is_restless = true;
        self.hosted.insert(partition, hosted);
        self.restless.push(partition);
        self.perform_all(now, partition, out, &[]);
        if self.is_stopping {
            self.stop_one(now, partition);
        }
    }

    /// Metadata says which nodes are to have a replica, and on which core of its node each replica is; see [`Placement`].
    pub fn place(
        &mut self,
        now: Duration,
        partition: TopicPartition,
        replicas: BTreeSet<NodeId>,
        cores: BTreeMap<NodeId, CoreId>,
    ) {
        if let Some(hosted) = self.disturb(partition) {
            hosted.place(replicas, cores);
        }
        self.pause_others(now, partition);
    }

    /// So many members of the in-sync set are to hold what is committed: a primary here sees to it as soon as that is safe
    /// and there are as many.
    pub fn require(&mut self, partition: TopicPartition, quorum: usize) {
        if let Some(hosted) = self.disturb(partition) {
            hosted.required = Some(quorum);
        }
    }

    /// There is to be no replica here any more. Its log is the owner's to delete.
    pub fn remove(&mut self, partition: TopicPartition) {
        if let Some(hosted) = self.hosted.remove(&partition) {
            self.by_log.remove(&hosted.log.id());
            self.is_promises_file_old |= self.promises.remove(&partition).is_some();
            self.unwritten.remove(&partition);
            self.forget_said(partition);
            if let Some(writing) = &mut self.writing {
                // What is being written is of this replica, not of one that may come in its place.
                writing.remove(&partition);
            }
        }
    }

    /// The cores of other nodes that have replicas of what is hosted here: those this core has to be connected to.
    pub fn peers(&self) -> BTreeSet<Peer> {
        self.hosted.values().flat_map(Hosted::peers).filter(|peer| peer.node != self.me).collect()
    }

    /// A replica hosted here.
    pub fn replica(&self, partition: TopicPartition) -> Option<&Replica> {
        self.hosted.get(&partition).map(|hosted| &hosted.replica)
    }

    /// The log of a replica hosted here.
    pub fn log(&self, partition: TopicPartition) -> Option<&Log<D>> {
        self.hosted.get(&partition).map(|hosted| &hosted.log)
    }

    /// What the owner is to keep with the log: which epochs it is made of as it is, whatever the machine has already heard.
    pub fn history(&self, log: LogId) -> Option<&History> {
        let hosted = self.hosted.get(self.by_log.get(&log)?)?;
        Some(hosted.history())
    }

    /// Metadata says who leads a partition.
    pub fn granted(&mut self, now: Duration, partition: TopicPartition, grant: Grant) {
        if let Some(hosted) = self.hosted.get_mut(&partition) {
            hosted.granted(now, grant.epoch);
        }
        self.take(now, partition, Input::Granted(grant), &[]);
        self.pause_others(now, partition);
    }

    /// Who has left both the replicas and the in-sync set may have deleted what it had.
    fn pause_others(&mut self, now: Duration, partition: TopicPartition) {
        if let Some(hosted) = self.hosted.get(&partition).filter(|hosted| hosted.replica.primary().is_some())
        {
            let replicas = hosted.replicas.clone();
            self.take(now, partition, Input::Placed(replicas), &[]);
        }
    }

    /// The controller asks for a promise.
    pub fn seal(&mut self, now: Duration, partition: TopicPartition, epoch: Epoch) {
        self.take(now, partition, Input::Seal(epoch), &[]);
    }

    /// How far a peer is behind what it is to have from this core. Looks at every partition: for whoever exports it.
    pub fn lag(&self, peer: Peer) -> Lag {
        let connection = self.connections.get(&peer);
        let under_way_bytes = connection.map_or(0, |connection| connection.outbound.under_way_bytes());
        let here = self.hosted.values().filter(|hosted| hosted.peer(peer.node) == Some(peer));
        here.fold(Lag { under_way_bytes, ..Lag::default() }, |mut lag, hosted| {
            let (records, bytes) = hosted.lag(peer.node);
            lag.records += records;
            lag.bytes += bytes;
            lag
        })
    }

    /// Whether [`Self::produce`] would take a batch now.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, now: Duration, partition: TopicPartition) -> Result<(), ProduceError> {
        let hosted = self.hosted.get(&partition).ok_or(ProduceError::Unknown)?;
        hosted.admits(now, self.options.lag_max)?;
        if hosted.is_cutting() { Err(ProduceError::Cutting) } else { Ok(()) }
    }

    /// Nodes that are to have a replica of a partition led here and are not in sync, or do not keep up.
    pub fn out_of_sync(&self, now: Duration, partition: TopicPartition) -> Vec<NodeId> {
        let hosted = self.hosted.get(&partition);
        hosted.map(|hosted| hosted.out_of_sync(now, self.options.lag_max)).unwrap_or_default()
    }

    /// Appends a client's batch, which has been checked, and returns its header with its place and epoch. Its acknowledgement waits for
    /// [`Event::Committed`] to pass the end.
    ///
    /// # Errors
    /// [`ProduceError`]; nothing is kept then.
    pub fn produce(
        &mut self,
        now: Duration,
        partition: TopicPartition,
        mut batch: BytesMut,
    ) -> Result<BatchHeader, ProduceError> {
        let lag_max = self.options.lag_max;
        let hosted = self.hosted.get_mut(&partition).ok_or(ProduceError::Unknown)?;
        let epoch = hosted.admits(now, lag_max)?;
        if hosted.is_cutting() {
            return Err(ProduceError::Cutting);
        }
        let base = hosted.log.positions().written;
        batch::assign(&mut batch, base, epoch);
        let header = BatchHeader::parse(&batch)?;
        hosted.log.set_patient(false);
        hosted.append(batch.freeze(), &header)?;
        self.take(now, partition, Input::Written(header.next_offset()), &[]);
        Ok(header)
    }

    /// The log store reported that more of a log is durable.
    pub fn durable(&mut self, now: Duration, log: LogId) {
        let Some(partition) = self.by_log.get(&log).copied() else { return };
        self.report_durable(now, partition);
    }

    pub(crate) fn report_durable(&mut self, now: Duration, partition: TopicPartition) {
        if let Some(hosted) = self.hosted.get(&partition).filter(|hosted| !hosted.is_cutting()) {
            let durable = hosted.log.positions().durable;
            self.take(now, partition, Input::Durable(durable), &[]);
        }
    }

    /// The node stops in good order: every replica flushes and says [`Event::Stopped`].
    ///
    /// One that is placed here later takes no part.
    pub fn stop(&mut self, now: Duration) {
        self.is_stopping = true;
        for partition in self.partitions() {
            self.stop_one(now, partition);
        }
    }

    fn stop_one(&mut self, now: Duration, partition: TopicPartition) {
        self.take(now, partition, Input::Stop, &[]);
        if let Some(hosted) = self.hosted.get(&partition) {
            self.jobs.push(Job::Flush(hosted.log.clone()));
        }
    }

    /// A frame from a peer. What is not for a replica here, or not what it says, is ignored.
    pub fn receive(&mut self, now: Duration, from: Peer, frame: Frame) {
        let bytes = frame.batch_bytes();
        if self.connection(now, from).is_new_life(frame.connection) {
            // Nobody will ever take what was under way to the life before.
            self.connected(now, from);
        }
        let connection = self.connection(now, from);
        if !connection.hear(frame.connection) {
            return;
        }
        if let Some((_, taken)) = frame.taken.filter(|(number, _)| *number == connection.number) {
            connection.step(now, StreamInput::Taken(taken), Vec::new());
        }
        let far_behind_bytes = frame.said.into_iter().map(|said| self.hear(now, from, said)).sum();
        self.connection(now, from).took(bytes, far_behind_bytes);
    }

    /// Returns how many bytes of batches a replica took that is far behind.
    fn hear(&mut self, now: Duration, from: Peer, said: Said) -> u64 {
        let Some(hosted) = self.hosted.get_mut(&said.partition) else { return 0 };
        hosted.met(from);
        let Some((carried, epochs)) = checked_batches(&said) else { return 0 };
        let bytes: usize = carried.iter().map(|(batch, _)| batch.len()).sum();
        if bytes > 0 && hosted.log.damage().is_some() {
            return 0; // The next tick sees to it.
        }
        let takes = !self.store.is_full() && self.store.has_room(bytes);
        if bytes > 0 && !takes {
            return 0; // As if it had been lost: it is sent again when there is room.
        }
        let (partition, mut message) = (said.partition, said.message);
        if let Message::Append { history, .. } = &mut message {
            *history = epochs;
        }
        let mut far_behind_bytes = 0;
        if let Message::Append { epoch, life, upto, committed, .. } = message
            && bytes > 0
            && hosted.replica.follows(epoch, life)
        {
            // What is committed anyway waits for nobody's disk.
            let is_far_behind = hosted.replica.is_far_behind(upto, committed);
            hosted.log.set_patient(is_far_behind);
            far_behind_bytes = if is_far_behind { bytes as u64 } else { 0 };
        }
        let acknowledges = matches!(message, Message::Ack { .. });
        self.take(now, partition, Input::Message { from: from.node, message }, &carried);
        if acknowledges {
            self.welcome_back(now, partition, from.node);
        }
        far_behind_bytes
    }

    /// A job has ended.
    pub fn done(&mut self, now: Duration, done: Done) {
        match done {
            Done::Cut(partition) => {
                if let Some(hosted) = self.hosted.get_mut(&partition) {
                    hosted.cut_done();
                }
                self.take(now, partition, Input::CutDone, &[]);
                self.pump(partition);
                self.report_durable(now, partition);
                self.tell_committed(partition);
            }
            Done::Damage(partition) => self.tell_damage(partition),
            Done::Promises => {
                for partition in self.writing.take().unwrap_or_default() {
                    self.take(now, partition, Input::Recorded, &[]);
                }
            }
            Done::Flushed => {}
            Done::Read { peer, connection, partition, ticket, range, batches, begin } => {
                if let Some(begin) = begin {
                    self.log_begins(now, partition, begin);
                }
                if self.connections.get(&peer).is_some_and(|known| known.number == connection) {
                    self.answer_read(now, peer, (partition, ticket, range), batches);
                }
            }
        }
    }

    /// A stream has come upon the start of a log that has moved. It lies between two batches: a backup that has to begin there gets
    /// whole ones.
    fn log_begins(&mut self, now: Duration, partition: TopicPartition, start: Offset) {
        let Some(replica) = self.hosted.get(&partition).map(|hosted| &hosted.replica) else { return };
        let log = replica.log();
        // What a node has dropped before it knew that it was committed is told by another read, when it knows.
        if start > log.start && start <= log.durable && start <= replica.committed() {
            self.take(now, partition, Input::Retained(start), &[]);
        }
    }

    /// Whoever reads a log may find damage in it: a stream, a client, the store itself.
    pub(crate) fn look_for_damage(&mut self, partition: TopicPartition) {
        let Some(hosted) = self.hosted.get_mut(&partition) else { return };
        if !hosted.is_damaged && hosted.log.damage().is_some() {
            hosted.is_damaged = true;
            self.jobs.push(Job::Damage { partition, log: hosted.log.clone() });
        }
    }

    /// A cut may have taken the damage away meanwhile.
    fn tell_damage(&mut self, partition: TopicPartition) {
        let Some(hosted) = self.hosted.get_mut(&partition) else { return };
        let damage = hosted.log.damage();
        hosted.is_damaged = damage.is_some();
        self.events.extend(damage.map(|damage| Event::Damaged(partition, damage)));
    }

    pub(crate) fn take(
        &mut self,
        now: Duration,
        partition: TopicPartition,
        input: Input,
        carried: &[(Bytes, BatchHeader)],
    ) {
        let Some(hosted) = self.disturb(partition) else { return };
        let mut out: Vec<Output> = Vec::new();
        let led = hosted.replica.primary().map(|primary| primary.epoch);
        hosted.replica.step(input, &mut out);
        if led.is_some() && led != hosted.replica.primary().map(|primary| primary.epoch) {
            // Nobody takes records of that epoch any more, and to a backup that lags there may be gigabytes to send.
            self.forget_said(partition);
        }
        self.perform_all(now, partition, out, carried);
    }

    fn forget_said(&mut self, partition: TopicPartition) {
        self.connections.values_mut().for_each(|connection| connection.outbound.forget(partition));
    }

    /// The clock is to look at a partition the next time.
    fn disturb(&mut self, partition: TopicPartition) -> Option<&mut Hosted<D>> {
        let hosted = self.hosted.get_mut(&partition)?;
        if !std::mem::replace(&mut hosted.is_restless, true) {
            self.restless.push(partition);
        }
        Some(hosted)
    }

    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        self.hosted.keys().copied().collect()
    }

    pub(crate) fn connection(&mut self, now: Duration, peer: Peer) -> &mut Connection {
        if !self.connections.contains_key(&peer) {
            let number = self.next_connection_number();
            self.connections.insert(peer, Connection::new(self.options.stream, number, now));
        }
        self.connections.get_mut(&peer).expect("it was just made if it was not there")
    }

    pub(crate) fn next_connection_number(&mut self) -> u64 {
        self.connection_count += 1;
        connection::number_in(self.life, self.connection_count)
    }

    pub(crate) fn promise(&mut self, partition: TopicPartition, promise: heddle_replication::io::Promise) {
        self.promises.insert(partition, promise);
        self.unwritten.insert(partition);
    }

    fn write_promises(&mut self) {
        if self.writing.is_some() || self.unwritten.is_empty() && !self.is_promises_file_old {
            return;
        }
        self.is_promises_file_old = false;
        self.promise_number += 1;
        self.writing = Some(std::mem::take(&mut self.unwritten));
        let table = promises::encode(&self.promises, self.promise_number);
        self.jobs.push(Job::Promises { files: self.files.clone(), table, number: self.promise_number });
    }

    /// What has to wait for a disk.
    pub fn jobs(&mut self) -> Vec<Job<D>> {
        self.write_promises();
        std::mem::take(&mut self.jobs)
    }

    /// What the rest of the node has to know.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// When [`Self::flush`] is due at the latest, if nothing else happens.
    pub fn next_wake(&self) -> Option<Duration> {
        self.connections.values().filter_map(|connection| connection.wake).min()
    }

    /// What goes to peers now, each frame in the order of its connection.
    pub fn flush(&mut self, now: Duration) -> Vec<(Peer, Frame)> {
        let peers: Vec<Peer> = self.connections.keys().copied().collect();
        peers.into_iter().filter_map(|peer| self.flush_to(now, peer).map(|frame| (peer, frame))).collect()
    }

    /// What goes to one peer now. It may leave jobs behind.
    pub fn flush_to(&mut self, now: Duration, peer: Peer) -> Option<Frame> {
        loop {
            let reads = self.connections.get_mut(&peer)?.step(now, StreamInput::Flush, Vec::new());
            if reads.is_empty() {
                let room = self.room();
                return self.connections.get_mut(&peer)?.flush(room);
            }
            reads.into_iter().for_each(|read| self.read(now, peer, read));
        }
    }

    /// Which records peers may send more of. On a full disk all: only what they say beside them is of use then, and records are as
    /// if lost.
    pub fn room(&self) -> Room {
        if self.store.is_full() {
            Room::ForAll
        } else if self.store.is_pressed() {
            Room::None
        } else if self.store.is_behind() {
            Room::ForHot
        } else {
            Room::ForAll
        }
    }

    /// Reads from memory at once, else by a job.
    fn read(&mut self, now: Duration, peer: Peer, read: StreamOutput) {
        let StreamOutput::Read { partition, ticket, from, upto, bytes_max } = read else { return };
        let connection = self.connection(now, peer).number;
        let Some(hosted) = self.hosted.get(&partition).filter(|hosted| !hosted.is_cutting()) else {
            return self.answer_read(now, peer, (partition, ticket, (from, upto)), Vec::new());
        };
        match hosted.log.read_cached(from, upto, bytes_max) {
            Some(batches) => self.answer_read(now, peer, (partition, ticket, (from, upto)), batches),
            None => {
                let log = hosted.log.clone();
                let job = ReadJob { peer, connection, partition, ticket, log, from, upto, bytes_max };
                self.jobs.push(Job::Read(job));
            }
        }
    }

    fn answer_read(
        &mut self,
        now: Duration,
        peer: Peer,
        (partition, ticket, range): (TopicPartition, u64, (Offset, Offset)),
        batches: Vec<Bytes>,
    ) {
        let batches = match self.hosted.get(&partition) {
            Some(hosted) => gaps::fill(hosted.history(), range, self.options.stream.frame_bytes_max, batches),
            None => Vec::new(),
        };
        let end = batches.last().and_then(|batch| BatchHeader::parse(batch).ok());
        let input = match end {
            Some(header) => {
                let bytes = batches.iter().map(|batch| batch.len() as u64).sum();
                StreamInput::Read { partition, ticket, upto: header.next_offset(), bytes }
            }
            None => StreamInput::Unreadable { partition, ticket },
        };
        self.connection(now, peer).step(now, input, batches);
    }
}

/// The batches of an append with their headers and epochs, if they are sound and just those that it names. Other messages
/// have none.
fn checked_batches(said: &Said) -> Option<(Vec<(Bytes, BatchHeader)>, History)> {
    let Message::Append { from, upto, history, .. } = &said.message else {
        return said.batches.is_empty().then(Default::default);
    };
    let (mut at, mut found, mut epochs) = (*from, Vec::with_capacity(said.batches.len()), History::default());
    for batch in &said.batches {
        let header = batch::verify_stored(batch).ok()?;
        if header.base_offset != at || batch.len() != header.batch_bytes as usize {
            return None;
        }
        epochs.note(header.epoch, at);
        at = header.next_offset();
        found.push((batch.clone(), header));
    }
    // The sender may have dropped older epochs than those of the first batches.
    let is_told = match history.entries().first() {
        Some((_, start)) => epochs.of_range(*start, *upto) == *history,
        None => true,
    };
    (at == *upto && is_told).then_some((found, epochs))
}

#[cfg(test)]
mod tests;
