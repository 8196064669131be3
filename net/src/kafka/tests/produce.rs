//! Produce against the crate: requests, replies, and batches that stay where they were read.

use bytes::{BufMut, BytesMut};
use heddle_proto::error::ErrorCode;
use heddle_proto::ids::TopicId;
use heddle_samples::{self as samples, Rng, read_reply};
use kafka_protocol::messages::{ApiKey, ResponseKind, TopicName};
use proptest::prelude::*;

use crate::kafka::error::DecodeError;
use crate::kafka::produce::*;
use crate::kafka::{ReplyHeader, RequestHeader, TopicRef, decode_header};

fn decode(frame: &BytesMut) -> Result<(RequestHeader, ProduceRequest), DecodeError> {
    let mut body = frame.clone();
    let header = decode_header(&mut body)?;
    decode_produce(&header, body).map(|request| (header, request))
}

fn random_reply(version: i16, rng: &mut Rng) -> ProduceReply {
    let topics = rng.few(|rng| {
        let partitions = rng.few(|rng| ProducePartitionReply {
            index: rng.i32(),
            error: if rng.flip() { ErrorCode::None } else { ErrorCode::NotLeaderOrFollower },
            base_offset: rng.next() as i64,
            append_time_ms: rng.next() as i64,
            log_start_offset: rng.next() as i64,
            record_errors: rng.few(|rng| RecordError { batch_index: rng.i32(), message: rng.maybe_text() }),
            error_message: rng.maybe_text(),
            current_leader: rng.flip().then(|| CurrentLeader { id: rng.i32(), epoch: rng.i32() }),
        });
        let topic = match version >= 13 {
            true => TopicRef::Id(TopicId::new(rng.uuid())),
            false => TopicRef::Name(rng.text()),
        };
        ProduceTopicReply { topic, partitions }
    });
    let endpoints = rng.few(|rng| NodeEndpoint {
        id: rng.i32(),
        host: rng.text(),
        port: rng.i32(),
        rack: rng.maybe_text(),
    });
    ProduceReply { topics, throttle_ms: rng.i32(), endpoints }
}

/// How the crate's message names a topic.
fn named(version: i16, name: &TopicName, id: uuid::Uuid) -> TopicRef {
    match version >= 13 {
        true => TopicRef::Id(TopicId::new(*id.as_bytes())),
        false => TopicRef::Name(name.0.clone()),
    }
}

proptest! {
    #[test]
    fn requests_of_the_crate_are_read_back(seed: u64, version in 3_i16..=13) {
        let mut rng = Rng::new(seed);
        let sent = samples::produce(version, &mut rng);
        let frame = samples::frame(&sent.clone().into(), ApiKey::Produce, version, &mut rng);
        let (_, read) = decode(&frame).unwrap();
        prop_assert_eq!(read.transactional_id, sent.transactional_id.map(|id| id.0));
        prop_assert_eq!((read.acks, read.timeout_ms), (sent.acks, sent.timeout_ms));
        prop_assert_eq!(read.topics.len(), sent.topic_data.len());
        for (read, sent) in read.topics.iter().zip(&sent.topic_data) {
            prop_assert_eq!(&read.topic, &named(version, &sent.name, sent.topic_id));
            let sent: Vec<_> = sent.partition_data.iter().map(|p| (p.index, p.records.as_deref())).collect();
            let read: Vec<_> = read.partitions.iter().map(|p| (p.index, p.records.as_deref())).collect();
            prop_assert_eq!(read, sent);
        }
    }

    #[test]
    fn every_truncation_of_a_request_is_an_error(seed: u64, version in 3_i16..=13) {
        let mut rng = Rng::new(seed);
        let sent = samples::produce(version, &mut rng);
        let frame = samples::frame(&sent.into(), ApiKey::Produce, version, &mut rng);
        for length in 0..frame.len() {
            prop_assert!(decode(&BytesMut::from(&frame[..length])).is_err());
        }
        let mut longer = frame.clone();
        longer.put_u8(0);
        prop_assert_eq!(decode(&longer).unwrap_err(), DecodeError::TrailingBytes(1));
    }

    #[test]
    fn replies_are_read_back_by_the_crate(seed: u64, version in 3_i16..=13) {
        let sent = random_reply(version, &mut Rng::new(seed));
        let header = ReplyHeader { api: ApiKey::Produce, version, correlation: 77 };
        let bytes = encode_produce(header, &sent, &mut BytesMut::new()).unwrap();
        let (correlation, ResponseKind::Produce(read)) = read_reply(ApiKey::Produce, version, bytes) else {
            panic!("another api");
        };
        prop_assert_eq!((correlation, read.throttle_time_ms), (77, sent.throttle_ms));
        prop_assert_eq!(read.responses.len(), sent.topics.len());
        for (read, sent) in read.responses.iter().zip(&sent.topics) {
            prop_assert_eq!(&named(version, &read.name, read.topic_id), &sent.topic);
            prop_assert_eq!(read.partition_responses.len(), sent.partitions.len());
            for (read, sent) in read.partition_responses.iter().zip(&sent.partitions) {
                same_partition(version, read, sent)?;
            }
        }
        let endpoints = if version >= 10 { &sent.endpoints[..] } else { &[] };
        let read: Vec<_> = read.node_endpoints.iter().map(|e| (e.node_id.0, &e.host, e.port, &e.rack)).collect();
        let sent: Vec<_> = endpoints.iter().map(|e| (e.id, &e.host, e.port, &e.rack)).collect();
        prop_assert_eq!(read, sent);
    }
}

