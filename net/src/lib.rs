//! Sockets of Heddle: accept, sniff, frame, and send in order; Kafka and HTTP codecs. This crate never knows
//! a partition.
//!
//! The life of a connection here: [`socket::Listener`] accepts it, [`frame::FrameReader`] tells native from
//! Kafka and cuts frames out of it, and [`outbox`] sends the replies in the order of the requests. Everything
//! lives on one core; only [`socket::ListenSocket`] and [`socket::RawStream`] may cross to another one.
pub mod frame;
pub mod http;
pub mod kafka;
pub mod outbox;
pub mod socket;
