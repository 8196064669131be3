//! librdkafka against a real broker: producing, consuming, administering, and what it gets when it asks too much.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use futures_lite::future::block_on;
use heddle_client::{FetchFrom, Offset as NativeOffset, PartitionIndex, batch};
use heddle_tests::broker::{Broker, BrokerOptions, PortMode};
use heddle_tests::kafka::{self, Polled, ToSend};
use heddle_tests::{native, records, wait};
use rdkafka::admin::{AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Headers, Message, OwnedMessage, Timestamp};
use rdkafka::{Offset, TopicPartitionList};

const IDEMPOTENT: (&str, &str) = ("enable.idempotence", "true");

fn numbered(partition: i32, count: usize) -> Vec<ToSend> {
    (0..count).map(|number| ToSend::to(partition, format!("value {number}"))).collect()
}

/// The compression of each batch in a partition, as the broker keeps it.
fn stored_compressions(broker: &Broker, topic: &str) -> Vec<batch::Compression> {
    native::run(async {
        let client = native::connect_to_owner(broker, topic, 0).await;
        let metadata = client.metadata(Some(&[topic]), false).await.unwrap();
        let from = FetchFrom::new(metadata.topics[0].id, PartitionIndex::new(0), NativeOffset::ZERO);
        let fetched = client.fetch(from).await.unwrap();
        let batches = batch::batches(&fetched.batches);
        batches.map(|found| found.expect("the broker serves whole batches").0.compression()).collect()
    })
}

#[test]
fn every_codec_arrives_as_sent_and_stays_compressed() {
    let broker = Broker::start(BrokerOptions::new());
    for codec in batch::Compression::ALL {
        let topic = format!("codec-{}", codec.name());
        kafka::create(&broker.bootstrap(), &topic, 1, &[]);
        let sent: Vec<ToSend> = (0..100)
            .map(|number| ToSend::to(0, format!("{number} {}", "compressible ".repeat(20))))
            .collect();
        let settings = [("compression.codec", codec.name()), ("linger.ms", "50"), IDEMPOTENT];
        kafka::deliver(&broker.bootstrap(), &topic, &settings, &sent);
        let read = kafka::read_to_end(&broker.bootstrap(), &topic, &kafka::from_beginning(1));
        let values: Vec<&[u8]> = read.iter().map(|record| record.payload().unwrap()).collect();
        let expected: Vec<&[u8]> = sent.iter().map(|record| record.value.as_deref().unwrap()).collect();
        assert_eq!(values, expected, "{topic}");
        let stored = stored_compressions(&broker, &topic);
        assert!(!stored.is_empty() && stored.iter().all(|stored| *stored == codec), "{topic}: {stored:?}");
    }
}

#[test]
fn keys_headers_timestamps_and_tombstones_come_back() {
    let broker = Broker::start(BrokerOptions::new());
    let topic = "details";
    kafka::create(&broker.bootstrap(), topic, 1, &[]);
    let headers = vec![
        ("trace".to_owned(), Some(b"abc".to_vec())),
        ("empty".to_owned(), Some(Vec::new())),
        ("null".to_owned(), None),
        ("trace".to_owned(), Some(b"again".to_vec())),
    ];
    let sent = [
        ToSend {
            key: Some(b"key".to_vec()),
            timestamp: Some(1_600_000_000_123),
            headers: headers.clone(),
            ..ToSend::to(0, "value")
        },
        ToSend { key: Some(b"key".to_vec()), partition: Some(0), timestamp: Some(1), ..ToSend::default() },
        ToSend { key: Some(Vec::new()), timestamp: Some(1_700_000_000_000), ..ToSend::to(0, "") },
    ];
    let offsets = kafka::deliver(&broker.bootstrap(), topic, &[IDEMPOTENT], &sent);
    assert_eq!(offsets, [0, 1, 2]);
    let read = kafka::read_to_end(&broker.bootstrap(), topic, &kafka::from_beginning(1));
    assert_eq!(read.len(), 3);
    for (record, sent) in read.iter().zip(&sent) {
        assert_eq!(record.key(), sent.key.as_deref());
        assert_eq!(record.payload(), sent.value.as_deref());
        assert_eq!(record.timestamp(), Timestamp::CreateTime(sent.timestamp.unwrap()));
    }
    let found = read[0].headers().expect("the first record has headers");
    let found: Vec<(String, Option<Vec<u8>>)> =
        found.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect();
    assert_eq!(found, headers);
}

