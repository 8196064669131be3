//! The native protocol end to end, with the client library on tokio and, where the wire itself matters, without.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use heddle_client::{
    Acks, Epoch, ErrorCode, FetchFrom, NewTopic, Offset, PartitionIndex, ProduceTo, StartFrom, Timestamp,
    TopicChange, TopicId,
};
use heddle_proto::native::{Reply, Request};
use heddle_tests::broker::{Broker, BrokerOptions, PortMode};
use heddle_tests::native::{self, refusal};
use heddle_tests::raw::Raw;
use heddle_tests::{records, wait};

const P0: PartitionIndex = PartitionIndex::new(0);

#[test]
fn hello_and_metadata_in_both_port_modes() {
    for mode in PortMode::ALL {
        let broker = Broker::start(BrokerOptions::new().port_mode(mode).node_id(7));
        native::run(async {
            let client = native::connect(broker.address()).await;
            let welcome = client.hello("test", None).await.unwrap();
            assert_eq!((welcome.version, welcome.node.get(), welcome.core_count), (1, 7, 2));
            assert!(welcome.software.starts_with("heddle "), "{}", welcome.software);
            client.hello("test", Some(&welcome.cluster)).await.unwrap();
            let (code, message) = refusal(client.hello("test", Some("another")).await);
            assert_eq!(code, ErrorCode::InconsistentClusterId);
            assert!(message.contains("another") && message.contains(&welcome.cluster), "{message}");

            native::create(&client, "t", 4, &[]).await;
            let metadata = client.metadata(None, false).await.unwrap();
            let port = broker.address().port();
            let brokers: Vec<(i32, u16)> =
                metadata.brokers.iter().map(|broker| (broker.id, broker.port)).collect();
            match mode {
                PortMode::PerCore => assert_eq!(brokers, [(7000, port), (7001, port + 1)]),
                PortMode::Single => assert_eq!(brokers, [(7000, port)]),
            }
            assert_eq!(metadata.topics.len(), 1);
            assert_eq!(metadata.topics[0].partitions.len(), 4);
            let metadata = client.metadata(Some(&["t", "none", "made", "b d"]), false).await.unwrap();
            let errors: Vec<ErrorCode> = metadata.topics.iter().map(|topic| topic.error).collect();
            let unknown = ErrorCode::UnknownTopicOrPartition;
            assert_eq!(errors, [ErrorCode::None, unknown, unknown, unknown]);
            let metadata = client.metadata(Some(&["made", "b d"]), true).await.unwrap();
            let errors: Vec<ErrorCode> = metadata.topics.iter().map(|topic| topic.error).collect();
            assert_eq!(errors, [ErrorCode::None, ErrorCode::InvalidTopicException]);
            let status = client.cluster_status().await.unwrap();
            assert!(status.contains(&welcome.cluster) && status.starts_with('{'), "{status}");
        });
    }
}

#[test]
fn pipelined_batches_are_acknowledged_in_order_and_read_back() {
    for mode in PortMode::ALL {
        let broker = Broker::start(BrokerOptions::new().port_mode(mode));
        native::run(async {
            let client = native::connect(broker.address()).await;
            let topic = native::create(&client, "t", 2, &[]).await;
            for partition in 0..2 {
                // On purpose also through the core that does not own the partition.
                let to = ProduceTo::new(topic, PartitionIndex::new(partition));
                let values: Vec<String> = (0..200).map(|number| format!("{partition}-{number}")).collect();
                let calls: Vec<_> =
                    values.iter().map(|value| client.produce(to, Acks::All, records::one(value))).collect();
                for (expected, call) in (0..).zip(calls) {
                    assert_eq!(call.await.unwrap().base_offset, Offset::new(expected));
                }
                let read = native::read_all(&client, topic, partition, 0).await;
                let expected: Vec<(i64, Vec<u8>)> =
                    (0..).zip(values.into_iter().map(String::into_bytes)).collect();
                assert_eq!(read, expected);
            }
            let to = ProduceTo::new(topic, P0);
            let one = client.produce(to, Acks::Primary, records::one("primary")).await.unwrap();
            assert_eq!(one.base_offset, Offset::new(200));
            let two = [records::one("a"), records::one("b")].concat();
            let both = client.produce(to, Acks::All, Bytes::from(two)).await.unwrap();
            assert_eq!(both.base_offset, Offset::new(201), "several batches in one request");
            client.produce_unacked(to, records::one("unacked")).unwrap();
            wait_for_end(&client, topic, 204).await;
        });
    }
}

