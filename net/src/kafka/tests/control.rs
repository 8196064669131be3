//! Control requests and replies against the crate, every api and every version advertised.

use bytes::{Bytes, BytesMut};
use heddle_samples::{self as samples, Rng, read_reply};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::*;
use proptest::prelude::*;

use crate::kafka::control::{CONTROL_FRAME_BYTES_MAX, OPERATIONS_UNKNOWN};
use crate::kafka::versions::SERVED;
use crate::kafka::{
    ControlReply, ControlRequest, DecodeError, EncodeError, ReplyHeader, decode_control, decode_header,
    encode_reply, refuse_control,
};

fn control_apis() -> impl Iterator<Item = &'static crate::kafka::Served> {
    SERVED.iter().filter(|entry| !matches!(entry.api, ApiKey::Produce | ApiKey::Fetch))
}

fn decode(frame: &BytesMut) -> Result<ControlRequest, DecodeError> {
    let mut body = frame.clone();
    let header = decode_header(&mut body)?;
    decode_control(&header, body.freeze())
}

/// What the crate reads, with the differences between versions that `decode_control` takes away, as text: a request is
/// written the same whichever enum holds it.
fn expected(mut request: RequestKind, version: i16) -> String {
    match &mut request {
        RequestKind::Metadata(request) if version == 0 => {
            request.topics = request.topics.take().filter(|topics| !topics.is_empty());
        }
        RequestKind::FindCoordinator(request) if version <= 3 => {
            request.coordinator_keys = vec![std::mem::take(&mut request.key)];
        }
        RequestKind::DeleteTopics(request) => {
            for name in std::mem::take(&mut request.topic_names) {
                request.topics.push(delete_topics_request::DeleteTopicState::default().with_name(Some(name)));
            }
        }
        RequestKind::LeaveGroup(request) if version <= 2 => {
            let member = std::mem::take(&mut request.member_id);
            request.members.push(leave_group_request::MemberIdentity::default().with_member_id(member));
        }
        RequestKind::OffsetFetch(request) if version <= 7 => {
            let topics = request.topics.take().map(|topics| {
                let topics = topics.into_iter().map(|topic| {
                    offset_fetch_request::OffsetFetchRequestTopics::default()
                        .with_name(topic.name)
                        .with_partition_indexes(topic.partition_indexes)
                });
                topics.collect()
            });
            let group = offset_fetch_request::OffsetFetchRequestGroup::default();
            let id = std::mem::take(&mut request.group_id);
            request.groups.push(group.with_group_id(id).with_topics(topics));
        }
        _ => {}
    }
    format!("{request:?}")
}

proptest! {
    #[test]
    fn requests_of_the_crate_are_read_back(seed: u64) {
        let mut rng = Rng::new(seed);
        for entry in control_apis() {
            for version in entry.min..=entry.max {
                let sent = samples::request(entry.api, version, &mut rng).unwrap();
                let frame = samples::frame(&sent, entry.api, version, &mut rng);
                let read = format!("{:?}", decode(&frame).unwrap());
                prop_assert_eq!(read, expected(sent, version), "{:?} v{}", entry.api, version);
            }
        }
    }

    #[test]
    fn truncated_or_longer_requests_are_errors(seed: u64) {
        let mut rng = Rng::new(seed);
        for entry in control_apis() {
            for version in entry.min..=entry.max {
                let sent = samples::request(entry.api, version, &mut rng).unwrap();
                let frame = samples::frame(&sent, entry.api, version, &mut rng);
                let cut = BytesMut::from(&frame[..rng.below(frame.len())]);
                prop_assert!(decode(&cut).is_err(), "{:?} v{} cut to {}", entry.api, version, cut.len());
                let mut longer = frame.clone();
                longer.extend_from_slice(&[0]);
                prop_assert_eq!(decode(&longer), Err(DecodeError::TrailingBytes(1)));
            }
        }
    }
}

#[test]
fn versions_that_are_not_served_are_refused() {
    for entry in control_apis() {
        for version in [entry.body_min - 1, entry.max + 1, i16::MAX, i16::MIN] {
            let header =
                crate::kafka::RequestHeader { api: entry.api, version, correlation: 0, client_id: None };
            let refused = DecodeError::UnsupportedVersion { api: entry.api, version };
            assert_eq!(decode_control(&header, Bytes::new()), Err(refused));
        }
    }
}

