//! FindCoordinator: groups and transactions are not served by this version, and the answer says so.

use heddle_net::kafka::messages::{
    BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, find_coordinator_response::Coordinator,
};
use heddle_proto::error::ErrorCode;

use super::words;

/// Kafka's key types.
const KEY_GROUP: i8 = 0;
const KEY_TRANSACTION: i8 = 1;

/// Answers one request. The codes are final for clients: they fail at once with the message instead of trying again.
pub fn answer(request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let (code, message) = match request.key_type {
        KEY_GROUP => (
            ErrorCode::UnsupportedVersion,
            "consumer groups are not supported by this version of Heddle; assign partitions instead",
        ),
        KEY_TRANSACTION => (
            ErrorCode::UnsupportedVersion,
            "transactions are not supported by this version of Heddle; idempotent producers are",
        ),
        _ => (ErrorCode::InvalidRequest, "this key type has no coordinator here"),
    };
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(code.code())
            .with_error_message(Some(words(message)))
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}
