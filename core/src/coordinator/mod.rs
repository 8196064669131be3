//! Coordinators: who owns which piece of work among the clients. Pure state machines, driven by the cores.
//!
//! [`group`] coordinates consumer groups. Nothing in here reads a clock, a file or a socket.

pub mod group;
