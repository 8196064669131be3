//! Requests with random contents, encoded by the `kafka-protocol` crate: the client side of round trips and fuzzing.
//!
//! Nothing here names the codec under test. With [`Rng::knowing`] the requests are mostly about what a broker has.

mod mutate;
mod rng;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, StrBytes};

pub use mutate::{CLAIMS, mutate, overwrite};
pub use rng::{Known, Rng};

fn topic_name(rng: &mut Rng) -> TopicName {
    rng.text().into()
}

/// A frame without its length prefix: header with a random correlation and client id, then the request.
pub fn frame(request: &RequestKind, api: ApiKey, version: i16, rng: &mut Rng) -> BytesMut {
    let mut out = header(api, version, rng);
    request.encode(&mut out, version).expect("samples fit their version");
    out
}

/// The request header of `api` at `version`.
pub fn header(api: ApiKey, version: i16, rng: &mut Rng) -> BytesMut {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(rng.i32())
        .with_client_id(rng.maybe_text());
    let mut out = BytesMut::new();
    header.encode(&mut out, api.request_header_version(version)).expect("headers encode");
    out
}

/// A random request of `api` that `version` can say, `None` for apis without a sample.
pub fn request(api: ApiKey, version: i16, rng: &mut Rng) -> Option<RequestKind> {
    Some(match api {
        ApiKey::Produce => produce(version, rng).into(),
        ApiKey::Fetch => fetch(version, rng).into(),
        ApiKey::ListOffsets => list_offsets(version, rng).into(),
        ApiKey::Metadata => metadata(version, rng).into(),
        ApiKey::FindCoordinator => find_coordinator(version, rng).into(),
        ApiKey::ApiVersions => api_versions(version, rng).into(),
        ApiKey::CreateTopics => create_topics(rng).into(),
        ApiKey::DeleteTopics => delete_topics(version, rng).into(),
        ApiKey::InitProducerId => init_producer_id(version, rng).into(),
        ApiKey::AddPartitionsToTxn => add_partitions_to_txn(version, rng).into(),
        ApiKey::AddOffsetsToTxn => {
            let (id, epoch) = rng.producer();
            AddOffsetsToTxnRequest::default()
                .with_transactional_id(rng.text().into())
                .with_producer_id(ProducerId(id))
                .with_producer_epoch(epoch)
                .with_group_id(rng.text().into())
                .into()
        }
        ApiKey::EndTxn => {
            let (id, epoch) = rng.producer();
            EndTxnRequest::default()
                .with_transactional_id(rng.text().into())
                .with_producer_id(ProducerId(id))
                .with_producer_epoch(epoch)
                .with_committed(rng.flip())
                .into()
        }
        ApiKey::TxnOffsetCommit => txn_offset_commit(version, rng).into(),
        ApiKey::WriteTxnMarkers => write_txn_markers(rng).into(),
        ApiKey::DescribeProducers => describe_producers(rng).into(),
        ApiKey::DescribeTransactions => DescribeTransactionsRequest::default()
            .with_transactional_ids(rng.few(|rng| rng.text().into()))
            .into(),
        ApiKey::ListTransactions => list_transactions(version, rng).into(),
        ApiKey::DescribeConfigs => describe_configs(version, rng).into(),
        ApiKey::CreatePartitions => create_partitions(rng).into(),
        ApiKey::IncrementalAlterConfigs => incremental_alter_configs(rng).into(),
        ApiKey::DescribeCluster => describe_cluster(version, rng).into(),
        ApiKey::DeleteRecords => delete_records(rng).into(),
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch(rng).into(),
        ApiKey::AlterConfigs => alter_configs(rng).into(),
        ApiKey::DescribeLogDirs => describe_log_dirs(rng).into(),
        ApiKey::ElectLeaders => elect_leaders(version, rng).into(),
        ApiKey::AlterPartitionReassignments => alter_partition_reassignments(version, rng).into(),
        ApiKey::ListPartitionReassignments => list_partition_reassignments(rng).into(),
        ApiKey::DescribeClientQuotas => describe_client_quotas(rng).into(),
        ApiKey::AlterClientQuotas => alter_client_quotas(rng).into(),
        ApiKey::DescribeTopicPartitions => describe_topic_partitions(rng).into(),
        api => return group_request(api, version, rng).or_else(|| unserved_request(api, rng)),
    })
}

