//! Bytes no client should send, on the data port and the admin port: a typed error or a closed connection, a counter, and a
//! broker that goes on with no more memory than its limits say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpStream};

use bytes::{BufMut, BytesMut};
use heddle_proto::native::{PREFACE, Request};
use heddle_proto::{Epoch, PartitionIndex, TopicId};
use heddle_tests::broker::{Broker, BrokerOptions, PortMode};
use heddle_tests::http::{self, Metrics};
use heddle_tests::raw::{Raw, kafka_frame, native_frame};
use heddle_tests::{native, records, wait};
use kafka_protocol::messages::ApiKey;

/// Counters one of which moves whenever bytes were refused.
const REFUSALS: [&str; 3] = ["frames_malformed", "connections_failed", "requests_unsupported"];

fn refused(metrics: &Metrics) -> u64 {
    REFUSALS.iter().map(|name| metrics.sum(name)).sum()
}

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    /// Whether the connection stays open after an answer, so that the test ends it.
    is_answered: bool,
}

fn case(name: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name, bytes: bytes.into(), is_answered: false }
}

fn answered(name: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { is_answered: true, ..case(name, bytes) }
}

fn with_length(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[..], body].concat()
}

fn native_bytes(frame_bytes: u32, header_bytes: u32, rest: &[u8]) -> Vec<u8> {
    [&PREFACE[..], &frame_bytes.to_le_bytes(), &header_bytes.to_le_bytes(), rest].concat()
}

/// A Metadata request that claims to name so many topics.
fn metadata_of(topic_count: i32) -> Vec<u8> {
    kafka_frame(ApiKey::Metadata as i16, 4, 1, &topic_count.to_be_bytes(), 1).to_vec()
}

/// A Produce request (v7) whose arrays and records claim what `claims` says: topics, partitions, bytes of records.
fn produce_of(claims: [i32; 3]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_i16(-1); // no transactional id
    body.put_i16(-1);
    body.put_i32(1000);
    body.put_i32(claims[0]);
    body.put_i16(1);
    body.put_slice(b"t");
    body.put_i32(claims[1]);
    body.put_i32(0);
    body.put_i32(claims[2]);
    kafka_frame(ApiKey::Produce as i16, 7, 1, &body, 1).to_vec()
}

