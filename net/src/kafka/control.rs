//! Every request but Produce and Fetch: decoded and encoded by the `kafka-protocol` crate, after the shape walk.
//!
//! Handlers see one form whatever the version. Decoding fills in what old versions say differently:
//! DeleteTopics names always arrive in `topics`, FindCoordinator keys in `coordinator_keys`, and "all topics" of
//! Metadata is `topics: None`. Encoding drops what an old version cannot say, and takes the flat answer of an old
//! FindCoordinator from the first of `coordinators`.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable};

use super::error::{DecodeError, EncodeError};
use super::groups;
use super::header::{ReplyHeader, RequestHeader};
use super::shape;
use super::shapes::shape_of;
use super::versions::{api_versions_reply_version, is_served, known_versions};

/// Largest control request in bytes. The longest honest ones name every topic of a cluster: ten thousand names of a
/// hundred bytes. Decoded structures take several times the bytes of the request, so produce's limit is too high here.
pub const CONTROL_FRAME_BYTES_MAX: usize = 1 << 20;

/// What Metadata and DescribeCluster carry when authorised operations were not asked for or cannot be said.
pub const OPERATIONS_UNKNOWN: i32 = i32::MIN;

/// Sets the throttle time of a reply that has one.
macro_rules! set_throttle {
    ($message:ident, $throttle_ms:ident) => {
        $message.throttle_time_ms = $throttle_ms
    };
    ($message:ident, $throttle_ms:ident, throttle) => {{
        let _ = $message;
    }};
}

/// Pairs each served control api with its request and response messages.
macro_rules! control_apis {
    ($($api:ident: $request:ident => $reply:ident $(without $throttle:ident)?,)*) => {
        /// A decoded request, in the crate's own message structs.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ControlRequest {
            $(#[doc = concat!("A ", stringify!($api), " request.")] $api($request),)*
        }

        /// A reply to be encoded, in the crate's own message structs.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ControlReply {
            $(#[doc = concat!("The reply to ", stringify!($api), ".")] $api($reply),)*
        }

        impl ControlRequest {
            /// The api this is a request of.
            pub fn api(&self) -> ApiKey {
                match self { $(ControlRequest::$api(_) => ApiKey::$api,)* }
            }
        }

        impl ControlReply {
            /// The api this is a reply of.
            pub fn api(&self) -> ApiKey {
                match self { $(ControlReply::$api(_) => ApiKey::$api,)* }
            }

            /// Tells the client for how long it is being held back, in milliseconds.
            pub fn set_throttle(&mut self, throttle_ms: i32) {
                match self {
                    $(ControlReply::$api(message) => set_throttle!(message, throttle_ms $(, $throttle)?),)*
                }
            }

            fn write(&self, out: &mut BytesMut, version: i16) -> Result<(), EncodeError> {
                match self { $(ControlReply::$api(message) => write_message(message, out, version),)* }
            }
        }

        $(impl From<$reply> for ControlReply {
            fn from(message: $reply) -> Self {
                ControlReply::$api(message)
            }
        })*

        fn read(api: ApiKey, body: &mut Bytes, version: i16) -> Result<ControlRequest, DecodeError> {
            match api {
                $(ApiKey::$api => read_message(body, version).map(ControlRequest::$api),)*
                api => Err(DecodeError::UnsupportedVersion { api, version }),
            }
        }
    };
}

