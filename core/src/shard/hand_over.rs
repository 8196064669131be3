//! Records that come while the leader of their partition changes wait for the new one instead of coming back.
//!
//! A client that is refused waits before it tries again, 100 ms at first with most Kafka clients and twice as long each
//! time; an election in which everybody answers takes a tenth of that. So a node that stops first lets records wait, has
//! everything committed that it has, so that none of its clients has to wonder what became of a record, and only then gives
//! up what it leads. What comes meanwhile is answered when the new leader is known and can be named (KIP-951). If that takes
//! longer than records may wait, they are treated as at any other time.

use std::time::{Duration, Instant};

use heddle_log_store::Disk;
use heddle_proto::ids::TopicPartition;

use super::Shard;
use crate::{metadata::PartitionImage, runtime::time::sleep};

/// How long records wait for the new leader at most. Longer than an election in which everybody answers; behind them wait
/// all other requests of their connection.
const LEADER_WAIT_MAX: Duration = Duration::from_millis(100);

/// How long a node that stops tries to have everything committed before it hands over.
const SETTLE_MAX: Duration = Duration::from_millis(100);

/// How often whoever waits looks again.
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl<D: Disk> Shard<D> {
    /// The node is about to hand over what it leads: from now on records of partitions that others can lead wait. Returns
    /// when what was taken before is committed, or after a while.
    pub async fn settle_before_hand_over(&self) {
        self.handing_over.set(true);
        let deadline = Instant::now() + SETTLE_MAX;
        while !self.is_settled() && Instant::now() < deadline {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the node gives up what it leads.
    pub fn is_handing_over(&self) -> bool {
        self.handing_over.get()
    }

    fn is_settled(&self) -> bool {
        let partitions = self.partitions.borrow();
        partitions.values().all(|it| !it.is_replicated() || !it.leads() || it.is_all_committed())
    }

    /// Waits while the leader of a partition changes, but not for long after its records came: all partitions of a request
    /// have one time for that together. Returns at once where nothing changes.
    pub async fn wait_for_leader(&self, at: TopicPartition, came: Instant) {
        let deadline = came + LEADER_WAIT_MAX;
        while self.is_changing_leader(at) && !self.is_stopping() && Instant::now() < deadline {
            sleep(LOOK_EVERY).await;
        }
    }

    fn is_changing_leader(&self, at: TopicPartition) -> bool {
        let image = self.image();
        let Some(partition) = image.topic_by_id(at.topic).and_then(|topic| topic.partition(at.partition))
        else {
            return false;
        };
        partition.electing != 0 || self.hands_over(partition) || self.does_not_know_yet(at, partition)
    }

    fn hands_over(&self, partition: &PartitionImage) -> bool {
        self.handing_over.get()
            && partition.leader == self.node.get()
            && partition.has_others_in_sync(self.node.get())
    }

    /// This core has the new primary's replica, and it has not begun to lead.
    fn does_not_know_yet(&self, at: TopicPartition, image: &PartitionImage) -> bool {
        let partitions = self.partitions.borrow();
        image.leader == self.node.get() && partitions.get(&at).is_some_and(|partition| !partition.leads())
    }
}