#[test]
fn a_control_request_beyond_the_cap_is_refused() {
    let header =
        crate::kafka::RequestHeader { api: ApiKey::Metadata, version: 1, correlation: 0, client_id: None };
    let bytes = CONTROL_FRAME_BYTES_MAX + 1;
    let refused = DecodeError::FrameTooLarge { bytes, max: CONTROL_FRAME_BYTES_MAX };
    assert_eq!(decode_control(&header, Bytes::from(vec![0; bytes])), Err(refused));
}

/// A reply with every field set, as a handler fills it in without asking for the version.
fn full_reply(api: ApiKey, version: i16) -> ControlReply {
    match api {
        ApiKey::ListOffsets => full_list_offsets().into(),
        ApiKey::Metadata => full_metadata().into(),
        ApiKey::FindCoordinator => full_find_coordinator().into(),
        ApiKey::ApiVersions => ApiVersionsResponse::default()
            .with_throttle_time_ms(5)
            .with_api_keys(vec![ApiVersion::default().with_api_key(3).with_max_version(12)])
            .into(),
        ApiKey::CreateTopics => full_create_topics().into(),
        ApiKey::DescribeConfigs => full_describe_configs().into(),
        ApiKey::InitProducerId => InitProducerIdResponse::default()
            .with_throttle_time_ms(5)
            .with_producer_id(ProducerId(1 << 40))
            .with_producer_epoch(3)
            .into(),
        ApiKey::DescribeCluster => full_describe_cluster().into(),
        api => {
            // The others say the same in every version, but for one that names several transactions from version 4 on: what a
            // refusal of a sample says is complete.
            let mut rng = Rng::new(5);
            let version = match api {
                ApiKey::AddPartitionsToTxn => version,
                api => crate::kafka::served(api).unwrap().max,
            };
            let request = samples::request(api, version, &mut rng).unwrap();
            let code = heddle_proto::error::ErrorCode::InvalidTopicException;
            let frame = samples::frame(&request, api, version, &mut rng);
            refuse_control(&decode(&frame).unwrap(), code, Some("words"))
        }
    }
}

fn full_list_offsets() -> ListOffsetsResponse {
    let partition = ListOffsetsPartitionResponse::default()
        .with_partition_index(4)
        .with_timestamp(99)
        .with_offset(1 << 33)
        .with_leader_epoch(6);
    let topic =
        ListOffsetsTopicResponse::default().with_name(TopicName("t".into())).with_partitions(vec![partition]);
    ListOffsetsResponse::default().with_throttle_time_ms(5).with_topics(vec![topic])
}

fn full_metadata() -> MetadataResponse {
    let partition = MetadataResponsePartition::default()
        .with_partition_index(1)
        .with_leader_id(BrokerId(1001))
        .with_leader_epoch(2)
        .with_replica_nodes(vec![BrokerId(1001)])
        .with_isr_nodes(vec![BrokerId(1001)])
        .with_offline_replicas(vec![BrokerId(2001)]);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName("t".into())))
        .with_is_internal(true)
        .with_partitions(vec![partition])
        .with_topic_authorized_operations(8);
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1001))
        .with_host("host".into())
        .with_port(9093)
        .with_rack(Some("rack".into()));
    MetadataResponse::default()
        .with_throttle_time_ms(5)
        .with_brokers(vec![broker])
        .with_cluster_id(Some("cluster".into()))
        .with_controller_id(BrokerId(1000))
        .with_topics(vec![topic])
        .with_cluster_authorized_operations(8)
}

fn full_find_coordinator() -> FindCoordinatorResponse {
    let coordinator = Coordinator::default()
        .with_key("group".into())
        .with_node_id(BrokerId(1001))
        .with_host("host".into())
        .with_port(9093)
        .with_error_message(Some("words".into()));
    FindCoordinatorResponse::default().with_throttle_time_ms(5).with_coordinators(vec![coordinator])
}