#[test]
fn the_broker_sets_the_time_where_the_topic_says_so() {
    let broker = Broker::start(BrokerOptions::new());
    let topic = "log-append-time";
    kafka::create(&broker.bootstrap(), topic, 1, &[("message.timestamp.type", "LogAppendTime")]);
    for codec in ["none", "lz4"] {
        let old = ToSend { timestamp: Some(1_000), ..ToSend::to(0, "old ".repeat(100)) };
        kafka::deliver(&broker.bootstrap(), topic, &[("compression.codec", codec)], &[old.clone(), old]);
    }
    let read = kafka::read_to_end(&broker.bootstrap(), topic, &kafka::from_beginning(1));
    assert_eq!(read.len(), 4);
    for record in read {
        let Timestamp::LogAppendTime(time) = record.timestamp() else {
            panic!("{:?} was not set by the broker", record.timestamp());
        };
        assert!(time > 1_600_000_000_000, "{time} is long ago");
    }
}

#[test]
fn consuming_starts_at_an_offset_or_a_time() {
    let broker = Broker::start(BrokerOptions::new());
    let topic = "starts";
    kafka::create(&broker.bootstrap(), topic, 1, &[]);
    let sent: Vec<ToSend> = (0..200)
        .map(|number| ToSend {
            timestamp: Some(1_000_000 + number * 10),
            ..ToSend::to(0, format!("value {number}"))
        })
        .collect();
    // Small batches, so that the search crosses many of them.
    for part in sent.chunks(20) {
        kafka::deliver(&broker.bootstrap(), topic, &[IDEMPOTENT], part);
    }
    let read = kafka::read_to_end(&broker.bootstrap(), topic, &[(0, Offset::Offset(137))]);
    assert_eq!(read.first().unwrap().offset(), 137, "also from the middle of a batch");
    assert_eq!(read.len(), 63);
    let read = kafka::read_to_end(&broker.bootstrap(), topic, &[(0, Offset::OffsetTail(5))]);
    assert_eq!(read.iter().map(Message::offset).collect::<Vec<_>>(), [195, 196, 197, 198, 199]);
    let consumer = kafka::consumer(&broker.bootstrap(), topic, &[], &[]);
    for (time, expected) in [
        (0, Offset::Offset(0)),
        (1_000_000, Offset::Offset(0)),
        (1_000_505, Offset::Offset(51)),
        (1_001_990, Offset::Offset(199)),
        (1_001_991, Offset::End),
    ] {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(topic, 0, Offset::Offset(time)).unwrap();
        let found = consumer.offsets_for_times(asked, wait::HANG).unwrap();
        assert_eq!(found.elements()[0].offset(), expected, "at {time}");
    }
    assert_eq!(consumer.fetch_watermarks(topic, 0, wait::HANG).unwrap(), (0, 200));
}

#[test]
fn a_hundred_partitions_in_both_port_modes() {
    for mode in PortMode::ALL {
        let broker = Broker::start(BrokerOptions::new().port_mode(mode).cores(3));
        let topic = "hundred";
        kafka::create(&broker.bootstrap(), topic, 100, &[]);
        let sent: Vec<ToSend> =
            (0..1000).map(|number| ToSend::to(number % 100, format!("{number}"))).collect();
        kafka::deliver(&broker.bootstrap(), topic, &[IDEMPOTENT], &sent);
        let read = kafka::read_to_end(&broker.bootstrap(), topic, &kafka::from_beginning(100));
        let mut by_partition: BTreeMap<i32, Vec<OwnedMessage>> = BTreeMap::new();
        for record in read {
            by_partition.entry(record.partition()).or_default().push(record);
        }
        assert_eq!(by_partition.len(), 100);
        for (partition, records) in by_partition {
            let expected: Vec<String> = (0..10).map(|turn| (turn * 100 + partition).to_string()).collect();
            assert_eq!(kafka::texts(&records), expected, "{mode:?}, partition {partition}");
        }
        assert_brokers_and_leaders(&broker, mode, topic);
    }
}

