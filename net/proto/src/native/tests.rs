//! Round trips of every message, and refusal of damaged headers.

use bytes::BytesMut;

use super::*;
use crate::error::ErrorCode;
use crate::ids::*;
use crate::limits::{FRAME_BYTES_MAX, REQUEST_HEADER_BYTES_MAX};
use crate::samples::{replies, requests, topic};

fn encoded_request(request: &Request) -> BytesMut {
    let mut out = BytesMut::new();
    encode_request(7, request, &mut out, 0).unwrap();
    out
}

fn header_of(frame: &[u8]) -> &[u8] {
    split_frame_ref(&frame[FRAME_LENGTH_BYTES..]).unwrap().0
}

#[test]
fn generated_code_belongs_to_the_schema() {
    let schema_crc = crate::crc::crc32c(include_bytes!("../../schema/native.fbs"));
    let first_line = include_str!("generated.rs").lines().next().unwrap();
    assert!(
        first_line.contains(&format!("{schema_crc:08x}")),
        "run `cargo run -p heddle-proto --features codegen --example generate-native`"
    );
}

#[test]
fn every_request_round_trips() {
    let mut encoder = Encoder::new();
    for (correlation, request) in (1..).zip(requests()) {
        let mut out = BytesMut::new();
        encoder.request(correlation, &request, &mut out, 0).unwrap();
        let lengths = frame_lengths(out.first_chunk().unwrap()).unwrap();
        assert_eq!(lengths.frame_bytes as usize + FRAME_LENGTH_BYTES, out.len());
        assert_eq!(decode_request(header_of(&out)), Ok((correlation, request)));
    }
}

#[test]
fn every_reply_round_trips() {
    let mut encoder = Encoder::new();
    for (correlation, reply) in (1..).zip(replies()) {
        let mut out = BytesMut::new();
        encoder.reply(correlation, &reply, &mut out, 0).unwrap();
        assert_eq!(decode_reply(header_of(&out)), Ok((correlation, reply)));
    }
}

#[test]
fn every_kind_of_message_has_a_sample() {
    use super::generated::heddle::native::{ReplyBody, RequestBody};
    let kinds = |count: u8| (1..=count).collect::<Vec<_>>();
    let mut seen: Vec<_> = requests().iter().map(request_kind).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, kinds(RequestBody::ENUM_MAX));
    let mut seen: Vec<_> = replies().iter().map(reply_kind).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, kinds(ReplyBody::ENUM_MAX));
}

fn request_kind(request: &Request) -> u8 {
    encode_request::body(&mut flatbuffers::FlatBufferBuilder::new(), request).0.0
}

fn reply_kind(reply: &Reply) -> u8 {
    encode_reply::body(&mut flatbuffers::FlatBufferBuilder::new(), reply).0.0
}

#[test]
fn payload_counts_as_part_of_the_frame() {
    let request =
        Request::Produce { topic: topic(), partition: PartitionIndex::new(3), epoch: Epoch::NONE, acks: -1 };
    let mut out = BytesMut::new();
    encode_request(1, &request, &mut out, 1000).unwrap();
    let lengths = frame_lengths(out.first_chunk().unwrap()).unwrap();
    assert_eq!(lengths.payload_bytes(), 1000);
    assert_eq!(lengths.frame_bytes as usize + FRAME_LENGTH_BYTES, out.len() + 1000);
    assert_eq!(lengths.header_bytes as usize, out.len() - FRAME_PREFIX_BYTES);
}

#[test]
fn frames_above_the_limits_are_not_written() {
    let mut out = BytesMut::new();
    let request = Request::ClusterStatus {};
    for payload_bytes in [FRAME_BYTES_MAX, usize::MAX] {
        let refused = encode_request(1, &request, &mut out, payload_bytes);
        assert!(matches!(refused, Err(NativeError::FrameTooLarge { .. })));
    }
    let name = "n".repeat(REQUEST_HEADER_BYTES_MAX);
    let refused = encode_request(1, &Request::DeleteTopic { name }, &mut out, 0);
    assert!(matches!(refused, Err(NativeError::HeaderTooLarge { .. })));
    assert!(out.is_empty());
}

#[test]
fn an_encoder_is_as_good_after_a_refusal() {
    let mut encoder = Encoder::new();
    let mut out = BytesMut::new();
    let name = "n".repeat(REQUEST_HEADER_BYTES_MAX);
    encoder.request(1, &Request::DeleteTopic { name }, &mut out, 0).unwrap_err();
    encoder.request(2, &Request::ClusterStatus {}, &mut out, 0).unwrap();
    assert_eq!(out, {
        let mut fresh = BytesMut::new();
        encode_request(2, &Request::ClusterStatus {}, &mut fresh, 0).unwrap();
        fresh
    });
}

