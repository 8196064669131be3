//! Long random schedules over the same world: more replicas, more faults, more records than can be explored exhaustively.

use std::fmt;
use std::sync::Arc;

use heddle_replication::replica::Hold;
use heddle_replication::rules::{Rule, Rules};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use stateright::Model;

use super::checked::{self, Action};
use super::healing;
use super::instance::{Budget, Instance};
use super::world::{Packet, World};

/// Of 256 choices so many are faults; the others let the protocol go on.
const FAULT_WEIGHT: u8 = 40;

/// One choice of a schedule: its kind, and which of the steps of that kind.
type Choice = (u8, u16);

/// How a schedule ended.
#[derive(Debug, PartialEq)]
enum End {
    Safe(Box<World>),
    Broken(&'static str, Vec<Action>),
    Stuck(healing::Stuck, Vec<Action>),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions = match self {
            End::Safe(_) => return f.write_str("safe"),
            End::Broken(property, actions) => {
                write!(f, "broken: {property}")?;
                actions
            }
            End::Stuck(stuck, actions) => {
                write!(f, "does not recover: {stuck:?}")?;
                actions
            }
        };
        actions.iter().try_for_each(|action| write!(f, "\n  {action:?}"))
    }
}

fn is_fault(action: &Action) -> bool {
    matches!(
        action,
        Action::DeliverAndKeep(_)
            | Action::BeginElection
            | Action::Shrink(..)
            | Action::Require(..)
            | Action::Crash(..)
            | Action::Wipe(_)
            | Action::Replace(_)
            | Action::Stop(_)
            | Action::Retain(_)
    )
}

/// Follows a schedule and checks every property after every step.
fn follow(instance: &Instance, choices: impl IntoIterator<Item = Choice>) -> End {
    let mut world = healing::begun(instance);
    let properties = instance.properties();
    let mut taken = Vec::new();
    for (kind, which) in choices {
        if kind == u8::MAX {
            lose(&mut world, which);
            continue;
        }
        let mut actions = Vec::new();
        instance.actions(&world, &mut actions);
        let wanted = kind < FAULT_WEIGHT;
        let of_kind: Vec<&Action> = actions.iter().filter(|action| is_fault(action) == wanted).collect();
        let Some(action) = pick(&of_kind, which) else { continue };
        let mut next = world.clone();
        if !checked::take(instance, &mut next, action) {
            continue;
        }
        world = next;
        taken.push((*action).clone());
        let broken = properties.iter().find(|property| {
            property.expectation.discovery_is_failure() && !(property.condition)(instance, &world)
        });
        if let Some(property) = broken {
            return End::Broken(property.name, taken);
        }
    }
    match healing::heals(instance, &world) {
        Ok(()) => End::Safe(Box::new(world)),
        Err(stuck) => End::Stuck(stuck, taken),
    }
}

fn pick<'a>(actions: &[&'a Action], which: u16) -> Option<&'a Action> {
    (!actions.is_empty()).then(|| actions[usize::from(which) % actions.len()])
}

fn lose(world: &mut World, which: u16) {
    let packet: Option<Arc<Packet>> = (!world.network.is_empty())
        .then(|| world.network.iter().nth(usize::from(which) % world.network.len()))
        .flatten()
        .cloned();
    if let Some(packet) = packet {
        world.network.remove(&packet);
    }
}

fn instance(
    node_count: usize,
    quorum: usize,
    commit_all: bool,
    hold: Hold,
    piece_records_max: i64,
) -> Instance {
    let budget = Budget {
        records: 30,
        elections: 8,
        crashes: 6,
        stops: 3,
        wipes: 2,
        replacements: 4,
        changes: 12,
        requirements: 6,
        resends: 60,
        retentions: 4,
        duplicates: 20,
    };
    Instance {
        node_count,
        member_count: node_count,
        quorum,
        commit_all,
        hold,
        rules: Rules::default(),
        slow_disks: u8::MAX,
        deposed_before: false,
        records_before: 2,
        tells_commits: true,
        packets_max: 16,
        piece_records_max,
        budget,
        check_healing: false,
    }
}

fn any_instance() -> impl Strategy<Value = Instance> {
    let hold = prop_oneof![Just(Hold::Durable), Just(Hold::Written)];
    let any_quorum = (2..=5usize).prop_flat_map(|node_count| (Just(node_count), 1..=node_count));
    let topology = prop_oneof![
        3 => Just((3, 2)),
        2 => Just((5, 3)),
        2 => Just((5, 4)),
        1 => Just((2, 1)),
        3 => any_quorum,
    ];
    (topology, prop::bool::weighted(0.3), hold, 1..=3i64).prop_map(
        |((node_count, quorum), all, hold, records_max)| instance(node_count, quorum, all, hold, records_max),
    )
}

fn any_schedule() -> impl Strategy<Value = Vec<Choice>> {
    prop::collection::vec(any::<Choice>(), 0..400)
}

fn from_env<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The same schedules every time, unless the environment asks for more of them or for others.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: from_env("HEDDLE_PROPTEST_CASES", 500),
        rng_seed: RngSeed::Fixed(from_env("HEDDLE_PROPTEST_SEED", 1)),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_schedules_are_safe_and_heal(instance in any_instance(), schedule in any_schedule()) {
        let end = follow(&instance, schedule);
        prop_assert!(matches!(end, End::Safe(_)), "{:?}\n{}", instance, end);
    }
}

/// The schedule of a seed: splitmix64.
fn schedule_of(seed: u64) -> impl Iterator<Item = Choice> {
    let mut state = seed;
    (0..400).map(move |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed as u8, (mixed >> 8) as u16)
    })
}

#[test]
fn the_same_schedule_ends_the_same() {
    let instance = instance(3, 2, false, Hold::Durable, 2);
    assert_eq!(follow(&instance, schedule_of(7)), follow(&instance, schedule_of(7)));
}

#[test]
fn random_schedules_find_a_missing_rule() {
    const SEEDS_MAX: u64 = 3_000;
    let mut missed = Vec::new();
    for (rule, hold) in [
        (Rule::SealRefusesOlder, Hold::Durable),
        (Rule::SealQuorum, Hold::Durable),
        (Rule::HighestAcceptedWins, Hold::Durable),
        (Rule::CutDivergence, Hold::Durable),
        (Rule::AcceptBeforeAck, Hold::Durable),
        (Rule::ElectedLogBeforeAccept, Hold::Durable),
        (Rule::ForgettingIsStable, Hold::Durable),
        (Rule::ForgotAbstains, Hold::Written),
    ] {
        let with = Instance { deposed_before: true, records_before: 0, ..instance(3, 2, false, hold, 2) };
        let without = with.clone().without(rule);
        let found = (0..SEEDS_MAX).find_map(|seed| match follow(&without, schedule_of(seed)) {
            End::Broken(property, actions) => Some((seed, property, actions.len())),
            End::Safe(_) | End::Stuck(..) => None,
        });
        println!("without {rule:?}: {found:?} (seed, property, steps)");
        let Some((seed, ..)) = found else {
            missed.push(rule);
            continue;
        };
        let end = follow(&with, schedule_of(seed));
        assert!(matches!(end, End::Safe(_)), "with {rule:?}: {end}");
    }
    assert_eq!(missed, [], "no schedule shows what these are for");
}
