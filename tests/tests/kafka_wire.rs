//! The wire beside produce and fetch as such: sessions, quotas, admin requests, and that no request crosses cores where a
//! client need not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures_lite::future::block_on;
use heddle_proto::ErrorCode;
use heddle_tests::broker::{Broker, BrokerOptions, PortMode};
use heddle_tests::kafka::{self, ToSend};
use heddle_tests::raw::Raw;
use heddle_tests::records;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use rdkafka::admin::{AlterConfig, NewPartitions, ResourceSpecifier};

fn words(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(text: &str) -> TopicName {
    TopicName(words(text))
}

fn produce(raw: &mut Raw, topic: &str, partition: i32, value: Vec<u8>) -> ProduceResponse {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records::one(value)));
    let data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![data]);
    raw.kafka(ApiKey::Produce, 9, &request)
}

/// A fetch of partitions at offsets, in a session.
fn fetch(session: (i32, i32), at: &[(i32, i64)], forgotten: &[i32]) -> FetchRequest {
    let partitions = at.iter().map(|(partition, offset)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(partitions.collect());
    let forgotten = ForgottenTopic::default().with_topic(topic_name("t")).with_partitions(forgotten.to_vec());
    FetchRequest::default()
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_id(session.0)
        .with_session_epoch(session.1)
        .with_topics(vec![topic])
        .with_forgotten_topics_data(vec![forgotten])
}

/// What a reply tells: partition and values.
fn told(reply: FetchResponse) -> Vec<(i32, Vec<String>)> {
    assert_eq!(reply.error_code, 0);
    let parts = reply.responses.into_iter().flat_map(|topic| topic.partitions);
    let mut told: Vec<_> =
        parts.map(|part| (part.partition_index, records::texts(part.records.unwrap_or_default()))).collect();
    told.sort();
    told
}

#[test]
fn a_session_tells_only_what_is_new() {
    let broker = Broker::start(BrokerOptions::new().cores(1));
    kafka::create(&broker.bootstrap(), "t", 50, &[]);
    let mut raw = Raw::connect(broker.address());
    let all: Vec<(i32, i64)> = (0..50).map(|partition| (partition, 0)).collect();
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &fetch((0, 0), &all, &[]));
    let id = reply.session_id;
    assert!(id > 0);
    assert_eq!(told(reply).len(), 50, "the first reply tells of all");
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &fetch((id, 1), &[], &[]));
    assert_eq!(told(reply), [], "nothing is new");
    produce(&mut raw, "t", 7, b"seven".to_vec());
    produce(&mut raw, "t", 9, b"nine".to_vec());
    let news = [(7, vec!["seven".to_owned()]), (9, vec!["nine".to_owned()])];
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &fetch((id, 2), &[], &[]));
    assert_eq!(told(reply), news);
    // Whoever does not move on gets the same again; whoever does, and forgets, does not.
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &fetch((id, 3), &[(7, 1)], &[]));
    assert_eq!(told(reply), news[1..]);
    produce(&mut raw, "t", 9, b"unseen".to_vec());
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &fetch((id, 4), &[], &[9]));
    assert_eq!(told(reply), []);
    let errors = [
        ((id, 4), ErrorCode::InvalidFetchSessionEpoch),
        ((id, 9), ErrorCode::InvalidFetchSessionEpoch),
        ((id.wrapping_add(1) & i32::MAX, 1), ErrorCode::FetchSessionIdNotFound),
    ];
    for (session, error) in errors {
        let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &fetch(session, &[], &[]));
        assert_eq!(reply.error_code, error.code(), "{session:?}");
    }
    let topic = FetchTopic::default().with_topic_id(uuid::Uuid::from_u128(5));
    let by_id = FetchRequest::default().with_session_id(id).with_session_epoch(5).with_topics(vec![topic]);
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 13, &by_id);
    assert_eq!(reply.error_code, ErrorCode::FetchSessionTopicIdError.code());
    assert_eq!(broker.metrics().sum("fetch_sessions"), 1);
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &fetch((id, -1), &[(7, 0)], &[]));
    assert_eq!((reply.session_id, told(reply)), (0, news[..1].to_vec()));
    assert_eq!(broker.metrics().sum("fetch_sessions"), 0);
}

