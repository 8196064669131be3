//! Requests and replies of the native protocol as owned values; the frames' payloads travel beside them.

use crate::error::ErrorCode;
use crate::ids::{
    CoreId, Epoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
};

/// Where to start reading a partition.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// At the first record still held.
    Earliest,
    /// After the last committed record.
    Latest,
    /// At this offset.
    Offset(Offset),
    /// At the first record that is at least this new.
    Timestamp(Timestamp),
}

/// What a client asks of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// First frame of a connection.
    Hello {
        /// Highest protocol version the client speaks.
        version: u16,
        /// Name of the client, for logs.
        client: String,
        /// Cluster the client expects; refused by any other.
        cluster: Option<String>,
    },
    /// Brokers, and where the partitions of topics live.
    Metadata {
        /// Names of topics; `None` means all.
        topics: Option<Vec<String>>,
        /// Whether to create missing topics, if the broker allows that.
        auto_create: bool,
    },
    /// Append the payload, one or more batches, to a partition.
    Produce {
        /// Topic.
        topic: TopicId,
        /// Partition.
        partition: PartitionIndex,
        /// Epoch the client believes in; -1 means any.
        epoch: Epoch,
        /// -1: as the topic's durability demands; 1: the primary alone; 0: no reply.
        acks: i8,
    },
    /// Read committed batches from an offset.
    Fetch {
        /// Topic.
        topic: TopicId,
        /// Partition.
        partition: PartitionIndex,
        /// The first batch of the reply contains this offset.
        offset: Offset,
        /// Soft limit of the payload; at least one batch is returned whatever its size.
        bytes_max: u32,
        /// Wait until there is this much to return.
        bytes_min: u32,
        /// Wait no longer than this many milliseconds.
        wait_max_ms: u32,
    },
    /// Have committed batches pushed as they come.
    Subscribe {
        /// Number the client chooses, unique on its connection.
        subscription: u32,
        /// Topic.
        topic: TopicId,
        /// Partition.
        partition: PartitionIndex,
        /// Where to begin.
        from: StartFrom,
        /// Bytes of payload the broker may send before it needs more credit.
        credit_bytes: u64,
    },
    /// More credit for a subscription. Has no reply.
    Credit {
        /// Which subscription.
        subscription: u32,
        /// Additional bytes.
        bytes: u64,
    },
    /// End a subscription; answered by [`Reply::SubscriptionEnded`] after the last push.
    Unsubscribe {
        /// Which subscription.
        subscription: u32,
    },
    /// Find the offset of a place in a partition.
    ListOffsets {
        /// Topic.
        topic: TopicId,
        /// Partition.
        partition: PartitionIndex,
        /// The place.
        at: StartFrom,
    },
    /// Create a topic.
    CreateTopic {
        /// Its name.
        name: String,
        /// Partitions; 0 means the broker's default.
        partition_count: u32,
        /// Replicas of each partition; 0 means the broker's default.
        replication_factor: u16,
        /// Settings that differ from the defaults.
        configs: Vec<(String, String)>,
    },
    /// Delete a topic and its data.
    DeleteTopic {
        /// Its name.
        name: String,
    },
    /// Change settings of a topic.
    AlterTopic {
        /// Its name.
        name: String,
        /// New values; `None` returns a setting to its default.
        configs: Vec<(String, Option<String>)>,
        /// New number of partitions; 0 leaves it.
        partition_count: u32,
    },
    /// Everything about one topic.
    DescribeTopic {
        /// Its name.
        name: String,
    },
    /// Forget the records before an offset.
    DeleteRecords {
        /// Topic.
        topic: TopicId,
        /// Partition.
        partition: PartitionIndex,
        /// The first offset to keep.
        before: Offset,
    },
    /// Ask for a producer id.
    InitProducer {},
    /// State of the cluster for people and tools.
    ClusterStatus {},
    /// Where the time of requests went on the cores of the node asked, since it started.
    Latency {},
    /// Have a node give all its replicas away and get none, or be as others again.
    DrainNode {
        /// Its id.
        node: NodeId,
        /// Whether it is to give all away.
        is_draining: bool,
    },
    /// Take a node out of the cluster for good.
    RemoveNode {
        /// Its id.
        node: NodeId,
    },
    /// Move the replicas of a partition.
    MoveReplicas {
        /// The topic's name.
        topic: String,
        /// Partition.
        partition: PartitionIndex,
        /// Where they are to be, the preferred primary first; empty to take the move under way back.
        nodes: Vec<NodeId>,
    },
}

