//! The bytes of one WAL frame: a header, a table of entries, their payloads, and a second copy of table and header.
//!
//! The second copy ends where the frame ends, so that damage in one place never hides what a frame held. Batches are
//! protected by their own CRC and by the table (offset, epoch, length, that CRC); other payloads by a CRC in the table.

use bytes::Bytes;
use heddle_proto::batch;
use heddle_proto::crc::{Crc32c, crc32c};
use heddle_proto::ids::{Epoch, Offset, PartitionIndex, TopicId, TopicPartition};

use crate::codec::{BLOCK_BYTES, Reader, Writer, align_up};

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 80;
/// Bytes of one table entry.
pub const ENTRY_BYTES: usize = 48;
/// The offset count of a state record that says that the partition is gone.
pub(crate) const DELETED: u32 = 1;
/// And of one that says that its files are gone, too: what comes behind is of a partition that was made again.
pub(crate) const DELETION_OVER: u32 = 2;
/// A state record without its snapshot is never longer than this.
pub(crate) const STATE_BYTES_MAX: usize = 128;

const MAGIC: [u8; 8] = *b"HDLwal\xff\x01";
const CRC_AT: usize = HEADER_BYTES - 8;
/// Frames are at most one I/O; anything larger is not a frame.
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 20;

/// What an entry's payload is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// One RecordBatch.
    Batch,
    /// One partition's state record.
    State,
    /// One partition's log ends here, whatever was said before. The payload is the state record that holds from now on.
    Cut,
}

impl EntryKind {
    fn code(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::State => 2,
            Self::Cut => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Batch),
            2 => Some(Self::State),
            3 => Some(Self::Cut),
            _ => None,
        }
    }
}

/// One line of a frame's table.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What the payload is.
    pub kind: EntryKind,
    /// Whose it is.
    pub partition: TopicPartition,
    /// First offset of a batch; for a state record the start of the log, so that deleted records stay deleted even if
    /// the record itself is damaged; for a cut where the log ends.
    pub base: Offset,
    /// How many offsets a batch takes; for a state record 1 if it says that the partition is gone, 2 if its files are gone
    /// as well, else 0; for a cut 1 if the log begins there too, else 0.
    pub offset_count: u32,
    /// Epoch of a batch.
    pub epoch: Epoch,
    /// Length of the payload.
    pub payload_bytes: u32,
    /// CRC32C of the payload; for a batch the CRC that it carries. Without that here, a write torn between a batch's offset and
    /// its CRC would join the offset to an older batch of the same place.
    pub payload_crc: u32,
}

impl Entry {
    /// The offset after the batch.
    pub fn next(&self) -> Offset {
        Offset::new(self.base.get().saturating_add(i64::from(self.offset_count)))
    }

    fn write(&self, out: &mut Writer) {
        out.u8(self.kind.code()).put(&[0; 3]).u32(self.partition.partition.get());
        out.put(self.partition.topic.as_bytes()).i64(self.base.get()).i32(self.epoch.get());
        out.u32(self.payload_bytes).u32(self.payload_crc).u32(self.offset_count);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let kind = EntryKind::from_code(from.u8()?)?;
        from.bytes(3)?;
        let partition = PartitionIndex::new(from.u32()?);
        let topic = TopicId::from_bytes(from.array()?);
        let entry = Self {
            kind,
            partition: TopicPartition { topic, partition },
            base: Offset::new(from.i64()?),
            epoch: Epoch::new(from.i32()?),
            payload_bytes: from.u32()?,
            payload_crc: from.u32()?,
            offset_count: from.u32()?,
        };
        (entry.base.get() >= 0).then_some(entry)
    }

    /// Whether `payload` is what was written: for a batch also that its unprotected fields agree with the table.
    pub fn matches(&self, payload: &[u8]) -> bool {
        if payload.len() != self.payload_bytes as usize {
            return false;
        }
        match self.kind {
            EntryKind::State | EntryKind::Cut => crc32c(payload) == self.payload_crc,
            EntryKind::Batch => batch::verify_stored(payload).is_ok_and(|header| {
                header.crc == self.payload_crc
                    && header.base_offset == self.base
                    && header.epoch == self.epoch
                    && header.next_offset() == self.next()
            }),
        }
    }
}

