//! The simulator: many nodes in one thread, everything drawn from one seed, the real replication on the real log store, under
//! the real controller and the real commands of the metadata.
//!
//! What is not real is the agreement on those commands: here it is ideal, Raft itself is not simulated.
//!
//! [`run`] builds a cluster, lets it work under faults, heals it, and asks the checkers. The same seed gives the same run,
//! event by event; [`Outcome::trace`] is the proof.

pub mod checkers;
mod client;
mod cluster;
mod faults;
mod follow;
mod metadata;
mod mistakes;
mod network;
mod node;
mod plan;
mod random;
mod session;
mod verdict;

pub use checkers::Finding;
pub use cluster::{Outcome, run};
pub use plan::{Bug, Plan};
