//! Times, instructions and allocations of what happens between a socket and the broker: see `perf-reports/micro/README.md`.

mod pieces;

use std::process::ExitCode;

use heddle_micro::{Piece, divan};

#[divan::bench(crate = divan, args = pieces::ALL)]
fn time(bencher: divan::Bencher<'_, '_>, piece: &Piece) {
    piece.time(bencher);
}

fn main() -> ExitCode {
    heddle_micro::main(pieces::ALL)
}