fn group_request(api: ApiKey, version: i16, rng: &mut Rng) -> Option<RequestKind> {
    Some(match api {
        ApiKey::OffsetCommit => offset_commit(version, rng).into(),
        ApiKey::OffsetFetch => offset_fetch(version, rng).into(),
        ApiKey::DescribeGroups => DescribeGroupsRequest::default()
            .with_groups(rng.few(|rng| rng.text().into()))
            .with_include_authorized_operations(version >= 3 && rng.flip())
            .into(),
        ApiKey::ConsumerGroupDescribe => {
            ConsumerGroupDescribeRequest::default().with_group_ids(rng.few(|rng| rng.text().into())).into()
        }
        ApiKey::DeleteGroups => {
            DeleteGroupsRequest::default().with_groups_names(rng.few(|rng| rng.text().into())).into()
        }
        ApiKey::JoinGroup => join_group(version, rng).into(),
        ApiKey::SyncGroup => sync_group(version, rng).into(),
        ApiKey::Heartbeat => HeartbeatRequest::default()
            .with_group_id(rng.text().into())
            .with_generation_id(rng.i32())
            .with_member_id(rng.text())
            .with_group_instance_id(if version >= 3 { rng.maybe_text() } else { None })
            .into(),
        ApiKey::LeaveGroup => leave_group(version, rng).into(),
        ApiKey::ListGroups => ListGroupsRequest::default()
            .with_states_filter(if version >= 4 { rng.few(Rng::text) } else { Vec::new() })
            .with_types_filter(if version >= 5 { rng.few(Rng::text) } else { Vec::new() })
            .into(),
        ApiKey::OffsetDelete => offset_delete(rng).into(),
        ApiKey::ConsumerGroupHeartbeat => consumer_group_heartbeat(version, rng).into(),
        _ => return None,
    })
}

fn join_group(version: i16, rng: &mut Rng) -> JoinGroupRequest {
    let protocols =
        rng.few(|rng| JoinGroupRequestProtocol::default().with_name(rng.text()).with_metadata(rng.bytes()));
    let mut request = JoinGroupRequest::default()
        .with_group_id(rng.text().into())
        .with_session_timeout_ms(rng.i32())
        .with_member_id(rng.text())
        .with_protocol_type(rng.text())
        .with_protocols(protocols);
    if version >= 1 {
        request.rebalance_timeout_ms = rng.i32();
    }
    if version >= 5 {
        request.group_instance_id = rng.maybe_text();
    }
    if version >= 8 {
        request.reason = rng.maybe_text();
    }
    request
}

fn sync_group(version: i16, rng: &mut Rng) -> SyncGroupRequest {
    let assignments = rng.few(|rng| {
        SyncGroupRequestAssignment::default().with_member_id(rng.text()).with_assignment(rng.bytes())
    });
    let mut request = SyncGroupRequest::default()
        .with_group_id(rng.text().into())
        .with_generation_id(rng.i32())
        .with_member_id(rng.text())
        .with_assignments(assignments);
    if version >= 3 {
        request.group_instance_id = rng.maybe_text();
    }
    if version >= 5 {
        request.protocol_type = rng.maybe_text();
        request.protocol_name = rng.maybe_text();
    }
    request
}

fn leave_group(version: i16, rng: &mut Rng) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(rng.text().into());
    if version <= 2 {
        return request.with_member_id(rng.text());
    }
    let members = rng.few(|rng| {
        MemberIdentity::default()
            .with_member_id(rng.text())
            .with_group_instance_id(rng.maybe_text())
            .with_reason(if version >= 5 { rng.maybe_text() } else { None })
    });
    request.with_members(members)
}

