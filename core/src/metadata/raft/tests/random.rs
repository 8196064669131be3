//! Random faults from a seed: crashes, cut links, bad weather, nodes that come and go as voters.

use std::{rc::Rc, time::Duration};

use super::{
    cluster::Cluster,
    memory_network::{Weather, chance},
    stores::Bug,
    virtual_time::{Virtual, on_behalf, run_for},
};
use crate::metadata::raft::{runtime::Executor, types::Id};

/// How many seeds a test run goes through; `HEDDLE_RAFT_SEEDS` asks for another number.
const SEEDS: u64 = 20;

/// How many faults one run has.
const FAULTS: u64 = 30;

/// What one run did.
struct Run {
    answered: usize,
    terms: usize,
    trace: Vec<String>,
}

fn go(seed: u64, count: Id) -> Run {
    println!("seed {seed}, {count} nodes");
    let cluster = Cluster::of(seed, count, &[]);
    clients(&cluster);
    for _ in 0..FAULTS {
        fault(&cluster, count);
        run_for(Duration::from_millis(Virtual::random() % 800));
    }
    cluster.network.heal();
    cluster.network.set_weather(Weather::default());
    for id in cluster.ids() {
        if cluster.node(id).is_none() {
            cluster.start(id).expect("starts");
        }
    }
    super::virtual_time::kill(CLIENTS);
    let voters: Vec<Id> = (1..=count).collect();
    cluster.leader(&voters);
    cluster.create(1).expect("all is well again");
    run_for(Duration::from_secs(1));
    assert_eq!(cluster.verdict(), [], "seed {seed}, {count} nodes");
    let (answered, terms) = cluster.checker.counts();
    Run { answered, terms, trace: cluster.checker.trace() }
}

/// The owner of the clients' tasks.
const CLIENTS: Id = 1000;

/// Clients that create topics through random nodes for as long as they are let.
fn clients(cluster: &Rc<Cluster>) {
    for _ in 0..3 {
        let cluster = cluster.clone();
        on_behalf(CLIENTS, || {
            Virtual::spawn(async move {
                loop {
                    Virtual::sleep(Duration::from_millis(5 + Virtual::random() % 30)).await;
                    let live = cluster.live();
                    let Some((_, node)) = live.get(Virtual::random() as usize % live.len().max(1)) else {
                        continue;
                    };
                    let (name, command) = cluster.next_topic();
                    if node.propose(command).await.is_ok() {
                        cluster.checker.on_answer(&name);
                    }
                }
            });
        });
    }
}

fn fault(cluster: &Rc<Cluster>, count: Id) {
    let ids: Vec<Id> = (1..=count).collect();
    let one = ids[Virtual::random() as usize % ids.len()];
    match Virtual::random() % 8 {
        0 | 1 => match cluster.node(one) {
            Some(_) => cluster.crash(one),
            None => cluster.start(one).expect("starts"),
        },
        2 => cluster.network.isolate(one, ids.iter().copied().filter(|id| *id != one)),
        3 => ids.iter().filter(|id| chance(500) && **id != one).for_each(|id| cluster.network.cut(one, *id)),
        4 => cluster.network.heal(),
        5 => {
            let weather = Weather {
                lost: Virtual::random() % 200,
                doubled: Virtual::random() % 100,
                delay_max: Duration::from_millis(Virtual::random() % 60),
            };
            cluster.network.set_weather(weather);
        }
        6 => {
            // A crash and a start at once: what was being written is torn.
            if cluster.node(one).is_some() {
                cluster.crash(one);
            }
            cluster.start(one).expect("a torn tail is cut");
        }
        _ => ids.iter().filter(|id| cluster.node(**id).is_none()).for_each(|id| {
            cluster.start(*id).expect("starts");
        }),
    }
}

#[test]
fn nothing_committed_is_lost_or_reordered() {
    let seeds = std::env::var("HEDDLE_RAFT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let (mut answered, mut terms) = (0, 0);
    for seed in 0..seeds {
        let run = go(seed, if seed % 2 == 0 { 3 } else { 5 });
        answered += run.answered;
        terms += run.terms;
    }
    println!("{seeds} seeds, {answered} commands answered, {terms} terms with a leader");
    assert!(answered as u64 > seeds * 20, "{answered}");
}

#[test]
fn the_same_seed_goes_the_same_way() {
    assert_eq!(go(3, 3).trace, go(3, 3).trace);
}

#[test]
fn voters_are_replaced_in_the_middle_of_all() {
    for seed in 0..5 {
        println!("seed {seed}");
        let cluster = Cluster::of(seed, 3, &[]);
        clients(&cluster);
        cluster.network.set_weather(Weather { lost: 20, doubled: 50, delay_max: Duration::from_millis(10) });
        let mut voters: Vec<Id> = vec![1, 2, 3];
        for id in 4..=8 {
            let leader = cluster.leader(&voters);
            let gone = *voters.iter().find(|id| **id != leader).expect("one follows");
            cluster.crash(gone);
            cluster.add(id, Bug::None);
            voters.retain(|voter| *voter != gone);
            voters.push(id);
            // The leader may change meanwhile, and an answer may be lost: whoever replaces a voter asks again.
            let wanted: Vec<Id> = voters.clone();
            let is_done = (0..50).any(|_| {
                let running: Vec<Id> = wanted.iter().copied().filter(|voter| *voter != id).collect();
                let leader = cluster.leader(&running);
                let done = cluster.learn(leader, id).is_ok() && cluster.vote(leader, wanted.clone()).is_ok();
                run_for(Duration::from_millis(200));
                done
            });
            assert!(is_done, "seed {seed}: node {id} does not become a voter");
        }
        cluster.network.set_weather(Weather::default());
        super::virtual_time::kill(CLIENTS);
        run_for(Duration::from_secs(2));
        cluster.create(cluster.leader(&voters)).expect("goes on");
        assert_eq!(cluster.verdict(), [], "seed {seed}");
    }
}