#[test]
fn a_session_wakes_for_any_of_its_partitions_also_of_other_cores() {
    for mode in PortMode::ALL {
        let broker = Broker::start(BrokerOptions::new().cores(2).port_mode(mode));
        kafka::create(&broker.bootstrap(), "t", 8, &[]);
        let mut raw = Raw::connect(broker.address());
        let all: Vec<(i32, i64)> = (0..8).map(|partition| (partition, 0)).collect();
        let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &fetch((0, 0), &all, &[]));
        let id = reply.session_id;
        for (epoch, partition) in (1..).zip(0..8) {
            let value = format!("{partition}");
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    let moved: Vec<(i32, i64)> = (0..partition).map(|done| (done, 1)).collect();
                    let request = fetch((id, epoch), &moved, &[]).with_max_wait_ms(30_000);
                    raw.kafka::<_, FetchResponse>(ApiKey::Fetch, 12, &request)
                });
                kafka::deliver(&broker.bootstrap(), "t", &[], &[ToSend::to(partition, value.clone())]);
                let reply = waiting.join().unwrap();
                assert_eq!(told(reply), [(partition, vec![value])], "{mode:?}");
            });
        }
    }
}

#[test]
fn a_large_batch_is_read_and_the_next_partition_is_not_starved() {
    let broker = Broker::start(BrokerOptions::new().cores(1));
    kafka::create(&broker.bootstrap(), "t", 3, &[]);
    let mut raw = Raw::connect(broker.address());
    for partition in 0..3 {
        produce(&mut raw, "t", partition, vec![b'x'; 5000]);
    }
    let ask = |session, at: &[(i32, i64)]| fetch(session, at, &[]).with_max_bytes(100);
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &ask((0, 0), &[(0, 0), (1, 0), (2, 0)]));
    let id = reply.session_id;
    let mut served = Vec::new();
    let mut reply = reply;
    for epoch in 1..4 {
        let with_records: Vec<i32> =
            told(reply).into_iter().filter(|(_, values)| !values.is_empty()).map(|(part, _)| part).collect();
        assert_eq!(with_records.len(), 1, "one batch, although it is larger than the limit");
        served.extend(with_records);
        // The client never moves on: the others come first all the same.
        reply = raw.kafka(ApiKey::Fetch, 12, &ask((id, epoch), &[]));
    }
    served.sort_unstable();
    assert_eq!(served, [0, 1, 2]);
}

/// How many requests of librdkafka crossed cores.
fn hops_of_a_client(mode: PortMode) -> u64 {
    let broker = Broker::start(BrokerOptions::new().cores(2).port_mode(mode));
    kafka::create(&broker.bootstrap(), "t", 8, &[]);
    let before = broker.metrics().sum("mesh_hops");
    let sent: Vec<ToSend> = (0..400).map(|number| ToSend::to(number % 8, format!("{number}"))).collect();
    kafka::deliver(&broker.bootstrap(), "t", &[], &sent);
    let read = kafka::read_to_end(&broker.bootstrap(), "t", &kafka::from_beginning(8));
    assert_eq!(read.len(), 400);
    broker.metrics().sum("mesh_hops") - before
}

#[test]
fn with_a_port_for_each_core_nothing_crosses_cores() {
    assert_eq!(hops_of_a_client(PortMode::PerCore), 0);
    assert!(hops_of_a_client(PortMode::Single) > 0, "the counter would show it");
}

