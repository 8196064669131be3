//! Fetch against the crate: requests, replies, and batches that are sent without a copy.

use bytes::{Bytes, BytesMut};
use heddle_proto::error::ErrorCode;
use heddle_proto::ids::TopicId;
use heddle_samples::{self as samples, Rng, join, read_reply};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, ResponseKind, TopicName};
use proptest::prelude::*;

use crate::kafka::error::{DecodeError, EncodeError};
use crate::kafka::fetch::*;
use crate::kafka::produce::{CurrentLeader, NodeEndpoint};
use crate::kafka::{ReplyHeader, TopicRef, decode_header};

fn decode(frame: &BytesMut) -> Result<FetchRequest, DecodeError> {
    let mut body = frame.clone();
    let header = decode_header(&mut body)?;
    decode_fetch(&header, body)
}

fn random_reply(version: i16, rng: &mut Rng) -> FetchReply {
    let topics = rng.few(|rng| {
        let partitions = rng.few(|rng| FetchPartitionReply {
            index: rng.i32(),
            error: if rng.flip() { ErrorCode::None } else { ErrorCode::OffsetOutOfRange },
            high_watermark: rng.next() as i64,
            last_stable_offset: rng.next() as i64,
            log_start_offset: rng.next() as i64,
            aborted: rng.flip().then(|| {
                rng.few(|rng| AbortedTransaction {
                    producer_id: rng.next() as i64,
                    first_offset: rng.next() as i64,
                })
            }),
            preferred_read_replica: rng.i32(),
            diverging: rng.flip().then(|| EpochEnd { epoch: rng.i32(), end_offset: rng.next() as i64 }),
            current_leader: rng.flip().then(|| CurrentLeader { id: rng.i32(), epoch: rng.i32() }),
            records: rng.few(Rng::bytes),
        });
        FetchTopicReply { topic: random_topic(version, rng), partitions }
    });
    let endpoints = rng.few(|rng| NodeEndpoint {
        id: rng.i32(),
        host: rng.text(),
        port: rng.i32(),
        rack: rng.maybe_text(),
    });
    FetchReply { throttle_ms: rng.i32(), error: ErrorCode::None, session_id: rng.i32(), topics, endpoints }
}

/// A topic named as `version` does it.
fn random_topic(version: i16, rng: &mut Rng) -> TopicRef {
    match version >= 13 {
        true => TopicRef::Id(TopicId::new(rng.uuid())),
        false => TopicRef::Name(rng.text()),
    }
}

/// How the crate's message names a topic.
fn named(version: i16, name: &TopicName, id: uuid::Uuid) -> TopicRef {
    match version >= 13 {
        true => TopicRef::Id(TopicId::new(*id.as_bytes())),
        false => TopicRef::Name(name.0.clone()),
    }
}

fn header(version: i16) -> ReplyHeader {
    ReplyHeader { api: ApiKey::Fetch, version, correlation: -9 }
}

proptest! {
    #[test]
    fn requests_of_the_crate_are_read_back(seed: u64, version in 4_i16..=18) {
        let mut rng = Rng::new(seed);
        let sent = samples::fetch(version, &mut rng);
        let read = decode(&samples::frame(&sent.clone().into(), ApiKey::Fetch, version, &mut rng)).unwrap();
        let replica_id = if version >= 15 { sent.replica_state.replica_id.0 } else { sent.replica_id.0 };
        prop_assert_eq!(
            (read.replica_id, read.wait_max_ms, read.bytes_min, read.bytes_max, read.isolation_level),
            (replica_id, sent.max_wait_ms, sent.min_bytes, sent.max_bytes, sent.isolation_level)
        );
        prop_assert_eq!((read.session_id, read.session_epoch), (sent.session_id, sent.session_epoch));
        prop_assert_eq!(read.rack_id, sent.rack_id);
        let topics: Vec<_> = sent.topics.into_iter().map(|topic| FetchTopic {
            topic: named(version, &topic.topic, topic.topic_id),
            partitions: topic.partitions.into_iter().map(|p| FetchPartition {
                index: p.partition,
                current_leader_epoch: p.current_leader_epoch,
                fetch_offset: p.fetch_offset,
                last_fetched_epoch: p.last_fetched_epoch,
                log_start_offset: p.log_start_offset,
                bytes_max: p.partition_max_bytes,
            }).collect(),
        }).collect();
        prop_assert_eq!(read.topics, topics);
        let forgotten: Vec<_> = sent.forgotten_topics_data.into_iter()
            .map(|topic| ForgottenTopic {
                topic: named(version, &topic.topic, topic.topic_id),
                partitions: topic.partitions,
            })
            .collect();
        prop_assert_eq!(read.forgotten, forgotten);
    }

    #[test]
    fn every_truncation_of_a_request_is_an_error(seed: u64, version in 4_i16..=18) {
        let mut rng = Rng::new(seed);
        let sent = samples::fetch(version, &mut rng);
        let frame = samples::frame(&sent.into(), ApiKey::Fetch, version, &mut rng);
        for length in 0..frame.len() {
            prop_assert!(decode(&BytesMut::from(&frame[..length])).is_err());
        }
    }

    #[test]
    fn replies_are_read_back_by_the_crate(seed: u64, version in 4_i16..=18) {
        let sent = random_reply(version, &mut Rng::new(seed));
        let chunks = encode_fetch(header(version), sent.clone(), &mut BytesMut::new()).unwrap();
        prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
        let (correlation, ResponseKind::Fetch(read)) = read_reply(ApiKey::Fetch, version, join(&chunks)) else {
            panic!("another api");
        };
        prop_assert_eq!((correlation, read.throttle_time_ms), (-9, sent.throttle_ms));
        prop_assert_eq!(read.session_id, if version >= 7 { sent.session_id } else { 0 });
        prop_assert_eq!(read.responses.len(), sent.topics.len());
        for (read, sent) in read.responses.iter().zip(&sent.topics) {
            prop_assert_eq!(&named(version, &read.topic, read.topic_id), &sent.topic);
            prop_assert_eq!(read.partitions.len(), sent.partitions.len());
            for (read, sent) in read.partitions.iter().zip(&sent.partitions) {
                same_partition(version, read, sent)?;
            }
        }
        let endpoints = if version >= 16 { &sent.endpoints[..] } else { &[] };
        let read: Vec<_> = read.node_endpoints.iter().map(|e| (e.node_id.0, &e.host, e.port, &e.rack)).collect();
        let sent: Vec<_> = endpoints.iter().map(|e| (e.id, &e.host, e.port, &e.rack)).collect();
        prop_assert_eq!(read, sent);
    }
}

