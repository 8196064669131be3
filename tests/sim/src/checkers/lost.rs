//! Every acknowledged record is on a replica of the in-sync set, at its offset.

use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::TopicPartition;

use super::{Checkers, Replica};
use crate::client::{View, ids_of};

impl Checkers {
    /// An election that may lose records was held although no disk lost any by right.
    pub fn lossy(&mut self, partition: TopicPartition) {
        self.found("lost", partition, "too few replicas remember, although all disks should".into());
    }
}

/// Looks for what was acknowledged in what the replicas hold.
pub fn judge(checkers: &mut Checkers, partition: TopicPartition, view: &View, replicas: &[&Replica]) {
    let start = replicas.iter().map(|replica| replica.start).max().unwrap_or_default();
    let held: std::collections::BTreeMap<_, _> = replicas
        .iter()
        .flat_map(|replica| &replica.batches)
        .filter_map(|batch| {
            Some((BatchHeader::parse(batch).ok()?.base_offset, ids_of(batch).first().copied()?))
        })
        .collect();
    for acked in view.acked.iter().filter(|acked| acked.base >= start) {
        if held.get(&acked.base) != Some(&acked.id) {
            let found = held.get(&acked.base);
            checkers.found("lost", partition, format!("{acked:?} was acknowledged; there is {found:?}"));
            return;
        }
    }
}