/// The fixed part of a frame.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// Whose WAL this is.
    pub core: u16,
    /// Use of the file; also in its name. A frame of an earlier use never counts.
    pub generation: u64,
    /// Unguessable name of one run of the store.
    pub incarnation: u64,
    /// Number of the frame within the incarnation, from 1, without gaps.
    pub sequence: u64,
    /// When this frame was built, this one and all before it were on stable storage.
    pub durable_sequence: u64,
    /// Frames below this one are no longer needed and may be gone.
    pub released_sequence: u64,
    /// Where in the file the frame begins.
    pub position: u64,
    /// Length of the frame with padding and both tables.
    pub frame_bytes: u32,
    /// Sum of the payload lengths.
    pub payload_bytes: u32,
    /// Lines in the table.
    pub entry_count: u32,
}

impl FrameHeader {
    fn write(&self, crc: u32, out: &mut Writer) {
        out.put(&MAGIC)
            .u16(self.core)
            .u16(0)
            .u32(self.entry_count)
            .u32(self.frame_bytes)
            .u32(self.payload_bytes);
        out.u64(self.generation).u64(self.incarnation).u64(self.sequence).u64(self.durable_sequence);
        out.u64(self.released_sequence).u64(self.position).u32(crc).u32(0);
    }

    fn read(bytes: &[u8]) -> Option<(Self, u32)> {
        let mut from = Reader::new(bytes);
        if from.array()? != MAGIC {
            return None;
        }
        let core = from.u16()?;
        let mut reserved = u32::from(from.u16()?);
        let (entry_count, frame_bytes, payload_bytes) = (from.u32()?, from.u32()?, from.u32()?);
        let header = Self {
            core,
            entry_count,
            frame_bytes,
            payload_bytes,
            generation: from.u64()?,
            incarnation: from.u64()?,
            sequence: from.u64()?,
            durable_sequence: from.u64()?,
            released_sequence: from.u64()?,
            position: from.u64()?,
        };
        let crc = from.u32()?;
        reserved |= from.u32()?;
        (reserved == 0 && header.is_plausible()).then_some((header, crc))
    }

    fn is_plausible(&self) -> bool {
        let frame_bytes = self.frame_bytes as usize;
        let table_bytes = (self.entry_count as usize).checked_mul(ENTRY_BYTES);
        frame_bytes <= FRAME_BYTES_MAX
            && frame_bytes.is_multiple_of(BLOCK_BYTES)
            && self.sequence > self.durable_sequence
            && table_bytes.is_some_and(|table| {
                2 * (HEADER_BYTES + table) + self.payload_bytes as usize <= frame_bytes
                    && table <= FRAME_BYTES_MAX
            })
    }

    fn table_bytes(&self) -> usize {
        self.entry_count as usize * ENTRY_BYTES
    }
}

/// Length of a frame with `entry_count` entries and `payload_bytes` of payload.
pub const fn frame_bytes(entry_count: usize, payload_bytes: usize) -> usize {
    align_up((2 * (HEADER_BYTES + entry_count * ENTRY_BYTES) + payload_bytes) as u64) as usize
}

fn checksum(header: &FrameHeader, table: &[u8]) -> u32 {
    let mut bytes = Writer::with_capacity(HEADER_BYTES);
    header.write(0, &mut bytes);
    let mut crc = Crc32c::new();
    crc.update(bytes.as_slice());
    crc.update(table);
    crc.value()
}

/// Writes a frame into `out`, which is exactly [`frame_bytes`] long. The header's lengths and count are filled in.
///
/// # Panics
/// If the lengths do not fit: the caller sized `out` from the same entries.
pub fn encode(header: FrameHeader, entries: &[(Entry, Bytes)], out: &mut [u8]) {
    let payload_bytes: usize = entries.iter().map(|(_, payload)| payload.len()).sum();
    assert_eq!(out.len(), frame_bytes(entries.len(), payload_bytes), "the buffer was sized for this frame");
    let header = FrameHeader {
        frame_bytes: out.len() as u32,
        payload_bytes: payload_bytes as u32,
        entry_count: entries.len() as u32,
        ..header
    };
    let mut table = Writer::with_capacity(entries.len() * ENTRY_BYTES);
    entries.iter().for_each(|(entry, _)| entry.write(&mut table));
    let crc = checksum(&header, table.as_slice());
    let mut head = Writer::with_capacity(HEADER_BYTES);
    header.write(crc, &mut head);
    place(out, head.as_slice(), table.as_slice(), entries);
}

fn place(out: &mut [u8], head: &[u8], table: &[u8], entries: &[(Entry, Bytes)]) {
    let mut at = 0;
    let payloads = entries.iter().map(|(_, payload)| payload.as_ref());
    for piece in [head, table].into_iter().chain(payloads) {
        out[at..at + piece.len()].copy_from_slice(piece);
        at += piece.len();
    }
    let footer = out.len() - head.len() - table.len();
    out[at..footer].fill(0);
    out[footer..footer + table.len()].copy_from_slice(table);
    out[footer + table.len()..].copy_from_slice(head);
}

