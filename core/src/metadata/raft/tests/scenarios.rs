//! What a cluster must live through, one thing at a time.

use std::time::Duration;

use super::{
    cluster::{Cluster, LONG, node_id},
    memory_network::Weather,
    stores::Bug,
    virtual_time::{run, run_for},
};
use crate::metadata::{
    command::{Command, MetadataError, Outcome},
    raft::{ChangeError, ProposeError},
};

#[test]
fn one_node_is_a_cluster_of_its_own() {
    let cluster = Cluster::found(1);
    for _ in 0..10 {
        assert!(matches!(cluster.create(1), Ok(Outcome::Topic(_))));
    }
    let twice = cluster.propose(1, Command::DeleteTopic { name: "none".to_owned() });
    assert_eq!(twice, Err(ProposeError::Refused(MetadataError::UnknownTopic("none".to_owned()))));
    cluster.crash(1);
    cluster.start(1).expect("starts");
    assert_eq!(cluster.node(1).expect("runs").image().topics.len(), 10, "before anybody else is heard");
    cluster.leader(&[1]);
    cluster.create(1).expect("goes on");
    assert_eq!(cluster.verdict(), []);
}

#[test]
fn three_and_five_nodes_elect_replicate_and_replace_their_leader() {
    for count in [3, 5] {
        let cluster = Cluster::of(7, count, &[]);
        let all = cluster.ids();
        for id in all.iter().cycle().take(20) {
            cluster.create(*id).expect("any node finds the leader");
        }
        let first = cluster.leader(&all);
        cluster.crash(first);
        let rest: Vec<u64> = all.iter().copied().filter(|id| *id != first).collect();
        let second = cluster.leader(&rest);
        assert_ne!(first, second);
        cluster.create(rest[0]).expect("the rest go on");
        cluster.start(first).expect("starts");
        run_for(Duration::from_secs(1));
        assert_eq!(cluster.verdict(), []);
        assert_eq!(cluster.node(first).expect("runs").image().topics.len(), 21);
    }
}

#[test]
fn a_leader_that_is_cut_off_commits_nothing_and_says_so() {
    let cluster = Cluster::of(3, 3, &[]);
    let old = cluster.leader(&[1, 2, 3]);
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != old).collect();
    cluster.network.isolate(old, others.clone());
    assert_eq!(cluster.create(old), Err(ProposeError::Unknown));
    let node = cluster.node(old).expect("runs");
    assert_eq!(
        run(LONG, async move { node.read().await }).expect("in time").err(),
        Some(ProposeError::NoLeader)
    );
    let new = cluster.leader(&others);
    for _ in 0..5 {
        cluster.create(new).expect("a majority goes on");
    }
    cluster.network.heal();
    run_for(Duration::from_secs(2));
    assert_eq!(cluster.verdict(), []);
    let node = cluster.node(new).expect("runs");
    let image = run(LONG, async move { node.read().await }).expect("in time").expect("it leads");
    assert_eq!(image.topics.len(), 5, "what the old leader could not commit is gone");
}

#[test]
fn disks_that_save_a_vote_slower_than_an_election_waits_still_elect() {
    for seed in 0..10 {
        let cluster = Cluster::of(seed, 3, &[]);
        let old = cluster.leader(&[1, 2, 3]);
        for id in cluster.ids() {
            let slow = Duration::from_millis(80)..Duration::from_millis(160);
            cluster.disk(id).set_latency(Some(slow));
        }
        let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != old).collect();
        cluster.network.isolate(old, others.clone());
        cluster.leader(&others);
        cluster.network.heal();
        assert_eq!(cluster.verdict(), []);
    }
}

#[test]
fn without_a_majority_reads_go_on_and_writes_are_refused() {
    let cluster = Cluster::of(4, 3, &[]);
    cluster.create(2).expect("creates");
    cluster.leader(&[1, 2, 3]);
    run_for(Duration::from_secs(1));
    cluster.crash(2);
    cluster.crash(3);
    assert!(matches!(cluster.create(1), Err(ProposeError::NoLeader | ProposeError::Unknown)));
    assert_eq!(cluster.node(1).expect("runs").image().topics.len(), 1);
    cluster.start(2).expect("starts");
    cluster.leader(&[1, 2]);
    cluster.create(1).expect("a majority is back");
    cluster.start(3).expect("starts");
    run_for(Duration::from_secs(1));
    assert_eq!(cluster.verdict(), []);
}

#[test]
fn nodes_come_back_from_crashes_in_the_middle_of_writes() {
    for seed in 0..20 {
        let cluster = Cluster::of(seed, 3, &[]);
        for round in 0..6 {
            let victim = 1 + round % 3;
            // The power goes while a proposal is being written.
            let node = cluster.node(1 + (round + 1) % 3).expect("runs");
            let (_, command) = cluster.next_topic();
            run(Duration::from_micros(500 + 700 * round), async move { node.propose(command).await });
            cluster.crash(victim);
            run_for(Duration::from_millis(50 * round));
            cluster.start(victim).expect("a torn tail is cut");
            cluster.leader(&[1, 2, 3]);
            cluster.create(victim).expect("goes on");
        }
        assert_eq!(cluster.verdict(), [], "seed {seed}");
    }
}

#[test]
fn all_nodes_lose_their_power_at_once_and_nothing_is_lost() {
    for seed in 0..10 {
        let cluster = Cluster::of(seed, 5, &[]);
        for id in 1..=5 {
            cluster.create(id).expect("creates");
        }
        for id in 1..=5 {
            cluster.crash(id);
        }
        for id in 1..=5 {
            cluster.start(id).expect("starts");
        }
        cluster.leader(&[1, 2, 3, 4, 5]);
        cluster.create(3).expect("goes on");
        assert_eq!(cluster.verdict(), [], "seed {seed}");
    }
}

