//! The checker must find what is planted.

use std::time::Duration;

use super::{
    checker::Fault,
    cluster::{Cluster, LONG},
    stores::Bug,
    virtual_time::{panics, run, run_for},
};
use crate::metadata::{frame::MetadataLogError, raft::StartError};

/// A leader is elected by one vote, which its voter forgets in a crash; cut off with an entry of its own, it lets the
/// voter elect another one. Both must not lead in one term.
fn forgotten_vote(seed: u64, bug: Bug) -> Vec<Fault> {
    let cluster = Cluster::of(seed, 3, &[(2, bug), (3, bug)]);
    for _ in 0..20 {
        let leader = cluster.leader(&cluster.ids());
        let followers: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        // Its followers do not hear the leader, and forget.
        cluster.network.isolate(leader, followers.clone());
        let node = cluster.node(leader).expect("runs");
        let (_, command) = cluster.next_topic();
        run(Duration::from_millis(20), async move { node.propose(command).await });
        for id in &followers {
            cluster.crash(*id);
            cluster.start(*id).expect("starts");
        }
        let next = cluster.leader(&followers);
        let _unknown = cluster.create(next);
        cluster.network.heal();
        run_for(Duration::from_secs(1));
        if !(cluster.checker.verdict([]).is_empty() && panics().is_empty()) {
            break;
        }
    }
    let mut faults = cluster.checker.verdict([]);
    faults.extend(panics().into_iter().map(|(id, text)| Fault::Failed(id, text)));
    faults
}

#[test]
fn a_vote_that_is_not_saved_is_found() {
    let found = (0..5).map(|seed| forgotten_vote(seed, Bug::VoteNotSaved)).find(|faults| !faults.is_empty());
    let faults = found.expect("two leaders of one term, or what they do to the log");
    let shows = |fault: &Fault| matches!(fault, Fault::TwoLeaders(_) | Fault::Diverged(_) | Fault::Lost(_));
    assert!(faults.iter().any(shows), "{faults:?}");
    for seed in 0..5 {
        assert_eq!(forgotten_vote(seed, Bug::None), [], "the same without the bug");
    }
}

fn many_at_once(bug: Bug) -> Vec<Fault> {
    let cluster = Cluster::of(1, 3, &[(3, bug)]);
    let leader = cluster.leader(&[1, 2, 3]);
    for _ in 0..5 {
        let node = cluster.node(leader).expect("runs");
        let commands: Vec<_> = (0..10).map(|_| cluster.next_topic().1).collect();
        let proposals = async move {
            let mut waiting: Vec<_> =
                commands.into_iter().map(|command| Box::pin(node.propose(command))).collect();
            for proposal in &mut waiting {
                let _pending = futures_lite::future::poll_once(proposal).await;
            }
            for proposal in waiting {
                proposal.await.expect("creates");
            }
        };
        run(LONG, proposals).expect("in time");
    }
    run_for(Duration::from_secs(1));
    cluster.verdict()
}

#[test]
fn entries_that_change_places_are_found() {
    assert_eq!(many_at_once(Bug::None), []);
    let faults = many_at_once(Bug::AppliesOutOfOrder);
    assert!(faults.iter().any(|fault| matches!(fault, Fault::OutOfOrder(3, _))), "{faults:?}");
}

#[test]
fn commands_that_a_node_skips_are_found() {
    let faults = many_at_once(Bug::SkipsCommands);
    assert!(matches!(faults[..], [Fault::WrongImage(3, _)]), "{faults:?}");
}

#[test]
fn entries_that_never_reached_the_disk_are_found_at_the_next_start() {
    let cluster = Cluster::of(2, 3, &[(3, Bug::EntriesNotSaved)]);
    for _ in 0..5 {
        cluster.create(1).expect("creates");
    }
    run_for(Duration::from_secs(1));
    cluster.crash(3);
    let refused = cluster.start(3);
    assert!(matches!(refused, Err(StartError::Log(MetadataLogError::Damaged { .. }))), "{refused:?}");
}
