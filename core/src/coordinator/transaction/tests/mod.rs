//! Tables of the coordinator's answers, and a model with crashes.

mod harness;
mod lives;
mod model;
mod records;
mod transactions;
