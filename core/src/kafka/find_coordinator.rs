//! FindCoordinator: which broker coordinates a group, or a transactional producer.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, find_coordinator_response::Coordinator,
    },
};
use heddle_proto::error::ErrorCode;

use super::words;
use crate::{
    metadata::{Broker, internal::InternalTopic},
    shard::{Shard, request::OpError},
};

/// Kafka's key types.
const KEY_GROUP: i8 = 0;
const KEY_TRANSACTION: i8 = 1;

/// Answers one request: each key for itself. The first one of a cluster makes the topic that groups, or transactions, are kept in.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let prepared = match request.key_type {
        KEY_GROUP => prepare(shard, InternalTopic::Groups).await,
        KEY_TRANSACTION => prepare(shard, InternalTopic::Transactions).await,
        _ => Err(OpError::new(ErrorCode::InvalidRequest, "this key type has no coordinator here")),
    };
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        let found = prepared.clone().and_then(|topic| find(shard, topic, &key));
        describe(key, found)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

async fn prepare<D: Disk>(shard: &Rc<Shard<D>>, topic: InternalTopic) -> Result<InternalTopic, OpError> {
    match shard.ensure_internal_topic(topic, shard.config.group_partition_count).await {
        Ok(()) => Ok(topic),
        Err(error) => Err(OpError::new(ErrorCode::CoordinatorNotAvailable, error.message)),
    }
}

fn find<D: Disk>(shard: &Rc<Shard<D>>, topic: InternalTopic, key: &str) -> Result<Broker, OpError> {
    let unavailable =
        || OpError::new(ErrorCode::CoordinatorNotAvailable, "its partition has no primary at the moment");
    let at = shard.internal_partition(topic, key).ok_or_else(unavailable)?;
    let image = shard.image();
    let topic = image.topic_by_id(at.topic).ok_or_else(unavailable)?;
    let partition = topic.partition(at.partition).ok_or_else(unavailable)?;
    let id = image.leader_broker(topic, partition);
    let mut brokers = image.nodes.values().flat_map(|node| node.brokers());
    brokers.find(|broker| broker.id == id).ok_or_else(unavailable)
}

/// Who to ask, or nobody: node -1.
fn describe(key: StrBytes, found: Result<Broker, OpError>) -> Coordinator {
    let coordinator = Coordinator::default().with_key(key);
    match found {
        Ok(broker) => coordinator
            .with_node_id(BrokerId(broker.id))
            .with_host(words(broker.host))
            .with_port(i32::from(broker.port)),
        Err(error) => coordinator
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(error.code.code())
            .with_error_message(Some(words(error.message))),
    }
}
