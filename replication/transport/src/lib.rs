//! Carries the replication streams of one core over sockets, and what nodes ask each other.
//!
//! A [`Runner`] owns the driver of a core; [`Peers`] keeps one connection to each core that the driver's replicas need, dials
//! those of higher nodes and lets in those of lower ones. Each connection begins with a [`handshake`] and then carries frames
//! ([`wire`]): what comes goes into the driver, what the driver has to say goes out as fast as the peer takes it. [`Calls`] are
//! requests and replies between core 0 of two nodes, over connections of their own. Both come in at one [`Door`].
//!
//! Everything here lives on one core. It opens no listener by itself and knows no address but those it is given; it never looks
//! into a batch; and it names no runtime: sockets and timers are those of `heddle-net`, and the byte stream under a handshake and
//! a connection is generic ([`Link`]).

mod backoff;
pub mod calls;
mod counters;
mod door;
pub mod handshake;
mod link;
mod peers;
mod runner;
mod scarce;
mod session;
mod signal;
pub mod wire;

pub use backoff::Backoff;
pub use calls::Calls;
pub use counters::StreamCounts;
pub use door::{Door, HandshakeCounts, Options};
pub use link::{ByteSink, Link};
pub use peers::Peers;
pub use runner::{Observer, Runner};
pub use session::Replicas;
pub use signal::{Bell, Signal};
