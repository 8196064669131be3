//! A Kafka produce request of version 9 (flexible), from a frame to its batches; and the reply to one.

use bytes::{Bytes, BytesMut};
use heddle_micro::{Case, Shape, in_chunk};
use heddle_net::kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use heddle_net::kafka::messages::{self, ProduceResponse, TopicName};
use heddle_net::kafka::produce::{ProducePartitionReply, ProduceTopicReply};
use heddle_net::kafka::{
    ApiKey, ProduceReply, ProduceRequest, ReplyHeader, RequestHeader, StrBytes, TopicRef, decode_header,
    decode_produce, encode_produce,
};
use kafka_protocol::protocol::{Decodable, Encodable};

const VERSION: i16 = 9;
const CORRELATION: i32 = 77;
const TOPIC: &str = "orders";

/// What a core begins a reply with: see `core/src/kafka/produce.rs`.
const SCRATCH_BYTES: usize = 128;

/// A request without its length, for these batches in partitions 0, 1, 2 and so on of one topic.
fn frame(batches: &[Bytes]) -> BytesMut {
    let header = messages::RequestHeader::default()
        .with_request_api_key(ApiKey::Produce as i16)
        .with_request_api_version(VERSION)
        .with_correlation_id(CORRELATION)
        .with_client_id(Some(StrBytes::from_static_str("producer-1")));
    let partitions = batches.iter().zip(0..).map(|(batch, index)| {
        PartitionProduceData::default().with_index(index).with_records(Some(batch.clone()))
    });
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
        .with_partition_data(partitions.collect());
    let request = messages::ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let mut out = BytesMut::new();
    header.encode(&mut out, ApiKey::Produce.request_header_version(VERSION)).expect("the header encodes");
    request.encode(&mut out, VERSION).expect("the request encodes");
    out
}

fn decode(mut frame: BytesMut) -> (RequestHeader, ProduceRequest) {
    let header = decode_header(&mut frame).expect("the header is sound");
    let request = decode_produce(&header, frame).expect("the request is sound");
    (header, request)
}

fn check_decoded(batches: &[Bytes], (header, request): (RequestHeader, ProduceRequest)) {
    assert_eq!((header.api, header.correlation, request.acks), (ApiKey::Produce, CORRELATION, -1));
    let [topic] = request.topics.as_slice() else { panic!("{} topics", request.topics.len()) };
    assert_eq!(topic.topic, TopicRef::from(TOPIC));
    let found: Vec<_> =
        topic.partitions.iter().map(|found| (found.index, found.records.as_deref())).collect();
    let sent: Vec<_> = (0..).zip(batches.iter().map(|batch| Some(&batch[..]))).collect();
    assert_eq!(found, sent);
}

/// One partition with one batch of so many records.
pub struct DecodeProduce {
    frame: BytesMut,
    batches: [Bytes; 1],
}

impl Case for DecodeProduce {
    type Input = BytesMut;
    type Output = (RequestHeader, ProduceRequest);

    fn new(shape: Shape) -> Self {
        let batches = [heddle_micro::batch(shape).freeze()];
        DecodeProduce { frame: frame(&batches), batches }
    }

    fn input(&self) -> BytesMut {
        in_chunk(&self.frame)
    }

    fn run(&self, frame: BytesMut) -> Self::Output {
        decode(frame)
    }

    fn check(&self, output: Self::Output) {
        check_decoded(&self.batches, output);
    }
}

/// So many partitions with one batch of one record each.
pub struct DecodePartitions {
    frame: BytesMut,
    batches: Vec<Bytes>,
}

impl Case for DecodePartitions {
    type Input = BytesMut;
    type Output = (RequestHeader, ProduceRequest);

    fn new(shape: Shape) -> Self {
        let batch = heddle_micro::batch(Shape { item_count: 1, ..shape }).freeze();
        let batches = vec![batch; shape.item_count];
        DecodePartitions { frame: frame(&batches), batches }
    }

    fn input(&self) -> BytesMut {
        in_chunk(&self.frame)
    }

    fn run(&self, frame: BytesMut) -> Self::Output {
        decode(frame)
    }

    fn check(&self, output: Self::Output) {
        check_decoded(&self.batches, output);
    }
}

/// The reply about so many partitions.
pub struct EncodeReply {
    reply: ProduceReply,
}

impl Case for EncodeReply {
    type Input = ();
    type Output = Bytes;

    fn new(shape: Shape) -> Self {
        let partitions = (0..shape.item_count as i32)
            .map(|index| ProducePartitionReply::appended(index, (1 << 40) + i64::from(index), -1, 5))
            .collect();
        let topic = ProduceTopicReply { topic: TopicRef::from(TOPIC), partitions };
        EncodeReply { reply: ProduceReply { topics: vec![topic], ..ProduceReply::default() } }
    }

    fn input(&self) {}

    fn run(&self, (): ()) -> Bytes {
        let header = ReplyHeader { api: ApiKey::Produce, version: VERSION, correlation: CORRELATION };
        let mut scratch = BytesMut::with_capacity(SCRATCH_BYTES);
        encode_produce(header, &self.reply, &mut scratch).expect("the reply encodes")
    }

    fn check(&self, output: Bytes) {
        let mut rest = output.slice(4..);
        let header_version = ApiKey::Produce.response_header_version(VERSION);
        let header =
            messages::ResponseHeader::decode(&mut rest, header_version).expect("the header is sound");
        let reply = ProduceResponse::decode(&mut rest, VERSION).expect("the reply is sound");
        assert_eq!((header.correlation_id, rest.len()), (CORRELATION, 0));
        assert_eq!(reply.responses.len(), 1);
        let told: Vec<_> = reply.responses[0]
            .partition_responses
            .iter()
            .map(|told| (told.index, told.base_offset, told.error_code))
            .collect();
        let meant: Vec<_> =
            self.reply.topics[0].partitions.iter().map(|meant| (meant.index, meant.base_offset, 0)).collect();
        assert_eq!(told, meant);
    }
}
