//! Group commit: seals what waits, writes a few groups at once, completes them without a gap, and tells the owner.
//!
//! No timer delays a lone producer: a group is sealed as soon as a write may start. While writes are in flight the
//! next group fills.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use heddle_proto::crc::crc32c;
use heddle_proto::ids::{Epoch, Offset};

use super::shared::Store;
use super::stats::add;
use crate::codec::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, StorageError};
use crate::event::JobSet;
use crate::layout;
use crate::log::inner::{DurableState, LogInner, SegmentsEnd};
use crate::types::{Cut, WriteTimes};
use crate::wal::frame::{self, Entry, EntryKind, FrameHeader};
use crate::wal::state::PartitionState;

/// What a frame being filled holds.
struct Filling {
    entries: Vec<(Entry, Bytes)>,
    payload_bytes: usize,
    bytes_max: usize,
    takes_batches: bool,
    /// For each log with batches in here, where they end.
    ends: Vec<(Rc<LogInner>, Offset)>,
    states: Vec<(Rc<LogInner>, DurableState)>,
    sealed: Instant,
}

impl Filling {
    fn new((bytes_max, takes_batches): (usize, bool)) -> Self {
        Self {
            entries: Vec::new(),
            payload_bytes: 0,
            bytes_max,
            takes_batches,
            ends: Vec::new(),
            states: Vec::new(),
            sealed: Instant::now(),
        }
    }

    fn fits(&self, payload_bytes: usize) -> bool {
        frame::frame_bytes(self.entries.len() + 1, self.payload_bytes + payload_bytes) <= self.bytes_max
    }

    fn push(&mut self, entry: Entry, payload: Bytes) {
        self.payload_bytes += payload.len();
        self.entries.push((entry, payload));
    }
}

/// A frame on its way to the disk.
struct Group {
    sequence: u64,
    durable_sequence: u64,
    generation: u64,
    batch_count: u64,
    has_entries: bool,
    ends: Vec<(Rc<LogInner>, Offset)>,
    states: Vec<(Rc<LogInner>, DurableState)>,
    sealed: Instant,
    submitted: Instant,
}

type Writing = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// Writes in flight, in order of their sequence. `None`: finished, but one before it is not.
#[derive(Default)]
struct Flight {
    groups: VecDeque<(Group, Option<Writing>)>,
}

