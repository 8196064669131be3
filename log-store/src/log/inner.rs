//! The state of one log: positions, flags, the tail in memory and the segments on disk. Small, for ten thousand of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::{Offset, Timestamp, TopicPartition};

use super::tail::Tail;
use crate::compact::Progress;
use crate::event::{Event, Permits};
use crate::segment::SegmentRef;
use crate::segment::drain_header::DrainHeader;
use crate::segment::markers::PlacedMarker;
use crate::segment::{Segment, Segments};
use crate::types::{Cut, Damage, LogConfig, LogId, LogPositions, SyncMode};

/// How batches become durable that nobody waits for: few large writes, since each sync of a file holds up those of all others
/// on the device; and soon enough that a log which is waited for again has little left to write.
const PATIENT_AFTER: Duration = Duration::from_millis(100);
const PATIENT_BYTES: u64 = 4 << 20;

/// Where a partition's newest durable state record is.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct DurableState {
    /// WAL file that holds it.
    pub(crate) generation: u64,
    /// Its number within the life of the partition.
    pub(crate) version: u64,
    /// Drained end it vouches for.
    pub(crate) drained: Offset,
    /// Log start it vouches for.
    pub(crate) start: Offset,
    /// The segment in which a start would look from a position on; those before it are taken as they are.
    pub(crate) segment_base: Offset,
    /// It says that the log is gone.
    pub(crate) deleted: bool,
}

/// How far the segments reached at some moment.
#[derive(Copy, Clone, Debug)]
pub(crate) struct SegmentsEnd {
    pub(crate) segment_base: Offset,
    pub(crate) position: u64,
    pub(crate) drained: Offset,
    pub(crate) max_timestamp: Timestamp,
}

/// A snapshot taken before everything it reflects was durable.
#[derive(Clone)]
pub(crate) struct StagedSnapshot {
    /// It reflects everything below.
    pub(crate) end: Offset,
    pub(crate) bytes: Bytes,
    /// The segments when they held exactly that.
    pub(crate) reached: Option<SegmentsEnd>,
}

/// What recovery hands to the owner once.
#[derive(Default)]
pub(crate) struct RecoveredState {
    pub(crate) snapshot: Option<Bytes>,
    pub(crate) headers: Vec<BatchHeader>,
}

/// One log. Owned by one core's store; nothing in it is borrowed across an await.
pub(crate) struct LogInner {
    pub(crate) id: LogId,
    pub(crate) partition: TopicPartition,
    pub(crate) owner: u32,
    config: Cell<LogConfig>,
    /// Nobody waits for what is appended: see [`crate::Log::set_patient`].
    patient: Cell<bool>,
    positions: Cell<LogPositions>,
    /// Exclusive end of what the segments durably hold. Batches below it in the tail are a cache.
    drained: Cell<Offset>,
    /// Everything from `drained` up to here has been sealed into WAL frames, in order.
    joined: Cell<Offset>,
    /// Bytes of the tail that are not drained.
    pub(crate) dirty_bytes: Cell<usize>,
    /// Bytes of the tail that are not in a WAL frame either.
    pub(crate) pending_bytes: Cell<usize>,
    /// A direct drain is due or under way: nothing joins the WAL until it is done.
    pub(crate) held: Cell<bool>,
    /// Waits in the store's queue for the next group.
    pub(crate) in_groups: Cell<bool>,
    /// Waits in one of the store's drain queues.
    pub(crate) in_drains: Cell<bool>,
    /// Listed as dirty, in order of age.
    pub(crate) in_dirty: Cell<bool>,
    /// Listed as drained without a state record to vouch for it.
    pub(crate) in_unrecorded: Cell<bool>,
    /// A state record is to be written.
    pub(crate) state_due: Cell<bool>,
    /// Drained bytes since the last state record.
    pub(crate) unrecorded_bytes: Cell<u64>,
    pub(crate) deleted: Cell<bool>,
    /// Its files are gone as well.
    pub(crate) removed: Cell<bool>,
    /// A cut is under way: nothing joins the WAL but what stays, and then the cut.
    pub(crate) cutting: Cell<Option<Cut>>,
    /// The WAL is to be told of the cut.
    pub(crate) cut_due: Cell<bool>,
    /// How often the log has been cut: readers of before stop.
    pub(crate) cut_count: Cell<u32>,
    /// The owner knows this log: it may be asked for a snapshot.
    pub(crate) attached: Cell<bool>,
    /// Somebody waits until everything below is durable.
    pub(crate) flush_target: Cell<Offset>,
    /// When the oldest undurable batch of a flushed log must be drained.
    pub(crate) flush_at: Cell<Option<Duration>>,
    pub(crate) state_version: Cell<u64>,
    pub(crate) durable_state: Cell<DurableState>,
    pub(crate) staged: RefCell<Option<StagedSnapshot>>,
    pub(crate) tail: RefCell<Tail>,
    /// The transaction markers that are not drained yet, in order.
    pub(crate) markers: RefCell<VecDeque<PlacedMarker>>,
    pub(crate) segments: RefCell<Segments>,
    damage: RefCell<Option<Damage>>,
    pub(crate) recovered: RefCell<Option<RecoveredState>>,
    /// Something about this log advanced: durable end, drained end or durable state.
    pub(crate) progress: Event,
    /// Held by whoever changes the segments.
    pub(crate) maintenance: Permits,
    /// A compacted segment is taking its place: its name may still lead to an old file.
    pub(crate) swapping: Cell<bool>,
    /// How far the log is compacted, once somebody has looked.
    pub(crate) compaction: Cell<Option<Progress>>,
}

