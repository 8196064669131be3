//! Kafka requests that librdkafka does not send or does not show: wrong CRCs and sequences, messages of refusals, apis and
//! versions that are not served.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use heddle_proto::{ErrorCode, ProducerEpoch, ProducerId};
use heddle_tests::broker::{Broker, BrokerOptions, PortMode};
use heddle_tests::raw::{self, Raw};
use heddle_tests::{kafka, records};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, StrBytes};

fn words(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(text: &str) -> TopicName {
    TopicName(words(text))
}

fn code(code: ErrorCode) -> i16 {
    code.code()
}

/// The id of a topic.
fn topic_id(raw: &mut Raw, topic: &str) -> uuid::Uuid {
    let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let reply: MetadataResponse = raw.kafka(ApiKey::Metadata, 12, &request);
    reply.topics[0].topic_id
}

/// Produces one batch to partition 0; from version 13 on by the topic's id.
fn produce(raw: &mut Raw, version: i16, topic: &str, batch: impl Into<Bytes>) -> PartitionProduceResponse {
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(batch.into()));
    let data = TopicProduceData::default().with_partition_data(vec![partition]);
    let data = match version < 13 {
        true => data.with_name(topic_name(topic)),
        false => data.with_topic_id(topic_id(raw, topic)),
    };
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![data]);
    let mut reply: ProduceResponse = raw.kafka(ApiKey::Produce, version, &request);
    reply.responses.remove(0).partition_responses.remove(0)
}

/// The end of partition 0.
fn log_end(raw: &mut Raw, topic: &str) -> i64 {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
    let asked = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
    let mut reply: ListOffsetsResponse = raw.kafka(ApiKey::ListOffsets, 5, &request);
    let found = reply.topics.remove(0).partitions.remove(0);
    assert_eq!(found.error_code, 0);
    found.offset
}

/// The value of a string of batches, from partition 0 at an offset, and the error.
fn fetch(raw: &mut Raw, version: i16, topic: &str, offset: i64) -> (i16, Bytes) {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_partitions(vec![partition]);
    let asked = match version < 13 {
        true => asked.with_topic(topic_name(topic)),
        false => asked.with_topic_id(topic_id(raw, topic)),
    };
    let request = FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(1 << 20)
        .with_topics(vec![asked]);
    let mut reply: FetchResponse = raw.kafka(ApiKey::Fetch, version, &request);
    let found = reply.responses.remove(0).partitions.remove(0);
    (found.error_code, found.records.unwrap_or_default())
}

#[test]
fn every_version_of_produce_and_fetch_works() {
    let broker = Broker::start(BrokerOptions::new().cores(1));
    kafka::create(&broker.bootstrap(), "versions", 1, &[]);
    let mut raw = Raw::connect(broker.address());
    for (turn, version) in (3..=13).enumerate() {
        let reply = produce(&mut raw, version, "versions", records::one(format!("v{version}")));
        assert_eq!((reply.error_code, reply.base_offset), (0, turn as i64), "Produce v{version}");
    }
    for version in 4..=18 {
        let (error, batches) = fetch(&mut raw, version, "versions", 0);
        assert_eq!(error, 0, "Fetch v{version}");
        assert_eq!(records::texts(batches).len(), 11, "Fetch v{version}");
    }
    let (error, batches) = fetch(&mut raw, 12, "versions", 12);
    assert_eq!((error, batches.len()), (code(ErrorCode::OffsetOutOfRange), 0));
}