/// With a port per core every core is a broker and leads some of the partitions; with one port the node is one broker.
fn assert_brokers_and_leaders(broker: &Broker, mode: PortMode, topic: &str) {
    let consumer: BaseConsumer = kafka::config(&broker.bootstrap(), &[]).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), wait::HANG).unwrap();
    let mut brokers: Vec<(i32, u16)> = metadata
        .brokers()
        .iter()
        .map(|broker| (broker.id(), u16::try_from(broker.port()).unwrap()))
        .collect();
    brokers.sort_unstable();
    let port = broker.address().port();
    let mut led: BTreeMap<i32, usize> = BTreeMap::new();
    for partition in metadata.topics()[0].partitions() {
        *led.entry(partition.leader()).or_default() += 1;
        assert_eq!(partition.replicas(), [partition.leader()]);
        assert_eq!(partition.isr(), [partition.leader()]);
    }
    match mode {
        PortMode::PerCore => {
            assert_eq!(brokers, [(1000, port), (1001, port + 1), (1002, port + 2)]);
            assert!(led.len() == 3 && led.values().all(|count| (33..=34).contains(count)), "{led:?}");
        }
        PortMode::Single => {
            assert_eq!(brokers, [(1000, port)]);
            assert_eq!(led, BTreeMap::from([(1000, 100)]));
        }
    }
}

#[test]
fn topics_are_created_by_being_used_unless_that_is_switched_off() {
    let broker = Broker::start(BrokerOptions::new().set("partition_count_default", "3"));
    kafka::deliver(&broker.bootstrap(), "used", &[IDEMPOTENT], &numbered(2, 3));
    let read = kafka::read_to_end(&broker.bootstrap(), "used", &kafka::from_beginning(3));
    assert_eq!(kafka::texts(&read), ["value 0", "value 1", "value 2"]);
    drop(broker);
    let broker = Broker::start(BrokerOptions::new().set("auto_create_topics", "false"));
    let settings = [("message.timeout.ms", "4000"), ("topic.metadata.propagation.max.ms", "500")];
    let refused = kafka::send(&broker.bootstrap(), "used", &settings, &numbered(0, 1));
    assert!(
        matches!(refused[0], Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)),
        "{refused:?}"
    );
}

#[test]
fn the_admin_client_creates_grows_describes_and_deletes() {
    let broker = Broker::start(BrokerOptions::new());
    let bootstrap = broker.bootstrap();
    kafka::create(&bootstrap, "managed", 2, &[("retention.ms", "3600000")]);
    assert_eq!(kafka::create_topic(&bootstrap, "managed", 2, &[]), Err(RDKafkaErrorCode::TopicAlreadyExists));
    let admin = kafka::admin(&bootstrap);
    let options = kafka::admin_options();
    let grown = block_on(admin.create_partitions(&[NewPartitions::new("managed", 5)], &options)).unwrap();
    assert_eq!(grown, [Ok("managed".to_owned())]);
    let shrunk = block_on(admin.create_partitions(&[NewPartitions::new("managed", 3)], &options)).unwrap();
    assert_eq!(shrunk, [Err(("managed".to_owned(), RDKafkaErrorCode::InvalidPartitions))]);
    kafka::deliver(&bootstrap, "managed", &[IDEMPOTENT], &numbered(4, 2));

    let value = |name: &str| {
        let resource = ResourceSpecifier::Topic("managed");
        let described = block_on(admin.describe_configs([&resource], &options)).unwrap().pop();
        let described = described.unwrap().unwrap();
        let entry = described.get(name).unwrap_or_else(|| panic!("{name} is described"));
        (entry.value.clone().unwrap(), entry.is_default)
    };
    assert_eq!(value("retention.ms"), ("3600000".to_owned(), false));
    assert_eq!(value("durability"), ("fsync".to_owned(), true));
    assert_eq!(value("max.message.bytes"), ("1048588".to_owned(), true));

    // The old way to alter replaces what was set before.
    let change = AlterConfig::new(ResourceSpecifier::Topic("managed")).set("max.message.bytes", "2000000");
    let altered = block_on(admin.alter_configs([&change], &options)).unwrap();
    assert!(matches!(altered[..], [Ok(_)]), "{altered:?}");
    assert_eq!(value("max.message.bytes"), ("2000000".to_owned(), false));
    assert_eq!(value("retention.ms"), ("604800000".to_owned(), true));

    let deleted = block_on(admin.delete_topics(&["managed", "no-such-topic"], &options)).unwrap();
    assert_eq!(
        deleted,
        [
            Ok("managed".to_owned()),
            Err(("no-such-topic".to_owned(), RDKafkaErrorCode::UnknownTopicOrPartition))
        ]
    );
    let consumer: BaseConsumer =
        kafka::config(&bootstrap, &[("allow.auto.create.topics", "false")]).create().unwrap();
    let metadata = consumer.fetch_metadata(None, wait::HANG).unwrap();
    assert!(metadata.topics().iter().all(|topic| topic.name() != "managed"), "it is still listed");
}

