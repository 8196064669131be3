//! What does not belong into a cluster is refused and told why, and what a cluster cannot do without its nodes it says, while
//! it goes on with what it can.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heddle_client::{Acks, Client, ClientError, ErrorCode, NewTopic, PartitionIndex, ProduceTo, TopicId};
use heddle_tests::broker::{Broker, BrokerOptions, Place};
use heddle_tests::clock::WallClock;
use heddle_tests::nodes::{Nodes, PARTITIONS, SAFE, TOPIC, UNSURE, led_by, read};
use heddle_tests::raw::Raw;
use heddle_tests::{kafka, native, records, wait};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ApiKey, CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use rdkafka::message::Message;

/// What nodes say to each other before anything else, in this version of their protocol.
const PEER_PREFACE: [u8; 8] = [0xff, b'H', b'D', b'P', PEER_VERSION, 0, 0, 0];
const PEER_VERSION: u8 = 1;

const JOIN: i32 = 33;
const PEER_SECRET: i32 = 34;

fn failed_handshakes(broker: &Broker, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    broker.metrics().sum_with("peer_handshakes_failed", &[&label]).unwrap_or(0.0)
}

fn cluster_id(broker: &Broker) -> String {
    let text = fs::read_to_string(broker.place().data_dir().join("node.toml")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("cluster_id = ")).unwrap();
    line.trim_matches('"').to_owned()
}

/// The cluster is as it was, and takes records.
fn goes_on(nodes: &mut Nodes) {
    nodes.send();
    nodes.wait_until_whole();
    nodes.brokers.iter_mut().for_each(Broker::assert_alive);
}

#[test]
fn who_does_not_belong_to_the_cluster_is_told_why_and_the_cluster_goes_on() {
    let mut nodes = Nodes::start(1);
    nodes.create();
    refuse_used_ids(&nodes);
    refuse_another_secret(&nodes);
    refuse_another_cluster(&nodes);
    refuse_another_version(&nodes);
    goes_on(&mut nodes);
    refuse_a_copy(&mut nodes);
    goes_on(&mut nodes);
    nodes.check();
}

fn refuse_used_ids(nodes: &Nodes) {
    for id in [1, 2] {
        let ended = Place::new().serve_to_the_end(&nodes.joining(id));
        ended.expect(JOIN, &[&format!("node id {id} is used by a node of this cluster"), "node_id"]);
    }
}

fn refuse_another_secret(nodes: &Nodes) {
    let file = nodes.scratch().join("another");
    fs::write(&file, "a secret of somebody else").unwrap();
    let name = file.display().to_string();
    let ended = Place::new().serve_to_the_end(&nodes.joining(4).set("peer_secret_file", &name));
    ended.expect(PEER_SECRET, &[&name, nodes.seed(), "another secret"]);
    assert!(failed_handshakes(&nodes.brokers[0], "secret") > 0.0);
}

fn refuse_another_cluster(nodes: &Nodes) {
    // One with an id that is free here, and one with that of the node it is pointed at.
    for id in [4, 1] {
        let (_, options) = nodes.options_of(id);
        let mut other = Broker::start_in(Place::new(), options);
        other.terminate();
        let ended = other.place().serve_to_the_end(&nodes.joining(id));
        let (ours, theirs) = (cluster_id(&nodes.brokers[0]), cluster_id(&other));
        assert_ne!(ours, theirs);
        let here = format!("this node belongs to cluster {theirs}");
        ended.expect(
            JOIN,
            &[nodes.seed(), &here, &format!("the cluster there is {ours}"), "empty data directory"],
        );
    }
}