fn same_partition(
    version: i16,
    read: &kafka_protocol::messages::produce_response::PartitionProduceResponse,
    sent: &ProducePartitionReply,
) -> Result<(), TestCaseError> {
    prop_assert_eq!((read.index, read.error_code), (sent.index, sent.error.code()));
    prop_assert_eq!((read.base_offset, read.log_append_time_ms), (sent.base_offset, sent.append_time_ms));
    prop_assert_eq!(read.log_start_offset, if version >= 5 { sent.log_start_offset } else { -1 });
    if version >= 8 {
        prop_assert_eq!(&read.error_message, &sent.error_message);
        let read: Vec<_> =
            read.record_errors.iter().map(|e| (e.batch_index, &e.batch_index_error_message)).collect();
        let sent: Vec<_> = sent.record_errors.iter().map(|e| (e.batch_index, &e.message)).collect();
        prop_assert_eq!(read, sent);
    }
    let leader = sent.current_leader.filter(|_| version >= 10).map_or((-1, -1), |l| (l.id, l.epoch));
    prop_assert_eq!((read.current_leader.leader_id.0, read.current_leader.leader_epoch), leader);
    Ok(())
}

/// The frame of one topic with one partition in versions 0 to 2, which the crate does not know.
fn old_frame(version: i16, acks: i16, records: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i16(0);
    frame.put_i16(version);
    frame.put_i32(5);
    frame.put_i16(-1);
    if version >= 3 {
        frame.put_i16(-1);
    }
    frame.put_i16(acks);
    frame.put_i32(1000);
    frame.put_i32(1);
    frame.put_i16(1);
    frame.put_slice(b"t");
    frame.put_i32(1);
    frame.put_i32(3);
    frame.put_i32(records.len() as i32);
    frame.put_slice(records);
    frame
}

#[test]
fn batches_are_slices_of_the_frame_and_writable() {
    let frame = old_frame(3, -1, b"batch");
    let range = frame.as_ptr_range();
    let mut body = frame;
    let header = decode_header(&mut body).unwrap();
    let mut request = decode_produce(&header, body).unwrap();
    let records = request.topics[0].partitions[0].records.as_mut().unwrap();
    assert!(range.contains(&records.as_ptr()));
    records[0] = b'B';
    assert_eq!(&records[..], b"Batch");
}

#[test]
fn old_versions_are_decoded_and_refused_by_name() {
    for version in 0..=2 {
        let (header, request) = decode(&old_frame(version, 1, b"old")).unwrap();
        assert_eq!(request.topics[0].partitions[0].index, 3);
        let reply = request.refuse(ErrorCode::UnsupportedVersion);
        let bytes = encode_produce(header.reply(), &reply, &mut BytesMut::new()).unwrap();
        let mut want = vec![0, 0, 0, 5, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 3, 0, 35];
        want.extend_from_slice(&[0xff; 8]); // base offset
        if version >= 2 {
            want.extend_from_slice(&[0xff; 8]); // append time
        }
        if version >= 1 {
            want.extend_from_slice(&[0; 4]); // throttle
        }
        assert_eq!(bytes[..4], (want.len() as i32).to_be_bytes());
        assert_eq!(bytes[4..], want, "version {version}");
    }
}

#[test]
fn claims_beyond_the_frame_are_refused() {
    let whole = old_frame(3, -1, b"batch");
    for (at, what) in [(18, "topics"), (25, "partitions"), (33, "records")] {
        let mut frame = whole.clone();
        frame[at..at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
        let error = decode(&frame).unwrap_err();
        assert_eq!(error.kind(), "length_beyond_end", "{what}");
        frame[at..at + 4].copy_from_slice(&(-2_i32).to_be_bytes());
        assert_eq!(decode(&frame).unwrap_err(), DecodeError::NegativeLength(-2), "{what}");
    }
    let mut frame = whole.clone();
    frame[18..22].copy_from_slice(&(-1_i32).to_be_bytes());
    assert_eq!(decode(&frame).unwrap_err(), DecodeError::NullNotAllowed);
}

#[test]
fn the_item_cap_covers_all_arrays_of_a_request() {
    let mut frame = old_frame(3, -1, b"");
    frame.truncate(18);
    frame.put_i32(70_000);
    for _ in 0..70_000 {
        frame.put_i16(0);
        frame.put_i32(0);
    }
    assert_eq!(decode(&frame).unwrap_err(), DecodeError::TooManyItems { max: 1 << 16 });
}
