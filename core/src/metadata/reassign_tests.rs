//! Moves of replicas, step by step.

use std::collections::BTreeMap;

use super::*;
use crate::metadata::{
    Command,
    command::apply,
    elections::{Elected, InSyncChange, QuorumChange},
};

const TOPIC: TopicId = TopicId::new([9; 16]);

fn slots(nodes: &[u32]) -> Vec<ReplicaSlot> {
    nodes.iter().map(|node| ReplicaSlot { node: *node, slot: 7 }).collect()
}

/// Five nodes, and a partition on these, led by the first of them.
fn cluster(replicas: &[u32], quorum: u16) -> ClusterImage {
    let mut image = ClusterImage::default();
    for node in 1..=5 {
        apply(&mut image, &Command::start(node)).expect("starts");
    }
    let create = Command::CreateTopic {
        name: "t".into(),
        id: TOPIC.to_string(),
        partition_count: 1,
        replication_factor: replicas.len() as u16,
        overrides: BTreeMap::from([("min.insync.replicas".to_owned(), quorum.to_string())]),
        replicas: vec![replicas.iter().map(|node| ReplicaSlot { node: *node, slot: 0 }).collect()],
    };
    apply(&mut image, &create).expect("creates");
    if replicas.len() > 1 {
        elect(&mut image, replicas[0]);
    }
    image
}

fn partition(image: &ClusterImage) -> PartitionImage {
    image.topic("t").expect("is there").partitions[0].clone()
}

fn elect(image: &mut ClusterImage, leader: u32) {
    let epoch = partition(image).electing;
    let elected = Elected { topic: TOPIC, partition: 0, epoch, leader, life: 1, is_lossy: false };
    apply(image, &Command::EndElections { elected: vec![elected] }).expect("ends");
}

fn begin_election(image: &mut ClusterImage) {
    let after = partition(image).newest_epoch().get();
    let elections = vec![crate::metadata::elections::Election { topic: TOPIC, partition: 0, after }];
    apply(image, &Command::BeginElections { elections }).expect("begins");
}

fn reassign(image: &mut ClusterImage, target: Option<&[u32]>) -> Result<Outcome, MetadataError> {
    apply(image, &Command::Reassign { topic: "t".into(), partition: 0, target: target.map(slots) })
}

fn finish(image: &mut ClusterImage, target: &[u32]) {
    let finished = Finished { topic: TOPIC, partition: 0, target: target.to_vec() };
    apply(image, &Command::FinishReassign { finished: vec![finished] }).expect("is taken");
}

fn sync(image: &mut ClusterImage, members: &[u32]) {
    let now = partition(image);
    let change = InSyncChange {
        topic: TOPIC,
        partition: 0,
        epoch: now.epoch,
        version: now.isr_version,
        from: now.isr.clone(),
        members: members.to_vec(),
    };
    apply(image, &Command::ChangeInSync { changes: vec![change] }).expect("is taken");
    assert_eq!(partition(image).isr, members);
}

/// Replicas, target, those that leave.
fn state(image: &ClusterImage) -> [Vec<u32>; 3] {
    let now = partition(image);
    [&now.replicas, &now.target, &now.leaving].map(|all| all.iter().map(|replica| replica.node).collect())
}

