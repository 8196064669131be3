//! The sparse index of one segment: every so many bytes an offset, its position, its epoch and the newest timestamp up
//! to the next entry. One file serves lookups by offset and by time.

use heddle_proto::crc::crc32c;
use heddle_proto::ids::{Epoch, Offset, Timestamp};

use super::markers::{ABORTED_BYTES, Markers};
use crate::codec::{Reader, Writer};

const MAGIC: [u8; 8] = *b"HDLidx\xff\x02";
const HEADER_BYTES: usize = 56;
const ENTRY_BYTES: usize = 28;
const STABLE_BYTES: usize = 8;
const CRC_BYTES: usize = 4;

/// Memory of one entry, for the cache's budget.
pub(crate) const ENTRY_MEMORY_BYTES: usize = std::mem::size_of::<IndexEntry>();

/// One step of the index.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct IndexEntry {
    /// First offset of the batch at `position`.
    pub offset: Offset,
    /// Where that batch begins in the segment.
    pub position: u64,
    /// Its epoch.
    pub epoch: Epoch,
    /// Largest timestamp of it and the batches up to the next entry.
    pub max_timestamp: Timestamp,
}

/// The index of a whole segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Index {
    /// First offset of the segment.
    pub base: Offset,
    /// Offset after the segment's last batch.
    pub end: Offset,
    /// Where the segment's data ends.
    pub data_bytes: u64,
    /// Largest timestamp in the segment.
    pub max_timestamp: Timestamp,
    /// In offset order; the first is the segment's first batch.
    pub entries: Vec<IndexEntry>,
    /// The transaction markers in it.
    pub markers: Markers,
}

impl Index {
    /// An index without entries, to be filled by [`Self::add`].
    pub fn new(base: Offset) -> Self {
        Self {
            base,
            end: base,
            data_bytes: 0,
            max_timestamp: Timestamp::NONE,
            entries: Vec::new(),
            markers: Markers::default(),
        }
    }

    /// Notes a batch; it gets an entry of its own if the last one is `interval_bytes` back.
    pub fn add(&mut self, batch: IndexEntry, next: Offset, interval_bytes: u64) {
        self.end = next;
        self.max_timestamp = self.max_timestamp.max(batch.max_timestamp);
        match self.entries.last_mut() {
            Some(last) if batch.position < last.position + interval_bytes => {
                last.max_timestamp = last.max_timestamp.max(batch.max_timestamp);
            }
            _ => self.entries.push(batch),
        }
    }

