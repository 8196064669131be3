//! A node comes, and the controller gives it its share, with the commands applied as they come.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use heddle_proto::ids::{Epoch, Offset, PartitionIndex, TopicId};
use heddle_replication::{leadership::SealAnswer, message::Life};

use super::*;
use crate::{
    cluster::{controller::Controller, message::Tell, moves::MOVES_AT_ONCE_MAX, note::Sealed},
    metadata::{ReplicaSlot, command::apply, elections::InSyncChange, snapshot::Snapshot},
};

const TOPIC: TopicId = TopicId::new([9; 16]);
const TICK: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);

/// Nodes that live and copy what moves to them, a topic, and whoever decides.
struct Cluster {
    now: Duration,
    image: ClusterImage,
    controller: Controller,
    alive: BTreeSet<u32>,
    /// How often each partition was moved by the cluster itself.
    moved: BTreeMap<u32, u32>,
    /// When each partition that moves began to.
    since: BTreeMap<usize, Duration>,
    at_once_max: usize,
}

/// How long a partition takes to be copied.
const COPY: Duration = Duration::from_secs(2);

fn cluster(node_count: u32, partition_count: u32, replication_factor: u16) -> Cluster {
    let now = Duration::from_secs(100);
    let mut cluster = Cluster {
        now,
        image: ClusterImage::default(),
        controller: Controller::new(now, None),
        alive: BTreeSet::new(),
        moved: BTreeMap::new(),
        since: BTreeMap::new(),
        at_once_max: 0,
    };
    (1..=node_count).for_each(|node| cluster.start(node));
    let create = Command::CreateTopic {
        name: "t".into(),
        id: TOPIC.to_string(),
        partition_count,
        replication_factor,
        overrides: BTreeMap::new(),
        replicas: Vec::new(),
    };
    cluster.apply(&create);
    cluster.run(10 * SECOND);
    cluster
}

impl Cluster {
    fn apply(&mut self, command: &Command) {
        apply(&mut self.image, command).expect("is taken");
    }

    fn start(&mut self, node: u32) {
        self.apply(&Command::start(node));
        self.alive.insert(node);
    }

    fn partitions(&self) -> &[PartitionImage] {
        &self.image.topic("t").expect("is there").partitions
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += TICK;
            self.turn();
        }
    }

    fn turn(&mut self) {
        for node in self.alive.clone() {
            let life = self.image.nodes[&node].life;
            let answer = SealAnswer {
                life: Life(life),
                accepted: Epoch::new(1),
                end: Offset::new(10),
                last_epoch: Epoch::new(1),
                forgot: false,
            };
            let electing = (0..).zip(self.partitions()).filter(|(_, it)| it.electing != 0);
            let sealed = electing.filter(|(_, it)| it.isr.contains(&node)).map(|(index, it)| {
                let at = TopicPartition::new(TOPIC, PartitionIndex::new(index));
                Sealed { at, epoch: it.electing, answer }
            });
            let sealed = sealed.collect();
            let tell = Tell { node, life, is_leaving: false, sealed, wishes: Vec::new() };
            self.controller.hear(self.now, tell);
        }
        for command in self.controller.decide(self.now, &self.image) {
            if let Command::Rebalance { moves } = &command {
                moves.iter().for_each(|it| *self.moved.entry(it.partition).or_default() += 1);
            }
            self.apply(&command);
        }
        let moving = self.partitions().iter().filter(|it| it.is_moving()).count();
        self.at_once_max = self.at_once_max.max(moving);
        self.copy();
    }

    /// Replicas that live get in sync after a while; those that have left go at once.
    fn copy(&mut self) {
        let mut changes = Vec::new();
        for (index, partition) in self.image.topic("t").expect("is there").partitions.iter().enumerate() {
            if !partition.is_moving() {
                self.since.remove(&index);
            } else if self.now - *self.since.entry(index).or_insert(self.now) < COPY {
                continue;
            }
            let replicas = partition.replicas.iter().map(|replica| replica.node);
            let members: BTreeSet<u32> = replicas.filter(|node| self.alive.contains(node)).collect();
            let isr: BTreeSet<u32> = partition.isr.iter().copied().collect();
            if partition.electing == 0 && members != isr && self.alive.contains(&partition.leader) {
                changes.push(InSyncChange {
                    topic: TOPIC,
                    partition: index as u32,
                    epoch: partition.epoch,
                    version: partition.isr_version,
                    from: partition.isr.clone(),
                    members: members.into_iter().collect(),
                });
            }
        }
        self.apply(&Command::ChangeInSync { changes });
    }

    fn held(&self, node: u32) -> usize {
        self.partitions().iter().filter(|it| it.replica_on(node).is_some()).count()
    }

    fn led(&self, node: u32) -> usize {
        self.partitions().iter().filter(|it| it.leader == node).count()
    }

    fn reassign(&mut self, partition: u32, target: Option<&[u32]>) {
        let slots =
            |nodes: &[u32]| nodes.iter().map(|node| ReplicaSlot { node: *node, slot: 1 }).collect::<Vec<_>>();
        self.apply(&Command::Reassign { topic: "t".into(), partition, target: target.map(slots) });
    }

    fn replicas(&self, partition: u32) -> Vec<u32> {
        self.partitions()[partition as usize].replicas.iter().map(|replica| replica.node).collect()
    }

    /// Nothing moves any more, and nothing is to be.
    fn is_quiet(&mut self) {
        assert!(self.image.filling.is_empty() && self.image.placed_by_hand.is_empty());
        let before = self.moved.clone();
        let leaders: Vec<u32> = self.partitions().iter().map(|it| it.leader).collect();
        self.run(60 * SECOND);
        assert_eq!(self.moved, before);
        assert!(self.partitions().iter().map(|it| it.leader).eq(leaders));
    }
}