#[test]
fn a_replica_moves_when_the_newcomer_is_in_sync() {
    let mut image = cluster(&[1, 2, 3], 2);
    reassign(&mut image, Some(&[4, 2, 3])).expect("begins");
    assert_eq!(state(&image), [vec![1, 2, 3, 4], vec![4, 2, 3], vec![]]);
    let moving = partition(&image);
    assert_eq!(moving.adding().map(|it| it.node).collect::<Vec<_>>(), [4]);
    assert_eq!(moving.removing().map(|it| it.node).collect::<Vec<_>>(), [1]);
    assert_eq!(moving.replica_on(2).map(|it| it.slot), Some(0), "who stays keeps its slot");
    finish(&mut image, &[4, 2, 3]);
    assert!(partition(&image).is_moving(), "the newcomer is not in sync");
    sync(&mut image, &[1, 2, 3, 4]);
    finish(&mut image, &[4, 2, 3]);
    assert!(partition(&image).is_moving(), "the leader is one that goes");
    begin_election(&mut image);
    elect(&mut image, 4);
    finish(&mut image, &[2, 3, 4]);
    assert!(partition(&image).is_moving(), "another target");
    finish(&mut image, &[4, 2, 3]);
    assert_eq!(state(&image), [vec![4, 2, 3], vec![], vec![1]]);
    assert!(partition(&image).replica_on(1).is_some(), "in sync, so it is still there");
    sync(&mut image, &[2, 3, 4]);
    assert_eq!(state(&image), [vec![4, 2, 3], vec![], vec![]]);
    assert_eq!(partition(&image).replica_on(1), None);
}

#[test]
fn who_comes_or_goes_makes_another_version_of_the_in_sync_set() {
    let mut image = cluster(&[1, 2, 3], 2);
    let version = |image: &ClusterImage| partition(image).isr_version;
    let first = version(&image);
    reassign(&mut image, Some(&[2, 1, 3])).expect("another order");
    assert_eq!(version(&image), first, "nobody has come or gone");
    reassign(&mut image, Some(&[2, 1, 4])).expect("begins");
    assert_eq!(version(&image), first + 1, "what is acknowledged from now on may be of a newcomer");
    reassign(&mut image, None).expect("is taken back");
    assert_eq!(version(&image), first + 2, "a primary that wishes for node 4 hears that it need not");
    reassign(&mut image, Some(&[2, 1, 4])).expect("begins again");
    assert_eq!(version(&image), first + 3);
}

#[test]
fn a_move_is_taken_back_or_changed() {
    let mut image = cluster(&[1, 2, 3], 2);
    assert_eq!(reassign(&mut image, None), Err(MetadataError::NothingMoves("t".into(), 0)));
    reassign(&mut image, Some(&[1, 4, 5])).expect("begins");
    sync(&mut image, &[1, 2, 3, 4]);
    reassign(&mut image, Some(&[1, 2, 5])).expect("changes");
    assert_eq!(state(&image), [vec![1, 2, 3, 5], vec![1, 2, 5], vec![4]]);
    reassign(&mut image, Some(&[1, 2, 4])).expect("changes");
    assert_eq!(state(&image), [vec![1, 2, 3, 4], vec![1, 2, 4], vec![]]);
    begin_election(&mut image);
    elect(&mut image, 4);
    reassign(&mut image, None).expect("is taken back");
    assert_eq!(state(&image), [vec![1, 2, 3], vec![], vec![4]]);
    assert!(partition(&image).must_yield(4) && !partition(&image).must_yield(1));
}

#[test]
fn the_order_alone_changes_at_once() {
    let mut image = cluster(&[1, 2, 3], 2);
    reassign(&mut image, Some(&[3, 1, 2])).expect("changes");
    assert_eq!(state(&image), [vec![3, 1, 2], vec![], vec![]]);
    assert_eq!((partition(&image).leader, partition(&image).origin), (1, vec![]));
}

#[test]
fn impossible_moves_change_nothing() {
    let mut image = cluster(&[1, 2, 3], 2);
    image.draining.insert(5);
    let before = format!("{image:?}");
    let table: [(&[u32], &str); 5] = [
        (&[], "one replica at least"),
        (&[1, 2, 2], "guard against nothing"),
        (&[1, 2, 9], "no node 9"),
        (&[1, 2, 5], "drained"),
        (&[4, 4], "guard against nothing"),
    ];
    for (target, why) in table {
        let refused = reassign(&mut image, Some(target)).expect_err("is refused").to_string();
        assert!(refused.contains(why), "{target:?}: {refused}");
    }
    let missing = Command::Reassign { topic: "t".into(), partition: 1, target: None };
    assert_eq!(apply(&mut image, &missing), Err(MetadataError::UnknownPartition("t".into(), 1)));
    assert_eq!(format!("{image:?}"), before);
}

