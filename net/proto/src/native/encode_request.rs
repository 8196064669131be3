//! Requests as FlatBuffers tables, one arm per message of the schema.

use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};

use super::Request;
use super::encode::{start_from, uuid};
use super::generated::heddle::native as fb;

type Builder = FlatBufferBuilder<'static>;
type Body = (fb::RequestBody, WIPOffset<UnionWIPOffset>);

/// Writes the body; the caller writes the root around it.
pub(super) fn body(builder: &mut Builder, request: &Request) -> Body {
    use fb::RequestBody as Kind;
    match request {
        Request::Hello { version, client, cluster } => hello(builder, *version, client, cluster.as_deref()),
        Request::Metadata { topics, auto_create } => metadata(builder, topics.as_deref(), *auto_create),
        Request::Produce { topic, partition, epoch, acks } => {
            let args = fb::ProduceRequestArgs {
                topic: Some(&uuid(*topic)),
                partition: partition.get(),
                epoch: epoch.get(),
                acks: *acks,
            };
            (Kind::ProduceRequest, fb::ProduceRequest::create(builder, &args).as_union_value())
        }
        Request::Fetch { topic, partition, offset, bytes_max, bytes_min, wait_max_ms } => {
            let args = fb::FetchRequestArgs {
                topic: Some(&uuid(*topic)),
                partition: partition.get(),
                offset: offset.get(),
                bytes_max: *bytes_max,
                bytes_min: *bytes_min,
                wait_max_ms: *wait_max_ms,
            };
            (Kind::FetchRequest, fb::FetchRequest::create(builder, &args).as_union_value())
        }
        Request::Subscribe { subscription, topic, partition, from, credit_bytes } => {
            let args = fb::SubscribeRequestArgs {
                subscription: *subscription,
                topic: Some(&uuid(*topic)),
                partition: partition.get(),
                from: Some(&start_from(*from)),
                credit_bytes: *credit_bytes,
            };
            (Kind::SubscribeRequest, fb::SubscribeRequest::create(builder, &args).as_union_value())
        }
        Request::Credit { subscription, bytes } => {
            let args = fb::CreditRequestArgs { subscription: *subscription, bytes: *bytes };
            (Kind::CreditRequest, fb::CreditRequest::create(builder, &args).as_union_value())
        }
        Request::Unsubscribe { subscription } => {
            let args = fb::UnsubscribeRequestArgs { subscription: *subscription };
            (Kind::UnsubscribeRequest, fb::UnsubscribeRequest::create(builder, &args).as_union_value())
        }
        Request::ListOffsets { topic, partition, at } => {
            let args = fb::ListOffsetsRequestArgs {
                topic: Some(&uuid(*topic)),
                partition: partition.get(),
                at: Some(&start_from(*at)),
            };
            (Kind::ListOffsetsRequest, fb::ListOffsetsRequest::create(builder, &args).as_union_value())
        }
        Request::DeleteRecords { topic, partition, before } => {
            let args = fb::DeleteRecordsRequestArgs {
                topic: Some(&uuid(*topic)),
                partition: partition.get(),
                before: before.get(),
            };
            (Kind::DeleteRecordsRequest, fb::DeleteRecordsRequest::create(builder, &args).as_union_value())
        }
        Request::InitProducer {} => {
            let args = fb::InitProducerRequestArgs {};
            (Kind::InitProducerRequest, fb::InitProducerRequest::create(builder, &args).as_union_value())
        }
        Request::Latency {} => {
            let args = fb::LatencyRequestArgs {};
            (Kind::LatencyRequest, fb::LatencyRequest::create(builder, &args).as_union_value())
        }
        Request::DrainNode { node, is_draining } => {
            let args = fb::DrainNodeRequestArgs { node: node.get(), is_draining: *is_draining };
            (Kind::DrainNodeRequest, fb::DrainNodeRequest::create(builder, &args).as_union_value())
        }
        Request::RemoveNode { node } => {
            let args = fb::RemoveNodeRequestArgs { node: node.get() };
            (Kind::RemoveNodeRequest, fb::RemoveNodeRequest::create(builder, &args).as_union_value())
        }
        Request::MoveReplicas { topic, partition, nodes } => {
            let topic = Some(builder.create_string(topic));
            let nodes: Vec<u32> = nodes.iter().map(|node| node.get()).collect();
            let nodes = Some(builder.create_vector(&nodes));
            let args = fb::MoveReplicasRequestArgs { topic, partition: partition.get(), nodes };
            (Kind::MoveReplicasRequest, fb::MoveReplicasRequest::create(builder, &args).as_union_value())
        }
        Request::ClusterStatus {} => {
            let args = fb::ClusterStatusRequestArgs {};
            (Kind::ClusterStatusRequest, fb::ClusterStatusRequest::create(builder, &args).as_union_value())
        }
        Request::CreateTopic { name, partition_count, replication_factor, configs } => {
            let configs = configs.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
            create_topic(builder, name, *partition_count, *replication_factor, configs)
        }
        Request::AlterTopic { name, configs, partition_count } => {
            let configs = configs.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
            alter_topic(builder, name, configs, *partition_count)
        }
        Request::DeleteTopic { name } => {
            let name = Some(builder.create_string(name));
            let args = fb::DeleteTopicRequestArgs { name };
            (Kind::DeleteTopicRequest, fb::DeleteTopicRequest::create(builder, &args).as_union_value())
        }
        Request::DescribeTopic { name } => {
            let name = Some(builder.create_string(name));
            let args = fb::DescribeTopicRequestArgs { name };
            (Kind::DescribeTopicRequest, fb::DescribeTopicRequest::create(builder, &args).as_union_value())
        }
    }
}

