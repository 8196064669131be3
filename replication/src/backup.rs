//! A backup in one epoch: it finds where its log parts from the primary's, fills up, accepts the epoch, acknowledges.

use heddle_proto::ids::{Epoch, NodeId, Offset};

use crate::message::{Life, Message};

/// State of a backup. It lives as long as its epoch, and no longer than the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backup {
    /// The epoch it follows.
    pub epoch: Epoch,
    /// Who leads in it.
    pub primary: NodeId,
    /// Committed records may have been lost since this replica last heard a commit position: it may be cut below it.
    pub lossy: bool,
    /// What the primary said in its welcome; `None` until it has.
    pub greeting: Option<Greeting>,
    /// The last acknowledgement sent.
    acked: Option<(Offset, Option<Offset>)>,
}

/// What a backup must hold before it counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Greeting {
    /// Where the primary's log ended when it was elected: what it must hold to accept the epoch.
    pub elected_end: Offset,
    /// What was committed when the primary learned of this life: what it must hold to be whole again.
    pub committed: Offset,
}

impl Backup {
    /// Begins to follow.
    pub fn new(epoch: Epoch, primary: NodeId, lossy: bool) -> Backup {
        Backup { epoch, primary, lossy, greeting: None, acked: None }
    }

    /// The next settling sends an acknowledgement, whether or not there is news.
    pub fn ack_again(&mut self) {
        self.acked = None;
    }

    /// The acknowledgement that is due, if it says anything new.
    pub fn due_ack(&mut self, life: Life, written: Offset, held: Option<Offset>) -> Option<Message> {
        if self.acked == Some((written, held)) {
            return None;
        }
        self.acked = Some((written, held));
        Some(Message::Ack { epoch: self.epoch, life, written, held })
    }
}
