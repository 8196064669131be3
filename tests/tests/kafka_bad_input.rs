//! Kafka requests whose fields are missing, out of range, repeated or contradictory: each is answered with the code that
//! Kafka answers, and nothing of it is done.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::option::Option::None;

use bytes::Bytes;
use heddle_proto::ErrorCode::{self, *};
use heddle_proto::batch::{BatchBuilder, Compression};
use heddle_proto::{ProducerEpoch, ProducerId, Sequence};
use heddle_tests::broker::{Broker, BrokerOptions};
use heddle_tests::raw::Raw;
use heddle_tests::{kafka, records, wait};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

const NONE: ErrorCode = ErrorCode::None;

/// A topic with two partitions, one that is compacted, and the topics that groups and transactions are kept in.
fn broker() -> (Broker, Raw) {
    let broker = Broker::start(BrokerOptions::new().cores(1));
    kafka::create(&broker.bootstrap(), "t", 2, &[("max.message.bytes", "2000")]);
    kafka::create(&broker.bootstrap(), "compacted", 1, &[("cleanup.policy", "compact")]);
    let mut raw = Raw::connect(broker.address());
    for (key_type, key) in [(0, "g"), (1, "x")] {
        wait::until("a coordinator", || (find_coordinator(&mut raw, key_type, key) == 0).then_some(()));
    }
    (broker, raw)
}

