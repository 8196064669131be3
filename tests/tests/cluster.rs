//! Three nodes: they join, replicate, outlive the death of any of them, and hand over when one is stopped.
//!
//! Real networks and faults are in `tests/cluster`; this is what must hold in every build.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use futures_lite::future::block_on;
use heddle_tests::broker::{Broker, BrokerOptions, Place};
use heddle_tests::kafka::{self, ToSend};
use heddle_tests::{ports, wait};
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
/// Ports that a node keeps for its peers: one for each core.
const CORES_MAX: u16 = 3;
const SAFE: [(&str, &str); 3] =
    [("enable.idempotence", "true"), ("acks", "all"), ("delivery.timeout.ms", "60000")];

struct Nodes {
    brokers: Vec<Broker>,
    _scratch: tempfile::TempDir,
    sent: usize,
}

impl Nodes {
    fn start(cores: u16) -> Nodes {
        let scratch = tempfile::tempdir().unwrap();
        let secret = scratch.path().join("secret");
        fs::write(&secret, "a secret that three nodes share").unwrap();
        let mut seed = None;
        let mut brokers = Vec::new();
        for node in 1..=3 {
            let address = format!("127.0.0.1:{}", ports::free_run(CORES_MAX));
            let mut options = BrokerOptions::new()
                .cores(cores)
                .node_id(node)
                .one_of_several()
                .set("peer_listen", &address)
                .set("peer_secret_file", secret.to_str().unwrap())
                .allow_log("");
            match &seed {
                None => seed = Some(address),
                Some(seed) => options = options.set("join", seed),
            }
            brokers.push(Broker::start_in(Place::new(), options));
        }
        // Until the third one votes, the first decides alone, and must not die.
        wait::until("three nodes vote", || brokers[0].log().contains("chosen={1, 2, 3}").then_some(()));
        Nodes { brokers, _scratch: scratch, sent: 0 }
    }

    fn bootstrap(&self) -> String {
        self.brokers.iter().map(Broker::bootstrap).collect::<Vec<_>>().join(",")
    }

    fn create(&self) {
        let topic =
            NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(3)).set("min.insync.replicas", "2");
        let admin = kafka::admin(&self.bootstrap());
        let created = block_on(admin.create_topics([&topic], &kafka::admin_options())).unwrap();
        assert_eq!(created, [Ok(TOPIC.to_owned())]);
    }

    /// Sends some to every partition; all of it is acknowledged, whoever dies.
    fn send(&mut self) {
        let records: Vec<ToSend> = (0..30)
            .map(|number| ToSend::to(number % PARTITIONS, format!("{}", self.sent + number as usize)))
            .collect();
        kafka::deliver(&self.bootstrap(), TOPIC, &SAFE, &records);
        self.sent += records.len();
    }

    /// Waits until every replica is in sync, as each node says.
    fn wait_until_whole(&self) {
        for broker in &self.brokers {
            let consumer: BaseConsumer = kafka::config(&broker.bootstrap(), &[]).create().unwrap();
            wait::until("every replica is in sync", || {
                let metadata = consumer.fetch_metadata(Some(TOPIC), wait::HANG).ok()?;
                let partitions = metadata.topics()[0].partitions();
                let is_whole =
                    |it: &rdkafka::metadata::MetadataPartition| it.isr().len() == 3 && it.leader() >= 0;
                (partitions.len() == PARTITIONS as usize && partitions.iter().all(is_whole)).then_some(())
            });
        }
    }

    /// All that was sent is there, once and in order.
    fn check(&self) {
        let records = kafka::read_to_end(&self.bootstrap(), TOPIC, &kafka::from_beginning(PARTITIONS));
        let mut found: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for record in &records {
            let value = std::str::from_utf8(record.payload().unwrap()).unwrap().parse().unwrap();
            found.entry(record.partition()).or_default().push(value);
        }
        for partition in 0..PARTITIONS {
            let wanted: Vec<usize> = (0..self.sent)
                .filter(|number| number % 30 % PARTITIONS as usize == partition as usize)
                .collect();
            assert_eq!(found[&partition], wanted, "partition {partition}");
        }
    }
}

#[test]
fn three_nodes_outlive_the_death_of_any_of_them() {
    let mut nodes = Nodes::start(1);
    nodes.create();
    nodes.send();
    for victim in 0..3 {
        nodes.brokers[victim].kill();
        nodes.send();
        nodes.brokers[victim].restart();
        nodes.send();
        nodes.wait_until_whole();
    }
    nodes.brokers[0].terminate();
    nodes.send();
    nodes.brokers[0].restart();
    nodes.wait_until_whole();
    nodes.check();
}

#[test]
fn what_replicas_promised_outlives_other_core_counts_of_all_nodes_at_once() {
    let mut nodes = Nodes::start(2);
    nodes.create();
    nodes.send();
    for cores in [CORES_MAX, 1, 2] {
        nodes.wait_until_whole();
        for broker in &mut nodes.brokers {
            broker.kill();
        }
        // At the same time, as none is ready before there is a majority.
        std::thread::scope(|threads| {
            for broker in &mut nodes.brokers {
                threads.spawn(move || broker.restart_with(|options| options.cores(cores)));
            }
        });
        nodes.send();
    }
    for broker in &nodes.brokers {
        assert!(!broker.log().contains("nobody is left who is sure"), "{}", broker.log());
    }
    nodes.wait_until_whole();
    nodes.check();
}
