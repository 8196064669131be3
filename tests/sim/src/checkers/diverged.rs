//! Replicas agree, byte for byte, on everything committed; and what was committed once never changes.

use std::collections::BTreeMap;

use bytes::Bytes;
use heddle_proto::batch::BatchHeader;
use heddle_proto::crc::crc32c;
use heddle_proto::ids::{NodeId, Offset, TopicPartition};
use heddle_replication::message::Life;

use super::{Checkers, Replica};

/// Fingerprints of all batches that anybody took for committed.
#[derive(Default)]
pub struct Ledger {
    batches: BTreeMap<(TopicPartition, Offset), u32>,
    seen: BTreeMap<(TopicPartition, NodeId), (Life, Offset)>,
    lossy_counts: BTreeMap<TopicPartition, u32>,
}

impl Checkers {
    /// Up to where a life of a node has been looked at.
    pub fn seen(&self, partition: TopicPartition, node: NodeId, life: Life) -> Offset {
        match self.ledger.seen.get(&(partition, node)) {
            Some((known, seen)) if *known == life => *seen,
            _ => Offset::ZERO,
        }
    }

    /// A replica takes these batches for committed. What a lossy election may have taken back is forgotten first.
    pub fn observed(
        &mut self,
        partition: TopicPartition,
        (node, life): (NodeId, Life),
        batches: Vec<Bytes>,
        committed: Offset,
        lossy_count: u32,
    ) {
        if self.ledger.lossy_counts.insert(partition, lossy_count).unwrap_or(0) != lossy_count {
            self.ledger.batches.retain(|(at, _), _| *at != partition);
        }
        self.ledger.seen.insert((partition, node), (life, committed));
        if lossy_count > 0 {
            return; // Some may not have heard of it yet.
        }
        for batch in batches {
            let Ok(header) = BatchHeader::parse(&batch) else { continue };
            let crc = crc32c(&batch);
            let known = *self.ledger.batches.entry((partition, header.base_offset)).or_insert(crc);
            if known != crc {
                let at = header.base_offset;
                self.found("diverged", partition, format!("node {node} has another batch at {at}"));
            }
        }
    }
}

/// All replicas against the first, where both have something.
pub fn judge(checkers: &mut Checkers, partition: TopicPartition, replicas: &[&Replica]) {
    let Some((first, others)) = replicas.split_first() else { return };
    let table = |replica: &Replica| -> BTreeMap<Offset, Bytes> {
        let parsed = replica
            .batches
            .iter()
            .filter_map(|batch| Some((BatchHeader::parse(batch).ok()?.base_offset, batch.clone())));
        parsed.collect()
    };
    let known = table(first);
    for other in others {
        let from = first.start.max(other.start);
        let upto = first.committed.min(other.committed);
        let within = |at: &Offset| *at >= from && *at < upto;
        let theirs = table(other);
        let mine = known.iter().filter(|(at, _)| within(at));
        let differs = !mine.eq(theirs.iter().filter(|(at, _)| within(at)));
        if differs {
            let what = format!("nodes {} and {} differ within {from}..{upto}", first.node, other.node);
            checkers.found("diverged", partition, what);
        }
    }
}
