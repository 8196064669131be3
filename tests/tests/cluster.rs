//! Three nodes: they join, replicate, outlive the death of any of them, and hand over when one is stopped.
//!
//! Real networks and faults are in `tests/cluster`; this is what must hold in every build.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use futures_lite::future::block_on;
use heddle_tests::broker::{Broker, BrokerOptions, Place};
use heddle_tests::kafka::{self, ToSend};
use heddle_tests::{ports, records, wait};
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
        Nodes::start_with(cores, &[])
    }

    fn start_with(cores: u16, settings: &[(&str, &str)]) -> Nodes {
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
            for (name, value) in settings {
                options = options.set(name, value);
            }
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
        self.create_with(&[]);
    }

    fn create_with(&self, settings: &[(&str, &str)]) {
        let mut topic =
            NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(3)).set("min.insync.replicas", "2");
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
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

    /// Starts all at the same time, as none is ready before there is a majority.
    fn restart_all(&mut self, change: impl Fn(BrokerOptions) -> BrokerOptions + Sync) {
        std::thread::scope(|threads| {
            for broker in &mut self.brokers {
                threads.spawn(|| broker.restart_with(&change));
            }
        });
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
        nodes.restart_all(|options| options.cores(cores));
        nodes.send();
    }
    for broker in &nodes.brokers {
        assert!(!broker.log().contains("nobody is left who is sure"), "{}", broker.log());
    }
    nodes.wait_until_whole();
    nodes.check();
}

/// The value written last of each key, with the partition and offset it has.
type Newest = BTreeMap<String, (i32, i64, Vec<u8>)>;

impl Nodes {
    fn overwrite(&self, newest: &mut Newest, round: u64) {
        const KEYS: u64 = 60;
        let records: Vec<(String, Vec<u8>)> = (0..240)
            .map(|number| (format!("key-{}", number % KEYS), records::noise(round * 1000 + number, 700)))
            .collect();
        let partition = |number: usize| number as i32 % PARTITIONS;
        let sent: Vec<ToSend> = records
            .iter()
            .enumerate()
            .map(|(number, (key, value))| ToSend {
                key: Some(key.clone().into_bytes()),
                ..ToSend::to(partition(number), value.clone())
            })
            .collect();
        // The last batch of an idempotent producer stays, and would be in the way of the holes looked for.
        let settings = [("enable.idempotence", "false"), ("acks", "all")];
        let offsets = kafka::deliver(&self.bootstrap(), TOPIC, &settings, &sent);
        for (number, ((key, value), offset)) in records.into_iter().zip(offsets).enumerate() {
            newest.insert(key, (partition(number), offset, value));
        }
    }

    /// The newest record of each key is there, where it was written; offsets only rise. Gives how many records there are.
    fn check_newest(&self, newest: &Newest) -> usize {
        let found = kafka::read_to_end(&self.bootstrap(), TOPIC, &kafka::from_beginning(PARTITIONS));
        let (mut last, mut ends) = (Newest::new(), BTreeMap::new());
        for record in &found {
            let (partition, offset) = (record.partition(), record.offset());
            let before = ends.insert(partition, offset);
            assert!(before.is_none_or(|before| before < offset), "{before:?} before {offset} in {partition}");
            let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
            last.insert(key, (partition, offset, record.payload().unwrap().to_vec()));
        }
        assert!(last == *newest, "{} keys found, {} written", last.len(), newest.len());
        found.len()
    }
}

#[test]
fn replicas_of_a_compacted_topic_are_filled_up_over_what_is_gone() {
    let mut nodes = Nodes::start_with(
        1,
        &[
            ("compaction_interval_ms", "200"),
            ("topic_defaults", "segment.bytes=65536,segment.ms=500,min.cleanable.dirty.ratio=0.01"),
        ],
    );
    nodes.create_with(&[("cleanup.policy", "compact")]);
    let mut newest = Newest::new();
    let mut round = 0;
    let mut sent = 0;
    for victim in [1, 2, 1] {
        nodes.brokers[victim].kill();
        fs::remove_dir_all(nodes.brokers[victim].place().data_dir()).unwrap();
        for _ in 0..3 {
            nodes.overwrite(&mut newest, round);
            (round, sent) = (round + 1, sent + 240);
        }
        let others = (0..3).filter(|node| *node != victim);
        wait::until("what is overwritten is gone", || {
            let removed = |node: usize| nodes.brokers[node].metrics().sum("log_compaction_records_removed");
            others.clone().all(|node| removed(node) >= 240).then_some(())
        });
        // What is in their memory is not compacted: they are to read their segments.
        others.for_each(|node| nodes.brokers[node].kill());
        nodes.restart_all(|options| options);
        nodes.wait_until_whole();
        assert!(nodes.check_newest(&newest) < sent);
        // Those that were filled up lead a third each, and all is led by the others once more.
        nodes.brokers[0].terminate();
        assert!(nodes.check_newest(&newest) < sent);
        nodes.brokers[0].restart();
        nodes.wait_until_whole();
    }
    for broker in &nodes.brokers {
        assert_eq!(broker.metrics().sum("log_damaged"), 0);
        let log = broker.log();
        for bad in ["in contradiction", "records are lost", "nobody is left who is sure"] {
            assert!(!log.contains(bad), "{log}");
        }
    }
}
