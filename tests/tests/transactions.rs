//! Transactions with librdkafka: what readers see, who is fenced, what timeouts and crashes leave.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use heddle_tests::broker::{Broker, BrokerOptions, PortMode};
use heddle_tests::kafka::{self, Polled, ToSend};
use heddle_tests::wait::HANG;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

type TxProducer = ThreadedProducer<rdkafka::producer::DefaultProducerContext>;

const TOPIC: &str = "ledger";

fn broker() -> Broker {
    let broker = Broker::start(BrokerOptions::new());
    kafka::create(&broker.bootstrap(), TOPIC, 2, &[]);
    broker
}

fn producer(broker: &Broker, id: &str, settings: &[(&str, &str)]) -> TxProducer {
    let mut config = kafka::config(&broker.bootstrap(), settings);
    config.set("transactional.id", id).set("linger.ms", "1");
    let producer: TxProducer = config.create().expect("a producer can be made");
    producer.init_transactions(HANG).expect("the producer begins its life");
    producer
}

fn write(producer: &TxProducer, partition: i32, value: &str) {
    let record: BaseRecord<'_, (), str> = BaseRecord::to(TOPIC).partition(partition).payload(value);
    producer.send(record).map_err(|(error, _)| error).expect("librdkafka takes the record");
}

/// One transaction over both partitions.
fn transaction(producer: &TxProducer, value: &str, commits: bool) {
    producer.begin_transaction().expect("it begins");
    write(producer, 0, value);
    write(producer, 1, value);
    if commits {
        producer.commit_transaction(HANG).expect("it commits");
    } else {
        producer.flush(HANG).expect("the records arrive");
        producer.abort_transaction(HANG).expect("it aborts");
    }
}

/// What a reader sees of both partitions up to their ends, with the isolation level.
fn read(broker: &Broker, isolation: &str) -> Vec<(i32, String)> {
    let consumer = kafka::consumer(
        &broker.bootstrap(),
        TOPIC,
        &kafka::from_beginning(2),
        &[("isolation.level", isolation)],
    );
    let deadline = Instant::now() + HANG;
    let (mut seen, mut ended) = (Vec::new(), BTreeSet::new());
    while ended.len() < 2 {
        assert!(Instant::now() < deadline, "no end came; {seen:?} were read");
        match kafka::poll(&consumer) {
            Polled::Record(record) => {
                let value = String::from_utf8(record.payload().unwrap().to_vec()).unwrap();
                seen.push((record.partition(), value));
            }
            Polled::End(partition) => drop(ended.insert(partition)),
            Polled::Nothing => {}
        }
    }
    seen
}

fn values(broker: &Broker, isolation: &str) -> BTreeSet<String> {
    read(broker, isolation).into_iter().map(|(_, value)| value).collect()
}

fn set(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn readers_of_committed_records_see_committed_transactions_only() {
    for mode in PortMode::ALL {
        let broker = Broker::start(BrokerOptions::new().port_mode(mode));
        kafka::create(&broker.bootstrap(), TOPIC, 2, &[]);
        let producer = producer(&broker, "one", &[]);
        transaction(&producer, "first", true);
        transaction(&producer, "aborted", false);
        kafka::deliver(&broker.bootstrap(), TOPIC, &[], &[ToSend::to(0, "plain")]);
        transaction(&producer, "last", true);
        assert_eq!(values(&broker, "read_committed"), set(&["first", "plain", "last"]));
        assert_eq!(values(&broker, "read_uncommitted"), set(&["first", "aborted", "plain", "last"]));
        // An open transaction holds readers up, and only those who want committed records.
        producer.begin_transaction().unwrap();
        write(&producer, 0, "open");
        producer.flush(HANG).unwrap();
        kafka::deliver(&broker.bootstrap(), TOPIC, &[], &[ToSend::to(0, "behind")]);
        assert_eq!(values(&broker, "read_committed"), set(&["first", "plain", "last"]));
        producer.commit_transaction(HANG).unwrap();
        assert_eq!(values(&broker, "read_committed"), set(&["first", "plain", "last", "open", "behind"]));
    }
}

#[test]
fn a_zombie_is_fenced_and_its_transaction_is_not_seen() {
    let broker = broker();
    let zombie = producer(&broker, "same", &[]);
    zombie.begin_transaction().unwrap();
    write(&zombie, 0, "zombie");
    zombie.flush(HANG).unwrap();
    let next = producer(&broker, "same", &[]);
    transaction(&next, "alive", true);
    let error = zombie.commit_transaction(HANG).expect_err("it is fenced");
    let KafkaError::Transaction(error) = error else { panic!("{error:?}") };
    assert!(error.is_fatal(), "{error}");
    assert_eq!(values(&broker, "read_committed"), set(&["alive"]));
}

#[test]
fn a_transaction_left_open_is_aborted_after_its_timeout() {
    let broker = broker();
    let slow =
        producer(&broker, "slow", &[("transaction.timeout.ms", "1000"), ("message.timeout.ms", "900")]);
    slow.begin_transaction().unwrap();
    write(&slow, 0, "late");
    slow.flush(HANG).unwrap();
    kafka::deliver(&broker.bootstrap(), TOPIC, &[], &[ToSend::to(0, "behind")]);
    let deadline = Instant::now() + HANG;
    while values(&broker, "read_committed") != set(&["behind"]) {
        assert!(Instant::now() < deadline, "the open transaction holds up readers for ever");
    }
    slow.commit_transaction(HANG).expect_err("it was aborted");
}

#[test]
fn a_timeout_above_the_maximum_is_refused() {
    let broker = broker();
    let mut config = kafka::config(&broker.bootstrap(), &[("transaction.timeout.ms", "900001")]);
    let producer: TxProducer = config.set("transactional.id", "greedy").create().unwrap();
    let error = producer.init_transactions(HANG).expect_err("15 minutes are the most");
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::InvalidTransactionTimeout));
}