impl LogInner {
    pub(crate) fn new(id: LogId, partition: TopicPartition, config: LogConfig) -> Rc<Self> {
        Rc::new(Self {
            id,
            partition,
            owner: DrainHeader::owner_of(partition),
            config: Cell::new(config),
            patient: Cell::default(),
            positions: Cell::default(),
            drained: Cell::default(),
            joined: Cell::default(),
            dirty_bytes: Cell::default(),
            pending_bytes: Cell::default(),
            held: Cell::default(),
            in_groups: Cell::default(),
            in_drains: Cell::default(),
            in_dirty: Cell::default(),
            in_unrecorded: Cell::default(),
            state_due: Cell::default(),
            unrecorded_bytes: Cell::default(),
            deleted: Cell::default(),
            removed: Cell::default(),
            cutting: Cell::default(),
            cut_due: Cell::default(),
            cut_count: Cell::default(),
            attached: Cell::new(true),
            flush_target: Cell::default(),
            flush_at: Cell::default(),
            state_version: Cell::default(),
            durable_state: Cell::default(),
            staged: RefCell::default(),
            tail: RefCell::default(),
            markers: RefCell::default(),
            segments: RefCell::default(),
            damage: RefCell::default(),
            recovered: RefCell::default(),
            progress: Event::default(),
            maintenance: Permits::new(1),
            swapping: Cell::default(),
            compaction: Cell::default(),
        })
    }

    pub(crate) fn config(&self) -> LogConfig {
        self.config.get()
    }

    pub(crate) fn set_config(&self, config: LogConfig) {
        self.config.set(config);
    }

    /// Returns what it was before.
    pub(crate) fn set_patient(&self, patient: bool) -> bool {
        self.patient.replace(patient)
    }

    /// See [`crate::Log::set_patient`].
    pub(crate) fn is_patient(&self) -> bool {
        self.patient.get()
    }

    /// How appended batches become durable for now.
    pub(crate) fn sync(&self) -> SyncMode {
        match self.config.get().sync {
            sync if !self.patient.get() => sync,
            SyncMode::Wal => SyncMode::Flush { after: PATIENT_AFTER, bytes: PATIENT_BYTES },
            SyncMode::Flush { after, bytes } => {
                SyncMode::Flush { after: after.min(PATIENT_AFTER), bytes: bytes.min(PATIENT_BYTES) }
            }
        }
    }

    pub(crate) fn positions(&self) -> LogPositions {
        self.positions.get()
    }

    /// Where positions change. They keep their order, and only [`Self::cut_to`] takes them back.
    pub(crate) fn set_positions(&self, next: LogPositions) {
        let last = self.positions.get();
        assert!(next.start <= next.durable && next.durable <= next.written, "{}: {next:?}", self.partition);
        assert!(
            last.start <= next.start && last.durable <= next.durable && last.written <= next.written,
            "{}: positions went back from {last:?} to {next:?}",
            self.partition
        );
        self.positions.set(next);
    }

    /// Takes positions back to a cut, and forgets the damage behind it. What stays is durable by now.
    pub(crate) fn cut_to(&self, cut: Cut) {
        let start = if cut.begins_anew { cut.to } else { self.positions.get().start };
        assert!(start <= cut.to, "{}: a cut before the start", self.partition);
        self.positions.set(LogPositions { start, durable: cut.to, written: cut.to });
        self.drained.set(if cut.begins_anew { cut.to } else { self.drained.get().min(cut.to) });
        self.joined.set(cut.to);
        self.flush_target.set(self.flush_target.get().min(cut.to));
        self.damage.borrow_mut().take_if(|damage| damage.offset >= cut.kept_to());
        self.markers.borrow_mut().retain(|placed| placed.offset < cut.kept_to());
        self.compaction.set(None);
        self.cut_count.set(self.cut_count.get() + 1);
    }

