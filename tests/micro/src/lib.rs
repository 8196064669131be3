//! Measures pieces of the hot path: the time, the instructions and the heap allocations of one operation.
//!
//! A piece is written once, as a [`Case`], and listed with its size as a [`Piece`]. From then on it is timed by
//! `cargo bench --bench hot_path`, counted by `perf-reports/micro/run.sh`, and proven by `cargo test`: with tiny inputs its
//! result is checked, and so is how often it allocates, whatever the number of records.

mod allocations;
mod piece;
mod program;
mod samples;

pub use allocations::allocations;
pub use divan;
pub use piece::{Case, Piece, Shape};
pub use program::main;
pub use samples::{batch, in_chunk, now};
