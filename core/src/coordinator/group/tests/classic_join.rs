//! JoinGroup: who gets in, when a generation begins, who leads, what it is told.

use std::time::Duration;

use heddle_proto::error::ErrorCode;

use super::harness::*;
use crate::coordinator::group::{GroupConfig, message::GroupState};

fn quick() -> GroupConfig {
    GroupConfig { initial_rebalance_delay: Duration::from_millis(100), ..GroupConfig::default() }
}

#[test]
fn requests_that_are_wrong_on_their_face_are_refused() {
    let table = [
        (join("").change(|join| join.group = "".into()), ErrorCode::InvalidGroupId),
        (
            join("").change(|join| join.session_timeout = Duration::from_millis(5_999)),
            ErrorCode::InvalidSessionTimeout,
        ),
        (
            join("").change(|join| join.session_timeout = Duration::from_millis(1_800_001)),
            ErrorCode::InvalidSessionTimeout,
        ),
        (join("stranger"), ErrorCode::UnknownMemberId),
        (join("").change(|join| join.protocol_type = "".into()), ErrorCode::InconsistentGroupProtocol),
        (join("").protocols(&[]), ErrorCode::InconsistentGroupProtocol),
    ];
    for (request, error) in table {
        let mut driver = Driver::new();
        let id = driver.join(request);
        assert_eq!(driver.joined(id).error, error);
        assert_eq!(driver.state(), GroupState::Dead, "a refused request leaves no group: {error}");
        assert!(driver.records.is_empty());
    }
}

#[test]
fn a_new_dynamic_member_must_come_back_with_its_name() {
    let mut driver = Driver::new();
    let first = driver.join(join("").id_required());
    let answer = driver.joined(first);
    assert_eq!((answer.error, answer.member.as_str()), (ErrorCode::MemberIdRequired, "m001"));
    assert_eq!(driver.state(), GroupState::Empty);
    let second = driver.join(join("m001").id_required());
    driver.wait(3_000);
    let answer = driver.joined(second);
    assert_eq!((answer.error, answer.generation), (ErrorCode::None, generation(1)));
    assert_eq!((answer.member.as_str(), answer.leader.as_str()), ("m001", "m001"));
}

#[test]
fn a_name_that_does_not_come_back_is_forgotten_after_the_session_timeout() {
    let mut driver = Driver::with(quick(), topics(&[1]));
    let member = driver.stable(vec![join("")]).remove(0);
    let pending = driver.join(join("").id_required());
    let name = driver.joined(pending).member;
    // The leader joins again: the rebalance waits for the name.
    let waiting = driver.join(join(member.member.as_str()));
    driver.wait(9_000);
    assert!(!driver.is_answered(waiting));
    driver.wait(1_001);
    assert_eq!(driver.joined(waiting).generation, generation(2));
    let late = driver.join(join(name.as_str()));
    assert_eq!(driver.joined(late).error, ErrorCode::UnknownMemberId);
}

#[test]
fn the_first_rebalance_waits_and_is_extended_by_newcomers_up_to_the_rebalance_timeout() {
    let mut driver = Driver::new();
    let short = |join: Join| join.change(|join| join.rebalance_timeout = Duration::from_secs(7));
    let first = driver.join(short(join("")));
    driver.wait(2_900);
    let second = driver.join(short(join("")));
    driver.wait(100);
    assert!(!driver.is_answered(first), "the second member earned another delay");
    driver.wait(2_900);
    let third = driver.join(short(join("")));
    driver.wait(100);
    assert!(!driver.is_answered(first), "the third as well, as far as 7 s allow");
    driver.wait(1_000);
    let answers = [first, second, third].map(|id| driver.joined(id));
    assert!(answers.iter().all(|answer| answer.generation == generation(1)));
    assert_eq!(answers.iter().map(|answer| answer.members.len()).collect::<Vec<_>>(), [3, 0, 0]);
    assert_eq!(driver.state(), GroupState::CompletingRebalance);
}

