//! Where the newest record of each key is: a table of fixed size, keyed by 128 bits of a hash of the key.
//!
//! Two keys of equal hash would be taken for one and a record lost, so the hash is SipHash under two keys that are drawn
//! for each table: among 2^32 keys the chance is below 2^-64, and nobody can prepare keys that meet.

use std::hash::{BuildHasher, RandomState};

use heddle_proto::ids::Offset;

/// The hash, and the offset plus one; a slot of zeros is empty. An array, so that a large table is taken from the kernel as
/// zeros instead of being filled.
type Slot = [u64; 3];

const EMPTY: Slot = [0; 3];

/// Memory of one key.
pub(crate) const SLOT_BYTES: usize = std::mem::size_of::<Slot>();

/// Fewer slots than this are not worth a pass.
const SLOTS_MIN: usize = 16;

/// See the module. Covers the log up to [`Self::end`].
pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    used_max: usize,
    hashers: [RandomState; 2],
    end: Offset,
}

impl OffsetMap {
    /// An empty table of at most `bytes_max` that covers nothing behind `end`.
    pub(crate) fn new(bytes_max: usize, end: Offset) -> Self {
        let slots = (bytes_max / SLOT_BYTES).max(SLOTS_MIN);
        Self {
            slots: vec![EMPTY; slots],
            used: 0,
            used_max: slots / 5 * 4, // fuller, and looking takes long
            hashers: [RandomState::new(), RandomState::new()],
            end,
        }
    }

    /// Notes that a record of `key` is at `offset`, which is above all noted before. `false` if there is no room for
    /// another key.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        let at = self.find(hash);
        if self.slots[at][2] == 0 {
            if self.used == self.used_max {
                return false;
            }
            self.used += 1;
        }
        self.slots[at] = [hash[0], hash[1], offset.get().unsigned_abs() + 1];
        true
    }

    /// The newest record of `key` that was noted.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<Offset> {
        let place = self.slots[self.find(self.hash(key))][2];
        let offset = i64::try_from(place.checked_sub(1)?).ok()?;
        Some(Offset::new(offset))
    }

    /// Exclusive end of what the table knows; records at and behind it are not judged by it.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    pub(crate) fn set_end(&mut self, end: Offset) {
        self.end = end;
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)]
    }

    /// The slot of `hash`, or the empty one where it would go. The table is never full, so there is one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let count = self.slots.len();
        let mut at = ((u128::from(hash[0]) * count as u128) >> 64) as usize;
        while self.slots[at][2] != 0 && self.slots[at][..2] != hash {
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_of_each_key_is_kept_until_the_table_is_full() {
        let mut map = OffsetMap::new(100 * SLOT_BYTES, Offset::ZERO);
        for round in 0..3i64 {
            for key in 0..80i64 {
                assert!(map.put(&key.to_le_bytes(), Offset::new(round * 80 + key)));
            }
        }
        assert!(!map.put(b"one too many", Offset::new(1000)));
        assert!(map.put(&5i64.to_le_bytes(), Offset::new(1001)), "a known key needs no room");
        for key in 0..80i64 {
            let expected = if key == 5 { 1001 } else { 160 + key };
            assert_eq!(map.newest(&key.to_le_bytes()), Some(Offset::new(expected)));
        }
        assert_eq!(map.newest(b"one too many"), None);
        assert_eq!(map.newest(b""), None);
    }
}
