//! One primary commits in an epoch.

use heddle_proto::ids::{Epoch, NodeId, TopicPartition};
use heddle_replication::message::Life;

use super::Checkers;

impl Checkers {
    /// A primary has committed something.
    pub fn committed_in(&mut self, partition: TopicPartition, epoch: Epoch, who: (NodeId, Life)) {
        let known = *self.committers.entry((partition, epoch)).or_insert(who);
        if known != who {
            self.found("committers", partition, format!("{known:?} and {who:?} commit in epoch {epoch}"));
        }
    }
}