#[test]
fn a_node_that_came_gets_its_share_few_at_a_time_and_then_all_is_quiet() {
    let mut cluster = cluster(3, 64, 3);
    cluster.start(4);
    cluster.run(4 * SECOND);
    assert_eq!(cluster.held(4), 0, "it has not settled");
    cluster.run(60 * SECOND);
    assert_eq!((cluster.held(4), cluster.led(4)), (48, 16));
    assert_eq!(cluster.at_once_max, MOVES_AT_ONCE_MAX);
    assert_eq!(cluster.moved.len(), 48, "no partition is touched that need not be");
    for node in 1..=3 {
        assert_eq!((cluster.held(node), cluster.led(node)), (48, 16));
    }
    cluster.is_quiet();
}

#[test]
fn a_restart_a_fault_and_another_leader_of_the_metadata_move_nothing() {
    let mut cluster = cluster(4, 30, 2);
    // Not even, so that there is something that could be made more equal.
    cluster.reassign(0, Some(&[1, 2]));
    cluster.reassign(1, Some(&[1, 2]));
    cluster.reassign(2, Some(&[1, 2]));
    cluster.run(20 * SECOND);
    cluster.start(3);
    cluster.run(20 * SECOND);
    cluster.alive.remove(&4);
    cluster.run(30 * SECOND);
    cluster.controller = Controller::new(cluster.now, Some(4));
    cluster.run(30 * SECOND);
    cluster.start(4);
    cluster.run(60 * SECOND);
    assert_eq!(cluster.moved, BTreeMap::new());
}

#[test]
fn the_share_outlives_leaders_of_the_metadata_and_the_newcomers_own_faults() {
    let mut cluster = cluster(3, 64, 3);
    cluster.start(4);
    cluster.run(8 * SECOND);
    assert!((1..48).contains(&cluster.held(4)));
    cluster.controller = Controller::new(cluster.now, Some(1));
    cluster.image = through_a_snapshot(&cluster.image);
    cluster.run(6 * SECOND);
    cluster.alive.remove(&4);
    cluster.run(30 * SECOND);
    let held = cluster.held(4);
    assert!(held < 48 && cluster.image.filling.contains(&4));
    cluster.start(4);
    cluster.run(90 * SECOND);
    assert_eq!((cluster.held(4), cluster.moved.len()), (48, 48));
    cluster.is_quiet();
}

/// The image as a snapshot brings it back.
fn through_a_snapshot(image: &ClusterImage) -> ClusterImage {
    let mut bytes = simd_json::to_vec(&Snapshot::of(image)).expect("plain data becomes JSON");
    let snapshot: Snapshot = simd_json::from_slice(&mut bytes).expect("reads");
    let read = snapshot.into_image().expect("is valid");
    assert_eq!((&read.filling, &read.placed_by_hand), (&image.filling, &image.placed_by_hand));
    read
}

#[test]
fn what_an_operator_places_meanwhile_stays_there() {
    let mut cluster = cluster(3, 40, 3);
    cluster.start(4);
    cluster.run(8 * SECOND);
    let on_newcomer: Vec<u32> = (0..40).filter(|index| cluster.replicas(*index).contains(&4)).collect();
    // More than the newcomer could make up for with what it has not had.
    let taken: Vec<u32> = on_newcomer.into_iter().take(15).collect();
    assert_eq!(taken.len(), 15);
    for (turn, index) in taken.iter().enumerate() {
        let is_moving = cluster.partitions()[*index as usize].is_moving();
        cluster.reassign(*index, (turn % 2 == 0 || !is_moving).then_some(&[3, 2, 1]));
    }
    cluster.image = through_a_snapshot(&cluster.image);
    assert_eq!(cluster.image.placed_by_hand.len(), 15);
    cluster.run(90 * SECOND);
    for index in taken {
        assert!(!cluster.replicas(index).contains(&4), "partition {index} was taken from it");
    }
    assert_eq!(cluster.held(4), 25, "it gets all others");
    cluster.is_quiet();
}

