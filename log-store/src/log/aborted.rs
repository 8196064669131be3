//! Which aborted transactions reach into a stretch of the log: from the markers in memory and the segments' indexes.

use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::Offset;

use super::Log;
use super::inner::LogInner;
use crate::disk::Disk;
use crate::error::ReadError;
use crate::segment::index::Index;
use crate::segment::markers::{Aborted, PlacedMarker};

impl<D: Disk> Log<D> {
    /// The aborted transactions with records in `from..upto`, by their first offset. Complete only if no transaction that
    /// is open now, or whose marker is not written, has a record below `upto`.
    ///
    /// # Errors
    /// As [`Self::read`], where an index must be read or rebuilt.
    pub async fn aborted(&self, from: Offset, upto: Offset) -> Result<Vec<Aborted>, ReadError> {
        'again: loop {
            // Memory first: a marker that is drained meanwhile is then seen twice, and never missed.
            let mut found = self.inner.aborted_undrained(from, upto);
            for (base, version) in self.versions_behind(from) {
                let look = |index: &Index| {
                    let overlapping: Vec<Aborted> = index.markers.overlapping(from, upto).collect();
                    (overlapping, index.markers.stable)
                };
                let Some((overlapping, stable)) = self.with_index(base, version, look).await? else {
                    if base < self.inner.positions().start {
                        continue; // removed, so its records are not wanted any more
                    }
                    continue 'again; // a compacted segment took its place
                };
                found.extend(overlapping);
                if stable.is_some_and(|stable| stable >= upto) {
                    break;
                }
            }
            found.sort_unstable_by_key(|aborted| (aborted.first, aborted.marker));
            found.dedup();
            return Ok(found);
        }
    }

    fn versions_behind(&self, from: Offset) -> Vec<(Offset, u32)> {
        let segments = self.inner.segments.borrow();
        let behind = segments.iter().filter(|segment| segment.end > from);
        behind.map(|segment| (segment.base, segment.version)).collect()
    }
}

impl LogInner {
    /// Notes a batch in memory if it is a marker.
    pub(crate) fn note_marker(&self, batch: &[u8], header: &BatchHeader) {
        if let Some(placed) = PlacedMarker::of(header, batch) {
            self.markers.borrow_mut().push_back(placed);
        }
    }

    fn aborted_undrained(&self, from: Offset, upto: Offset) -> Vec<Aborted> {
        let markers = self.markers.borrow();
        let skip = markers.partition_point(|placed| placed.offset < from);
        let aborted = markers.range(skip..).filter_map(PlacedMarker::aborted);
        aborted.filter(|aborted| aborted.first < upto).collect()
    }
}
