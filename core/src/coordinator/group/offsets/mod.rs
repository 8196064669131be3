//! How far a group has read: committed offsets, and those that an open transaction is about to commit.
//!
//! All of it is durable. Everything changes through [`GroupOffsets::apply_offset`] and [`GroupOffsets::apply_pending`],
//! live and when records are read back.

mod commit;
mod expiry;
mod fetch;

use std::collections::BTreeMap;

use heddle_proto::ids::{PartitionIndex, ProducerId};

use super::{
    context::Context,
    ids::{GroupId, TopicName},
    message::TopicPartitionName,
    record::{CommittedOffset, GroupRecord},
};

pub use expiry::ExpiryRule;

/// Place of a record among those of one group's offsets.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct RecordOrder(u64);

/// An offset with its place in the order of this group's records: the later one wins.
#[derive(Clone, Debug)]
struct Stored {
    value: CommittedOffset,
    order: RecordOrder,
}

type Partitions = BTreeMap<PartitionIndex, Stored>;

/// The offsets of one group.
#[derive(Clone, Debug, Default)]
pub struct GroupOffsets {
    committed: BTreeMap<TopicName, Partitions>,
    pending: BTreeMap<ProducerId, BTreeMap<TopicPartitionName, Stored>>,
    order: RecordOrder,
}

impl GroupOffsets {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    /// Whether this producer has offsets waiting for the end of its transaction.
    pub fn has_pending_of(&self, producer: ProducerId) -> bool {
        self.pending.contains_key(&producer)
    }

    /// Sets or forgets a committed offset.
    pub fn apply_offset(
        &mut self,
        topic: TopicName,
        partition: PartitionIndex,
        value: Option<CommittedOffset>,
    ) {
        let order = self.next_order();
        match value {
            Some(value) => {
                self.committed.entry(topic).or_default().insert(partition, Stored { value, order });
            }
            None => {
                if let Some(partitions) = self.committed.get_mut(&topic) {
                    partitions.remove(&partition);
                    if partitions.is_empty() {
                        self.committed.remove(&topic);
                    }
                }
            }
        }
    }

    /// Sets or forgets an offset of an open transaction.
    pub fn apply_pending(
        &mut self,
        producer: ProducerId,
        partition: TopicPartitionName,
        value: Option<CommittedOffset>,
    ) {
        let order = self.next_order();
        match value {
            Some(value) => {
                self.pending.entry(producer).or_default().insert(partition, Stored { value, order });
            }
            None => {
                if let Some(partitions) = self.pending.get_mut(&producer) {
                    partitions.remove(&partition);
                    if partitions.is_empty() {
                        self.pending.remove(&producer);
                    }
                }
            }
        }
    }

    /// All of it as records.
    pub fn snapshot(&self, group: &GroupId) -> Vec<GroupRecord> {
        let committed = self.committed.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|(partition, stored)| {
                offset_record(group, topic, *partition, Some(stored.value.clone()))
            })
        });
        let pending = self.pending.iter().flat_map(|(producer, partitions)| {
            partitions.iter().map(|(partition, stored)| {
                pending_record(group, *producer, partition, Some(stored.value.clone()))
            })
        });
        committed.chain(pending).collect()
    }

    /// Forgets everything.
    pub fn delete_all(&mut self, cx: &mut Context<'_>) {
        for record in self.snapshot(cx.group) {
            cx.write(record.tombstone());
        }
        *self = Self { order: self.order, ..Self::default() };
    }

    fn has_pending_for(&self, topic: &TopicName, partition: PartitionIndex) -> bool {
        let partition = TopicPartitionName { topic: topic.clone(), partition };
        self.pending.values().any(|partitions| partitions.contains_key(&partition))
    }

    fn next_order(&mut self) -> RecordOrder {
        self.order = RecordOrder(self.order.0 + 1);
        self.order
    }

    fn write_offset(
        &mut self,
        cx: &mut Context<'_>,
        topic: &TopicName,
        partition: PartitionIndex,
        value: Option<CommittedOffset>,
    ) {
        cx.write(offset_record(cx.group, topic, partition, value.clone()));
        self.apply_offset(topic.clone(), partition, value);
    }

    fn write_pending(
        &mut self,
        cx: &mut Context<'_>,
        producer: ProducerId,
        partition: &TopicPartitionName,
        value: Option<CommittedOffset>,
    ) {
        cx.write(pending_record(cx.group, producer, partition, value.clone()));
        self.apply_pending(producer, partition.clone(), value);
    }
}

fn offset_record(
    group: &GroupId,
    topic: &TopicName,
    partition: PartitionIndex,
    value: Option<CommittedOffset>,
) -> GroupRecord {
    GroupRecord::Offset { group: group.clone(), topic: topic.clone(), partition, value }
}

fn pending_record(
    group: &GroupId,
    producer: ProducerId,
    partition: &TopicPartitionName,
    value: Option<CommittedOffset>,
) -> GroupRecord {
    let TopicPartitionName { topic, partition } = partition.clone();
    GroupRecord::PendingOffset { group: group.clone(), producer, topic, partition, value }
}