#[test]
fn a_plan_that_somebody_has_overtaken_is_passed_over() {
    let mut cluster = cluster(3, 2, 3);
    cluster.start(4);
    cluster.run(5 * SECOND + 2 * TICK);
    let from = cluster.replicas(0);
    cluster.reassign(0, Some(&[3, 1, 2]));
    let slot = |node: &u32| ReplicaSlot { node: *node, slot: 1 };
    let moves = |from: &[u32]| {
        let target = [4, 1, 2].iter().map(slot).collect();
        vec![crate::metadata::reassign::Move { topic: TOPIC, partition: 0, from: from.to_vec(), target }]
    };
    let before = cluster.partitions()[0].clone();
    if from != [3, 1, 2] {
        cluster.apply(&Command::Rebalance { moves: moves(&from) });
        assert_eq!(cluster.partitions()[0], before);
    }
    cluster.apply(&Command::Rebalance { moves: moves(&[3, 1, 2]) });
    assert!(cluster.partitions()[0].is_moving());
}

#[test]
fn filling_does_not_end_while_a_node_is_away() {
    for (partition_count, replication_factor, meanwhile, share) in [(40, 3, 0, 30), (12, 1, 2, 3)] {
        let mut cluster = cluster(3, partition_count, replication_factor);
        cluster.alive.remove(&3);
        cluster.run(20 * SECOND);
        cluster.start(4);
        cluster.run(60 * SECOND);
        assert!(cluster.image.filling.contains(&4), "the one that is away may have what is to be shared");
        assert_eq!(cluster.held(4), meanwhile, "of partitions that are whole");
        cluster.start(3);
        cluster.run(60 * SECOND);
        assert_eq!(cluster.held(4), share);
        cluster.is_quiet();
    }
}

#[test]
fn a_node_that_is_drained_while_it_fills_is_left_alone_and_gets_its_share_when_that_is_undone() {
    let mut cluster = cluster(3, 40, 3);
    cluster.start(4);
    cluster.run(7 * SECOND);
    assert!(cluster.partitions().iter().any(PartitionImage::is_moving));
    cluster.alive.remove(&4);
    cluster.apply(&Command::DrainNode { node: 4, is_draining: true });
    cluster.run(20 * SECOND);
    assert_eq!(cluster.held(4), 0, "moves to it have turned round although it is dead");
    assert!(cluster.image.filling.is_empty());
    cluster.alive.insert(4);
    cluster.apply(&Command::DrainNode { node: 4, is_draining: false });
    cluster.run(60 * SECOND);
    assert_eq!((cluster.held(4), cluster.led(4)), (30, 10));
    cluster.is_quiet();
}

#[test]
fn nodes_that_come_when_there_is_nothing_and_a_controller_that_is_told_not_to_move_nothing() {
    let mut cluster = cluster(3, 4, 3);
    assert!(cluster.image.filling.is_empty(), "there was nothing to share");
    cluster.controller = Controller::new(cluster.now, None).filling(false);
    cluster.start(4);
    cluster.run(60 * SECOND);
    assert_eq!((cluster.held(4), cluster.image.filling.contains(&4)), (0, true));
}

#[test]
fn partitions_with_one_replica_are_shared_and_drained_too() {
    let mut cluster = cluster(2, 10, 1);
    cluster.start(3);
    cluster.run(60 * SECOND);
    assert_eq!((cluster.held(3), cluster.led(3), cluster.moved.len()), (3, 3, 3));
    assert!(cluster.image.filling.is_empty());
    cluster.alive.remove(&2);
    cluster.run(SECOND);
    cluster.apply(&Command::DrainNode { node: 1, is_draining: true });
    cluster.apply(&Command::DrainNode { node: 2, is_draining: true });
    cluster.run(60 * SECOND);
    assert!(cluster.held(2) > 0 && !cluster.partitions().iter().any(PartitionImage::is_moving));
    assert_eq!(cluster.held(1), 0, "what lies on a dead node alone is in nobody's way");
    cluster.start(2);
    cluster.run(60 * SECOND);
    assert_eq!((cluster.held(2), cluster.led(3)), (0, 10));
    assert!(cluster.partitions().iter().all(|it| it.replicas.len() == 1));
}

#[test]
fn moves_that_wait_for_a_dead_node_are_in_nobodys_way() {
    let mut cluster = cluster(4, 100, 1);
    cluster.apply(&Command::DrainNode { node: 1, is_draining: true });
    cluster.run(2 * TICK);
    let moving = |cluster: &Cluster| cluster.partitions().iter().filter(|it| it.is_moving()).count();
    assert_eq!(moving(&cluster), MOVES_AT_ONCE_MAX);
    cluster.alive.remove(&1);
    cluster.run(SECOND);
    cluster.apply(&Command::DrainNode { node: 2, is_draining: true });
    cluster.run(60 * SECOND);
    assert_eq!((cluster.held(2), moving(&cluster)), (0, MOVES_AT_ONCE_MAX));
    cluster.start(1);
    cluster.run(60 * SECOND);
    assert_eq!((cluster.held(1), moving(&cluster)), (0, 0));
}