fn words(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(text: &str) -> TopicName {
    TopicName(words(text))
}

/// Compares codes by name, so that a failure can be read.
#[track_caller]
fn expect(what: &str, found: impl AsRef<[i16]>, wanted: impl AsRef<[ErrorCode]>) {
    let name = |code: &i16| ErrorCode::from_code(*code).map_or("no code of Kafka's", ErrorCode::name);
    let found: Vec<&str> = found.as_ref().iter().map(name).collect();
    let wanted: Vec<&str> = wanted.as_ref().iter().map(|code| code.name()).collect();
    assert_eq!(found, wanted, "{what}");
}

fn find_coordinator(raw: &mut Raw, key_type: i8, key: &str) -> i16 {
    let request =
        FindCoordinatorRequest::default().with_key_type(key_type).with_coordinator_keys(vec![words(key)]);
    let reply: FindCoordinatorResponse = raw.kafka(ApiKey::FindCoordinator, 4, &request);
    reply.coordinators[0].error_code
}

/// The id of a topic.
fn topic_id(raw: &mut Raw, name: &str) -> uuid::Uuid {
    let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(topic(name)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let reply: MetadataResponse = raw.kafka(ApiKey::Metadata, 12, &request);
    reply.topics[0].topic_id
}

use create_topics_request::{CreatableTopic, CreatableTopicConfig};

fn new_topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
}

fn with_config(name: &str, setting: &str, value: Option<&str>) -> CreatableTopic {
    let config = CreatableTopicConfig::default().with_name(words(setting)).with_value(value.map(words));
    new_topic(name, 1, 1).with_configs(vec![config])
}

fn create_topics(raw: &mut Raw, topics: &[CreatableTopic]) -> Vec<i16> {
    let request = CreateTopicsRequest::default().with_topics(topics.to_vec()).with_timeout_ms(30_000);
    let reply: CreateTopicsResponse = raw.kafka(ApiKey::CreateTopics, 7, &request);
    reply.topics.iter().map(|topic| topic.error_code).collect()
}

#[test]
fn topics_that_cannot_be_created() {
    let (_broker, mut raw) = broker();
    let cases = [
        (new_topic("n", 0, 1), InvalidPartitions),
        (new_topic("n", -2, 1), InvalidPartitions),
        (new_topic("n", i32::MIN, 1), InvalidPartitions),
        (new_topic("n", 1, 0), InvalidReplicationFactor),
        (new_topic("n", 1, -2), InvalidReplicationFactor),
        (new_topic("n", 1, 5), InvalidReplicationFactor),
        (new_topic("", 1, 1), InvalidTopicException),
        (new_topic(".", 1, 1), InvalidTopicException),
        (new_topic("a/b", 1, 1), InvalidTopicException),
        (new_topic(&"x".repeat(250), 1, 1), InvalidTopicException),
        (new_topic("t", 1, 1), TopicAlreadyExists),
        (with_config("n", "no.such.setting", Some("1")), InvalidConfig),
        (with_config("n", "retention.ms", Some("soon")), InvalidConfig),
        (with_config("n", "retention.ms", None), InvalidConfig),
    ];
    for (wanted, code) in cases {
        expect(&format!("{wanted:?}"), create_topics(&mut raw, &[wanted]), [code]);
    }
    let twice = [new_topic("n", 1, 1), new_topic("m", -5, 1), new_topic("n", 2, 1)];
    expect("twice", create_topics(&mut raw, &twice), [InvalidRequest, InvalidPartitions, InvalidRequest]);
    // Nothing of all this is there.
    let reply: MetadataResponse =
        raw.kafka(ApiKey::Metadata, 12, &MetadataRequest::default().with_topics(None));
    let names: Vec<&str> =
        reply.topics.iter().filter_map(|topic| topic.name.as_deref()).map(|n| &**n).collect();
    assert_eq!(names, ["__consumer_offsets", "__transaction_state", "compacted", "t"]);
}

#[test]
fn topics_that_cannot_be_deleted_or_grown() {
    use create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
    use delete_topics_request::DeleteTopicState;
    let (broker, mut raw) = broker();
    let grow = |raw: &mut Raw, name: &str, count: i32, assigned: Option<Vec<Vec<i32>>>| {
        let assignments = assigned.map(|partitions| {
            let brokers = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
            let one = |ids| CreatePartitionsAssignment::default().with_broker_ids(brokers(ids));
            partitions.into_iter().map(one).collect()
        });
        let wanted = CreatePartitionsTopic::default()
            .with_name(topic(name))
            .with_count(count)
            .with_assignments(assignments);
        let request = CreatePartitionsRequest::default().with_topics(vec![wanted]).with_timeout_ms(30_000);
        let reply: CreatePartitionsResponse = raw.kafka(ApiKey::CreatePartitions, 3, &request);
        [reply.results[0].error_code]
    };
    let cases = [
        ("nobody", 5, None, UnknownTopicOrPartition),
        ("t", 2, None, InvalidPartitions),
        ("t", 1, None, InvalidPartitions),
        ("t", 0, None, InvalidPartitions),
        ("t", -1, None, InvalidPartitions),
        ("t", 4, Some(vec![vec![1000]]), InvalidReplicaAssignment),
        ("t", 3, Some(vec![vec![77_777]]), InvalidReplicaAssignment),
        ("t", 3, Some(vec![vec![]]), InvalidReplicaAssignment),
    ];
    for (name, count, assigned, code) in cases {
        let what = format!("{name} to {count} with {assigned:?}");
        expect(&what, grow(&mut raw, name, count, assigned), [code]);
    }

    kafka::create(&broker.bootstrap(), "d", 1, &[]);
    let id = topic_id(&mut raw, "d");
    let by_name = |name: &str| DeleteTopicState::default().with_name(Some(topic(name)));
    let by_id = |id: uuid::Uuid| DeleteTopicState::default().with_name(None).with_topic_id(id);
    let delete = |raw: &mut Raw, states: &[DeleteTopicState]| -> Vec<i16> {
        let request = DeleteTopicsRequest::default().with_topics(states.to_vec()).with_timeout_ms(30_000);
        let reply: DeleteTopicsResponse = raw.kafka(ApiKey::DeleteTopics, 6, &request);
        reply.responses.iter().map(|response| response.error_code).collect()
    };
    expect("nobody", delete(&mut raw, &[by_name("nobody")]), [UnknownTopicOrPartition]);
    expect("no id", delete(&mut raw, &[by_id(uuid::Uuid::from_u128(9))]), [UnknownTopicId]);
    expect("neither", delete(&mut raw, &[by_id(uuid::Uuid::nil())]), [InvalidRequest]);
    expect("both", delete(&mut raw, &[by_name("d").with_topic_id(id)]), [InvalidRequest]);
    expect("name twice", delete(&mut raw, &[by_name("d"), by_name("d")]), [InvalidRequest; 2]);
    expect("id twice", delete(&mut raw, &[by_id(id), by_id(id)]), [InvalidRequest; 2]);
    expect("name and id", delete(&mut raw, &[by_name("d"), by_id(id)]), [InvalidRequest; 2]);
    assert_eq!(topic_id(&mut raw, "d"), id, "it is still there");
}

/// A batch of one record, changed: see the positions of the fields in docs/wire-format.md.
fn changed(at: usize, byte: u8) -> Bytes {
    let mut batch = records::batch(&[b"value"]);
    batch[at] = byte;
    batch.freeze()
}

fn built(builder: BatchBuilder, key: Option<&[u8]>, value: &[u8]) -> Bytes {
    let mut builder = builder;
    builder.push(records::TIME, key, Some(value), &[]).unwrap();
    builder.build().unwrap().freeze()
}

fn produce(raw: &mut Raw, version: i16, name: &str, index: i32, batch: Option<Bytes>) -> (i16, i64) {
    produce_as(raw, (version, -1), None, name, index, batch)
}

fn produce_as(
    raw: &mut Raw,
    (version, acks): (i16, i16),
    transaction: Option<&str>,
    name: &str,
    index: i32,
    batch: Option<Bytes>,
) -> (i16, i64) {
    let partition = produce_request::PartitionProduceData::default().with_index(index).with_records(batch);
    let data = produce_request::TopicProduceData::default()
        .with_name(topic(name))
        .with_partition_data(vec![partition]);
    let request = ProduceRequest::default()
        .with_transactional_id(transaction.map(|id| TransactionalId(words(id))))
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![data]);
    let mut reply: ProduceResponse = raw.kafka(ApiKey::Produce, version, &request);
    let told = reply.responses.remove(0).partition_responses.remove(0);
    (told.error_code, told.base_offset)
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

#[derive(Clone)]
struct Fetch {
    session: (i32, i32),
    index: i32,
    offset: i64,
    epoch: i32,
    bytes_max: (i32, i32),
}

impl Default for Fetch {
    fn default() -> Fetch {
        Fetch { session: (0, -1), index: 0, offset: 0, epoch: -1, bytes_max: (1 << 20, 1 << 20) }
    }
}

/// The error of the request, that of the partition, and how many bytes came.
fn fetch(raw: &mut Raw, name: &str, ask: &Fetch) -> (i16, Option<i16>, usize) {
    let partition = fetch_request::FetchPartition::default()
        .with_partition(ask.index)
        .with_fetch_offset(ask.offset)
        .with_current_leader_epoch(ask.epoch)
        .with_partition_max_bytes(ask.bytes_max.1);
    let asked = fetch_request::FetchTopic::default().with_topic(topic(name)).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(-5)
        .with_min_bytes(-1)
        .with_max_bytes(ask.bytes_max.0)
        .with_session_id(ask.session.0)
        .with_session_epoch(ask.session.1)
        .with_topics(vec![asked]);
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &request);
    let told = reply.responses.first().map(|topic| &topic.partitions[0]);
    let bytes = told.and_then(|told| told.records.as_ref()).map_or(0, Bytes::len);
    (reply.error_code, told.map(|told| told.error_code), bytes)
}