fn offset_delete(rng: &mut Rng) -> OffsetDeleteRequest {
    let topics = rng.few(|rng| {
        let partitions =
            rng.few(|rng| OffsetDeleteRequestPartition::default().with_partition_index(rng.i32()));
        OffsetDeleteRequestTopic::default().with_name(topic_name(rng)).with_partitions(partitions)
    });
    OffsetDeleteRequest::default().with_group_id(rng.text().into()).with_topics(topics)
}

fn consumer_group_heartbeat(version: i16, rng: &mut Rng) -> ConsumerGroupHeartbeatRequest {
    let names = rng.flip().then(|| rng.few(topic_name));
    let owned = rng.flip().then(|| {
        rng.few(|rng| {
            consumer_group_heartbeat_request::TopicPartitions::default()
                .with_topic_id(uuid::Uuid::from_bytes(rng.uuid()))
                .with_partitions(rng.few(Rng::i32))
        })
    });
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(rng.text().into())
        .with_member_id(rng.text())
        .with_member_epoch(rng.i32())
        .with_instance_id(rng.maybe_text())
        .with_rack_id(rng.maybe_text())
        .with_rebalance_timeout_ms(rng.i32())
        .with_subscribed_topic_names(names)
        .with_subscribed_topic_regex(if version >= 1 { rng.maybe_text() } else { None })
        .with_server_assignor(rng.maybe_text())
        .with_topic_partitions(owned)
}

fn unserved_request(api: ApiKey, rng: &mut Rng) -> Option<RequestKind> {
    Some(match api {
        ApiKey::CreateAcls => create_acls(rng).into(),
        _ => return None,
    })
}

/// A produce request with random bytes as batches.
pub fn produce(version: i16, rng: &mut Rng) -> ProduceRequest {
    let topics = rng.few(|rng| {
        let partitions = rng.few(|rng| {
            let records = (rng.below(8) > 0).then(|| rng.records());
            PartitionProduceData::default().with_index(rng.i32()).with_records(records)
        });
        let topic = TopicProduceData::default().with_partition_data(partitions);
        match version <= 12 {
            true => topic.with_name(topic_name(rng)),
            false => topic.with_topic_id(uuid::Uuid::from_bytes(rng.uuid())),
        }
    });
    ProduceRequest::default()
        .with_transactional_id(rng.maybe_text().map(Into::into))
        .with_acks([-1, 0, 1, 7][rng.below(4)])
        .with_timeout_ms(rng.i32())
        .with_topic_data(topics)
}

/// A fetch request.
pub fn fetch(version: i16, rng: &mut Rng) -> FetchRequest {
    let topics = rng.few(|rng| {
        let partitions = rng.few(|rng| fetch_partition(version, rng));
        let topic = FetchTopic::default().with_partitions(partitions);
        match version <= 12 {
            true => topic.with_topic(topic_name(rng)),
            false => topic.with_topic_id(uuid::Uuid::from_bytes(rng.uuid())),
        }
    });
    let mut request = FetchRequest::default()
        .with_max_wait_ms(rng.i32())
        .with_min_bytes(rng.i32())
        .with_max_bytes(rng.i32())
        .with_isolation_level(rng.below(3) as i8)
        .with_topics(topics);
    if version <= 14 {
        request.replica_id = rng.i32().into();
    } else if rng.flip() {
        request.replica_state = ReplicaState::default().with_replica_id(rng.i32().into());
    }
    if version >= 7 {
        (request.session_id, request.session_epoch) = rng.session();
        request.forgotten_topics_data = rng.few(|rng| {
            let topic = ForgottenTopic::default().with_partitions(rng.few(Rng::i32));
            match version <= 12 {
                true => topic.with_topic(topic_name(rng)),
                false => topic.with_topic_id(uuid::Uuid::from_bytes(rng.uuid())),
            }
        });
    }
    if version >= 11 {
        request.rack_id = rng.text();
    }
    request
}

