//! Finding offsets by time, record by record within the batch that the index points to.

use bytes::Bytes;
use heddle_proto::batch::{self, BatchHeader};
use heddle_proto::ids::{Offset, Timestamp};
use heddle_proto::limits::DECOMPRESSED_BYTES_MAX;

use super::Log;
use crate::disk::Disk;
use crate::error::ReadError;

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
        let bases: Vec<Offset> = self.inner.segments.borrow().iter().map(|segment| segment.base).collect();
        for (position, base) in bases.iter().enumerate() {
            let ends_before_start = bases.get(position + 1).is_some_and(|next| *next <= start);
            if ends_before_start || self.known_newest(*base).is_some_and(|newest| newest < timestamp) {
                continue;
            }
            let look = |index: &crate::segment::index::Index| {
                let entry = index.first_at_least(timestamp).map(|entry| entry.offset);
                (entry, index.max_timestamp)
            };
            let (entry, newest) = self.with_index(*base, look).await?;
            self.note_newest(*base, newest);
            if entry.is_some() {
                return Ok(entry);
            }
        }
        Ok(None)
    }

    fn known_newest(&self, base: Offset) -> Option<Timestamp> {
        self.inner.segments.borrow().get(base)?.max_timestamp
    }

    fn note_newest(&self, base: Offset, newest: Timestamp) {
        if let Some(segment) = self.inner.segments.borrow_mut().get_mut(base) {
            segment.max_timestamp = Some(segment.max_timestamp.map_or(newest, |known| known.max(newest)));
        }
    }

    /// Largest timestamp in a segment.
    pub(crate) async fn newest_in(&self, base: Offset) -> Result<Timestamp, ReadError> {
        if let Some(known) = self.known_newest(base) {
            return Ok(known);
        }
        let found = self.with_index(base, |index| index.max_timestamp).await?;
        self.note_newest(base, found);
        Ok(found)
    }

    /// Largest timestamp of any batch that may be readable.
    pub(super) async fn newest_timestamp(&self) -> Result<Option<Timestamp>, ReadError> {
        let positions = self.inner.positions();
        let mut newest: Option<Timestamp> = None;
        for batch in self.inner.tail.borrow().from(positions.start) {
            newest = newest.max(Some(batch.max_timestamp));
        }
        let bases: Vec<Offset> = self.inner.segments.borrow().iter().map(|segment| segment.base).collect();
        for base in bases {
            newest = newest.max(Some(self.newest_in(base).await?));
        }
        Ok(newest.filter(|_| positions.start < positions.written))
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
