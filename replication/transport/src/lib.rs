//! Carries the replication streams of one core over sockets.
//!
//! A [`Runner`] owns the driver of a core; [`Peers`] keeps one connection to each core that the driver's replicas need, dials
//! those of higher nodes and lets in those of lower ones. Each connection begins with a [`handshake`] and then carries frames
//! ([`wire`]): what comes goes into the driver, what the driver has to say goes out as fast as the peer takes it.
//!
//! Everything here lives on one core. It opens no listener by itself and knows no address but those it is given; it never looks
//! into a batch; and it names no runtime: sockets and timers are those of `heddle-net`, and the byte stream under a handshake and
//! a connection is generic ([`Link`]).

mod backoff;
mod counters;
pub mod handshake;
mod link;
mod peers;
mod runner;
mod session;
mod signal;
pub mod wire;

pub use backoff::Backoff;
pub use counters::StreamCounts;
pub use link::{ByteSink, Link};
pub use peers::{HandshakeCounts, Options, Peers};
pub use runner::{Observer, Runner};
pub use session::Replicas;
pub use signal::{Bell, Signal};
