//! Runs the replicas of one core: carries out what their state machines say, on logs of the log store.
//!
//! [`Driver`] belongs to one core. Everything in it is synchronous: inputs go in with the time, and what has to wait for a
//! disk comes out as a [`Job`], what others have to know as an [`Event`], what goes to peers as a [`Frame`]. Whoever owns
//! it spawns the jobs ([`Job::run`] names no runtime), hands back what they gave, and carries frames. After a crash a new
//! driver is made from what the logs and the promises hold; nothing else survives.
//!
//! # What the owner does
//!
//! - It passes on what the log store's hooks say ([`Driver::durable`]) and answers what they ask ([`Driver::history`]),
//!   never from within a call of the driver.
//! - After each turn it takes [`Driver::jobs`], [`Driver::events`] and [`Driver::flush`], and calls [`Driver::tick`]
//!   every few milliseconds. Where a peer takes less than there is, it asks [`Driver::flush_to`] for each that has room: what
//!   waits in a stream is merged and bounded, a frame that was taken out is not.
//! - When a connection breaks and is made anew it says so ([`Driver::connected`]). That a peer has restarted the driver sees
//!   by itself: frames carry the life of their sender.
//! - A job that fails with an error of the disk ends the process.

mod connection;
mod driver;
mod gaps;
mod hosted;
mod job;
mod kept;
mod perform;
mod policy;
pub mod promises;

pub use connection::{Frame, Peer, Room, Said};
pub use driver::{Driver, Event, Lag, Options, Placement, ProduceError};
pub use job::{CutJob, Done, Job, JobError, ReadJob};
pub use kept::{encode_history, restore_history};