#[test]
fn a_newcomer_starts_a_rebalance_that_waits_for_all_members_or_the_timeout() {
    let mut driver = Driver::with(quick(), topics(&[1]));
    let old = driver.stable(vec![join(""), join("")]);
    let newcomer = driver.join(join(""));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    assert_eq!(driver.heartbeat(&old[0]), ErrorCode::RebalanceInProgress);
    let again = driver.join(join(old[0].member.as_str()));
    for _ in 0..7 {
        // The silent one of the two keeps its session alive and does not join.
        driver.wait(8_000);
        assert_eq!(driver.heartbeat(&old[1]), ErrorCode::RebalanceInProgress);
        assert!(!driver.is_answered(newcomer));
    }
    driver.wait(4_000);
    let answer = driver.joined(again);
    assert_eq!((answer.generation, answer.members.len()), (generation(2), 2));
    assert_eq!(driver.joined(newcomer).generation, generation(2));
    assert_eq!(driver.heartbeat(&old[1]), ErrorCode::UnknownMemberId);
}

#[test]
fn the_rebalance_ends_as_soon_as_everybody_has_joined() {
    let mut driver = Driver::with(quick(), topics(&[1]));
    let old = driver.stable(vec![join(""), join("")]);
    let newcomer = driver.join(join(""));
    let first = driver.join(join(old[0].member.as_str()));
    assert!(!driver.is_answered(newcomer));
    let second = driver.join(join(old[1].member.as_str()));
    for id in [newcomer, first, second] {
        assert_eq!(driver.joined(id).generation, generation(2));
    }
}

#[test]
fn joining_again_without_a_change_is_answered_at_once_except_for_the_leader() {
    let mut driver = Driver::with(quick(), topics(&[1]));
    let old = driver.stable(vec![join(""), join("")]);
    let (leader, follower) = (&old[0], &old[1]);
    assert_eq!(leader.leader, leader.member);
    let id = driver.join(join(follower.member.as_str()));
    let answer = driver.joined(id);
    assert_eq!((answer.error, answer.generation), (ErrorCode::None, generation(1)));
    assert_eq!(driver.state(), GroupState::Stable);
    let changed = driver.join(join(follower.member.as_str()).protocols(&[("range", "b")]));
    assert_eq!(driver.state(), GroupState::PreparingRebalance, "other metadata is a change");
    let id = driver.join(join(leader.member.as_str()));
    assert_eq!(driver.joined(id).generation, generation(2));
    assert_eq!(driver.joined(changed).generation, generation(2));
    // In the completing phase a repeated join may be one whose answer was lost.
    let id = driver.join(join(leader.member.as_str()));
    let answer = driver.joined(id);
    assert_eq!((answer.generation, answer.members.len()), (generation(2), 2));
    let waiting = driver.join(join(leader.member.as_str()).protocols(&[("range", "b")]));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    assert!(!driver.is_answered(waiting));
}

#[test]
fn the_protocol_is_one_that_all_offer_and_most_like_best() {
    type Offers = &'static [&'static [(&'static str, &'static str)]];
    let table: [(Offers, &str); 3] = [
        (&[&[("range", "a"), ("sticky", "a")], &[("sticky", "a"), ("range", "a")]], "range"),
        (
            &[
                &[("range", "a"), ("sticky", "a")],
                &[("sticky", "a"), ("range", "a")],
                &[("sticky", "a"), ("range", "a")],
            ],
            "sticky",
        ),
        (&[&[("old", "a"), ("sticky", "a")], &[("sticky", "a"), ("new", "a")]], "sticky"),
    ];
    for (offers, chosen) in table {
        let mut driver = Driver::with(quick(), topics(&[1]));
        let members = driver.stable(offers.iter().map(|offer| join("").protocols(offer)).collect());
        assert!(members.iter().all(|member| member.protocol == Some(chosen.into())));
        let id = driver.join(join("").protocols(&[("unheard", "a")]));
        assert_eq!(driver.joined(id).error, ErrorCode::InconsistentGroupProtocol);
        let id = driver.join(join("").change(|join| join.protocol_type = "connect".into()));
        assert_eq!(driver.joined(id).error, ErrorCode::InconsistentGroupProtocol);
        assert_eq!(driver.state(), GroupState::Stable);
    }
}

