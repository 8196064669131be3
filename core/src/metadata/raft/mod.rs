//! The cluster's agreement on its metadata: the [`Command`](super::Command)s of [`super::command`] in one Raft log.
//!
//! The consensus rules are those of the library `openraft`; here is what it needs around it. [`runtime`] runs it on a
//! core, [`log_store`] keeps its log and vote in a `journal`, [`state_machine`] applies what is committed to the
//! [`ClusterImage`](super::ClusterImage) and keeps snapshots, [`message`] and [`network`] are what nodes say to each
//! other over a [`network::Transport`], and [`node`] is what the rest of the broker sees. All of it lives on core 0.
//!
//! A node that is alone is a group of one and agrees with itself. What the rest of the broker calls is [`super::service`].

mod command_fields;
mod elections;
pub mod entry;
mod journal;
pub mod log_store;
pub mod message;
pub mod network;
pub mod node;
pub mod options;
pub mod runtime;
pub mod snapshot_mark;
pub mod state_machine;
pub mod types;

pub use journal::LOG_NAME;
pub use network::{Transport, TransportError};
pub use node::{ChangeError, Members, Node, ProposeError, StartError};
pub use options::Options;
pub use runtime::{CoreExecutor, Executor};

#[cfg(test)]
mod tests;
