//! Primary-backup replication as pure state machines: no clock, no file, no socket, no random order.
//!
//! [`replica::Replica`] is one replica of one partition in one life of its node. A driver feeds it [`io::Input`]s one at a
//! time through [`replica::Replica::step`] and carries out the [`io::Output`]s in the order they come. The same inputs
//! give the same outputs, and every invariant is asserted after every step. [`leadership::Leadership`] is the other half:
//! the part of the cluster's metadata that says who leads. What the protocol is and why is in `docs/replication.md`; the
//! model in `tests/model` runs these very machines.
//!
//! # The contract
//!
//! Every output means *now*, in the order given: what depends on stable storage comes out of the step that is told that the
//! disk has it. So a driver cannot acknowledge too early by accident (`docs/decisions/022-replication-effects.md`).
//!
//! The machine knows positions, never records. The driver owns the log, and promises:
//!
//! - Inputs say what *has* happened: [`io::Input::Durable`] after the write completed, [`io::Input::Recorded`] after the
//!   promise was synced, [`io::Input::CutDone`] after a cut was. The log's own writes and cuts reach the disk in their
//!   order; promises may overtake them and be overtaken.
//! - Between [`io::Output::Cut`] (or [`io::Output::Begin`]) and its [`io::Input::CutDone`] no [`io::Input::Durable`] is reported.
//! - A life is used once. It comes from the metadata, which counts it up when the node registers at its start.
//! - A primary appends only what [`replica::Replica::admits`], in the epoch that names, and reports it with
//!   [`io::Input::Written`] before anything else. Every batch carries its epoch.
//! - What comes from a peer has been decoded with care: offsets are not negative, histories rise
//!   ([`history::History::from_entries`]), and the range and history of an append are those of the batches beside it.
//! - Messages may be lost, doubled, delayed and reordered. Where one may have been lost, [`io::Input::Resend`] mends it.
//! - [`io::Output::Answer`] and [`io::Output::Change`] may be lost too; the controller asks again, and so does whoever
//!   wanted the change.
//! - Nothing is acknowledged to a client before [`io::Output::Committed`] has passed it (with `acks=all`).
//!
//! The machine promises in return what the model checks: no committed record is lost or reordered, replicas agree up to
//! committed, one primary commits in an epoch, and a quorum that is there commits. Where a record is held in memory only,
//! losing more than the commit quorum's memory at once can lose records; then [`io::Output::Lost`] says so.
//!
//! # Where things are
//!
//! [`stream`] carries what all partitions of a core say to those of another. [`primary`] commits and changes the in-sync set, with [`catch_up`] for what each backup is sent next; [`backup`] and
//! [`history`] find where two logs part; [`placement`] chooses nodes; [`quorum`] counts; [`rules`] names every rule, so that a test can take one out.

pub mod backup;
pub mod catch_up;
pub mod history;
pub mod io;
pub mod leadership;
pub mod message;
pub mod placement;
pub mod primary;
pub mod quorum;
pub mod replica;
pub mod rules;
pub mod stream;
