//! The coordinator against tables of its rules, and against random events.

mod admin;
mod classic_join;
mod classic_static;
mod classic_sync;
mod consumer;
mod consumer_members;
mod durability;
mod harness;
mod model;
mod offsets;
mod scale;
mod transactions;
