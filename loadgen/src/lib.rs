//! Open-loop load generator and verifier for Heddle and other Kafka brokers.
//!
//! `run` drives a broker on a fixed schedule and measures latency from when each record was due; `limits` measures what
//! the disk and the kernel can do at best; `verify` kills a broker again and again and checks that nothing acknowledged is
//! lost; `report` makes one page of it. The crate never links the broker: it knows it only by its protocols.

pub mod batch_pool;
pub mod cli;
pub mod clock;
pub mod failure;
pub mod group;
pub mod histogram;
pub mod kafka;
pub mod limits;
pub mod link;
pub mod links;
pub mod machine;
pub mod memory;
pub mod records;
pub mod report;
pub mod run;
pub mod runtime;
pub mod schedule;
pub mod signal;
pub mod socket;
pub mod stamp;
pub mod stats;
pub mod target;
pub mod verify;
pub mod workload;
