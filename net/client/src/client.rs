//! The requests of the native protocol, one method each.
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_proto::native::{Reply, Request, StartFrom};
use heddle_proto::{Epoch, NodeId, Offset, PartitionIndex, TopicId};

use crate::call::{
    self, Call, Fetched, Listed, Metadata, Produced, ProducerIdentity, TopicDescription, Welcome,
};
use crate::error::ClientError;
use crate::state::Shared;
use crate::subscription::Subscription;

/// Version of the protocol this client speaks.
const VERSION: u16 = 1;

/// What an acknowledgement of a produce request means.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Acks {
    /// As safe as the topic's durability demands.
    All,
    /// Safe on the primary alone.
    Primary,
}

/// Where batches go.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ProduceTo {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The epoch the client believes in; a broker of another one refuses. [`Epoch::NONE`] means any.
    pub epoch: Epoch,
}

impl ProduceTo {
    /// A partition, in whatever epoch it is.
    pub fn new(topic: TopicId, partition: PartitionIndex) -> ProduceTo {
        ProduceTo { topic, partition, epoch: Epoch::NONE }
    }
}

/// Where and how much to fetch.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct FetchFrom {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The first batch returned contains this offset.
    pub offset: Offset,
    /// Soft limit of what is returned, in bytes; at least one batch is, if there is one.
    pub bytes_max: u32,
    /// Wait until there is this much to return, in bytes.
    pub bytes_min: u32,
    /// Wait no longer than this (whole milliseconds).
    pub wait_max: Duration,
}

impl FetchFrom {
    /// Up to 1 MiB of what is there, without waiting.
    pub fn new(topic: TopicId, partition: PartitionIndex, offset: Offset) -> FetchFrom {
        FetchFrom { topic, partition, offset, bytes_max: 1 << 20, bytes_min: 0, wait_max: Duration::ZERO }
    }
}

/// A topic to be created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its partitions; 0 means the broker's default.
    pub partition_count: u32,
    /// Replicas of each partition; 0 means the broker's default.
    pub replication_factor: u16,
    /// Settings that differ from the defaults.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    pub fn named(name: impl Into<String>) -> NewTopic {
        NewTopic { name: name.into(), partition_count: 0, replication_factor: 0, configs: Vec::new() }
    }
}

/// Changes to a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicChange {
    /// Its name.
    pub name: String,
    /// New values; `None` returns a setting to its default.
    pub configs: Vec<(String, Option<String>)>,
    /// New number of partitions; 0 leaves it.
    pub partition_count: u32,
}

