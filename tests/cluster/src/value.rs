//! The bytes of a record's value: who wrote it, its number, its partition, and noise that follows from these.

use heddle_tests::records::noise;

use crate::history::RecordId;

/// Shortest value: the header alone.
pub const VALUE_BYTES_MIN: usize = 16;

/// The value of a record.
///
/// # Panics
/// If it is to be shorter than its header.
pub fn encode(id: RecordId, partition: u32, value_bytes: usize) -> Vec<u8> {
    assert!(value_bytes >= VALUE_BYTES_MIN, "no room for the header in {value_bytes} bytes");
    let mut value = Vec::with_capacity(value_bytes);
    value.extend_from_slice(&id.writer.to_be_bytes());
    value.extend_from_slice(&partition.to_be_bytes());
    value.extend_from_slice(&id.sequence.to_be_bytes());
    value.extend(noise(seed_of(id), value_bytes - VALUE_BYTES_MIN));
    value
}

/// The record a value is of, if the value is what its writer wrote to this partition.
pub fn decode(value: &[u8], partition: u32) -> Option<RecordId> {
    let (writer, rest) = value.split_first_chunk()?;
    let (written_to, rest) = rest.split_first_chunk()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let id = RecordId { writer: u32::from_be_bytes(*writer), sequence: u64::from_be_bytes(*sequence) };
    let right = u32::from_be_bytes(*written_to) == partition && rest == noise(seed_of(id), rest.len());
    right.then_some(id)
}

fn seed_of(id: RecordId) -> u64 {
    (u64::from(id.writer) << 40) ^ (id.sequence << 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_again_and_no_other() {
        let id = RecordId { writer: 7, sequence: 99 };
        let value = encode(id, 3, 200);
        assert_eq!(value.len(), 200);
        assert_eq!(decode(&value, 3), Some(id));
        assert_eq!(decode(&value, 4), None, "another partition");
        assert_eq!(decode(&value[..10], 3), None, "too short");
        for byte in 0..value.len() {
            let mut harmed = value.clone();
            harmed[byte] ^= 4;
            assert_ne!(decode(&harmed, 3), Some(id), "byte {byte}");
        }
    }
}
