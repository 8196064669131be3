//! KIP-848: members that leave, fall silent, are static, and groups that change their protocol.

use heddle_proto::error::ErrorCode;

use super::{
    consumer::{describe, owning, set},
    harness::*,
};
use crate::coordinator::group::{
    GroupConfig, GroupRecord,
    message::{Assignment, ConsumerGroupHeartbeat, GroupState},
};

fn fixed(heartbeat: ConsumerGroupHeartbeat, instance: &str) -> ConsumerGroupHeartbeat {
    ConsumerGroupHeartbeat { instance: Some(instance.into()), ..heartbeat }
}

#[test]
fn what_a_leaving_member_had_goes_to_the_others() {
    let mut driver = Driver::new();
    let all = driver.beat(enter("one", &["a"])).assignment.unwrap();
    let _ = driver.beat(enter("two", &["a"]));
    let answer = driver.beat(beat("one", -1));
    assert_eq!((answer.error, answer.epoch.get()), (ErrorCode::None, -1));
    let answer = driver.beat(beat("two", 2));
    assert_eq!((answer.epoch.get(), answer.assignment), (3, Some(all)));
    assert_eq!(driver.beat(beat("one", 2)).error, ErrorCode::UnknownMemberId);
    assert_eq!(driver.beat(beat("two", -1)).error, ErrorCode::None);
    assert_eq!(describe(&mut driver).state, GroupState::Empty);
}

#[test]
fn a_silent_member_is_put_out() {
    let mut driver = Driver::new();
    let all = driver.beat(enter("one", &["a"])).assignment.unwrap();
    let _ = driver.beat(enter("two", &["a"]));
    driver.wait(44_000);
    assert_eq!(driver.beat(beat("two", 2)).error, ErrorCode::None);
    driver.wait(1_001);
    assert_eq!(driver.beat(beat("one", 1)).error, ErrorCode::UnknownMemberId);
    assert_eq!(driver.beat(beat("two", 2)).assignment, Some(all));
}

#[test]
fn a_static_member_that_comes_back_has_what_it_had_without_a_rebalance() {
    let mut driver = Driver::new();
    let _ = driver.beat(fixed(enter("one", &["a"]), "i"));
    let _ = driver.beat(fixed(enter("two", &["b"]), "j"));
    assert_eq!(driver.beat(beat("one", 1)).epoch.get(), 2);
    assert_eq!(
        driver.beat(fixed(enter("new", &["a"]), "i")).error,
        ErrorCode::UnreleasedInstanceId,
        "the old process has not left"
    );
    assert_eq!(driver.beat(fixed(beat("other", -2), "i")).error, ErrorCode::FencedInstanceId);
    let answer = driver.beat(fixed(beat("one", -2), "i"));
    assert_eq!((answer.error, answer.epoch.get()), (ErrorCode::None, -2));
    let epoch = describe(&mut driver).epoch;
    assert_eq!(driver.beat(beat("two", 2)).assignment, None, "its place is kept");
    let answer = driver.beat(fixed(enter("new", &["a"]), "i"));
    assert_eq!((answer.epoch.get(), answer.assignment), (2, Some(set((0..4).map(|index| (0, index))))));
    assert_eq!(describe(&mut driver).epoch, epoch, "no rebalance");
    assert_eq!(driver.beat(fixed(beat("one", 2), "i")).error, ErrorCode::FencedInstanceId);
    assert_eq!(driver.beat(fixed(beat("new", 2), "k")).error, ErrorCode::UnknownMemberId);
    assert_eq!(driver.beat(fixed(beat("new", 2), "i")).error, ErrorCode::None);
}

#[test]
fn a_static_member_that_stays_away_loses_its_place() {
    let mut driver = Driver::new();
    let _ = driver.beat(fixed(enter("one", &["a"]), "i"));
    let _ = driver.beat(enter("two", &["a"]));
    let _ = driver.beat(fixed(beat("one", -2), "i"));
    for _ in 0..4 {
        driver.wait(10_000);
        assert_eq!(driver.beat(beat("two", 2)).assignment, None);
    }
    driver.wait(5_001);
    assert_eq!(driver.beat(beat("two", 2)).assignment.map(|assignment| assignment.len()), Some(4));
}

