//! Kills, refusals to start, a full disk and clean stops, of a real broker on a real disk.
//!
//! Small on purpose: `heddle-loadgen verify` does the same with many more kills.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use heddle_client::{
    Acks, Client, ClientError, ErrorCode, FetchFrom, NewTopic, Offset, PartitionIndex, ProduceTo, TopicId,
};
use heddle_tests::broker::{Broker, BrokerOptions, PORT_IN_USE, Place, PortMode};
use heddle_tests::history::History;
use heddle_tests::native::{self, refusal};
use heddle_tests::{records, wait};
use socket2::{Domain, Socket, Type};

const PARTITIONS: u32 = 4;

/// Batches of one producer on the way at once.
const IN_FLIGHT: usize = 8;

/// A record's value: its number, and behind it so much noise that now and then a batch is written past the WAL.
fn value_of(number: u64) -> Vec<u8> {
    let noise_bytes =
        if number.is_multiple_of(37) { 300 << 10 } else { 200 + (number as usize * 131) % 3000 };
    let mut value = number.to_be_bytes().to_vec();
    value.extend(records::noise(number, noise_bytes));
    value
}

fn number_of(value: &[u8]) -> u64 {
    let number = u64::from_be_bytes(value[..8].try_into().expect("values begin with a number"));
    assert!(value == value_of(number), "the value of record {number} has changed");
    number
}

/// Sends to one partition until it is told to stop; goes on after every lost connection with new records.
async fn produce_until_told(
    address: SocketAddr,
    topic: TopicId,
    partition: u32,
    history: &mut History,
    acknowledged: &AtomicUsize,
    stop: &AtomicBool,
) {
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(client) = native::try_connect(address).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Ends when the connection is lost.
        let _ = produce_on(&client, topic, partition, &mut next, history, acknowledged, stop).await;
    }
}

