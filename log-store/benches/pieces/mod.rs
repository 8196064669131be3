//! The pieces of the hot path in this crate, with their sizes and limits.

mod frame;
mod index;
mod tail;

use heddle_micro::{Piece, Shape};

const ONE_KIB: Shape = Shape { item_count: 1, item_bytes: 1 << 10 };
const SIXTY_FOUR_KIB: Shape = Shape { item_count: 64, item_bytes: 1 << 10 };
/// As many entries as a segment of 1 GiB has.
const LARGE_INDEX: Shape = Shape { item_count: 16 << 10, item_bytes: 64 << 10 };

/// Everything measured here. The limits are allocations of one operation.
pub const ALL: &[Piece] = &[
    // The table, the header, and the header once more for its CRC.
    Piece::new::<frame::Build>("wal-frame-1", ONE_KIB, 3),
    Piece::new::<frame::Build>("wal-frame-64", SIXTY_FOUR_KIB, 3),
    Piece::new::<index::Floor>("index-lookup", LARGE_INDEX, 0),
    Piece::new::<tail::Append>("log-append-1k", ONE_KIB, 0),
    // The list of batches that were found.
    Piece::new::<tail::Read>("log-read-cached-1k", ONE_KIB, 1),
];
