//! The position in a segment from which an offset is found.

use std::cell::Cell;

use heddle_log_store::formats::{Index, IndexEntry};
use heddle_micro::{Case, Shape};
use heddle_proto::{Epoch, Offset, Timestamp};

/// Offsets from one entry to the next.
const STEP: i64 = 600;

/// A lookup among so many entries, each for so many bytes.
pub struct Floor {
    index: Index,
    random: Cell<u64>,
}

impl Case for Floor {
    type Input = Offset;
    type Output = (Offset, Option<IndexEntry>);

    fn new(shape: Shape) -> Self {
        let base = Offset::new(1 << 40);
        let mut index = Index::new(base);
        for step in 0..shape.item_count {
            let offset = base.plus(step as i64 * STEP);
            let entry = IndexEntry {
                offset,
                position: (step * shape.item_bytes) as u64,
                epoch: Epoch::new(1),
                max_timestamp: Timestamp::new(1_700_000_000_000 + step as i64),
            };
            index.add(entry, offset.plus(STEP), shape.item_bytes as u64);
        }
        assert_eq!(index.entries.len(), shape.item_count);
        Floor { index, random: Cell::new(1) }
    }

    fn input(&self) -> Offset {
        // Knuth's MMIX generator: the offsets are spread, and the same in every run.
        let next =
            self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random.set(next);
        let span = self.index.entries.len() as u64 * STEP as u64 + 1;
        self.index.base.plus((next >> 16).wrapping_rem(span) as i64 - 1) // at times before the first entry
    }

    fn run(&self, offset: Offset) -> Self::Output {
        (offset, self.index.floor(offset).copied())
    }

    fn check(&self, (offset, found): Self::Output) {
        let entries = self.index.entries.iter();
        assert_eq!(found.as_ref(), entries.take_while(|entry| entry.offset <= offset).last());
    }
}