impl Flight {
    fn poll(&mut self, cx: &mut Context<'_>) -> Result<(), (u64, io::Error)> {
        for (group, writing) in &mut self.groups {
            let Some(write) = writing else { continue };
            match write.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => *writing = None,
                Poll::Ready(Err(error)) => return Err((group.generation, error)),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// The oldest group, if its write is done: this is what makes completion gapless.
    fn pop_done(&mut self) -> Option<Group> {
        self.groups.pop_front_if(|(_, writing)| writing.is_none()).map(|(group, _)| group)
    }
}

enum Joined {
    Everything,
    FrameFull,
}

impl<D: Disk> Store<D> {
    /// Runs until the disk fails. See [`crate::LogStore::run_commit`].
    pub(crate) async fn run_commit(self: &Rc<Self>) -> Result<(), StorageError> {
        let _running = Running::start(self);
        let mut flight = Flight::default();
        let mut drains = JobSet::new();
        let mut cover_timer: Option<Pin<Box<dyn Future<Output = ()>>>> = None;
        loop {
            let mut work = pin!(self.commit_event.listen());
            self.start_groups(&mut flight);
            self.start_direct_drains(&mut drains);
            if cover_timer.is_none() && self.needs_cover() {
                cover_timer = Some(Box::pin(self.disk.sleep(self.options.cover_delay)));
            }
            let timer_fired = std::future::poll_fn(|cx| {
                flight.poll(cx).map_err(|(generation, error)| self.wal_error(generation, error))?;
                let completed = self.complete(&mut flight);
                let drained = match drains.poll_one(cx) {
                    Poll::Ready(result) => result.map(|()| true)?,
                    Poll::Pending => false,
                };
                let fired = cover_timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
                let woken = work.as_mut().poll(cx).is_ready();
                if completed || drained || fired || woken { Poll::Ready(Ok(fired)) } else { Poll::Pending }
            })
            .await?;
            if timer_fired {
                cover_timer = None;
                self.cover(flight.groups.is_empty());
            }
        }
    }

    fn wal_error(&self, generation: u64, error: io::Error) -> StorageError {
        StorageError::io("write", &layout::wal_file(&self.wal_dir, generation), error)
    }

    fn start_groups(&self, flight: &mut Flight) {
        while flight.groups.len() < self.options.groups_in_flight_max {
            let Some((group, write)) = self.seal() else { break };
            flight.groups.push_back((group, Some(write)));
        }
        self.groups_in_flight.set(flight.groups.len());
    }

    fn start_direct_drains(self: &Rc<Self>, drains: &mut JobSet<'static, Result<(), StorageError>>) {
        while drains.len() < self.options.direct_drains_in_flight_max {
            let Some(log) = self.direct_drains.borrow_mut().pop_front() else { break };
            let store = self.clone();
            drains.push(async move { store.drain(&log).await });
        }
    }

    /// Builds the next frame from what waits and starts its write.
    fn seal(&self) -> Option<(Group, Writing)> {
        let anything = !self.groups.borrow().is_empty() || self.frame_wanted.get();
        if !anything {
            return None;
        }
        let (bytes_max, files_max) = (self.options.group_bytes_max, self.options.wal_files_max);
        let Some(room) = self.wal.borrow().frame_bytes_max(bytes_max, files_max) else {
            self.stall();
            return None;
        };
        let mut filling = Filling::new(room);
        self.fill(&mut filling);
        if filling.entries.is_empty() && !self.frame_wanted.get() {
            if !self.groups.borrow().is_empty() {
                self.stall();
            }
            return None;
        }
        self.frame_wanted.set(false);
        self.wal_stalled.set(false);
        Some(self.write_frame(filling))
    }

    fn stall(&self) {
        self.wal_stalled.set(true);
        add(&self.counters.wal_stalls, 1);
        self.background_event.notify();
    }

    fn fill(&self, filling: &mut Filling) {
        loop {
            let Some(log) = self.groups.borrow_mut().pop_front() else { return };
            log.in_groups.set(false);
            if let Joined::FrameFull = self.join(&log, filling) {
                if !log.in_groups.replace(true) {
                    self.groups.borrow_mut().push_front(log);
                }
                return;
            }
        }
    }

    fn join(&self, log: &Rc<LogInner>, filling: &mut Filling) -> Joined {
        if let Some(cut) = log.cutting.get().filter(|_| !log.deleted.get()) {
            return self.join_cutting(log, cut, filling);
        }
        if !log.deleted.get()
            && let Joined::FrameFull = self.join_batches(log, Offset::new(i64::MAX), filling)
        {
            return Joined::FrameFull;
        }
        if log.state_due.get() { self.join_state(log, filling) } else { Joined::Everything }
    }

    /// While a cut is under way the WAL hears of what stays, then of the cut, and of nothing else.
    fn join_cutting(&self, log: &Rc<LogInner>, cut: Cut, filling: &mut Filling) -> Joined {
        if log.cut_due.get() {
            return self.join_cut(log, cut, filling);
        }
        self.join_batches(log, cut.kept_to(), filling)
    }

    /// Lets the batches that end at or before `upto` join, unless the log waits for a drain, or has to: what the last room of
    /// the WAL is for must not find it full.
    fn join_batches(&self, log: &Rc<LogInner>, upto: Offset, filling: &mut Filling) -> Joined {
        if log.avoids_wal() {
            return Joined::Everything;
        }
        if filling.takes_batches {
            return join_batches(log, upto, filling);
        }
        if !log.is_all_joined() {
            log.held.set(true);
            self.request_direct_drain(log);
        }
        Joined::Everything
    }

    /// Whether something waits that only another WAL file has room for, and that may be what lets go of the oldest one.
    pub(crate) fn needs_another_wal_file(&self) -> bool {
        let is_record =
            |log: &Rc<LogInner>| log.cut_due.get() || (log.state_due.get() && log.cutting.get().is_none());
        self.wal_stalled.get()
            && self.groups_in_flight.get() == 0
            && (self.frame_wanted.get() || self.groups.borrow().iter().any(is_record))
            && self.wal.borrow().is_exhausted(self.options.wal_files_max)
    }

    fn join_cut(&self, log: &Rc<LogInner>, cut: Cut, filling: &mut Filling) -> Joined {
        if !filling.fits(frame::STATE_BYTES_MAX) {
            return Joined::FrameFull;
        }
        let state = self.state_after(log, cut);
        let kind = (EntryKind::Cut, cut.to, u32::from(cut.begins_anew));
        let joined = self.push_state(log, &state, kind, filling);
        log.cut_due.set(matches!(joined, Joined::FrameFull));
        joined
    }

    /// What holds once the cut is made. All that stays is in WAL frames or segments by now.
    fn state_after(&self, log: &LogInner, cut: Cut) -> PartitionState {
        let segments = log.segments_end_after(cut);
        PartitionState {
            version: log.state_version.get() + 1,
            deleted: false,
            start: if cut.begins_anew { cut.to } else { log.positions().start },
            segment_base: segments.segment_base,
            position: segments.position,
            drained: segments.drained,
            segment_max_timestamp: segments.max_timestamp,
            damage: log.damage_offset().filter(|damage| *damage < cut.kept_to()),
            snapshot_end: cut.to,
            snapshot: self.take_snapshot(log),
        }
    }

    fn join_state(&self, log: &Rc<LogInner>, filling: &mut Filling) -> Joined {
        if !filling.fits(frame::STATE_BYTES_MAX) {
            return Joined::FrameFull;
        }
        let Some(state) = self.make_state(log) else {
            // The owner's snapshot would run ahead of the disk: a drain catches up and asks again.
            self.request_drain(log);
            return Joined::Everything;
        };
        let deletion = match (state.deleted, log.removed.get()) {
            (false, _) => 0,
            (true, false) => frame::DELETED,
            (true, true) => frame::DELETION_OVER,
        };
        let kind = (EntryKind::State, state.start, deletion);
        self.push_state(log, &state, kind, filling)
    }

    /// Puts a state into the frame, under an entry of this kind, base and offset count.
    fn push_state(
        &self,
        log: &Rc<LogInner>,
        state: &PartitionState,
        (kind, base, offset_count): (EntryKind, Offset, u32),
        filling: &mut Filling,
    ) -> Joined {
        let payload = state.encode();
        if !filling.fits(payload.len()) {
            return Joined::FrameFull;
        }
        self.note_state_joined(log, state, filling);
        let entry = Entry {
            kind,
            partition: log.partition,
            base,
            offset_count,
            epoch: Epoch::NONE,
            payload_bytes: payload.len() as u32,
            payload_crc: crc32c(&payload),
        };
        filling.push(entry, payload);
        Joined::Everything
    }

    fn note_state_joined(&self, log: &Rc<LogInner>, state: &PartitionState, filling: &mut Filling) {
        log.state_due.set(false);
        log.state_version.set(state.version);
        log.unrecorded_bytes.set(0);
        if log.attached.get() {
            log.staged.borrow_mut().take_if(|staged| staged.end <= state.snapshot_end);
        }
        add(&self.counters.states, 1);
        let durable = DurableState {
            generation: 0, // known when the frame has its place
            version: state.version,
            drained: state.drained,
            start: state.start,
            segment_base: state.segment_base,
            deleted: state.deleted,
        };
        filling.states.push((log.clone(), durable));
    }

    /// A state record that holds now, or `None` while the owner's snapshot would reflect batches that a crash could
    /// lose.
    fn make_state(&self, log: &Rc<LogInner>) -> Option<PartitionState> {
        let (snapshot_end, snapshot, segments) = self.usable_snapshot(log)?;
        Some(PartitionState {
            version: log.state_version.get() + 1,
            deleted: log.deleted.get(),
            start: log.positions().start,
            segment_base: segments.segment_base,
            position: segments.position,
            drained: segments.drained,
            segment_max_timestamp: segments.max_timestamp,
            damage: log.damage_offset(),
            snapshot_end,
            snapshot,
        })
    }

    /// A snapshot, what it reflects, and how far the segments reached then. Recovery needs the segments to end at or
    /// before what the snapshot reflects, so that it finds the headers of everything after.
    fn usable_snapshot(&self, log: &Rc<LogInner>) -> Option<(Offset, Bytes, SegmentsEnd)> {
        if log.deleted.get() {
            return Some((log.drained(), Bytes::new(), log.segments_end()));
        }
        if log.attached.get() && log.is_all_joined() {
            return Some((log.positions().written, self.take_snapshot(log), log.segments_end()));
        }
        let staged = log.staged.borrow().clone()?;
        let now = log.segments_end();
        let segments = if now.drained <= staged.end { now } else { staged.reached? };
        (staged.end <= log.joined()).then_some((staged.end, staged.bytes, segments))
    }

    /// Asks the owner for its state as of everything appended.
    pub(crate) fn take_snapshot(&self, log: &LogInner) -> Bytes {
        let snapshot = self.hooks.snapshot(log.id);
        if snapshot.len() <= self.options.snapshot_bytes_max {
            return snapshot;
        }
        tracing::error!(partition = %log.partition, bytes = snapshot.len(), "the owner's snapshot is too large to keep");
        Bytes::new()
    }

    fn write_frame(&self, filling: Filling) -> (Group, Writing) {
        let sequence = self.sequence.built.get() + 1;
        self.sequence.built.set(sequence);
        let bytes = frame::frame_bytes(filling.entries.len(), filling.payload_bytes);
        let mut wal = self.wal.borrow_mut();
        let place = wal.place(bytes, sequence).expect("room was checked before the frame was filled");
        let header = FrameHeader {
            core: self.core.get(),
            generation: place.generation,
            incarnation: self.incarnation,
            sequence,
            durable_sequence: self.sequence.durable.get(),
            released_sequence: wal.released_sequence(),
            position: place.position,
            frame_bytes: 0,
            payload_bytes: 0,
            entry_count: 0,
        };
        let mut buffer = self.disk.alloc(bytes);
        frame::encode(header, &filling.entries, buffer.as_mut());
        let current = wal.current_mut().expect("the frame was just placed in it");
        for (log, end) in &filling.ends {
            current.batches.insert(log.id, (log.clone(), *end));
        }
        for (log, _) in &filling.states {
            current.states.insert(log.id, log.clone());
        }
        add(&self.counters.wal_frames, 1);
        add(&self.counters.wal_bytes, bytes as u64);
        let group = Group {
            sequence,
            durable_sequence: header.durable_sequence,
            generation: place.generation,
            batch_count: (filling.entries.len() - filling.states.len()) as u64,
            has_entries: !filling.entries.is_empty(),
            ends: filling.ends,
            states: filling.states,
            sealed: filling.sealed,
            submitted: Instant::now(),
        };
        (group, Box::pin(write_whole(place.file, buffer, place.position, bytes)))
    }

    /// Completes what is done, oldest first.
    fn complete(&self, flight: &mut Flight) -> bool {
        let mut any = false;
        while let Some(group) = flight.pop_done() {
            any = true;
            self.complete_group(group);
        }
        self.groups_in_flight.set(flight.groups.len());
        any
    }

    fn complete_group(&self, group: Group) {
        let times = WriteTimes { sealed: group.sealed, submitted: group.submitted, durable: Instant::now() };
        self.sequence.durable.set(group.sequence);
        self.sequence.covered.set(self.sequence.covered.get().max(group.durable_sequence));
        if group.has_entries {
            self.sequence.with_entries.set(group.sequence);
        }
        if self.wal.borrow_mut().retire(group.sequence) {
            self.background_event.notify();
        }
        for (log, state) in group.states {
            log.durable_state.set(DurableState { generation: group.generation, ..state });
            log.progress.notify();
            self.progress.notify();
        }
        add(&self.counters.wal_batches, group.batch_count);
        for (log, end) in group.ends {
            self.advance_durable(&log, end, times);
        }
        if self.sequence.covered.get() >= self.sequence.with_entries.get() {
            self.progress.notify();
        }
    }

    /// Whether acknowledged bytes exist that damage could make look like a torn end.
    fn needs_cover(&self) -> bool {
        self.is_uncovered() || !self.unrecorded.borrow().is_empty()
    }

    pub(crate) fn is_uncovered(&self) -> bool {
        self.sequence.with_entries.get() > self.sequence.covered.get()
    }

    fn cover(&self, is_idle: bool) {
        for log in std::mem::take(&mut *self.unrecorded.borrow_mut()) {
            log.in_unrecorded.set(false);
            if log.durable_state.get().drained < log.drained() && !log.deleted.get() {
                self.request_state(&log);
            }
        }
        if is_idle && self.is_uncovered() && self.groups.borrow().is_empty() {
            self.frame_wanted.set(true);
        }
    }
}

/// Lets the batches that end at or before `upto` join.
fn join_batches(log: &Rc<LogInner>, upto: Offset, filling: &mut Filling) -> Joined {
    let (from, mut joined, mut bytes) = (log.joined(), log.joined(), 0);
    let mut outcome = Joined::Everything;
    for batch in log.tail.borrow().from(from) {
        if batch.next > upto {
            break;
        }
        if !filling.fits(batch.len()) {
            outcome = Joined::FrameFull;
            break;
        }
        let entry = Entry {
            kind: EntryKind::Batch,
            partition: log.partition,
            base: batch.base,
            offset_count: u32::try_from(batch.next.since(batch.base))
                .expect("a batch has at most 2^31 records"),
            epoch: batch.epoch,
            payload_bytes: batch.len() as u32,
            payload_crc: batch.crc,
        };
        filling.push(entry, batch.bytes.clone());
        joined = batch.next;
        bytes += batch.len();
    }
    if joined > from {
        log.set_joined(joined);
        log.pending_bytes.set(log.pending_bytes.get() - bytes);
        filling.ends.push((log.clone(), joined));
    }
    outcome
}

async fn write_whole<F: DiskFile>(
    file: Rc<F>,
    buffer: F::Buffer,
    position: u64,
    bytes: usize,
) -> io::Result<()> {
    let written = file.write_at(buffer, position).await?;
    if written == bytes {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::WriteZero, format!("{written} of {bytes} bytes at {position}")))
}

/// Marks the commit loop as running for as long as it lives.
struct Running<'a> {
    flag: &'a std::cell::Cell<bool>,
}

impl<'a> Running<'a> {
    fn start<D: Disk>(store: &'a Store<D>) -> Self {
        store.commit_running.set(true);
        Self { flag: &store.commit_running }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.flag.set(false);
    }
}

/// Opens an existing WAL file the way frames are written.
pub(crate) async fn open_wal_file<D: Disk>(
    disk: &D,
    path: &std::path::Path,
) -> Result<Rc<D::File>, StorageError> {
    let mode = crate::disk::OpenMode::EXISTING.dsync(true);
    Ok(Rc::new(disk.open(path, mode).await.context("open", path)?))
}

const _: () = assert!(frame::frame_bytes(0, 0) <= BLOCK_BYTES);