#[test]
fn a_full_group_takes_no_more_members() {
    let config = GroupConfig { members_max: 1, ..GroupConfig::default() };
    let mut driver = Driver::with(config, topics(&[1]));
    assert_eq!(driver.beat(enter("one", &["a"])).error, ErrorCode::None);
    assert_eq!(driver.beat(enter("two", &["a"])).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(driver.beat(beat("one", 1)).error, ErrorCode::None);
}

#[test]
fn subscriptions_are_limited_in_bytes() {
    let config = GroupConfig { consumer_group_bytes_max: 200, ..GroupConfig::default() };
    let mut driver = Driver::with(config, topics(&[1]));
    assert_eq!(driver.beat(enter("one", &["a", "b"])).error, ErrorCode::None);
    assert_eq!(driver.beat(enter("two", &["a", "b", "c"])).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(driver.beat(beat("one", 1)).error, ErrorCode::None);
}

#[test]
fn there_are_only_so_many_groups() {
    let config = GroupConfig { groups_max: 1, ..GroupConfig::default() };
    let mut driver = Driver::with(config, topics(&[1]));
    assert_eq!(driver.beat(enter("one", &["a"])).error, ErrorCode::None);
    let other = ConsumerGroupHeartbeat { group: "other".into(), ..enter("one", &["a"]) };
    assert_eq!(driver.beat(other).error, ErrorCode::PolicyViolation);
    let id = driver.join(join("").change(|join| join.group = "other".into()));
    assert_eq!(driver.joined(id).error, ErrorCode::PolicyViolation);
    let elsewhere = commit("a", 0, 1).change(|commit| commit.group = "other".into());
    assert_eq!(driver.commit(elsewhere), [ErrorCode::PolicyViolation]);
}

#[test]
fn an_empty_group_changes_its_protocol_and_keeps_its_offsets() {
    let mut driver = Driver::new();
    let member = driver.stable(vec![join("")]).remove(0);
    assert_eq!(driver.beat(enter("one", &["a"])).error, ErrorCode::GroupIdNotFound, "it has classic members");
    let by_member = commit("a", 0, 7).by(member.member.as_str(), 1);
    assert_eq!(driver.commit(by_member), [ErrorCode::None]);
    assert_eq!(driver.leave(&[(member.member.as_str(), None)]), [ErrorCode::None]);
    assert_eq!(
        driver.beat(beat("one", 5)).error,
        ErrorCode::GroupIdNotFound,
        "only a joining member converts"
    );
    assert_eq!(driver.beat(enter("one", &["a"])).error, ErrorCode::None);
    assert_eq!(driver.offset("a", 0), 7);
    driver.restart();
    assert_eq!(describe(&mut driver).state, GroupState::Stable);
    assert_eq!(driver.offset("a", 0), 7);
    let id = driver.join(join(""));
    assert_eq!(driver.joined(id).error, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(driver.beat(beat("one", -1)).error, ErrorCode::None);
    let id = driver.join(join(""));
    driver.wait(3_000);
    assert_eq!(driver.joined(id).error, ErrorCode::None);
    driver.restart();
    assert_eq!(driver.state(), GroupState::Empty);
    assert_eq!(driver.offset("a", 0), 7);
}

#[test]
fn members_and_their_partitions_survive_a_restart() {
    let mut driver = Driver::new();
    let all = driver.beat(enter("one", &["a"])).assignment.unwrap();
    let _ = driver.beat(enter("two", &["a"]));
    let kept = driver.beat(owning(beat("one", 1), &all)).assignment.unwrap();
    driver.restart();
    assert_eq!(describe(&mut driver).state, GroupState::Reconciling);
    assert_eq!(driver.beat(beat("two", 2)).assignment, None, "one may still own all");
    // The time to give up runs anew.
    driver.wait(30_000);
    let _ = driver.beat(owning(beat("one", 1), &all));
    let _ = driver.beat(beat("two", 2));
    driver.wait(29_000);
    assert_eq!(driver.beat(owning(beat("one", 1), &kept)).epoch.get(), 2);
    assert_eq!(driver.beat(beat("two", 2)).assignment.map(|assignment| assignment.len()), Some(2));
    driver.wait(45_001);
    assert_eq!(describe(&mut driver).state, GroupState::Empty, "silent members are put out");
}

#[test]
fn a_refused_member_changes_nothing() {
    let mut driver = Driver::new();
    let member = driver.stable(vec![join("")]).remove(0);
    let _ = driver.leave(&[(member.member.as_str(), None)]);
    let written = driver.records.len();
    let bad = ConsumerGroupHeartbeat { subscribed_regex: Some("(".into()), ..enter("one", &[]) };
    assert_eq!(driver.beat(bad).error, ErrorCode::InvalidRegularExpression);
    assert_eq!((driver.records.len(), driver.state()), (written, GroupState::Empty));
    assert!(matches!(driver.records.last(), Some(GroupRecord::ClassicGroup { value: Some(_), .. })));
    let nothing = driver.beat(enter("one", &[])).assignment;
    assert_eq!(nothing, Some(Assignment::new()));
}