fn fetch_partition(version: i16, rng: &mut Rng) -> FetchPartition {
    let mut partition = FetchPartition::default()
        .with_partition(rng.i32())
        .with_fetch_offset(rng.i64())
        .with_partition_max_bytes(rng.i32());
    if version >= 9 {
        partition.current_leader_epoch = rng.i32();
    }
    if version >= 12 {
        partition.last_fetched_epoch = rng.i32();
    }
    if version >= 5 {
        partition.log_start_offset = rng.i64();
    }
    partition
}

fn list_offsets(version: i16, rng: &mut Rng) -> ListOffsetsRequest {
    let topics = rng.few(|rng| {
        let partitions = rng.few(|rng| {
            ListOffsetsPartition::default()
                .with_partition_index(rng.i32())
                .with_current_leader_epoch(if version >= 4 { rng.i32() } else { -1 })
                .with_timestamp(rng.i64())
        });
        ListOffsetsTopic::default().with_name(topic_name(rng)).with_partitions(partitions)
    });
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(if version >= 2 { rng.below(3) as i8 } else { 0 })
        .with_topics(topics)
}

fn metadata(version: i16, rng: &mut Rng) -> MetadataRequest {
    let topics = rng.few(|rng| {
        if version >= 10 && rng.flip() {
            let id = uuid::Uuid::from_bytes(rng.uuid());
            return MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        }
        MetadataRequestTopic::default().with_name(Some(topic_name(rng)))
    });
    let mut request = MetadataRequest::default().with_topics((version == 0 || rng.flip()).then_some(topics));
    if version >= 4 {
        request.allow_auto_topic_creation = rng.flip();
    }
    if version >= 8 {
        request.include_topic_authorized_operations = rng.flip();
    }
    request
}

fn find_coordinator(version: i16, rng: &mut Rng) -> FindCoordinatorRequest {
    let mut request = FindCoordinatorRequest::default();
    if version >= 1 {
        request.key_type = rng.below(3) as i8;
    }
    if version >= 4 {
        request.coordinator_keys = rng.few(Rng::text);
    } else {
        request.key = rng.text();
    }
    request
}

fn api_versions(version: i16, rng: &mut Rng) -> ApiVersionsRequest {
    if version < 3 {
        return ApiVersionsRequest::default();
    }
    ApiVersionsRequest::default()
        .with_client_software_name(rng.text())
        .with_client_software_version(rng.text())
}

fn create_topics(rng: &mut Rng) -> CreateTopicsRequest {
    let topics = rng.few(|rng| {
        let assignments = rng.few(|rng| {
            CreatableReplicaAssignment::default()
                .with_partition_index(rng.i32())
                .with_broker_ids(rng.few(|rng| rng.i32().into()))
        });
        let configs =
            rng.few(|rng| CreatableTopicConfig::default().with_name(rng.text()).with_value(rng.maybe_text()));
        CreatableTopic::default()
            .with_name(topic_name(rng))
            .with_num_partitions(rng.i32())
            .with_replication_factor(rng.i16())
            .with_assignments(assignments)
            .with_configs(configs)
    });
    CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(rng.i32())
        .with_validate_only(rng.flip())
}

fn delete_topics(version: i16, rng: &mut Rng) -> DeleteTopicsRequest {
    let mut request = DeleteTopicsRequest::default().with_timeout_ms(rng.i32());
    if version >= 6 {
        request.topics = rng.few(|rng| match rng.below(3) {
            0 => DeleteTopicState::default().with_topic_id(uuid::Uuid::from_bytes(rng.uuid())),
            1 => DeleteTopicState::default().with_name(rng.maybe_text().map(Into::into)),
            _ => DeleteTopicState::default().with_name(Some(topic_name(rng))),
        });
    } else {
        request.topic_names = rng.few(topic_name);
    }
    request
}