#[test]
fn a_header_of_another_root_or_alignment_is_judged_by_its_content() {
    let out = encoded_request(&Request::Unsubscribe { subscription: 5 });
    let header = header_of(&out);
    // The reader must not depend on where in memory the header lies.
    for shift in 0..8 {
        let mut shifted = vec![0; shift];
        shifted.extend_from_slice(header);
        assert_eq!(decode_request(&shifted[shift..]), Ok((7, Request::Unsubscribe { subscription: 5 })));
    }
}

#[test]
fn truncated_headers_are_refused() {
    for request in requests() {
        let out = encoded_request(&request);
        let header = header_of(&out);
        for cut in 0..header.len() {
            // A string may end with padding that nothing refers to; cutting that changes nothing.
            if let Ok((_, decoded)) = decode_request(&header[..cut]) {
                assert_eq!(decoded, request);
                assert!(cut + 8 > header.len(), "cut to {cut} of {}", header.len());
            }
        }
    }
}

#[test]
fn an_unknown_message_tells_its_correlation() {
    use super::generated::heddle::native as fb;
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let empty = fb::InitProducerRequest::create(&mut builder, &fb::InitProducerRequestArgs {});
    let args = fb::RequestHeaderArgs {
        correlation: 99,
        body_type: fb::RequestBody(200),
        body: Some(empty.as_union_value()),
    };
    let root = fb::RequestHeader::create(&mut builder, &args);
    builder.finish_minimal(root);
    let error = decode_request(builder.finished_data()).unwrap_err();
    assert_eq!(error, NativeError::UnknownMessage { correlation: 99, kind: 200 });
    assert_eq!((error.correlation(), error.code()), (Some(99), ErrorCode::UnsupportedVersion));
}

#[test]
fn an_unknown_start_is_refused() {
    use super::generated::heddle::native as fb;
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let args = fb::ListOffsetsRequestArgs {
        topic: Some(&fb::Uuid([1; 16])),
        partition: 0,
        at: Some(&fb::StartFrom::new(fb::StartKind(9), 0)),
    };
    let body = fb::ListOffsetsRequest::create(&mut builder, &args).as_union_value();
    let args = fb::RequestHeaderArgs {
        correlation: 1,
        body_type: fb::RequestBody::ListOffsetsRequest,
        body: Some(body),
    };
    let root = fb::RequestHeader::create(&mut builder, &args);
    builder.finish_minimal(root);
    let refused = decode_request(builder.finished_data());
    assert_eq!(refused, Err(NativeError::OutOfRange { field: "start kind", value: 9 }));
}

#[test]
fn shared_tables_cannot_blow_up_a_header() {
    use super::generated::heddle::native as fb;
    // One topic of a thousand partitions, named ten thousand times.
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let partition = fb::PartitionInfo::create(&mut builder, &fb::PartitionInfoArgs::default());
    let partitions = builder.create_vector(&vec![partition; 1_000]);
    let args = fb::TopicInfoArgs { partitions: Some(partitions), ..Default::default() };
    let topic = fb::TopicInfo::create(&mut builder, &args);
    let topics = builder.create_vector(&vec![topic; 10_000]);
    let args = fb::MetadataReplyArgs { topics: Some(topics), ..Default::default() };
    let body = fb::MetadataReply::create(&mut builder, &args).as_union_value();
    let args =
        fb::ReplyHeaderArgs { correlation: 1, body_type: fb::ReplyBody::MetadataReply, body: Some(body) };
    let root = fb::ReplyHeader::create(&mut builder, &args);
    builder.finish_minimal(root);
    assert!(builder.finished_data().len() < 50_000);
    assert!(matches!(decode_reply(builder.finished_data()), Err(NativeError::Invalid(_))));
}

#[test]
fn metadata_of_a_hundred_thousand_partitions_fits() {
    let partition = |index| PartitionInfo {
        partition: PartitionIndex::new(index),
        broker: 1003,
        epoch: Epoch::new(1_000_000),
        error: ErrorCode::None,
    };
    let topic = |index: u32| TopicInfo {
        error: ErrorCode::None,
        name: format!("a-topic-with-a-name-of-some-length-{index}"),
        id: topic(),
        partitions: (0..1_000).map(partition).collect(),
    };
    let reply = Reply::Metadata { brokers: Vec::new(), topics: (0..100).map(topic).collect() };
    let mut out = BytesMut::new();
    encode_reply(1, &reply, &mut out, 0).unwrap();
    assert!(decode_reply(header_of(&out)) == Ok((1, reply)), "a hundred thousand partitions changed");
}
