//! A compacted topic of a real broker under overwrites, tombstones and kills, seen by an unmodified Kafka client.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_tests::broker::{Broker, BrokerOptions};
use heddle_tests::kafka::{self, ToSend};
use heddle_tests::{records, wait};
use rdkafka::Message;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::OwnedMessage;

const KEYS: u64 = 50;

/// What was sent and acknowledged last of each key, and where.
type Newest = BTreeMap<String, (i64, Option<Vec<u8>>)>;

fn options() -> BrokerOptions {
    BrokerOptions::new()
        .cores(1)
        .set("compaction_interval_ms", "200")
        .set("compaction_bytes_per_second", "2MiB")
        .set("topic_defaults", "segment.bytes=65536,segment.ms=500,min.cleanable.dirty.ratio=0.01")
}

fn overwrite(broker: &Broker, newest: &mut Newest, round: u64, count: u64) {
    let records: Vec<(String, Vec<u8>)> = (0..count)
        .map(|number| {
            let key = format!("key-{}", (number * 7 + round) % KEYS);
            (key, records::noise(round * 1000 + number, 700))
        })
        .collect();
    let sent: Vec<ToSend> = records
        .iter()
        .map(|(key, value)| ToSend { key: Some(key.clone().into_bytes()), ..ToSend::to(0, value.clone()) })
        .collect();
    let codec = ["none", "gzip", "snappy", "lz4", "zstd"][round as usize % 5];
    let offsets = kafka::deliver(&broker.bootstrap(), "t", &[("compression.codec", codec)], &sent);
    for ((key, value), offset) in records.into_iter().zip(offsets) {
        newest.insert(key, (offset, Some(value)));
    }
}

fn read(broker: &Broker) -> Vec<OwnedMessage> {
    kafka::read_to_end(&broker.bootstrap(), "t", &kafka::from_beginning(1))
}

/// The newest record of each key is there as it was sent; offsets only rise; nothing else was made up.
fn check(found: &[OwnedMessage], newest: &Newest) {
    let offsets: Vec<i64> = found.iter().map(Message::offset).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
    let mut last: Newest = Newest::new();
    for record in found {
        let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
        last.insert(key, (record.offset(), record.payload().map(<[u8]>::to_vec)));
    }
    for (key, (offset, value)) in newest.iter().filter(|(_, (_, value))| value.is_some()) {
        assert!(last.get(key) == Some(&(*offset, value.clone())), "{key} at {offset} is not what was sent");
    }
}

#[test]
fn only_the_newest_of_each_key_stays_whatever_is_killed() {
    let mut broker = Broker::start(options());
    kafka::create(
        &broker.bootstrap(),
        "t",
        1,
        &[("cleanup.policy", "compact"), ("delete.retention.ms", "1000")],
    );
    let mut newest = Newest::new();
    for round in 0..6 {
        overwrite(&broker, &mut newest, round, 300);
        check(&read(&broker), &newest);
        // At 2 MiB a second a run takes as long as this.
        std::thread::sleep(Duration::from_millis(150 + 90 * round));
        broker.kill();
        broker.restart();
        check(&read(&broker), &newest);
    }
    let gone = format!("key-{}", KEYS - 1);
    let tombstone = ToSend { key: Some(gone.clone().into_bytes()), value: None, ..ToSend::to(0, "") };
    let at = kafka::deliver(&broker.bootstrap(), "t", &[], &[tombstone])[0];
    newest.insert(gone.clone(), (at, None));
    // The last segment is closed by its age, which is looked at every ten seconds.
    let left = wait::until("only the newest of each key stays, and no tombstone", || {
        let found = read(&broker);
        check(&found, &newest);
        (found.len() as u64 == KEYS - 1).then_some(found)
    });
    assert!(left.iter().all(|record| record.key() != Some(gone.as_bytes())));
    let metrics = broker.metrics();
    assert!(metrics.sum("log_compaction_records_removed") > 0);
    assert_eq!(metrics.sum("log_damaged"), 0);
    broker.terminate();
    broker.restart();
    check(&read(&broker), &newest);
}

#[test]
fn keys_are_required_where_they_decide_what_stays() {
    let broker = Broker::start(options());
    kafka::create(&broker.bootstrap(), "t", 1, &[("cleanup.policy", "compact")]);
    let refused =
        kafka::send(&broker.bootstrap(), "t", &[], &[ToSend { key: None, ..ToSend::to(0, "value") }]);
    assert_eq!(refused, [Err(RDKafkaErrorCode::InvalidRecord)]);
    assert!(read(&broker).is_empty());
}