#[test]
fn fetches_of_what_is_not_there() {
    let (_broker, mut raw) = broker();
    let batch = records::one("value");
    let length = batch.len();
    assert_eq!(produce(&mut raw, 9, "t", 0, Some(batch)), (0, 0));
    let ask = Fetch::default;
    let partitions = [
        ("nobody", ask(), UnknownTopicOrPartition),
        ("t", Fetch { index: 2, ..ask() }, UnknownTopicOrPartition),
        ("t", Fetch { index: -1, ..ask() }, UnknownTopicOrPartition),
        ("t", Fetch { index: i32::MIN, ..ask() }, UnknownTopicOrPartition),
        ("t", Fetch { offset: -1, ..ask() }, OffsetOutOfRange),
        ("t", Fetch { offset: 2, ..ask() }, OffsetOutOfRange),
        ("t", Fetch { offset: i64::MAX, ..ask() }, OffsetOutOfRange),
        ("t", Fetch { epoch: 40, ..ask() }, UnknownLeaderEpoch),
    ];
    for (name, asked, code) in partitions {
        let (whole, partition, bytes) = fetch(&mut raw, name, &asked);
        let what = format!("{name}/{} from {}", asked.index, asked.offset);
        expect(&what, [whole, partition.unwrap()], [NONE, code]);
        assert_eq!(bytes, 0);
    }
    // Sizes below 0 are no error: the first batch comes all the same, so that a reader gets on.
    for bytes_max in [(-1, 1 << 20), (1 << 20, -1), (i32::MIN, i32::MIN), (0, 0), (1, 1)] {
        let (whole, partition, bytes) = fetch(&mut raw, "t", &Fetch { bytes_max, ..ask() });
        expect("sizes", [whole, partition.unwrap()], [NONE; 2]);
        assert!(bytes == length || bytes == 0, "{bytes_max:?}: {bytes} bytes");
    }
    for (session, code) in [
        ((77, 1), FetchSessionIdNotFound),
        ((0, 1), FetchSessionIdNotFound),
        ((-3, 5), FetchSessionIdNotFound),
        ((77, -5), FetchSessionIdNotFound),
    ] {
        let (whole, partition, _) = fetch(&mut raw, "t", &Fetch { session, ..ask() });
        expect(&format!("session {session:?}"), [whole], [code]);
        assert_eq!(partition, None);
    }
    // A session that is there, in another epoch.
    let request = |session: (i32, i32)| {
        let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(1 << 20);
        let asked =
            fetch_request::FetchTopic::default().with_topic(topic("t")).with_partitions(vec![partition]);
        FetchRequest::default()
            .with_max_bytes(1 << 20)
            .with_session_id(session.0)
            .with_session_epoch(session.1)
            .with_topics(vec![asked])
    };
    let opened: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &request((0, 0)));
    assert!(opened.session_id > 0);
    for epoch in [2, 9, -7, i32::MIN] {
        let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &request((opened.session_id, epoch)));
        expect(&format!("epoch {epoch}"), [reply.error_code], [InvalidFetchSessionEpoch]);
    }
}

#[test]
fn offsets_and_records_that_are_not_there() {
    let (_broker, mut raw) = broker();
    assert_eq!(produce(&mut raw, 9, "t", 0, Some(records::one("value"))), (0, 0));
    let delete = |raw: &mut Raw, name: &str, index: i32, offset: i64| {
        let partition = delete_records_request::DeleteRecordsPartition::default()
            .with_partition_index(index)
            .with_offset(offset);
        let asked = delete_records_request::DeleteRecordsTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
        let reply: DeleteRecordsResponse = raw.kafka(ApiKey::DeleteRecords, 2, &request);
        [reply.topics[0].partitions[0].error_code]
    };
    for (name, index, offset, code) in [
        ("t", 0, 2, OffsetOutOfRange),
        ("t", 0, i64::MAX, OffsetOutOfRange),
        ("t", 0, -2, OffsetOutOfRange),
        ("t", 7, 0, UnknownTopicOrPartition),
        ("t", -1, 0, UnknownTopicOrPartition),
        ("nobody", 0, 0, UnknownTopicOrPartition),
        ("compacted", 0, 0, PolicyViolation),
        ("__consumer_offsets", 0, 0, InvalidTopicException),
    ] {
        let what = format!("delete {name}/{index} up to {offset}");
        expect(&what, delete(&mut raw, name, index, offset), [code]);
    }

    let list = |raw: &mut Raw, name: &str, index: i32, epoch: i32, timestamp: i64| {
        let partition = list_offsets_request::ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_current_leader_epoch(epoch)
            .with_timestamp(timestamp);
        let asked = list_offsets_request::ListOffsetsTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
        let reply: ListOffsetsResponse = raw.kafka(ApiKey::ListOffsets, 9, &request);
        [reply.topics[0].partitions[0].error_code]
    };
    for (name, index, epoch, timestamp, code) in [
        ("t", 0, -1, -6, UnsupportedVersion),
        ("t", 0, -1, i64::MIN, UnsupportedVersion),
        ("t", 0, -1, i64::MAX, NONE),
        ("t", 0, 40, -1, UnknownLeaderEpoch),
        ("t", 9, -1, -1, UnknownTopicOrPartition),
        ("t", -1, -1, -1, UnknownTopicOrPartition),
        ("nobody", 0, -1, -1, UnknownTopicOrPartition),
    ] {
        let what = format!("list {name}/{index} at {timestamp} in epoch {epoch}");
        expect(&what, list(&mut raw, name, index, epoch, timestamp), [code]);
    }

    let epochs = |raw: &mut Raw, name: &str, index: i32, current: i32, wanted: i32| {
        let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
            .with_partition(index)
            .with_current_leader_epoch(current)
            .with_leader_epoch(wanted);
        let asked = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
            .with_topic(topic(name))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![asked]);
        let reply: OffsetForLeaderEpochResponse = raw.kafka(ApiKey::OffsetForLeaderEpoch, 4, &request);
        let told = &reply.topics[0].partitions[0];
        (told.error_code, told.end_offset)
    };
    for (name, index, current, wanted, code) in [
        ("t", 0, -1, 99, NONE),
        ("t", 0, 99, 0, UnknownLeaderEpoch),
        ("t", 5, -1, 0, UnknownTopicOrPartition),
        ("t", -2, -1, 0, UnknownTopicOrPartition),
        ("nobody", 0, -1, 0, UnknownTopicOrPartition),
    ] {
        let (found, end) = epochs(&mut raw, name, index, current, wanted);
        expect(&format!("epoch {wanted} of {name}/{index} in {current}"), [found], [code]);
        assert_eq!(end, -1);
    }
}