fn refuse_another_version(nodes: &Nodes) {
    let newer = PEER_VERSION + 1;
    let mut preface = PEER_PREFACE;
    preface[4] = newer;
    let mut raw = Raw::connect(nodes.seed().parse().unwrap());
    raw.send(&preface);
    assert_eq!(
        raw.read(PEER_PREFACE.len()).unwrap(),
        PEER_PREFACE,
        "it is told which version is spoken here"
    );
    drop(raw);
    let said = format!("speaks version {newer}");
    wait::until("the node says so", || nodes.brokers[0].log().contains(&said).then_some(()));
    assert!(failed_handshakes(&nodes.brokers[0], "version") > 0.0);

    let seed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = seed.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = seed.accept() {
            let _ = stream.write_all(&preface);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let ended = Place::new().serve_to_the_end(&nodes.options_of(4).1.set("join", &address));
    ended.expect(JOIN, &[&address, &said, &format!("this one version {PEER_VERSION}")]);
}

/// A second process with the data of a node that runs.
fn refuse_a_copy(nodes: &mut Nodes) {
    nodes.brokers[2].terminate();
    let copy = Place::new();
    copy_folder(&nodes.brokers[2].place().data_dir(), &copy.data_dir());
    nodes.brokers[2].restart();
    nodes.wait_until_whole();
    copy.serve_until_it_says(
        &copy.data_dir(),
        &nodes.options_of(3).1,
        &["its node id is in use by another process", "do not fit together"],
    );
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[test]
fn garbage_and_silence_at_the_peer_port_cost_a_bounded_amount() {
    const SILENT: usize = 2000;
    const GREETED_MAX: usize = 64;
    let mut nodes = Nodes::start(1);
    nodes.create();
    nodes.send();
    nodes.wait_until_whole();
    let address = nodes.seed().parse().unwrap();
    let (files, memory) = (nodes.brokers[0].open_file_count(), nodes.brokers[0].resident_bytes());

    let mut noise = [0; 4096];
    let mut state = 7u32;
    noise.fill_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let huge = [&PEER_PREFACE[..], &u32::MAX.to_le_bytes(), &[0; 64]].concat();
    let negative = [&PEER_PREFACE[..], &[4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]].concat();
    for bytes in [&noise[..], b"GET / HTTP/1.1\r\n\r\n", &huge, &negative, &[0; 3000]] {
        let mut raw = Raw::connect(address);
        raw.send(bytes);
        assert_eq!(raw.read_to_close(), b"", "garbage gets no answer");
    }
    // Half a preface, a preface alone, half a frame: these end because nothing more comes.
    for bytes in [&PEER_PREFACE[..3], &PEER_PREFACE, &[&PEER_PREFACE[..], &[200, 0, 0, 0, 1, 2]].concat()] {
        let mut raw = Raw::connect(address);
        raw.send(bytes);
        assert_eq!(raw.read_to_close(), b"");
    }
    assert!(failed_handshakes(&nodes.brokers[0], "garbage") > 0.0);
    assert!(failed_handshakes(&nodes.brokers[0], "too_slow") > 0.0);

    let silent: Vec<Raw> = (0..SILENT).map(|_| Raw::connect(address)).collect();
    nodes.send();
    wait::until("most of them are closed at once", || {
        let closed = failed_handshakes(&nodes.brokers[0], "too_many");
        (closed >= (SILENT - GREETED_MAX * 8) as f64).then_some(())
    });
    let more_files = nodes.brokers[0].open_file_count().saturating_sub(files);
    assert!(more_files < 4 * GREETED_MAX, "{more_files} more files are open");
    for mut raw in silent {
        assert_eq!(raw.read_to_close(), b"");
    }
    let grown = nodes.brokers[0].resident_bytes().saturating_sub(memory);
    assert!(grown < 64 << 20, "it has {grown} bytes more in memory");
    goes_on(&mut nodes);
    nodes.check();
}

/// What a produce request of the Kafka protocol with one record is answered.
fn kafka_produce(broker: &Broker, topic: &str, partition: i32, value: &str) -> PartitionProduceResponse {
    Raw::connect(broker.address()).kafka_produce(9, topic, partition, records::one(value))
}

/// The refusal of a produce request: its error, its name and its words.
fn kafka_refusal(broker: &Broker, topic: &str, partition: i32) -> (ErrorCode, String) {
    let reply = kafka_produce(broker, topic, partition, UNSURE);
    let code = ErrorCode::from_code_lossy(reply.error_code);
    assert_ne!(code, ErrorCode::None, "it is acknowledged");
    (code, reply.error_message.unwrap().to_string())
}

fn kafka_create(broker: &Broker, topic: &str, replication_factor: i16) -> CreatableTopicResult {
    let topic = CreatableTopic::default()
        .with_name(TopicName(StrBytes::from(topic.to_owned())))
        .with_num_partitions(1)
        .with_replication_factor(replication_factor);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let mut reply: CreateTopicsResponse =
        Raw::connect(broker.address()).kafka(ApiKey::CreateTopics, 5, &request);
    reply.topics.remove(0)
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

async fn topic_id(client: &Client, topic: &str) -> TopicId {
    client.metadata(Some(&[topic]), false).await.unwrap().topics[0].id
}

async fn native_produce(client: &Client, topic: &str, partition: i32) -> Result<i64, ClientError> {
    let to = ProduceTo::new(topic_id(client, topic).await, PartitionIndex::new(partition as u32));
    let produced = client.produce(to, Acks::All, records::one(UNSURE)).await?;
    Ok(produced.base_offset.get())
}

#[test]
fn what_is_left_of_a_lost_majority_reads_and_acknowledges_nothing() {
    let mut nodes = Nodes::start(1);
    nodes.create();
    nodes.send();
    nodes.wait_until_whole();
    // The preferred leaders lead again a while after all replicas are in sync.
    let led = wait::until("the third node leads", || {
        Some(led_by(&nodes.brokers[2], 3)).filter(|led| !led.is_empty())
    });
    for victim in [0, 1] {
        nodes.brokers[victim].kill();
    }
    let left = &nodes.brokers[2];
    for partition in &led {
        let (code, message) = kafka_refusal(left, TOPIC, *partition);
        assert!(code.is_retryable(), "{code:?}: {message}");
        says(&message, &["majority of its cluster"]);
    }
    // By now the node knows that nobody hears it, and takes nothing at all.
    let (code, message) = kafka_refusal(left, TOPIC, led[0]);
    assert_eq!(code, ErrorCode::NotLeaderOrFollower);
    says(&message, &["out of touch with the majority", TOPIC]);
    native::run(async {
        let client = native::connect(left.address()).await;
        let (code, message) = native::refusal(native_produce(&client, TOPIC, led[0]).await);
        assert_eq!(code, ErrorCode::NotLeaderOrFollower);
        says(&message, &["out of touch with the majority"]);
        let (code, _) = native::refusal(client.create_topic(NewTopic::named("more")).await);
        assert!(code == ErrorCode::CoordinatorNotAvailable && code.is_retryable(), "{code:?}");
    });
    let refused = kafka_create(left, "more", 1);
    let code = ErrorCode::from_code_lossy(refused.error_code);
    assert!(code == ErrorCode::CoordinatorNotAvailable && code.is_retryable(), "{code:?}");
    assert!(!refused.error_message.unwrap().is_empty());
    assert_eq!(left.metrics().sum_with("metadata_in_touch", &[]), Some(0.0));

    for (partition, values) in read(&left.bootstrap(), &led) {
        assert_eq!(values, nodes.acknowledged(partition), "partition {partition}");
    }

    // A client that writes all the while is not told that anything is safe before it is.
    let records = nodes.next_records();
    let bootstrap = nodes.bootstrap();
    std::thread::scope(|threads| {
        let writes = threads.spawn(|| kafka::deliver(&bootstrap, TOPIC, &SAFE, &records));
        let (lost, _) = nodes.brokers.split_at_mut(2);
        let restarts: Vec<_> =
            lost.iter_mut().map(|broker| threads.spawn(move || broker.restart())).collect();
        restarts.into_iter().for_each(|restart| restart.join().unwrap());
        writes.join().unwrap();
    });
    nodes.wait_until_whole();
    goes_on(&mut nodes);
    nodes.check();
}

#[test]
fn who_asks_for_more_replicas_than_there_are_is_told_how_many_and_which() {
    let mut nodes = Nodes::start(1);
    let first = &nodes.brokers[0];
    let words = ["replication factor 4", "the cluster has 3", "nodes that take replicas: 1, 2, 3"];
    let refused = kafka_create(first, "wide", 4);
    assert_eq!(ErrorCode::from_code_lossy(refused.error_code), ErrorCode::InvalidReplicationFactor);
    says(&refused.error_message.unwrap(), &words);
    native::run(async {
        let client = native::connect(first.address()).await;
        let wide = NewTopic { replication_factor: 4, ..NewTopic::named("wide") };
        let (code, message) = native::refusal(client.create_topic(wide).await);
        assert_eq!(code, ErrorCode::InvalidReplicationFactor);
        says(&message, &words);
        let narrow = NewTopic {
            partition_count: 1,
            replication_factor: 2,
            configs: vec![("min.insync.replicas".to_owned(), "2".to_owned())],
            ..NewTopic::named("narrow")
        };
        client.create_topic(narrow).await.unwrap();
    });

    let replicas = replicas_of(first, "narrow");
    let (leader, backup) = (replicas[0], replicas[1]);
    let at = |node: i32| node as usize - 1;
    let sent = kafka_produce(&nodes.brokers[at(leader)], "narrow", 0, "sure");
    assert_eq!(sent.error_code, 0, "{:?}", sent.error_message);
    nodes.brokers[at(backup)].kill();
    let broker = &nodes.brokers[at(leader)];
    // It waits for the backup to come back, and says then that it did not.
    let (code, message) = kafka_refusal(broker, "narrow", 0);
    assert_eq!(code, ErrorCode::NotEnoughReplicasAfterAppend, "{message}");
    says(&message, &["too few of its replicas are in sync"]);
    let missing = format!("there is 1: node {backup} is not in sync");
    let words = ["narrow/0", "min.insync.replicas=2", missing.as_str()];
    let (code, message) = kafka_refusal(broker, "narrow", 0);
    assert_eq!(code, ErrorCode::NotEnoughReplicas, "{message}");
    says(&message, &words);
    native::run(async {
        let client = native::connect(broker.address()).await;
        let (code, message) = native::refusal(native_produce(&client, "narrow", 0).await);
        assert_eq!(code, ErrorCode::NotEnoughReplicas, "{message}");
        says(&message, &words);
    });
    nodes.brokers[at(backup)].restart();
    let broker = &nodes.brokers[at(leader)];
    wait::until("writes go on", || {
        (kafka_produce(broker, "narrow", 0, "sure").error_code == 0).then_some(())
    });
}

/// The nodes that have a replica of partition 0, the leader first.
fn replicas_of(broker: &Broker, topic: &str) -> Vec<i32> {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let consumer: BaseConsumer = kafka::config(&broker.bootstrap(), &[]).create().unwrap();
    wait::until("the topic has a leader", || {
        let metadata = consumer.fetch_metadata(Some(topic), wait::HANG).ok()?;
        let partition = metadata.topics()[0].partitions().first().filter(|it| it.leader() >= 0)?;
        let mut nodes = vec![partition.leader() / 1000];
        nodes.extend(
            partition.replicas().iter().map(|it| it / 1000).filter(|it| *it != partition.leader() / 1000),
        );
        Some(nodes)
    })
}

#[test]
fn wall_clocks_that_are_hours_off_and_jump_change_nothing() {
    const HOURS: Duration = Duration::from_secs(6 * 3600);
    let folder = tempfile::tempdir().unwrap();
    let mut clocks: Vec<WallClock> = (0..2)
        .map(|number| {
            let place = folder.path().join(number.to_string());
            fs::create_dir(&place).unwrap();
            WallClock::new(&place)
        })
        .collect();
    clocks[0].behind(HOURS);
    clocks[1].ahead(HOURS);
    let under = |node: u32, options: BrokerOptions| match node {
        3 => options,
        shifted => clocks[shifted as usize - 1].rule(options),
    };
    let mut nodes = Nodes::start_with(1, under);
    nodes.create_with(&[("message.timestamp.type", "LogAppendTime")]);
    nodes.send();
    nodes.wait_until_whole();
    is_off_by(&nodes, 1, -(HOURS.as_millis() as i64));
    is_off_by(&nodes, 2, HOURS.as_millis() as i64);
    clocks[0].ahead(HOURS);
    clocks[1].behind(HOURS);
    nodes.send();
    // The first node leads the metadata. That another one is silent it finds out by a clock that does not go back.
    nodes.brokers[1].suspend();
    clocks[0].behind(HOURS);
    nodes.send();
    nodes.brokers[1].resume();
    nodes.wait_until_whole();
    nodes.brokers[0].kill();
    clocks[1].ahead(HOURS);
    nodes.send();
    nodes.brokers[0].restart();
    goes_on(&mut nodes);
    nodes.check();
}

/// The records of what a node leads bear its wall clock.
fn is_off_by(nodes: &Nodes, node: i32, shift: i64) {
    let led = led_by(&nodes.brokers[node as usize - 1], node);
    let records = kafka::read_to_end(&nodes.bootstrap(), TOPIC, &kafka::from_beginning(PARTITIONS));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let times: Vec<i64> = records
        .iter()
        .filter(|record| led.contains(&record.partition()))
        .filter_map(|record| record.timestamp().to_millis())
        .collect();
    assert!(!times.is_empty(), "node {node} leads nothing");
    for time in times {
        let off = time - now - shift;
        assert!(off.abs() < 3_600_000, "node {node} is off by {off} ms more than it should");
    }
}
