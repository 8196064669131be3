//! What a reply waits for, and what a crash leaves.

use heddle_proto::error::ErrorCode;

use super::harness::*;
use crate::coordinator::group::{
    GroupCoordinator, GroupRecord, Reply,
    message::{Heartbeat, JoinAnswer, ListGroups, Request, SyncAnswer},
};

/// The write that the answer to a request waits for.
fn waits_for(driver: &mut Driver, request: Request) -> u64 {
    let id = driver.ask(request);
    driver.replies.remove(&id).expect("it is answered at once").after.get()
}

#[test]
fn an_answer_waits_for_what_it_shows_and_for_nothing_else() {
    let mut driver = Driver::new();
    let commit_to = |group: &str, offset| {
        Request::OffsetCommit(commit("a", 0, offset).change(|commit| commit.group = group.into()).request())
    };
    let fetch_from = |group: &str| {
        let mut fetch = fetch_of(vec![named("a", 0)]);
        fetch.group = group.into();
        Request::OffsetFetch(fetch)
    };
    assert_eq!(waits_for(&mut driver, commit_to("one", 5)), 1);
    assert_eq!(waits_for(&mut driver, commit_to("two", 5)), 2);
    assert_eq!(waits_for(&mut driver, commit_to("two", 6)), 3);
    assert_eq!(waits_for(&mut driver, fetch_from("one")), 1, "another group's write is not its concern");
    assert_eq!(waits_for(&mut driver, fetch_from("two")), 3, "it shows what is not durable yet");
    assert_eq!(waits_for(&mut driver, Request::ListGroups(ListGroups::default())), 3);
    let stranger =
        Heartbeat { group: "one".into(), generation: generation(0), member: "m".into(), instance: None };
    assert_eq!(waits_for(&mut driver, Request::Heartbeat(stranger)), 1, "a refusal rests on state as well");
    assert_eq!(waits_for(&mut driver, fetch_from("none")), 3, "that it does not exist may not be durable");
}

#[test]
fn followers_wait_for_the_write_of_the_leaders_assignment() {
    let mut driver = Driver::new();
    let waiting = [driver.join(join("")), driver.join(join(""))];
    driver.wait(9_000);
    let members = waiting.map(|id| driver.joined(id));
    let follower = driver.sync(&members[1], &[]);
    let leader = driver.sync(&members[0], &[(&members[1], "x")]);
    assert_eq!(driver.replies[&follower].after.get(), 1);
    assert_eq!(driver.replies[&leader].after.get(), 1);
}

#[test]
fn a_coordinator_that_goes_away_refuses_whoever_waits_in_it() {
    let mut driver = Driver::new();
    let members = driver.stable(vec![join(""), join("")]);
    let newcomer = driver.join(join(""));
    let waiting = driver.join(join(members[0].member.as_str()));
    let mut other = join("").change(|join| join.group = "other".into());
    other = other.id_required();
    let _ = driver.join(other);
    let machine = std::mem::replace(
        &mut driver.machine,
        GroupCoordinator::new(driver.config.clone(), driver.topics.clone()),
    );
    let refused = machine.unload(ErrorCode::NotCoordinator);
    let ids: Vec<_> = refused.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.contains(&newcomer) && ids.contains(&waiting));
    for (_, reply) in refused {
        assert!(matches!(
            reply,
            Reply::JoinGroup(JoinAnswer { error: ErrorCode::NotCoordinator, .. })
                | Reply::SyncGroup(SyncAnswer { error: ErrorCode::NotCoordinator, .. })
        ));
    }
}

#[test]
fn a_crash_in_a_rebalance_leaves_the_last_stable_generation() {
    let mut driver = Driver::new();
    let members = driver.stable(vec![join(""), join("")]);
    let _ = driver.join(join(""));
    driver.restart();
    assert_eq!(driver.heartbeat(&members[0]), ErrorCode::None);
    let id = driver.sync(&members[1], &[]);
    assert_eq!(&driver.synced(id).assignment[..], b"x");
    assert_eq!(driver.commit(commit("a", 0, 1).by(members[1].member.as_str(), 1)), [ErrorCode::None]);
    driver.wait(10_000);
    driver.wait(10_000);
    assert_eq!(driver.state(), crate::coordinator::group::message::GroupState::Empty, "sessions run anew");
}

#[test]
fn a_write_that_only_just_made_it_is_a_state_of_its_own() {
    // Every prefix of the writes is a state that a crash may leave; each must load and take requests.
    let mut driver = Driver::new();
    let all = driver.beat(enter("one", &["a"])).assignment.unwrap();
    let _ = driver.beat(enter("two", &["a"]));
    let _ = driver.beat(super::consumer::owning(beat("one", 1), &all));
    let _ = driver.commit(commit("a", 0, 1).by("one", 1));
    let _ = driver.beat(beat("one", -1));
    let records = driver.records.clone();
    for length in 0..=records.len() {
        driver.records = records[..length].to_vec();
        driver.restart();
        let again = driver.beat(enter("three", &["a"]));
        assert_eq!(again.error, ErrorCode::None, "after {length} records");
    }
    assert!(
        records.iter().any(|record| matches!(record, GroupRecord::CurrentAssignment { value: None, .. }))
    );
}
