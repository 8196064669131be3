//! The micro benchmarks of this crate with tiny inputs: right results, and no more allocations than their limits.

#[path = "../benches/pieces/mod.rs"]
mod pieces;

#[test]
fn every_piece_does_its_work_within_its_allocations() {
    assert!(!pieces::ALL.is_empty());
    pieces::ALL.iter().for_each(heddle_micro::Piece::test);
}
