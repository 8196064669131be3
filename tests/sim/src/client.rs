//! Clients: producers that know what was acknowledged to them, and a reader for each partition that reads on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use heddle_proto::batch::{BatchBuilder, Compression, records};
use heddle_proto::ids::{NodeId, Offset, Timestamp, TopicPartition};
use heddle_replication::message::Life;

use crate::metadata::{Metadata, primary_in};
use crate::node::Node;
use crate::plan::{Bug, Plan};
use crate::random::Random;

/// An acknowledged batch: where it lies and which record it holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Its first offset.
    pub base: Offset,
    /// The number of its first record.
    pub id: u64,
}

struct Pending {
    node: NodeId,
    life: Life,
    base: Offset,
    end: Offset,
    id: u64,
}

/// Everything about one partition as clients see it.
#[derive(Default)]
pub struct View {
    pending: VecDeque<Pending>,
    /// Acknowledged, in the order of the acknowledgements.
    pub acked: Vec<Acked>,
    /// What the reader got: offset and record.
    pub read: BTreeMap<Offset, u64>,
    /// Where the reader goes on.
    pub position: Offset,
    reading_from: Option<NodeId>,
    /// Batches of which nothing has been heard: what a client in error sends again.
    unsure: Vec<u64>,
}

/// See the module.
pub struct Clients {
    random: Random,
    next_id: u64,
    bug: Option<Bug>,
    /// By partition.
    pub views: BTreeMap<TopicPartition, View>,
}

/// Records of one batch.
const RECORDS_MAX: u64 = 4;

