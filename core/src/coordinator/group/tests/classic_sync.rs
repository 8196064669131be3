//! SyncGroup, Heartbeat and LeaveGroup.

use std::time::Duration;

use heddle_proto::error::ErrorCode;

use super::harness::*;
use crate::coordinator::group::{
    GroupConfig, GroupRecord, MemberId,
    message::{GroupState, JoinAnswer, Reply, Request, SyncGroup},
};

fn driver() -> Driver {
    let delay = Duration::from_millis(100);
    Driver::with(GroupConfig { initial_rebalance_delay: delay, ..GroupConfig::default() }, topics(&[4]))
}

fn joined(driver: &mut Driver, count: usize) -> Vec<JoinAnswer> {
    let waiting: Vec<_> = (0..count).map(|_| driver.join(join(""))).collect();
    driver.wait(300);
    waiting.into_iter().map(|id| driver.joined(id)).collect()
}

#[test]
fn followers_wait_for_the_leader_and_all_get_what_it_decides() {
    let mut driver = driver();
    let members = joined(&mut driver, 3);
    let follower = driver.sync(&members[1], &[]);
    assert!(!driver.is_answered(follower) && driver.records.is_empty());
    let leader = driver.sync(&members[0], &[(&members[0], "one"), (&members[1], "two")]);
    assert_eq!(&driver.synced(leader).assignment[..], b"one");
    assert_eq!(&driver.synced(follower).assignment[..], b"two");
    assert_eq!(driver.state(), GroupState::Stable);
    assert!(matches!(&driver.records[..], [GroupRecord::ClassicGroup { value: Some(value), .. }]
        if value.members.len() == 3 && value.generation == generation(1)));
    let late = driver.sync(&members[2], &[]);
    let late = driver.synced(late);
    assert_eq!((late.error, late.assignment.len()), (ErrorCode::None, 0), "forgotten by the leader");
    assert_eq!((late.protocol_type, late.protocol), (Some("consumer".into()), Some("range".into())));
    let again = driver.sync(&members[1], &[]);
    assert_eq!(&driver.synced(again).assignment[..], b"two");
}

#[test]
fn a_sync_is_checked_in_the_order_of_kafka() {
    let ask = |driver: &mut Driver, change: &dyn Fn(&mut SyncGroup), member: &JoinAnswer| {
        let mut request = SyncGroup {
            group: GROUP.into(),
            generation: member.generation,
            member: member.member.clone(),
            instance: None,
            protocol_type: None,
            protocol: None,
            assignments: Vec::new(),
        };
        change(&mut request);
        match driver.call(Request::SyncGroup(request)) {
            Reply::SyncGroup(answer) => answer.error,
            other => panic!("{other:?}"),
        }
    };
    type Change = Box<dyn Fn(&mut SyncGroup)>;
    let table: Vec<(Change, ErrorCode)> = vec![
        (Box::new(|sync| sync.group = "".into()), ErrorCode::InvalidGroupId),
        (Box::new(|sync| sync.group = "other".into()), ErrorCode::UnknownMemberId),
        (Box::new(|sync| sync.member = "other".into()), ErrorCode::UnknownMemberId),
        (Box::new(|sync| sync.instance = Some("i".into())), ErrorCode::UnknownMemberId),
        (Box::new(|sync| sync.generation = generation(2)), ErrorCode::IllegalGeneration),
        (Box::new(|sync| sync.protocol_type = Some("connect".into())), ErrorCode::InconsistentGroupProtocol),
        (Box::new(|sync| sync.protocol = Some("sticky".into())), ErrorCode::InconsistentGroupProtocol),
        (Box::new(|sync| sync.protocol = Some("range".into())), ErrorCode::None),
    ];
    for (change, error) in table {
        let mut driver = driver();
        let members = driver.stable(vec![join(""), join("")]);
        assert_eq!(ask(&mut driver, &*change, &members[0]), error);
    }
    let mut driver = driver();
    let members = driver.stable(vec![join(""), join("")]);
    let _ = driver.join(join(""));
    assert_eq!(ask(&mut driver, &|_| {}, &members[0]), ErrorCode::RebalanceInProgress);
}

#[test]
fn a_rebalance_ends_the_wait_for_the_leader() {
    let mut driver = driver();
    let members = joined(&mut driver, 2);
    let follower = driver.sync(&members[1], &[]);
    let _ = driver.join(join(""));
    assert_eq!(driver.synced(follower).error, ErrorCode::RebalanceInProgress);
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
}