async fn produce_on(
    client: &Client,
    topic: TopicId,
    partition: u32,
    next: &mut u64,
    history: &mut History,
    acknowledged: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<(), ClientError> {
    let to = ProduceTo::new(topic, PartitionIndex::new(partition));
    let mut waiting = std::collections::VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        while waiting.len() < IN_FLIGHT {
            history.sent(*next);
            waiting.push_back((*next, client.produce(to, Acks::All, records::one(value_of(*next)))));
            *next += 1;
        }
        let (number, call) = waiting.pop_front().expect("it was just filled");
        let produced = call.await?;
        history.acknowledged(number, produced.base_offset.get());
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[test]
fn acknowledged_records_survive_kills_and_other_core_counts() {
    let mut broker = Broker::start(BrokerOptions::new().cores(2));
    // Only core 0's port is there whatever the number of cores; it reaches every partition.
    let address = broker.address();
    let topic = native::run(async {
        let client = native::connect(address).await;
        native::create(&client, "t", PARTITIONS, &[]).await
    });
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut histories: Vec<History> = (0..PARTITIONS).map(|_| History::default()).collect();
    std::thread::scope(|scope| {
        let (stop, acknowledged) = (&stop, &acknowledged);
        for (partition, history) in (0..).zip(&mut histories) {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let work = produce_until_told(address, topic, partition, history, acknowledged, stop);
                runtime.expect("a runtime starts").block_on(work);
            });
        }
        // Also when an assertion below fails the producers must end, or the scope never does.
        let _stop_at_end = StopAtEnd(stop);
        for cores in [1, 3, 2, 4, 2] {
            let before = acknowledged.load(Ordering::Relaxed);
            wait::until("acknowledgements", || {
                (acknowledged.load(Ordering::Relaxed) >= before + 60).then_some(())
            });
            broker.kill();
            broker.restart_with(|options| options.cores(cores));
        }
    });
    native::run(async {
        let client = native::connect(address).await;
        for (partition, history) in (0..).zip(&histories) {
            let read = native::read_all(&client, topic, partition, 0).await;
            let read: Vec<(i64, u64)> =
                read.iter().map(|(offset, value)| (*offset, number_of(value))).collect();
            let anomalies = history.check(&read);
            assert!(anomalies.is_empty(), "partition {partition}: {anomalies:#?}");
        }
    });
    let count: usize = histories.iter().map(History::acknowledged_count).sum();
    assert!(count >= 300, "only {count} records were acknowledged");
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn recovered_records_are_recovered_again_after_the_next_kill() {
    let mut broker = Broker::start(BrokerOptions::new());
    let topic = native::run(async {
        let client = native::connect(broker.address()).await;
        let topic = native::create(&client, "t", PARTITIONS, &[]).await;
        for number in 0..400 {
            native::send(&client, topic, number as u32 % PARTITIONS, &value_of(number)).await.unwrap();
        }
        topic
    });
    for cores in [3, 1, 2] {
        broker.kill();
        broker.restart_with(|options| options.cores(cores));
    }
    native::run(async {
        let client = native::connect(broker.address()).await;
        for partition in 0..PARTITIONS {
            let read = native::read_all(&client, topic, partition, 0).await;
            let numbers: Vec<u64> = read.iter().map(|(_, value)| number_of(value)).collect();
            let expected: Vec<u64> =
                (0..400).filter(|number| *number as u32 % PARTITIONS == partition).collect();
            assert_eq!(numbers, expected, "partition {partition}");
        }
    });
}

#[test]
fn a_clean_stop_keeps_everything() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut broker = Broker::start(BrokerOptions::new());
        let topics = native::run(async {
            let client = native::connect(broker.address()).await;
            let mut topics = Vec::new();
            for durability in ["fsync", "replicated", "async"] {
                let topic = native::create(&client, durability, 2, &[("durability", durability)]).await;
                for number in 0..50 {
                    native::send(&client, topic, number as u32 % 2, &value_of(number)).await.unwrap();
                }
                topics.push(topic);
            }
            topics
        });
        broker.stop_by(signal);
        assert!(broker.log().contains("stopped cleanly"));
        broker.restart();
        native::run(async {
            let client = native::connect(broker.address()).await;
            for topic in topics {
                for partition in 0..2 {
                    let read = native::read_all(&client, topic, partition, 0).await;
                    assert_eq!(read.len(), 25);
                    assert!(read.iter().map(|(_, value)| number_of(value)).is_sorted());
                }
            }
        });
    }
}

#[test]
fn a_stop_is_clean_while_clients_work_and_wait() {
    let mut broker = Broker::start(BrokerOptions::new());
    let address = broker.address();
    let topic = native::run(async {
        let client = native::connect(address).await;
        native::create(&client, "t", 1, &[]).await
    });
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut history = History::default();
    std::thread::scope(|scope| {
        let _stop_at_end = StopAtEnd(&stop);
        let (stop, counter, history) = (&stop, &acknowledged, &mut history);
        scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let work = produce_until_told(address, topic, 0, history, counter, stop);
            runtime.expect("a runtime starts").block_on(work);
        });
        scope.spawn(move || {
            native::run(async {
                let client = native::connect(address).await;
                let at = FetchFrom::new(topic, PartitionIndex::new(0), Offset::ZERO);
                let waiting = FetchFrom { bytes_min: u32::MAX, wait_max: Duration::from_secs(30), ..at };
                // Answered or cut off: what matters is that the broker does not wait for it.
                drop(client.fetch(waiting).await);
            });
        });
        wait::until("acknowledgements", || (acknowledged.load(Ordering::Relaxed) > 50).then_some(()));
        broker.terminate();
    });
    broker.restart();
    native::run(async {
        let client = native::connect(address).await;
        let read = native::read_all(&client, topic, 0, 0).await;
        let read: Vec<(i64, u64)> = read.iter().map(|(offset, value)| (*offset, number_of(value))).collect();
        assert_eq!(history.check(&read), []);
    });
}