fn init(raw: &mut Raw, version: i16, id: Option<&str>, timeout_ms: i32, known: (i64, i16)) -> (i16, i64) {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(id.map(|id| TransactionalId(words(id))))
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id(producer_id(known.0))
        .with_producer_epoch(known.1);
    let reply: InitProducerIdResponse = raw.kafka(ApiKey::InitProducerId, version, &request);
    (reply.error_code, reply.producer_id.0)
}

fn producer_id(id: i64) -> kafka_protocol::messages::ProducerId {
    kafka_protocol::messages::ProducerId(id)
}

/// The errors of the partitions, in order.
fn add_partitions(
    raw: &mut Raw,
    version: i16,
    id: &str,
    producer: (i64, i16),
    partitions: &[(&str, i32)],
) -> Vec<i16> {
    use add_partitions_to_txn_request::AddPartitionsToTxnTopic;
    let topics = partitions.iter().map(|(name, index)| {
        AddPartitionsToTxnTopic::default().with_name(topic(name)).with_partitions(vec![*index])
    });
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(words(id)))
        .with_v3_and_below_producer_id(producer_id(producer.0))
        .with_v3_and_below_producer_epoch(producer.1)
        .with_v3_and_below_topics(topics.collect());
    let reply: AddPartitionsToTxnResponse = raw.kafka(ApiKey::AddPartitionsToTxn, version, &request);
    let results = reply.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
    results.map(|result| result.partition_error_code).collect()
}

fn end_txn(raw: &mut Raw, version: i16, id: &str, producer: (i64, i16), committed: bool) -> [i16; 1] {
    let request = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(words(id)))
        .with_producer_id(producer_id(producer.0))
        .with_producer_epoch(producer.1)
        .with_committed(committed);
    let reply: EndTxnResponse = raw.kafka(ApiKey::EndTxn, version, &request);
    [reply.error_code]
}

