//! Primary-backup replication as pure rules: no clock, no file, no socket, no random order.
//!
//! So far one rule lives here, the one a single node needs too: when an offset counts as committed. A node alone is a
//! group of one and runs through the same rule. This crate never does IO; its manifest is the proof.

pub mod quorum;