#[test]
fn members_that_do_not_ask_for_their_assignment_are_put_out() {
    let mut driver = driver();
    let members = joined(&mut driver, 3);
    let waiting = driver.sync(&members[1], &[]);
    for _ in 0..7 {
        driver.wait(8_000);
        for member in &members {
            assert_eq!(driver.heartbeat(member), ErrorCode::None);
        }
    }
    driver.wait(4_001);
    assert_eq!(driver.synced(waiting).error, ErrorCode::RebalanceInProgress);
    assert_eq!(driver.heartbeat(&members[0]), ErrorCode::UnknownMemberId, "the leader");
    assert_eq!(driver.heartbeat(&members[1]), ErrorCode::RebalanceInProgress);
    assert_eq!(driver.heartbeat(&members[2]), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_waits_for_the_leader_needs_no_heartbeat() {
    let mut driver = driver();
    let members = joined(&mut driver, 2);
    let waiting = driver.sync(&members[1], &[]);
    for _ in 0..3 {
        driver.wait(8_000);
        let _ = driver.heartbeat(&members[0]);
    }
    let leader = driver.sync(&members[0], &[(&members[1], "b")]);
    assert_eq!(driver.synced(leader).error, ErrorCode::None);
    assert_eq!(&driver.synced(waiting).assignment[..], b"b");
    driver.wait(9_000);
    assert_eq!(driver.heartbeat(&members[1]), ErrorCode::None, "its session runs from the answer");
}

#[test]
fn an_assignment_too_large_to_keep_fails_everybody() {
    let config = GroupConfig {
        group_bytes_max: 140,
        initial_rebalance_delay: Duration::from_millis(100),
        ..GroupConfig::default()
    };
    let mut driver = Driver::with(config, topics(&[1]));
    let members = joined(&mut driver, 2);
    let follower = driver.sync(&members[1], &[]);
    let large = "an assignment that is just too long for the record";
    let leader = driver.sync(&members[0], &[(&members[0], large)]);
    for id in [leader, follower] {
        assert_eq!(driver.synced(id).error, ErrorCode::UnknownServerError);
    }
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_heartbeat_is_checked_in_the_order_of_kafka() {
    let mut driver = driver();
    let member = driver.stable(vec![join("")]).remove(0);
    let mut stranger = member.clone();
    stranger.member = "stranger".into();
    assert_eq!(driver.heartbeat(&stranger), ErrorCode::UnknownMemberId);
    let mut old = member.clone();
    old.generation = generation(0);
    assert_eq!(driver.heartbeat(&old), ErrorCode::IllegalGeneration);
    assert_eq!(driver.heartbeat_as(&member, Some("i")), ErrorCode::UnknownMemberId);
    assert_eq!(driver.heartbeat(&member), ErrorCode::None);
}

#[test]
fn members_leave_one_by_one_or_together_each_with_its_own_answer() {
    let mut driver = driver();
    let members = driver.stable(vec![join(""), join(""), join("").instance("i")]);
    let pending = driver.join(join("").id_required());
    let pending = driver.joined(pending).member;
    let (first, second) = (members[0].member.as_str(), members[1].member.as_str());
    let errors = driver.leave(&[
        (first, None),
        ("stranger", None),
        (first, None),
        ("", None),
        ("", Some("i")),
        ("", Some("j")),
        (second, Some("i")),
        (pending.as_str(), None),
    ]);
    let (ok, unknown) = (ErrorCode::None, ErrorCode::UnknownMemberId);
    assert_eq!(errors, [ok, unknown, unknown, unknown, ok, unknown, ErrorCode::FencedInstanceId, ok]);
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    let again = driver.join(join(second));
    let answer = driver.joined(again);
    assert_eq!((answer.generation, &answer.leader), (generation(2), &members[1].member));
    assert_eq!(driver.leave(&[(second, None)]), [ok]);
    assert_eq!(driver.state(), GroupState::Empty);
    assert!(matches!(driver.records.last(), Some(GroupRecord::ClassicGroup { value: Some(value), .. })
        if value.members.is_empty() && value.generation == generation(3)));
    assert_eq!(driver.leave(&[(second, None)]), [unknown]);
}

#[test]
fn the_next_leader_is_one_that_has_joined() {
    let mut driver = driver();
    let members = driver.stable(vec![join(""), join(""), join("")]);
    let waiting: Vec<_> = members[1..].iter().map(|member| member.member.clone()).collect();
    assert_eq!(driver.leave(&[(members[0].member.as_str(), None)]), [ErrorCode::None]);
    let ids: Vec<_> = waiting.iter().map(|member: &MemberId| driver.join(join(member.as_str()))).collect();
    let answers: Vec<_> = ids.into_iter().map(|id| driver.joined(id)).collect();
    assert!(answers.iter().all(|answer| waiting.contains(&answer.leader)));
    assert_eq!(answers.iter().filter(|answer| answer.members.len() == 2).count(), 1);
}
