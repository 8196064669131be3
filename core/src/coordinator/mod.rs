//! Coordinators: who owns which piece of work among the clients. Pure state machines, each run by a [`host`].
//!
//! [`group`] coordinates consumer groups, [`transaction`] transactional producers. Nothing in them reads a clock, a file or
//! a socket; the [`host`] on the core that owns the coordinator's partition does that for them. [`placement`] says which
//! partition a name belongs to, [`pattern`] compiles the regular expressions that clients send.

pub mod group;
pub mod host;
pub mod ids;
pub mod pattern;
pub mod placement;
pub mod transaction;
