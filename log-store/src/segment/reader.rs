//! Reads the batches of one segment in order, each verified, at the pace of the background: for compaction and for scrubbing.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::Offset;

use super::SegmentRef;
use crate::disk::{Disk, OpenMode};
use crate::error::{IoContext, StorageError};
use crate::log::inner::LogInner;
use crate::pacer::Pacer;
use crate::segment::scan::Window;
use crate::segment::walk::{Step, Walker};
use crate::store::shared::Store;
use crate::store::stats::add;
use crate::types::Damage;

/// Why a run does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The disk failed to take or keep what was written: what it holds is unknown.
    Storage(StorageError),
    /// The disk refused to read.
    Unreadable(StorageError),
    /// A segment is not what was written.
    Damaged(Damage),
    /// The log was deleted or cut from below, or is not to be compacted any more.
    Gone,
    /// There is no space for another copy of a segment.
    NoSpace,
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        if error.is_disk_full() { Self::NoSpace } else { Self::Storage(error) }
    }
}

/// See the module. Holds the file, so that the segment may be removed meanwhile.
pub(crate) struct BatchReader<'a, D: Disk> {
    store: &'a Store<D>,
    log: &'a LogInner,
    segment: SegmentRef,
    file: Rc<D::File>,
    walker: Walker,
    window: Window,
    pace: Pace<'a>,
}

/// At whose cost a segment is read.
#[derive(Copy, Clone)]
pub(crate) struct Pace<'a> {
    pub(crate) pacer: &'a Pacer,
    /// Counts what is read.
    pub(crate) read_bytes: &'a Cell<u64>,
}

impl<'a, D: Disk> BatchReader<'a, D> {
    /// Opens the segment.
    pub(crate) async fn open(
        store: &'a Store<D>,
        log: &'a LogInner,
        segment: SegmentRef,
        pace: Pace<'a>,
    ) -> Result<Self, Stop> {
        let path = store.segment_path(log, segment.base);
        let mode = OpenMode::EXISTING.dsync(store.options.segment_dsync);
        let key = (log.id, segment.base, segment.version);
        let file = match store.segment_files.get(&store.disk, key, &path, mode).await {
            Err(_) if !log.has_segment(segment.base, segment.version) => return Err(Stop::Gone),
            other => other.context("open", &path).map_err(Stop::Unreadable)?,
        };
        let walker = Walker::at_drain(log.owner, segment.base, 0, segment.base);
        Ok(Self { store, log, segment, file, walker, window: Window::default(), pace })
    }

    /// The next batch, `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<(BatchHeader, Bytes)>, Stop> {
        loop {
            if self.walker.expected >= self.segment.end {
                return Ok(None);
            }
            match self.walker.step(&self.window.view(self.segment.data_bytes)) {
                Step::Batch(header, range) => return Ok(Some((header, self.window.bytes.slice(range)))),
                Step::More(bytes) => self.load(bytes).await?,
                Step::End | Step::Bad => return Err(self.damaged()),
            }
        }
    }

    async fn load(&mut self, bytes: usize) -> Result<(), Stop> {
        let (options, position) = (&self.store.options, self.walker.position);
        let wanted = options.compaction_io_bytes;
        let data_end = self.segment.data_bytes;
        let window = Window::load(&*self.file, options, None, position, bytes, wanted, data_end).await;
        let path = self.store.segment_path(self.log, self.segment.base);
        self.window = window.context("read", &path).map_err(Stop::Unreadable)?;
        add(self.pace.read_bytes, self.window.bytes.len() as u64);
        self.pace.pacer.pay(self.window.bytes.len(), &self.store.disk).await;
        if self.window.end() < position + bytes as u64 {
            return Err(self.damaged()); // the file was cut
        }
        Ok(())
    }

    /// The offset the next batch begins with: all before it was what was written.
    pub(crate) fn expected(&self) -> Offset {
        self.walker.expected
    }

    fn damaged(&self) -> Stop {
        Stop::Damaged(Damage {
            offset: self.walker.expected.max(self.log.positions().start),
            file: self.store.segment_path(self.log, self.segment.base),
            position: self.walker.position,
        })
    }
}
