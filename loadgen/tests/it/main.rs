//! The commands against a small Kafka broker.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod run;
mod support;
mod verify;
