//! DescribeCluster.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    BrokerId, DescribeClusterResponse, describe_cluster_response::DescribeClusterBroker,
};

use super::words;
use crate::shard::Shard;

/// Answers one request.
pub fn answer<D: Disk>(shard: &Rc<Shard<D>>) -> DescribeClusterResponse {
    let image = shard.image();
    let brokers = image.nodes.values().flat_map(|node| node.brokers()).map(|broker| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(broker.id))
            .with_host(words(broker.host))
            .with_port(i32::from(broker.port))
    });
    DescribeClusterResponse::default()
        .with_error_message(None)
        .with_cluster_id(words(image.cluster_id.to_string()))
        .with_controller_id(BrokerId(shard.broker_id()))
        .with_brokers(brokers.collect())
}
