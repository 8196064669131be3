//! What goes into a replica's state machine and what comes out of it.

use std::collections::BTreeSet;

use heddle_proto::ids::{Epoch, NodeId, Offset};

use crate::history::History;
use crate::leadership::{Change, Grant, SealAnswer};
use crate::message::Message;
use crate::stream::outbound::Pace;

/// What a replica keeps on stable storage beside its log, always synced whatever the topic's durability.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    /// Nothing older than this epoch is taken.
    pub sealed: Epoch,
    /// The last epoch accepted: the log held all that could be committed before it.
    pub accepted: Epoch,
    /// Whoever starts from here holds all that it ever acknowledged. With `fsync` that is so unless it lost its disk; where
    /// memory counts, only a stop in good order leaves this mark.
    pub intact: bool,
}

/// Positions of a replica's log and the epochs in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogView {
    /// The first offset still there.
    pub start: Offset,
    /// Everything before it is on stable storage.
    pub durable: Offset,
    /// The offset after the last record.
    pub written: Offset,
    /// Which epochs it is made of.
    pub history: History,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// This primary's log grew by records of its epoch; it now ends here.
    Written(Offset),
    /// The log is on stable storage up to here. Not to be reported between a cut and its [`Input::CutDone`].
    Durable(Offset),
    /// The oldest outstanding [`Output::Cut`] or [`Output::Begin`] is on stable storage.
    CutDone,
    /// Retention removed what lay before this offset, all of it committed and on stable storage.
    Retained(Offset),
    /// The outstanding [`Output::Record`] is on stable storage.
    Recorded,
    /// A message arrived.
    Message {
        /// Its sender.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// A connection to this peer is there (again), or it has been quiet for a while: say again what it may have missed.
    Resend(NodeId),
    /// Metadata says who leads. May come again; older ones are ignored.
    Granted(Grant),
    /// Metadata says which nodes are to have a replica.
    Placed(BTreeSet<NodeId>),
    /// The controller holds an election for this epoch and asks for a promise.
    Seal(Epoch),
    /// Take this peer out of the in-sync set, as soon as that is safe.
    Shrink(NodeId),
    /// Take this peer into the in-sync set, as soon as it has caught up.
    Grow(NodeId),
    /// So many members of the in-sync set are to hold what is committed, as soon as that is safe.
    Require(usize),
    /// The node stops in good order: nothing more is appended, the log is being flushed.
    Stop,
}

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Send now. For [`Message::Append`] the batches of the range go along.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
        /// How urgent the records of an append are.
        pace: Pace,
    },
    /// Write to stable storage, then report [`Input::Recorded`]. One at a time.
    Record(Promise),
    /// Append the records of the message in hand from this offset on; report [`Input::Durable`] when they are.
    Append {
        /// The first offset to take; what the message has before it is already here.
        from: Offset,
        /// Where the log then ends.
        upto: Offset,
    },
    /// Remove everything from this offset on; report [`Input::CutDone`] when that is on stable storage.
    Cut(Offset),
    /// Remove everything and begin anew at this offset; report [`Input::CutDone`] as for a cut. The primary no longer has
    /// what lies between this log and its own.
    Begin(Offset),
    /// Everything before this offset is committed: release acks, wake readers.
    Committed(Offset),
    /// A lossy election took back what was committed from this offset on. To be logged and counted.
    Lost {
        /// The offset of the first record that is gone.
        from: Offset,
        /// The offset after the last.
        upto: Offset,
    },
    /// Answer the controller's seal of this epoch.
    Answer {
        /// The epoch that is promised.
        epoch: Epoch,
        /// What the controller needs to know.
        answer: SealAnswer,
    },
    /// Ask metadata for another in-sync set, or another quorum of it.
    Change(Change),
    /// Metadata counts on this replica as primary, but it has restarted since: ask for an election.
    NeedElection,
    /// All is on stable storage: the node may stop.
    Stopped,
    /// This replica must not go on: what it is told contradicts what it knows. An operator has to look.
    Halt(Fault),
}

impl Output {
    /// Something to send that brings no records.
    pub(crate) fn say(to: NodeId, message: Message) -> Output {
        Output::Send { to, message, pace: Pace::Hot }
    }
}

/// A contradiction that only a bug or damaged data can cause.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The primary's log parts from this one before what is known to be committed.
    #[error("the primary of epoch {epoch} shares only offsets below {shared}, but {committed} is committed")]
    CutsCommitted {
        /// The primary's epoch.
        epoch: Epoch,
        /// Where the logs part.
        shared: Offset,
        /// What is known to be committed.
        committed: Offset,
    },
}

/// Why an append is not taken by this replica now.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not the primary.
    #[error("this replica is not the primary")]
    NotPrimary,
    /// Fewer members are in sync than a commit needs.
    #[error("{in_sync_count} replicas are in sync, a commit needs {quorum}")]
    NotEnoughReplicas {
        /// Members of the in-sync set that acknowledge in this epoch, the primary among them.
        in_sync_count: usize,
        /// The commit quorum.
        quorum: usize,
    },
}