#[test]
fn topics_are_found_by_their_ids() {
    let broker = Broker::start(BrokerOptions::new().cores(1));
    kafka::create(&broker.bootstrap(), "ids", 1, &[]);
    let mut raw = Raw::connect(broker.address());
    let id = topic_id(&mut raw, "ids");
    let nobody = uuid::Uuid::from_u128(7);

    let ask = |raw: &mut Raw, name: Option<&str>, id: uuid::Uuid, version: i16| {
        let asked = metadata_request::MetadataRequestTopic::default()
            .with_name(name.map(topic_name))
            .with_topic_id(id);
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        let mut reply: MetadataResponse = raw.kafka(ApiKey::Metadata, version, &request);
        reply.topics.remove(0)
    };
    for version in 12..=13 {
        let found = ask(&mut raw, None, id, version);
        assert_eq!((found.error_code, found.name.as_deref()), (0, Some(&words("ids"))));
        let found = ask(&mut raw, None, nobody, version);
        assert_eq!((found.error_code, found.topic_id), (code(ErrorCode::UnknownTopicId), nobody));
    }
    // Before version 12 the field is there, and may not be used.
    assert_eq!(ask(&mut raw, Some("ids"), id, 10).error_code, code(ErrorCode::InvalidRequest));

    let partition = |index| FetchPartition::default().with_partition(index).with_partition_max_bytes(1 << 20);
    let topics = [(nobody, 0), (id, 0), (id, 9)]
        .map(|(id, index)| FetchTopic::default().with_topic_id(id).with_partitions(vec![partition(index)]));
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(topics.to_vec());
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 17, &request);
    let codes: Vec<_> = reply.responses.iter().map(|t| (t.topic_id, t.partitions[0].error_code)).collect();
    let unknown = [code(ErrorCode::UnknownTopicId), 0, code(ErrorCode::UnknownTopicOrPartition)];
    assert_eq!(codes, [(nobody, unknown[0]), (id, unknown[1]), (id, unknown[2])]);

    let data = [(nobody, 0), (id, 9)].map(|(id, index)| {
        let batch = records::one("x");
        let partition = PartitionProduceData::default().with_index(index).with_records(Some(batch));
        TopicProduceData::default().with_topic_id(id).with_partition_data(vec![partition])
    });
    let request = ProduceRequest::default().with_acks(-1).with_topic_data(data.to_vec());
    let reply: ProduceResponse = raw.kafka(ApiKey::Produce, 13, &request);
    let codes: Vec<_> = reply.responses.iter().map(|t| t.partition_responses[0].error_code).collect();
    assert_eq!(codes, [unknown[0], unknown[2]]);

    // A topic of the same name is another topic.
    let by_id = delete_topics_request::DeleteTopicState::default().with_name(None).with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![by_id]).with_timeout_ms(30_000);
    let reply: DeleteTopicsResponse = raw.kafka(ApiKey::DeleteTopics, 6, &request);
    assert_eq!((reply.responses[0].error_code, reply.responses[0].topic_id), (0, id));
    kafka::create(&broker.bootstrap(), "ids", 1, &[]);
    assert_ne!(topic_id(&mut raw, "ids"), id);
    assert_eq!(ask(&mut raw, None, id, 12).error_code, code(ErrorCode::UnknownTopicId));
}

#[test]
fn a_fetch_from_a_log_that_parts_from_the_clients_is_told_where() {
    let mut broker = Broker::start(BrokerOptions::new().cores(1));
    kafka::create(&broker.bootstrap(), "epochs", 1, &[]);
    let mut raw = Raw::connect(broker.address());
    produce(&mut raw, 9, "epochs", records::one("first"));
    // The node leads in a new epoch after each start.
    broker.kill();
    broker.restart();
    let mut raw = Raw::connect(broker.address());
    produce(&mut raw, 9, "epochs", records::one("second"));
    let fetch = |raw: &mut Raw, last_epoch: i32, offset: i64| {
        let partition = FetchPartition::default()
            .with_partition(0)
            .with_fetch_offset(offset)
            .with_last_fetched_epoch(last_epoch)
            .with_partition_max_bytes(1 << 20);
        let asked = FetchTopic::default().with_topic(topic_name("epochs")).with_partitions(vec![partition]);
        let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![asked]);
        let mut reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &request);
        reply.responses.remove(0).partitions.remove(0)
    };
    let ok = |found: fetch_response::PartitionData| {
        let diverging = found.diverging_epoch;
        (found.error_code, diverging.epoch, diverging.end_offset, found.records.unwrap_or_default().len())
    };
    let length = records::one("second").len();
    assert_eq!(ok(fetch(&mut raw, 0, 1)), (0, -1, -1, length), "what the client has is there");
    assert_eq!(ok(fetch(&mut raw, 0, 2)), (0, 0, 1, 0), "the first epoch ended at 1");
    assert_eq!(ok(fetch(&mut raw, 1, 2)), (0, -1, -1, 0));
    assert_eq!(fetch(&mut raw, 5, 1).error_code, code(ErrorCode::OffsetOutOfRange));
}

