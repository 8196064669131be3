//! A cluster of three nodes as child processes, with a topic on all of them and a list of what was acknowledged.
//!
//! One cluster at a time in a test process: its nodes share the processors, and the user's memlock limit.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_lite::future::block_on;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::metadata::MetadataPartition;

use crate::broker::{Broker, BrokerOptions, Place};
use crate::kafka::{self, ToSend};
use crate::{ports, wait};

/// The topic.
pub const TOPIC: &str = "orders";

/// Its partitions.
pub const PARTITIONS: i32 = 3;

/// Ports that a node keeps for its peers: one for each core.
pub const CORES_MAX: u16 = 3;

/// What a producer sets that neither loses records nor doubles them.
pub const SAFE: [(&str, &str); 3] =
    [("enable.idempotence", "true"), ("acks", "all"), ("delivery.timeout.ms", "60000")];

/// Records of which a test does not say whether they are there begin with this.
pub const UNSURE: &str = "unsure";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The cluster: node 1 founded it, the others joined by way of it.
pub struct Nodes {
    /// Nodes 1, 2 and 3, and those that were added.
    pub brokers: Vec<Broker>,
    peers: Vec<String>,
    scratch: tempfile::TempDir,
    sent: usize,
    _alone: MutexGuard<'static, ()>,
}

impl Nodes {
    /// Starts three nodes with so many cores each.
    pub fn start(cores: u16) -> Nodes {
        Nodes::start_with(cores, |_, options| options)
    }

    /// As [`Nodes::start`], with changes to the options of each node.
    ///
    /// # Panics
    /// If they do not become a cluster.
    pub fn start_with(cores: u16, change: impl Fn(u32, BrokerOptions) -> BrokerOptions) -> Nodes {
        let mut nodes = Nodes::start_one(cores, &change);
        nodes.add(cores, &change);
        nodes.add(cores, &change);
        nodes.wait_until_three_vote();
        nodes
    }