    /// The last entry at or before `offset`.
    pub fn floor(&self, offset: Offset) -> Option<&IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        self.entries.get(after.checked_sub(1)?)
    }

    /// The first entry whose span holds a timestamp of at least `timestamp`.
    pub fn first_at_least(&self, timestamp: Timestamp) -> Option<&IndexEntry> {
        self.entries.iter().find(|entry| entry.max_timestamp >= timestamp)
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let table_bytes = self.entries.len() * ENTRY_BYTES + self.markers.aborted.len() * ABORTED_BYTES;
        let mut out = Writer::with_capacity(HEADER_BYTES + table_bytes + STABLE_BYTES + CRC_BYTES);
        out.put(&MAGIC).i64(self.base.get()).i64(self.end.get()).u64(self.data_bytes);
        out.i64(self.max_timestamp.get()).u64(self.entries.len() as u64);
        out.u64(self.markers.aborted.len() as u64);
        for entry in &self.entries {
            out.i64(entry.offset.get())
                .u64(entry.position)
                .i32(entry.epoch.get())
                .i64(entry.max_timestamp.get());
        }
        self.markers.encode(&mut out);
        let crc = crc32c(out.as_slice());
        out.u32(crc);
        out.into_vec()
    }

    /// Reads a file that may be longer than its content; `None` if it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        if from.array()? != MAGIC {
            return None;
        }
        let (base, end) = (Offset::new(from.i64()?), Offset::new(from.i64()?));
        let (data_bytes, max_timestamp) = (from.u64()?, Timestamp::new(from.i64()?));
        let entry_count = usize::try_from(from.u64()?).ok()?;
        let aborted_count = usize::try_from(from.u64()?).ok()?;
        let table_bytes = entry_count.checked_mul(ENTRY_BYTES)?;
        let markers_bytes = aborted_count.checked_mul(ABORTED_BYTES)?.checked_add(STABLE_BYTES)?;
        let mut table = Reader::new(from.bytes(table_bytes)?);
        let markers = Reader::new(from.bytes(markers_bytes)?);
        let covered = HEADER_BYTES + table_bytes + markers_bytes;
        if crc32c(&bytes[..covered]) != from.u32()? {
            return None;
        }
        let mut entries = Vec::with_capacity(entry_count);
        while !table.is_empty() {
            entries.push(read_entry(&mut table)?);
        }
        let markers = Markers::decode(markers, aborted_count)?;
        Some(Self { base, end, data_bytes, max_timestamp, entries, markers }).filter(Self::is_ordered)
    }

    fn is_ordered(&self) -> bool {
        let grows =
            |pair: &[IndexEntry]| pair[0].offset < pair[1].offset && pair[0].position < pair[1].position;
        let ends_inside = |last: &IndexEntry| last.offset < self.end && last.position < self.data_bytes;
        self.base <= self.end
            && self.entries.windows(2).all(grows)
            && self.entries.last().is_none_or(ends_inside)
            && self.markers.is_ordered()
    }

    /// Memory it occupies.
    pub(crate) fn memory_bytes(&self) -> usize {
        std::mem::size_of::<Self>() + self.entries.len() * ENTRY_MEMORY_BYTES + self.markers.memory_bytes()
    }
}

fn read_entry(from: &mut Reader<'_>) -> Option<IndexEntry> {
    Some(IndexEntry {
        offset: Offset::new(from.i64()?),
        position: from.u64()?,
        epoch: Epoch::new(from.i32()?),
        max_timestamp: Timestamp::new(from.i64()?),
    })
}

#[cfg(test)]
mod tests {
    use heddle_proto::ids::ProducerId;

    use super::*;
    use crate::segment::markers::Aborted;

    fn index() -> Index {
        let mut index = Index::new(Offset::new(10));
        for step in 0..10u32 {
            let batch = IndexEntry {
                offset: Offset::new(10 + i64::from(step)),
                position: 64 + u64::from(step) * 100,
                epoch: Epoch::new(1),
                max_timestamp: Timestamp::new(1000 - i64::from(step % 3)),
            };
            index.add(batch, batch.offset.next(), 250);
        }
        index.data_bytes = 4096;
        index.markers = Markers {
            aborted: vec![
                Aborted { producer: ProducerId::new(7), first: Offset::new(3), marker: Offset::new(11) },
                Aborted { producer: ProducerId::new(8), first: Offset::new(12), marker: Offset::new(14) },
            ],
            stable: Some(Offset::new(15)),
        };
        index
    }

    #[test]
    fn entries_are_sparse_and_found_by_offset_and_time() {
        let index = index();
        assert_eq!(index.entries.len(), 4);
        assert_eq!(index.floor(Offset::new(12)).unwrap().offset, Offset::new(10));
        assert_eq!(index.floor(Offset::new(13)).unwrap().offset, Offset::new(13));
        assert_eq!(index.floor(Offset::new(9)), None);
        assert_eq!(index.first_at_least(Timestamp::new(1000)).unwrap().offset, Offset::new(10));
        assert_eq!(index.first_at_least(Timestamp::new(1001)), None);
    }

    #[test]
    fn a_file_round_trips_with_trailing_zeros_and_notices_every_flipped_bit() {
        let mut bytes = index().encode();
        let used = bytes.len();
        bytes.resize(4096, 0);
        assert_eq!(Index::decode(&bytes), Some(index()));
        for bit in 0..used * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Index::decode(&bad), None, "bit {bit}");
        }
    }
}