fn set_quota(raw: &mut Raw, client: Option<&str>, key: &str, value: Option<f64>) -> i16 {
    use alter_client_quotas_request::{EntityData, EntryData, OpData};
    let entity =
        EntityData::default().with_entity_type(words("client-id")).with_entity_name(client.map(words));
    let op = OpData::default()
        .with_key(words(key))
        .with_value(value.unwrap_or_default())
        .with_remove(value.is_none());
    let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![op]);
    let request = AlterClientQuotasRequest::default().with_entries(vec![entry]);
    let reply: AlterClientQuotasResponse = raw.kafka(ApiKey::AlterClientQuotas, 1, &request);
    reply.entries[0].error_code
}

fn quotas(raw: &mut Raw, match_type: i8, name: Option<&str>) -> Vec<(Option<String>, String, f64)> {
    let component = describe_client_quotas_request::ComponentData::default()
        .with_entity_type(words("client-id"))
        .with_match_type(match_type)
        .with_match(name.map(words));
    let request = DescribeClientQuotasRequest::default().with_components(vec![component]);
    let reply: DescribeClientQuotasResponse = raw.kafka(ApiKey::DescribeClientQuotas, 1, &request);
    assert_eq!(reply.error_code, 0);
    let entries = reply.entries.unwrap().into_iter();
    entries
        .map(|entry| {
            let name = entry.entity[0].entity_name.as_ref().map(ToString::to_string);
            (name, entry.values[0].key.to_string(), entry.values[0].value)
        })
        .collect()
}

#[test]
fn quotas_hold_clients_back_and_survive_a_restart() {
    for mode in PortMode::ALL {
        let mut broker = Broker::start(BrokerOptions::new().cores(2).port_mode(mode));
        kafka::create(&broker.bootstrap(), "t", 1, &[]);
        let mut raw = Raw::connect(broker.address());
        assert_eq!(produce(&mut raw, "t", 0, vec![b'x'; 3000]).throttle_time_ms, 0);
        assert_eq!(set_quota(&mut raw, Some("test"), "producer_byte_rate", Some(20_000.0)), 0);
        assert_eq!(set_quota(&mut raw, None, "consumer_byte_rate", Some(50_000.0)), 0);
        broker.kill();
        broker.restart();
        let mut raw = Raw::connect(broker.address());
        assert_eq!(
            quotas(&mut raw, 0, Some("test")),
            [(Some("test".into()), "producer_byte_rate".into(), 20_000.0)]
        );
        assert_eq!(quotas(&mut raw, 1, None), [(None, "consumer_byte_rate".into(), 50_000.0)]);
        assert_eq!(quotas(&mut raw, 2, None).len(), 2);
        // The connection of the tests calls itself "test".
        let throttles: Vec<i32> =
            (0..3).map(|_| produce(&mut raw, "t", 0, vec![b'x'; 12_000]).throttle_time_ms).collect();
        assert!(throttles[0] == 0 && throttles[1..].iter().all(|ms| *ms > 0), "{throttles:?} {mode:?}");
        let metrics = broker.metrics();
        assert!(metrics.sum("quota_throttles") >= 2 && metrics.sum("quota_throttle_ms") > 0);
        assert_eq!(set_quota(&mut raw, Some("test"), "producer_byte_rate", None), 0);
        assert_eq!(produce(&mut raw, "t", 0, vec![b'x'; 30_000]).throttle_time_ms, 0);
        let all = fetch((0, -1), &[(0, 0)], &[]);
        let throttles: Vec<i32> =
            (0..3).map(|_| raw.kafka::<_, FetchResponse>(ApiKey::Fetch, 12, &all).throttle_time_ms).collect();
        assert!(throttles.iter().any(|ms| *ms > 0), "{throttles:?} {mode:?}");
        for (key, value) in
            [("no_such_rate", 1.0), ("producer_byte_rate", 0.0), ("producer_byte_rate", f64::NAN)]
        {
            let refused = set_quota(&mut raw, None, key, Some(value));
            assert_eq!(refused, ErrorCode::InvalidRequest.code(), "{key}={value}");
        }
    }
}