#[test]
fn a_data_directory_belongs_to_one_process_and_one_node() {
    let mut broker = Broker::start(BrokerOptions::new());
    let data_dir = broker.place().data_dir();
    let named = data_dir.display().to_string();
    let other = Place::new();
    let ended = other.serve_to_the_end_in(&data_dir, &BrokerOptions::new());
    ended.expect(20, &[&named, "in use"]);
    broker.assert_alive();
    broker.terminate();
    let ended = other.serve_to_the_end_in(&data_dir, &BrokerOptions::new().node_id(2));
    ended.expect(21, &[&named, "node 1", "node 2"]);
    let node_file = data_dir.join("node.toml");
    let text = fs::read_to_string(&node_file).unwrap();
    let newer = text.replace("format_version = 3", "format_version = 4");
    assert_ne!(newer, text);
    fs::write(&node_file, newer).unwrap();
    other.serve_to_the_end_in(&data_dir, &BrokerOptions::new()).expect(22, &[&named, "version 3"]);
    fs::write(&node_file, "nonsense").unwrap();
    other.serve_to_the_end_in(&data_dir, &BrokerOptions::new()).expect(23, &["node.toml"]);
    fs::remove_file(&node_file).unwrap();
    other.serve_to_the_end_in(&data_dir, &BrokerOptions::new()).expect(21, &[&named, "node.toml"]);
    fs::write(&node_file, text).unwrap();
    broker.restart();
}

#[test]
fn an_unusable_directory_and_a_wrong_configuration_are_refused_by_name() {
    let place = Place::new();
    let file = place.scratch().join("file");
    fs::write(&file, "not a directory").unwrap();
    let ended = place.serve_to_the_end_in(&file, &BrokerOptions::new());
    ended.expect(23, &[&file.display().to_string()]);
    for (key, value, words) in [
        ("wal_file_bytes", "7", &["wal_file_bytes", "7", "1MiB"][..]),
        ("wal_files_max", "1", &["wal_files_max"]),
        ("topic_defaults", "durability=maybe", &["topic_defaults", "durability=maybe", "fsync"]),
        ("listen", "nowhere", &["listen", "HOST:PORT"]),
        ("advertised_port", "70000", &["advertised_port", "65535"]),
    ] {
        place.serve_to_the_end(&BrokerOptions::new().set(key, value)).expect(10, words);
    }
    let file = place.scratch().join("heddle.toml");
    fs::write(&file, "data_dri = \"x\"\n").unwrap();
    let ended = place.serve_to_the_end(&BrokerOptions::new().set("config", &file.display().to_string()));
    ended.expect(10, &["data_dri", "data_dir", "heddle.toml"]);
}

/// Every allowed value of a key must let the broker start, or be refused as configuration and not as something else.
#[test]
fn the_ends_of_the_allowed_ranges_are_understood() {
    for (key, value) in [
        ("wal_files_max", "2"),
        ("wal_file_bytes", "1MiB"),
        ("wal_file_bytes", "1000001"),
        ("direct_drain_bytes", "1GiB"),
        ("direct_drain_bytes", "4KiB"),
        ("groups_in_flight_max", "64"),
    ] {
        match Broker::try_start_in(Place::new(), BrokerOptions::new().cores(1).set(key, value)) {
            Ok(mut broker) => broker.terminate(),
            Err(ended) => ended.expect(10, &[key]),
        }
    }
}

#[test]
fn a_port_in_use_is_refused_although_listeners_share_ports() {
    for mode in PortMode::ALL {
        let options = BrokerOptions::new().port_mode(mode).cores(2);
        let mut broker = Broker::start(options.clone());
        let address = broker.address().to_string();
        let elsewhere = tempfile::tempdir().unwrap();
        // The second broker wants the ports of the first one, in either mode.
        for second in PortMode::ALL {
            let second = options.clone().port_mode(second).set("admin", "none");
            let ended = broker.place().serve_to_the_end_in(&elsewhere.path().join("data"), &second);
            ended.expect(PORT_IN_USE, &[&address]);
        }
        broker.assert_alive();
        let admin = broker.place().admin().to_string();
        let port = heddle_tests::ports::free_run(2);
        let second = options.clone().set("listen", &format!("127.0.0.1:{port}"));
        let ended = broker.place().serve_to_the_end_in(&elsewhere.path().join("data"), &second);
        ended.expect(PORT_IN_USE, &[&admin]);
    }
}

