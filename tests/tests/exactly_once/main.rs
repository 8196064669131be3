//! Consume-transform-produce, exactly once: workers move records from one topic to another in transactions, while they are
//! killed, fenced and replaced, join and leave, and the broker is killed and restarted under them.
//!
//! Faults come in rounds, after each of which the workers must catch up: while members of a group are killed every second, the
//! group is always about to be shared out anew, and hardly anything is moved.
//!
//! `HEDDLE_SOAK_SECONDS=1800` makes a soak of it, `HEDDLE_SOAK_SEED` another one. A worker is this test binary again, as
//! a process of its own, so that it can be killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chaos;
mod check;
mod feeder;
mod worker;

use std::time::{Duration, Instant};

use heddle_tests::broker::{Broker, BrokerOptions};
use heddle_tests::kafka;

/// Where records come from.
const IN: &str = "orders";
/// Where they go.
const OUT: &str = "booked";
/// The group of the workers.
const GROUP: &str = "bookers";
const PARTITIONS: i32 = 6;
/// What begins the value of a record whose transaction its worker is going to abort.
const DOOMED: &str = "doomed ";

/// How long there are faults before the workers may catch up.
const ROUND: Duration = Duration::from_secs(20);

/// How long workers may take to finish what was fed, once nothing is broken any more.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn every_record_is_moved_exactly_once() {
    let duration = Duration::from_secs(setting("HEDDLE_SOAK_SECONDS", 20));
    let seed = setting("HEDDLE_SOAK_SEED", 1);
    let mut broker = Broker::start(BrokerOptions::new());
    for topic in [IN, OUT] {
        kafka::create(&broker.bootstrap(), topic, PARTITIONS, &[]);
    }
    let mut chaos = chaos::Chaos::new(&broker, seed);
    let (mut fed, end) = (0, Instant::now() + duration);
    while Instant::now() < end {
        let feeder = feeder::start(&broker.bootstrap(), fed);
        let calm_at = end.min(Instant::now() + ROUND);
        while Instant::now() < calm_at {
            chaos.step(&mut broker);
        }
        fed = feeder.stop();
        chaos.calm();
        wait_until_moved(&broker, fed);
    }
    chaos.stop();
    // Read again, now that nobody writes any more: what came last counts too.
    let moved = check::read(&broker.bootstrap(), OUT, "read_committed");
    let written = check::read(&broker.bootstrap(), OUT, "read_uncommitted");
    assert_eq!(
        check::anomalies(fed, &check::read(&broker.bootstrap(), IN, "read_committed")),
        [""; 0],
        "fed"
    );
    assert_eq!(check::anomalies(fed, &moved), [""; 0], "moved; {}", chaos.summary());
    let doomed = written.iter().filter(|value| value.starts_with(DOOMED)).count();
    assert!(doomed > 0, "no transaction was aborted, so nothing shows that aborted records stay unseen");
    println!("{fed} records moved once, {doomed} aborted ones not seen; {}", chaos.summary());
}

/// Nothing is broken any more, so the workers come to the end of what was fed.
fn wait_until_moved(broker: &Broker, fed: u64) {
    let deadline = Instant::now() + CATCH_UP_MAX;
    loop {
        let seen = check::read(&broker.bootstrap(), OUT, "read_committed");
        if check::missing(fed, &seen).is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "workers do not catch up: {}", check::describe(fed, &seen));
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Not a test: what a worker's process runs.
#[test]
fn worker_process() {
    if let Some(arguments) = worker::Arguments::from_environment() {
        worker::run(&arguments);
    }
}
