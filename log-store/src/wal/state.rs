//! The state record of one partition: where its log starts, how far its segments reach, and the owner's snapshot.

use bytes::Bytes;
use heddle_proto::ids::{Offset, Timestamp};

use super::frame::STATE_BYTES_MAX;
use crate::codec::{Reader, Writer};
use crate::types::Cut;

const VERSION: u8 = 1;
const FLAG_DELETED: u8 = 1;
const NO_DAMAGE: i64 = -1;

/// What is known about a partition without looking at its batches. The record with the highest version counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionState {
    /// Counts the records of this partition over its whole life.
    pub version: u64,
    /// The partition is gone and everything about it must be forgotten.
    pub deleted: bool,
    /// First readable offset.
    pub start: Offset,
    /// First offset of the segment that was being filled.
    pub segment_base: Offset,
    /// Where in that segment the next drain begins; nothing below it may be missing.
    pub position: u64,
    /// Exclusive end of what the segments hold.
    pub drained: Offset,
    /// Largest record timestamp in that segment so far.
    pub segment_max_timestamp: Timestamp,
    /// From here on acknowledged records are known to be unreadable.
    pub damage: Option<Offset>,
    /// The snapshot reflects every batch below this offset and none above.
    pub snapshot_end: Offset,
    /// The owner's bytes.
    pub snapshot: Bytes,
}

impl PartitionState {
    /// The record's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(STATE_BYTES_MAX + self.snapshot.len());
        out.u8(VERSION).u8(u8::from(self.deleted) * FLAG_DELETED).u64(self.version);
        out.i64(self.start.get()).i64(self.segment_base.get()).u64(self.position).i64(self.drained.get());
        out.i64(self.segment_max_timestamp.get()).i64(self.damage.map_or(NO_DAMAGE, Offset::get));
        out.i64(self.snapshot_end.get()).u32(self.snapshot.len() as u32).put(&self.snapshot);
        Bytes::from(out.into_vec())
    }

    /// Reads a record; `None` if it is not one of this version or contradicts itself.
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let mut from = Reader::new(bytes);
        if from.u8()? != VERSION {
            return None;
        }
        let deleted = match from.u8()? {
            0 => false,
            FLAG_DELETED => true,
            _ => return None,
        };
        let state = Self {
            version: from.u64()?,
            deleted,
            start: Offset::new(from.i64()?),
            segment_base: Offset::new(from.i64()?),
            position: from.u64()?,
            drained: Offset::new(from.i64()?),
            segment_max_timestamp: Timestamp::new(from.i64()?),
            damage: damage(from.i64()?)?,
            snapshot_end: Offset::new(from.i64()?),
            snapshot: snapshot(&mut from, bytes)?,
        };
        (from.is_empty() && state.is_consistent()).then_some(state)
    }

    /// What is known after a cut whose own record is damaged, from what was known before: the owner's state is gone, and all
    /// segments are to be read again. `start_min` is the latest start that was told.
    pub(crate) fn of_damaged_cut(before: Option<Self>, start_min: Offset, cut: Cut) -> Self {
        let known = before.as_ref();
        let start = known.map_or(Offset::ZERO, |known| known.start).max(start_min);
        let begin = if cut.begins_anew { cut.to } else { Offset::ZERO };
        Self {
            version: known.map_or(0, |known| known.version) + 1,
            deleted: false,
            start: if cut.begins_anew { cut.to } else { start },
            segment_base: begin,
            position: 0,
            drained: begin,
            segment_max_timestamp: Timestamp::NONE,
            damage: known.and_then(|known| known.damage).filter(|damage| *damage < cut.kept_to()),
            snapshot_end: begin,
            snapshot: Bytes::new(),
        }
    }

    fn is_consistent(&self) -> bool {
        let offsets = [self.start, self.segment_base, self.drained, self.snapshot_end];
        offsets.iter().all(|offset| offset.get() >= 0) && self.segment_base <= self.drained
    }
}

fn damage(offset: i64) -> Option<Option<Offset>> {
    match offset {
        NO_DAMAGE => Some(None),
        0.. => Some(Some(Offset::new(offset))),
        _ => None,
    }
}

fn snapshot(from: &mut Reader<'_>, whole: &Bytes) -> Option<Bytes> {
    let bytes = from.u32()? as usize;
    from.bytes(bytes).map(|snapshot| whole.slice_ref(snapshot))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> PartitionState {
        PartitionState {
            version: 9,
            deleted: false,
            start: Offset::new(5),
            segment_base: Offset::new(100),
            position: 4096,
            drained: Offset::new(150),
            segment_max_timestamp: Timestamp::new(-1),
            damage: Some(Offset::new(120)),
            snapshot_end: Offset::new(160),
            snapshot: Bytes::from_static(b"owner"),
        }
    }

    #[test]
    fn a_record_round_trips_and_fits_its_limit() {
        let encoded = state().encode();
        assert!(encoded.len() - state().snapshot.len() <= STATE_BYTES_MAX);
        assert_eq!(PartitionState::decode(&encoded), Some(state()));
    }

    #[test]
    fn every_truncation_is_refused() {
        let encoded = state().encode();
        for bytes in 0..encoded.len() {
            assert_eq!(PartitionState::decode(&encoded.slice(..bytes)), None);
        }
    }
}