#[test]
fn a_full_group_takes_no_more_members() {
    let config = GroupConfig { members_max: 2, ..quick() };
    let mut driver = Driver::with(config, topics(&[1]));
    let members = driver.stable(vec![join(""), join("")]);
    let id = driver.join(join(""));
    assert_eq!(driver.joined(id).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(driver.state(), GroupState::Stable);
    let id = driver.join(join(members[0].member.as_str()));
    assert!(!driver.is_answered(id), "a member may still join again");
    let other = driver.join(join(members[1].member.as_str()));
    assert_eq!(driver.joined(other).error, ErrorCode::None);
    assert_eq!(driver.joined(id).error, ErrorCode::None);
}

#[test]
fn names_given_away_and_bytes_are_limited() {
    let config = GroupConfig { members_max: 2, group_bytes_max: 60, ..quick() };
    let mut driver = Driver::with(config, topics(&[1]));
    for _ in 0..2 {
        let id = driver.join(join("").id_required());
        assert_eq!(driver.joined(id).error, ErrorCode::MemberIdRequired);
    }
    let id = driver.join(join("").id_required());
    assert_eq!(driver.joined(id).error, ErrorCode::GroupMaxSizeReached);
    let id = driver.join(join("").protocols(&[("range", "a_topic_with_quite_a_long_name")]));
    assert_eq!(driver.joined(id).error, ErrorCode::GroupMaxSizeReached);
}

#[test]
fn a_new_member_that_waits_too_long_is_put_out_and_told_so() {
    let mut driver = Driver::with(quick(), topics(&[1]));
    let slow = |join: Join| join.change(|join| join.rebalance_timeout = Duration::from_secs(1_000));
    let old = driver.stable(vec![slow(join(""))]);
    let newcomer = driver.join(join(""));
    for _ in 0..37 {
        driver.wait(8_000);
        let _ = driver.heartbeat(&old[0]);
    }
    assert!(!driver.is_answered(newcomer));
    driver.wait(5_000);
    assert_eq!(driver.joined(newcomer).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_silent_member_is_put_out_after_its_session_timeout() {
    let mut driver = Driver::with(quick(), topics(&[1]));
    let members = driver.stable(vec![join(""), join("")]);
    driver.wait(6_000);
    assert_eq!(driver.heartbeat(&members[0]), ErrorCode::None);
    driver.wait(4_001);
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    assert_eq!(driver.heartbeat(&members[1]), ErrorCode::UnknownMemberId);
    driver.wait(10_000);
    assert_eq!(driver.state(), GroupState::Empty, "the other one fell silent too");
}

#[test]
fn a_second_join_of_one_member_answers_the_first() {
    let mut driver = Driver::with(quick(), topics(&[1]));
    let old = driver.stable(vec![join(""), join("")]);
    let first = driver.join(join(old[0].member.as_str()));
    let second = driver.join(join(old[0].member.as_str()));
    assert_eq!(driver.joined(first).error, ErrorCode::RebalanceInProgress);
    assert!(!driver.is_answered(second));
}

#[test]
fn a_loaded_group_that_is_too_large_for_new_settings_joins_anew() {
    let mut driver = Driver::with(quick(), topics(&[1]));
    let members = driver.stable(vec![join(""), join(""), join("")]);
    driver.config = std::sync::Arc::new(GroupConfig { members_max: 2, ..quick() });
    driver.restart();
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    let waiting: Vec<_> = members.iter().map(|member| driver.join(join(member.member.as_str()))).collect();
    assert_eq!(driver.joined(waiting[2]).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(driver.joined(waiting[0]).error, ErrorCode::None);
    assert_eq!(driver.joined(waiting[1]).error, ErrorCode::None);
}
