//! No replica is ever told to cut what it knows to be committed.

use heddle_proto::ids::{NodeId, TopicPartition};
use heddle_replication::io::Fault;

use super::Checkers;

impl Checkers {
    /// A replica has halted.
    pub fn halted(&mut self, partition: TopicPartition, node: NodeId, fault: Fault) {
        self.found("halted", partition, format!("node {node}: {fault}"));
    }
}
