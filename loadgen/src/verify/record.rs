//! The value of a record that can be recognised: who sent it, to which partition, as which of its records, and a checksum.

use heddle_proto::crc::crc32c;

/// Bytes before the filler; the smallest value.
pub const HEAD_BYTES: usize = 28;
const CHECKSUM: std::ops::Range<usize> = 24..28;

/// Who a record is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RecordId {
    /// The run of the verifier.
    pub run: u64,
    /// Index of the partition it was sent to.
    pub partition: u32,
    /// Who sent it.
    pub producer: u32,
    /// Which of this producer's records to this partition.
    pub sequence: u64,
}

impl RecordId {
    /// A value of `length` bytes (at least [`HEAD_BYTES`]) with filler that depends on the id.
    pub fn value(&self, length: usize) -> Vec<u8> {
        let mut value = vec![0; length.max(HEAD_BYTES)];
        value[0..8].copy_from_slice(&self.run.to_le_bytes());
        value[8..12].copy_from_slice(&self.partition.to_le_bytes());
        value[12..16].copy_from_slice(&self.producer.to_le_bytes());
        value[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        let seed =
            self.run ^ u64::from(self.producer) << 40 ^ u64::from(self.partition) << 48 ^ self.sequence;
        fastrand::Rng::with_seed(seed).fill(&mut value[HEAD_BYTES..]);
        let checksum = crc32c(&value);
        value[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        value
    }

    /// Reads a value; `None` when it is damaged or none of ours.
    pub fn read(value: &[u8]) -> Option<Self> {
        if value.len() < HEAD_BYTES {
            return None;
        }
        let mut copy = value.to_vec();
        let stated = u32::from_le_bytes(copy[CHECKSUM].try_into().ok()?);
        copy[CHECKSUM].fill(0);
        let u32_at = |at: usize| Some(u32::from_le_bytes(copy[at..at + 4].try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(copy[at..at + 8].try_into().ok()?));
        let id =
            Self { run: u64_at(0)?, partition: u32_at(8)?, producer: u32_at(12)?, sequence: u64_at(16)? };
        (crc32c(&copy) == stated).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_damaged_byte_is_noticed() {
        let id = RecordId { run: 99, partition: 3, producer: 7, sequence: 1 << 40 };
        for length in [0, HEAD_BYTES, 100] {
            let value = id.value(length);
            assert_eq!(value.len(), length.max(HEAD_BYTES));
            assert_eq!(RecordId::read(&value), Some(id));
            for at in 0..value.len() {
                let mut damaged = value.clone();
                damaged[at] ^= 0x10;
                assert_eq!(RecordId::read(&damaged), None, "byte {at}");
            }
        }
        assert_eq!(RecordId::read(&[0; HEAD_BYTES - 1]), None);
    }
}
