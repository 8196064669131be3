//! Many members and partitions: what happens is counted, not timed.

use std::time::Duration;

use heddle_proto::error::ErrorCode;

use super::{
    consumer::{describe, owning},
    harness::*,
};
use crate::coordinator::group::{
    GroupConfig,
    message::{Assignment, GroupState, JoinAnswer},
};

#[test]
fn idle_members_write_nothing_and_hold_one_deadline_each() {
    let mut driver = Driver::with(GroupConfig::default(), topics(&[1_000]));
    let members = driver.stable((0..1_000).map(|_| join("")).collect());
    assert_eq!(driver.machine.deadlines.len(), 1_001);
    let (written, deadlines) = (driver.last_write, driver.machine.deadlines.len());
    for _ in 0..5 {
        driver.wait(3_000);
        for member in &members {
            assert_eq!(driver.heartbeat(member), ErrorCode::None);
        }
    }
    assert_eq!((driver.last_write, driver.machine.deadlines.len()), (written, deadlines));
    assert_eq!(driver.state(), GroupState::Stable);
}

#[test]
fn two_hundred_classic_members_rebalance_with_one_record() {
    let delay = Duration::from_millis(1);
    let config = GroupConfig { initial_rebalance_delay: delay, ..GroupConfig::default() };
    let mut driver = Driver::with(config, topics(&[1_000]));
    let members = driver.stable((0..200).map(|_| join("")).collect());
    let written = driver.records.len();
    let newcomer = driver.join(join(""));
    let waiting: Vec<_> = members.iter().map(|member| driver.join(join(member.member.as_str()))).collect();
    let mut answers: Vec<JoinAnswer> = waiting.into_iter().map(|id| driver.joined(id)).collect();
    answers.push(driver.joined(newcomer));
    let leader = answers.iter().position(|answer| answer.member == answer.leader).unwrap();
    let given: Vec<(&JoinAnswer, &'static str)> = answers.iter().map(|answer| (answer, "y")).collect();
    let syncing: Vec<_> = answers
        .iter()
        .enumerate()
        .map(|(index, answer)| driver.sync(answer, if index == leader { &given } else { &[] }))
        .collect();
    for id in syncing {
        assert_eq!(&driver.synced(id).assignment[..], b"y");
    }
    assert_eq!(driver.records.len(), written + 1);
}

#[test]
fn two_hundred_consumer_members_share_a_thousand_partitions_within_a_few_heartbeats() {
    let mut driver = Driver::with(GroupConfig::default(), topics(&[1_000]));
    let mut members: Vec<(String, i32, Assignment)> = Vec::new();
    for index in 0..200 {
        let name = format!("m{index:03}");
        let answer = driver.beat(enter(&name, &["a"]));
        members.push((name, answer.epoch.get(), answer.assignment.unwrap()));
    }
    let mut rounds = 0;
    while describe(&mut driver).state != GroupState::Stable {
        rounds += 1;
        assert!(rounds <= 4, "each round, every member calls once");
        for (name, epoch, owned) in &mut members {
            let answer = driver.beat(owning(beat(name, *epoch), owned));
            assert_eq!(answer.error, ErrorCode::None);
            *epoch = answer.epoch.get();
            if let Some(assignment) = answer.assignment {
                *owned = assignment;
            }
        }
    }
    assert!(members.iter().all(|(_, _, owned)| owned.len() == 5));
    // One leaves: its partitions alone move.
    let before = members.clone();
    let (gone, ..) = members.remove(0);
    let _ = driver.beat(beat(&gone, -1));
    for (name, epoch, owned) in &mut members {
        let answer = driver.beat(owning(beat(name, *epoch), owned));
        *owned = answer.assignment.unwrap_or_else(|| owned.clone());
    }
    let moved: usize =
        members.iter().zip(&before[1..]).map(|(now, before)| now.2.difference(&before.2).count()).sum();
    assert_eq!(moved, 5);
}