fn data_port_cases() -> Vec<Case> {
    let whole = native_frame(1, &Request::ClusterStatus {}, &[]);
    let mut future_preface = PREFACE;
    future_preface[4] = 9;
    let mut cases = vec![
        case("a length of 2 GiB", i32::MAX.to_be_bytes()),
        case("a length just above the limit", ((32 << 20) + 1_u32).to_be_bytes()),
        case("a negative length", (-2_i64).to_be_bytes()),
        case("a length of nothing", [0; 4]),
        case("HTTP", *b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        case("TLS", *b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        case("a header cut off", with_length(&[0, 3])),
        case(
            "a header with a client id of 32 KiB that is not there",
            with_length(b"\0\x03\0\x04\0\0\0\x01\x7f\xff"),
        ),
        case("an api that does not exist", kafka_frame(12_345, 0, 1, b"", 1).to_vec()),
        case("an array of 2 billion topics", metadata_of(i32::MAX)),
        case("an array of minus two topics", metadata_of(-2)),
        case("a request to produce to 2 billion topics", produce_of([i32::MAX, 1, 0])),
        case("a request to produce to 2 billion partitions", produce_of([1, i32::MAX, 0])),
        case("records of 2 GiB that are not there", produce_of([1, 1, i32::MAX])),
        case("records of minus nine bytes", produce_of([1, 1, -9])),
        case("a fetch without a body", kafka_frame(ApiKey::Fetch as i16, 4, 1, b"", 1).to_vec()),
        case("a preface of another version", [&future_preface[..], &whole].concat()),
        case("a preface that breaks off into noise", [&PREFACE[..5], b"noise"].concat()),
        case("a native frame of 4 GiB", native_bytes(u32::MAX, 8, b"")),
        case("a native frame above the limit", native_bytes((32 << 20) + 1, 8, b"")),
        case("a native frame of nothing", native_bytes(0, 0, b"")),
        case("a native header longer than its frame", native_bytes(8, 64, b"abcd")),
        case("a native header of noise", native_bytes(68, 64, &records::noise(3, 64))),
        case("a native header of zeros", native_bytes(68, 64, &[0; 64])),
        answered(
            "ApiVersions of a far future",
            kafka_frame(ApiKey::ApiVersions as i16, 99, 1, b"", 2).to_vec(),
        ),
        answered(
            "JoinGroup of a far future",
            kafka_frame(ApiKey::JoinGroup as i16, 99, 1, &[0; 64], 2).to_vec(),
        ),
    ];
    for seed in 1..=20 {
        let mut noise = records::noise(seed, 300 << (seed % 6));
        // Noise may begin with a length that only waits for more; such connections are ended below.
        noise[0] = 0x7f;
        cases.push(case("noise", noise));
    }
    cases
}

#[test]
fn bad_bytes_on_the_data_port_are_refused_and_counted() {
    for mode in PortMode::ALL {
        let mut broker = Broker::start(BrokerOptions::new().port_mode(mode));
        let before_bytes = broker.resident_bytes();
        for Case { name, bytes, is_answered } in data_port_cases() {
            let before = refused(&broker.metrics());
            let mut raw = Raw::connect(broker.address());
            raw.send(&bytes);
            if is_answered {
                assert!(raw.read(4).is_some(), "{name}: closed without an answer");
                raw.finish_sending();
            }
            // Fails when the broker neither answers nor closes the connection.
            eprintln!("{mode:?}: {name}, {} bytes", bytes.len());
            raw.read_to_close();
            let counted = refused(&broker.metrics()) - before;
            assert!(counted >= 1, "{mode:?}, {name}: no counter moved");
            broker.assert_alive();
        }
        let grown = broker.resident_bytes().saturating_sub(before_bytes);
        assert!(grown < 64 << 20, "{mode:?}: refusing took {} MiB", grown >> 20);
        assert_works(&broker);
    }
}

/// The broker still does what it is for.
fn assert_works(broker: &Broker) {
    native::run(async {
        let client = native::connect(broker.address()).await;
        let topic = client.metadata(Some(&["works"]), true).await.unwrap().topics[0].id;
        let offset = native::send(&client, topic, 0, b"works").await.unwrap();
        let read = native::read_all(&client, topic, 0, offset).await;
        assert_eq!(read, [(offset, b"works".to_vec())]);
    });
}

/// Every beginning of good requests, cut off at each length: closed without harm, and counted unless nothing was said.
#[test]
fn requests_cut_off_anywhere_are_closed() {
    let mut broker = Broker::start(BrokerOptions::new());
    let native_request = [&PREFACE[..], &native_frame(1, &Request::ClusterStatus {}, &[])].concat();
    let kafka_request = kafka_frame(ApiKey::ApiVersions as i16, 0, 1, b"", 1).to_vec();
    for whole in [native_request, kafka_request] {
        for length in 0..whole.len() {
            let mut raw = Raw::connect(broker.address());
            raw.send(&whole[..length]);
            raw.finish_sending();
            assert_eq!(raw.read_to_close(), b"", "cut at {length}");
        }
        let mut raw = Raw::connect(broker.address());
        raw.send(&whole);
        raw.finish_sending();
        assert!(!raw.read_to_close().is_empty(), "the whole request is answered");
    }
    broker.assert_alive();
    assert!(refused(&broker.metrics()) > 0);
}

/// Each byte of good requests changed, one at a time: whatever the broker makes of it, it goes on.
#[test]
fn requests_with_a_flipped_byte_do_no_harm() {
    let mut broker = Broker::start(BrokerOptions::new().cores(1));
    native::run(async {
        let client = native::connect(broker.address()).await;
        client.metadata(Some(&["t"]), true).await.unwrap();
    });
    let batch = records::one("flipped");
    let (topic, partition) = (TopicId::ZERO, PartitionIndex::new(0));
    let produce = Request::Produce { topic, partition, epoch: Epoch::NONE, acks: -1 };
    let native_request = [&PREFACE[..], &native_frame(1, &produce, &batch)].concat();
    let kafka_request = produce_of([1, 1, 0]);
    for whole in [native_request, kafka_request] {
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            let mut raw = Raw::connect(broker.address());
            raw.send(&bytes);
            raw.finish_sending();
            raw.read_to_close();
        }
        broker.assert_alive();
    }
    assert_works(&broker);
}

#[test]
fn claimed_lengths_cost_no_memory() {
    const CONNECTIONS: usize = 40;
    let mut broker = Broker::start(BrokerOptions::new());
    let before = broker.resident_bytes();
    // Each claims a frame just below the limit and sends little of it: more than 1.2 GiB altogether.
    let claimed = 31_u32 << 20;
    let connections: Vec<Raw> = (0..CONNECTIONS)
        .map(|number| {
            let mut raw = Raw::connect(broker.address());
            match number % 2 {
                0 => raw.send(&claimed.to_be_bytes()),
                _ => raw.send(&native_bytes(claimed, 64, b"")),
            }
            raw.send(&[0; 1000]);
            raw
        })
        .collect();
    assert_works(&broker);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 150 << 20, "{CONNECTIONS} claims cost {} MiB", grown >> 20);
    drop(connections);
    broker.assert_alive();
}