fn hello(builder: &mut Builder, version: u16, client: &str, cluster: Option<&str>) -> Body {
    let client = Some(builder.create_string(client));
    let cluster = cluster.map(|cluster| builder.create_string(cluster));
    let args = fb::HelloRequestArgs { version, client, cluster };
    (fb::RequestBody::HelloRequest, fb::HelloRequest::create(builder, &args).as_union_value())
}

fn metadata(builder: &mut Builder, topics: Option<&[String]>, auto_create: bool) -> Body {
    let topics = topics.map(|topics| {
        let names: Vec<_> = topics.iter().map(|name| builder.create_string(name)).collect();
        builder.create_vector(&names)
    });
    let args = fb::MetadataRequestArgs { topics, auto_create };
    (fb::RequestBody::MetadataRequest, fb::MetadataRequest::create(builder, &args).as_union_value())
}

fn create_topic<'a>(
    builder: &mut Builder,
    name: &str,
    partition_count: u32,
    replication_factor: u16,
    configs: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> Body {
    let configs = create_configs(builder, configs);
    let configs = Some(builder.create_vector(&configs));
    let name = Some(builder.create_string(name));
    let args = fb::CreateTopicRequestArgs { name, partition_count, replication_factor, configs };
    (fb::RequestBody::CreateTopicRequest, fb::CreateTopicRequest::create(builder, &args).as_union_value())
}

fn alter_topic<'a>(
    builder: &mut Builder,
    name: &str,
    configs: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    partition_count: u32,
) -> Body {
    let configs = create_configs(builder, configs);
    let configs = Some(builder.create_vector(&configs));
    let name = Some(builder.create_string(name));
    let args = fb::AlterTopicRequestArgs { name, configs, partition_count };
    (fb::RequestBody::AlterTopicRequest, fb::AlterTopicRequest::create(builder, &args).as_union_value())
}

fn create_configs<'a>(
    builder: &mut Builder,
    configs: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> Vec<WIPOffset<fb::Config<'static>>> {
    configs
        .map(|(name, value)| {
            let name = Some(builder.create_string(name));
            let value = value.map(|value| builder.create_string(value));
            fb::Config::create(builder, &fb::ConfigArgs { name, value })
        })
        .collect()
}