#[test]
fn the_admin_client_of_librdkafka_works() {
    let broker = Broker::start(BrokerOptions::new().cores(2));
    kafka::create(&broker.bootstrap(), "t", 2, &[("retention.ms", "5000")]);
    let (admin, options) = (kafka::admin(&broker.bootstrap()), kafka::admin_options());
    let grown = block_on(admin.create_partitions([&NewPartitions::new("t", 5)], &options));
    assert!(grown.unwrap()[0].is_ok());
    let again = block_on(admin.create_partitions([&NewPartitions::new("t", 5)], &options));
    assert!(again.unwrap()[0].is_err());
    let topic = ResourceSpecifier::Topic("t");
    let value = |name: &str| {
        let described = block_on(admin.describe_configs([&topic], &options)).unwrap().remove(0).unwrap();
        let entry = described.get(name).expect("the setting is there");
        (entry.value.clone().unwrap(), entry.is_default)
    };
    assert_eq!(value("retention.ms"), ("5000".to_owned(), false));
    assert_eq!(value("retention.bytes"), ("-1".to_owned(), true));
    // This one replaces everything.
    let replace = AlterConfig::new(topic).set("max.message.bytes", "2000");
    assert!(block_on(admin.alter_configs([&replace], &options)).unwrap()[0].is_ok());
    assert_eq!(value("max.message.bytes"), ("2000".to_owned(), false));
    assert_eq!(value("retention.ms"), ("604800000".to_owned(), true));
}