#[test]
fn transactions_of_nobody() {
    let (_broker, mut raw) = broker();
    for (what, id, timeout, known, code) in [
        ("no id", Some(""), 60_000, (-1, -1), InvalidRequest),
        ("no timeout", Some("x"), 0, (-1, -1), InvalidTransactionTimeout),
        ("a timeout below 0", Some("x"), -1, (-1, -1), InvalidTransactionTimeout),
        ("a timeout of weeks", Some("x"), i32::MAX, (-1, -1), InvalidTransactionTimeout),
        ("an epoch without an id", Some("x"), 60_000, (-1, 3), InvalidRequest),
        ("an id without an epoch", Some("x"), 60_000, (3, -1), InvalidRequest),
        ("the same of an idempotent producer", None, 60_000, (3, -1), InvalidRequest),
        ("any timeout of an idempotent producer", None, i32::MIN, (-1, -1), NONE),
    ] {
        expect(what, [init(&mut raw, 4, id, timeout, known).0], [code]);
    }
    let (code, id) = init(&mut raw, 4, Some("x"), 60_000, (-1, -1));
    expect("a producer", [code], [NONE]);
    let me = (id, 0);
    expect("another epoch", [init(&mut raw, 4, Some("x"), 60_000, (id, 7)).0], [ProducerFenced]);
    expect("the same, of old", [init(&mut raw, 3, Some("x"), 60_000, (id, 7)).0], [InvalidProducerEpoch]);

    let t = &[("t", 0)][..];
    for (what, name, producer, partitions, codes) in [
        ("nobody", "nobody", me, t, &[InvalidProducerIdMapping][..]),
        ("no id", "", me, t, &[InvalidRequest]),
        ("another producer", "x", (id + 1000, 0), t, &[InvalidProducerIdMapping]),
        ("a newer epoch", "x", (id, 3), t, &[ProducerFenced]),
        ("an epoch below 0", "x", (id, -1), t, &[ProducerFenced]),
        ("an unknown topic", "x", me, &[("nobody", 0)], &[UnknownTopicOrPartition]),
        (
            "an unknown partition",
            "x",
            me,
            &[("t", 0), ("t", 9), ("t", -1)],
            &[OperationNotAttempted, UnknownTopicOrPartition, UnknownTopicOrPartition],
        ),
        (
            "an internal topic",
            "x",
            me,
            &[("t", 0), ("__transaction_state", 0)],
            &[OperationNotAttempted, TopicAuthorizationFailed],
        ),
    ] {
        expect(what, add_partitions(&mut raw, 3, name, producer, partitions), codes);
    }
    let of_old = add_partitions(&mut raw, 1, "x", (id, 3), t);
    expect("a newer epoch, of old", of_old, [InvalidProducerEpoch]);

    for (what, name, producer, code) in [
        ("nobody ends", "nobody", me, InvalidProducerIdMapping),
        ("no id ends", "", me, InvalidRequest),
        ("another producer ends", "x", (id + 1000, 0), InvalidProducerIdMapping),
        ("a newer epoch ends", "x", (id, 3), ProducerFenced),
        ("nothing is open", "x", me, InvalidTxnState),
    ] {
        expect(what, end_txn(&mut raw, 3, name, producer, true), [code]);
    }
    expect("it begins", add_partitions(&mut raw, 3, "x", me, t), [NONE]);
    expect("it commits", end_txn(&mut raw, 3, "x", me, true), [NONE]);
    expect("it does not abort then", end_txn(&mut raw, 3, "x", me, false), [InvalidTxnState]);

    let offsets = |raw: &mut Raw, name: &str, producer: (i64, i16), group: &str| {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(TransactionalId(words(name)))
            .with_producer_id(producer_id(producer.0))
            .with_producer_epoch(producer.1)
            .with_group_id(GroupId(words(group)));
        let reply: AddOffsetsToTxnResponse = raw.kafka(ApiKey::AddOffsetsToTxn, 3, &request);
        [reply.error_code]
    };
    expect("offsets of nobody", offsets(&mut raw, "nobody", me, "g"), [InvalidProducerIdMapping]);
    expect("offsets of no id", offsets(&mut raw, "", me, "g"), [InvalidRequest]);
    expect("offsets of a newer epoch", offsets(&mut raw, "x", (id, 3), "g"), [ProducerFenced]);
    expect("offsets", offsets(&mut raw, "x", me, ""), [NONE]);

    let commit = |raw: &mut Raw, group: &str, generation: i32, metadata: usize| {
        let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(1)
            .with_committed_metadata(Some(words(&"m".repeat(metadata))));
        let asked = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
            .with_name(topic("t"))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(TransactionalId(words("x")))
            .with_producer_id(producer_id(me.0))
            .with_producer_epoch(me.1)
            .with_group_id(GroupId(words(group)))
            .with_generation_id(generation)
            .with_topics(vec![asked]);
        let reply: TxnOffsetCommitResponse = raw.kafka(ApiKey::TxnOffsetCommit, 3, &request);
        [reply.topics[0].partitions[0].error_code]
    };
    expect("no group", commit(&mut raw, "", -1, 0), [InvalidGroupId]);
    expect("a group", offsets(&mut raw, "x", me, "g"), [NONE]);
    expect("a generation of nobody", commit(&mut raw, "g", 5, 0), [IllegalGeneration]);
    expect("long words", commit(&mut raw, "g", -1, 5000), [OffsetMetadataTooLarge]);

    let request =
        DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(words("nobody"))]);
    let reply: DescribeTransactionsResponse = raw.kafka(ApiKey::DescribeTransactions, 0, &request);
    expect("describe", [reply.transaction_states[0].error_code], [TransactionalIdNotFound]);
    let asked = describe_producers_request::TopicRequest::default()
        .with_name(topic("t"))
        .with_partition_indexes(vec![7, -1]);
    let request = DescribeProducersRequest::default().with_topics(vec![asked]);
    let reply: DescribeProducersResponse = raw.kafka(ApiKey::DescribeProducers, 0, &request);
    let codes: Vec<i16> = reply.topics[0].partitions.iter().map(|told| told.error_code).collect();
    expect("producers", codes, [UnknownTopicOrPartition; 2]);
}

