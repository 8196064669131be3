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
    /// The newest version of the in-sync set that it has heard of.
    version: u32,
    /// The last acknowledgement sent.
    acked: Option<(Offset, Option<Offset>, u32)>,
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
    /// Begins to follow, where the in-sync set has this version.
    pub fn new(epoch: Epoch, primary: NodeId, lossy: bool, version: u32) -> Backup {
        Backup { epoch, primary, lossy, greeting: None, version, acked: None }
    }

    /// Takes note of a version of the in-sync set. The primary is to know that it did.
    pub fn learn(&mut self, version: u32) {
        self.version = self.version.max(version);
    }

    /// The next settling sends an acknowledgement, whether or not there is news.
    pub fn ack_again(&mut self) {
        self.acked = None;
    }

    /// The acknowledgement that is due, if it says anything new.
    pub fn due_ack(&mut self, life: Life, written: Offset, held: Option<Offset>) -> Option<Message> {
        let (epoch, version) = (self.epoch, self.version);
        if self.acked == Some((written, held, version)) {
            return None;
        }
        self.acked = Some((written, held, version));
        Some(Message::Ack { epoch, life, written, held, version })
    }
}