#[test]
fn a_wrong_crc_is_refused_and_nothing_written() {
    let broker = Broker::start(BrokerOptions::new().cores(1));
    kafka::create(&broker.bootstrap(), "crc", 1, &[]);
    let mut raw = Raw::connect(broker.address());
    let whole = records::batch(&[b"whole"]);
    for at in [17, 21, 30, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        let reply = produce(&mut raw, 9, "crc", damaged.freeze());
        assert_eq!(reply.error_code, code(ErrorCode::CorruptMessage), "byte {at}");
    }
    let mut cut = whole.clone();
    cut.truncate(whole.len() - 1);
    let reply = produce(&mut raw, 9, "crc", cut.freeze());
    assert_ne!(reply.error_code, 0, "a batch that is cut short");
    let mut bad = records::batch(&[b"bad"]);
    bad[17] ^= 1;
    let two = [records::one("good"), bad.freeze()].concat();
    assert_ne!(produce(&mut raw, 9, "crc", two).error_code, 0, "a good batch before a bad one");
    assert_eq!(log_end(&mut raw, "crc"), 0, "something was written");
    assert_eq!(produce(&mut raw, 9, "crc", whole.freeze()).error_code, 0);
    assert_eq!(log_end(&mut raw, "crc"), 1);
}

#[test]
fn sequences_of_idempotent_producers_are_kept() {
    for mode in PortMode::ALL {
        let mut broker = Broker::start(BrokerOptions::new().port_mode(mode));
        kafka::create(&broker.bootstrap(), "sequences", 1, &[]);
        // The leader of partition 0 may be any core; with one port every core must do.
        let address = heddle_tests::native::run(async {
            let client = heddle_tests::native::connect(broker.address()).await;
            heddle_tests::native::address_of(&client, "sequences", 0).await
        });
        let mut raw = Raw::connect(address);
        let identity: InitProducerIdResponse = raw.kafka(
            ApiKey::InitProducerId,
            4,
            &InitProducerIdRequest::default().with_transactional_id(None),
        );
        assert_eq!(identity.error_code, 0);
        let id = ProducerId::new(identity.producer_id.0);
        let epoch = identity.producer_epoch;
        let batch = |epoch: i16, sequence: i32, values: &[&[u8]]| {
            records::idempotent(id, ProducerEpoch::new(epoch), sequence, values).freeze()
        };
        let expect = |reply: PartitionProduceResponse, error: ErrorCode, offset: i64| {
            assert_eq!((reply.error_code, reply.base_offset), (error.code(), offset), "{mode:?}");
        };
        expect(produce(&mut raw, 9, "sequences", batch(epoch, 0, &[b"0", b"1"])), ErrorCode::None, 0);
        expect(produce(&mut raw, 9, "sequences", batch(epoch, 2, &[b"2"])), ErrorCode::None, 2);
        // A retry of either is acknowledged where it was, and not written again.
        expect(produce(&mut raw, 9, "sequences", batch(epoch, 0, &[b"0", b"1"])), ErrorCode::None, 0);
        expect(produce(&mut raw, 9, "sequences", batch(epoch, 2, &[b"2"])), ErrorCode::None, 2);
        for wrong in [4, 9, 1] {
            let refused = produce(&mut raw, 9, "sequences", batch(epoch, wrong, &[b"gap"]));
            expect(refused, ErrorCode::OutOfOrderSequenceNumber, -1);
        }
        expect(produce(&mut raw, 9, "sequences", batch(epoch + 1, 0, &[b"3"])), ErrorCode::None, 3);
        expect(
            produce(&mut raw, 9, "sequences", batch(epoch, 3, &[b"x"])),
            ErrorCode::InvalidProducerEpoch,
            -1,
        );
        assert_eq!(log_end(&mut raw, "sequences"), 4);
        // What a producer wrote is remembered over a crash.
        broker.kill();
        broker.restart();
        let mut raw = Raw::connect(address);
        expect(produce(&mut raw, 9, "sequences", batch(epoch + 1, 0, &[b"3"])), ErrorCode::None, 3);
        expect(
            produce(&mut raw, 9, "sequences", batch(epoch + 1, 5, &[b"gap"])),
            ErrorCode::OutOfOrderSequenceNumber,
            -1,
        );
        expect(produce(&mut raw, 9, "sequences", batch(epoch + 1, 1, &[b"4"])), ErrorCode::None, 4);
        assert_eq!(log_end(&mut raw, "sequences"), 5);
    }
}

