//! Error replies: for requests that a handler refuses whole, and for requests that are not served here at all.
//!
//! Where a reply has an error field of its own, a refusal needs no more than the header of the request. Where errors
//! are told per topic, group or key, the request is decoded to name them. What cannot be answered in the client's
//! schema is `None`: then the connection has to be closed, as Kafka does.

use bytes::{Bytes, BytesMut};
use heddle_proto::error::ErrorCode;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use kafka_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{StrBytes, VersionRange};

use super::control::{ControlReply, ControlRequest, decode_checked, encode_reply, frame_reply};
use super::error::EncodeError;
use super::fetch::{FETCH_VERSION_MAX, FetchReply, encode_fetch};
use super::groups;
use super::header::{ReplyHeader, RequestHeader};
use super::produce::{PRODUCE_VERSION_MAX, decode_produce, encode_produce};
use super::unserved::unserved_response;
use super::versions::{api_versions, is_served, known_versions, served};
use super::{refuse_admin, refuse_transactions};

/// The reply that refuses all of `request` with `error`, in the place where its schema tells errors. `message` goes
/// where there is a field for words.
pub fn refuse_control(request: &ControlRequest, error: ErrorCode, message: Option<&str>) -> ControlReply {
    let words = message.map(|words| StrBytes::from_string(words.to_owned()));
    let code = error.code();
    match request {
        ControlRequest::ListOffsets(request) => list_offsets(request, code).into(),
        ControlRequest::Metadata(request) => metadata(request, code).into(),
        ControlRequest::FindCoordinator(request) => find_coordinator(request, code, words).into(),
        ControlRequest::ApiVersions(_) => ApiVersionsResponse::default().with_error_code(code).into(),
        ControlRequest::CreateTopics(request) => create_topics(request, code, words).into(),
        ControlRequest::DeleteTopics(request) => delete_topics(request, code, words).into(),
        ControlRequest::DeleteRecords(request) => refuse_admin::delete_records(request, code).into(),
        ControlRequest::InitProducerId(_) => init_producer_id(code).into(),
        ControlRequest::OffsetForLeaderEpoch(request) => {
            refuse_admin::offset_for_leader_epoch(request, code).into()
        }
        ControlRequest::AlterConfigs(request) => refuse_admin::alter_configs(request, code, words).into(),
        ControlRequest::DescribeLogDirs(_) => {
            let dir = DescribeLogDirsResult::default().with_error_code(code);
            DescribeLogDirsResponse::default().with_error_code(code).with_results(vec![dir]).into()
        }
        ControlRequest::ElectLeaders(request) => refuse_admin::elect_leaders(request, code, words).into(),
        ControlRequest::AlterPartitionReassignments(_) => AlterPartitionReassignmentsResponse::default()
            .with_error_code(code)
            .with_error_message(words)
            .into(),
        ControlRequest::ListPartitionReassignments(_) => ListPartitionReassignmentsResponse::default()
            .with_error_code(code)
            .with_error_message(words)
            .into(),
        ControlRequest::DescribeClientQuotas(_) => DescribeClientQuotasResponse::default()
            .with_error_code(code)
            .with_error_message(words)
            .with_entries(None)
            .into(),
        ControlRequest::AlterClientQuotas(request) => {
            refuse_admin::alter_client_quotas(request, code, words).into()
        }
        ControlRequest::AddPartitionsToTxn(request) => {
            refuse_transactions::add_partitions_to_txn(request, code).into()
        }
        ControlRequest::AddOffsetsToTxn(_) => AddOffsetsToTxnResponse::default().with_error_code(code).into(),
        ControlRequest::EndTxn(_) => EndTxnResponse::default().with_error_code(code).into(),
        ControlRequest::TxnOffsetCommit(request) => {
            refuse_transactions::txn_offset_commit(request, code).into()
        }
        ControlRequest::WriteTxnMarkers(request) => {
            refuse_transactions::write_txn_markers(request, code).into()
        }
        ControlRequest::DescribeProducers(request) => {
            refuse_transactions::describe_producers(request, code, words.as_ref()).into()
        }
        ControlRequest::DescribeTransactions(request) => {
            refuse_transactions::describe_transactions(request, code).into()
        }
        ControlRequest::ListTransactions(_) => {
            ListTransactionsResponse::default().with_error_code(code).into()
        }
        ControlRequest::DescribeConfigs(request) => describe_configs(request, code, words).into(),
        ControlRequest::CreatePartitions(request) => create_partitions(request, code, words).into(),
        ControlRequest::IncrementalAlterConfigs(request) => alter_configs(request, code, words).into(),
        ControlRequest::DescribeCluster(_) => describe_cluster(code, words).into(),
        ControlRequest::DescribeTopicPartitions(request) => describe_topic_partitions(request, code).into(),
        request => groups::refuse(request, code, words).expect("all other requests are of the group apis"),
    }
}