fn init_producer_id(version: i16, rng: &mut Rng) -> InitProducerIdRequest {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(rng.maybe_text().map(Into::into))
        .with_transaction_timeout_ms(rng.i32());
    if version < 3 {
        return request;
    }
    let (id, epoch) = rng.producer();
    request.with_producer_id(ProducerId(id)).with_producer_epoch(epoch)
}

/// Mostly a topic or a broker.
fn resource_type(rng: &mut Rng) -> i8 {
    match rng.below(4) {
        0 => rng.i8(),
        1 => 4,
        _ => 2,
    }
}

fn describe_configs(version: i16, rng: &mut Rng) -> DescribeConfigsRequest {
    let resources = rng.few(|rng| {
        let keys = rng.flip().then(|| rng.few(Rng::text));
        DescribeConfigsResource::default()
            .with_resource_type(resource_type(rng))
            .with_resource_name(rng.text())
            .with_configuration_keys(keys)
    });
    DescribeConfigsRequest::default()
        .with_resources(resources)
        .with_include_synonyms(rng.flip())
        .with_include_documentation(version >= 3 && rng.flip())
}

fn create_partitions(rng: &mut Rng) -> CreatePartitionsRequest {
    let topics = rng.few(|rng| {
        let assignments = rng.few(|rng| {
            CreatePartitionsAssignment::default().with_broker_ids(rng.few(|rng| rng.i32().into()))
        });
        CreatePartitionsTopic::default()
            .with_name(topic_name(rng))
            .with_count(rng.i32())
            .with_assignments(rng.flip().then_some(assignments))
    });
    CreatePartitionsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(rng.i32())
        .with_validate_only(rng.flip())
}

fn incremental_alter_configs(rng: &mut Rng) -> IncrementalAlterConfigsRequest {
    let resources = rng.few(|rng| {
        let configs = rng.few(|rng| {
            incremental::AlterableConfig::default()
                .with_name(rng.text())
                .with_config_operation(rng.i8())
                .with_value(rng.maybe_text())
        });
        incremental::AlterConfigsResource::default()
            .with_resource_type(resource_type(rng))
            .with_resource_name(rng.text())
            .with_configs(configs)
    });
    IncrementalAlterConfigsRequest::default().with_resources(resources).with_validate_only(rng.flip())
}

fn describe_cluster(version: i16, rng: &mut Rng) -> DescribeClusterRequest {
    DescribeClusterRequest::default()
        .with_include_cluster_authorized_operations(rng.flip())
        .with_endpoint_type(if version >= 1 { rng.below(4) as i8 } else { 1 })
        .with_include_fenced_brokers(version >= 2 && rng.flip())
}

fn describe_topic_partitions(rng: &mut Rng) -> DescribeTopicPartitionsRequest {
    let cursor = rng
        .flip()
        .then(|| Cursor::default().with_topic_name(topic_name(rng)).with_partition_index(rng.i32()));
    DescribeTopicPartitionsRequest::default()
        .with_topics(rng.few(|rng| TopicRequest::default().with_name(topic_name(rng))))
        .with_response_partition_limit(rng.i32())
        .with_cursor(cursor)
}

fn describe_log_dirs(rng: &mut Rng) -> DescribeLogDirsRequest {
    let topics = rng.few(|rng| {
        describe_log_dirs_request::DescribableLogDirTopic::default()
            .with_topic(topic_name(rng))
            .with_partitions(rng.few(Rng::i32))
    });
    DescribeLogDirsRequest::default().with_topics(rng.flip().then_some(topics))
}

