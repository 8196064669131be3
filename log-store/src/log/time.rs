//! Finding offsets by time, record by record within the batch that the index points to.

use bytes::Bytes;
use heddle_proto::batch::{self, BatchHeader};
use heddle_proto::ids::{Offset, Timestamp};
use heddle_proto::limits::DECOMPRESSED_BYTES_MAX;

use super::Log;
use crate::disk::Disk;
use crate::error::ReadError;
use crate::segment::index::Index;

impl<D: Disk> Log<D> {
    /// The first readable record whose timestamp is at least `timestamp`, with its timestamp.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn offset_at(&self, timestamp: Timestamp) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let mut from = self.inner.positions().start;
        // What is drained while the indexes are searched may be missed there, and is looked at one by one.
        let drained = self.inner.drained();
        let candidate = self.first_candidate(timestamp, from).await?;
        from = from.max(candidate.unwrap_or(drained));
        while from < self.inner.positions().written {
            let Some(batch) = self.read_at_most_one(from).await? else { return Ok(None) };
            let Ok(header) = BatchHeader::parse(&batch) else { return Ok(None) };
            if header.max_timestamp >= timestamp
                && let Some(found) = first_record(&batch, &header, timestamp, self.inner.positions().start)
            {
                return Ok(Some(found));
            }
            from = header.next_offset();
        }
        Ok(None)
    }

    /// Where in the segments to begin looking: the first index entry whose span may hold the time.
    async fn first_candidate(
        &self,
        timestamp: Timestamp,
        start: Offset,
    ) -> Result<Option<Offset>, ReadError> {
        'again: loop {
            let segments = self.segment_versions();
            for (position, (base, version)) in segments.iter().copied().enumerate() {
                let ends_before_start = segments.get(position + 1).is_some_and(|(next, _)| *next <= start);
                if ends_before_start || self.known_newest(base).is_some_and(|newest| newest < timestamp) {
                    continue;
                }
                let look = |index: &Index| {
                    let entry = index.first_at_least(timestamp).map(|entry| entry.offset);
                    (entry, index.max_timestamp)
                };
                let Some((entry, newest)) = self.with_index(base, version, look).await? else {
                    if base < self.inner.positions().start {
                        continue; // removed, with its records
                    }
                    continue 'again; // a compacted segment took its place
                };
                self.note_newest(base, version, newest);
                if entry.is_some() {
                    return Ok(entry);
                }
            }
            return Ok(None);
        }
    }

    fn segment_versions(&self) -> Vec<(Offset, u32)> {
        self.inner.segments.borrow().iter().map(|segment| (segment.base, segment.version)).collect()
    }

    fn known_newest(&self, base: Offset) -> Option<Timestamp> {
        self.inner.segments.borrow().get(base)?.max_timestamp
    }

    fn note_newest(&self, base: Offset, version: u32, newest: Timestamp) {
        let mut segments = self.inner.segments.borrow_mut();
        if let Some(segment) = segments.get_mut(base).filter(|segment| segment.version == version) {
            segment.max_timestamp = Some(segment.max_timestamp.map_or(newest, |known| known.max(newest)));
        }
    }

    /// Looks something up in the index of a segment in whatever version it is; `None` if there is no such segment.
    async fn in_index<T>(
        &self,
        base: Offset,
        look: impl Fn(&Index) -> T,
    ) -> Result<Option<(T, u32)>, ReadError> {
        loop {
            let version = self.inner.segments.borrow().get(base).map(|segment| segment.version);
            let Some(version) = version else { return Ok(None) };
            if let Some(found) = self.with_index(base, version, &look).await? {
                return Ok(Some((found, version)));
            }
        }
    }

    /// Largest timestamp in a segment; none if it is not there any more.
    pub(crate) async fn newest_in(&self, base: Offset) -> Result<Timestamp, ReadError> {
        if let Some(known) = self.known_newest(base) {
            return Ok(known);
        }
        let Some((found, version)) = self.in_index(base, |index| index.max_timestamp).await? else {
            return Ok(Timestamp::NONE);
        };
        self.note_newest(base, version, found);
        Ok(found)
    }

    /// Largest timestamp of the first stretch of a segment that the index tells of.
    pub(crate) async fn first_timestamp_in(&self, base: Offset) -> Result<Option<Timestamp>, ReadError> {
        let first = |index: &Index| index.entries.first().map(|entry| entry.max_timestamp);
        Ok(self.in_index(base, first).await?.and_then(|(first, _)| first))
    }

    /// Largest timestamp of any batch that may be readable.
    pub(super) async fn newest_timestamp(&self) -> Result<Option<Timestamp>, ReadError> {
        loop {
            let positions = self.inner.positions();
            let mut newest: Option<Timestamp> = None;
            for batch in self.inner.tail.borrow().from(positions.start) {
                newest = newest.max(Some(batch.max_timestamp));
            }
            let segments = self.segment_versions();
            for (base, _) in &segments {
                newest = newest.max(Some(self.newest_in(*base).await?));
            }
            if self.inner.positions().start == positions.start && !self.was_compacted(&segments) {
                return Ok(newest.filter(|_| positions.start < positions.written));
            }
        }
    }

    /// Whether one of these segments is not there any more in this version.
    fn was_compacted(&self, segments: &[(Offset, u32)]) -> bool {
        segments.iter().any(|(base, version)| !self.inner.has_segment(*base, *version))
    }
}

/// The first record of the batch at or after `start` that is recent enough. If the records cannot be unpacked, the batch
/// counts as one record.
fn first_record(
    batch: &Bytes,
    header: &BatchHeader,
    timestamp: Timestamp,
    start: Offset,
) -> Option<(Offset, Timestamp)> {
    let Ok(records) = batch::records(batch, DECOMPRESSED_BYTES_MAX) else {
        return Some((header.base_offset.max(start), header.max_timestamp));
    };
    let mut records = records.map_while(Result::ok);
    let found = records.find(|record| record.timestamp >= timestamp && record.offset >= start)?;
    Some((found.offset, found.timestamp))
}
