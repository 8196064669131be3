//! The transaction coordinator as a pure state machine: no clock, no file, no socket, no thread, no random order.
//!
//! One [`TransactionCoordinator`] has the transactional ids of one partition of the internal topic. Its caller loads it
//! ([`TransactionCoordinator::replay`], then [`TransactionCoordinator::loaded`]), gives it requests and ticks with the
//! time, and does what the [`Effects`] say: append the records of [`Effects::write`] in the order of their sequence and make
//! them durable; send each reply and do each action no earlier than the write it names, and all before it, are durable.
//!
//! **What is decided is durable before it is done.** A transaction ends in three steps: `PrepareCommit` or `PrepareAbort`
//! is written; then the markers are ([`EndMarkers`]); then `CompleteCommit` or `CompleteAbort` is, once the caller reports
//! [`Request::MarkersWritten`]. Only then is the client told, so what it committed is visible to readers by then. A crash
//! before the first step leaves the transaction open, to be aborted by its timeout or its producer's next life; a crash after
//! it finds the decision in the topic, and [`TransactionCoordinator::loaded`] asks for the markers again. Markers may be
//! written twice; partitions know those they have.
//!
//! **Epochs.** A producer's epoch rises with every [`Request::InitProducerId`], with every abort that its client did not
//! ask for, and, in the second version of the protocol (KIP-890), with every transaction. The marker carries the new one, so
//! nothing of the older epoch gets into a partition behind the marker.
//!
//! **When a write fails** the caller drops the machine, refuses whoever waits with what [`TransactionCoordinator::unload`]
//! gives, and loads it anew.
//!
//! **Time** is in milliseconds of a wall clock that does not go back.
//!
//! **Bounds.** Transactional ids by `ids_max`, partitions of a transaction by `partitions_max`; each request costs a few
//! lookups in sorted maps and one record as large as the transaction has partitions.
//!
//! Sources: Kafka's transaction coordinator, KIP-98, KIP-360 (epoch bump on request), KIP-890 (both parts). Not covered:
//! two-phase commit with an external coordinator (KIP-939).

mod add;
mod admin;
mod config;
mod coordinator;
mod effects;
mod end;
mod hosted;
mod init;
mod message;
mod record;
mod state;
#[cfg(test)]
mod tests;

pub use config::TransactionConfig;
pub use coordinator::TransactionCoordinator;
pub use effects::{Effects, Held, Write};
pub use message::{
    AddPartitions, Described, EndMarkers, EndTxn, InitProducerId, ListTransactions, Listed, ProducerIdentity,
    Refusal, Reply, Request, TransactionalId, VerifyPartitions,
};
pub use record::{DecodeError, TransactionRecord};
pub use state::{State, Transaction};