fn elect_leaders(version: i16, rng: &mut Rng) -> ElectLeadersRequest {
    let topics = rng.few(|rng| {
        elect_leaders_request::TopicPartitions::default()
            .with_topic(topic_name(rng))
            .with_partitions(rng.few(Rng::i32))
    });
    ElectLeadersRequest::default()
        .with_election_type(if version >= 1 { rng.below(3) as i8 } else { 0 })
        .with_topic_partitions((rng.below(4) > 0).then_some(topics))
}

fn alter_partition_reassignments(version: i16, rng: &mut Rng) -> AlterPartitionReassignmentsRequest {
    use alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    let topics = rng.few(|rng| {
        let partitions = rng.few(|rng| {
            let replicas = rng.few(|rng| rng.i32().into());
            ReassignablePartition::default()
                .with_partition_index(rng.i32())
                .with_replicas(rng.flip().then_some(replicas))
        });
        ReassignableTopic::default().with_name(topic_name(rng)).with_partitions(partitions)
    });
    AlterPartitionReassignmentsRequest::default()
        .with_allow_replication_factor_change(version < 1 || rng.flip())
        .with_topics(topics)
}

fn list_partition_reassignments(rng: &mut Rng) -> ListPartitionReassignmentsRequest {
    let topics = rng.few(|rng| {
        list_partition_reassignments_request::ListPartitionReassignmentsTopics::default()
            .with_name(topic_name(rng))
            .with_partition_indexes(rng.few(Rng::i32))
    });
    ListPartitionReassignmentsRequest::default().with_topics(rng.flip().then_some(topics))
}

fn quota_word(rng: &mut Rng) -> StrBytes {
    const WORDS: [&str; 5] =
        ["user", "client-id", "producer_byte_rate", "consumer_byte_rate", "request_percentage"];
    if rng.below(8) == 0 { rng.text() } else { StrBytes::from_static_str(WORDS[rng.below(WORDS.len())]) }
}

fn describe_client_quotas(rng: &mut Rng) -> DescribeClientQuotasRequest {
    let components = rng.few(|rng| {
        describe_client_quotas_request::ComponentData::default()
            .with_entity_type(quota_word(rng))
            .with_match_type(rng.below(4) as i8)
            .with_match(rng.maybe_text())
    });
    DescribeClientQuotasRequest::default().with_components(components).with_strict(rng.flip())
}

fn alter_client_quotas(rng: &mut Rng) -> AlterClientQuotasRequest {
    use alter_client_quotas_request::{EntityData, EntryData, OpData};
    let entries = rng.few(|rng| {
        let entity = rng.few(|rng| {
            EntityData::default().with_entity_type(quota_word(rng)).with_entity_name(rng.maybe_text())
        });
        let ops = rng.few(|rng| {
            OpData::default()
                .with_key(quota_word(rng))
                .with_value(f64::from(rng.i32()))
                .with_remove(rng.flip())
        });
        EntryData::default().with_entity(entity).with_ops(ops)
    });
    AlterClientQuotasRequest::default().with_entries(entries).with_validate_only(rng.flip())
}

fn offset_commit(version: i16, rng: &mut Rng) -> OffsetCommitRequest {
    let topics = rng.few(|rng| {
        let partitions = rng.few(|rng| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(rng.i32())
                .with_committed_offset(rng.i64())
                .with_committed_leader_epoch(if version >= 6 { rng.i32() } else { -1 })
                .with_committed_metadata(rng.maybe_text())
        });
        OffsetCommitRequestTopic::default().with_name(topic_name(rng)).with_partitions(partitions)
    });
    OffsetCommitRequest::default()
        .with_group_id(rng.text().into())
        .with_member_id(rng.text())
        .with_generation_id_or_member_epoch(rng.i32())
        .with_group_instance_id(if version >= 7 { rng.maybe_text() } else { None })
        .with_retention_time_ms(if version <= 4 { rng.i64() } else { -1 })
        .with_topics(topics)
}

