//! The kinds of faults, and which ones a seed chooses. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// What can happen to a cluster.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// kill -9 of a node, and a start some seconds later.
    Kill,
    /// SIGSTOP for three seconds.
    Stop,
    /// SIGTERM, which hands over first, and a start some seconds later.
    Terminate,
    /// SIGTERM and start of every node, one after the other, each when all copies are in sync again.
    Rolling,
    /// A node and the others do not hear each other; clients reach all.
    Cut,
    /// A node is not heard by the others but hears them, or the other way round; clients reach all.
    OneWay,
    /// Frames from and to a node take 50 to 200 ms each way, and 5 % are lost.
    Slow,
    /// The smaller half is cut from the larger one and from the clients.
    Split,
    /// Not a block is free on a node's disk.
    Full,
    /// A bit of a closed segment flips while a backup is down.
    Flip,
    /// A node loses its disk and joins again, empty, under its old id.
    DiskLoss,
    /// The clock jumps. Cannot be injected: Linux has no namespace for CLOCK_REALTIME.
    Clock,
    /// Another node joins, is drained and leaves. Needs `heddle cluster drain`.
    Grow,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 13] = [
        Kind::Kill,
        Kind::Stop,
        Kind::Terminate,
        Kind::Rolling,
        Kind::Cut,
        Kind::OneWay,
        Kind::Slow,
        Kind::Split,
        Kind::Full,
        Kind::Flip,
        Kind::DiskLoss,
        Kind::Clock,
        Kind::Grow,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Stop => "stop",
            Kind::Terminate => "terminate",
            Kind::Rolling => "rolling",
            Kind::Cut => "cut",
            Kind::OneWay => "one-way",
            Kind::Slow => "slow",
            Kind::Split => "split",
            Kind::Full => "full",
            Kind::Flip => "flip",
            Kind::DiskLoss => "disk-loss",
            Kind::Clock => "clock",
            Kind::Grow => "grow",
        }
    }

    /// Whether it is among those a seed chooses from when no kind is given.
    pub fn is_default(self) -> bool {
        !matches!(self, Kind::Clock | Kind::Grow)
    }

    /// Whether it exists only where nodes know of each other.
    pub fn needs_peers(self) -> bool {
        matches!(self, Kind::Cut | Kind::OneWay | Kind::Split | Kind::Grow)
    }

    /// Whether a node without copies elsewhere must survive it too.
    pub fn is_survived_alone(self) -> bool {
        !self.needs_peers() && !matches!(self, Kind::Flip | Kind::DiskLoss)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Kind, String> {
        let known = || Kind::ALL.map(Kind::name).join(", ");
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("no such kind; there are {}", known()))
    }
}

/// One fault to be injected.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Whether it hits the node that leads most partitions, where a kind leaves the choice.
    pub hits_leader: bool,
    /// How long it lasts, where a kind leaves the choice.
    pub hold: Duration,
    /// Seed of all further choices.
    pub seed: u64,
}

/// The faults of a seed: every kind once before any comes again.
pub fn plan(seed: u64, count: usize, kinds: &[Kind]) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = Vec::with_capacity(count);
    let mut hand: Vec<Kind> = Vec::new();
    while faults.len() < count && !kinds.is_empty() {
        if hand.is_empty() {
            hand = kinds.to_vec();
            hand.shuffle(&mut random);
        }
        let Some(kind) = hand.pop() else { break };
        faults.push(Fault {
            kind,
            hits_leader: random.gen_ratio(2, 3),
            hold: Duration::from_millis(random.gen_range(1000..5000)),
            seed: random.r#gen(),
        });
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_again() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("fire".parse::<Kind>().expect_err("not a kind").contains("disk-loss"));
    }

    #[test]
    fn a_seed_chooses_the_same_again_and_every_kind_in_turn() {
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.is_default()).collect();
        let faults = plan(7, 25, &kinds);
        assert_eq!(faults, plan(7, 25, &kinds));
        assert_ne!(faults, plan(8, 25, &kinds));
        for kind in &kinds {
            assert!(faults[..kinds.len()].iter().any(|fault| fault.kind == *kind), "{kind} is missing");
        }
        assert_eq!(plan(7, 3, &[Kind::Kill]).len(), 3);
    }
}
