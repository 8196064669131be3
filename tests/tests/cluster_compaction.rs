//! A compacted topic on three nodes: each compacts for itself, and one that lost its disk is filled up over what is gone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use heddle_tests::kafka::{self, ToSend};
use heddle_tests::nodes::{Nodes, PARTITIONS, TOPIC};
use heddle_tests::{records, wait};
use rdkafka::message::Message;

/// The value written last of each key, with the partition and offset it has.
type Newest = BTreeMap<String, (i32, i64, Vec<u8>)>;

fn overwrite(nodes: &Nodes, newest: &mut Newest, round: u64) {
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
    let offsets = kafka::deliver(&nodes.bootstrap(), TOPIC, &settings, &sent);
    for (number, ((key, value), offset)) in records.into_iter().zip(offsets).enumerate() {
        newest.insert(key, (partition(number), offset, value));
    }
}

/// The newest record of each key is there, where it was written; offsets only rise. Gives how many records there are.
fn check_newest(nodes: &Nodes, newest: &Newest) -> usize {
    let found = kafka::read_to_end(&nodes.bootstrap(), TOPIC, &kafka::from_beginning(PARTITIONS));
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

#[test]
fn replicas_of_a_compacted_topic_are_filled_up_over_what_is_gone() {
    let mut nodes = Nodes::start_with(1, |_, options| {
        let defaults = "segment.bytes=65536,segment.ms=500,min.cleanable.dirty.ratio=0.01";
        options.set("compaction_interval_ms", "200").set("topic_defaults", defaults)
    });
    nodes.create_with(&[("cleanup.policy", "compact")]);
    let mut newest = Newest::new();
    let mut round = 0;
    let mut sent = 0;
    for victim in [1, 2, 1] {
        nodes.brokers[victim].kill();
        fs::remove_dir_all(nodes.brokers[victim].place().data_dir()).unwrap();
        for _ in 0..3 {
            overwrite(&nodes, &mut newest, round);
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
        assert!(check_newest(&nodes, &newest) < sent);
        // Those that were filled up lead a third each, and all is led by the others once more.
        nodes.brokers[0].terminate();
        assert!(check_newest(&nodes, &newest) < sent);
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
