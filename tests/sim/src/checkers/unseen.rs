//! Every acknowledged record is seen by a reader that reads on, unless retention was faster.

use heddle_proto::ids::TopicPartition;

use super::{Checkers, Replica};
use crate::client::View;

/// Looks for what was acknowledged in what the reader got.
pub fn judge(checkers: &mut Checkers, partition: TopicPartition, view: &View, replicas: &[&Replica]) {
    let start = replicas.iter().map(|replica| replica.start).max().unwrap_or_default();
    let missing = view.acked.iter().find(|acked| {
        let seen = view.read.get(&acked.base);
        acked.base >= start && seen != Some(&acked.id)
    });
    if let Some(acked) = missing {
        let position = view.position;
        checkers.found("unseen", partition, format!("{acked:?} was not read; the reader is at {position}"));
    }
}
