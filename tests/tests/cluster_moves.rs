//! Replicas move while clients work: a node that joins gets its share, and then nothing moves any more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_lite::future::block_on;
use heddle_tests::broker::{Broker, Place};
use heddle_tests::kafka::{self, ToSend};
use heddle_tests::nodes::{Nodes, SAFE, TOPIC};
use heddle_tests::wait;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;

/// A topic with more partitions than the one that [`Nodes`] has.
const WIDE: &str = "wide";

fn create(nodes: &Nodes, topic: &str, partitions: i32, replicas: i32, quorum: &str) {
    let topic =
        NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas)).set("min.insync.replicas", quorum);
    let admin = kafka::admin(&nodes.bootstrap());
    let created = block_on(admin.create_topics([&topic], &kafka::admin_options())).unwrap();
    created.into_iter().for_each(|result| drop(result.unwrap()));
}

/// Of each partition: who leads it, and the nodes that have a replica, the preferred leader first.
type Placed = BTreeMap<(String, i32), (i32, Vec<i32>)>;

fn placed(broker: &Broker, topics: &[&str]) -> Placed {
    let consumer: BaseConsumer = kafka::config(&broker.bootstrap(), &[]).create().unwrap();
    let mut placed = Placed::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), wait::HANG).unwrap();
        for partition in metadata.topics()[0].partitions() {
            let nodes = partition.replicas().iter().map(|broker| broker / 1000).collect();
            placed.insert(((*topic).to_owned(), partition.id()), (partition.leader() / 1000, nodes));
        }
    }
    placed
}

fn sets(placed: &Placed) -> Vec<BTreeSet<i32>> {
    placed.values().map(|(_, nodes)| nodes.iter().copied().collect()).collect()
}

fn held(placed: &Placed, node: i32) -> usize {
    placed.values().filter(|(_, nodes)| nodes.contains(&node)).count()
}

fn led(placed: &Placed, node: i32) -> usize {
    placed.values().filter(|(leader, _)| *leader == node).count()
}

fn numbered(count: usize, partitions: i32) -> Vec<ToSend> {
    (0..count).map(|number| ToSend::to(number as i32 % partitions, number.to_string())).collect()
}

/// All of these are there, once and in order.
fn check(bootstrap: &str, topic: &str, partitions: i32, count: usize) {
    let records = kafka::read_to_end(bootstrap, topic, &kafka::from_beginning(partitions));
    let texts = kafka::texts(&records);
    let mut found: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    records.iter().zip(texts).for_each(|(record, text)| found.entry(record.partition()).or_default().push(text));
    for partition in 0..partitions {
        let sent = (0..count).filter(|number| *number as i32 % partitions == partition);
        let sent: Vec<String> = sent.map(|number| number.to_string()).collect();
        assert_eq!(found.remove(&partition).unwrap_or_default(), sent, "{topic}/{partition}");
    }
}

fn says(nodes: &Nodes, words: &str) -> usize {
    nodes.brokers.iter().map(|broker| broker.log().matches(words).count()).sum()
}

#[test]
fn a_node_that_joins_gets_its_share_and_then_nothing_moves() {
    const WIDE_PARTITIONS: i32 = 12;
    const TOPICS: [&str; 2] = [TOPIC, WIDE];
    let mut nodes = Nodes::start(2);
    nodes.create();
    create(&nodes, WIDE, WIDE_PARTITIONS, 3, "2");
    nodes.send();
    kafka::deliver(&nodes.bootstrap(), WIDE, &SAFE, &numbered(3000, WIDE_PARTITIONS));
    let before = placed(&nodes.brokers[0], &TOPICS);
    assert_eq!(says(&nodes, "partitions move to other nodes"), 0, "three that found a cluster share nothing");

    nodes.brokers.push(Broker::start_in(Place::new(), nodes.joining(4).cores(2)));
    nodes.send();
    wait::until("the new node has its share", || {
        (says(&nodes, "these nodes have their share of the partitions nodes=[4]") == 1).then_some(())
    });
    // 45 replicas and 15 leaders of them, on four nodes.
    let after = wait::until("the preferred leaders lead", || {
        let now = placed(&nodes.brokers[0], &TOPICS);
        now.values().all(|(leader, nodes)| *leader == nodes[0]).then_some(now)
    });
    assert_eq!(held(&after, 4), 11);
    for node in 1..=4 {
        assert!((11..=12).contains(&held(&after, node)), "{after:?}");
        assert!((3..=4).contains(&led(&after, node)), "{after:?}");
    }
    let touched = sets(&before).iter().zip(sets(&after)).filter(|(before, after)| **before != *after).count();
    assert_eq!(touched, 11, "one partition for each replica of the new node");

    nodes.brokers[3].kill();
    nodes.brokers[3].restart();
    nodes.brokers[1].terminate();
    nodes.send();
    nodes.brokers[1].restart();
    nodes.wait_until_whole();
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(sets(&placed(&nodes.brokers[0], &TOPICS)), sets(&after), "nothing moves any more");
    nodes.check();
    check(&nodes.bootstrap(), WIDE, WIDE_PARTITIONS, 3000);
}
