//! Reading batches: from the tail in memory, else from segments with read-ahead, each verified before it is served.

use std::rc::Rc;

use bytes::Bytes;
use heddle_proto::batch;
use heddle_proto::ids::Offset;

use super::Log;
use super::cursor::{self, Cursor};
use crate::codec::BLOCK_BYTES;
use crate::disk::{Disk, OpenMode};
use crate::error::{IoContext, ReadError, StorageError};
use crate::segment::Segment;
use crate::segment::index::{Index, IndexEntry};
use crate::segment::index_file;
use crate::segment::scan::{self, NextWindow, Window};
use crate::segment::walk::{Step, Walker};
use crate::store::stats::add;
use crate::types::Damage;

/// What one step of a read led to.
enum Advance {
    /// A batch, and whether the cursor may go on.
    Batch(Bytes),
    /// The next batch would exceed a bound; the cursor stands before it.
    Full,
    /// The segments hold no more; the rest is in memory.
    Caught,
    /// The segment was removed, with its records or because a compacted one took its place.
    Gone,
}

/// The bounds of one read.
#[derive(Copy, Clone)]
struct Bounds {
    from: Offset,
    upto: Offset,
    bytes_max: usize,
}

impl<D: Disk> Log<D> {
    /// Whole batches from memory only: the first holds `from`, all end at or below `upto`; at least one even if larger
    /// than `bytes_max`. `None` if the disk is needed or the offset cannot be served; [`Self::read`] tells which.
    pub fn read_cached(&self, from: Offset, upto: Offset, bytes_max: usize) -> Option<Vec<Bytes>> {
        let upto = self.servable(from, upto).ok()?;
        let found =
            if from >= upto { Vec::new() } else { self.inner.tail.borrow().read(from, upto, bytes_max)? };
        add(&self.store.counters.cache_reads, 1);
        Some(found)
    }

