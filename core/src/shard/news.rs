//! What newer metadata means for the replicas of a core: which it has, and what each is told. Pure functions of images,
//! which the simulator uses as the broker does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use heddle_log_store::Disk;
use heddle_proto::ids::{CoreId, Epoch, NodeId, PartitionIndex, TopicPartition};
use heddle_replication::{
    history::History,
    leadership::Grant,
    message::Life,
    replica::{Config as ReplicaConfig, Hold},
    rules::Rules,
};
use heddle_replication_driver::{Driver, Placement};

use crate::metadata::{
    ClusterImage, Durability, PartitionImage, TopicImage,
    image::{NOBODY, core_of},
};

/// A backup further behind than this many records catches up within the budget for that.
const CATCH_UP_RECORDS_MAX: i64 = 10_000;

/// The replicated partitions that have a replica on a core of a node.
pub fn replicas_on(
    image: &ClusterImage,
    (node, core): (NodeId, CoreId),
) -> impl Iterator<Item = (&TopicImage, TopicPartition, &PartitionImage)> {
    let partitions = image.topics.values().flat_map(|topic| {
        topic.partitions.iter().enumerate().map(move |(index, partition)| {
            (&**topic, TopicPartition::new(topic.id, PartitionIndex::new(index as u32)), partition)
        })
    });
    partitions
        .filter(move |(_, at, partition)| partition.is_replicated() && image.core_on(node, *at) == Some(core))
}

/// Whether a partition is there, but has no replica on a core of a node: a log of it there is to be deleted. One that the node
/// has on another core now has come back with a later move, and begins with nothing.
pub fn is_elsewhere(image: &ClusterImage, (node, core): (NodeId, CoreId), at: TopicPartition) -> bool {
    let partition = image.topic_by_id(at.topic).and_then(|topic| topic.partition(at.partition));
    partition.is_some() && image.core_on(node, at) != Some(core)
}

/// What a replica has not been told yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The nodes that are to have a replica.
    pub replicas: BTreeSet<NodeId>,
    /// On which core of its node each replica is, also those that leave.
    pub cores: BTreeMap<NodeId, CoreId>,
    /// What is in force, if that is new.
    pub grant: Option<Grant>,
    /// The epoch that it is to promise, if it is asked to and was not before.
    pub seal: Option<Epoch>,
    /// Whether it is to go on taking records for a while before it promises: it is a backup where the primary alone commits.
    pub seals_late: bool,
    /// Whether it leads, and no election is under way.
    pub leads: bool,
}

impl News {
    /// What is new for the replica of a node in this life, which was told of `before` if it is hosted already.
    pub fn of(
        image: &ClusterImage,
        (node, life): (NodeId, Life),
        topic: &TopicImage,
        partition: &PartitionImage,
        before: Option<&PartitionImage>,
    ) -> News {
        let replicas = partition.replicas.iter().map(|replica| NodeId::new(replica.node)).collect();
        let all = partition.replicas.iter().chain(&partition.leaving);
        let cores = all.filter_map(|replica| {
            let node = image.nodes.get(&replica.node)?;
            Some((NodeId::new(replica.node), core_of(topic.id, replica.slot, node.core_count)))
        });
        let is_new_grant = before.is_none_or(|before| before.grant() != partition.grant());
        let is_new_seal = before.is_none_or(|before| before.electing() != partition.electing());
        News {
            replicas,
            cores: cores.collect(),
            grant: is_new_grant.then(|| partition.grant()),
            seal: partition.electing().filter(|_| is_new_seal && partition.isr.contains(&node.get())),
            seals_late: partition.quorum <= 1 && ![node.get(), NOBODY].contains(&partition.leader),
            leads: partition.electing == 0
                && partition.leader == node.get()
                && partition.leader_life == life.0,
        }
    }

    /// How the replica is hosted that has heard nothing yet, over a log with this history. `at_start` is the metadata
    /// when this life of the node began: what may be older than it is what a replica can have forgotten.
    pub fn placement(
        &self,
        at_start: &ClusterImage,
        topic: &TopicImage,
        at: TopicPartition,
        (history, is_damaged): (History, bool),
    ) -> Placement {
        let before = at_start.topic_by_id(at.topic).and_then(|topic| topic.partition(at.partition));
        Placement {
            partition: at,
            config: ReplicaConfig {
                hold: match topic.config.durability {
                    Durability::Fsync => Hold::Durable,
                    Durability::Replicated | Durability::Async => Hold::Written,
                },
                catch_up_records_max: CATCH_UP_RECORDS_MAX,
                rules: Rules::default(),
            },
            replicas: self.replicas.clone(),
            cores: self.cores.clone(),
            history,
            is_damaged,
            newest_epoch: before.map_or(Epoch::new(0), PartitionImage::newest_epoch),
            was_led: before.is_some_and(|before| before.grant().primary.is_some()),
        }
    }