#[test]
fn offsets_are_committed_with_the_transaction_or_not_at_all() {
    let broker = broker();
    kafka::deliver(&broker.bootstrap(), TOPIC, &[], &[ToSend::to(0, "in 0"), ToSend::to(0, "in 1")]);
    let mut config = kafka::config(&broker.bootstrap(), &[("group.id", "copiers")]);
    config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    let deadline = Instant::now() + HANG;
    while consumer.poll(Duration::from_millis(100)).is_none() {
        assert!(Instant::now() < deadline, "nothing is read");
    }
    let producer = producer(&broker, "copier", &[]);
    for (offset, commits) in [(1, false), (2, true)] {
        producer.begin_transaction().unwrap();
        write(&producer, 1, "out");
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(TOPIC, 0, Offset::Offset(offset)).unwrap();
        let metadata: ConsumerGroupMetadata = consumer.group_metadata().unwrap();
        producer.send_offsets_to_transaction(&offsets, &metadata, HANG).expect("the offsets are taken");
        if commits {
            producer.commit_transaction(HANG).unwrap();
        } else {
            producer.abort_transaction(HANG).unwrap();
        }
        let mut asked = TopicPartitionList::new();
        asked.add_partition(TOPIC, 0);
        let found = consumer.committed_offsets(asked, HANG).unwrap();
        let expected = if commits { Offset::Offset(offset) } else { Offset::Invalid };
        assert_eq!(found.elements()[0].offset(), expected, "commits: {commits}");
    }
    consumer.commit_consumer_state(CommitMode::Sync).ok();
}

/// Kills the broker in the middle of transactions, again and again: each is seen whole or not at all, those that were
/// answered as committed are seen, and readers come to the end.
#[test]
fn transactions_are_whole_or_invisible_after_kills() {
    let mut broker = broker();
    let mut committed = BTreeSet::new();
    let mut undecided = BTreeSet::new();
    for round in 0..5 {
        {
            let producer = producer(
                &broker,
                "killed",
                &[("transaction.timeout.ms", "5000"), ("message.timeout.ms", "4000")],
            );
            for number in 0..round + 2 {
                let value = format!("{round}/{number}");
                transaction(&producer, &value, true);
                committed.insert(value);
            }
            let value = format!("{round}/open");
            producer.begin_transaction().unwrap();
            write(&producer, 0, &value);
            write(&producer, 1, &value);
            producer.flush(HANG).unwrap();
            if round % 2 == 0 {
                // The commit and the kill race.
                undecided.insert(value);
                std::thread::scope(|scope| {
                    scope.spawn(|| producer.commit_transaction(Duration::from_millis(300)).ok());
                    std::thread::sleep(Duration::from_micros(700 * round));
                    broker.kill();
                });
            } else {
                broker.kill();
            }
        }
        broker.restart();
    }
    // The last transaction is aborted by its timeout, or by this next life; then readers reach the end.
    transaction(&producer(&broker, "killed", &[]), "after", true);
    committed.insert("after".to_owned());
    let seen = read(&broker, "read_committed");
    let of = |partition: i32| -> Vec<String> {
        seen.iter().filter(|(at, _)| *at == partition).map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(of(0), of(1), "a transaction is seen in one partition and not in the other");
    let seen: BTreeSet<String> = of(0).into_iter().collect();
    assert_eq!(of(0).len(), seen.len(), "a record is seen twice");
    assert!(seen.is_superset(&committed), "lost: {:?}", committed.difference(&seen));
    let extra: BTreeSet<String> = seen.difference(&committed).cloned().collect();
    assert!(extra.is_subset(&undecided), "never committed: {extra:?}");
}