#[test]
fn a_node_that_lags_far_behind_gets_a_snapshot() {
    let cluster = Cluster::of(5, 3, &[]);
    let lagging = [1, 2, 3].into_iter().find(|id| *id != cluster.leader(&[1, 2, 3])).expect("one follows");
    cluster.crash(lagging);
    for _ in 0..200 {
        cluster.create(cluster.live()[0].0).expect("a majority goes on");
    }
    let snapshots = |id: u64| {
        let files = cluster.disk(id).files();
        files.iter().filter(|(path, _)| path.to_string_lossy().ends_with(".snapshot")).count()
    };
    let others = [1, 2, 3].into_iter().filter(|id| *id != lagging);
    assert_eq!(
        (snapshots(lagging), others.map(snapshots).sum()),
        (0, 2),
        "the others' logs begin later by now"
    );
    cluster.start(lagging).expect("starts");
    run_for(Duration::from_secs(2));
    assert_eq!(cluster.verdict(), []);
    assert_eq!((cluster.node(lagging).expect("runs").image().topics.len(), snapshots(lagging)), (200, 1));
    // What it got is on its disk.
    cluster.crash(lagging);
    cluster.start(lagging).expect("starts");
    assert_eq!(cluster.node(lagging).expect("runs").image().topics.len(), 200);
    assert_eq!(cluster.verdict(), []);
}

#[test]
fn a_learner_joins_becomes_a_voter_and_replaces_one_that_is_gone() {
    let cluster = Cluster::of(6, 3, &[]);
    for _ in 0..120 {
        cluster.create(1).expect("creates");
    }
    let leader = cluster.leader(&[1, 2, 3]);
    let gone = [1, 2, 3].into_iter().find(|id| *id != leader).expect("one follows");
    let stays = 6 - leader - gone;
    cluster.crash(gone);
    cluster.add(4, Bug::None);
    assert!(
        matches!(cluster.learn(stays, 4), Err(ChangeError::NotLeader { .. })),
        "a follower changes nothing"
    );
    cluster.learn(leader, 4).expect("learns");
    assert!(cluster.members(leader).learners.contains(&node_id(4)));
    run_for(Duration::from_secs(1));
    assert_eq!(cluster.node(4).expect("runs").image().topics.len(), 120, "it has what the others have");
    cluster.vote(leader, [leader, stays, 4]).expect("changes the voters");
    let members = cluster.members(leader);
    assert_eq!(members.voters, [leader, stays, 4].into_iter().map(node_id).collect());
    // The new voter counts: with it there is a majority without the other one that stayed.
    cluster.crash(stays);
    cluster.create(leader).expect("two of three");
    cluster.start(stays).expect("starts");
    run_for(Duration::from_secs(1));
    assert_eq!(cluster.verdict(), []);
    // The one that was gone is no voter any more: it disturbs nobody when it comes back.
    cluster.start(gone).expect("starts");
    run_for(Duration::from_secs(3));
    cluster.create(leader).expect("goes on");
    cluster.crash(gone);
    assert_eq!(cluster.verdict(), []);
}

#[test]
fn a_voter_that_nobody_took_in_is_refused() {
    let cluster = Cluster::of(8, 3, &[]);
    let leader = cluster.leader(&[1, 2, 3]);
    let refused = cluster.vote(leader, [1, 2, 9]);
    assert!(matches!(refused, Err(ChangeError::Refused(_))), "{refused:?}");
    assert!(matches!(cluster.vote(leader, []), Err(ChangeError::Refused(_))));
    assert_eq!(cluster.verdict(), []);
}

#[test]
fn bad_links_slow_it_down_and_break_nothing() {
    let cluster = Cluster::of(9, 3, &[]);
    cluster.network.set_weather(Weather { lost: 100, doubled: 100, delay_max: Duration::from_millis(20) });
    let mut answered = 0;
    for turn in 0..100 {
        answered += u32::from(cluster.create(1 + turn % 3).is_ok());
    }
    assert!(answered > 50, "{answered}");
    cluster.network.set_weather(Weather::default());
    run_for(Duration::from_secs(2));
    assert_eq!(cluster.verdict(), []);
}

#[test]
fn a_leader_that_only_hears_is_replaced() {
    let cluster = Cluster::of(10, 3, &[]);
    let old = cluster.leader(&[1, 2, 3]);
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != old).collect();
    others.iter().for_each(|other| cluster.network.cut(old, *other));
    let new = cluster.leader(&others);
    cluster.create(new).expect("goes on");
    cluster.network.heal();
    run_for(Duration::from_secs(1));
    assert_eq!(cluster.verdict(), []);
}

#[test]
fn a_disk_that_fails_ends_the_nodes_part() {
    let cluster = Cluster::of(11, 3, &[]);
    let leader = cluster.leader(&[1, 2, 3]);
    let victim = [1, 2, 3].into_iter().find(|id| *id != leader).expect("one follows");
    cluster.disk(victim).fail_next("raft.log");
    cluster.create(leader).expect("a majority goes on");
    let node = cluster.node(victim).expect("its process has not noticed yet");
    let why = run(LONG, async move { node.failed().await }).expect("in time");
    assert!(why.contains("raft.log"), "{why}");
    cluster.crash(victim);
    cluster.start(victim).expect("starts");
    run_for(Duration::from_secs(1));
    let faults = cluster.verdict();
    assert!(matches!(&faults[..], [super::checker::Fault::Failed(id, _)] if *id == victim), "{faults:?}");
}