    /// Starts the first node alone.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_one(cores: u16, change: impl Fn(u32, BrokerOptions) -> BrokerOptions) -> Nodes {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let mut nodes = Nodes { brokers: Vec::new(), peers: Vec::new(), scratch, sent: 0, _alone: alone };
        fs::write(nodes.secret_file(), "a secret that three nodes share").expect("a file can be written");
        nodes.add(cores, change);
        nodes
    }

    /// Starts the next node, which joins those that are there.
    ///
    /// # Panics
    /// If it does not start.
    pub fn add(&mut self, cores: u16, change: impl Fn(u32, BrokerOptions) -> BrokerOptions) {
        let node = self.brokers.len() as u32 + 1;
        let (peer, options) = self.options_of(node);
        let options = change(node, options.cores(cores));
        let options = if node == 1 { options } else { options.set("join", self.seed()) };
        self.peers.push(peer);
        self.brokers.push(Broker::start_in(Place::new(), options));
    }

    /// Until the third one votes, the first decides alone, and must not die.
    pub fn wait_until_three_vote(&self) {
        wait::until("three nodes vote", || self.brokers[0].log().contains("chosen={1, 2, 3}").then_some(()));
    }

    /// Options for a node with the cluster's secret, and where it hears its peers. It does not join yet.
    pub fn options_of(&self, node: u32) -> (String, BrokerOptions) {
        let peer = format!("127.0.0.1:{}", ports::free_run(CORES_MAX));
        let secret = self.secret_file().display().to_string();
        let options = BrokerOptions::new()
            .cores(1)
            .node_id(node)
            .one_of_several()
            .set("peer_listen", &peer)
            .set("peer_secret_file", &secret)
            .allow_log("");
        (peer, options)
    }

    /// Options for a node that is to join this cluster.
    pub fn joining(&self, node: u32) -> BrokerOptions {
        self.options_of(node).1.set("join", self.seed())
    }

    /// The file that holds the cluster's secret.
    pub fn secret_file(&self) -> PathBuf {
        self.scratch.path().join("secret")
    }

    /// A folder for a test's own files.
    pub fn scratch(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// Where node 1 hears its peers.
    pub fn seed(&self) -> &str {
        &self.peers[0]
    }

    /// Where clients begin.
    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(Broker::bootstrap).collect::<Vec<_>>().join(",")
    }

    /// Creates the topic, with three replicas of which two hold what is acknowledged.
    pub fn create(&self) {
        self.create_with(&[]);
    }

    /// As [`Nodes::create`], with more settings.
    ///
    /// # Panics
    /// If the cluster refuses.
    pub fn create_with(&self, settings: &[(&str, &str)]) {
        let mut topic =
            NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(3)).set("min.insync.replicas", "2");
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        let admin = kafka::admin(&self.bootstrap());
        let created = block_on(admin.create_topics([&topic], &kafka::admin_options()));
        assert_eq!(created.expect("the cluster answers"), [Ok(TOPIC.to_owned())]);
    }

    /// Sends some to every partition; all of it is acknowledged, whoever dies.
    pub fn send(&mut self) {
        let records = self.next_records();
        kafka::deliver(&self.bootstrap(), TOPIC, &SAFE, &records);
    }

    /// The next records, which count as acknowledged from now on: the caller sends them.
    pub fn next_records(&mut self) -> Vec<ToSend> {
        let records: Vec<ToSend> = (0..30)
            .map(|number| ToSend::to(number % PARTITIONS, format!("{}", self.sent + number as usize)))
            .collect();
        self.sent += records.len();
        records
    }

    /// Starts all again at the same time, as none is ready before there is a majority.
    ///
    /// # Panics
    /// If one does not become ready.
    pub fn restart_all(&mut self, change: impl Fn(BrokerOptions) -> BrokerOptions + Sync) {
        std::thread::scope(|threads| {
            for broker in &mut self.brokers {
                threads.spawn(|| broker.restart_with(&change));
            }
        });
    }

    /// Waits until every replica is in sync, as each node says.
    pub fn wait_until_whole(&self) {
        for broker in &self.brokers {
            let is_whole = |it: &MetadataPartition| it.isr().len() == 3 && it.leader() >= 0;
            wait::until("every replica is in sync", || {
                let partitions = partitions(broker, |all| all.iter().all(is_whole).then_some(all.len()));
                (partitions == Some(PARTITIONS as usize)).then_some(())
            });
        }
    }

    /// Waits until no replica lacks anything that its leader has, as each node says.
    pub fn wait_until_level(&self) {
        let lag = |broker: &Broker| broker.metrics().sum_with("stream_lag_records", &[]);
        wait::until("every replica has what its leader has", || {
            let lags: Option<Vec<f64>> = self.brokers.iter().map(lag).collect();
            (lags?.iter().sum::<f64>() == 0.0).then_some(())
        });
    }

    /// What a partition of the topic holds by right: what was acknowledged, in its order.
    pub fn acknowledged(&self, partition: i32) -> Vec<String> {
        let is_there = |number: &usize| number % 30 % PARTITIONS as usize == partition as usize;
        (0..self.sent).filter(is_there).map(|number| number.to_string()).collect()
    }

    /// All that was sent is there, once and in order.
    pub fn check(&self) {
        let mut found = read(&self.bootstrap(), &(0..PARTITIONS).collect::<Vec<_>>());
        for partition in 0..PARTITIONS {
            let values = found.remove(&partition).unwrap_or_default();
            let sure: Vec<String> = values.into_iter().filter(|value| !value.starts_with(UNSURE)).collect();
            assert_eq!(sure, self.acknowledged(partition), "partition {partition}");
        }
    }
}

/// The values in these partitions of the topic, from the beginning to what is committed.
pub fn read(bootstrap: &str, partitions: &[i32]) -> BTreeMap<i32, Vec<String>> {
    let from: Vec<_> = partitions.iter().map(|partition| (*partition, rdkafka::Offset::Beginning)).collect();
    let records = kafka::read_to_end(bootstrap, TOPIC, &from);
    let texts = kafka::texts(&records);
    let mut found: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for (record, text) in records.iter().zip(texts) {
        found.entry(record.partition()).or_default().push(text);
    }
    found
}

/// The partitions of the topic that a node leads, as it says itself.
///
/// # Panics
/// If it does not answer.
pub fn led_by(broker: &Broker, node: i32) -> Vec<i32> {
    let led = |all: &[MetadataPartition]| {
        let led = all.iter().filter(|it| it.leader() / 1000 == node).map(MetadataPartition::id);
        Some(led.collect())
    };
    partitions(broker, led).expect("the node knows the topic")
}

fn partitions<T>(broker: &Broker, look: impl FnOnce(&[MetadataPartition]) -> Option<T>) -> Option<T> {
    let consumer: BaseConsumer =
        kafka::config(&broker.bootstrap(), &[]).create().expect("a client can be made");
    let metadata = consumer.fetch_metadata(Some(TOPIC), wait::HANG).ok()?;
    look(metadata.topics()[0].partitions())
}
