//! Random clients of both versions of the protocol, with lost replies, slow disks, crashes and time.
//!
//! Checked always: memory is what the records say; a transaction has markers of one outcome only; a client that was told
//! that its transaction is committed has all markers of it written, as commits; no two lives of a producer have one
//! identity. Checked at the end: nothing stays open or half done. `HEDDLE_PROPTEST_CASES` sets how many cases run.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use heddle_proto::batch::Outcome;
use proptest::prelude::*;

use super::harness::*;
use crate::coordinator::{group::RequestId, transaction::*};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Op {
    Init { client: usize },
    Raise { client: usize },
    Add { client: usize, index: u32 },
    End { client: usize, commits: bool },
    Deliver { copy: bool },
    Flush { count: usize },
    Wait { seconds: u64 },
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..NAMES.len();
    prop_oneof![
        4 => client.clone().prop_map(|client| Op::Init { client }),
        1 => client.clone().prop_map(|client| Op::Raise { client }),
        8 => (client.clone(), 0..3_u32).prop_map(|(client, index)| Op::Add { client, index }),
        6 => (client, any::<bool>()).prop_map(|(client, commits)| Op::End { client, commits }),
        6 => any::<bool>().prop_map(|copy| Op::Deliver { copy }),
        8 => (1..4_usize).prop_map(|count| Op::Flush { count }),
        2 => (1..40_u64).prop_map(|seconds| Op::Wait { seconds }),
        2 => Just(Op::Crash),
    ]
}

#[derive(Default)]
struct Client {
    identity: Option<ProducerIdentity>,
    /// Partitions that the coordinator has confirmed for the open transaction.
    added: BTreeSet<u32>,
}

enum Asked {
    Init,
    Raise,
    Add { index: u32, by: ProducerIdentity },
    End { outcome: Outcome, by: ProducerIdentity },
}

struct World {
    driver: Driver,
    clients: Vec<Client>,
    asked: BTreeMap<RequestId, (usize, Asked)>,
    /// Identities that were given to lives, of which no two may be equal.
    lives: BTreeSet<(i64, i16)>,
    /// How each transaction ended, by the identity in its markers.
    ended: BTreeMap<(i64, i16), (Outcome, BTreeSet<u32>)>,
    fresh: i64,
}

impl World {
    fn new() -> Self {
        World {
            driver: Driver::new(),
            clients: NAMES.iter().map(|_| Client::default()).collect(),
            asked: BTreeMap::new(),
            lives: BTreeSet::new(),
            ended: BTreeMap::new(),
            fresh: 100,
        }
    }

    fn send(&mut self, client: usize, asked: Asked, request: Request) {
        let to = self.driver.send(request);
        self.asked.insert(to, (client, asked));
        self.hear();
    }

    fn hear(&mut self) {
        for (to, reply) in std::mem::take(&mut self.driver.replies) {
            let Some((client, asked)) = self.asked.remove(&to) else { continue };
            self.heard(client, &asked, reply);
        }
    }

    fn heard(&mut self, index: usize, asked: &Asked, reply: Reply) {
        let client = &mut self.clients[index];
        match (asked, reply) {
            (Asked::Init, Reply::InitProducerId(Ok(identity))) => {
                let is_new = self.lives.insert((identity.id.get(), identity.epoch.get()));
                assert!(is_new, "{identity:?} was given to two lives");
                *client = Client { identity: Some(identity), added: BTreeSet::new() };
            }
            (Asked::Raise, Reply::InitProducerId(Ok(identity))) => {
                *client = Client { identity: Some(identity), added: BTreeSet::new() };
            }
            (Asked::Add { index, by }, Reply::AddPartitions(Ok(()))) if client.identity == Some(*by) => {
                client.added.insert(*index);
            }
            (Asked::End { outcome, by }, Reply::EndTxn(Ok(identity))) => {
                let added = std::mem::take(&mut client.added);
                if !added.is_empty() && client.identity == Some(*by) {
                    let key = (by.id.get(), by.epoch.get() + 1);
                    let (found, partitions) = self.ended.get(&key).expect("its markers are written");
                    assert_eq!(found, outcome);
                    assert!(added.is_subset(partitions), "{added:?} was told, {partitions:?} has markers");
                }
                if client.identity == Some(*by) {
                    client.identity = Some(identity);
                }
            }
            _ => {}
        }
    }

    fn deliver(&mut self, copy: bool) {
        let Some(first) = self.driver.markers.first().cloned() else { return };
        let key = (first.producer.id.get(), first.producer.epoch.get());
        let partitions: BTreeSet<u32> = first.partitions.iter().map(|at| at.partition.get()).collect();
        let known = self.ended.entry(key).or_insert_with(|| (first.outcome, partitions.clone()));
        assert_eq!(*known, (first.outcome, partitions), "a transaction ended in two ways");
        if copy {
            self.driver.send(Request::MarkersWritten(first));
        } else {
            self.driver.deliver();
        }
        self.hear();
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Init { client } => {
                self.fresh += 1;
                let request = init(NAMES[client], None, Some(self.fresh));
                self.send(client, Asked::Init, request);
            }
            Op::Raise { client } => {
                if let Some(identity) = self.clients[client].identity {
                    self.send(client, Asked::Raise, init(NAMES[client], Some(identity), None));
                }
            }
            Op::Add { client, index } => {
                if let Some(by) = self.clients[client].identity {
                    self.send(client, Asked::Add { index, by }, add(NAMES[client], by, &[index]));
                }
            }
            Op::End { client, commits } => {
                let outcome = if commits { Outcome::Commit } else { Outcome::Abort };
                if let Some(by) = self.clients[client].identity {
                    self.send(client, Asked::End { outcome, by }, end(NAMES[client], by, outcome, true));
                }
            }
            Op::Deliver { copy } => self.deliver(copy),
            Op::Flush { count } => {
                self.driver.flush(count);
                self.hear();
            }
            Op::Wait { seconds } => {
                self.driver.wait(Duration::from_secs(seconds));
                self.hear();
            }
            Op::Crash => {
                self.driver.crash();
                self.asked.clear();
                self.hear();
            }
        }
    }

    /// Everything that is under way comes to its end.
    fn finish(&mut self) {
        self.driver.wait(2 * MINUTE);
        for _ in 0..10 {
            self.driver.flush(usize::MAX);
            self.hear();
            while !self.driver.markers.is_empty() {
                self.deliver(false);
            }
        }
        for name in NAMES {
            let state = self.driver.state(name);
            assert!(
                matches!(state, State::Dead | State::Empty) || state.done().is_some(),
                "{name}: {state:?}"
            );
        }
    }
}

fn config() -> ProptestConfig {
    let cases =
        std::env::var("HEDDLE_PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_transaction_ends_once_and_for_all(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        ops.iter().for_each(|op| world.apply(op));
        world.finish();
    }
}
