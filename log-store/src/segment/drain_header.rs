//! The 64 bytes in front of each drain in a segment: what follows, and that it belongs exactly here.
//!
//! A drain begins on a block boundary. Its header gives the first offset and the epoch of all its batches, which the
//! batches' own CRCs leave out, and its length, so that damage inside one drain does not hide the next.

use heddle_proto::crc::crc32c;
use heddle_proto::ids::{Epoch, Offset, TopicPartition};

use crate::codec::{Reader, Writer};

/// Length of the header.
pub const DRAIN_HEADER_BYTES: usize = 64;

/// Every byte has its top bit set, so that no batch can begin with it, at whatever distance from a block boundary:
/// read as a base offset it would be negative, and shifted into the length field the length would be.
pub(crate) const MAGIC: [u8; 8] = [0xe8, 0xc5, 0xe4, 0xf2, 0xe1, 0xe9, 0xee, 0x81];

const CRC_AT: usize = DRAIN_HEADER_BYTES - 4;

/// See the module.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct DrainHeader {
    /// Where in the file this header lies.
    pub position: u64,
    /// First offset of the segment, as in the file's name.
    pub segment_base: Offset,
    /// First offset of the drain.
    pub first: Offset,
    /// Offset after the drain's last batch.
    pub next: Offset,
    /// Epoch of every batch of the drain.
    pub epoch: Epoch,
    /// Bytes of batches that follow this header, without the padding after them.
    pub data_bytes: u32,
    /// Fingerprint of the partition.
    pub owner: u32,
    /// Written by compaction, which knew the newest record of each key up to this offset; zero if it was not.
    pub compacted_upto: Offset,
}

impl DrainHeader {
    /// The fingerprint of a partition, so that one partition's bytes are never taken for another's.
    pub fn owner_of(partition: TopicPartition) -> u32 {
        let mut bytes = Writer::with_capacity(20);
        bytes.put(partition.topic.as_bytes()).u32(partition.partition.get());
        crc32c(bytes.as_slice())
    }

    /// Where the batches end.
    pub fn data_end(&self) -> u64 {
        self.position + (DRAIN_HEADER_BYTES as u64) + u64::from(self.data_bytes)
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; DRAIN_HEADER_BYTES] {
        let mut out = Writer::with_capacity(DRAIN_HEADER_BYTES);
        out.put(&MAGIC)
            .u64(self.position)
            .i64(self.segment_base.get())
            .i64(self.first.get())
            .i64(self.next.get());
        out.i32(self.epoch.get()).u32(self.data_bytes).u32(self.owner).i64(self.compacted_upto.get());
        let crc = crc32c(out.as_slice());
        out.u32(crc);
        out.into_vec().try_into().expect("the fields add up to 64 bytes")
    }

    /// Reads a header; `None` if these bytes are not one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<DRAIN_HEADER_BYTES>()?;
        let mut from = Reader::new(bytes);
        if from.array()? != MAGIC {
            return None;
        }
        let header = Self {
            position: from.u64()?,
            segment_base: Offset::new(from.i64()?),
            first: Offset::new(from.i64()?),
            next: Offset::new(from.i64()?),
            epoch: Epoch::new(from.i32()?),
            data_bytes: from.u32()?,
            owner: from.u32()?,
            compacted_upto: Offset::new(from.i64()?),
        };
        let intact = crc32c(&bytes[..CRC_AT]) == from.u32()?;
        let ordered = header.segment_base <= header.first && header.first <= header.next;
        (intact && ordered && header.compacted_upto >= Offset::ZERO).then_some(header)
    }

    /// Whether the header belongs to this place.
    pub(crate) fn belongs(&self, owner: u32, segment_base: Offset, position: u64) -> bool {
        self.owner == owner && self.segment_base == segment_base && self.position == position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_round_trips_and_notices_every_flipped_bit() {
        let header = DrainHeader {
            position: 8192,
            segment_base: Offset::new(100),
            first: Offset::new(150),
            next: Offset::new(170),
            epoch: Epoch::new(3),
            data_bytes: 5000,
            owner: 0x1234_5678,
            compacted_upto: Offset::new(160),
        };
        let encoded = header.encode();
        assert_eq!(DrainHeader::decode(&encoded), Some(header));
        for bit in 0..encoded.len() * 8 {
            let mut bad = encoded;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(DrainHeader::decode(&bad), None, "bit {bit}");
        }
    }
}