#[test]
fn a_crowd_with_little_memory_waits_and_is_not_refused() {
    const BATCHES_EACH: usize = 12;
    let options = BrokerOptions::new().cores(1).set("memory_bytes", "32MiB").set("frame_bytes_max", "8MiB");
    let broker = Broker::start(options);
    native::run(async {
        let client = native::connect(broker.address()).await;
        let topic = native::create(&client, "t", 1, &[("durability", "async")]).await;
        let to = ProduceTo::new(topic, P0);
        let value = vec![7; 700_000];
        let mut crowd = Vec::new();
        for _ in 0..24 {
            let client = native::connect(broker.address()).await;
            let batch = records::one(&value);
            crowd.push(tokio::spawn(async move {
                let calls: Vec<_> =
                    (0..BATCHES_EACH).map(|_| client.produce(to, Acks::All, batch.clone())).collect();
                for call in calls {
                    call.await.expect("a full budget slows producers down and refuses none");
                }
            }));
        }
        for member in crowd {
            member.await.unwrap();
        }
        wait_for_end(&client, topic, 24 * BATCHES_EACH as i64).await;
    });
    assert!(broker.metrics().sum("reads_paused") > 0, "the budget was never full: this shows nothing");
}

async fn wait_for_end(client: &heddle_client::Client, topic: TopicId, end: i64) {
    while client.list_offsets(topic, P0, StartFrom::Latest).await.unwrap().offset.get() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn fetches_have_limits_and_wait() {
    let broker = Broker::start(BrokerOptions::new());
    native::run(async {
        let client = native::connect(broker.address()).await;
        let topic = native::create(&client, "t", 1, &[]).await;
        for _ in 0..20 {
            native::send(&client, topic, 0, &[7; 1000]).await.unwrap();
        }
        let all = FetchFrom::new(topic, P0, Offset::ZERO);
        let few = client.fetch(FetchFrom { bytes_max: 5000, ..all }).await.unwrap();
        let count = records::read(few.batches).len();
        assert!((1..=5).contains(&count), "{count} records of 1000 bytes in 5000");
        let one = client.fetch(FetchFrom { bytes_max: 1, ..all }).await.unwrap();
        assert_eq!(records::read(one.batches).len(), 1, "one batch comes, however large");
        assert_eq!((one.start, one.committed), (Offset::ZERO, Offset::new(20)));
        let (code, _) = refusal(client.fetch(FetchFrom::new(topic, P0, Offset::new(21))).await);
        assert_eq!(code, ErrorCode::OffsetOutOfRange);
        let (code, _) =
            refusal(client.fetch(FetchFrom::new(topic, PartitionIndex::new(9), Offset::ZERO)).await);
        assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
        // A fetch at the end waits for what comes, and does not hold up other requests of its connection.
        let at_end = FetchFrom {
            bytes_min: 1,
            wait_max: Duration::from_secs(30),
            ..FetchFrom::new(topic, P0, Offset::new(20))
        };
        let waiting = client.fetch(at_end);
        let produced = client.produce(ProduceTo::new(topic, P0), Acks::All, records::one("news"));
        assert_eq!(records::texts(waiting.await.unwrap().batches), ["news"]);
        assert_eq!(produced.await.unwrap().base_offset, Offset::new(20));
        let nothing = FetchFrom { wait_max: Duration::from_millis(10), offset: Offset::new(21), ..at_end };
        assert!(client.fetch(nothing).await.unwrap().batches.is_empty());
    });
}

#[test]
fn subscriptions_deliver_what_is_there_and_what_comes() {
    for mode in PortMode::ALL {
        let broker = Broker::start(BrokerOptions::new().port_mode(mode));
        native::run(async {
            let client = native::connect(broker.address()).await;
            let topic = native::create(&client, "t", 1, &[]).await;
            for number in 0..50 {
                native::send(&client, topic, 0, format!("{number}").as_bytes()).await.unwrap();
            }
            let mut earliest = client.subscribe(topic, P0, StartFrom::Earliest, 64 << 10).await.unwrap();
            let mut latest = client.subscribe(topic, P0, StartFrom::Latest, 64 << 10).await.unwrap();
            let at = StartFrom::Offset(Offset::new(48));
            let mut middle = client.subscribe(topic, P0, at, 64 << 10).await.unwrap();
            let starts = [earliest.from(), latest.from(), middle.from()].map(Offset::get);
            assert_eq!(starts, [0, 50, 48]);
            native::send(&client, topic, 0, b"50").await.unwrap();
            for (subscription, from) in [(&mut earliest, 0), (&mut latest, 50), (&mut middle, 48)] {
                let mut read = Vec::new();
                while read.len() < 51 - from {
                    let delivery = subscription.next().await.expect("it goes on").unwrap();
                    read.extend(records::texts(delivery.batches));
                }
                let expected: Vec<String> = (from..51).map(|number| number.to_string()).collect();
                assert_eq!(read, expected);
            }
            // The end of a topic ends its subscriptions, and says so.
            client.delete_topic("t").await.unwrap();
            let end = latest.next().await.expect("the end has a reason");
            assert_eq!(refusal(end).0, ErrorCode::UnknownTopicOrPartition);
            assert!(latest.next().await.is_none());
        });
    }
}

#[test]
fn credit_limits_what_is_pushed() {
    const BATCH: usize = 16 << 10;
    const CREDIT: u64 = 64 << 10;
    let broker = Broker::start(BrokerOptions::new().cores(1));
    let topic = native::run(async {
        let client = native::connect(broker.address()).await;
        let topic = native::create(&client, "t", 1, &[]).await;
        for number in 0..64 {
            native::send(&client, topic, 0, &records::noise(number, BATCH)).await.unwrap();
        }
        topic
    });
    let mut raw = Raw::native(broker.address());
    let subscribe = |credit_bytes| Request::Subscribe {
        subscription: 5,
        topic,
        partition: P0,
        from: StartFrom::Earliest,
        credit_bytes,
    };
    let (reply, _) = raw.ask(&subscribe(CREDIT), &[]);
    assert_eq!(reply, Reply::Subscribed { subscription: 5, from: Offset::ZERO });
    let mut pushed = 0;
    for granted in [CREDIT, 2 * CREDIT, 3 * CREDIT] {
        while !raw.is_silent() {
            let (correlation, reply, payload) = raw.hear();
            assert_eq!(
                (correlation, reply),
                (0, Reply::Push { subscription: 5, committed: Offset::new(64) })
            );
            pushed += payload.len() as u64;
        }
        let most = granted + BATCH as u64 + 100;
        assert!(granted <= pushed && pushed <= most, "{pushed} bytes for a credit of {granted}");
        raw.tell(0, &Request::Credit { subscription: 5, bytes: CREDIT }, &[]);
    }
    let (reply, _) = loop {
        raw.tell(77, &Request::Unsubscribe { subscription: 5 }, &[]);
        match raw.hear() {
            (77, reply, payload) => break (reply, payload),
            (0, Reply::Push { .. }, _) => {}
            other => panic!("unexpected {other:?}"),
        }
    };
    assert!(
        matches!(reply, Reply::SubscriptionEnded { subscription: 5, code: ErrorCode::None, .. }),
        "the protocol says that Unsubscribe is answered by SubscriptionEnded, not {reply:?}"
    );
}

#[test]
fn topics_live_and_die() {
    let broker = Broker::start(BrokerOptions::new());
    native::run(async {
        let client = native::connect(broker.address()).await;
        let topic = native::create(&client, "t", 2, &[("retention.ms", "5000000")]).await;
        assert_eq!(refusal(client.create_topic(NewTopic::named("t")).await).0, ErrorCode::TopicAlreadyExists);
        let (code, message) = refusal(client.create_topic(NewTopic::named("t t")).await);
        assert_eq!(code, ErrorCode::InvalidTopicException);
        assert!(message.contains("' '"), "{message}");
        let bad = NewTopic { configs: vec![("durability".into(), "maybe".into())], ..NewTopic::named("u") };
        let (code, message) = refusal(client.create_topic(bad).await);
        assert_eq!(code, ErrorCode::InvalidConfig);
        assert!(message.contains("durability=maybe") && message.contains("fsync"), "{message}");
        let much = NewTopic { replication_factor: 3, ..NewTopic::named("u") };
        assert_eq!(refusal(client.create_topic(much).await).0, ErrorCode::InvalidReplicationFactor);

        for partition in 0..2 {
            native::send(&client, topic, partition, b"x").await.unwrap();
        }
        let change = TopicChange {
            name: "t".into(),
            configs: vec![("retention.ms".into(), None), ("durability".into(), Some("async".into()))],
            partition_count: 5,
        };
        assert_eq!(client.alter_topic(change.clone()).await.unwrap(), topic);
        let described = client.describe_topic("t").await.unwrap();
        assert_eq!((described.id, described.partitions.len()), (topic, 5));
        let ends: Vec<i64> = described.partitions.iter().map(|partition| partition.committed.get()).collect();
        assert_eq!(ends, [1, 1, 0, 0, 0]);
        let config = |name: &str| {
            let entry = described.configs.iter().find(|entry| entry.name == name).expect("it is described");
            (entry.value.clone(), entry.is_default)
        };
        assert_eq!(config("durability"), ("async".to_owned(), false));
        assert_eq!(config("retention.ms"), ("604800000".to_owned(), true));
        native::send(&client, topic, 4, b"x").await.unwrap();
        let fewer = TopicChange { partition_count: 2, configs: vec![], ..change };
        assert_eq!(refusal(client.alter_topic(fewer).await).0, ErrorCode::InvalidPartitions);

        assert_eq!(client.delete_topic("t").await.unwrap(), topic);
        let gone = refusal(client.describe_topic("t").await);
        assert_eq!(gone.0, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(refusal(client.delete_topic("t").await).0, ErrorCode::UnknownTopicOrPartition);
        let late = native::send(&client, topic, 0, b"late").await;
        assert_eq!(refusal(late).0, ErrorCode::UnknownTopicOrPartition);
        let again = native::create(&client, "t", 1, &[]).await;
        assert_ne!(again, topic);
        assert!(native::read_all(&client, again, 0, 0).await.is_empty());
    });
}

#[test]
fn offsets_are_found_and_records_deleted() {
    let mut broker = Broker::start(BrokerOptions::new());
    let topic = native::run(async {
        let client = native::connect(broker.address()).await;
        let topic = native::create(&client, "t", 1, &[]).await;
        for number in 0..10 {
            native::send(&client, topic, 0, format!("{number}").as_bytes()).await.unwrap();
        }
        let find = async |at| client.list_offsets(topic, P0, at).await.unwrap().offset.get();
        assert_eq!(find(StartFrom::Earliest).await, 0);
        assert_eq!(find(StartFrom::Latest).await, 10);
        assert_eq!(find(StartFrom::Timestamp(records::TIME)).await, 0);
        let found = client.list_offsets(topic, P0, StartFrom::Timestamp(Timestamp::new(1))).await.unwrap();
        assert_eq!((found.offset.get(), found.timestamp), (0, records::TIME));
        let start = client.delete_records(topic, P0, Offset::new(4)).await.unwrap();
        assert_eq!(start.get(), 4);
        let again = client.delete_records(topic, P0, Offset::new(2)).await.unwrap();
        assert_eq!(again.get(), 4, "the start never goes back");
        assert_eq!(
            refusal(client.delete_records(topic, P0, Offset::new(11)).await).0,
            ErrorCode::OffsetOutOfRange
        );
        assert_eq!(
            refusal(client.fetch(FetchFrom::new(topic, P0, Offset::new(3))).await).0,
            ErrorCode::OffsetOutOfRange
        );
        assert_eq!(find(StartFrom::Earliest).await, 4);
        topic
    });
    broker.kill();
    broker.restart();
    native::run(async {
        let client = native::connect(broker.address()).await;
        let read = native::read_all(&client, topic, 0, 4).await;
        assert_eq!(read.first().map(|(offset, value)| (*offset, value.as_slice())), Some((4, &b"4"[..])));
        assert_eq!(client.list_offsets(topic, P0, StartFrom::Earliest).await.unwrap().offset.get(), 4);
    });
}

#[test]
fn retries_are_written_once_and_wrong_epochs_refused() {
    let broker = Broker::start(BrokerOptions::new());
    native::run(async {
        let client = native::connect(broker.address()).await;
        let topic = native::create(&client, "t", 1, &[]).await;
        let identity = client.init_producer().await.unwrap();
        let other = client.init_producer().await.unwrap();
        assert_ne!(identity.id, other.id);
        let to = ProduceTo::new(topic, P0);
        let batch = |sequence, values: &[&[u8]]| {
            records::idempotent(identity.id, identity.epoch, sequence, values).freeze()
        };
        let first = client.produce(to, Acks::All, batch(0, &[b"0", b"1"])).await.unwrap();
        let second = client.produce(to, Acks::All, batch(0, &[b"0", b"1"])).await.unwrap();
        assert_eq!((first.base_offset, second.base_offset), (Offset::ZERO, Offset::ZERO));
        assert_eq!(
            client.produce(to, Acks::All, batch(2, &[b"2"])).await.unwrap().base_offset,
            Offset::new(2)
        );
        let gap = client.produce(to, Acks::All, batch(4, &[b"4"])).await;
        assert_eq!(refusal(gap).0, ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(native::read_all(&client, topic, 0, 0).await.len(), 3);

        let metadata = client.metadata(Some(&["t"]), false).await.unwrap();
        let epoch = metadata.topics[0].partitions[0].epoch;
        let current = ProduceTo { epoch, ..to };
        assert_eq!(
            client.produce(current, Acks::All, records::one("now")).await.unwrap().base_offset.get(),
            3
        );
        for (epoch, expected) in [
            (Epoch::new(epoch.get() + 1), ErrorCode::UnknownLeaderEpoch),
            (Epoch::new(epoch.get() - 1), ErrorCode::FencedLeaderEpoch),
        ] {
            // Below 0 an epoch means any.
            if epoch >= Epoch::new(0) {
                let refused = client.produce(ProduceTo { epoch, ..to }, Acks::All, records::one("no")).await;
                assert_eq!(refusal(refused).0, expected);
            }
        }
        assert_eq!(native::read_all(&client, topic, 0, 0).await.len(), 4);
    });
}

#[test]
fn epochs_grow_over_restarts_and_old_ones_are_fenced() {
    let mut broker = Broker::start(BrokerOptions::new());
    let epoch_now = |broker: &Broker| {
        native::run(async {
            let client = native::connect(broker.address()).await;
            client.metadata(Some(&["t"]), true).await.unwrap().topics[0].partitions[0].epoch
        })
    };
    let before = epoch_now(&broker);
    broker.terminate();
    broker.restart();
    let after = epoch_now(&broker);
    assert!(after > before, "a primary that restarts needs a new epoch: {before} and {after}");
    native::run(async {
        let client = native::connect_to_owner(&broker, "t", 0).await;
        let topic = client.metadata(Some(&["t"]), false).await.unwrap().topics[0].id;
        let old = ProduceTo { epoch: before, ..ProduceTo::new(topic, P0) };
        let refused = client.produce(old, Acks::All, records::one("late")).await;
        assert_eq!(refusal(refused).0, ErrorCode::FencedLeaderEpoch);
    });
}

#[test]
fn one_port_hands_connections_to_the_owning_core() {
    let broker = Broker::start(BrokerOptions::new().port_mode(PortMode::Single).cores(3));
    native::run(async {
        let client = native::connect(broker.address()).await;
        let topic = native::create(&client, "t", 30, &[]).await;
        for partition in 0..30 {
            let client = native::connect(broker.address()).await;
            client.hello("test", None).await.unwrap();
            assert_eq!(native::send(&client, topic, partition, b"x").await.unwrap(), 0);
            // The connection stays with that core now, and reaches all the others as well.
            client.metadata(None, false).await.unwrap();
            assert_eq!(native::read_all(&client, topic, partition, 0).await.len(), 1);
            for other in 0..partition {
                assert_eq!(
                    native::read_all(&client, topic, other, 0).await.len(),
                    1,
                    "{other} from {partition}"
                );
            }
        }
    });
    let moved = broker.metrics().sum("connections_moved");
    // A connection lands on the right core by chance one time in three; 30 in a row do not.
    assert!(moved > 0, "no connection was handed over");
}

#[test]
fn unknown_requests_are_answered_and_the_connection_stays() {
    let broker = Broker::start(BrokerOptions::new());
    let mut raw = Raw::native(broker.address());
    let (reply, _) = raw.ask(&Request::Hello { version: 0, client: "old".into(), cluster: None }, &[]);
    assert!(matches!(reply, Reply::Error { code: ErrorCode::UnsupportedVersion, .. }), "{reply:?}");
    let (reply, _) = raw.ask(&Request::Hello { version: 900, client: "new".into(), cluster: None }, &[]);
    assert!(matches!(reply, Reply::Hello { version: 1, .. }), "{reply:?}");
    let nowhere = Request::Produce { topic: TopicId::ZERO, partition: P0, epoch: Epoch::NONE, acks: -1 };
    let (reply, _) = raw.ask(&nowhere, &records::one("x"));
    assert!(matches!(reply, Reply::Error { code: ErrorCode::UnknownTopicOrPartition, .. }), "{reply:?}");
    let strange = Request::Produce { topic: TopicId::ZERO, partition: P0, epoch: Epoch::NONE, acks: 3 };
    let (reply, _) = raw.ask(&strange, &records::one("x"));
    assert!(matches!(reply, Reply::Error { code: ErrorCode::InvalidRequiredAcks, .. }), "{reply:?}");
    let (reply, _) = raw.ask(&Request::ClusterStatus {}, &[]);
    assert!(matches!(reply, Reply::ClusterStatus { .. }), "{reply:?}");
}

/// Records of 48 MB in a partition, most of them on disk only: the cache of a core is smaller here.
async fn fill(broker: &Broker) -> TopicId {
    let client = native::connect(broker.address()).await;
    let topic = native::create(&client, "t", 1, &[]).await;
    for number in 0..768 {
        native::send(&client, topic, 0, &records::noise(number, 62_500)).await.unwrap();
    }
    topic
}

/// How much memory the broker takes more than before, once `counter` stands still.
fn grown_when_quiet(broker: &Broker, before: u64, counter: &str) -> u64 {
    wait::until("the broker to stop reading for those who do not", || {
        let count = broker.metrics().sum(counter);
        std::thread::sleep(Duration::from_millis(300));
        (count > 0 && broker.metrics().sum(counter) == count).then_some(())
    });
    broker.resident_bytes().saturating_sub(before)
}

#[test]
fn slow_subscribers_do_not_fill_the_broker() {
    const SUBSCRIBERS: usize = 60;
    let broker = Broker::start(BrokerOptions::new().cores(1));
    let topic = native::run(fill(&broker));
    let before = broker.resident_bytes();
    // Each asks for everything with boundless credit and reads nothing of it.
    let slow: Vec<Raw> = (0..SUBSCRIBERS)
        .map(|_| {
            let mut raw = Raw::native(broker.address());
            let (from, credit_bytes) = (StartFrom::Earliest, 1 << 40);
            raw.tell(
                1,
                &Request::Subscribe { subscription: 1, topic, partition: P0, from, credit_bytes },
                &[],
            );
            raw
        })
        .collect();
    let grown = grown_when_quiet(&broker, before, "push_bytes");
    assert!(grown < 160 << 20, "{SUBSCRIBERS} subscribers that read nothing cost {} MiB", grown >> 20);
    drop(slow);
}

#[test]
fn pipelined_fetches_do_not_fill_the_broker() {
    const FETCHES: u32 = 200;
    let broker = Broker::start(BrokerOptions::new().cores(1));
    let topic = native::run(fill(&broker));
    let before = broker.resident_bytes();
    // Replies of more than 6 GB, none of which is read.
    let mut slow = Raw::native(broker.address());
    for correlation in 0..FETCHES {
        let bytes_max = 32 << 20;
        let offset = Offset::new(i64::from(correlation) % 256);
        let fetch = Request::Fetch { topic, partition: P0, offset, bytes_max, bytes_min: 0, wait_max_ms: 0 };
        slow.tell(correlation, &fetch, &[]);
    }
    let grown = grown_when_quiet(&broker, before, "fetch_bytes");
    assert!(grown < 160 << 20, "{FETCHES} fetches whose replies nobody reads cost {} MiB", grown >> 20);
    drop(slow);
}
