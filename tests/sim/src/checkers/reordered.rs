//! A producer's records are read in the order in which it sent them, each once.

use heddle_proto::ids::TopicPartition;

use super::Checkers;
use crate::client::View;

/// Numbers rise with the offsets: each producer numbers what it sends.
pub fn judge(checkers: &mut Checkers, partition: TopicPartition, view: &View) {
    let mut last = None;
    for (offset, id) in &view.read {
        if last.is_some_and(|last| last >= *id) {
            let what = format!("record {id} at {offset} comes behind {last:?}");
            checkers.found("reordered", partition, what);
            return;
        }
        last = Some(*id);
    }
}
