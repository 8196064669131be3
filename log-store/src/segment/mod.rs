//! The segments of one log: which files there are, how far each reaches, and the index of the one being filled.

pub(crate) mod cut;
pub mod drain_header;
pub mod files;
pub mod index;
pub mod index_file;
pub mod markers;
pub(crate) mod reader;
pub mod scan;
pub mod walk;

use std::collections::VecDeque;
use std::time::Duration;

use heddle_proto::ids::{Offset, Timestamp};

use index::Index;

/// Version of a segment that was not compacted, so of the one being filled.
pub(crate) const ACTIVE: u32 = 0;

/// One segment file.
#[derive(Debug)]
pub(crate) struct Segment {
    /// First offset, as in the file's name.
    pub(crate) base: Offset,
    /// Offset after the last batch. What a closed segment must reach for the log to be whole.
    pub(crate) end: Offset,
    /// Where the data ends: for an open segment the aligned position of the next drain.
    pub(crate) data_bytes: u64,
    /// How often this process compacted it: files and indexes of another version are not about it.
    pub(crate) version: u32,
    /// When the last of the tombstones inside may go, if compaction has said so in this process.
    pub(crate) tombstones_due: Option<Timestamp>,
    /// Bytes reserved on disk.
    pub(crate) allocated_bytes: u64,
    /// No more drains go here.
    pub(crate) sealed: bool,
    /// The file's name is not durable yet: the directories that lead to it are synced with the first drain.
    pub(crate) unnamed: bool,
    /// Monotonic time of creation, or of the start of this process.
    pub(crate) created: Duration,
    /// Largest timestamp inside, if known without reading.
    pub(crate) max_timestamp: Option<Timestamp>,
    /// Index of an open segment from `index_from` on.
    pub(crate) index: Option<Index>,
    /// Position from which `index` is complete.
    pub(crate) index_from: u64,
}

impl Segment {
    /// A segment whose file has just been created.
    pub(crate) fn new(base: Offset, now: Duration) -> Self {
        Self {
            base,
            end: base,
            data_bytes: 0,
            version: ACTIVE,
            tombstones_due: None,
            allocated_bytes: 0,
            sealed: false,
            unnamed: true,
            created: now,
            max_timestamp: Some(Timestamp::NONE),
            index: Some(Index::new(base)),
            index_from: 0,
        }
    }

    /// A segment found on disk that ends where the next one begins.
    pub(crate) fn sealed(base: Offset, end: Offset, file_bytes: u64, now: Duration) -> Self {
        Self {
            base,
            end,
            data_bytes: file_bytes,
            version: ACTIVE,
            tombstones_due: None,
            allocated_bytes: file_bytes,
            sealed: true,
            unnamed: false,
            created: now,
            max_timestamp: None,
            index: None,
            index_from: 0,
        }
    }
}

/// One segment as those see it that read it whole in the background.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct SegmentRef {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) version: u32,
    pub(crate) data_bytes: u64,
    /// When the last of the tombstones inside may go, as far as this process wrote them.
    pub(crate) tombstones_due: Option<Timestamp>,
}

impl From<&Segment> for SegmentRef {
    fn from(segment: &Segment) -> Self {
        Self {
            base: segment.base,
            end: segment.end,
            version: segment.version,
            data_bytes: segment.data_bytes,
            tombstones_due: segment.tombstones_due,
        }
    }
}

/// In offset order; at most the last one is open.
#[derive(Default, Debug)]
pub(crate) struct Segments {
    list: VecDeque<Segment>,
}

impl Segments {
    pub(crate) fn push(&mut self, segment: Segment) {
        debug_assert!(self.list.back().is_none_or(|last| last.base < segment.base && last.sealed));
        self.list.push_back(segment);
    }

    /// Puts `segment` in the place of `old`. `false`, and nothing happens, if those are not there any more.
    pub(crate) fn replace(&mut self, old: &[SegmentRef], segment: Segment) -> bool {
        let Some(at) = old.first().and_then(|first| self.position(first.base)) else { return false };
        let is_there = |(index, old): (usize, &SegmentRef)| {
            let found = self.list.get(at + index);
            found.is_some_and(|found| found.base == old.base && found.version == old.version && found.sealed)
        };
        if !old.iter().enumerate().all(is_there) {
            return false;
        }
        drop(self.list.drain(at + 1..at + old.len()));
        self.list[at] = segment;
        true
    }

    pub(crate) fn pop_first(&mut self) -> Option<Segment> {
        self.list.pop_front()
    }

    /// Takes out the last segment if it begins at `from` or later, and returns where it begins
    /// and its version.
    pub(crate) fn pop_last_from(&mut self, from: Offset) -> Option<(Offset, u32)> {
        self.list.pop_back_if(|last| last.base >= from).map(|last| (last.base, last.version))
    }

    pub(crate) fn last(&self) -> Option<&Segment> {
        self.list.back()
    }

    /// Closes the last segment and lets it end at `end`, which is within it.
    pub(crate) fn seal_last_at(&mut self, end: Offset) {
        if let Some(last) = self.list.back_mut() {
            last.end = end;
            last.version += 1;
            last.sealed = true;
            last.index = None;
            last.max_timestamp = None;
        }
    }

    /// The file of the last segment has been cut.
    pub(crate) fn shorten_last(&mut self, data_bytes: u64) {
        if let Some(last) = self.list.back_mut() {
            last.data_bytes = data_bytes;
            last.allocated_bytes = data_bytes;
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.list.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn first(&self) -> Option<&Segment> {
        self.list.front()
    }

    /// The segment being filled.
    pub(crate) fn active(&self) -> Option<&Segment> {
        self.list.back().filter(|segment| !segment.sealed)
    }

    pub(crate) fn active_mut(&mut self) -> Option<&mut Segment> {
        self.list.back_mut().filter(|segment| !segment.sealed)
    }

    fn position(&self, offset: Offset) -> Option<usize> {
        self.list.partition_point(|segment| segment.base <= offset).checked_sub(1)
    }

    /// The segment that should hold `offset`.
    pub(crate) fn holding(&self, offset: Offset) -> Option<&Segment> {
        self.list.get(self.position(offset)?)
    }

    /// The segment with this first offset.
    pub(crate) fn get(&self, base: Offset) -> Option<&Segment> {
        self.holding(base).filter(|segment| segment.base == base)
    }

    pub(crate) fn get_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        let position = self.position(base)?;
        self.list.get_mut(position).filter(|segment| segment.base == base)
    }

    /// The segment after the one with first offset `base`.
    pub(crate) fn after(&self, base: Offset) -> Option<&Segment> {
        self.list.get(self.list.partition_point(|segment| segment.base <= base))
    }

    /// Bytes of data in all segments.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.list.iter().map(|segment| segment.data_bytes).sum()
    }
}