fn list_offsets(request: &ListOffsetsRequest, code: i16) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn metadata(request: &MetadataRequest, code: i16) -> MetadataResponse {
    let topics = request.topics.iter().flatten().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(code)
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
    });
    MetadataResponse::default().with_topics(topics.collect()).with_error_code(code)
}

/// Who to ask is nobody: node -1, as Kafka says it.
fn find_coordinator(
    request: &FindCoordinatorRequest,
    code: i16,
    words: Option<StrBytes>,
) -> FindCoordinatorResponse {
    let coordinators = request.coordinator_keys.iter().map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(code)
            .with_error_message(words.clone())
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

fn create_topics(request: &CreateTopicsRequest, code: i16, words: Option<StrBytes>) -> CreateTopicsResponse {
    let topics = request.topics.iter().map(|topic| {
        CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_code(code)
            .with_error_message(words.clone())
            .with_configs(None)
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn delete_topics(request: &DeleteTopicsRequest, code: i16, words: Option<StrBytes>) -> DeleteTopicsResponse {
    let responses = request.topics.iter().map(|topic| {
        DeletableTopicResult::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_error_code(code)
            .with_error_message(words.clone())
    });
    DeleteTopicsResponse::default().with_responses(responses.collect())
}

fn init_producer_id(code: i16) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(code)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}

fn describe_configs(
    request: &DescribeConfigsRequest,
    code: i16,
    words: Option<StrBytes>,
) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        DescribeConfigsResult::default()
            .with_error_code(code)
            .with_error_message(words.clone())
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn create_partitions(
    request: &CreatePartitionsRequest,
    code: i16,
    words: Option<StrBytes>,
) -> CreatePartitionsResponse {
    let results = request.topics.iter().map(|topic| {
        CreatePartitionsTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_code(code)
            .with_error_message(words.clone())
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn alter_configs(
    request: &IncrementalAlterConfigsRequest,
    code: i16,
    words: Option<StrBytes>,
) -> IncrementalAlterConfigsResponse {
    let responses = request.resources.iter().map(|resource| {
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(words.clone())
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn describe_cluster(code: i16, words: Option<StrBytes>) -> DescribeClusterResponse {
    DescribeClusterResponse::default().with_error_code(code).with_error_message(words)
}

fn describe_topic_partitions(
    request: &DescribeTopicPartitionsRequest,
    code: i16,
) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter().map(|topic| {
        DescribeTopicPartitionsResponseTopic::default()
            .with_error_code(code)
            .with_name(Some(topic.name.clone()))
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics.collect())
}

/// An error reply built from the header alone, for a served request whose body could not be decoded. `None` where
/// the version has no error field outside its entries: then close the connection.
pub fn refuse_header(header: ReplyHeader, error: ErrorCode, out: &mut BytesMut) -> Option<Bytes> {
    let code = error.code();
    let reply: ControlReply = match header.api {
        ApiKey::Fetch if (7..=FETCH_VERSION_MAX).contains(&header.version) => {
            return refuse_fetch(header, error, out);
        }
        ApiKey::ApiVersions => match is_served(header.api, header.version) {
            true => ApiVersionsResponse::default().with_error_code(code).into(),
            false => api_versions(header.version).into(),
        },
        ApiKey::FindCoordinator if header.version <= 3 => FindCoordinatorResponse::default()
            .with_error_code(code)
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .into(),
        ApiKey::InitProducerId => init_producer_id(code).into(),
        ApiKey::DescribeCluster => describe_cluster(code, None).into(),
        ApiKey::DescribeLogDirs if header.version >= 3 => {
            DescribeLogDirsResponse::default().with_error_code(code).into()
        }
        ApiKey::ElectLeaders if header.version >= 1 => {
            ElectLeadersResponse::default().with_error_code(code).into()
        }
        ApiKey::AlterPartitionReassignments => {
            AlterPartitionReassignmentsResponse::default().with_error_code(code).into()
        }
        ApiKey::ListPartitionReassignments => {
            ListPartitionReassignmentsResponse::default().with_error_code(code).into()
        }
        ApiKey::DescribeClientQuotas => {
            DescribeClientQuotasResponse::default().with_error_code(code).with_entries(None).into()
        }
        ApiKey::AddPartitionsToTxn if header.version >= 4 => {
            AddPartitionsToTxnResponse::default().with_error_code(code).into()
        }
        ApiKey::AddOffsetsToTxn => AddOffsetsToTxnResponse::default().with_error_code(code).into(),
        ApiKey::EndTxn => EndTxnResponse::default().with_error_code(code).into(),
        ApiKey::ListTransactions => ListTransactionsResponse::default().with_error_code(code).into(),
        ApiKey::Metadata if header.version >= 13 => MetadataResponse::default().with_error_code(code).into(),
        _ => groups::refuse_header(header, code)?,
    };
    encode_reply(header, reply, out).ok()
}

fn refuse_fetch(header: ReplyHeader, error: ErrorCode, out: &mut BytesMut) -> Option<Bytes> {
    let reply = FetchReply { error, ..FetchReply::default() };
    encode_fetch(header, reply, out).ok()?.into_iter().next()
}

/// Kafka's UNSUPPORTED_VERSION for a request of an api or version that is not served. `None` when no reply fits the
/// client's schema, or when the client waits for none (`acks=0`): then close the connection.
///
/// Above the versions that the codec knows, the highest known schema is used: new versions mostly append fields, and
/// a client that reads as far as the error learns why. Below the lowest known version nothing fits.
pub fn unsupported_reply(header: &RequestHeader, body: BytesMut, out: &mut BytesMut) -> Option<Bytes> {
    let error = ErrorCode::UnsupportedVersion;
    let reply = header.reply();
    match header.api {
        ApiKey::ApiVersions => encode_reply(reply, api_versions(header.version).into(), out).ok(),
        ApiKey::Produce if header.version <= PRODUCE_VERSION_MAX => {
            let request = decode_produce(header, body).ok().filter(|request| request.acks != 0)?;
            encode_produce(reply, &request.refuse(error), out).ok()
        }
        api if !matches!(api, ApiKey::Produce | ApiKey::Fetch) && served(api).is_some() => {
            let reply = reply.clamped(known_versions(api))?;
            match decode_checked(api, reply.version, body.freeze()) {
                Ok(request) => encode_reply(reply, refuse_control(&request, error, None), out).ok(),
                Err(_) => refuse_header(reply, error, out),
            }
        }
        api => {
            let reply = reply.clamped(known_versions(api))?;
            let message = unserved_response(reply, body.freeze(), error.code())?;
            frame_reply(reply, out, |out| write_kind(&message, out, reply.version)).ok()
        }
    }
}

fn write_kind(message: &ResponseKind, out: &mut BytesMut, version: i16) -> Result<(), EncodeError> {
    message.encode(out, version).map_err(|error| EncodeError::Codec(error.to_string()))
}

impl ReplyHeader {
    /// The same at the highest known version, when that is lower; `None` below the lowest.
    fn clamped(self, known: VersionRange) -> Option<ReplyHeader> {
        (self.version >= known.min).then(|| ReplyHeader { version: self.version.min(known.max), ..self })
    }
}