/// What a broker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// The request was refused.
    Error {
        /// Why.
        code: ErrorCode,
        /// What was wrong, where, and what to do.
        message: String,
    },
    /// To [`Request::Hello`].
    Hello {
        /// Protocol version of this connection.
        version: u16,
        /// The node that answers.
        node: NodeId,
        /// Its cluster.
        cluster: String,
        /// The core that answers.
        core: CoreId,
        /// Cores of the node.
        core_count: u16,
        /// Largest frame the broker accepts, in bytes after the length field.
        frame_bytes_max: u32,
        /// Name and version of the broker's software.
        software: String,
    },
    /// To [`Request::Metadata`].
    Metadata {
        /// Every core of every node.
        brokers: Vec<Broker>,
        /// The topics asked for.
        topics: Vec<TopicInfo>,
    },
    /// To [`Request::Produce`], once the batches are as safe as its acks ask.
    Produce {
        /// Offset of the first record of the first batch.
        base_offset: Offset,
        /// The broker's time if the topic uses it, else [`Timestamp::NONE`].
        append_time: Timestamp,
    },
    /// To [`Request::Fetch`]; the payload is batches.
    Fetch {
        /// Offset after the last committed record.
        committed: Offset,
        /// First offset still held.
        start: Offset,
    },
    /// To [`Request::Subscribe`]: pushes follow.
    Subscribed {
        /// Which subscription.
        subscription: u32,
        /// Where it begins.
        from: Offset,
    },
    /// Batches of a subscription, as payload. Correlation 0.
    Push {
        /// Which subscription.
        subscription: u32,
        /// Offset after the last committed record.
        committed: Offset,
    },
    /// No more pushes will come. Correlation 0 unless it answers [`Request::Unsubscribe`].
    SubscriptionEnded {
        /// Which subscription.
        subscription: u32,
        /// [`ErrorCode::None`] if the client asked for it.
        code: ErrorCode,
        /// Why, for people.
        message: String,
    },
    /// To [`Request::ListOffsets`].
    ListOffsets {
        /// The offset; -1 if no record is that new.
        offset: Offset,
        /// Timestamp of the record there, if that was asked for.
        timestamp: Timestamp,
    },
    /// A topic was created, deleted or altered.
    Topic {
        /// Its id.
        id: TopicId,
    },
    /// To [`Request::DescribeTopic`].
    TopicDescription {
        /// Its name.
        name: String,
        /// Its id.
        id: TopicId,
        /// Its partitions.
        partitions: Vec<PartitionDetail>,
        /// All its settings.
        configs: Vec<ConfigEntry>,
    },
    /// To [`Request::InitProducer`].
    Producer {
        /// The id.
        id: ProducerId,
        /// Its generation.
        epoch: ProducerEpoch,
    },
    /// To [`Request::DeleteRecords`].
    DeletedRecords {
        /// First offset still held.
        start: Offset,
    },
    /// To [`Request::ClusterStatus`].
    ClusterStatus {
        /// A JSON document.
        json: String,
    },
    /// To [`Request::Latency`].
    Latency {
        /// A JSON document.
        json: String,
    },
    /// To [`Request::DrainNode`], [`Request::RemoveNode`] and [`Request::MoveReplicas`]: it is agreed on.
    Done {},
}

/// One core of one node, as clients connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Broker id.
    pub id: i32,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// One topic in [`Reply::Metadata`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// [`ErrorCode::None`] unless the topic cannot be described.
    pub error: ErrorCode,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: Vec<PartitionInfo>,
}

/// One partition in [`Reply::Metadata`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Which.
    pub partition: PartitionIndex,
    /// Broker id of the core that owns the primary; -1 if there is none.
    pub broker: i32,
    /// Epoch of the primary.
    pub epoch: Epoch,
    /// [`ErrorCode::None`] unless the partition cannot be used.
    pub error: ErrorCode,
}

/// One partition in [`Reply::TopicDescription`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PartitionDetail {
    /// Which.
    pub partition: PartitionIndex,
    /// Broker id of the core that owns the primary; -1 if there is none.
    pub broker: i32,
    /// Epoch of the primary.
    pub epoch: Epoch,
    /// First offset still held.
    pub start: Offset,
    /// Offset after the last committed record.
    pub committed: Offset,
    /// Bytes on disk.
    pub size_bytes: u64,
}

/// One setting in [`Reply::TopicDescription`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value in effect.
    pub value: String,
    /// Whether that is the default.
    pub is_default: bool,
    /// What it means.
    pub doc: String,
}
