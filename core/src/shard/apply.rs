//! New metadata reaches a core: partitions change, go away, and their files are deleted.

use std::{rc::Rc, sync::Arc};

use heddle_log_store::Disk;
use heddle_proto::ids::{TopicId, TopicPartition};

use super::Shard;
use crate::metadata::ClusterImage;

impl<D: Disk> Shard<D> {
    /// Takes over a newer image. Partitions that are gone stop answering at once.
    pub fn apply(self: &Rc<Self>, image: Arc<ClusterImage>) {
        if image.index < self.image.borrow().index {
            return;
        }
        self.quotas.apply(&image.quotas);
        let before = self.image.replace(image.clone());
        let open: Vec<_> = self.partitions.borrow().values().cloned().collect();
        let mut configs = ahash::AHashMap::new();
        for partition in open {
            let topic = image.topic_by_id(partition.at.topic);
            match topic.and_then(|topic| topic.partition(partition.at.partition).map(|found| (topic, found)))
            {
                Some((topic, found)) => {
                    let config = configs.entry(topic.id).or_insert_with(|| Arc::new(topic.config.clone()));
                    partition.update(found.epoch(), config);
                }
                None => {
                    self.partitions.borrow_mut().remove(&partition.at);
                    self.hooks.detach(partition.log().id());
                    partition.close();
                }
            }
        }
        self.follow_replicas();
        self.follow_groups(&before);
        self.follow_transactions();
    }

    /// Deletes what this core's store has of a deleted topic.
    pub async fn purge(self: &Rc<Self>, topic: TopicId) {
        let logs: Vec<TopicPartition> =
            self.store.partitions().into_iter().filter(|at| at.topic == topic).collect();
        for at in logs {
            match self.store.delete(at).await {
                Ok(()) => self.replicas.left(at, self.core()),
                Err(error) => {
                    tracing::warn!(topic = %topic, partition = %at.partition, %error, "files of a deleted topic stay for now");
                }
            }
        }
    }

    /// Whether the caller is the one to delete a topic's files: once per topic and process.
    pub fn begin_deletion(&self, topic: TopicId) -> bool {
        self.deletions.borrow_mut().insert(topic)
    }

    /// Removes what is left of a deleted topic on disk; false when something stays, for the next start to remove.
    pub async fn remove_topic_files(&self, topic: TopicId) -> bool {
        match self.store.remove_topic(topic).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%topic, %error, "files of a deleted topic stay until the next start");
                false
            }
        }
    }

    /// The core stops: new work is refused, and everybody who waits is woken.
    pub fn begin_stop(&self) {
        self.stopping.set(true);
        self.groups.stop();
        self.transactions.stop();
        self.room.fire();
        let open: Vec<_> = self.partitions.borrow().values().cloned().collect();
        for partition in open {
            partition.wake();
        }
    }
}
