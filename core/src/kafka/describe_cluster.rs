//! DescribeCluster.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse,
    describe_cluster_response::DescribeClusterBroker,
};

use heddle_proto::error::ErrorCode;

use super::words;
use crate::shard::Shard;

/// Kafka's types of endpoints.
const ENDPOINT_BROKERS: i8 = 1;
const ENDPOINT_CONTROLLERS: i8 = 2;

/// Answers one request.
pub fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let refused = |code: ErrorCode, message: &str| {
        DescribeClusterResponse::default()
            .with_error_code(code.code())
            .with_error_message(Some(words(message)))
            .with_endpoint_type(request.endpoint_type)
    };
    match request.endpoint_type {
        ENDPOINT_BROKERS => {}
        ENDPOINT_CONTROLLERS => {
            let message = "this is a broker; there are no controllers to connect to";
            return refused(ErrorCode::MismatchedEndpointType, message);
        }
        _ => return refused(ErrorCode::UnsupportedEndpointType, "only brokers (type 1) can be asked for"),
    }
    let image = shard.image();
    let brokers = image.nodes.values().flat_map(|node| node.brokers().map(move |it| (it, node.rack())));
    let brokers = brokers.map(|(broker, rack)| {
        DescribeClusterBroker::default()
            .with_rack(rack.map(words))
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