fn same_partition(
    version: i16,
    read: &PartitionData,
    sent: &FetchPartitionReply,
) -> Result<(), TestCaseError> {
    prop_assert_eq!((read.partition_index, read.error_code), (sent.index, sent.error.code()));
    prop_assert_eq!(
        (read.high_watermark, read.last_stable_offset),
        (sent.high_watermark, sent.last_stable_offset)
    );
    prop_assert_eq!(read.log_start_offset, if version >= 5 { sent.log_start_offset } else { -1 });
    let aborted = read.aborted_transactions.as_ref().map(|all| {
        let all = all.iter();
        all.map(|a| AbortedTransaction { producer_id: a.producer_id.0, first_offset: a.first_offset })
            .collect()
    });
    prop_assert_eq!(&aborted, &sent.aborted);
    prop_assert_eq!(
        read.preferred_read_replica.0,
        if version >= 11 { sent.preferred_read_replica } else { -1 }
    );
    let leader = sent.current_leader.filter(|_| version >= 12).map_or((-1, -1), |l| (l.id, l.epoch));
    prop_assert_eq!((read.current_leader.leader_id.0, read.current_leader.leader_epoch), leader);
    let diverging = sent.diverging.filter(|_| version >= 12).map_or((-1, -1), |d| (d.epoch, d.end_offset));
    prop_assert_eq!((read.diverging_epoch.epoch, read.diverging_epoch.end_offset), diverging);
    prop_assert_eq!(read.records.as_ref(), Some(&join(&sent.records)));
    Ok(())
}

#[test]
fn batches_are_sent_from_where_they_lie() {
    let batch = Bytes::from(vec![7_u8; 5000]);
    let partition = FetchPartitionReply::read(0, 10, 0, vec![batch.clone(), batch.clone()]);
    let mut scratch = BytesMut::with_capacity(4096);
    for version in FETCH_VERSION_MIN..=FETCH_VERSION_MAX {
        let topic = random_topic(version, &mut Rng::new(1));
        let topics = vec![FetchTopicReply { topic, partitions: vec![partition.clone()] }];
        let reply = FetchReply { topics, ..FetchReply::default() };
        let chunks = encode_fetch(header(version), reply, &mut scratch).unwrap();
        assert_eq!(chunks.iter().filter(|chunk| chunk.as_ptr() == batch.as_ptr()).count(), 2);
        let elsewhere: usize =
            chunks.iter().filter(|chunk| chunk.as_ptr() != batch.as_ptr()).map(Bytes::len).sum();
        assert!(elsewhere < 100, "{elsewhere} bytes beside the batches");
    }
}

#[test]
fn a_refusal_is_told_in_every_version() {
    let mut rng = Rng::new(11);
    for version in FETCH_VERSION_MIN..=FETCH_VERSION_MAX {
        let request = samples::fetch(version, &mut rng);
        let partition_count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let frame = samples::frame(&request.into(), ApiKey::Fetch, version, &mut rng);
        let reply = decode(&frame).unwrap().refuse(ErrorCode::UnknownServerError);
        let chunks = encode_fetch(header(version), reply, &mut BytesMut::new()).unwrap();
        let (_, ResponseKind::Fetch(read)) = read_reply(ApiKey::Fetch, version, join(&chunks)) else {
            panic!("another api");
        };
        assert_eq!(read.error_code, if version >= 7 { -1 } else { 0 });
        let told = read.responses.iter().flat_map(|topic| &topic.partitions).filter(|p| p.error_code == -1);
        assert_eq!(told.count(), partition_count);
    }
}

#[test]
fn a_reply_beyond_the_length_field_is_refused() {
    let batch = Bytes::from(vec![0_u8; 1 << 20]);
    let partition = |index| FetchPartitionReply::read(index, 0, 0, vec![batch.clone(); 1024]);
    let partitions = vec![partition(0), partition(1)];
    let topics = vec![FetchTopicReply { topic: "t".into(), partitions }];
    let reply = FetchReply { topics, ..FetchReply::default() };
    let error = encode_fetch(header(12), reply, &mut BytesMut::new()).unwrap_err();
    assert!(matches!(error, EncodeError::TooLong(bytes) if bytes > i32::MAX as usize));
}

#[test]
fn a_topic_named_in_the_other_way_is_refused() {
    let topics = |topic| vec![FetchTopicReply { topic, partitions: Vec::new() }];
    for (version, topic) in [(12, TopicRef::Id(TopicId::ZERO)), (13, TopicRef::from("t"))] {
        let reply = FetchReply { topics: topics(topic), ..FetchReply::default() };
        let error = encode_fetch(header(version), reply, &mut BytesMut::new()).unwrap_err();
        assert_eq!(error, EncodeError::TopicForm { version });
    }
}
