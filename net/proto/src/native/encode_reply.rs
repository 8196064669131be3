//! Replies as FlatBuffers tables, one arm per message of the schema.

use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};

use super::encode::uuid;
use super::generated::heddle::native as fb;
use super::{Broker, ConfigEntry, PartitionDetail, PartitionInfo, Reply, TopicInfo};
use crate::ids::TopicId;

type Builder = FlatBufferBuilder<'static>;
type Body = (fb::ReplyBody, WIPOffset<UnionWIPOffset>);

/// Writes the body; the caller writes the root around it.
pub(super) fn body(builder: &mut Builder, reply: &Reply) -> Body {
    use fb::ReplyBody as Kind;
    match reply {
        Reply::Produce { base_offset, append_time } => {
            let args =
                fb::ProduceReplyArgs { base_offset: base_offset.get(), append_time: append_time.get() };
            (Kind::ProduceReply, fb::ProduceReply::create(builder, &args).as_union_value())
        }
        Reply::Fetch { committed, start } => {
            let args = fb::FetchReplyArgs { committed: committed.get(), start: start.get() };
            (Kind::FetchReply, fb::FetchReply::create(builder, &args).as_union_value())
        }
        Reply::Push { subscription, committed } => {
            let args = fb::PushReplyArgs { subscription: *subscription, committed: committed.get() };
            (Kind::PushReply, fb::PushReply::create(builder, &args).as_union_value())
        }
        Reply::Subscribed { subscription, from } => {
            let args = fb::SubscribedReplyArgs { subscription: *subscription, from: from.get() };
            (Kind::SubscribedReply, fb::SubscribedReply::create(builder, &args).as_union_value())
        }
        Reply::SubscriptionEnded { subscription, code, message } => {
            let message = Some(builder.create_string(message));
            let args =
                fb::SubscriptionEndedReplyArgs { subscription: *subscription, code: code.code(), message };
            (
                Kind::SubscriptionEndedReply,
                fb::SubscriptionEndedReply::create(builder, &args).as_union_value(),
            )
        }
        Reply::Error { code, message } => {
            let message = Some(builder.create_string(message));
            let args = fb::ErrorReplyArgs { code: code.code(), message };
            (Kind::ErrorReply, fb::ErrorReply::create(builder, &args).as_union_value())
        }
        Reply::Hello { .. } => hello(builder, reply),
        Reply::Metadata { brokers, topics } => metadata(builder, brokers, topics),
        Reply::ListOffsets { offset, timestamp } => {
            let args = fb::ListOffsetsReplyArgs { offset: offset.get(), timestamp: timestamp.get() };
            (Kind::ListOffsetsReply, fb::ListOffsetsReply::create(builder, &args).as_union_value())
        }
        Reply::Topic { id } => {
            let args = fb::TopicReplyArgs { id: Some(&uuid(*id)) };
            (Kind::TopicReply, fb::TopicReply::create(builder, &args).as_union_value())
        }
        Reply::TopicDescription { name, id, partitions, configs } => {
            description(builder, name, *id, partitions, configs)
        }
        Reply::Producer { id, epoch } => {
            let args = fb::ProducerReplyArgs { id: id.get(), epoch: epoch.get() };
            (Kind::ProducerReply, fb::ProducerReply::create(builder, &args).as_union_value())
        }
        Reply::DeletedRecords { start } => {
            let args = fb::DeletedRecordsReplyArgs { start: start.get() };
            (Kind::DeletedRecordsReply, fb::DeletedRecordsReply::create(builder, &args).as_union_value())
        }
        Reply::Latency { json } => {
            let json = Some(builder.create_string(json));
            let args = fb::LatencyReplyArgs { json };
            (Kind::LatencyReply, fb::LatencyReply::create(builder, &args).as_union_value())
        }
        Reply::Done {} => {
            let args = fb::DoneReplyArgs {};
            (Kind::DoneReply, fb::DoneReply::create(builder, &args).as_union_value())
        }
        Reply::ClusterStatus { json } => {
            let json = Some(builder.create_string(json));
            let args = fb::ClusterStatusReplyArgs { json };
            (Kind::ClusterStatusReply, fb::ClusterStatusReply::create(builder, &args).as_union_value())
        }
    }
}

