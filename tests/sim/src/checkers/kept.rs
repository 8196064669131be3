//! A start finds what the life before had on stable storage, unless the disk was harmed.

use std::collections::BTreeMap;

use heddle_proto::ids::{NodeId, Offset, TopicPartition};

use super::Checkers;

impl Checkers {
    /// A node had its logs on stable storage up to `before`, and has found them up to `found`.
    pub fn kept(
        &mut self,
        node: NodeId,
        before: &BTreeMap<TopicPartition, Offset>,
        found: &BTreeMap<TopicPartition, Offset>,
    ) {
        for (partition, end) in found {
            if let Some(durable) = before.get(partition).filter(|durable| *durable > end) {
                let what = format!("node {node} had records up to {durable}, and finds them up to {end}");
                self.found("kept", *partition, what);
            }
        }
    }
}
