//! UNSUPPORTED_VERSION in the schema of every Kafka api that clients may ask for and that is not served here.
//!
//! An api moves out of this file when it is served.

use bytes::Bytes;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::*;

use super::control::check_shape;
use super::header::ReplyHeader;

/// The response that tells `code` for a request of an unserved api or version, `None` when its schema has no room.
pub(super) fn unserved_response(header: ReplyHeader, body: Bytes, code: i16) -> Option<ResponseKind> {
    top_level(header.api, header.version, code).or_else(|| per_item(header.api, header.version, body, code))
}

/// Responses with an error field of their own.
fn top_level(api: ApiKey, version: i16, code: i16) -> Option<ResponseKind> {
    macro_rules! with_code {
        ($($api:ident since $since:literal => $response:ident,)*) => {
            match api {
                $(ApiKey::$api if version >= $since => {
                    Some($response::default().with_error_code(code).into())
                })*
                _ => None,
            }
        };
    }
    with_code! {
        Fetch since 7 => FetchResponse,
        SaslHandshake since 0 => SaslHandshakeResponse,
        SaslAuthenticate since 0 => SaslAuthenticateResponse,
        DescribeAcls since 0 => DescribeAclsResponse,
        CreateDelegationToken since 0 => CreateDelegationTokenResponse,
        RenewDelegationToken since 0 => RenewDelegationTokenResponse,
        ExpireDelegationToken since 0 => ExpireDelegationTokenResponse,
        DescribeDelegationToken since 0 => DescribeDelegationTokenResponse,
        DescribeUserScramCredentials since 0 => DescribeUserScramCredentialsResponse,
        DescribeQuorum since 0 => DescribeQuorumResponse,
        UpdateFeatures since 0 => UpdateFeaturesResponse,
        UnregisterBroker since 0 => UnregisterBrokerResponse,
        GetTelemetrySubscriptions since 0 => GetTelemetrySubscriptionsResponse,
        PushTelemetry since 0 => PushTelemetryResponse,
        ListConfigResources since 0 => ListConfigResourcesResponse,
        ShareGroupHeartbeat since 0 => ShareGroupHeartbeatResponse,
        ShareFetch since 0 => ShareFetchResponse,
        ShareAcknowledge since 0 => ShareAcknowledgeResponse,
        AlterShareGroupOffsets since 0 => AlterShareGroupOffsetsResponse,
        DeleteShareGroupOffsets since 0 => DeleteShareGroupOffsetsResponse,
    }
}

/// Responses that tell errors per topic, group or key: the request is decoded to name them.
fn per_item(api: ApiKey, version: i16, mut body: Bytes, code: i16) -> Option<ResponseKind> {
    check_shape(api, version, &body).ok()?;
    let response = match RequestKind::decode(api, &mut body, version).ok()? {
        RequestKind::Produce(request) => produce(request, code)?.into(),
        RequestKind::CreateAcls(request) => create_acls(&request, code).into(),
        _ => return None,
    };
    Some(response)
}

/// A version with topic ids. A producer that waits for no reply gets none.
fn produce(request: ProduceRequest, code: i16) -> Option<ProduceResponse> {
    let topics = request.topic_data.into_iter().map(|topic| {
        let partitions = topic.partition_data.into_iter().map(|partition| {
            PartitionProduceResponse::default()
                .with_index(partition.index)
                .with_error_code(code)
                .with_base_offset(-1)
        });
        TopicProduceResponse::default()
            .with_name(topic.name)
            .with_topic_id(topic.topic_id)
            .with_partition_responses(partitions.collect())
    });
    (request.acks != 0).then(|| ProduceResponse::default().with_responses(topics.collect()))
}

fn create_acls(request: &CreateAclsRequest, code: i16) -> CreateAclsResponse {
    let results = request.creations.iter().map(|_| AclCreationResult::default().with_error_code(code));
    CreateAclsResponse::default().with_results(results.collect())
}