control_apis! {
    ListOffsets: ListOffsetsRequest => ListOffsetsResponse,
    Metadata: MetadataRequest => MetadataResponse,
    FindCoordinator: FindCoordinatorRequest => FindCoordinatorResponse,
    ApiVersions: ApiVersionsRequest => ApiVersionsResponse,
    CreateTopics: CreateTopicsRequest => CreateTopicsResponse,
    DeleteTopics: DeleteTopicsRequest => DeleteTopicsResponse,
    DeleteRecords: DeleteRecordsRequest => DeleteRecordsResponse,
    InitProducerId: InitProducerIdRequest => InitProducerIdResponse,
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse,
    DescribeConfigs: DescribeConfigsRequest => DescribeConfigsResponse,
    AlterConfigs: AlterConfigsRequest => AlterConfigsResponse,
    DescribeLogDirs: DescribeLogDirsRequest => DescribeLogDirsResponse,
    CreatePartitions: CreatePartitionsRequest => CreatePartitionsResponse,
    ElectLeaders: ElectLeadersRequest => ElectLeadersResponse,
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse,
    AlterPartitionReassignments: AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse,
    ListPartitionReassignments: ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse,
    DescribeClientQuotas: DescribeClientQuotasRequest => DescribeClientQuotasResponse,
    AlterClientQuotas: AlterClientQuotasRequest => AlterClientQuotasResponse,
    DescribeCluster: DescribeClusterRequest => DescribeClusterResponse,
    AddPartitionsToTxn: AddPartitionsToTxnRequest => AddPartitionsToTxnResponse,
    AddOffsetsToTxn: AddOffsetsToTxnRequest => AddOffsetsToTxnResponse,
    EndTxn: EndTxnRequest => EndTxnResponse,
    TxnOffsetCommit: TxnOffsetCommitRequest => TxnOffsetCommitResponse,
    WriteTxnMarkers: WriteTxnMarkersRequest => WriteTxnMarkersResponse without throttle,
    DescribeProducers: DescribeProducersRequest => DescribeProducersResponse,
    DescribeTransactions: DescribeTransactionsRequest => DescribeTransactionsResponse,
    ListTransactions: ListTransactionsRequest => ListTransactionsResponse,
    OffsetCommit: OffsetCommitRequest => OffsetCommitResponse,
    OffsetFetch: OffsetFetchRequest => OffsetFetchResponse,
    JoinGroup: JoinGroupRequest => JoinGroupResponse,
    Heartbeat: HeartbeatRequest => HeartbeatResponse,
    LeaveGroup: LeaveGroupRequest => LeaveGroupResponse,
    SyncGroup: SyncGroupRequest => SyncGroupResponse,
    DescribeGroups: DescribeGroupsRequest => DescribeGroupsResponse,
    ListGroups: ListGroupsRequest => ListGroupsResponse,
    DeleteGroups: DeleteGroupsRequest => DeleteGroupsResponse,
    OffsetDelete: OffsetDeleteRequest => OffsetDeleteResponse,
    ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse,
    ConsumerGroupDescribe: ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse,
    DescribeTopicPartitions: DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse,
}

/// Asking for the metadata of all topics in a flexible version, librdkafka writes the null array as four zero bytes
/// instead of one, so that the fields come three bytes too early and as many follow the request. Kafka ignores them.
const LEFT_BY_LIBRDKAFKA: usize = 3;

/// Reads the body of a control request. Strings are slices of `body`.
///
/// # Errors
/// [`DecodeError::UnsupportedVersion`] for an api or version that is not served (for ApiVersions itself answer with
/// [`api_versions`](super::versions::api_versions), which says so in a form every client reads); otherwise the
/// first thing that is malformed.
pub fn decode_control(header: &RequestHeader, body: Bytes) -> Result<ControlRequest, DecodeError> {
    if !is_served(header.api, header.version) {
        return Err(DecodeError::UnsupportedVersion { api: header.api, version: header.version });
    }
    decode_checked(header.api, header.version, body)
}

/// Decodes any version the crate knows, served or not.
pub(super) fn decode_checked(
    api: ApiKey,
    version: i16,
    mut body: Bytes,
) -> Result<ControlRequest, DecodeError> {
    match check_shape(api, version, &body) {
        Err(DecodeError::TrailingBytes(LEFT_BY_LIBRDKAFKA)) if api == ApiKey::Metadata => {
            body.truncate(body.len() - LEFT_BY_LIBRDKAFKA);
        }
        checked => checked?,
    }
    let mut request = read(api, &mut body, version)?;
    normalise(&mut request, version);
    Ok(request)
}

/// Proves that the crate may decode `body`: small enough, and of the api's shape.
pub(super) fn check_shape(api: ApiKey, version: i16, body: &[u8]) -> Result<(), DecodeError> {
    if body.len() > CONTROL_FRAME_BYTES_MAX {
        return Err(DecodeError::FrameTooLarge { bytes: body.len(), max: CONTROL_FRAME_BYTES_MAX });
    }
    let range = known_versions(api);
    match shape_of(api) {
        Some(shape) if (range.min..=range.max).contains(&version) => shape::walk(shape, version, body),
        _ => Err(DecodeError::UnsupportedVersion { api, version }),
    }
}

/// Writes a whole reply, length prefix included, using `out` as scratch (cleared first).
///
/// An ApiVersions reply to a version that is not served is written in version 0, as Kafka does.
///
/// # Errors
/// [`EncodeError::WrongApi`] when `reply` is of another api than `header`, [`EncodeError::Codec`] when the version
/// cannot say what the reply says.
pub fn encode_reply(
    header: ReplyHeader,
    mut reply: ControlReply,
    out: &mut BytesMut,
) -> Result<Bytes, EncodeError> {
    if reply.api() != header.api {
        return Err(EncodeError::WrongApi(header.api));
    }
    let version = match header.api {
        ApiKey::ApiVersions => api_versions_reply_version(header.version),
        _ => header.version,
    };
    fit_version(&mut reply, version);
    frame_reply(header, out, |out| reply.write(out, version))
}

