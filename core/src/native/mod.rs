//! The native front door: frames with FlatBuffers headers, pipelined, with push subscriptions.
//!
//! [`connection`] reads requests in order; [`greeting`] is what happens before a single-port node knows which core a
//! connection belongs to; the other files hold one request kind each, with the same steps as their Kafka twins.

pub mod connection;
pub mod control;
pub mod fetch;
pub mod greeting;
pub mod produce;
pub mod reply;
pub mod subscribe;