#[test]
fn a_port_of_any_other_process_is_refused() {
    for mode in PortMode::ALL {
        for share in [false, true] {
            let place = Place::new();
            let _taken = listen(place.address(), share);
            let ended = place.serve_to_the_end(&BrokerOptions::new().port_mode(mode));
            ended.expect(PORT_IN_USE, &[&place.address().to_string()]);
        }
    }
    let place = Place::new();
    let second_core = SocketAddr::from((Ipv4Addr::LOCALHOST, place.address().port() + 1));
    let _taken = TcpListener::bind(second_core).unwrap();
    place.serve_to_the_end(&BrokerOptions::new()).expect(PORT_IN_USE, &[&second_core.to_string()]);
}

fn listen(address: SocketAddr, share: bool) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(share).unwrap();
    // As every server does: connections of an earlier test may linger in TIME_WAIT on this port.
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(1).unwrap();
    socket
}

/// More than the disk has free, within what the key allows.
fn more_than_free(dir: &Path) -> Option<u64> {
    const RESERVE_BYTES_MAX: u64 = 1 << 40;
    let path = std::ffi::CString::new(dir.to_str().unwrap()).unwrap();
    // SAFETY: an all-zero statvfs is a valid value to be overwritten.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string and `found` a statvfs; both outlive the call.
    assert_eq!(unsafe { libc::statvfs(path.as_ptr(), &mut found) }, 0);
    let free = found.f_bavail * found.f_frsize;
    (free < RESERVE_BYTES_MAX).then_some(RESERVE_BYTES_MAX)
}

#[test]
fn a_full_disk_refuses_producers_and_serves_consumers() {
    let mut broker = Broker::start(BrokerOptions::new());
    let topic = native::run(async {
        let client = native::connect(broker.address()).await;
        let topic = native::create(&client, "t", 2, &[]).await;
        for number in 0..40 {
            native::send(&client, topic, number as u32 % 2, &value_of(number)).await.unwrap();
        }
        topic
    });
    let reserve = more_than_free(broker.place().scratch())
        .expect("the disk has a terabyte free; no reserve is above that");
    broker.terminate();
    broker.restart_with(|options| {
        options
            .set("reserve_bytes", &reserve.to_string())
            .allow_log("disk")
            .allow_log("free")
            .allow_log("reserve")
    });
    native::run(async {
        let client = native::connect(broker.address()).await;
        for (partition, value) in [(0, vec![1; 100]), (1, vec![1; 400 << 10])] {
            let refused = native::send(&client, topic, partition, &value).await;
            let (code, message) = refusal(refused);
            assert!(code.is_retryable(), "{code}");
            assert_eq!(code, ErrorCode::KafkaStorageError, "{message}");
            assert!(message.contains("disk") || message.contains("space"), "it does not say why: {message}");
            let read = native::read_all(&client, topic, partition, 0).await;
            assert_eq!(read.len(), 20, "consumers go on, and nothing was written");
        }
    });
    broker.terminate();
    broker.restart_with(|options| options.set("reserve_bytes", "16MiB"));
    native::run(async {
        let client = native::connect(broker.address()).await;
        assert_eq!(native::send(&client, topic, 0, b"room again").await.unwrap(), 20);
    });
}

fn topic_dir(data_dir: &Path, topic: TopicId) -> PathBuf {
    data_dir.join("topics").join(topic.to_string())
}

