//! Which Kafka apis and versions this broker serves, and how ApiVersions says so.

use heddle_proto::error::ErrorCode;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::protocol::{StrBytes, VersionRange};

use super::fetch::{FETCH_VERSION_MAX, FETCH_VERSION_MIN};
use super::produce::PRODUCE_VERSION_MAX;

/// One api and its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The api.
    pub api: ApiKey,
    /// Lowest version advertised.
    pub min: i16,
    /// Highest version advertised and served.
    pub max: i16,
    /// Lowest version whose body is served; a request between `min` and this one is decoded and refused with
    /// UNSUPPORTED_VERSION.
    pub body_min: i16,
}

impl Served {
    const fn new(api: ApiKey, min: i16, max: i16) -> Self {
        Served { api, min, max, body_min: min }
    }
}

/// Everything that is served, in the order ApiVersions lists it.
///
/// Produce is advertised from 0: older librdkafka takes the lower end of the range as a sign of which compression
/// the broker knows and silently sends uncompressed batches when it is missing (KAFKA-18659). Bodies below 3 carry
/// message formats that are not stored and are refused.
pub const SERVED: [Served; 43] = [
    Served { body_min: 3, ..Served::new(ApiKey::Produce, 0, PRODUCE_VERSION_MAX) },
    Served::new(ApiKey::Fetch, FETCH_VERSION_MIN, FETCH_VERSION_MAX),
    Served::new(ApiKey::ListOffsets, 1, 10),
    Served::new(ApiKey::Metadata, 0, 13),
    Served::new(ApiKey::OffsetCommit, 2, 9),
    Served::new(ApiKey::OffsetFetch, 1, 9),
    Served::new(ApiKey::FindCoordinator, 0, 6),
    Served::new(ApiKey::JoinGroup, 0, 9),
    Served::new(ApiKey::Heartbeat, 0, 4),
    Served::new(ApiKey::LeaveGroup, 0, 5),
    Served::new(ApiKey::SyncGroup, 0, 5),
    Served::new(ApiKey::DescribeGroups, 0, 6),
    Served::new(ApiKey::ListGroups, 0, 5),
    Served::new(ApiKey::ApiVersions, 0, 4),
    Served::new(ApiKey::CreateTopics, 2, 7),
    Served::new(ApiKey::DeleteTopics, 1, 6),
    Served::new(ApiKey::DeleteRecords, 0, 2),
    Served::new(ApiKey::InitProducerId, 0, 5),
    Served::new(ApiKey::OffsetForLeaderEpoch, 2, 4),
    Served::new(ApiKey::AddPartitionsToTxn, 0, 5),
    Served::new(ApiKey::AddOffsetsToTxn, 0, 4),
    Served::new(ApiKey::EndTxn, 0, 5),
    Served::new(ApiKey::WriteTxnMarkers, 1, 1),
    Served::new(ApiKey::TxnOffsetCommit, 0, 5),
    Served::new(ApiKey::DescribeConfigs, 1, 4),
    Served::new(ApiKey::AlterConfigs, 0, 2),
    Served::new(ApiKey::DescribeLogDirs, 1, 4),
    Served::new(ApiKey::CreatePartitions, 0, 3),
    Served::new(ApiKey::DeleteGroups, 0, 2),
    Served::new(ApiKey::ElectLeaders, 0, 2),
    Served::new(ApiKey::IncrementalAlterConfigs, 0, 1),
    Served::new(ApiKey::AlterPartitionReassignments, 0, 1),
    Served::new(ApiKey::ListPartitionReassignments, 0, 0),
    Served::new(ApiKey::OffsetDelete, 0, 0),
    Served::new(ApiKey::DescribeClientQuotas, 0, 1),
    Served::new(ApiKey::AlterClientQuotas, 0, 1),
    Served::new(ApiKey::DescribeCluster, 0, 2),
    Served::new(ApiKey::DescribeProducers, 0, 0),
    Served::new(ApiKey::DescribeTransactions, 0, 0),
    Served::new(ApiKey::ListTransactions, 0, 2),
    Served::new(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    Served::new(ApiKey::ConsumerGroupDescribe, 0, 1),
    Served::new(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// The versions of an api, `None` when it is not served at all.
pub fn served(api: ApiKey) -> Option<&'static Served> {
    SERVED.iter().find(|entry| entry.api == api)
}

/// Whether requests of this api and version are answered with more than a refusal.
pub fn is_served(api: ApiKey, version: i16) -> bool {
    served(api).is_some_and(|entry| (entry.body_min..=entry.max).contains(&version))
}

/// The reply to ApiVersions at `version`. For a version that is not served the error is UNSUPPORTED_VERSION and the
/// list is there all the same, so that the client can come back with one that is; `encode_reply` then writes v0.
pub fn api_versions(version: i16) -> ApiVersionsResponse {
    let error = match is_served(ApiKey::ApiVersions, version) {
        true => ErrorCode::None,
        false => ErrorCode::UnsupportedVersion,
    };
    let keys = SERVED.iter().map(|entry| {
        ApiVersion::default()
            .with_api_key(entry.api as i16)
            .with_min_version(entry.min)
            .with_max_version(entry.max)
    });
    let reply = ApiVersionsResponse::default().with_error_code(error.code()).with_api_keys(keys.collect());
    with_features(reply, version)
}

/// Clients take the second version of the transaction protocol (KIP-890) when this feature is finalized at 2.
const TRANSACTION_VERSION: (&str, i16) = ("transaction.version", 2);

/// Features that begin at 0 are told as supported from version 4 on: older clients do not take a 0 there.
fn with_features(mut reply: ApiVersionsResponse, version: i16) -> ApiVersionsResponse {
    let (name, level) = TRANSACTION_VERSION;
    let name = StrBytes::from_static_str(name);
    if is_served(ApiKey::ApiVersions, version) && version >= 4 {
        let supported = SupportedFeatureKey::default().with_name(name.clone());
        reply.supported_features = vec![supported.with_min_version(0).with_max_version(level)];
    }
    if is_served(ApiKey::ApiVersions, version) && version >= 3 {
        let finalized = FinalizedFeatureKey::default().with_name(name);
        reply.finalized_features_epoch = 1;
        reply.finalized_features =
            vec![finalized.with_min_version_level(level).with_max_version_level(level)];
    }
    reply
}

/// The version an ApiVersions reply is written in: the request's, or 0 when that is not served.
pub(super) fn api_versions_reply_version(version: i16) -> i16 {
    if is_served(ApiKey::ApiVersions, version) { version } else { 0 }
}

/// The versions whose messages the crate reads and writes, served or not. Its own list is one too high where Kafka
/// has a newest version that is not yet stable.
pub(super) fn known_versions(api: ApiKey) -> VersionRange {
    let listed = api.valid_versions();
    let max = match api {
        ApiKey::InitProducerId => 5,
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
        _ => listed.max,
    };
    VersionRange { max, ..listed }
}
