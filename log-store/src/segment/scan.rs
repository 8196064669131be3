//! Reads a segment from a position to its end, verifying everything: recovery and index rebuilding.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::Offset;

use super::drain_header::DrainHeader;
use super::index::{Index, IndexEntry};
use super::markers::PlacedMarker;
use super::walk::{Step, View, Walker, find_drain};
use crate::codec::{BLOCK_BYTES, align_up};
use crate::disk::{DiskFile, ReadBuffer, ReadMemory, read_parallel};
use crate::options::Options;

/// A stretch of a segment in memory. Holds nothing past the end of data it was loaded with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    pub(crate) start: u64,
    pub(crate) bytes: Bytes,
}

impl Window {
    /// Loads at least `bytes_min` bytes from `position` on, and up to `bytes_wanted`, as far as the data goes.
    pub(crate) async fn load<F: DiskFile>(
        file: &F,
        options: &Options,
        memory: Option<&ReadMemory>,
        position: u64,
        bytes_min: usize,
        bytes_wanted: usize,
        data_end: u64,
    ) -> io::Result<Self> {
        let start = position - position % BLOCK_BYTES as u64;
        let wanted = (position - start) + bytes_min.max(bytes_wanted) as u64;
        let bytes = align_up(wanted).min(align_up(data_end.saturating_sub(start))) as usize;
        let mut buffer = ReadBuffer::within(memory, bytes);
        let io = (options.io_bytes_max, options.io_in_flight_max);
        read_parallel(file, start, &mut buffer, 0, io).await?;
        buffer.truncate(bytes.min((data_end - start.min(data_end)) as usize));
        Ok(Self { start, bytes: buffer.freeze() })
    }

    /// The bytes from `position` on, cut off from this window at a block boundary.
    fn rest(&self, position: u64) -> &[u8] {
        let start = position - position % BLOCK_BYTES as u64;
        start.checked_sub(self.start).and_then(|skip| self.bytes.get(skip as usize..)).unwrap_or_default()
    }

    pub(crate) fn view(&self, data_end: u64) -> View<'_> {
        View { start: self.start, bytes: &self.bytes, data_end }
    }

    /// Where in the file the bytes end.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// How many bytes lie behind `position`.
    pub(crate) fn bytes_behind(&self, position: u64) -> usize {
        self.end().saturating_sub(position) as usize
    }
}

/// The window behind another one, being read while that one is used. Has room in front for what is left of it then.
pub(crate) struct NextWindow {
    start: u64,
    room: usize,
    buffer: ReadBuffer,
}

impl NextWindow {
    /// Reads up to `bytes_wanted` from `start`, a block boundary, on.
    pub(crate) async fn load<F: DiskFile>(
        file: Rc<F>,
        io: (usize, usize),
        memory: ReadMemory,
        start: u64,
        room: usize,
        bytes_wanted: usize,
        data_end: u64,
    ) -> io::Result<Self> {
        let bytes = (bytes_wanted as u64).min(data_end.saturating_sub(start));
        let room = align_up(room as u64) as usize;
        let mut buffer = ReadBuffer::within(Some(&memory), room + bytes as usize);
        read_parallel(&*file, start, &mut buffer, room, io).await?;
        buffer.truncate(bytes as usize);
        Ok(Self { start, room, buffer })
    }

    /// Puts what is left of `before` from `position` on in front. `None` if the two do not meet.
    pub(crate) fn follow(mut self, before: &Window, position: u64) -> Option<Window> {
        let left = before.rest(position);
        if before.end() != self.start || position > self.start || left.len() > self.room {
            return None;
        }
        self.buffer.prepend(left);
        Some(Window { start: self.start - left.len() as u64, bytes: self.buffer.freeze() })
    }
}

/// Damage found by a scan.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Broken {
    /// First offset that could not be read.
    pub(crate) offset: Offset,
    /// Where the bytes stop making sense.
    pub(crate) position: u64,
    /// Where the drain begins that they belong to: what is cut if the drain was never finished.
    pub(crate) drain_position: u64,
    /// First offset of that drain.
    pub(crate) drain_first: Offset,
}

/// What a scan saw.
pub(crate) struct Scan {
    /// Every intact batch, in order; only the newest `headers_max`.
    pub(crate) headers: std::collections::VecDeque<BatchHeader>,
    /// Index of everything intact.
    pub(crate) index: Index,
    /// Where the next drain would begin.
    pub(crate) position: u64,
    /// Offset after the last intact batch.
    pub(crate) end: Offset,
    /// First damage with intact drains behind it.
    pub(crate) middle: Option<Broken>,
    /// Damage with nothing intact behind it.
    pub(crate) tail: Option<Broken>,
    /// Something other than zeros lies behind the last intact drain.
    pub(crate) has_debris: bool,
}

/// Scans keep at most this many headers: enough to rebuild the owner's recent state, bounded whatever the log's size.
pub(crate) const HEADERS_MAX: usize = 1 << 20;

struct Scanner<'a, F> {
    file: &'a F,
    options: &'a Options,
    data_end: u64,
    window: Window,
    walker: Walker,
    scan: Scan,
    /// Batches of the current drain: accepted together when the drain turns out whole.
    pending: Vec<(BatchHeader, u64)>,
    /// The transaction markers among them.
    pending_markers: Vec<PlacedMarker>,
}