fn offset_fetch(version: i16, rng: &mut Rng) -> OffsetFetchRequest {
    if version >= 8 {
        let groups = rng.few(|rng| {
            let topics = rng.few(|rng| {
                OffsetFetchRequestTopics::default()
                    .with_name(topic_name(rng))
                    .with_partition_indexes(rng.few(Rng::i32))
            });
            OffsetFetchRequestGroup::default()
                .with_group_id(rng.text().into())
                .with_member_id(if version >= 9 { rng.maybe_text() } else { None })
                .with_member_epoch(if version >= 9 { rng.i32() } else { -1 })
                .with_topics(rng.flip().then_some(topics))
        });
        return OffsetFetchRequest::default().with_groups(groups).with_require_stable(rng.flip());
    }
    let topics = rng.few(|rng| {
        OffsetFetchRequestTopic::default()
            .with_name(topic_name(rng))
            .with_partition_indexes(rng.few(Rng::i32))
    });
    OffsetFetchRequest::default()
        .with_group_id(rng.text().into())
        .with_topics((version == 1 || rng.flip()).then_some(topics))
        .with_require_stable(version >= 7 && rng.flip())
}

fn delete_records(rng: &mut Rng) -> DeleteRecordsRequest {
    let topics = rng.few(|rng| {
        let partitions = rng.few(|rng| {
            DeleteRecordsPartition::default().with_partition_index(rng.i32()).with_offset(rng.i64())
        });
        DeleteRecordsTopic::default().with_name(topic_name(rng)).with_partitions(partitions)
    });
    DeleteRecordsRequest::default().with_topics(topics).with_timeout_ms(rng.i32())
}

fn offset_for_leader_epoch(rng: &mut Rng) -> OffsetForLeaderEpochRequest {
    let topics = rng.few(|rng| {
        let partitions = rng.few(|rng| {
            OffsetForLeaderPartition::default()
                .with_partition(rng.i32())
                .with_current_leader_epoch(rng.i32())
                .with_leader_epoch(rng.i32())
        });
        OffsetForLeaderTopic::default().with_topic(topic_name(rng)).with_partitions(partitions)
    });
    OffsetForLeaderEpochRequest::default().with_topics(topics)
}

fn add_partitions_to_txn(version: i16, rng: &mut Rng) -> AddPartitionsToTxnRequest {
    let topics = |rng: &mut Rng| {
        rng.few(|rng| {
            AddPartitionsToTxnTopic::default().with_name(topic_name(rng)).with_partitions(rng.few(Rng::i32))
        })
    };
    if version >= 4 {
        let transactions = rng.few(|rng| {
            let (id, epoch) = rng.producer();
            AddPartitionsToTxnTransaction::default()
                .with_transactional_id(rng.text().into())
                .with_producer_id(ProducerId(id))
                .with_producer_epoch(epoch)
                .with_verify_only(rng.flip())
                .with_topics(topics(rng))
        });
        return AddPartitionsToTxnRequest::default().with_transactions(transactions);
    }
    let topics = topics(rng);
    let (id, epoch) = rng.producer();
    AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(rng.text().into())
        .with_v3_and_below_producer_id(ProducerId(id))
        .with_v3_and_below_producer_epoch(epoch)
        .with_v3_and_below_topics(topics)
}

fn write_txn_markers(rng: &mut Rng) -> WriteTxnMarkersRequest {
    let markers = rng.few(|rng| {
        let (id, epoch) = rng.producer();
        let topics = rng.few(|rng| {
            write_txn_markers_request::WritableTxnMarkerTopic::default()
                .with_name(topic_name(rng))
                .with_partition_indexes(rng.few(Rng::i32))
        });
        write_txn_markers_request::WritableTxnMarker::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch)
            .with_transaction_result(rng.flip())
            .with_topics(topics)
            .with_coordinator_epoch(rng.i32())
    });
    WriteTxnMarkersRequest::default().with_markers(markers)
}

