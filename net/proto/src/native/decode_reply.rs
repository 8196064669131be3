//! Replies out of verified FlatBuffers headers.

use super::decode::{root, text, topic_id};
use super::generated::heddle::native as fb;
use super::{Broker, ConfigEntry, NativeError, PartitionDetail, PartitionInfo, Reply, TopicInfo};
use crate::error::ErrorCode;
use crate::ids::{
    CoreId, Epoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
};
use crate::limits::HEADER_BYTES_MAX;

/// Reads the header of a reply: its correlation and itself. An error code of a later version becomes
/// [`ErrorCode::UnknownServerError`].
///
/// # Errors
/// [`NativeError::HeaderTooLarge`], [`NativeError::Invalid`] and [`NativeError::UnknownMessage`].
pub fn decode_reply(header: &[u8]) -> Result<(u32, Reply), NativeError> {
    let frame = root::<fb::ReplyHeader<'_>>(header, HEADER_BYTES_MAX)?;
    let reply = data_reply(&frame)
        .or_else(|| control_reply(&frame))
        .ok_or(NativeError::UnknownMessage { correlation: frame.correlation(), kind: frame.body_type().0 })?;
    Ok((frame.correlation(), reply))
}

/// The replies that carry or acknowledge data.
fn data_reply(frame: &fb::ReplyHeader<'_>) -> Option<Reply> {
    match frame.body_type() {
        fb::ReplyBody::ProduceReply => frame.body_as_produce_reply().map(|body| Reply::Produce {
            base_offset: Offset::new(body.base_offset()),
            append_time: Timestamp::new(body.append_time()),
        }),
        fb::ReplyBody::FetchReply => frame.body_as_fetch_reply().map(|body| Reply::Fetch {
            committed: Offset::new(body.committed()),
            start: Offset::new(body.start()),
        }),
        fb::ReplyBody::PushReply => frame.body_as_push_reply().map(|body| Reply::Push {
            subscription: body.subscription(),
            committed: Offset::new(body.committed()),
        }),
        fb::ReplyBody::SubscribedReply => frame.body_as_subscribed_reply().map(|body| Reply::Subscribed {
            subscription: body.subscription(),
            from: Offset::new(body.from()),
        }),
        fb::ReplyBody::SubscriptionEndedReply => {
            frame.body_as_subscription_ended_reply().map(|body| Reply::SubscriptionEnded {
                subscription: body.subscription(),
                code: ErrorCode::from_code_lossy(body.code()),
                message: text(body.message()),
            })
        }
        fb::ReplyBody::ListOffsetsReply => {
            frame.body_as_list_offsets_reply().map(|body| Reply::ListOffsets {
                offset: Offset::new(body.offset()),
                timestamp: Timestamp::new(body.timestamp()),
            })
        }
        fb::ReplyBody::DeletedRecordsReply => frame
            .body_as_deleted_records_reply()
            .map(|body| Reply::DeletedRecords { start: Offset::new(body.start()) }),
        _ => None,
    }
}

/// Errors, and the replies about the cluster and its topics.
fn control_reply(frame: &fb::ReplyHeader<'_>) -> Option<Reply> {
    match frame.body_type() {
        fb::ReplyBody::ErrorReply => frame.body_as_error_reply().map(|body| Reply::Error {
            code: ErrorCode::from_code_lossy(body.code()),
            message: text(body.message()),
        }),
        fb::ReplyBody::HelloReply => frame.body_as_hello_reply().map(|body| hello(&body)),
        fb::ReplyBody::MetadataReply => frame.body_as_metadata_reply().map(|body| metadata(&body)),
        fb::ReplyBody::TopicReply => {
            frame.body_as_topic_reply().map(|body| Reply::Topic { id: topic_id(body.id()) })
        }
        fb::ReplyBody::TopicDescriptionReply => {
            frame.body_as_topic_description_reply().map(|body| description(&body))
        }
        fb::ReplyBody::ProducerReply => frame.body_as_producer_reply().map(|body| Reply::Producer {
            id: ProducerId::new(body.id()),
            epoch: ProducerEpoch::new(body.epoch()),
        }),
        fb::ReplyBody::ClusterStatusReply => {
            frame.body_as_cluster_status_reply().map(|body| Reply::ClusterStatus { json: text(body.json()) })
        }
        fb::ReplyBody::LatencyReply => {
            frame.body_as_latency_reply().map(|body| Reply::Latency { json: text(body.json()) })
        }
        fb::ReplyBody::DoneReply => Some(Reply::Done {}),
        _ => None,
    }
}

fn hello(body: &fb::HelloReply<'_>) -> Reply {
    Reply::Hello {
        version: body.version(),
        node: NodeId::new(body.node()),
        cluster: text(body.cluster()),
        core: CoreId::new(body.core()),
        core_count: body.core_count(),
        frame_bytes_max: body.frame_bytes_max(),
        software: text(body.software()),
    }
}

fn metadata(body: &fb::MetadataReply<'_>) -> Reply {
    Reply::Metadata {
        brokers: body.brokers().into_iter().flatten().map(broker).collect(),
        topics: body.topics().into_iter().flatten().map(topic).collect(),
    }
}

fn broker(broker: fb::Broker<'_>) -> Broker {
    Broker { id: broker.id(), host: text(broker.host()), port: broker.port() }
}

fn topic(topic: fb::TopicInfo<'_>) -> TopicInfo {
    TopicInfo {
        error: ErrorCode::from_code_lossy(topic.error()),
        name: text(topic.name()),
        id: topic.id().map_or(TopicId::ZERO, topic_id),
        partitions: topic.partitions().into_iter().flatten().map(partition).collect(),
    }
}

fn partition(info: fb::PartitionInfo<'_>) -> PartitionInfo {
    PartitionInfo {
        partition: PartitionIndex::new(info.partition()),
        broker: info.broker(),
        epoch: Epoch::new(info.epoch()),
        error: ErrorCode::from_code_lossy(info.error()),
    }
}

fn description(body: &fb::TopicDescriptionReply<'_>) -> Reply {
    Reply::TopicDescription {
        name: text(body.name()),
        id: topic_id(body.id()),
        partitions: body.partitions().into_iter().flatten().map(detail).collect(),
        configs: body.configs().into_iter().flatten().map(entry).collect(),
    }
}

fn detail(detail: fb::PartitionDetail<'_>) -> PartitionDetail {
    PartitionDetail {
        partition: PartitionIndex::new(detail.partition()),
        broker: detail.broker(),
        epoch: Epoch::new(detail.epoch()),
        start: Offset::new(detail.start()),
        committed: Offset::new(detail.committed()),
        size_bytes: detail.size_bytes(),
    }
}

fn entry(entry: fb::ConfigEntry<'_>) -> ConfigEntry {
    ConfigEntry {
        name: entry.name().to_owned(),
        value: text(entry.value()),
        is_default: entry.is_default(),
        doc: text(entry.doc()),
    }
}