#[test]
fn slow_and_half_frames_on_many_connections_hold_up_nobody() {
    const CONNECTIONS: usize = 300;
    let mut broker = Broker::start(BrokerOptions::new());
    let kafka = kafka_frame(ApiKey::ApiVersions as i16, 0, 9, b"", 1).to_vec();
    let native = [&PREFACE[..], &native_frame(9, &Request::ClusterStatus {}, &[])].concat();
    let mut slow: Vec<(Raw, &[u8])> = (0..CONNECTIONS)
        .map(|number| {
            let whole = if number % 2 == 0 { &kafka } else { &native };
            let (first, rest) = whole.split_at(1 + number % (whole.len() - 1));
            let mut raw = Raw::connect(broker.address());
            raw.send(first);
            (raw, rest)
        })
        .collect();
    assert_works(&broker);
    let open = broker.metrics().sum("connections");
    assert!(open >= CONNECTIONS as u64, "{open} connections are open");
    // A third of them goes on byte by byte and gets its answer; the others leave.
    for (raw, rest) in slow.iter_mut().step_by(3) {
        for byte in rest.iter() {
            raw.send(std::slice::from_ref(byte));
        }
        assert!(raw.read(4).is_some(), "a slow request is answered");
    }
    drop(slow);
    wait::until("closed connections to be forgotten", || {
        (broker.metrics().sum("connections") == 0).then_some(())
    });
    broker.assert_alive();
}

#[test]
fn connections_above_the_limit_are_closed_and_counted() {
    let mut broker = Broker::start(BrokerOptions::new().cores(1).set("connections_max", "10"));
    let whole = kafka_frame(ApiKey::ApiVersions as i16, 0, 1, b"", 1);
    let mut kept: Vec<Raw> = (0..10)
        .map(|_| {
            let mut raw = Raw::connect(broker.address());
            raw.send(&whole);
            assert!(raw.read(4).is_some());
            raw
        })
        .collect();
    let mut refused = Raw::connect(broker.address());
    refused.send(&whole);
    assert_eq!(refused.read_to_close(), b"");
    assert!(broker.metrics().sum("connections_refused") >= 1);
    kept.pop();
    wait::until("a place to become free", || {
        let mut raw = Raw::connect(broker.address());
        raw.send(&whole);
        raw.read(4)
    });
    broker.assert_alive();
}

#[test]
fn the_admin_address_answers_what_it_understands_and_closes_on_the_rest() {
    let mut broker = Broker::start(BrokerOptions::new().cores(1));
    let admin = broker.place().admin();
    for (path, status) in [
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/metrics", 200),
        ("/nothing", 404),
        ("/metrics?x=1", 200),
    ] {
        assert_eq!(http::get(admin, path).unwrap().status, status, "{path}");
    }
    let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    assert_eq!(http::request(admin, post).unwrap().status, 405);
    let before = broker.resident_bytes();
    let long = "x".repeat(1 << 20);
    for bytes in [
        format!("GET /{long} HTTP/1.1\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(5000)).into_bytes(),
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        native_bytes(64, 8, b"x"),
        records::noise(9, 100_000),
        b"GET".to_vec(),
    ] {
        close_after(admin, &bytes);
        broker.assert_alive();
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "bad requests cost {} MiB", grown >> 20);
    let silent: Vec<TcpStream> = (0..300).filter_map(|_| TcpStream::connect(admin).ok()).collect();
    drop(silent);
    wait::until("the admin address to be free again", || http::get(admin, "/health/live").ok());
    broker.assert_alive();
    assert_works(&broker);
}

/// Sends bytes to the admin address and waits until it is done with them.
fn close_after(admin: SocketAddr, bytes: &[u8]) {
    let mut raw = Raw::connect(admin);
    raw.send(bytes);
    raw.finish_sending();
    raw.read_to_close();
}