    pub(crate) fn drained(&self) -> Offset {
        self.drained.get()
    }

    /// Exclusive end of what is in WAL frames or segments.
    pub(crate) fn joined(&self) -> Offset {
        self.joined.get()
    }

    pub(crate) fn set_joined(&self, joined: Offset) {
        assert!(self.joined.get() <= joined && joined <= self.positions.get().written);
        self.joined.set(joined);
    }

    pub(crate) fn set_drained(&self, drained: Offset) {
        assert!(self.drained.get() <= drained && drained <= self.positions.get().written);
        self.drained.set(drained);
        if self.joined.get() < drained {
            self.joined.set(drained);
        }
    }

    /// Appends wait for a drain instead of joining the WAL.
    pub(crate) fn avoids_wal(&self) -> bool {
        self.held.get() || matches!(self.sync(), SyncMode::Flush { .. })
    }

    pub(crate) fn damage(&self) -> Option<Damage> {
        self.damage.borrow().clone()
    }

    pub(crate) fn damage_offset(&self) -> Option<Offset> {
        self.damage.borrow().as_ref().map(|damage| damage.offset)
    }

    /// Remembers damage; the lowest counts. Returns whether it is news.
    pub(crate) fn note_damage(&self, found: Damage) -> bool {
        let mut damage = self.damage.borrow_mut();
        let is_news = damage.as_ref().is_none_or(|known| found.offset < known.offset);
        if is_news {
            *damage = Some(found);
        }
        is_news
    }

    /// Forgets damage below the log's start: nobody can ask for it any more.
    pub(crate) fn forgive_damage(&self) {
        let start = self.positions.get().start;
        self.damage.borrow_mut().take_if(|damage| damage.offset < start);
    }

    /// How far the segments reach now.
    pub(crate) fn segments_end(&self) -> SegmentsEnd {
        let segments = self.segments.borrow();
        let active = segments.active();
        SegmentsEnd {
            segment_base: active.map_or(self.drained.get(), |segment| segment.base),
            position: active.map_or(0, |segment| segment.data_bytes),
            drained: self.drained.get(),
            max_timestamp: active.and_then(|segment| segment.max_timestamp).unwrap_or(Timestamp::NONE),
        }
    }

    /// How far the segments reach after a cut, as far as it is known before: where the cut falls into a file, that file
    /// is to be looked through.
    pub(crate) fn segments_end_after(&self, cut: Cut) -> SegmentsEnd {
        if !cut.begins_anew && self.drained.get() <= cut.to {
            return self.segments_end();
        }
        let segments = self.segments.borrow();
        let holds = |segment: &&Segment| !cut.begins_anew && segment.base < cut.to && cut.to < segment.end;
        let base = segments.holding(cut.to).filter(holds).map_or(cut.to, |segment| segment.base);
        SegmentsEnd { segment_base: base, position: 0, drained: base, max_timestamp: Timestamp::NONE }
    }

    /// Whether the segment is there, in this version.
    pub(crate) fn has_segment(&self, base: Offset, version: u32) -> bool {
        self.segments.borrow().get(base).is_some_and(|segment| segment.version == version)
    }

    /// The closed segments that end at or below `upto`, from the start of the log on.
    pub(crate) fn closed_segments(&self, upto: Offset) -> Vec<SegmentRef> {
        let segments = self.segments.borrow();
        let closed = segments.iter().take_while(|segment| segment.sealed && segment.end <= upto);
        closed.map(SegmentRef::from).collect()
    }

    /// The first segment from `from` on that holds anything, closed or not. `None` where known damage begins.
    pub(crate) fn segment_from(&self, from: Offset) -> Option<SegmentRef> {
        let segments = self.segments.borrow();
        let segment = segments.iter().find(|segment| segment.base >= from && segment.end > segment.base)?;
        self.damage_offset().is_none_or(|damage| segment.end <= damage).then(|| segment.into())
    }

    /// Where drains must stop for a moment, so that a staged snapshot fits the segments exactly.
    pub(crate) fn drain_stop(&self) -> Option<Offset> {
        let staged = self.staged.borrow();
        staged.as_ref().map(|staged| staged.end).filter(|end| *end > self.drained.get())
    }

    /// A snapshot taken now would reflect only what lies in WAL frames or segments.
    pub(crate) fn is_all_joined(&self) -> bool {
        self.joined.get() == self.positions.get().written
    }
}
