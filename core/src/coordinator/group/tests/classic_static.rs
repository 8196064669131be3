//! Static membership (KIP-345): a process that restarts keeps its place, and two processes cannot share it.

use std::time::Duration;

use heddle_proto::error::ErrorCode;

use super::harness::*;
use crate::coordinator::group::{GroupConfig, message::GroupState};

fn driver() -> Driver {
    let delay = Duration::from_millis(100);
    Driver::with(GroupConfig { initial_rebalance_delay: delay, ..GroupConfig::default() }, topics(&[4]))
}

#[test]
fn a_restarted_static_member_takes_its_place_without_a_rebalance() {
    for is_leader in [true, false] {
        for can_skip in [true, false] {
            let mut driver = driver();
            let members = driver.stable(vec![join("").instance("i"), join("").instance("j")]);
            let written = driver.records.len();
            let (old, instance) = if is_leader { (&members[0], "i") } else { (&members[1], "j") };
            let request = join("").instance(instance).change(|join| join.can_skip_assignment = can_skip);
            let id = driver.join(request);
            let new = driver.joined(id);
            assert_eq!((new.error, new.generation), (ErrorCode::None, generation(1)));
            assert_ne!(new.member, old.member);
            assert_eq!(driver.state(), GroupState::Stable);
            assert_eq!(driver.records.len(), written + 1, "the new name must survive");
            assert_eq!(new.skip_assignment, is_leader && can_skip);
            assert_eq!(new.members.len(), if is_leader && can_skip { 2 } else { 0 });
            let shown_as_leader = new.leader == new.member;
            assert_eq!(shown_as_leader, is_leader && can_skip, "else it would assign anew");
            let id = driver.sync(&new, &[]);
            assert_eq!(&driver.synced(id).assignment[..], b"x", "it has what the old one had");
            assert_eq!(driver.heartbeat_as(old, Some(instance)), ErrorCode::FencedInstanceId);
            assert_eq!(driver.heartbeat(old), ErrorCode::UnknownMemberId);
            assert_eq!(driver.heartbeat_as(&new, Some(instance)), ErrorCode::None);
        }
    }
}

#[test]
fn another_protocol_of_a_restarted_static_member_rebalances() {
    let mut driver = driver();
    let both = [("range", "a"), ("sticky", "a")];
    let turned = [("sticky", "a"), ("range", "a")];
    let members = driver.stable(vec![
        join("").instance("i").protocols(&both),
        join("").instance("j").protocols(&both),
        join("").instance("k").protocols(&turned),
    ]);
    assert_eq!(members[0].protocol, Some("range".into()));
    let waiting = driver.join(join("").instance("i").protocols(&turned));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    assert!(!driver.is_answered(waiting));
}

#[test]
fn waiting_requests_of_the_replaced_process_are_fenced() {
    let mut driver = driver();
    let members = driver.stable(vec![join("").instance("i"), join("").instance("j")]);
    let old = driver.join(join(members[0].member.as_str()).instance("i"));
    assert_eq!(driver.state(), GroupState::PreparingRebalance, "the leader joined again");
    let new = driver.join(join("").instance("i"));
    assert_eq!(driver.joined(old).error, ErrorCode::FencedInstanceId);
    let other = driver.join(join(members[1].member.as_str()).instance("j"));
    let new = driver.joined(new);
    let other = driver.joined(other);
    assert_eq!((new.generation, other.generation), (generation(2), generation(2)));
    // Now in the completing phase: a replaced member may be known to the leader under its old name.
    let syncing = driver.sync(&other, &[]);
    let newer = driver.join(join("").instance("j"));
    assert_eq!(driver.synced(syncing).error, ErrorCode::FencedInstanceId);
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    let again = driver.join(join(new.member.as_str()).instance("i"));
    assert_eq!(driver.joined(again).generation, generation(3));
    assert_eq!(driver.joined(newer).generation, generation(3));
}

#[test]
fn a_static_member_keeps_its_place_through_a_rebalance_until_its_session_ends() {
    let mut driver = driver();
    let long = |join: Join| join.change(|join| join.session_timeout = Duration::from_secs(300));
    let members = driver.stable(vec![long(join("").instance("i")), join("")]);
    let again = driver.join(join(members[1].member.as_str()).protocols(&[("range", "b")]));
    driver.wait(60_000);
    let answer = driver.joined(again);
    assert_eq!((answer.generation, answer.members.len()), (generation(2), 2), "the absent one counts");
    assert_eq!(answer.leader, members[1].member, "but does not lead");
}

#[test]
fn without_anybody_present_the_rebalance_waits_for_a_static_member_or_the_end_of_its_session() {
    let mut driver = driver();
    let member = driver.stable(vec![join("").instance("i"), join("").instance("j")]).remove(1);
    assert_eq!(driver.leave(&[("", Some("i"))]), [ErrorCode::None]);
    driver.wait(5_000);
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    let id = driver.join(join(member.member.as_str()).instance("j"));
    assert_eq!(driver.joined(id).generation, generation(2));
    assert_eq!(driver.leave(&[("", Some("j"))]), [ErrorCode::None]);
    assert_eq!(driver.state(), GroupState::Empty);
}

#[test]
fn a_known_name_with_the_wrong_instance_is_refused() {
    let mut driver = driver();
    let members = driver.stable(vec![join("").instance("i"), join("").instance("j")]);
    let id = driver.join(join(members[0].member.as_str()).instance("j"));
    assert_eq!(driver.joined(id).error, ErrorCode::FencedInstanceId);
    let id = driver.join(join(members[0].member.as_str()).instance("k"));
    assert_eq!(driver.joined(id).error, ErrorCode::UnknownMemberId);
}

#[test]
fn static_places_survive_a_restart_of_the_broker() {
    let mut driver = driver();
    let members = driver.stable(vec![join("").instance("i"), join("").instance("j")]);
    driver.restart();
    assert_eq!(driver.state(), GroupState::Stable);
    assert_eq!(driver.heartbeat_as(&members[0], Some("i")), ErrorCode::None);
    let id = driver.join(join("").instance("i"));
    let new = driver.joined(id);
    assert_eq!((new.error, new.generation), (ErrorCode::None, generation(1)));
    driver.restart();
    assert_eq!(driver.heartbeat_as(&members[0], Some("i")), ErrorCode::FencedInstanceId);
    assert_eq!(driver.heartbeat_as(&new, Some("i")), ErrorCode::None);
}