fn full_create_topics() -> CreateTopicsResponse {
    let config = CreatableTopicConfigs::default()
        .with_name("retention.ms".into())
        .with_value(Some("1".into()))
        .with_read_only(true)
        .with_config_source(1)
        .with_is_sensitive(true);
    let topic = CreatableTopicResult::default()
        .with_name(TopicName("t".into()))
        .with_error_message(Some("words".into()))
        .with_num_partitions(3)
        .with_replication_factor(1)
        .with_configs(Some(vec![config]));
    CreateTopicsResponse::default().with_throttle_time_ms(5).with_topics(vec![topic])
}

fn full_describe_configs() -> DescribeConfigsResponse {
    let synonym =
        DescribeConfigsSynonym::default().with_name("s".into()).with_value(Some("v".into())).with_source(5);
    let config = DescribeConfigsResourceResult::default()
        .with_name("retention.ms".into())
        .with_value(Some("1".into()))
        .with_config_source(5)
        .with_synonyms(vec![synonym])
        .with_config_type(5)
        .with_documentation(Some("words".into()));
    let result = DescribeConfigsResult::default()
        .with_resource_type(2)
        .with_resource_name("t".into())
        .with_configs(vec![config]);
    DescribeConfigsResponse::default().with_throttle_time_ms(5).with_results(vec![result])
}

fn full_describe_cluster() -> DescribeClusterResponse {
    let broker = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(1001))
        .with_host("host".into())
        .with_port(9093)
        .with_is_fenced(true);
    DescribeClusterResponse::default()
        .with_endpoint_type(2)
        .with_cluster_id("cluster".into())
        .with_controller_id(BrokerId(1000))
        .with_brokers(vec![broker])
        .with_cluster_authorized_operations(8)
}

#[test]
fn full_replies_are_read_back_in_every_version() {
    let mut scratch = BytesMut::new();
    for entry in control_apis() {
        for version in entry.min..=entry.max {
            let header = ReplyHeader { api: entry.api, version, correlation: 3 };
            let reply = full_reply(entry.api, version);
            let bytes = encode_reply(header, reply.clone(), &mut scratch)
                .unwrap_or_else(|error| panic!("{:?} v{version}: {error}", entry.api));
            let (correlation, read) = read_reply(entry.api, version, bytes);
            assert_eq!(correlation, 3);
            // The newest version says everything, but for the field that Metadata dropped in version 11.
            if version == entry.max && entry.api != ApiKey::Metadata {
                assert_eq!(format!("{reply:?}"), format!("{read:?}"));
            }
        }
    }
}

fn read_metadata(version: i16) -> MetadataResponse {
    let header = ReplyHeader { api: ApiKey::Metadata, version, correlation: 3 };
    let bytes = encode_reply(header, full_reply(ApiKey::Metadata, 12), &mut BytesMut::new()).unwrap();
    match read_reply(ApiKey::Metadata, version, bytes).1 {
        ResponseKind::Metadata(reply) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn metadata_says_what_its_version_can_say() {
    let newest = full_metadata().with_cluster_authorized_operations(OPERATIONS_UNKNOWN);
    assert_eq!(read_metadata(12), newest);
    assert_eq!(read_metadata(10), full_metadata());
    let old = read_metadata(0);
    assert_eq!(old.topics[0].partitions[0].leader_id, BrokerId(1001));
    assert_eq!(old.topics[0].topic_authorized_operations, OPERATIONS_UNKNOWN);
}

#[test]
fn an_old_find_coordinator_gets_the_first_answer() {
    for version in 0..=3 {
        let header = ReplyHeader { api: ApiKey::FindCoordinator, version, correlation: 3 };
        let bytes =
            encode_reply(header, full_reply(ApiKey::FindCoordinator, 6), &mut BytesMut::new()).unwrap();
        let (_, ResponseKind::FindCoordinator(read)) = read_reply(ApiKey::FindCoordinator, version, bytes)
        else {
            panic!("another api");
        };
        assert_eq!((read.node_id, read.port), (BrokerId(1001), 9093));
        assert_eq!(read.host.as_str(), "host");
    }
}

#[test]
fn a_reply_of_another_api_is_refused() {
    let header = ReplyHeader { api: ApiKey::ListOffsets, version: 7, correlation: 3 };
    let error = encode_reply(header, full_reply(ApiKey::Metadata, 12), &mut BytesMut::new()).unwrap_err();
    assert_eq!(error, EncodeError::WrongApi(ApiKey::ListOffsets));
}
