//! The simulator: many nodes in one thread, everything drawn from one seed, the real replication on the real log store.
//!
//! [`run`] builds a cluster, lets it work under faults, heals it, and asks the checkers. The same seed gives the same run,
//! event by event; [`Outcome::trace`] is the proof.

pub mod checkers;
mod client;
mod cluster;
mod controller;
mod faults;
mod network;
mod node;
mod plan;
mod random;

pub use checkers::Finding;
pub use cluster::{Outcome, run};
pub use plan::{Bug, Plan};
