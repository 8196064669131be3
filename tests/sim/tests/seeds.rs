//! Some hundred seeds in every test run, the same seed twice, and a planted mistake for every checker.

use std::sync::atomic::{AtomicU64, Ordering};

use heddle_replication::replica::Hold;
use heddle_sim::{Bug, Plan, run};

/// `HEDDLE_SIM_SEEDS` asks for more.
fn seed_count(default: u64) -> u64 {
    std::env::var("HEDDLE_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Names the seed whose run panics.
struct Running(u64);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("that was seed {}", self.0);
        }
    }
}

fn finds_nothing(seed: u64) {
    let (plan, running) = (Plan::new(seed), Running(seed));
    let outcome = run(&plan);
    let last = outcome.log.len().saturating_sub(40);
    assert_eq!(outcome.findings, [], "{plan:?}\n{}", outcome.log[last..].join("\n"));
    assert!(outcome.acked_count > 0, "nothing is done: {plan:?}");
    drop(running);
}

#[test]
fn seeds_find_nothing() {
    let (count, next) = (seed_count(300), AtomicU64::new(0));
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < count) {
            finds_nothing(seed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |workers| workers.get()) {
            scope.spawn(work);
        }
    });
}

/// In these a second disk would be harmed while the first holds damage that has not shown yet.
#[test]
fn harm_that_nobody_has_seen_counts() {
    [301, 1710, 2049].into_iter().for_each(finds_nothing);
}

/// In this one a node restarts under frames that nobody has told its peer are lost.
#[test]
fn a_connection_ends_with_the_life_of_the_peer() {
    finds_nothing(539);
}

/// Partitions got stuck in these: no room for a state record in a full write-ahead log, a damaged primary that went on leading.
/// Whether a seed still meets that changes with every message; the rules have tests of their own beside them.
#[test]
fn seeds_that_found_something_find_nothing() {
    [2549, 2648].into_iter().for_each(finds_nothing);
}

/// In these a replica goes to another node and comes back: its primary took it for the one that it had been, and the next
/// start for one that was deleted.
#[test]
fn who_comes_back_begins_anew() {
    [4, 332].into_iter().for_each(finds_nothing);
}

/// In this one all that a partition is to have replicas on are drained before the move there ends.
#[test]
fn a_move_to_nodes_that_are_drained_ends() {
    finds_nothing(2119);
}

/// In this one backups restart, and nothing is written once they have caught up.
#[test]
fn who_has_caught_up_hears_what_is_committed() {
    finds_nothing(5554);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 3..9 {
        assert_eq!(run(&Plan::new(seed)).trace, run(&Plan::new(seed)).trace, "seed {seed}");
    }
    assert_ne!(run(&Plan::new(3)).trace, run(&Plan::new(4)).trace);
}

/// The first seed with this mistake whose run the checker objects to.
fn finds(checker: &'static str, change: impl Fn(&mut Plan)) {
    let mut others = Vec::new();
    for seed in 0..20 {
        let mut plan = Plan { partition_count: 1, only: Some(checker), ..Plan::new(2 * seed) };
        change(&mut plan);
        let outcome = run(&plan);
        if outcome.findings.iter().any(|finding| finding.checker == checker) {
            return;
        }
        others.push(outcome.findings);
    }
    panic!("nothing for `{checker}`, only {others:?}");
}

fn three(plan: &mut Plan, bug: Bug) {
    (plan.node_count, plan.replica_count, plan.quorum) = (3, 3, 2);
    (plan.hold, plan.harms_disks, plan.bug) = (Hold::Durable, false, Some(bug));
}

#[test]
fn lost_finds_a_disk_that_lies() {
    finds("lost", |plan| three(plan, Bug::DiskLies));
}

#[test]
fn reordered_finds_a_retry_out_of_order() {
    finds("reordered", |plan| three(plan, Bug::RetryOutOfOrder));
}

#[test]
fn diverged_finds_an_altered_record() {
    finds("diverged", |plan| three(plan, Bug::AltersRecord));
}

#[test]
fn committers_finds_two_primaries() {
    finds("committers", |plan| {
        three(plan, Bug::TwoPrimaries);
        (plan.node_count, plan.replica_count, plan.quorum) = (2, 2, 1);
    });
}

#[test]
fn halted_finds_a_controller_that_elects_the_shortest_log() {
    finds("halted", |plan| three(plan, Bug::ElectsShortest));
}

#[test]
fn elected_finds_too_few_answers() {
    finds("elected", |plan| three(plan, Bug::ElectsTooSoon));
}

#[test]
fn lost_finds_too_few_answers() {
    finds("lost", |plan| three(plan, Bug::ElectsTooSoon));
}

#[test]
fn elected_finds_a_hand_over_to_the_shortest_log() {
    finds("elected", |plan| three(plan, Bug::HandsOverToShortest));
}

/// Five nodes, so that replicas can move.
fn five(plan: &mut Plan, bug: Bug) {
    three(plan, bug);
    plan.node_count = 5;
}

#[test]
fn lost_finds_a_move_that_ends_before_the_new_replica_is_in_sync() {
    finds("lost", |plan| five(plan, Bug::MovesTooSoon));
}

#[test]
fn placed_finds_a_move_that_ends_before_the_new_replica_is_in_sync() {
    finds("placed", |plan| five(plan, Bug::MovesTooSoon));
}

#[test]
fn placed_finds_a_drain_that_leaves_too_few() {
    finds("placed", |plan| {
        three(plan, Bug::DrainsAtOnce);
        plan.quorum = 3;
    });
}

#[test]
fn kept_finds_a_start_that_takes_nothing_up() {
    finds("kept", |plan| three(plan, Bug::ForgetsWrites));
}

#[test]
fn unseen_finds_a_hidden_record() {
    finds("unseen", |plan| {
        three(plan, Bug::HidesNewest);
        plan.fault_rate = 0;
    });
}

#[test]
fn stuck_finds_a_node_that_is_deaf() {
    finds("stuck", |plan| three(plan, Bug::DeafToPromises));
}