/// Puts the length prefix and response header in front of what `body` writes.
pub(super) fn frame_reply(
    header: ReplyHeader,
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<Bytes, EncodeError> {
    out.clear();
    out.put_i32(0);
    header.write(out);
    body(out)?;
    let bytes = out.len() - 4;
    let length = i32::try_from(bytes).map_err(|_| EncodeError::TooLong(bytes))?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out.split().freeze())
}

fn read_message<M: Decodable>(body: &mut Bytes, version: i16) -> Result<M, DecodeError> {
    let message = M::decode(body, version).map_err(|error| DecodeError::Codec(error.to_string()))?;
    match body.len() {
        0 => Ok(message),
        left => Err(DecodeError::TrailingBytes(left)),
    }
}

fn write_message<M: Encodable>(message: &M, out: &mut BytesMut, version: i16) -> Result<(), EncodeError> {
    message.encode(out, version).map_err(|error| EncodeError::Codec(error.to_string()))
}

/// Moves what old versions say elsewhere to where new ones say it.
fn normalise(request: &mut ControlRequest, version: i16) {
    match request {
        ControlRequest::DeleteTopics(request) if version <= 5 => {
            let names = std::mem::take(&mut request.topic_names);
            request.topics =
                names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name))).collect();
        }
        ControlRequest::FindCoordinator(request) if version <= 3 => {
            request.coordinator_keys = vec![std::mem::take(&mut request.key)];
        }
        ControlRequest::Metadata(request) if version == 0 => {
            request.topics = request.topics.take().filter(|topics| !topics.is_empty());
        }
        request => groups::normalise(request, version),
    }
}

/// Resets what `version` has no field for, which the crate would otherwise refuse to write.
fn fit_version(reply: &mut ControlReply, version: i16) {
    match reply {
        ControlReply::ListOffsets(reply) if version < 4 => {
            for partition in reply.topics.iter_mut().flat_map(|topic| topic.partitions.iter_mut()) {
                partition.leader_epoch = -1;
            }
        }
        ControlReply::Metadata(reply) => fit_metadata(reply, version),
        ControlReply::FindCoordinator(reply) => fit_find_coordinator(reply, version),
        ControlReply::DescribeCluster(reply) => fit_describe_cluster(reply, version),
        ControlReply::ElectLeaders(reply) if version < 1 => reply.error_code = 0,
        ControlReply::DescribeLogDirs(reply) => fit_describe_log_dirs(reply, version),
        ControlReply::AlterPartitionReassignments(reply) if version < 1 => {
            reply.allow_replication_factor_change = true;
        }
        reply => groups::fit_version(reply, version),
    }
}

fn fit_metadata(reply: &mut MetadataResponse, version: i16) {
    if !(8..=10).contains(&version) {
        reply.cluster_authorized_operations = OPERATIONS_UNKNOWN;
    }
    if version < 8 {
        reply.topics.iter_mut().for_each(|topic| topic.topic_authorized_operations = OPERATIONS_UNKNOWN);
    }
    if version < 12 {
        // A topic asked for by an unknown id has no name, and before version 12 a name may not be null.
        for topic in &mut reply.topics {
            topic.name.get_or_insert_default();
        }
    }
}

fn fit_find_coordinator(reply: &mut FindCoordinatorResponse, version: i16) {
    if version >= 4 {
        let kept = (reply.throttle_time_ms, std::mem::take(&mut reply.coordinators));
        *reply = FindCoordinatorResponse::default().with_throttle_time_ms(kept.0).with_coordinators(kept.1);
    } else if let Some(first) = std::mem::take(&mut reply.coordinators).into_iter().next() {
        reply.error_code = first.error_code;
        reply.error_message = first.error_message;
        reply.node_id = first.node_id;
        reply.host = first.host;
        reply.port = first.port;
    }
}

fn fit_describe_log_dirs(reply: &mut DescribeLogDirsResponse, version: i16) {
    if version < 3 {
        reply.error_code = 0;
    }
    if version < 4 {
        for dir in &mut reply.results {
            (dir.total_bytes, dir.usable_bytes) = (-1, -1);
        }
    }
}

fn fit_describe_cluster(reply: &mut DescribeClusterResponse, version: i16) {
    if version < 1 {
        reply.endpoint_type = 1;
    }
    if version < 2 {
        reply.brokers.iter_mut().for_each(|broker| broker.is_fenced = false);
    }
}
