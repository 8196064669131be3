//! Who is elected has the best log of enough answers, or nobody is sure to have all and everybody answered.

use std::collections::BTreeMap;

use heddle_core::metadata::PartitionImage;
use heddle_proto::ids::{Epoch, NodeId, Offset, TopicPartition};
use heddle_replication::leadership::SealAnswer;
use heddle_replication::message::Life;

use super::Checkers;

/// All answers to each seal, of every life.
pub type Answers = BTreeMap<(TopicPartition, Epoch), BTreeMap<NodeId, Vec<SealAnswer>>>;

impl Checkers {
    /// A replica has answered a seal.
    pub fn answered(&mut self, partition: TopicPartition, epoch: Epoch, node: NodeId, answer: SealAnswer) {
        self.answers.entry((partition, epoch)).or_default().entry(node).or_default().push(answer);
    }

    /// A partition was this before a command, and is that.
    pub(super) fn judge_election(
        &mut self,
        partition: TopicPartition,
        before: &PartitionImage,
        after: &PartitionImage,
    ) {
        if before.epoch == after.epoch {
            return;
        }
        let none = BTreeMap::new();
        let answers = self.answers.get(&(partition, after.epoch())).unwrap_or(&none);
        let of = |node: u32| answers.get(&NodeId::new(node)).map(Vec::as_slice).unwrap_or_default();
        let rank = |answer: &SealAnswer| -> (Epoch, Offset) { (answer.accepted, answer.end) };
        let is_lossy = after.lossy == after.epoch;
        let winner = of(after.leader).iter().filter(|answer| answer.life == Life(after.leader_life));
        let best = winner.filter(|answer| is_lossy || !answer.forgot).map(rank).max();
        let needed = before.leadership().grant().in_sync.seal_quorum();
        let is_below =
            |node: &&u32| of(**node).iter().any(|answer| !answer.forgot && Some(rank(answer)) <= best);
        let below = before.isr.iter().filter(is_below).count();
        let is_well = match is_lossy {
            true => best.is_some() && before.isr.iter().all(|node| !of(*node).is_empty()),
            false => best.is_some() && below >= needed,
        };
        if !is_well {
            let (leader, epoch) = (after.leader, after.epoch);
            let what = format!(
                "node {leader} is elected for epoch {epoch}, lossy: {is_lossy}; {needed} answers of {:?} are needed, {below} \
                 have no more than it: {answers:?}",
                before.isr
            );
            self.found("elected", partition, what);
        }
    }
}