/// Reads header and table of the frame that begins at the front of `bytes`; payloads are not checked.
pub fn decode(bytes: &[u8]) -> Option<(FrameHeader, Vec<Entry>)> {
    let (header, crc) = FrameHeader::read(bytes)?;
    let table = bytes.get(HEADER_BYTES..HEADER_BYTES + header.table_bytes())?;
    decode_table(header, crc, table)
}

/// Reads header and table of the frame that ends at the end of `bytes` from its second copy.
pub fn decode_back(bytes: &[u8]) -> Option<(FrameHeader, Vec<Entry>)> {
    let header_at = bytes.len().checked_sub(HEADER_BYTES)?;
    let (header, crc) = FrameHeader::read(&bytes[header_at..])?;
    let table = bytes.get(header_at.checked_sub(header.table_bytes())?..header_at)?;
    decode_table(header, crc, table)
}

fn decode_table(header: FrameHeader, crc: u32, table: &[u8]) -> Option<(FrameHeader, Vec<Entry>)> {
    if checksum(&header, table) != crc {
        return None;
    }
    let mut from = Reader::new(table);
    let mut entries = Vec::with_capacity(header.entry_count as usize);
    while !from.is_empty() {
        entries.push(Entry::read(&mut from)?);
    }
    let payload_bytes: u64 = entries.iter().map(|entry| u64::from(entry.payload_bytes)).sum();
    (payload_bytes == u64::from(header.payload_bytes)).then_some((header, entries))
}

/// The payloads of a frame in table order. `frame` is the whole frame.
pub fn payloads<'a>(frame: &'a [u8], entries: &'a [Entry]) -> impl Iterator<Item = (Entry, &'a [u8])> {
    let mut at = HEADER_BYTES + entries.len() * ENTRY_BYTES;
    entries.iter().map(move |entry| {
        let start = at;
        at += entry.payload_bytes as usize;
        (*entry, frame.get(start..at).unwrap_or_default())
    })
}

const _: () = assert!(CRC_AT + 8 == HEADER_BYTES);
const _: () = assert!(frame_bytes(0, 0) == BLOCK_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            core: 3,
            generation: 7,
            incarnation: 0xdead_beef,
            sequence: 12,
            durable_sequence: 10,
            released_sequence: 2,
            position: 8192,
            frame_bytes: 0,
            payload_bytes: 0,
            entry_count: 0,
        }
    }

    fn entry(payload: &[u8]) -> Entry {
        Entry {
            kind: EntryKind::State,
            partition: TopicPartition::new(TopicId::new([9; 16]), PartitionIndex::new(4)),
            base: Offset::new(100),
            offset_count: 0,
            epoch: Epoch::new(2),
            payload_bytes: payload.len() as u32,
            payload_crc: crc32c(payload),
        }
    }

    fn frame(payloads: &[&'static [u8]]) -> Vec<u8> {
        let entries: Vec<_> =
            payloads.iter().map(|payload| (entry(payload), Bytes::from_static(payload))).collect();
        let bytes: usize = payloads.iter().map(|payload| payload.len()).sum();
        let mut out = vec![0xff; frame_bytes(payloads.len(), bytes)];
        encode(header(), &entries, &mut out);
        out
    }

    #[test]
    fn a_frame_reads_back_from_either_end() {
        let frame = frame(&[b"one", b"", b"three"]);
        let (front, entries) = decode(&frame).unwrap();
        assert_eq!(decode_back(&frame).unwrap(), (front, entries.clone()));
        assert_eq!(FrameHeader { frame_bytes: 0, payload_bytes: 0, entry_count: 0, ..front }, header());
        let read: Vec<_> =
            payloads(&frame, &entries).map(|(entry, payload)| (entry.matches(payload), payload)).collect();
        assert_eq!(read, [(true, b"one".as_slice()), (true, b""), (true, b"three")]);
    }

    #[test]
    fn a_frame_without_entries_is_one_block() {
        let frame = frame(&[]);
        assert_eq!(frame.len(), BLOCK_BYTES);
        assert!(decode(&frame).unwrap().1.is_empty());
    }

    #[test]
    fn any_flipped_bit_of_header_or_table_is_noticed_and_the_other_copy_remains() {
        let good = frame(&[b"one", b"two"]);
        for bit in 0..(HEADER_BYTES + 2 * ENTRY_BYTES) * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad).map(|_| bit), None);
            assert!(decode_back(&bad).is_some());
        }
    }
}