/// One side of a connection to a broker. Cheap to clone; all clones share the connection.
///
/// Each request is queued at the call, in the order of the calls, and answered through the [`Call`] returned;
/// so requests are pipelined simply by calling before awaiting. The connection ends when all clients and
/// subscriptions are dropped and what they asked for is done.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Clone for Client {
    fn clone(&self) -> Client {
        Client::new(self.shared.clone())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.remove_handle();
    }
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>) -> Client {
        shared.add_handle();
        Client { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Why the connection is of no use any more, if so.
    pub fn failure(&self) -> Option<ClientError> {
        self.shared.failure()
    }

    /// Waits until a request would be taken rather than refused as [`ClientError::Overloaded`].
    pub async fn ready(&self) -> Result<(), ClientError> {
        poll_fn(|cx| self.shared.poll_room(cx)).await
    }

    pub(crate) fn call<T>(
        &self,
        request: &Request,
        payload: Bytes,
        convert: fn(Reply, Bytes) -> Result<T, Reply>,
    ) -> Call<T> {
        Call::new(&self.shared, self.shared.call(request, payload), convert)
    }

    fn ask<T>(&self, request: Request, convert: fn(Reply, Bytes) -> Result<T, Reply>) -> Call<T> {
        self.call(&request, Bytes::new(), convert)
    }

    /// Introduces this client as `name` (for the broker's logs); the first request of a connection.
    ///
    /// A broker of another cluster than `cluster`, if given, refuses.
    pub fn hello(&self, name: &str, cluster: Option<&str>) -> Call<Welcome> {
        let (client, cluster) = (name.to_owned(), cluster.map(str::to_owned));
        self.ask(Request::Hello { version: VERSION, client, cluster }, call::welcome)
    }

    /// The brokers, and where the partitions of `topics` (`None`: of all) live. Missing topics are created if
    /// `auto_create` and the broker allows it.
    pub fn metadata(&self, topics: Option<&[&str]>, auto_create: bool) -> Call<Metadata> {
        let topics = topics.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        self.ask(Request::Metadata { topics, auto_create }, call::metadata)
    }

    /// Appends one or more record batches.
    pub fn produce(&self, to: ProduceTo, acks: Acks, batches: Bytes) -> Call<Produced> {
        let acks = match acks {
            Acks::All => -1,
            Acks::Primary => 1,
        };
        self.call(&produce_request(to, acks), batches, call::produced)
    }

    /// Appends one or more record batches without an answer: whether it worked is not told.
    pub fn produce_unacked(&self, to: ProduceTo, batches: Bytes) -> Result<(), ClientError> {
        self.shared.tell(&produce_request(to, 0), batches)
    }

    /// Reads committed batches.
    pub fn fetch(&self, from: FetchFrom) -> Call<Fetched> {
        let FetchFrom { topic, partition, offset, bytes_max, bytes_min, wait_max } = from;
        let wait_max_ms = u32::try_from(wait_max.as_millis()).unwrap_or(u32::MAX);
        let request = Request::Fetch { topic, partition, offset, bytes_max, bytes_min, wait_max_ms };
        self.ask(request, call::fetched)
    }

    /// Has committed batches pushed as they come; the broker never sends more than `credit_bytes` (and one
    /// batch) ahead of what was taken from the subscription.
    pub async fn subscribe(
        &self,
        topic: TopicId,
        partition: PartitionIndex,
        from: StartFrom,
        credit_bytes: u64,
    ) -> Result<Subscription, ClientError> {
        Subscription::open(self.clone(), topic, partition, from, credit_bytes).await
    }

    /// Finds the offset of a place in a partition.
    pub fn list_offsets(&self, topic: TopicId, partition: PartitionIndex, at: StartFrom) -> Call<Listed> {
        self.ask(Request::ListOffsets { topic, partition, at }, call::listed)
    }

    /// Creates a topic, returning its id.
    pub fn create_topic(&self, topic: NewTopic) -> Call<TopicId> {
        let NewTopic { name, partition_count, replication_factor, configs } = topic;
        self.ask(Request::CreateTopic { name, partition_count, replication_factor, configs }, call::topic)
    }

    /// Deletes a topic and its data.
    pub fn delete_topic(&self, name: &str) -> Call<TopicId> {
        self.ask(Request::DeleteTopic { name: name.to_owned() }, call::topic)
    }

    /// Changes settings of a topic.
    pub fn alter_topic(&self, change: TopicChange) -> Call<TopicId> {
        let TopicChange { name, configs, partition_count } = change;
        self.ask(Request::AlterTopic { name, configs, partition_count }, call::topic)
    }

    /// Everything about one topic.
    pub fn describe_topic(&self, name: &str) -> Call<TopicDescription> {
        self.ask(Request::DescribeTopic { name: name.to_owned() }, call::topic_description)
    }

    /// Forgets the records before an offset, returning the first offset still held.
    pub fn delete_records(&self, topic: TopicId, partition: PartitionIndex, before: Offset) -> Call<Offset> {
        self.ask(Request::DeleteRecords { topic, partition, before }, call::deleted_records)
    }

    /// A producer id of one's own, for batches the broker must not take twice.
    pub fn init_producer(&self) -> Call<ProducerIdentity> {
        self.ask(Request::InitProducer {}, call::producer)
    }

    /// The state of the cluster as a JSON document.
    pub fn cluster_status(&self) -> Call<String> {
        self.ask(Request::ClusterStatus {}, call::cluster_status)
    }

    /// Has a node give all its replicas away and get none, or be as others again.
    pub fn drain_node(&self, node: NodeId, is_draining: bool) -> Call<()> {
        self.ask(Request::DrainNode { node, is_draining }, call::done)
    }

    /// Takes a node that is stopped and holds nothing out of the cluster for good.
    pub fn remove_node(&self, node: NodeId) -> Call<()> {
        self.ask(Request::RemoveNode { node }, call::done)
    }

    /// Begins to move the replicas of a partition to these nodes, the preferred primary first; without nodes the move
    /// under way is taken back.
    pub fn move_replicas(&self, topic: &str, partition: PartitionIndex, nodes: Vec<NodeId>) -> Call<()> {
        self.ask(Request::MoveReplicas { topic: topic.to_owned(), partition, nodes }, call::done)
    }

    /// Asks for the stage histograms of the broker at the other end, as a JSON document (docs/operations.md).
    pub fn latency(&self) -> Call<String> {
        self.ask(Request::Latency {}, call::latency)
    }
}

fn produce_request(to: ProduceTo, acks: i8) -> Request {
    let ProduceTo { topic, partition, epoch } = to;
    Request::Produce { topic, partition, epoch, acks }
}
