//! Reading and deleting offsets.

use heddle_proto::{
    error::ErrorCode,
    ids::{Epoch, Offset},
};

use super::{GroupOffsets, Stored};
use crate::coordinator::group::{
    context::Context,
    ids::TopicName,
    message::{FetchTopics, FetchedPartition, PartitionResult, TopicPartitionName},
    topics::TopicImage,
};

impl GroupOffsets {
    /// The offsets asked for. One that belongs to a deleted topic of the same name is none.
    pub fn fetch(
        &self,
        image: &TopicImage,
        topics: FetchTopics,
        require_stable: bool,
    ) -> Vec<FetchedPartition> {
        let (partitions, is_all) = match topics {
            FetchTopics::These(partitions) => (partitions, false),
            FetchTopics::All => (self.all_partitions(), true),
        };
        let fetched = partitions.into_iter().filter_map(|partition| {
            let stored = self.current(image, &partition);
            if require_stable && self.has_pending_for(&partition.topic, partition.partition) {
                return Some(FetchedPartition::none(partition, ErrorCode::UnstableOffsetCommit));
            }
            match stored {
                Some(stored) => Some(FetchedPartition {
                    partition,
                    error: ErrorCode::None,
                    offset: stored.value.offset,
                    leader_epoch: stored.value.leader_epoch,
                    metadata: stored.value.metadata.clone(),
                }),
                None => (!is_all).then(|| FetchedPartition::none(partition, ErrorCode::None)),
            }
        });
        fetched.collect()
    }

    fn all_partitions(&self) -> Vec<TopicPartitionName> {
        let all = self.committed.iter().flat_map(|(topic, partitions)| {
            partitions
                .keys()
                .map(|partition| TopicPartitionName { topic: topic.clone(), partition: *partition })
        });
        all.collect()
    }

    fn current(&self, image: &TopicImage, partition: &TopicPartitionName) -> Option<&Stored> {
        let stored = self.committed.get(&partition.topic)?.get(&partition.partition)?;
        let is_another = image.get(&partition.topic).is_some_and(|topic| topic.id != stored.value.topic_id);
        (!is_another).then_some(stored)
    }

    /// Forgets offsets, unless the group reads the topic.
    pub fn delete(
        &mut self,
        cx: &mut Context<'_>,
        partitions: Vec<TopicPartitionName>,
        is_subscribed: impl Fn(&TopicName) -> bool,
    ) -> Vec<PartitionResult> {
        let mut results = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let topic = cx.topics.get(&partition.topic);
            let exists = topic.is_some_and(|topic| partition.partition.get() < topic.partition_count);
            let error = if !exists {
                ErrorCode::UnknownTopicOrPartition
            } else if is_subscribed(&partition.topic) {
                ErrorCode::GroupSubscribedToTopic
            } else {
                self.forget(cx, &partition);
                ErrorCode::None
            };
            results.push(PartitionResult { partition, error });
        }
        results
    }

    fn forget(&mut self, cx: &mut Context<'_>, partition: &TopicPartitionName) {
        let known = self.committed.get(&partition.topic);
        if known.is_some_and(|known| known.contains_key(&partition.partition)) {
            self.write_offset(cx, &partition.topic, partition.partition, None);
        }
    }

    /// A topic was deleted: its offsets mean nothing any more, decided or not.
    pub fn forget_topic(&mut self, cx: &mut Context<'_>, topic: &TopicName) {
        for partition in self.committed.get(topic).cloned().unwrap_or_default().into_keys() {
            self.write_offset(cx, topic, partition, None);
        }
        let pending: Vec<_> = self
            .pending
            .iter()
            .flat_map(|(producer, partitions)| {
                partitions.keys().map(|partition| (*producer, partition.clone()))
            })
            .filter(|(_, partition)| partition.topic == *topic)
            .collect();
        for (producer, partition) in pending {
            self.write_pending(cx, producer, &partition, None);
        }
    }
}

impl FetchedPartition {
    /// No offset, and why.
    pub fn none(partition: TopicPartitionName, error: ErrorCode) -> Self {
        Self { partition, error, offset: Offset::new(-1), leader_epoch: Epoch::NONE, metadata: "".into() }
    }
}