    /// Whole batches: the first holds `from`, or the next offset that compaction has left, all end at or below `upto`; at
    /// least one even if larger than `bytes_max`, unless there is none. May return less than there is; read on after the
    /// last batch.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(&self, from: Offset, upto: Offset, bytes_max: usize) -> Result<Vec<Bytes>, ReadError> {
        let servable = self.servable(from, upto)?;
        if let Some(found) = self.read_cached(from, servable, bytes_max) {
            return Ok(found);
        }
        add(&self.store.counters.disk_reads, 1);
        let bounds = Bounds { from, upto: servable, bytes_max };
        match self.read_segments(bounds).await {
            Err(ReadError::Storage(error)) => Err(self.explain(from, error)),
            other => other,
        }
    }

    /// Checks that `from` may be read, and returns up to where.
    fn servable(&self, from: Offset, upto: Offset) -> Result<Offset, ReadError> {
        let positions = self.inner.positions();
        if self.inner.deleted.get() {
            return Err(ReadError::Deleted);
        }
        if from < positions.start || from > positions.written {
            return Err(ReadError::OutOfRange { start: positions.start, end: positions.written });
        }
        match self.inner.damage() {
            Some(damage) if from >= damage.offset => Err(ReadError::Damaged(damage)),
            Some(damage) => Ok(upto.min(positions.written).min(damage.offset)),
            None => Ok(upto.min(positions.written)),
        }
    }

    /// A file may vanish under a reader because the log was deleted or its start moved.
    fn explain(&self, from: Offset, error: StorageError) -> ReadError {
        match self.servable(from, from) {
            Err(gone) => gone,
            Ok(_) => ReadError::Storage(error),
        }
    }

    async fn read_segments(&self, bounds: Bounds) -> Result<Vec<Bytes>, ReadError> {
        let mut cursor = match self.store.cursors.take(self.inner.id, bounds.from) {
            Some(cursor) => cursor,
            None => match self.open_cursor(bounds.from).await? {
                Some(cursor) => cursor,
                None => return Ok(Vec::new()),
            },
        };
        let (mut found, mut bytes, mut hole) = (Vec::new(), 0, None);
        loop {
            match self.advance(&mut cursor, bounds, bytes, &mut hole).await {
                Ok(Advance::Batch(batch)) => {
                    bytes += batch.len();
                    found.push(batch);
                }
                Ok(Advance::Full | Advance::Caught) => break,
                Ok(Advance::Gone) if found.is_empty() => {
                    self.servable(bounds.from, bounds.upto)?;
                    match self.open_cursor(bounds.from).await? {
                        Some(fresh) => cursor = fresh,
                        None => return Ok(found),
                    }
                }
                Ok(Advance::Gone) => return Ok(found),
                // What was found before the damage is sound.
                Err(ReadError::Damaged(_)) if !found.is_empty() => return Ok(found),
                Err(error) => return Err(error),
            }
        }
        self.read_ahead(&mut cursor).await?;
        if cursor.cut_count == self.inner.cut_count.get() {
            self.store.cursors.put(cursor);
        }
        match hole {
            Some(hole) if found.is_empty() => Ok(self.read_behind(hole, bounds)),
            _ => Ok(found),
        }
    }

    /// Nothing is left in the segments from a hole on: what follows is in memory. If nothing does, the hole says so.
    fn read_behind(&self, (next, hole): (Offset, Bytes), bounds: Bounds) -> Vec<Bytes> {
        let behind = self.read_cached(next, bounds.upto, bounds.bytes_max);
        behind.filter(|found| !found.is_empty()).unwrap_or_else(|| vec![hole])
    }

    async fn open_cursor(&self, from: Offset) -> Result<Option<Cursor>, ReadError> {
        loop {
            let found =
                self.inner.segments.borrow().holding(from).map(|segment| (segment.base, segment.version));
            let Some((base, version)) = found else {
                let first = self.inner.segments.borrow().first().map(|segment| segment.base);
                let missing_below = first.unwrap_or(self.inner.drained());
                if from < missing_below {
                    return Err(self.damaged(from, from, 0));
                }
                return Ok(None);
            };
            let entry = self.with_index(base, version, |index| index.floor(from).copied()).await?;
            self.servable(from, from)?; // building the index may have found damage
            let Some(entry) = entry else { continue };
            let walker = match entry {
                Some(IndexEntry { offset, position, epoch, .. }) => {
                    Walker::at_batch(self.inner.owner, base, position, offset, epoch)
                }
                None => Walker::at_drain(self.inner.owner, base, 0, base),
            };
            let ahead_bytes = self.store.options.read_ahead_bytes_min;
            let (log, window, cut_count) = (self.inner.id, Window::default(), self.inner.cut_count.get());
            return Ok(Some(Cursor { log, version, cut_count, walker, window, ahead_bytes, next: None }));
        }
    }

    /// Goes to the next batch that holds something. Holes on the way are passed over; the last one is remembered.
    async fn advance(
        &self,
        cursor: &mut Cursor,
        bounds: Bounds,
        taken: usize,
        hole: &mut Option<(Offset, Bytes)>,
    ) -> Result<Advance, ReadError> {
        loop {
            let Some((data_end, end)) = self.segment_end(cursor.walker.segment_base(), cursor.version) else {
                return Ok(Advance::Gone);
            };
            if cursor.cut_count != self.inner.cut_count.get() {
                return Ok(Advance::Gone);
            }
            let before = cursor.walker;
            let step = match before.expected < end {
                true => cursor.walker.step(&cursor.window.view(data_end)),
                false => Step::End,
            };
            match step {
                Step::Batch(header, range) => {
                    let too_large = taken > 0 && taken + range.len() > bounds.bytes_max;
                    if header.is_hole()
                        && header.base_offset < bounds.upto
                        && bounds.upto < header.next_offset()
                    {
                        let part = batch::hole(header.base_offset, bounds.upto, header.epoch);
                        *hole = Some((bounds.upto, part.freeze()));
                    }
                    if header.next_offset() > bounds.upto || too_large {
                        cursor.walker = before;
                        return Ok(Advance::Full);
                    }
                    if header.next_offset() <= bounds.from {
                        continue;
                    }
                    let batch = cursor.window.bytes.slice(range);
                    if !header.is_hole() {
                        return Ok(Advance::Batch(batch));
                    }
                    *hole = Some((header.next_offset(), batch));
                }
                // What is at hand goes out before more is read.
                Step::More(_) if taken > 0 => return Ok(Advance::Full),
                Step::More(bytes) => self.load(cursor, bytes, data_end, bounds).await?,
                Step::End => {
                    if !self.next_segment(cursor)? {
                        return Ok(Advance::Caught);
                    }
                }
                Step::Bad => {
                    let walker = cursor.walker;
                    return Err(self.damaged(walker.expected, walker.segment_base(), walker.position));
                }
            }
        }
    }

    /// Where the segment's data and its offsets end, if it is still there in this version.
    fn segment_end(&self, base: Offset, version: u32) -> Option<(u64, Offset)> {
        let segments = self.inner.segments.borrow();
        let segment = segments.get(base).filter(|segment| segment.version == version)?;
        Some((segment.data_bytes, segment.end))
    }

    async fn load(
        &self,
        cursor: &mut Cursor,
        bytes: usize,
        data_end: u64,
        bounds: Bounds,
    ) -> Result<(), ReadError> {
        let walker = cursor.walker;
        if self.take_next(cursor, bytes).await? {
            return Ok(());
        }
        let (base, version) = (walker.segment_base(), cursor.version);
        let Some(file) = self.segment_file(base, version).await? else { return Ok(()) };
        // A reader that asks for much at once gets it; one that reads on gets more each time.
        let options = &self.store.options;
        let asked = bounds.bytes_max.min(options.read_ahead_bytes_max);
        let is_full = self.store.cursors.is_full();
        let ahead = cursor.ahead_bytes.max(options.read_ahead_bytes_min);
        let wanted = if is_full { asked } else { asked.max(ahead) };
        let memory = Some(self.store.cursors.memory());
        let window = Window::load(&*file, options, memory, walker.position, bytes, wanted, data_end);
        cursor.window = window.await.map_err(|error| self.storage_error("read a segment of", error))?;
        add(&self.store.counters.disk_read_bytes, cursor.window.bytes.len() as u64);
        cursor.ahead_bytes = (wanted * 2).min(options.read_ahead_bytes_max);
        let is_short = cursor.window.end() < walker.position + bytes as u64;
        if is_short && self.inner.has_segment(base, version) {
            return Err(self.damaged(walker.expected, base, walker.position)); // the file was cut
        }
        Ok(())
    }

    /// Uses the window read ahead, if it brings at least `bytes` from the cursor's position on.
    async fn take_next(&self, cursor: &mut Cursor, bytes: usize) -> Result<bool, ReadError> {
        let Some(next) = cursor.next.take() else { return Ok(false) };
        let next = next.await.map_err(|error| self.storage_error("read a segment of", error))?;
        let position = cursor.walker.position;
        let Some(window) = next.follow(&cursor.window, position) else { return Ok(false) };
        add(&self.store.counters.disk_read_bytes, window.bytes_behind(cursor.window.end()) as u64);
        cursor.window = window;
        Ok(cursor.window.bytes_behind(position) >= bytes)
    }

    /// Starts to read the next window of a reader that has used half of its present one, or has begun with it after many
    /// others, so that the disk works while the consumer does.
    async fn read_ahead(&self, cursor: &mut Cursor) -> Result<(), ReadError> {
        let left = cursor.window.bytes_behind(cursor.walker.position);
        let base = cursor.walker.segment_base();
        let Some((data_end, _)) = self.segment_end(base, cursor.version) else { return Ok(()) };
        let (start, options) = (cursor.window.end(), &self.store.options);
        // A reader that has read on for long keeps the disk busy all the time.
        let is_steady = cursor.ahead_bytes == options.read_ahead_bytes_max;
        let is_due = is_steady || left <= cursor.window.bytes.len() / 2;
        let is_wanted = cursor.next.is_none() && left > 0 && is_due;
        if !is_wanted
            || self.store.cursors.is_full()
            || start >= data_end
            || !start.is_multiple_of(BLOCK_BYTES as u64)
        {
            return Ok(());
        }
        let Some(file) = self.segment_file(base, cursor.version).await? else { return Ok(()) };
        let io = (options.background_io_bytes_max, options.read_ios_in_flight_max);
        let (memory, room) = (self.store.cursors.memory().clone(), left + BLOCK_BYTES);
        let next = NextWindow::load(file, io, memory, start, room, cursor.ahead_bytes, data_end);
        cursor.next = Some(cursor::start(Box::pin(next)));
        cursor.ahead_bytes = (cursor.ahead_bytes * 2).min(options.read_ahead_bytes_max);
        Ok(())
    }

    /// At the end of a segment: `false` if everything drained has been read.
    fn next_segment(&self, cursor: &mut Cursor) -> Result<bool, ReadError> {
        let walker = cursor.walker;
        let next =
            self.inner.segments.borrow().after(walker.segment_base()).map(|next| (next.base, next.version));
        let whole_to = next.map_or(self.inner.drained(), |(base, _)| base);
        if walker.expected < whole_to {
            return Err(self.damaged(walker.expected, walker.segment_base(), walker.position));
        }
        let Some((base, version)) = next else { return Ok(false) };
        cursor.version = version;
        cursor.walker = Walker::at_drain(self.inner.owner, base, 0, base);
        cursor.window = Window::default();
        cursor.next = None;
        Ok(true)
    }

    /// Notes damage. Reports it only if nothing else explains it: the log may have been cut from below meanwhile.
    pub(super) fn damaged(&self, offset: Offset, base: Offset, position: u64) -> ReadError {
        if self.inner.deleted.get() {
            return ReadError::Deleted;
        }
        let positions = self.inner.positions();
        if self.inner.segments.borrow().get(base).is_none() && base < positions.start {
            return ReadError::OutOfRange { start: positions.start, end: positions.written };
        }
        if offset >= positions.written && self.inner.cut_count.get() > 0 {
            return ReadError::OutOfRange { start: positions.start, end: positions.written };
        }
        // A reader of the first readable record walks over those before it in the same batch or block.
        let offset = offset.max(positions.start);
        let damage = Damage { offset, file: self.store.segment_path(&self.inner, base), position };
        self.store.note_damage(&self.inner, damage.clone());
        ReadError::Damaged(damage)
    }

    /// The open file of a segment; `None` if the segment is not there any more in this version.
    pub(super) async fn segment_file(
        &self,
        base: Offset,
        version: u32,
    ) -> Result<Option<Rc<D::File>>, ReadError> {
        let path = self.store.segment_path(&self.inner, base);
        let mode = OpenMode::EXISTING.dsync(self.store.options.segment_dsync);
        let key = (self.inner.id, base, version);
        if let Some(file) = self.store.segment_files.find(key) {
            return Ok(Some(file));
        }
        self.wait_swapped().await;
        if !self.inner.has_segment(base, version) {
            return Ok(None);
        }
        let opened = self.store.segment_files.get(&self.store.disk, key, &path, mode).await;
        if !self.inner.has_segment(base, version) {
            return Ok(None);
        }
        Ok(Some(opened.context("open", &path)?))
    }

    /// While a compacted segment takes its place, names of files may lead to old ones.
    async fn wait_swapped(&self) {
        if self.inner.swapping.get() {
            drop(self.inner.maintenance.acquire().await);
        }
    }

    /// Looks something up in a segment's index, which is loaded or rebuilt if need be. `None` if the segment is not there
    /// any more in this version.
    pub(super) async fn with_index<T>(
        &self,
        base: Offset,
        version: u32,
        look: impl Fn(&Index) -> T,
    ) -> Result<Option<T>, ReadError> {
        if let Some(found) = self.look_in_active(base, &look) {
            return Ok(Some(found));
        }
        let key = (self.inner.id, base, version);
        if let Some(index) = self.store.indexes.get(key) {
            return Ok(Some(look(&index)));
        }
        let Some(index) = self.load_index(base, version).await? else { return Ok(None) };
        if self.adopt_active_index(base, &index)
            && let Some(found) = self.look_in_active(base, &look)
        {
            return Ok(Some(found));
        }
        let found = look(&index);
        let is_about_it =
            |segment: &Segment| segment.sealed && segment.version == version && segment.end == index.end;
        if self.inner.segments.borrow().get(base).is_some_and(is_about_it) {
            self.store.indexes.insert(key, Rc::new(index));
        }
        Ok(Some(found))
    }

    fn look_in_active<T>(&self, base: Offset, look: &impl Fn(&Index) -> T) -> Option<T> {
        let segments = self.inner.segments.borrow();
        let segment = segments.get(base)?;
        segment.index.as_ref().filter(|_| segment.index_from == 0).map(look)
    }

    /// The part of the active segment's index from before the last start has been rebuilt: puts both together.
    fn adopt_active_index(&self, base: Offset, earlier: &Index) -> bool {
        let mut segments = self.inner.segments.borrow_mut();
        let Some(segment) = segments.get_mut(base) else { return false };
        let Some(index) = segment.index.as_mut().filter(|_| segment.index_from > 0) else { return false };
        let mut entries = earlier.entries.clone();
        entries.retain(|entry| entry.position < segment.index_from);
        entries.append(&mut index.entries);
        index.entries = entries;
        index.max_timestamp = index.max_timestamp.max(earlier.max_timestamp);
        index.markers.prepend(earlier.markers.clone());
        segment.index_from = 0;
        true
    }

    async fn load_index(&self, base: Offset, version: u32) -> Result<Option<Index>, ReadError> {
        self.wait_swapped().await;
        let Some((sealed, end, data_end)) = self.indexed_part(base, version) else { return Ok(None) };
        let path = self.store.index_path(&self.inner, base);
        if sealed {
            let stored = index_file::read(&self.store.disk, &path, base, end).await.context("read", &path)?;
            if !self.inner.has_segment(base, version) {
                return Ok(None);
            }
            if stored.is_some() {
                return Ok(stored);
            }
        }
        let Some(file) = self.segment_file(base, version).await? else { return Ok(None) };
        let walker = Walker::at_drain(self.inner.owner, base, 0, base);
        let scan = scan::scan(&*file, &self.store.options, walker, data_end);
        let scan = scan.await.map_err(|error| self.storage_error("scan a segment of", error))?;
        if !self.inner.has_segment(base, version) {
            return Ok(None);
        }
        let short = scan.end < end;
        let broken =
            scan.middle.or(scan.tail.filter(|_| short)).map(|broken| (broken.offset, broken.position));
        if let Some((offset, position)) = broken.or(short.then_some((scan.end, scan.position))) {
            // What lies before the damage is still found and served.
            drop(self.damaged(offset, base, position));
            return Ok(Some(scan.index));
        }
        if sealed {
            self.store_index(base, version, &scan.index, &path).await;
        }
        Ok(Some(scan.index))
    }

    /// Whether a segment is closed, its end, and where the part ends of which there is no index in memory.
    fn indexed_part(&self, base: Offset, version: u32) -> Option<(bool, Offset, u64)> {
        let segments = self.inner.segments.borrow();
        let segment = segments.get(base).filter(|segment| segment.version == version)?;
        if segment.sealed {
            return Some((true, segment.end, segment.data_bytes));
        }
        let known_end =
            segment.index.as_ref().and_then(|index| index.entries.first()).map(|entry| entry.offset);
        Some((false, known_end.unwrap_or(segment.end), segment.index_from))
    }

    /// Writes a rebuilt index, unless a compacted segment has taken the place of the one it is about.
    async fn store_index(&self, base: Offset, version: u32, index: &Index, path: &std::path::Path) {
        let _guard = self.inner.maintenance.acquire().await;
        if !self.inner.has_segment(base, version) {
            return;
        }
        self.store.write_index(&self.inner, path, index).await;
    }

    pub(super) async fn read_at_most_one(&self, from: Offset) -> Result<Option<Bytes>, ReadError> {
        let upto = self.inner.positions().written;
        Ok(self.read(from, upto, 1).await?.into_iter().next())
    }
}
