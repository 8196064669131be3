//! Requests out of verified FlatBuffers headers; those of the data path without a heap allocation.

use super::decode::{root, start_from, text, topic_id};
use super::generated::heddle::native as fb;
use super::{NativeError, Request};
use crate::ids::{Epoch, NodeId, Offset, PartitionIndex};
use crate::limits::REQUEST_HEADER_BYTES_MAX;

/// Reads the header of a request: its correlation and itself.
///
/// # Errors
/// [`NativeError::HeaderTooLarge`], [`NativeError::Invalid`], [`NativeError::UnknownMessage`],
/// [`NativeError::Missing`] and [`NativeError::OutOfRange`].
pub fn decode_request(header: &[u8]) -> Result<(u32, Request), NativeError> {
    let frame = root::<fb::RequestHeader<'_>>(header, REQUEST_HEADER_BYTES_MAX)?;
    let request = data_request(&frame).or_else(|| control_request(&frame)).unwrap_or_else(|| {
        Err(NativeError::UnknownMessage { correlation: frame.correlation(), kind: frame.body_type().0 })
    })?;
    Ok((frame.correlation(), request))
}

type Decoded = Option<Result<Request, NativeError>>;

/// The requests that carry or move data.
fn data_request(frame: &fb::RequestHeader<'_>) -> Decoded {
    match frame.body_type() {
        fb::RequestBody::ProduceRequest => frame.body_as_produce_request().map(|body| Ok(produce(&body))),
        fb::RequestBody::FetchRequest => frame.body_as_fetch_request().map(|body| Ok(fetch(&body))),
        fb::RequestBody::CreditRequest => frame
            .body_as_credit_request()
            .map(|body| Ok(Request::Credit { subscription: body.subscription(), bytes: body.bytes() })),
        fb::RequestBody::SubscribeRequest => frame.body_as_subscribe_request().map(|body| subscribe(&body)),
        fb::RequestBody::UnsubscribeRequest => frame
            .body_as_unsubscribe_request()
            .map(|body| Ok(Request::Unsubscribe { subscription: body.subscription() })),
        fb::RequestBody::ListOffsetsRequest => {
            frame.body_as_list_offsets_request().map(|body| list_offsets(&body))
        }
        fb::RequestBody::DeleteRecordsRequest => {
            frame.body_as_delete_records_request().map(|body| Ok(delete_records(&body)))
        }
        _ => None,
    }
}

/// The requests about the cluster and its topics.
fn control_request(frame: &fb::RequestHeader<'_>) -> Decoded {
    match frame.body_type() {
        fb::RequestBody::HelloRequest => frame.body_as_hello_request().map(|body| Ok(hello(&body))),
        fb::RequestBody::MetadataRequest => frame.body_as_metadata_request().map(|body| Ok(metadata(&body))),
        fb::RequestBody::CreateTopicRequest => {
            frame.body_as_create_topic_request().map(|body| create_topic(&body))
        }
        fb::RequestBody::AlterTopicRequest => {
            frame.body_as_alter_topic_request().map(|body| Ok(alter_topic(&body)))
        }
        fb::RequestBody::DeleteTopicRequest => frame
            .body_as_delete_topic_request()
            .map(|body| Ok(Request::DeleteTopic { name: body.name().to_owned() })),
        fb::RequestBody::DescribeTopicRequest => frame
            .body_as_describe_topic_request()
            .map(|body| Ok(Request::DescribeTopic { name: body.name().to_owned() })),
        fb::RequestBody::InitProducerRequest => Some(Ok(Request::InitProducer {})),
        fb::RequestBody::ClusterStatusRequest => Some(Ok(Request::ClusterStatus {})),
        fb::RequestBody::LatencyRequest => Some(Ok(Request::Latency {})),
        fb::RequestBody::DrainNodeRequest => frame.body_as_drain_node_request().map(|body| {
            Ok(Request::DrainNode { node: NodeId::new(body.node()), is_draining: body.is_draining() })
        }),
        fb::RequestBody::RemoveNodeRequest => frame
            .body_as_remove_node_request()
            .map(|body| Ok(Request::RemoveNode { node: NodeId::new(body.node()) })),
        fb::RequestBody::MoveReplicasRequest => frame.body_as_move_replicas_request().map(|body| {
            Ok(Request::MoveReplicas {
                topic: body.topic().to_owned(),
                partition: PartitionIndex::new(body.partition()),
                nodes: body.nodes().into_iter().flatten().map(NodeId::new).collect(),
            })
        }),
        _ => None,
    }
}

fn produce(body: &fb::ProduceRequest<'_>) -> Request {
    Request::Produce {
        topic: topic_id(body.topic()),
        partition: PartitionIndex::new(body.partition()),
        epoch: Epoch::new(body.epoch()),
        acks: body.acks(),
    }
}

fn fetch(body: &fb::FetchRequest<'_>) -> Request {
    Request::Fetch {
        topic: topic_id(body.topic()),
        partition: PartitionIndex::new(body.partition()),
        offset: Offset::new(body.offset()),
        bytes_max: body.bytes_max(),
        bytes_min: body.bytes_min(),
        wait_max_ms: body.wait_max_ms(),
    }
}

fn subscribe(body: &fb::SubscribeRequest<'_>) -> Result<Request, NativeError> {
    Ok(Request::Subscribe {
        subscription: body.subscription(),
        topic: topic_id(body.topic()),
        partition: PartitionIndex::new(body.partition()),
        from: start_from(body.from())?,
        credit_bytes: body.credit_bytes(),
    })
}

fn list_offsets(body: &fb::ListOffsetsRequest<'_>) -> Result<Request, NativeError> {
    Ok(Request::ListOffsets {
        topic: topic_id(body.topic()),
        partition: PartitionIndex::new(body.partition()),
        at: start_from(body.at())?,
    })
}

fn delete_records(body: &fb::DeleteRecordsRequest<'_>) -> Request {
    Request::DeleteRecords {
        topic: topic_id(body.topic()),
        partition: PartitionIndex::new(body.partition()),
        before: Offset::new(body.before()),
    }
}

fn hello(body: &fb::HelloRequest<'_>) -> Request {
    Request::Hello {
        version: body.version(),
        client: text(body.client()),
        cluster: body.cluster().map(str::to_owned),
    }
}

fn metadata(body: &fb::MetadataRequest<'_>) -> Request {
    let topics = body.topics().map(|topics| topics.iter().map(str::to_owned).collect());
    Request::Metadata { topics, auto_create: body.auto_create() }
}

fn create_topic(body: &fb::CreateTopicRequest<'_>) -> Result<Request, NativeError> {
    let with_value = |config: fb::Config<'_>| {
        let value = config.value().ok_or(NativeError::Missing("value of a config"))?;
        Ok((config.name().to_owned(), value.to_owned()))
    };
    let configs = body.configs().into_iter().flatten().map(with_value).collect::<Result<_, NativeError>>()?;
    Ok(Request::CreateTopic {
        name: body.name().to_owned(),
        partition_count: body.partition_count(),
        replication_factor: body.replication_factor(),
        configs,
    })
}

fn alter_topic(body: &fb::AlterTopicRequest<'_>) -> Request {
    let owned = |config: fb::Config<'_>| (config.name().to_owned(), config.value().map(str::to_owned));
    Request::AlterTopic {
        name: body.name().to_owned(),
        configs: body.configs().into_iter().flatten().map(owned).collect(),
        partition_count: body.partition_count(),
    }
}
