//! Carries the replication streams of one core over sockets: frames between cores, and the beginning of a connection.

pub mod handshake;
mod link;
pub mod wire;

pub use link::{ByteSink, Link};