/// Scans from `walker`, which stands at the beginning of a drain, to `data_end`.
pub(crate) async fn scan<F: DiskFile>(
    file: &F,
    options: &Options,
    walker: Walker,
    data_end: u64,
) -> io::Result<Scan> {
    let scan = Scan {
        headers: std::collections::VecDeque::new(),
        index: Index::new(walker.segment_base()),
        position: walker.position,
        end: walker.expected,
        middle: None,
        tail: None,
        has_debris: false,
    };
    let window = Window::default();
    let (pending, pending_markers) = (Vec::new(), Vec::new());
    let mut scanner = Scanner { file, options, data_end, window, walker, scan, pending, pending_markers };
    scanner.run().await?;
    Ok(scanner.scan)
}

impl<F: DiskFile> Scanner<'_, F> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            let before = self.walker;
            match self.walker.step(&self.window.view(self.data_end)) {
                Step::Batch(header, range) => {
                    let marker = PlacedMarker::of(&header, &self.window.bytes[range]);
                    self.take(header, marker, before);
                }
                Step::More(bytes) => {
                    if !self.load(self.walker.position, bytes).await? {
                        return {
                            self.break_off(self.broken());
                            Ok(())
                        }; // the file is shorter than its data
                    }
                }
                // Zeros may be the end, or a write that never arrived: only intact drains behind them tell.
                step @ (Step::End | Step::Bad) => match self.resync().await? {
                    Some(header) => self.skip_to(header),
                    None => {
                        return {
                            self.end(step == Step::Bad);
                            Ok(())
                        };
                    }
                },
            }
        }
    }

    async fn load(&mut self, position: u64, bytes: usize) -> io::Result<bool> {
        let wanted = self.options.read_ahead_bytes_max;
        self.window =
            Window::load(self.file, self.options, None, position, bytes, wanted, self.data_end).await?;
        Ok(self.window.end() >= position + bytes as u64)
    }

    fn take(&mut self, header: BatchHeader, marker: Option<PlacedMarker>, before: Walker) {
        let position = self.walker.position - u64::from(header.batch_bytes);
        if self.walker.drain != before.drain {
            self.settle();
        }
        self.pending.push((header, position));
        self.pending_markers.extend(marker);
        if self.walker.drain.is_some_and(|drain| self.walker.position >= drain.data_end()) {
            self.settle();
        }
    }

    /// Accepts the batches of the current drain.
    fn settle(&mut self) {
        let interval = self.options.index_interval_bytes;
        for (header, position) in self.pending.drain(..) {
            let entry = IndexEntry {
                offset: header.base_offset,
                position,
                epoch: header.epoch,
                max_timestamp: header.max_timestamp,
            };
            self.scan.index.add(entry, header.next_offset(), interval);
            self.scan.end = header.next_offset();
            self.scan.position = align_up(position + u64::from(header.batch_bytes));
            if self.scan.headers.len() == HEADERS_MAX {
                self.scan.headers.pop_front();
            }
            self.scan.headers.push_back(header);
        }
        self.scan.index.markers.extend(self.pending_markers.drain(..));
        self.scan.index.data_bytes = self.scan.position;
    }

    fn broken(&self) -> Broken {
        let open = self.walker.drain.filter(|drain| self.walker.expected < drain.next);
        Broken {
            offset: self.walker.expected,
            position: self.walker.position,
            drain_position: open.map_or(align_up(self.walker.position), |drain| drain.position),
            drain_first: open.map_or(self.walker.expected, |drain| drain.first),
        }
    }

    /// Zeros are an end only between drains.
    fn end(&mut self, is_bad: bool) {
        let broken = self.broken();
        if is_bad || self.walker.drain.is_some_and(|drain| self.walker.expected < drain.next) {
            self.break_off(broken);
        }
    }

    fn break_off(&mut self, broken: Broken) {
        self.pending.clear();
        self.pending_markers.clear();
        self.scan.tail = Some(broken);
    }

    fn skip_to(&mut self, header: DrainHeader) {
        let broken = self.broken();
        self.settle();
        self.scan.middle.get_or_insert(broken);
        let (owner, base) = (header.owner, header.segment_base);
        self.walker = Walker::at_drain(owner, base, header.position, header.first);
    }

    async fn resync(&mut self) -> io::Result<Option<DrainHeader>> {
        let mut from = self.walker;
        self.scan.has_debris = false;
        loop {
            let view = self.window.view(self.data_end);
            let behind =
                view.bytes.get(from.position.saturating_sub(view.start) as usize..).unwrap_or_default();
            self.scan.has_debris |= behind.iter().any(|byte| *byte != 0);
            if let Some(header) = find_drain(&from, &self.window.view(self.data_end)) {
                return Ok(Some(header));
            }
            let next = align_up(self.window.end().max(from.position + 1));
            if next >= self.data_end || !self.load(next, 1).await? {
                return Ok(None);
            }
            from.position = next - 1;
        }
    }
}

#[cfg(test)]
mod tests;