#[test]
fn wrong_names_and_configs_are_refused_with_kafkas_codes() {
    let broker = Broker::start(BrokerOptions::new());
    let bootstrap = broker.bootstrap();
    for (name, partition_count, configs, expected) in [
        ("bad name", 1, &[][..], RDKafkaErrorCode::InvalidTopic),
        ("ok", 1, &[("no.such.config", "1")][..], RDKafkaErrorCode::InvalidConfig),
        ("ok", 1, &[("retention.ms", "soon")][..], RDKafkaErrorCode::InvalidConfig),
    ] {
        assert_eq!(kafka::create_topic(&bootstrap, name, partition_count, configs), Err(expected), "{name}");
    }
    kafka::create(&bootstrap, "ok", 1, &[]);
}

#[test]
fn large_messages_pass_where_the_topic_allows_them() {
    let broker = Broker::start(BrokerOptions::new());
    let bootstrap = broker.bootstrap();
    let size = 8 << 20;
    let settings = [("message.max.bytes", "16000000"), IDEMPOTENT];
    let large = ToSend::to(0, records::noise(1, size));
    kafka::create(&bootstrap, "small", 1, &[]);
    let refused = kafka::send(&bootstrap, "small", &settings[..1], std::slice::from_ref(&large));
    assert_eq!(refused, [Err(RDKafkaErrorCode::MessageSizeTooLarge)]);
    assert!(kafka::read_to_end(&bootstrap, "small", &kafka::from_beginning(1)).is_empty());
    kafka::create(&bootstrap, "large", 1, &[("max.message.bytes", "10000000")]);
    let sent = [ToSend::to(0, "before"), large, ToSend::to(0, "after")];
    kafka::deliver(&bootstrap, "large", &settings, &sent);
    let read = kafka::read_to_end(&bootstrap, "large", &kafka::from_beginning(1));
    assert_eq!(read.len(), 3);
    for (record, sent) in read.iter().zip(&sent) {
        assert!(record.payload() == sent.value.as_deref(), "record {} changed", record.offset());
    }
}

#[test]
fn fifty_thousand_records_keep_their_order() {
    let broker = Broker::start(BrokerOptions::new());
    let topic = "many";
    kafka::create(&broker.bootstrap(), topic, 4, &[]);
    let sent: Vec<ToSend> =
        (0..50_000).map(|number| ToSend::to(number % 4, format!("{number:08} {}", "x".repeat(90)))).collect();
    let settings = [IDEMPOTENT, ("compression.codec", "lz4"), ("linger.ms", "5")];
    kafka::deliver(&broker.bootstrap(), topic, &settings, &sent);
    let read = kafka::read_to_end(&broker.bootstrap(), topic, &kafka::from_beginning(4));
    assert_eq!(read.len(), sent.len());
    let mut next = [0_i64; 4];
    for record in read {
        let partition = record.partition();
        let expected = next[partition as usize];
        next[partition as usize] += 1;
        assert_eq!(record.offset(), expected, "partition {partition}");
        let number: i64 = std::str::from_utf8(&record.payload().unwrap()[..8]).unwrap().parse().unwrap();
        assert_eq!(number, expected * 4 + i64::from(partition));
    }
}

#[test]
fn a_consumer_goes_on_over_restarts_of_the_broker() {
    for kill in [false, true] {
        let mut broker = Broker::start(BrokerOptions::new());
        let topic = "restarts";
        kafka::create(&broker.bootstrap(), topic, 1, &[]);
        let settings = [("reconnect.backoff.max.ms", "500"), ("session.timeout.ms", "10000")];
        let consumer = kafka::consumer(&broker.bootstrap(), topic, &kafka::from_beginning(1), &settings);
        let mut seen = Vec::new();
        for round in 0..3_i64 {
            let sent: Vec<ToSend> =
                (0..200).map(|number| ToSend::to(0, format!("{}", round * 200 + number))).collect();
            kafka::deliver(&broker.bootstrap(), topic, &[IDEMPOTENT], &sent);
            let wanted = (round as usize + 1) * 200;
            wait::until("the consumer to catch up", || {
                while let Polled::Record(record) = kafka::poll(&consumer) {
                    assert_eq!(record.offset(), seen.len() as i64);
                    seen.push(record);
                }
                (seen.len() == wanted).then_some(())
            });
            if kill {
                broker.kill()
            } else {
                broker.terminate()
            }
            broker.restart();
        }
        let expected: Vec<String> = (0..600).map(|number| number.to_string()).collect();
        assert_eq!(kafka::texts(&seen), expected);
    }
}