#[test]
fn refusals_say_what_is_wrong_and_what_is_allowed() {
    let broker = Broker::start(BrokerOptions::new().cores(1));
    let mut raw = Raw::connect(broker.address());
    let long = "x".repeat(250);
    let config = |name: &str, value: &str| {
        CreatableTopicConfig::default().with_name(words(name)).with_value(Some(words(value)))
    };
    let cases: [(&str, Vec<CreatableTopicConfig>, ErrorCode, &[&str]); 6] = [
        ("a b", vec![], ErrorCode::InvalidTopicException, &["' '", "letters"]),
        ("", vec![], ErrorCode::InvalidTopicException, &["empty"]),
        (&long, vec![], ErrorCode::InvalidTopicException, &["250", "249"]),
        ("ok", vec![config("retention", "1")], ErrorCode::InvalidConfig, &["retention", "retention.ms"]),
        (
            "ok",
            vec![config("durability", "maybe")],
            ErrorCode::InvalidConfig,
            &["durability", "maybe", "fsync"],
        ),
        (
            "ok",
            vec![config("segment.bytes", "7")],
            ErrorCode::InvalidConfig,
            &["segment.bytes", "7", "2147483647"],
        ),
    ];
    for (name, configs, error, named) in cases {
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(configs);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let mut reply: CreateTopicsResponse = raw.kafka(ApiKey::CreateTopics, 7, &request);
        let result = reply.topics.remove(0);
        let message = result.error_message.unwrap_or_default();
        assert_eq!(result.error_code, code(error), "{name:?}: {message}");
        for word in named {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
    }
    for count in [0, -2, 10_000_000] {
        let topic = CreatableTopic::default()
            .with_name(topic_name("ok"))
            .with_num_partitions(count)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let reply: CreateTopicsResponse = raw.kafka(ApiKey::CreateTopics, 7, &request);
        assert_eq!(reply.topics[0].error_code, code(ErrorCode::InvalidPartitions), "{count}");
        let message = reply.topics[0].error_message.as_ref().unwrap();
        assert!(message.contains(&count.to_string()), "{count} is not in {message:?}");
    }
    let unknown = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(words("none"));
    let request = DescribeConfigsRequest::default().with_resources(vec![unknown]);
    let reply: DescribeConfigsResponse = raw.kafka(ApiKey::DescribeConfigs, 4, &request);
    let result = &reply.results[0];
    assert_eq!(result.error_code, code(ErrorCode::UnknownTopicOrPartition));
    assert!(result.error_message.as_ref().unwrap().contains("none"));
    alter(&mut raw);
}

/// IncrementalAlterConfigs: set, return to the default, and refusals that name the config.
fn alter(raw: &mut Raw) {
    let topic = CreatableTopic::default()
        .with_name(topic_name("altered"))
        .with_num_partitions(1)
        .with_replication_factor(-1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let reply: CreateTopicsResponse = raw.kafka(ApiKey::CreateTopics, 5, &request);
    assert_eq!(reply.topics[0].error_code, 0);
    let mut alter = |operation: i8, name: &str, value: Option<&str>| {
        let config = AlterableConfig::default()
            .with_name(words(name))
            .with_config_operation(operation)
            .with_value(value.map(words));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(words("altered"))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let mut reply: IncrementalAlterConfigsResponse =
            raw.kafka(ApiKey::IncrementalAlterConfigs, 1, &request);
        let result = reply.responses.remove(0);
        (result.error_code, result.error_message.unwrap_or_default().to_string())
    };
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    assert_eq!(alter(SET, "retention.ms", Some("1000")).0, 0);
    assert_eq!(alter(SET, "max.message.bytes", Some("200")).0, 0);
    let (error, message) = alter(SET, "retention.ms", Some("soon"));
    assert!(error == code(ErrorCode::InvalidConfig) && message.contains("retention.ms=soon"), "{message}");
    let (error, message) = alter(SET, "colour", Some("red"));
    assert!(error == code(ErrorCode::InvalidConfig) && message.contains("colour"), "{message}");
    let refused = produce(raw, 9, "altered", records::one("x".repeat(300)));
    assert_eq!(refused.error_code, code(ErrorCode::MessageTooLarge), "the new limit is in force");
    assert_eq!(alter_delete(raw, "max.message.bytes", DELETE), 0);
    assert_eq!(produce(raw, 9, "altered", records::one("x".repeat(300))).error_code, 0);
}

fn alter_delete(raw: &mut Raw, name: &str, operation: i8) -> i16 {
    let config =
        AlterableConfig::default().with_name(words(name)).with_config_operation(operation).with_value(None);
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(words("altered"))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let reply: IncrementalAlterConfigsResponse = raw.kafka(ApiKey::IncrementalAlterConfigs, 0, &request);
    reply.responses[0].error_code
}

#[test]
fn what_is_not_served_is_answered_and_the_connection_stays() {
    let broker = Broker::start(BrokerOptions::new().cores(1));
    let mut raw = Raw::connect(broker.address());
    let unsupported = code(ErrorCode::UnsupportedVersion);
    let before = broker.metrics().sum("requests_unsupported");
    macro_rules! refused {
        ($($api:ident $version:literal $request:ident $response:ident,)*) => {
            $(
                let reply: $response = raw.kafka(ApiKey::$api, $version, &$request::default());
                assert_eq!(reply.error_code, unsupported, concat!(stringify!($api), " v", $version));
            )*
        };
    }
    refused! {
        SaslHandshake 1 SaslHandshakeRequest SaslHandshakeResponse,
        DescribeAcls 1 DescribeAclsRequest DescribeAclsResponse,
        DescribeQuorum 0 DescribeQuorumRequest DescribeQuorumResponse,
        ShareFetch 1 ShareFetchRequest ShareFetchResponse,
    }
    let counted = broker.metrics().sum("requests_unsupported") - before;
    assert_eq!(counted, 4, "each refusal is counted");

    let asked =
        FindCoordinatorRequest::default().with_key_type(2).with_coordinator_keys(vec![words("share")]);
    let reply: FindCoordinatorResponse = raw.kafka(ApiKey::FindCoordinator, 6, &asked);
    assert_eq!(reply.coordinators[0].error_code, code(ErrorCode::InvalidRequest));

    let reply: MetadataResponse =
        raw.kafka(ApiKey::Metadata, 9, &MetadataRequest::default().with_topics(Some(vec![])));
    assert_eq!(reply.brokers.len(), 1, "the connection goes on");
}

#[test]
fn unknown_versions_are_answered_with_the_known_ones() {
    let mut broker = Broker::start(BrokerOptions::new().cores(1));
    let mut raw = Raw::connect(broker.address());
    // A client from the future: the reply is of version 0, with the error and the list to choose from.
    let reply = raw.kafka_bytes(ApiKey::ApiVersions as i16, 99, b"\x01\x01\x00", 2).expect("an answer");
    let reply = ApiVersionsResponse::decode(&mut reply.clone(), 0).expect("a reply of version 0");
    assert_eq!(reply.error_code, code(ErrorCode::UnsupportedVersion));
    let produce =
        reply.api_keys.iter().find(|api| api.api_key == ApiKey::Produce as i16).expect("Produce is there");
    assert_eq!(produce.min_version, 0, "older clients take this as a sign of compression");
    let known = reply.api_keys.len();
    for version in 0..=4 {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(words("test"))
            .with_client_software_version(words("1"));
        let reply: ApiVersionsResponse = raw.kafka(ApiKey::ApiVersions, version, &request);
        assert_eq!(reply.error_code, 0, "v{version}");
        assert_eq!(reply.api_keys.len(), known, "v{version}");
    }
    // An api that exists nowhere cannot be answered in its own schema; neither may it hurt anybody else.
    let mut lost = Raw::connect(broker.address());
    assert_eq!(lost.kafka_bytes(12_345, 0, b"", 1), None);
    let body = raw::body_of(&MetadataRequest::default().with_topics(Some(vec![])), 12);
    if let Some(reply) = raw.kafka_bytes(ApiKey::Metadata as i16, 99, &body, 2) {
        assert!(!reply.is_empty());
    }
    broker.assert_alive();
}

#[test]
fn fetches_wait_for_data_and_sessions_are_accepted() {
    let broker = Broker::start(BrokerOptions::new().cores(1));
    kafka::create(&broker.bootstrap(), "poll", 1, &[]);
    let address = broker.address();
    let fetch = |session: i32, epoch: i32| {
        let partition = FetchPartition::default().with_partition(0).with_partition_max_bytes(1 << 20);
        let asked = FetchTopic::default().with_topic(topic_name("poll")).with_partitions(vec![partition]);
        FetchRequest::default()
            .with_max_wait_ms(30_000)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_id(session)
            .with_session_epoch(epoch)
            .with_topics(vec![asked])
    };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut raw = Raw::connect(address);
            let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &fetch(0, 0));
            reply
        });
        let mut raw = Raw::connect(address);
        assert_eq!(produce(&mut raw, 9, "poll", records::one("at last")).error_code, 0);
        let mut reply = waiting.join().expect("the fetch is answered");
        assert_eq!(reply.error_code, 0);
        assert!(reply.session_id > 0, "a session is opened");
        let found = reply.responses.remove(0).partitions.remove(0);
        assert_eq!(records::texts(found.records.unwrap()), ["at last"]);
        let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &fetch(7, 3));
        assert_eq!(reply.error_code, code(ErrorCode::FetchSessionIdNotFound));
    });
}