#[test]
fn members_and_groups_that_are_none() {
    use join_group_request::JoinGroupRequestProtocol;
    let (_broker, mut raw) = broker();
    let join = |raw: &mut Raw, group: &str, member: &str, timeout: i32, kind: &str, protocols: &[&str]| {
        let protocols =
            protocols.iter().map(|name| JoinGroupRequestProtocol::default().with_name(words(name)));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(words(group)))
            .with_session_timeout_ms(timeout)
            .with_rebalance_timeout_ms(10_000)
            .with_member_id(words(member))
            .with_protocol_type(words(kind))
            .with_protocols(protocols.collect());
        let reply: JoinGroupResponse = raw.kafka(ApiKey::JoinGroup, 5, &request);
        [reply.error_code]
    };
    let p = &["range"][..];
    for (what, group, member, timeout, kind, protocols, code) in [
        ("no group", "", "", 10_000, "consumer", p, InvalidGroupId),
        ("no timeout", "g", "", 0, "consumer", p, InvalidSessionTimeout),
        ("a timeout below 0", "g", "", -1, "consumer", p, InvalidSessionTimeout),
        ("a timeout of weeks", "g", "", i32::MAX, "consumer", p, InvalidSessionTimeout),
        ("a member of nobody", "g", "m", 10_000, "consumer", p, UnknownMemberId),
        ("no protocol", "g", "", 10_000, "consumer", &[], InconsistentGroupProtocol),
        ("no type", "g", "", 10_000, "", p, InconsistentGroupProtocol),
        ("a first call", "g", "", 10_000, "consumer", p, MemberIdRequired),
    ] {
        expect(what, join(&mut raw, group, member, timeout, kind, protocols), [code]);
    }

    let sync = |raw: &mut Raw, version: i16, group: &str, names: Option<&str>| {
        let mut request = SyncGroupRequest::default()
            .with_group_id(GroupId(words(group)))
            .with_generation_id(3)
            .with_member_id(words("m"));
        if version >= 5 {
            request = request.with_protocol_type(names.map(words)).with_protocol_name(names.map(words));
        }
        let reply: SyncGroupResponse = raw.kafka(ApiKey::SyncGroup, version, &request);
        [reply.error_code]
    };
    expect("sync of nobody", sync(&mut raw, 3, "nobody", None), [UnknownMemberId]);
    expect("sync of no group", sync(&mut raw, 3, "", None), [InvalidGroupId]);
    expect("sync of no protocol", sync(&mut raw, 5, "g", None), [InconsistentGroupProtocol]);
    expect("sync with one", sync(&mut raw, 5, "g", Some("range")), [UnknownMemberId]);

    let beat = |raw: &mut Raw, group: &str| {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(words(group)))
            .with_generation_id(1)
            .with_member_id(words("m"));
        let reply: HeartbeatResponse = raw.kafka(ApiKey::Heartbeat, 4, &request);
        [reply.error_code]
    };
    expect("heartbeat of nobody", beat(&mut raw, "nobody"), [UnknownMemberId]);
    expect("heartbeat of no group", beat(&mut raw, ""), [InvalidGroupId]);

    let leave = |raw: &mut Raw, version: i16, group: &str| {
        let mut request = LeaveGroupRequest::default().with_group_id(GroupId(words(group)));
        match version < 3 {
            true => request.member_id = words("m"),
            false => {
                request.members =
                    vec![leave_group_request::MemberIdentity::default().with_member_id(words("m"))];
            }
        }
        let reply: LeaveGroupResponse = raw.kafka(ApiKey::LeaveGroup, version, &request);
        let mut codes = vec![reply.error_code];
        codes.extend(reply.members.iter().map(|member| member.error_code));
        codes
    };
    expect("leave of old", leave(&mut raw, 2, "nobody"), [UnknownMemberId]);
    expect("leave", leave(&mut raw, 3, "nobody"), [NONE, UnknownMemberId]);
    expect("leave no group", leave(&mut raw, 3, ""), [InvalidGroupId]);

    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(words("nobody"))]);
    let reply: DeleteGroupsResponse = raw.kafka(ApiKey::DeleteGroups, 2, &request);
    expect("delete", [reply.results[0].error_code], [GroupIdNotFound]);
    for (version, code) in [(5, NONE), (6, GroupIdNotFound)] {
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(words("nobody"))]);
        let reply: DescribeGroupsResponse = raw.kafka(ApiKey::DescribeGroups, version, &request);
        expect("describe", [reply.groups[0].error_code], [code]);
        assert_eq!(&*reply.groups[0].group_state, "Dead");
    }
    expect("a key of no kind", [find_coordinator(&mut raw, 9, "g")], [InvalidRequest]);
}

#[test]
fn offsets_that_cannot_be_committed() {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let (_broker, mut raw) = broker();
    let commit =
        |raw: &mut Raw, version: i16, group: &str, generation: i32, at: (&str, i32), metadata: usize| {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(at.1)
                .with_committed_offset(1)
                .with_committed_metadata(Some(words(&"m".repeat(metadata))));
            let asked =
                OffsetCommitRequestTopic::default().with_name(topic(at.0)).with_partitions(vec![partition]);
            let request = OffsetCommitRequest::default()
                .with_group_id(GroupId(words(group)))
                .with_generation_id_or_member_epoch(generation)
                .with_retention_time_ms(-1)
                .with_topics(vec![asked]);
            let reply: OffsetCommitResponse = raw.kafka(ApiKey::OffsetCommit, version, &request);
            [reply.topics[0].partitions[0].error_code]
        };
    for (what, version, group, generation, at, metadata, code) in [
        ("the longest words", 8, "g", -1, ("t", 0), 4096, NONE),
        ("longer words", 8, "g", -1, ("t", 0), 4097, OffsetMetadataTooLarge),
        ("an unknown topic", 8, "g", -1, ("nobody", 0), 0, UnknownTopicOrPartition),
        ("an unknown partition", 8, "g", -1, ("t", 9), 0, UnknownTopicOrPartition),
        ("a negative partition", 8, "g", -1, ("t", -1), 0, UnknownTopicOrPartition),
        ("a generation of nobody", 8, "nobody", 4, ("t", 0), 0, IllegalGeneration),
        ("an epoch of nobody", 9, "nobody", 4, ("t", 0), 0, GroupIdNotFound),
        // Clients of long ago committed without a group.
        ("no group", 8, "", -1, ("t", 0), 0, NONE),
    ] {
        expect(what, commit(&mut raw, version, group, generation, at, metadata), [code]);
    }
    let delete = |raw: &mut Raw, group: &str, index: i32| {
        let partition =
            offset_delete_request::OffsetDeleteRequestPartition::default().with_partition_index(index);
        let asked = offset_delete_request::OffsetDeleteRequestTopic::default()
            .with_name(topic("t"))
            .with_partitions(vec![partition]);
        let request =
            OffsetDeleteRequest::default().with_group_id(GroupId(words(group))).with_topics(vec![asked]);
        let reply: OffsetDeleteResponse = raw.kafka(ApiKey::OffsetDelete, 0, &request);
        [reply.error_code]
    };
    expect("delete of nobody", delete(&mut raw, "nobody", 0), [GroupIdNotFound]);
    expect("delete", delete(&mut raw, "g", 0), [NONE]);
}