#[test]
fn a_deleted_topic_takes_its_files_along() {
    for kill in [false, true] {
        let mut broker = Broker::start(BrokerOptions::new());
        let data_dir = broker.place().data_dir();
        let topic = native::run(async {
            let client = native::connect(broker.address()).await;
            let topic = native::create(&client, "t", 3, &[]).await;
            for number in 0..90 {
                native::send(&client, topic, number as u32 % 3, &value_of(number)).await.unwrap();
            }
            topic
        });
        // A clean stop drains, so that there are files.
        broker.terminate();
        broker.restart();
        assert!(topic_dir(&data_dir, topic).is_dir(), "the topic has files at {}", data_dir.display());
        let (kept, deleted) = native::run(async {
            let client = native::connect(broker.address()).await;
            native::send(&client, topic, 0, b"in the write-ahead log when it is deleted").await.unwrap();
            let kept = native::create(&client, "kept", 1, &[]).await;
            native::send(&client, kept, 0, b"kept").await.unwrap();
            (kept, client.delete_topic("t").await.unwrap())
        });
        assert_eq!(deleted, topic);
        if kill {
            broker.kill()
        } else {
            broker.terminate()
        }
        broker.restart();
        wait::until("the files of a deleted topic to go", || {
            (!topic_dir(&data_dir, topic).exists()).then_some(())
        });
        native::run(async {
            let client = native::connect(broker.address()).await;
            let again =
                client.create_topic(NewTopic { partition_count: 3, ..NewTopic::named("t") }).await.unwrap();
            assert_ne!(again, topic);
            for partition in 0..3 {
                assert_eq!(native::read_all(&client, again, partition, 0).await, []);
            }
            assert_eq!(native::send(&client, again, 0, b"new").await.unwrap(), 0);
            assert_eq!(native::read_all(&client, kept, 0, 0).await, [(0, b"kept".to_vec())]);
        });
        broker.terminate();
        broker.restart();
        native::run(async {
            let client = native::connect(broker.address()).await;
            let id = client.metadata(Some(&["t"]), false).await.unwrap().topics[0].id;
            assert_eq!(native::read_all(&client, id, 0, 0).await, [(0, b"new".to_vec())]);
        });
    }
}

/// Flips a byte in a segment: what it covers is not served, and the broker says where; everything else is.
#[test]
fn damage_on_disk_is_never_served() {
    let mut broker = Broker::start(BrokerOptions::new().cores(1));
    let data_dir = broker.place().data_dir();
    let topic = native::run(async {
        let client = native::connect(broker.address()).await;
        let topic = native::create(&client, "t", 2, &[]).await;
        for number in 0..200 {
            native::send(&client, topic, number as u32 % 2, &value_of(number)).await.unwrap();
        }
        topic
    });
    broker.terminate();
    let segment = only_segment(&topic_dir(&data_dir, topic).join("0"));
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    for text in ["damage", "corrupt", "CRC"] {
        broker.allow_log(text);
    }
    broker.restart();
    native::run(async {
        let client = native::connect(broker.address()).await;
        let at = |offset| FetchFrom::new(topic, PartitionIndex::new(0), Offset::new(offset));
        let mut next = 0;
        let refused = loop {
            match client.fetch(at(next)).await {
                Ok(fetched) => {
                    for record in records::read(fetched.batches) {
                        assert_eq!(number_of(&record.value.unwrap()), record.offset.get() as u64 * 2);
                        next = record.offset.get() + 1;
                    }
                    assert!(next < 100, "the damaged part was served");
                }
                refused => break refusal(refused),
            }
        };
        assert!(next > 0, "what lies before the damage is not served: {refused:?}");
        assert!(matches!(refused.0, ErrorCode::CorruptMessage | ErrorCode::KafkaStorageError), "{refused:?}");
        assert_eq!(native::read_all(&client, topic, 1, 0).await.len(), 100, "other partitions go on");
    });
}

fn only_segment(dir: &Path) -> PathBuf {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let logs = entries.map(|entry| entry.unwrap().path());
    let logs: Vec<PathBuf> = logs.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs[0].clone()
}