fn hello(builder: &mut Builder, reply: &Reply) -> Body {
    let Reply::Hello { version, node, cluster, core, core_count, frame_bytes_max, software } = reply else {
        unreachable!("called for Reply::Hello only");
    };
    let cluster = Some(builder.create_string(cluster));
    let software = Some(builder.create_string(software));
    let args = fb::HelloReplyArgs {
        version: *version,
        node: node.get(),
        cluster,
        core: core.get(),
        core_count: *core_count,
        frame_bytes_max: *frame_bytes_max,
        software,
    };
    (fb::ReplyBody::HelloReply, fb::HelloReply::create(builder, &args).as_union_value())
}

fn metadata(builder: &mut Builder, brokers: &[Broker], topics: &[TopicInfo]) -> Body {
    let brokers: Vec<_> = brokers.iter().map(|broker| create_broker(builder, broker)).collect();
    let brokers = Some(builder.create_vector(&brokers));
    let topics: Vec<_> = topics.iter().map(|topic| create_topic(builder, topic)).collect();
    let topics = Some(builder.create_vector(&topics));
    let args = fb::MetadataReplyArgs { brokers, topics };
    (fb::ReplyBody::MetadataReply, fb::MetadataReply::create(builder, &args).as_union_value())
}

fn create_broker(builder: &mut Builder, broker: &Broker) -> WIPOffset<fb::Broker<'static>> {
    let host = Some(builder.create_string(&broker.host));
    fb::Broker::create(builder, &fb::BrokerArgs { id: broker.id, host, port: broker.port })
}

fn create_topic(builder: &mut Builder, topic: &TopicInfo) -> WIPOffset<fb::TopicInfo<'static>> {
    let partitions: Vec<_> =
        topic.partitions.iter().map(|partition| create_partition(builder, partition)).collect();
    let partitions = Some(builder.create_vector(&partitions));
    let name = Some(builder.create_string(&topic.name));
    let args = fb::TopicInfoArgs { error: topic.error.code(), name, id: Some(&uuid(topic.id)), partitions };
    fb::TopicInfo::create(builder, &args)
}

fn create_partition(builder: &mut Builder, info: &PartitionInfo) -> WIPOffset<fb::PartitionInfo<'static>> {
    let args = fb::PartitionInfoArgs {
        partition: info.partition.get(),
        broker: info.broker,
        epoch: info.epoch.get(),
        error: info.error.code(),
    };
    fb::PartitionInfo::create(builder, &args)
}

fn description(
    builder: &mut Builder,
    name: &str,
    id: TopicId,
    partitions: &[PartitionDetail],
    configs: &[ConfigEntry],
) -> Body {
    let partitions: Vec<_> = partitions.iter().map(|partition| create_detail(builder, partition)).collect();
    let partitions = Some(builder.create_vector(&partitions));
    let configs: Vec<_> = configs.iter().map(|entry| create_entry(builder, entry)).collect();
    let configs = Some(builder.create_vector(&configs));
    let name = Some(builder.create_string(name));
    let args = fb::TopicDescriptionReplyArgs { name, id: Some(&uuid(id)), partitions, configs };
    let body = fb::TopicDescriptionReply::create(builder, &args).as_union_value();
    (fb::ReplyBody::TopicDescriptionReply, body)
}

fn create_detail(builder: &mut Builder, detail: &PartitionDetail) -> WIPOffset<fb::PartitionDetail<'static>> {
    let args = fb::PartitionDetailArgs {
        partition: detail.partition.get(),
        broker: detail.broker,
        epoch: detail.epoch.get(),
        start: detail.start.get(),
        committed: detail.committed.get(),
        size_bytes: detail.size_bytes,
    };
    fb::PartitionDetail::create(builder, &args)
}

fn create_entry(builder: &mut Builder, entry: &ConfigEntry) -> WIPOffset<fb::ConfigEntry<'static>> {
    let name = Some(builder.create_string(&entry.name));
    let value = Some(builder.create_string(&entry.value));
    let doc = Some(builder.create_string(&entry.doc));
    fb::ConfigEntry::create(builder, &fb::ConfigEntryArgs { name, value, is_default: entry.is_default, doc })
}