#[test]
fn the_only_replica_is_elected_before_it_moves_and_from_then_on() {
    let mut image = cluster(&[1], 1);
    reassign(&mut image, Some(&[1])).expect("is so already");
    assert!(!partition(&image).is_replicated() && !partition(&image).is_moving());
    let start = |image: &mut ClusterImage, node: u32| {
        apply(image, &Command::start(node)).expect("starts");
    };
    start(&mut image, 1);
    assert_eq!((partition(&image).epoch, partition(&image).electing), (1, 0));
    reassign(&mut image, Some(&[2])).expect("begins");
    let moving = partition(&image);
    assert_eq!(state(&image), [vec![1, 2], vec![2], vec![]]);
    assert_eq!((moving.leader, moving.epoch, moving.electing, moving.isr), (1, 1, 2, vec![1]));
    // A start in between begins no epoch by itself any more.
    start(&mut image, 1);
    assert_eq!((partition(&image).epoch, partition(&image).electing), (1, 2));
    elect(&mut image, 1);
    sync(&mut image, &[1, 2]);
    begin_election(&mut image);
    elect(&mut image, 2);
    finish(&mut image, &[2]);
    sync(&mut image, &[2]);
    assert_eq!(state(&image), [vec![2], vec![], vec![]]);
    start(&mut image, 2);
    let moved = partition(&image);
    assert_eq!((moved.is_replicated(), moved.epoch, moved.leader), (true, 3, 2), "it waits to be elected");
    begin_election(&mut image);
    assert_eq!(partition(&image).electing, 4);
}

#[test]
fn the_quorum_is_what_the_topic_asks_for_and_there_are_replicas() {
    let mut image = cluster(&[1, 2, 3], 2);
    let required = |image: &ClusterImage| {
        let topic = image.topic("t").expect("is there");
        topic.partitions[0].required_quorum(topic.config.commit_quorum)
    };
    assert_eq!((partition(&image).quorum, required(&image)), (2, 2));
    let ask = |image: &mut ClusterImage, count: &str| {
        let changes = BTreeMap::from([("min.insync.replicas".to_owned(), Some(count.to_owned()))]);
        apply(image, &Command::AlterTopic { name: "t".into(), changes })
    };
    ask(&mut image, "4").expect_err("there are three");
    ask(&mut image, "3").expect("is taken");
    assert_eq!((partition(&image).quorum, required(&image)), (2, 3), "the primary has to see to it");
    let change = |image: &mut ClusterImage, epoch: i32, quorum: u16| {
        let now = partition(image);
        let (version, from) = (now.isr_version, now.isr);
        let change = QuorumChange { topic: TOPIC, partition: 0, epoch, version, from, quorum };
        apply(image, &Command::ChangeQuorum { changes: vec![change] }).expect("is taken");
        partition(image).quorum
    };
    let epoch = partition(&image).epoch;
    assert_eq!(change(&mut image, epoch - 1, 3), 2, "of another epoch");
    assert_eq!(change(&mut image, epoch, 4), 2, "more than there are");
    assert_eq!(change(&mut image, epoch, 3), 3);
    reassign(&mut image, Some(&[1])).expect("begins");
    assert_eq!(required(&image), 1, "the others are to go");
    assert_eq!(change(&mut image, epoch, 1), 1);
    finish(&mut image, &[1]);
    sync(&mut image, &[1]);
    assert_eq!(state(&image), [vec![1], vec![], vec![]]);
    let changes = BTreeMap::from([("retention.ms".to_owned(), Some("1000".to_owned()))]);
    apply(&mut image, &Command::AlterTopic { name: "t".into(), changes }).expect("asks for no more");
    ask(&mut image, "2").expect_err("there is one");
}