    /// Tells the replica, which is hosted. A late seal is the caller's to do.
    pub fn tell<D: Disk>(self, now: Duration, at: TopicPartition, driver: &mut Driver<D>) {
        driver.place(now, at, self.replicas, self.cores);
        if let Some(grant) = self.grant {
            driver.granted(now, at, grant);
        }
        if let Some(epoch) = self.seal.filter(|_| !self.seals_late) {
            driver.seal(now, at, epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use heddle_proto::ids::TopicId;

    use super::*;
    use crate::metadata::{ReplicaSlot, TopicConfig};

    const TOPIC: TopicId = TopicId::new([9; 16]);
    const AT: TopicPartition = TopicPartition::new(TOPIC, PartitionIndex::new(0));

    fn on(nodes: &[u32]) -> Vec<ReplicaSlot> {
        nodes.iter().map(|node| ReplicaSlot { node: *node, slot: 0 }).collect()
    }

    fn image_of(partition: PartitionImage) -> ClusterImage {
        let mut image = ClusterImage::default();
        for node in 1..=4 {
            let start = crate::metadata::Command::StartNode {
                node,
                host: "h".into(),
                port: 1,
                core_count: 1,
                port_mode: crate::metadata::PortMode::PerCore,
                peer_address: String::new(),
                rack: String::new(),
            };
            crate::metadata::command::apply(&mut image, &start).expect("starts");
        }
        let config = TopicConfig::parse(&BTreeMap::new()).expect("the defaults are valid");
        let partitions = vec![partition];
        let topic =
            TopicImage { name: "t".into(), id: TOPIC, overrides: BTreeMap::new(), config, partitions };
        let topic = Arc::new(topic);
        image.topics_by_id.insert(TOPIC, topic.clone());
        image.topics.insert("t".into(), topic);
        image
    }

    fn news(node: u32, partition: &PartitionImage, before: Option<&PartitionImage>) -> News {
        let image = image_of(partition.clone());
        News::of(&image, (NodeId::new(node), Life(1)), &image.topics["t"], partition, before)
    }

    #[test]
    fn a_member_is_asked_once_to_seal_and_told_once_what_is_in_force() {
        let first = PartitionImage::new(on(&[1, 2, 3]), 2);
        let told = news(1, &first, None);
        assert_eq!((told.seal, told.grant.is_some(), told.leads), (Some(Epoch::new(1)), true, false));
        let told = news(1, &first, Some(&first));
        assert_eq!((told.seal, told.grant), (None, None));
        let led = PartitionImage { electing: 0, epoch: 1, leader: 1, leader_life: 1, ..first.clone() };
        let told = news(1, &led, Some(&first));
        assert_eq!((told.seal, told.grant, told.leads), (None, Some(led.grant()), true));
        assert!(!news(2, &led, Some(&first)).leads);
        let again = PartitionImage { electing: 2, ..led.clone() };
        let told = news(1, &again, Some(&led));
        assert_eq!((told.seal, told.grant, told.leads), (Some(Epoch::new(2)), None, false));
        let joined = PartitionImage { replicas: on(&[1, 2, 3, 4]), ..again };
        assert_eq!(news(4, &joined, None).seal, None, "it is not in sync");
    }

    #[test]
    fn a_replica_that_leaves_is_hosted_until_it_is_out_of_sync() {
        let moved = PartitionImage {
            leaving: on(&[3]),
            replicas: on(&[1, 2]),
            ..PartitionImage::new(on(&[1, 2, 3]), 2)
        };
        let image = image_of(moved.clone());
        let has = |node| replicas_on(&image, (NodeId::new(node), CoreId::new(0))).count();
        assert_eq!([1, 2, 3, 4].map(has), [1, 1, 1, 0]);
        let is_elsewhere = |node| is_elsewhere(&image, (NodeId::new(node), CoreId::new(0)), AT);
        assert_eq!([1, 3, 4].map(is_elsewhere), [false, false, true]);
        let on_another_core = super::is_elsewhere(&image, (NodeId::new(1), CoreId::new(1)), AT);
        assert!(on_another_core, "what this core has is of another time");
        let told = news(3, &moved, None);
        assert!(told.cores.contains_key(&NodeId::new(3)) && !told.replicas.contains(&NodeId::new(3)));
    }
}
