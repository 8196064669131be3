//! What replicas of one partition say to each other. Batches travel beside an [`Message::Append`], not in it.

use heddle_proto::ids::{Epoch, Offset};

use crate::history::History;

/// One life of a node, from start to stop. The cluster's metadata counts them up, at every start, when the node registers,
/// so they rise even when the node lost its disk.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Life(pub u32);

/// A backup's log, as its primary needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Join {
    /// The epoch the backup wants to follow.
    pub epoch: Epoch,
    /// The backup's life.
    pub life: Life,
    /// Where its log begins.
    pub start: Offset,
    /// The offset after its last record.
    pub end: Offset,
    /// What it knows to be committed: shared for certain. None of it when a lossy election may
    /// have taken it back.
    pub committed: Offset,
    /// Which epochs its log is made of.
    pub history: History,
}

/// A message of the replication protocol. Every one names the epoch it belongs to and the life of the backup it is from
/// or to: what belongs to another epoch or life is ignored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// Backup to primary: this is my log, where do we part?
    Join(Join),
    /// Primary to backup: keep what lies before `shared`, what follows comes from me.
    Welcome {
        /// The primary's epoch.
        epoch: Epoch,
        /// The life that joined.
        life: Life,
        /// Where the logs part.
        shared: Offset,
        /// Where the primary's log begins: retention has removed what lies before.
        start: Offset,
        /// Where the primary's log ended when it was elected.
        elected_end: Offset,
        /// All that was committed when the primary learned of this life of the backup, or later.
        committed: Offset,
    },
    /// Primary to backup: records `from..upto` (none when they are equal) and the commit position.
    Append {
        /// The primary's epoch.
        epoch: Epoch,
        /// The life that joined.
        life: Life,
        /// Offset of the first record.
        from: Offset,
        /// The offset after the last.
        upto: Offset,
        /// The epochs of these records.
        history: History,
        /// What the primary has committed.
        committed: Offset,
    },
    /// Primary to backup: so much is committed. Asks for no acknowledgement.
    Commit {
        /// The primary's epoch.
        epoch: Epoch,
        /// The life that joined.
        life: Life,
        /// What the primary has committed.
        committed: Offset,
    },
    /// Backup to primary: how far I am.
    Ack {
        /// The epoch it is given in.
        epoch: Epoch,
        /// The backup's life.
        life: Life,
        /// The offset after the last record that arrived: the primary goes on from here.
        written: Offset,
        /// The offset after the last record that it holds in the sense of the topic's durability; `None` until it has
        /// accepted the epoch. Only this counts towards a commit.
        held: Option<Offset>,
        /// The newest version of the in-sync set that it knows in this epoch.
        version: u32,
    },
}

impl Message {
    /// The epoch it belongs to.
    pub fn epoch(&self) -> Epoch {
        match self {
            Message::Join(Join { epoch, .. })
            | Message::Welcome { epoch, .. }
            | Message::Append { epoch, .. }
            | Message::Commit { epoch, .. }
            | Message::Ack { epoch, .. } => *epoch,
        }
    }
}
