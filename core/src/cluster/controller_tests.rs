//! What the controller decides, with the commands applied as they come.

use heddle_proto::ids::TopicId;
use heddle_replication::message::Life;

use super::*;
use crate::{
    cluster::note::Sealed,
    metadata::{ReplicaSlot, command::apply, elections::InSyncChange},
};

const TOPIC: TopicId = TopicId::new([9; 16]);
const AT: TopicPartition = TopicPartition::new(TOPIC, PartitionIndex::new(0));

/// Nodes that live, one partition, and whoever decides.
struct Cluster {
    now: Duration,
    image: ClusterImage,
    controller: Controller,
    nodes: Vec<u32>,
    /// The ends of logs, where they are not 10.
    ends: BTreeMap<u32, i64>,
}

fn cluster(node_count: u32, replicas: &[u32]) -> Cluster {
    let mut image = ClusterImage::default();
    for node in 1..=node_count {
        apply(&mut image, &Command::start(node)).expect("starts");
    }
    let create = Command::CreateTopic {
        name: "t".into(),
        id: TOPIC.to_string(),
        partition_count: 1,
        replication_factor: replicas.len() as u16,
        overrides: BTreeMap::from([("min.insync.replicas".to_owned(), "2".to_owned())]),
        replicas: vec![replicas.iter().map(|node| ReplicaSlot { node: *node, slot: 0 }).collect()],
    };
    apply(&mut image, &create).expect("creates");
    let now = Duration::from_secs(100);
    let nodes = (1..=node_count).collect();
    let mut cluster =
        Cluster { now, image, controller: Controller::new(now, None), nodes, ends: BTreeMap::new() };
    cluster.run(Duration::from_secs(1));
    cluster
}

impl Cluster {
    fn partition(&self) -> PartitionImage {
        self.image.topic("t").expect("is there").partitions[0].clone()
    }