/// The numbers of the records in a batch.
pub fn ids_of(batch: &Bytes) -> Vec<u64> {
    let Ok(records) = records(batch, 1 << 20) else { return Vec::new() };
    let number =
        |value: &[u8]| value.get(..8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    records.filter_map(|record| record.ok()?.value.and_then(|value| number(&value))).collect()
}

impl Clients {
    /// Clients that have done nothing yet.
    pub fn new(plan: &Plan, partitions: &[TopicPartition]) -> Clients {
        let views = partitions.iter().map(|partition| (*partition, View::default())).collect();
        Clients { random: Random::new(plan.seed, 3), next_id: 1, bug: plan.bug, views }
    }

    /// Every few milliseconds a batch for each partition.
    pub fn produce(&mut self, now: Duration, nodes: &mut [Node], metadata: &Metadata) {
        for partition in self.views.keys().copied().collect::<Vec<_>>() {
            if self.random.chance(120_000) {
                self.send(now, partition, nodes, metadata);
            }
        }
    }

    /// Sends one batch to whom it believes to lead. Returns whether it was taken.
    pub fn send(
        &mut self,
        now: Duration,
        partition: TopicPartition,
        nodes: &mut [Node],
        metadata: &Metadata,
    ) -> bool {
        let Some(mut primary) = self.believed_primary(partition, nodes, metadata) else { return false };
        if self.bug == Some(Bug::TwoPrimaries) {
            primary = NodeId::new(self.random.below(nodes.len() as u64) as u32);
        }
        let node = &mut nodes[primary.get() as usize];
        if !node.is_awake(now) {
            return false;
        }
        let clock = node.clock(now);
        let Some(up) = node.up.as_ref() else { return false };
        let Some(view) = self.views.get_mut(&partition) else { return false };
        let again = (self.bug == Some(Bug::RetryOutOfOrder)).then(|| view.unsure.pop()).flatten();
        let count = again.map_or(1 + self.random.below(RECORDS_MAX), |_| 1);
        let id = again.unwrap_or(self.next_id);
        if again.is_none() {
            self.next_id += count;
        }
        let bytes = 20 + self.random.below(600) as usize;
        let mut builder = BatchBuilder::new(Compression::None);
        for index in 0..count {
            let mut value = (id + index).to_le_bytes().to_vec();
            value.resize(8 + bytes, id as u8);
            if builder.push(Timestamp::new(id as i64), None, Some(&value), &[]).is_err() {
                return false;
            }
        }
        let Ok(batch) = builder.build() else { return false };
        let taken = up.driver.borrow_mut().produce(clock, partition, batch);
        if let Ok(header) = &taken {
            let (base, end) = (header.base_offset, header.next_offset());
            view.pending.push_back(Pending { node: primary, life: up.life, base, end, id });
        }
        taken.is_ok()
    }

    /// Who leads as the client was told: mostly what is so, sometimes by a node that has not heard of it.
    fn believed_primary(
        &mut self,
        partition: TopicPartition,
        nodes: &[Node],
        metadata: &Metadata,
    ) -> Option<NodeId> {
        let asked = &nodes[self.random.below(nodes.len() as u64) as usize];
        let seen = asked.up.as_ref().map(|up| up.session.seen()).filter(|_| self.random.chance(200_000));
        primary_in(seen.unwrap_or(metadata.image()), partition)
    }

    /// A node has committed up to here: what it took is acknowledged.
    pub fn committed(&mut self, node: NodeId, life: Life, partition: TopicPartition, committed: Offset) {
        let Some(view) = self.views.get_mut(&partition) else { return };
        let mut still = VecDeque::new();
        for pending in std::mem::take(&mut view.pending) {
            match (pending.node, pending.life) == (node, life) {
                true if pending.end <= committed => {
                    view.acked.push(Acked { base: pending.base, id: pending.id })
                }
                _ => still.push_back(pending),
            }
        }
        view.pending = still;
    }

    /// A node no longer leads, or no longer runs: nobody will hear of what it took.
    pub fn abandoned(&mut self, node: NodeId, partition: TopicPartition) {
        let Some(view) = self.views.get_mut(&partition) else { return };
        let unsure = view.pending.iter().filter(|pending| pending.node == node).map(|pending| pending.id);
        view.unsure.extend(unsure.collect::<Vec<_>>());
        view.pending.retain(|pending| pending.node != node);
    }

    /// Readers ask for what comes next, from the primary.
    pub fn read(&mut self, now: Duration, nodes: &mut [Node], metadata: &Metadata) {
        for (partition, view) in &mut self.views {
            let Some(primary) = metadata.primary(*partition) else { continue };
            let node = &mut nodes[primary.get() as usize];
            if view.reading_from == Some(primary) || !node.is_awake(now) {
                continue;
            }
            let hides = i64::from(node.bug == Some(Bug::HidesNewest));
            let Some(upto) = visible(node, *partition) else { continue };
            let upto = if upto.get() > 0 { Offset::new(upto.get() - hides) } else { upto };
            if view.position < upto {
                node.read(*partition, view.position, upto);
                view.reading_from = Some(primary);
            }
        }
    }

    /// What a node's reads gave.
    pub fn take(&mut self, node: &mut Node) {
        let Some(up) = node.up.as_mut() else { return };
        for (partition, batches) in std::mem::take(&mut up.read) {
            let Some(view) = self.views.get_mut(&partition) else { continue };
            if view.reading_from != Some(node.id) {
                continue;
            }
            view.reading_from = None;
            let start = up.driver.borrow().log(partition).map(|log| log.positions().start);
            match batches {
                Ok(batches) => view.take(&batches),
                Err(_) => view.position = view.position.max(start.unwrap_or_default()),
            }
        }
    }

    /// A node has gone: reads from it will not be answered.
    pub fn gone(&mut self, node: NodeId) {
        for view in self.views.values_mut() {
            view.reading_from.take_if(|from| *from == node);
        }
        for partition in self.views.keys().copied().collect::<Vec<_>>() {
            self.abandoned(node, partition);
        }
    }
}

/// Up to where a node shows records: what it knows to be committed, if it leads.
fn visible(node: &Node, partition: TopicPartition) -> Option<Offset> {
    let driver = node.up.as_ref()?.driver.borrow();
    let replica = driver.replica(partition)?;
    replica.leads().map(|_| replica.committed())
}

impl View {
    fn take(&mut self, batches: &[Bytes]) {
        for batch in batches {
            let Ok(header) = heddle_proto::batch::BatchHeader::parse(batch) else { return };
            for (index, id) in ids_of(batch).into_iter().enumerate() {
                let offset = header.base_offset.plus(index as i64);
                if offset >= self.position {
                    self.read.insert(offset, id);
                }
            }
            self.position = self.position.max(header.next_offset());
        }
    }
}