#[test]
fn members_of_consumer_groups_that_are_none() {
    let (_broker, mut raw) = broker();
    let good = || {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(words("c")))
            .with_member_id(words("m"))
            .with_rebalance_timeout_ms(10_000)
            .with_subscribed_topic_names(Some(vec![topic("t")]))
            .with_topic_partitions(Some(vec![]))
    };
    let owned = consumer_group_heartbeat_request::TopicPartitions::default().with_partitions(vec![0]);
    let cases = [
        ("no group", 1, good().with_group_id(GroupId(words(""))), InvalidRequest),
        ("no member", 1, good().with_member_id(words("")), InvalidRequest),
        (
            "no member in a later call",
            0,
            good().with_member_id(words("")).with_member_epoch(3),
            InvalidRequest,
        ),
        ("no timeout", 1, good().with_rebalance_timeout_ms(-1), InvalidRequest),
        ("no subscription", 1, good().with_subscribed_topic_names(None), InvalidRequest),
        ("partitions before it joins", 1, good().with_topic_partitions(Some(vec![owned])), InvalidRequest),
        ("partitions not told", 1, good().with_topic_partitions(None), InvalidRequest),
        ("an epoch of nobody", 1, good().with_member_epoch(7), GroupIdNotFound),
        ("an epoch that is none", 1, good().with_member_epoch(-9), InvalidRequest),
        ("an instance that is none", 1, good().with_instance_id(Some(words(""))), InvalidRequest),
        ("an assignor of nobody", 1, good().with_server_assignor(Some(words("nobody"))), UnsupportedAssignor),
        ("a leave of nobody", 1, good().with_member_epoch(-1), GroupIdNotFound),
    ];
    for (what, version, request, code) in cases {
        let reply: ConsumerGroupHeartbeatResponse =
            raw.kafka(ApiKey::ConsumerGroupHeartbeat, version, &request);
        expect(what, [reply.error_code], [code]);
    }
    let reply: ConsumerGroupHeartbeatResponse = raw.kafka(ApiKey::ConsumerGroupHeartbeat, 1, &good());
    expect("a member", [reply.error_code], [NONE]);
    let stranger = good().with_member_id(words("stranger")).with_member_epoch(1);
    let reply: ConsumerGroupHeartbeatResponse = raw.kafka(ApiKey::ConsumerGroupHeartbeat, 1, &stranger);
    expect("a stranger", [reply.error_code], [UnknownMemberId]);
    let ahead = good().with_member_epoch(reply.member_epoch + 50);
    let reply: ConsumerGroupHeartbeatResponse = raw.kafka(ApiKey::ConsumerGroupHeartbeat, 1, &ahead);
    expect("an epoch ahead", [reply.error_code], [FencedMemberEpoch]);
}