#[test]
fn admin_requests_answer_with_what_kafka_answers() {
    let broker = Broker::start(BrokerOptions::new().cores(2));
    let mut raw = Raw::connect(broker.address());
    // Brokers chosen for replicas: both partitions on the second core.
    use create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
    let on = |index: i32, brokers: &[i32]| {
        CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
    };
    let metadata: MetadataResponse =
        raw.kafka(ApiKey::Metadata, 12, &MetadataRequest::default().with_topics(Some(vec![])));
    let second = metadata.brokers[1].node_id;
    let create = |raw: &mut Raw, assignments: Vec<CreatableReplicaAssignment>, count: i32| {
        let topic = CreatableTopic::default()
            .with_name(topic_name("chosen"))
            .with_num_partitions(count)
            .with_replication_factor(-1)
            .with_assignments(assignments);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let mut reply: CreateTopicsResponse = raw.kafka(ApiKey::CreateTopics, 7, &request);
        reply.topics.remove(0)
    };
    let wrong = [
        (vec![on(0, &[77_000])], -1, ErrorCode::InvalidReplicaAssignment),
        (vec![on(0, &[])], -1, ErrorCode::InvalidReplicaAssignment),
        (vec![on(1, &[second.0])], -1, ErrorCode::InvalidReplicaAssignment),
        (vec![on(0, &[second.0]), on(0, &[second.0])], -1, ErrorCode::InvalidReplicaAssignment),
        (vec![on(0, &[second.0])], 1, ErrorCode::InvalidRequest),
    ];
    for (assignments, count, error) in wrong {
        let result = create(&mut raw, assignments, count);
        assert_eq!(result.error_code, error.code(), "{:?}", result.error_message);
    }
    let created = create(&mut raw, vec![on(1, &[second.0]), on(0, &[second.0])], -1);
    assert_eq!((created.error_code, created.num_partitions, created.replication_factor), (0, 2, 1));
    assert!(created.configs.unwrap().iter().any(|config| &*config.name == "retention.ms"));
    let asked = describe_topic_partitions_request::TopicRequest::default().with_name(topic_name("chosen"));
    let request = DescribeTopicPartitionsRequest::default().with_topics(vec![asked]);
    let reply: DescribeTopicPartitionsResponse = raw.kafka(ApiKey::DescribeTopicPartitions, 0, &request);
    assert!(reply.topics[0].partitions.iter().all(|partition| partition.leader_id == second));

    kafka::create(&broker.bootstrap(), "t", 1, &[]);
    for value in ["a", "b", "c"] {
        kafka::deliver(&broker.bootstrap(), "t", &[], &[ToSend::to(0, value)]);
    }
    let delete = |raw: &mut Raw, offset: i64, index: i32| {
        let partition = delete_records_request::DeleteRecordsPartition::default()
            .with_partition_index(index)
            .with_offset(offset);
        let topic = delete_records_request::DeleteRecordsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let mut reply: DeleteRecordsResponse = raw.kafka(ApiKey::DeleteRecords, 2, &request);
        let result = reply.topics.remove(0).partitions.remove(0);
        (result.error_code, result.low_watermark)
    };
    let out_of_range = ErrorCode::OffsetOutOfRange.code();
    assert_eq!(delete(&mut raw, 2, 0), (0, 2));
    assert_eq!(delete(&mut raw, 4, 0), (out_of_range, -1));
    assert_eq!(delete(&mut raw, -2, 0), (out_of_range, -1));
    assert_eq!(delete(&mut raw, 0, 5), (ErrorCode::UnknownTopicOrPartition.code(), -1));
    assert_eq!(delete(&mut raw, -1, 0), (0, 3));

    let list = |raw: &mut Raw, version: i16, asked: &[(i64, i32)]| -> Vec<(i16, i64)> {
        let partitions = asked.iter().map(|(timestamp, epoch)| {
            list_offsets_request::ListOffsetsPartition::default()
                .with_partition_index(0)
                .with_current_leader_epoch(*epoch)
                .with_timestamp(*timestamp)
        });
        let topic = list_offsets_request::ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(partitions.collect());
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let mut reply: ListOffsetsResponse = raw.kafka(ApiKey::ListOffsets, version, &request);
        let parts = reply.topics.remove(0).partitions.into_iter();
        parts.map(|part| (part.error_code, part.offset)).collect()
    };
    let unsupported = (ErrorCode::UnsupportedVersion.code(), -1);
    for (timestamp, since, offset) in [(-1, 4, 3), (-2, 4, 3), (-4, 8, 3), (-5, 9, -1)] {
        assert_eq!(list(&mut raw, since, &[(timestamp, -1)]), [(0, offset)], "{timestamp}");
        if since > 4 {
            assert_eq!(list(&mut raw, since - 1, &[(timestamp, -1)]), [unsupported], "{timestamp}");
        }
    }
    assert_eq!(list(&mut raw, 10, &[(-9, -1)]), [unsupported]);
    assert_eq!(list(&mut raw, 10, &[(-1, 40)]), [(ErrorCode::UnknownLeaderEpoch.code(), -1)]);
    let invalid = (ErrorCode::InvalidRequest.code(), -1);
    assert_eq!(list(&mut raw, 10, &[(-1, -1), (-2, -1)]), [invalid, invalid], "asked twice");

    let reply: DescribeLogDirsResponse =
        raw.kafka(ApiKey::DescribeLogDirs, 4, &DescribeLogDirsRequest::default().with_topics(None));
    assert!(reply.results.len() == 1 && reply.results[0].total_bytes > reply.results[0].usable_bytes);
    let elect = elect_leaders_request::TopicPartitions::default()
        .with_topic(topic_name("t"))
        .with_partitions(vec![0, 9]);
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![elect]));
    let reply: ElectLeadersResponse = raw.kafka(ApiKey::ElectLeaders, 2, &request);
    let codes: Vec<i16> =
        reply.replica_election_results[0].partition_result.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ErrorCode::ElectionNotNeeded.code(), ErrorCode::UnknownTopicOrPartition.code()]);
    let cancel = alter_partition_reassignments_request::ReassignablePartition::default().with_replicas(None);
    let topic = alter_partition_reassignments_request::ReassignableTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![cancel]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    let reply: AlterPartitionReassignmentsResponse =
        raw.kafka(ApiKey::AlterPartitionReassignments, 0, &request);
    let result = &reply.responses[0].partitions[0];
    assert_eq!(result.error_code, ErrorCode::NoReassignmentInProgress.code());
}
