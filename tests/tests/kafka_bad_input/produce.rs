//! Record batches that are none, or not where they are sent to.

use bytes::Bytes;
use heddle_proto::batch::{BatchBuilder, Compression};
use heddle_proto::{ProducerEpoch, ProducerId, Sequence};
use heddle_tests::raw::{body_of, kafka_frame};
use heddle_tests::records;

use super::*;

/// A batch of one record, changed: see the positions of the fields in docs/wire-format.md.
pub fn changed(at: usize, byte: u8) -> Bytes {
    let mut batch = records::batch(&[b"value"]);
    batch[at] = byte;
    batch.freeze()
}

pub fn built(builder: BatchBuilder, key: Option<&[u8]>, value: &[u8]) -> Bytes {
    let mut builder = builder;
    builder.push(records::TIME, key, Some(value), &[]).unwrap();
    builder.build().unwrap().freeze()
}

pub fn produce(raw: &mut Raw, version: i16, name: &str, index: i32, batch: Option<Bytes>) -> (i16, i64) {
    produce_as(raw, (version, -1), None, name, index, batch)
}

pub fn produce_as(
    raw: &mut Raw,
    (version, acks): (i16, i16),
    transaction: Option<&str>,
    name: &str,
    index: i32,
    batch: Option<Bytes>,
) -> (i16, i64) {
    let request = request(acks, transaction, name, index, batch);
    let mut reply: ProduceResponse = raw.kafka(ApiKey::Produce, version, &request);
    let told = reply.responses.remove(0).partition_responses.remove(0);
    (told.error_code, told.base_offset)
}

fn request(
    acks: i16,
    transaction: Option<&str>,
    name: &str,
    index: i32,
    batch: Option<Bytes>,
) -> ProduceRequest {
    let partition = produce_request::PartitionProduceData::default().with_index(index).with_records(batch);
    let data = produce_request::TopicProduceData::default()
        .with_name(topic(name))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_transactional_id(transaction.map(|id| TransactionalId(words(id))))
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![data])
}

/// A client that sends `acks=0` takes whatever comes next for the reply to its next request, so a refusal can only be the
/// end of the connection.
#[test]
fn nothing_answers_a_produce_that_awaits_no_answer() {
    let (broker, mut raw) = broker();
    let batch = built(BatchBuilder::new(Compression::None), None, b"v");
    for (what, transaction, name, ends) in [
        ("a good one", None, "t", false),
        ("an unknown topic", None, "nobody", true),
        ("a transaction", Some("x"), "t", true),
    ] {
        let body = body_of(&request(0, transaction, name, 0, Some(batch.clone())), 9);
        let frame =
            kafka_frame(ApiKey::Produce as i16, 9, 1, &body, ApiKey::Produce.request_header_version(9));
        let mut connection = Raw::connect(broker.address());
        connection.send(&frame);
        match ends {
            true => assert!(connection.read_to_close().is_empty(), "{what}: a reply"),
            false => assert!(connection.is_silent(), "{what}: a reply, or the end"),
        }
    }
    let next = produce(&mut raw, 9, "t", 0, Some(batch));
    assert_eq!(next, (0, 1), "the good one is there, and nothing of the others");
}

#[test]
fn batches_that_are_none() {
    let (_broker, mut raw) = broker();
    let whole = records::one("whole");
    let plain = || BatchBuilder::new(Compression::None);
    let producer = |epoch: i16, sequence: i32| {
        plain().producer(ProducerId::new(900), ProducerEpoch::new(epoch), Sequence::new(sequence))
    };
    let cases: [(&str, &str, i32, Option<Bytes>, ErrorCode); 20] = [
        ("an unknown topic", "nobody", 0, Some(whole.clone()), UnknownTopicOrPartition),
        ("an unknown partition", "t", 2, Some(whole.clone()), UnknownTopicOrPartition),
        ("a negative partition", "t", -1, Some(whole.clone()), UnknownTopicOrPartition),
        ("an unknown partition before bad bytes", "t", 9, Some(changed(16, 0)), UnknownTopicOrPartition),
        ("an internal topic", "__consumer_offsets", 0, Some(whole.clone()), InvalidTopicException),
        ("no records", "t", 0, None, InvalidRecord),
        ("no batch", "t", 0, Some(Bytes::new()), InvalidRecord),
        ("half a batch", "t", 0, Some(whole.slice(..whole.len() - 1)), InvalidRecord),
        ("half a header", "t", 0, Some(whole.slice(..30)), InvalidRecord),
        ("two batches", "t", 0, Some([&whole[..], &whole].concat().into()), InvalidRecord),
        ("format 0", "t", 0, Some(changed(16, 0)), InvalidRecord),
        ("format 1", "t", 0, Some(changed(16, 1)), InvalidRecord),
        ("format 7", "t", 0, Some(changed(16, 7)), CorruptMessage),
        ("another checksum", "t", 0, Some(changed(17, 0xa5)), CorruptMessage),
        ("a batch that does not begin at 0", "t", 0, Some(changed(7, 3)), InvalidRecord),
        ("a control batch", "t", 0, Some(built(plain().control(), None, b"v")), InvalidRecord),
        ("a sequence below 0", "t", 0, Some(built(producer(0, -1), None, b"v")), InvalidRecord),
        ("a first sequence above 0", "t", 0, Some(built(producer(0, 5), None, b"v")), NONE),
        ("too large a batch", "t", 0, Some(built(plain(), None, &[b'x'; 3000])), MessageTooLarge),
        ("no key in a compacted topic", "compacted", 0, Some(whole.clone()), InvalidRecord),
    ];
    for (what, name, index, batch, code) in cases {
        let (found, offset) = produce(&mut raw, 9, name, index, batch);
        expect(what, [found], [code]);
        assert_eq!(offset, if code == NONE { 0 } else { -1 }, "{what}");
    }
    let zstd = built(BatchBuilder::new(Compression::Zstd), None, b"v");
    expect("zstd of old", [produce(&mut raw, 6, "t", 1, Some(zstd.clone())).0], [UnsupportedCompressionType]);
    expect("zstd", [produce(&mut raw, 7, "t", 1, Some(zstd)).0], [NONE]);
    for acks in [2, -2, 7, i16::MAX] {
        let found = produce_as(&mut raw, (9, acks), None, "t", 1, Some(whole.clone())).0;
        expect("acks", [found], [InvalidRequiredAcks]);
    }
    // No transaction of this id is known.
    let batch = built(producer(0, 0).transactional(), None, b"v");
    let found = produce_as(&mut raw, (9, -1), Some("nobody"), "t", 1, Some(batch)).0;
    expect("a transaction of nobody", [found], [InvalidProducerIdMapping]);
}