#[test]
fn settings_that_are_none() {
    use alter_configs_request as whole;
    use incremental_alter_configs_request as steps;
    let (_broker, mut raw) = broker();
    let step = |kind: i8, name: &str, configs: &[(&str, i8, Option<&str>)]| {
        let configs = configs.iter().map(|(name, operation, value)| {
            steps::AlterableConfig::default()
                .with_name(words(name))
                .with_config_operation(*operation)
                .with_value(value.map(words))
        });
        steps::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(words(name))
            .with_configs(configs.collect())
    };
    let alter = |raw: &mut Raw, resources: Vec<steps::AlterConfigsResource>| -> Vec<i16> {
        let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
        let reply: IncrementalAlterConfigsResponse = raw.kafka(ApiKey::IncrementalAlterConfigs, 1, &request);
        reply.responses.iter().map(|response| response.error_code).collect()
    };
    let good = ("retention.ms", 0, Some("5000"));
    for (what, resource, code) in [
        ("an unknown setting", step(2, "t", &[("no.such", 0, Some("1"))]), InvalidConfig),
        ("a value that is none", step(2, "t", &[("retention.ms", 0, Some("soon"))]), InvalidConfig),
        ("no value", step(2, "t", &[("retention.ms", 0, None)]), InvalidRequest),
        ("an unknown topic", step(2, "nobody", &[good]), UnknownTopicOrPartition),
        ("no topic", step(2, "", &[good]), InvalidRequest),
        ("an unknown kind", step(77, "t", &[good]), InvalidRequest),
        ("an unknown step", step(2, "t", &[("retention.ms", 9, Some("1"))]), InvalidRequest),
        ("a step for lists", step(2, "t", &[("retention.ms", 2, Some("1"))]), InvalidConfig),
        ("a setting twice", step(2, "t", &[good, good]), InvalidRequest),
    ] {
        expect(what, alter(&mut raw, vec![resource]), [code]);
    }
    let twice = vec![step(2, "t", &[good]), step(2, "t", &[good])];
    expect("a topic twice", alter(&mut raw, twice), [InvalidRequest; 2]);

    let replace = |raw: &mut Raw, kind: i8, name: &str, setting: &str, value: Option<&str>| {
        let config = whole::AlterableConfig::default().with_name(words(setting)).with_value(value.map(words));
        let resource = whole::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(words(name))
            .with_configs(vec![config]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        let reply: AlterConfigsResponse = raw.kafka(ApiKey::AlterConfigs, 2, &request);
        [reply.responses[0].error_code]
    };
    for (kind, name, setting, value, code) in [
        (2, "t", "no.such", Some("1"), InvalidConfig),
        (2, "t", "retention.ms", None, InvalidRequest),
        (2, "nobody", "retention.ms", Some("1"), UnknownTopicOrPartition),
        (77, "t", "retention.ms", Some("1"), InvalidRequest),
    ] {
        let what = format!("replace {setting} of {kind} {name}");
        expect(&what, replace(&mut raw, kind, name, setting, value), [code]);
    }

    let describe = |raw: &mut Raw, kind: i8, name: &str| {
        let resource = describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(words(name))
            .with_configuration_keys(Some(vec![words("max.message.bytes"), words("retention.ms")]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let mut reply: DescribeConfigsResponse = raw.kafka(ApiKey::DescribeConfigs, 4, &request);
        reply.results.remove(0)
    };
    for (kind, name, code) in [
        (2, "nobody", UnknownTopicOrPartition),
        (2, "a/b", InvalidTopicException),
        (77, "t", InvalidRequest),
        (4, "99999", InvalidRequest),
        (4, "me", InvalidRequest),
    ] {
        expect(&format!("describe {kind} {name}"), [describe(&mut raw, kind, name).error_code], [code]);
    }
    // Nothing was changed.
    let values: Vec<String> = describe(&mut raw, 2, "t")
        .configs
        .iter()
        .map(|config| format!("{}={}", &*config.name, &**config.value.as_ref().unwrap()))
        .collect();
    assert_eq!(values, ["max.message.bytes=2000", "retention.ms=604800000"]);
}

#[test]
fn quotas_and_clusters_that_are_none() {
    use describe_client_quotas_request::ComponentData;
    let (_broker, mut raw) = broker();
    let describe = |raw: &mut Raw, parts: &[(&str, i8, Option<&str>)]| {
        let parts = parts.iter().map(|(kind, how, name)| {
            ComponentData::default()
                .with_entity_type(words(kind))
                .with_match_type(*how)
                .with_match(name.map(words))
        });
        let request = DescribeClientQuotasRequest::default().with_components(parts.collect());
        let reply: DescribeClientQuotasResponse = raw.kafka(ApiKey::DescribeClientQuotas, 1, &request);
        [reply.error_code]
    };
    for (what, parts, code) in [
        ("an unknown kind", &[("nobody", 2, None)][..], UnsupportedVersion),
        ("a name that is not given", &[("user", 0, None)], InvalidRequest),
        ("a name too many", &[("user", 1, Some("u"))], InvalidRequest),
        ("an unknown match", &[("user", 9, None)], InvalidRequest),
        ("a kind twice", &[("user", 2, None), ("user", 1, None)], InvalidRequest),
    ] {
        expect(what, describe(&mut raw, parts), [code]);
    }
    for (kind, code) in [(2, MismatchedEndpointType), (9, UnsupportedEndpointType), (1, NONE)] {
        let request = DescribeClusterRequest::default().with_endpoint_type(kind);
        let reply: DescribeClusterResponse = raw.kafka(ApiKey::DescribeCluster, 1, &request);
        expect("endpoint", [reply.error_code], [code]);
    }
    let asked = describe_topic_partitions_request::TopicRequest::default().with_name(topic("t"));
    let cursor = describe_topic_partitions_request::Cursor::default()
        .with_topic_name(topic("t"))
        .with_partition_index(-1);
    let request =
        DescribeTopicPartitionsRequest::default().with_topics(vec![asked]).with_cursor(Some(cursor));
    let reply: DescribeTopicPartitionsResponse = raw.kafka(ApiKey::DescribeTopicPartitions, 0, &request);
    expect("cursor", [reply.topics[0].error_code], [InvalidRequest]);
    let mut ask = |name: Option<&str>, id: u128| {
        let asked = metadata_request::MetadataRequestTopic::default()
            .with_name(name.map(topic))
            .with_topic_id(uuid::Uuid::from_u128(id));
        let request =
            MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        let reply: MetadataResponse = raw.kafka(ApiKey::Metadata, 12, &request);
        [reply.topics[0].error_code]
    };
    expect("an unknown name", ask(Some("nobody"), 0), [UnknownTopicOrPartition]);
    expect("a name that is none", ask(Some("a/b"), 0), [InvalidTopicException]);
    expect("an unknown id", ask(None, 7), [UnknownTopicId]);
    let reassign = alter_partition_reassignments_request::ReassignablePartition::default()
        .with_partition_index(9)
        .with_replicas(Some(vec![BrokerId(1)]));
    let asked = alter_partition_reassignments_request::ReassignableTopic::default()
        .with_name(topic("t"))
        .with_partitions(vec![reassign]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![asked]);
    let reply: AlterPartitionReassignmentsResponse =
        raw.kafka(ApiKey::AlterPartitionReassignments, 0, &request);
    expect("reassign", [reply.responses[0].partitions[0].error_code], [UnknownTopicOrPartition]);
}