fn describe_producers(rng: &mut Rng) -> DescribeProducersRequest {
    let topics = rng.few(|rng| {
        describe_producers_request::TopicRequest::default()
            .with_name(topic_name(rng))
            .with_partition_indexes(rng.few(Rng::i32))
    });
    DescribeProducersRequest::default().with_topics(topics)
}

fn list_transactions(version: i16, rng: &mut Rng) -> ListTransactionsRequest {
    let request = ListTransactionsRequest::default()
        .with_state_filters(rng.few(Rng::text))
        .with_producer_id_filters(rng.few(|rng| ProducerId(rng.i64())));
    let request = if version >= 1 { request.with_duration_filter(rng.i32().into()) } else { request };
    if version >= 2 { request.with_transactional_id_pattern(rng.maybe_text()) } else { request }
}

fn txn_offset_commit(version: i16, rng: &mut Rng) -> TxnOffsetCommitRequest {
    let topics = rng.few(|rng| {
        let partitions = rng.few(|rng| {
            TxnOffsetCommitRequestPartition::default()
                .with_partition_index(rng.i32())
                .with_committed_offset(rng.i64())
                .with_committed_leader_epoch(if version >= 2 { rng.i32() } else { -1 })
                .with_committed_metadata(rng.maybe_text())
        });
        TxnOffsetCommitRequestTopic::default().with_name(topic_name(rng)).with_partitions(partitions)
    });
    let (id, epoch) = rng.producer();
    TxnOffsetCommitRequest::default()
        .with_transactional_id(rng.text().into())
        .with_group_id(rng.text().into())
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch)
        .with_generation_id(if version >= 3 { rng.i32() } else { -1 })
        .with_member_id(if version >= 3 { rng.text() } else { StrBytes::default() })
        .with_group_instance_id(if version >= 3 { rng.maybe_text() } else { None })
        .with_topics(topics)
}

fn alter_configs(rng: &mut Rng) -> AlterConfigsRequest {
    let resources = rng.few(|rng| {
        let configs =
            rng.few(|rng| AlterableConfig::default().with_name(rng.text()).with_value(rng.maybe_text()));
        AlterConfigsResource::default()
            .with_resource_type(resource_type(rng))
            .with_resource_name(rng.text())
            .with_configs(configs)
    });
    AlterConfigsRequest::default().with_resources(resources).with_validate_only(rng.flip())
}

fn create_acls(rng: &mut Rng) -> CreateAclsRequest {
    let creations = rng.few(|rng| {
        AclCreation::default()
            .with_resource_name(rng.text())
            .with_resource_pattern_type(3)
            .with_principal(rng.text())
            .with_host(rng.text())
    });
    CreateAclsRequest::default().with_creations(creations)
}

/// Takes a reply apart as a client does: checks the length prefix, reads the response header, decodes the body
/// at `version` and sees that nothing is left.
pub fn read_reply(api: ApiKey, version: i16, frame: Bytes) -> (i32, ResponseKind) {
    read_reply_as(api, version, version, frame)
}

/// The same where the body is of another version than the request.
pub fn read_reply_as(api: ApiKey, version: i16, body_version: i16, mut frame: Bytes) -> (i32, ResponseKind) {
    use bytes::Buf;
    use kafka_protocol::protocol::Decodable;
    let length = frame.get_i32();
    assert_eq!(length as usize, frame.len(), "length prefix of {api:?} v{version}");
    let header =
        ResponseHeader::decode(&mut frame, api.response_header_version(version)).expect("response header");
    let body = ResponseKind::decode(api, &mut frame, body_version)
        .unwrap_or_else(|error| panic!("{api:?} v{body_version} reply: {error}"));
    assert!(frame.is_empty(), "{} bytes left after the {api:?} v{version} reply", frame.len());
    (header.correlation_id, body)
}

/// Several chunks as one.
pub fn join(chunks: &[Bytes]) -> Bytes {
    let mut out = BytesMut::new();
    chunks.iter().for_each(|chunk| out.put_slice(chunk));
    out.freeze()
}
