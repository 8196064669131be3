//! What the generator writes at the head of each record's value: when it should have been sent, and by which run.

use crate::clock::Nanos;

/// Bytes a stamp takes; the smallest record a run can produce.
pub const STAMP_BYTES: usize = 16;

/// The head of a value, little endian: intended time (8), run (4), producer (4).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// When the record should have been sent.
    pub intended: Nanos,
    /// Tells records of this run from older ones in the same topic.
    pub run: u32,
    /// Index of the producer.
    pub producer: u32,
}

impl Stamp {
    /// Writes the stamp at the head of `value`.
    ///
    /// # Panics
    /// If `value` is shorter than [`STAMP_BYTES`].
    pub fn write(&self, value: &mut [u8]) {
        value[0..8].copy_from_slice(&self.intended.get().to_le_bytes());
        value[8..12].copy_from_slice(&self.run.to_le_bytes());
        value[12..16].copy_from_slice(&self.producer.to_le_bytes());
    }

    /// Reads the stamp at the head of `value`; `None` when it is too short to bear one.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (time, rest) = value.split_first_chunk::<8>()?;
        let (run, rest) = rest.split_first_chunk::<4>()?;
        let (producer, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            intended: Nanos::new(u64::from_le_bytes(*time)),
            run: u32::from_le_bytes(*run),
            producer: u32::from_le_bytes(*producer),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_short_values() {
        let stamp = Stamp { intended: Nanos::new(u64::MAX - 3), run: 7, producer: 15 };
        let mut value = [0xAA; 20];
        stamp.write(&mut value);
        assert_eq!(Stamp::read(&value), Some(stamp));
        assert_eq!(&value[STAMP_BYTES..], &[0xAA; 4]);
        assert_eq!(Stamp::read(&value[..STAMP_BYTES - 1]), None);
    }
}