    /// So long everybody says every 50 ms what there is to say, and what is decided happens.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(50);
            let electing = self.partition().electing;
            for node in self.nodes.clone() {
                let answer = SealAnswer {
                    life: Life(1),
                    accepted: Epoch::new(1),
                    end: Offset::new(self.ends.get(&node).copied().unwrap_or(10)),
                    last_epoch: Epoch::new(1),
                    forgot: false,
                };
                let has_sealed = electing != 0 && self.partition().isr.contains(&node);
                let sealed = has_sealed.then_some(Sealed { at: AT, epoch: electing, answer });
                let tell = Tell {
                    node,
                    life: 1,
                    is_leaving: false,
                    sealed: sealed.into_iter().collect(),
                    wishes: Vec::new(),
                };
                self.controller.hear(self.now, tell);
            }
            for command in self.controller.decide(self.now, &self.image) {
                apply(&mut self.image, &command).expect("is taken");
            }
        }
    }

    fn sync(&mut self, members: &[u32]) {
        let now = self.partition();
        let change = InSyncChange {
            topic: TOPIC,
            partition: 0,
            epoch: now.epoch,
            version: now.isr_version,
            from: now.isr.clone(),
            members: members.to_vec(),
        };
        apply(&mut self.image, &Command::ChangeInSync { changes: vec![change] }).expect("is taken");
        assert_eq!(self.partition().isr, members);
    }

    fn reassign(&mut self, target: &[u32]) {
        let target = target.iter().map(|node| ReplicaSlot { node: *node, slot: 1 }).collect();
        let command = Command::Reassign { topic: "t".into(), partition: 0, target: Some(target) };
        apply(&mut self.image, &command).expect("begins");
    }

    fn replicas(&self) -> Vec<u32> {
        self.partition().replicas.iter().map(|replica| replica.node).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_dead_leader_is_replaced_and_gets_its_turn_back_when_it_has_settled() {
    let mut cluster = cluster(3, &[1, 2, 3]);
    assert_eq!(cluster.partition().leader, 1);
    cluster.nodes = vec![2, 3];
    cluster.run(SECOND);
    assert_eq!((cluster.partition().leader, cluster.partition().epoch), (2, 2));
    cluster.nodes = vec![1, 2, 3];
    cluster.run(3 * SECOND);
    assert_eq!(cluster.partition().leader, 2, "too early");
    cluster.run(10 * SECOND);
    assert_eq!((cluster.partition().leader, cluster.partition().epoch), (1, 3));
}

#[test]
fn a_move_ends_when_the_newcomer_is_in_sync_and_the_leader_that_goes_has_yielded() {
    let mut cluster = cluster(4, &[1, 2, 3]);
    cluster.reassign(&[4, 2, 3]);
    cluster.run(2 * SECOND);
    assert_eq!((cluster.partition().leader, cluster.replicas()), (1, vec![1, 2, 3, 4]));
    cluster.sync(&[1, 2, 3, 4]);
    cluster.run(SECOND);
    assert_eq!((cluster.partition().leader, cluster.replicas()), (4, vec![4, 2, 3]));
    assert_eq!(cluster.partition().isr, [1, 2, 3, 4], "the primary takes it out");
    cluster.sync(&[2, 3, 4]);
    cluster.run(20 * SECOND);
    assert_eq!((cluster.partition().epoch, cluster.partition().leaving), (2, vec![]), "it is quiet now");
}

#[test]
fn a_move_to_other_nodes_altogether_ends_although_those_that_stay_are_few() {
    let mut cluster = cluster(6, &[1, 2, 3]);
    cluster.reassign(&[4, 5, 6]);
    cluster.sync(&[1, 2, 3, 4, 5, 6]);
    // All but the leader that goes answer with less than it has: five of six are sure to have what is committed.
    cluster.ends = BTreeMap::from([(1, 20)]);
    cluster.run(SECOND);
    assert_eq!((cluster.partition().leader, cluster.replicas()), (4, vec![4, 5, 6]));
}

#[test]
fn who_stays_leads_only_if_that_loses_nothing_and_it_is_tried_again_later() {
    let mut cluster = cluster(6, &[1, 2, 3]);
    cluster.reassign(&[4, 5, 6]);
    cluster.sync(&[1, 2, 3, 4, 5, 6]);
    // Two have more: what they have may be committed.
    cluster.ends = BTreeMap::from([(1, 20), (2, 20)]);
    cluster.run(SECOND);
    let after = cluster.partition();
    assert_eq!((after.leader, after.epoch, after.lossy, after.is_moving()), (1, 2, 0, true));
    cluster.run(2 * SECOND);
    assert_eq!(cluster.partition().epoch, 2, "it is left alone for a while");
    cluster.ends.clear();
    cluster.run(4 * SECOND);
    assert_eq!((cluster.partition().leader, cluster.replicas()), (4, vec![4, 5, 6]));
}

#[test]
fn a_node_that_is_drained_gives_leadership_and_then_replicas_away() {
    let mut cluster = cluster(5, &[1, 2, 3]);
    cluster.nodes = vec![1, 2, 3, 5];
    cluster.run(SECOND);
    apply(&mut cluster.image, &Command::DrainNode { node: 1, is_draining: true }).expect("is taken");
    cluster.run(3 * SECOND);
    let moving = cluster.partition();
    assert_ne!(moving.leader, 1);
    let target: BTreeSet<u32> = moving.target.iter().map(|replica| replica.node).collect();
    assert_eq!(target, BTreeSet::from([2, 3, 5]), "the dead node 4 gets nothing");
    assert_ne!(moving.target[0].node, 1);
    cluster.sync(&[1, 2, 3, 5]);
    cluster.run(SECOND);
    cluster.sync(&[2, 3, 5]);
    apply(&mut cluster.image, &Command::RemoveNode { node: 1 }).expect("it has nothing left");
    assert!(cluster.image.draining.is_empty());
    apply(&mut cluster.image, &Command::RemoveNode { node: 2 }).expect_err("it has replicas");
}

#[test]
fn a_move_ends_although_all_that_stay_are_drained() {
    let mut cluster = cluster(3, &[1, 2, 3]);
    cluster.reassign(&[2, 3]);
    for node in [2, 3] {
        apply(&mut cluster.image, &Command::DrainNode { node, is_draining: true }).expect("is taken");
    }
    cluster.run(SECOND / 2);
    assert_eq!((cluster.partition().leader, cluster.replicas()), (2, vec![2, 3]));
}

#[test]
fn a_wish_hands_over_once() {
    let mut cluster = cluster(3, &[1, 2, 3]);
    cluster.controller.hand_over(AT, cluster.partition().epoch);
    cluster.run(SECOND);
    assert_eq!((cluster.partition().leader, cluster.partition().epoch), (2, 2));
    cluster.run(2 * SECOND);
    assert_eq!(cluster.partition().epoch, 2);
}
