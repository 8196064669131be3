//! Tests of the metadata's quorum: several nodes in one process, in virtual time, under faults.

mod checker;
mod cluster;
mod memory_network;
mod on_core;
mod planted;
mod random;
mod scenarios;
mod stores;
mod virtual_time;

pub use cluster::new_disk;
pub use virtual_time::Virtual;

/// The library's types in virtual time.
type TypesHere = super::types::Types<virtual_time::Virtual>;

/// An entry in virtual time.
type Entry = super::types::Entry<virtual_time::Virtual>;
