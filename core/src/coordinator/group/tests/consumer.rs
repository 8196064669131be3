//! KIP-848: epochs, the target assignment, and how members follow it.

use std::{collections::BTreeSet, time::Duration};

use heddle_proto::{error::ErrorCode, ids::TopicPartition};

use super::harness::*;
use crate::coordinator::group::{
    GroupEpoch, GroupRecord,
    message::{
        Assignment, ConsumerGroupDescribe, ConsumerGroupHeartbeat, DescribedConsumerGroup, Event, GroupState,
        Reply, Request,
    },
};

pub fn set(partitions: impl IntoIterator<Item = (u8, u32)>) -> Assignment {
    partitions.into_iter().map(|(topic, index)| partition(topic, index)).collect()
}

pub fn owning(heartbeat: ConsumerGroupHeartbeat, owned: &Assignment) -> ConsumerGroupHeartbeat {
    ConsumerGroupHeartbeat { owned: Some(owned.clone()), ..heartbeat }
}

pub fn describe(driver: &mut Driver) -> DescribedConsumerGroup {
    let request = Request::ConsumerGroupDescribe(ConsumerGroupDescribe { groups: vec![GROUP.into()] });
    match driver.call(request) {
        Reply::ConsumerGroupDescribe(mut answer) => answer.groups.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lone_member_gets_everything_it_subscribes_to() {
    let mut driver = Driver::new();
    let answer = driver.beat(enter("one", &["a"]));
    assert_eq!((answer.error, answer.epoch.get(), answer.member.as_str()), (ErrorCode::None, 1, "one"));
    assert_eq!(answer.assignment, Some(set((0..4).map(|index| (0, index)))));
    assert_eq!(answer.heartbeat_interval, Duration::from_secs(5));
    let answer = driver.beat(beat("one", 1));
    assert_eq!((answer.error, answer.epoch.get(), answer.assignment), (ErrorCode::None, 1, None));
    assert_eq!(describe(&mut driver).state, GroupState::Stable);
    let written = driver.records.len();
    let _ = driver.beat(beat("one", 1));
    assert_eq!(driver.records.len(), written, "an idle heartbeat writes nothing");
}

#[test]
fn a_second_member_gets_its_half_after_the_first_gave_it_up() {
    let mut driver = Driver::new();
    let all = driver.beat(enter("one", &["a"])).assignment.unwrap();
    let two = driver.beat(enter("two", &["a"]));
    assert_eq!((two.epoch.get(), two.assignment), (2, Some(Assignment::new())), "nothing is free yet");
    assert_eq!(describe(&mut driver).state, GroupState::Reconciling);
    let one = driver.beat(owning(beat("one", 1), &all));
    let kept = one.assignment.unwrap();
    assert_eq!((one.epoch.get(), kept.len()), (1, 2), "it stays in its epoch until it has given up");
    let two = driver.beat(beat("two", 2));
    assert_eq!((two.epoch.get(), two.assignment), (2, None));
    let one = driver.beat(beat("one", 1));
    assert_eq!(
        (one.epoch.get(), one.assignment),
        (1, None),
        "it does not say what it owns, so it may own all"
    );
    assert_eq!(driver.beat(beat("two", 2)).assignment, None);
    // It still owns one of the two.
    let mut less = all.clone();
    less.remove(all.difference(&kept).next().unwrap());
    assert_eq!(driver.beat(owning(beat("one", 1), &less)).epoch.get(), 1);
    assert_eq!(driver.beat(beat("two", 2)).assignment, None);
    let one = driver.beat(owning(beat("one", 1), &kept));
    assert_eq!((one.epoch.get(), one.assignment), (2, None));
    let two = driver.beat(beat("two", 2)).assignment.unwrap();
    assert_eq!(two, all.difference(&kept).copied().collect());
    assert_eq!(describe(&mut driver).state, GroupState::Stable);
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_put_out() {
    let mut driver = Driver::new();
    let all = driver.beat(enter("one", &["a"])).assignment.unwrap();
    let _ = driver.beat(enter("two", &["a"]));
    let _ = driver.beat(owning(beat("one", 1), &all));
    for _ in 0..5 {
        driver.wait(10_000);
        assert_eq!(driver.beat(owning(beat("one", 1), &all)).error, ErrorCode::None);
        assert_eq!(driver.beat(beat("two", 2)).error, ErrorCode::None);
    }
    driver.wait(10_001);
    let one = driver.beat(owning(beat("one", 1), &all));
    assert_eq!(one.error, ErrorCode::UnknownMemberId);
    assert_eq!(driver.beat(beat("two", 2)).assignment, Some(all));
}

#[test]
fn an_answer_that_was_lost_is_given_again_but_no_older_epoch_is_taken() {
    let mut driver = Driver::new();
    let all = driver.beat(enter("one", &["a"])).assignment.unwrap();
    let _ = driver.beat(enter("two", &["a"]));
    let kept = driver.beat(owning(beat("one", 1), &all)).assignment.unwrap();
    assert_eq!(driver.beat(owning(beat("one", 1), &kept)).epoch.get(), 2);
    // As if that answer had not arrived.
    assert_eq!(driver.beat(owning(beat("one", 1), &kept)).epoch.get(), 2);
    let fenced = driver.beat(owning(beat("one", 1), &all));
    assert_eq!(fenced.error, ErrorCode::FencedMemberEpoch, "it owns more than it should");
    assert_eq!(driver.beat(beat("one", 1)).error, ErrorCode::FencedMemberEpoch, "or may own more");
    assert_eq!(driver.beat(beat("one", 3)).error, ErrorCode::FencedMemberEpoch);
    let again = driver.beat(enter("one", &["a"]));
    assert_eq!((again.epoch.get(), again.assignment), (2, Some(kept)), "a fenced member comes back with 0");
}

#[test]
fn requests_that_are_wrong_on_their_face_are_refused() {
    type Change = fn(&mut ConsumerGroupHeartbeat);
    let joining: [(Change, ErrorCode); 10] = [
        (|beat| beat.group = "".into(), ErrorCode::InvalidRequest),
        (|beat| beat.instance = Some("".into()), ErrorCode::InvalidRequest),
        (|beat| beat.rack = Some("".into()), ErrorCode::InvalidRequest),
        (|beat| beat.rebalance_timeout = None, ErrorCode::InvalidRequest),
        (|beat| beat.owned = None, ErrorCode::InvalidRequest),
        (|beat| beat.owned = Some(set([(0, 0)])), ErrorCode::InvalidRequest),
        (|beat| beat.subscribed_names = None, ErrorCode::InvalidRequest),
        (|beat| beat.epoch = GroupEpoch::new(-3), ErrorCode::InvalidRequest),
        (|beat| beat.epoch = GroupEpoch::new(-2), ErrorCode::InvalidRequest),
        (|beat| beat.server_assignor = Some("best".into()), ErrorCode::UnsupportedAssignor),
    ];
    for (change, error) in joining {
        let mut driver = Driver::new();
        let mut request = enter("one", &["a"]);
        change(&mut request);
        assert_eq!(driver.beat(request).error, error);
        assert!(driver.records.is_empty());
    }
    let mut driver = Driver::new();
    assert_eq!(driver.beat(beat("one", 1)).error, ErrorCode::GroupIdNotFound);
    assert_eq!(driver.beat(beat("one", -1)).error, ErrorCode::GroupIdNotFound);
    assert_eq!(driver.beat(beat("", 1)).error, ErrorCode::InvalidRequest);
    assert_eq!(driver.beat(enter("", &["a"])).member.as_str(), "given", "version 0 names the member");
    assert_eq!(driver.beat(beat("one", 1)).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_new_topic_and_new_partitions_reach_members_with_their_next_heartbeat() {
    let mut driver = Driver::with(Default::default(), topics(&[1]));
    let answer = driver.beat(enter("one", &["a", "b"]));
    assert_eq!(answer.assignment, Some(set([(0, 0)])));
    let image = topics(&[2, 1]);
    driver.topics = image.clone();
    driver.apply(Event::TopicsChanged(image));
    let answer = driver.beat(beat("one", 1));
    assert_eq!((answer.epoch.get(), answer.assignment), (2, Some(set([(0, 0), (0, 1), (1, 0)]))));
    // A topic that nobody wants changes nothing.
    driver.apply(Event::TopicsChanged(topics(&[2, 1, 7])));
    let answer = driver.beat(beat("one", 2));
    assert_eq!((answer.epoch.get(), answer.assignment), (2, None));
    // One that was deleted goes.
    driver.apply(Event::TopicsChanged(topics(&[2])));
    let answer = driver.beat(owning(beat("one", 2), &set([(0, 0), (0, 1)])));
    assert_eq!(answer.assignment, Some(set([(0, 0), (0, 1)])));
}

#[test]
fn regular_expressions_follow_the_topics_there_are() {
    let mut driver = Driver::with(Default::default(), topics(&[1, 1]));
    let with =
        |regex: &str| ConsumerGroupHeartbeat { subscribed_regex: Some(regex.into()), ..enter("one", &[]) };
    for bad in ["(", "[a", "a{1000}{1000}{1000}", "(?=a)", "a)(b"] {
        let answer = driver.beat(with(bad));
        assert_eq!(answer.error, ErrorCode::InvalidRegularExpression, "{bad}");
    }
    assert!(driver.records.is_empty());
    let answer = driver.beat(with("[ac]"));
    assert_eq!(answer.assignment, Some(set([(0, 0)])));
    driver.apply(Event::TopicsChanged(topics(&[1, 1, 2])));
    let answer = driver.beat(beat("one", 1));
    assert_eq!((answer.epoch.get(), answer.assignment), (2, Some(set([(0, 0), (2, 0), (2, 1)]))));
    let other = ConsumerGroupHeartbeat { subscribed_regex: Some("b".into()), ..beat("one", 2) };
    let answer = driver.beat(owning(other, &Assignment::new()));
    assert_eq!((answer.epoch.get(), answer.assignment), (3, Some(set([(1, 0)]))));
    let tombstones = driver
        .records
        .iter()
        .filter(|record| matches!(record, GroupRecord::ResolvedRegex { value: None, .. }));
    assert_eq!(tombstones.count(), 1, "the old expression is forgotten");
    let none = ConsumerGroupHeartbeat { subscribed_regex: Some("".into()), ..beat("one", 3) };
    let answer = driver.beat(owning(none, &Assignment::new()));
    assert_eq!(answer.assignment, Some(Assignment::new()));
    // The whole name must match.
    let part = ConsumerGroupHeartbeat { subscribed_regex: Some("|z".into()), ..enter("two", &[]) };
    assert_eq!(driver.beat(part).assignment, Some(Assignment::new()));
}

#[test]
fn the_assignor_is_the_one_most_members_ask_for() {
    let mut driver = Driver::with(Default::default(), topics(&[3, 3]));
    let asking = |member: &str, assignor: &str| ConsumerGroupHeartbeat {
        server_assignor: Some(assignor.into()),
        ..enter(member, &["a", "b"])
    };
    let _ = driver.beat(asking("one", "range"));
    assert_eq!(describe(&mut driver).assignor.name(), "range");
    let _ = driver.beat(asking("two", "range"));
    let described = describe(&mut driver);
    let targets: Vec<BTreeSet<TopicPartition>> =
        described.members.iter().map(|member| member.target.clone()).collect();
    assert_eq!(targets, [set([(0, 0), (0, 1), (1, 0), (1, 1)]), set([(0, 2), (1, 2)])]);
    let _ = driver.beat(enter("three", &["a", "b"]));
    assert_eq!(describe(&mut driver).assignor.name(), "range");
    let _ = driver.beat(asking("one", "uniform"));
    let _ = driver.beat(asking("two", "uniform"));
    let described = describe(&mut driver);
    assert_eq!(described.assignor.name(), "uniform");
    assert!(described.members.iter().all(|member| member.target.len() == 2));
}

#[test]
fn a_member_that_wants_less_while_it_gives_up_gives_up_more() {
    let mut driver = Driver::new();
    let all = driver.beat(enter("one", &["a", "b"])).assignment.unwrap();
    let _ = driver.beat(enter("two", &["a", "b"]));
    let _ = driver.beat(owning(beat("one", 1), &all));
    let less = ConsumerGroupHeartbeat { subscribed_names: Some(["b".into()].into()), ..beat("one", 1) };
    let answer = driver.beat(owning(less, &all));
    assert_eq!(
        (answer.epoch.get(), answer.assignment),
        (1, Some(Assignment::new())),
        "it kept topic a until now"
    );
    let answer = driver.beat(owning(beat("one", 1), &Assignment::new()));
    assert_eq!(answer.epoch.get(), 3);
    assert!(answer.assignment.unwrap().iter().all(|partition| partition.topic == topic_id(1)));
}
