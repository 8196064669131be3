//! The pieces of the hot path in this crate, with their sizes and limits.

mod mesh;
mod produce;
mod reply;

use heddle_micro::{Piece, Shape};

const ONE_KIB: Shape = Shape { item_count: 1, item_bytes: 1 << 10 };
const HUNDRED_SMALL: Shape = Shape { item_count: 100, item_bytes: 100 };
/// What does not depend on a batch.
const ONE: Shape = Shape { item_count: 1, item_bytes: 0 };

/// Everything measured here. The limits are allocations of one operation.
pub const ALL: &[Piece] = &[
    // The list of headers, and the parked ack.
    Piece::new::<produce::Produce>("partition-produce-1k", ONE_KIB, 2),
    Piece::new::<produce::Produce>("partition-produce-100x100", HUNDRED_SMALL, 2),
    Piece::new::<produce::ProduceIdempotent>("partition-produce-idempotent-1k", ONE_KIB, 2),
    // The buffer, and the count of its users.
    Piece::new::<reply::Encode>("native-reply", ONE, 2),
    // For each hop the waiting asker, the future that answers, and its task; and what the executors themselves allocate
    // meanwhile, which goes with time rather than with hops: 2 to 5 on a machine with other work, 37 seen where two builds and a cluster ran beside it.
    Piece::new::<mesh::InTurn>("mesh-100-hops", ONE, 330),
    Piece::new::<mesh::AtOnce>("mesh-100-hops-at-once", ONE, 330),
];
