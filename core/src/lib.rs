//! The Heddle broker: everything above the crates that each do one thing.
//!
//! A newcomer reads in this order: [`boot`] starts the process, [`runtime`] its cores, [`shard`] is what one core
//! owns, [`partition`] one log with its rules, [`kafka`] and [`native`] the two front doors, [`metadata`] what the
//! cluster agrees on, [`coordinator`] who reads what together, [`admin`] what an operator sees.

pub mod admin;
pub mod boot;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod coordinator;
pub mod doctor;
pub mod fatal;
pub mod fields;
pub mod kafka;
pub mod metadata;
pub mod native;
pub mod partition;
pub mod runtime;
pub mod shard;
