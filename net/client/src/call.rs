//! A request under way, and the values requests are answered with.
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_lite::ready;
use heddle_proto::native::{Broker, ConfigEntry, PartitionDetail, Reply, TopicInfo};
use heddle_proto::{CoreId, NodeId, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId};

use crate::error::ClientError;
use crate::state::Shared;

/// A request that has been queued to be sent; await it for the answer.
///
/// The request is on its way whether or not this is polled. Dropping it gives up the answer, not the request.
#[must_use = "the answer tells whether the request worked"]
#[derive(Debug)]
pub struct Call<T> {
    stage: Stage,
    convert: fn(Reply, Bytes) -> Result<T, Reply>,
}

#[derive(Debug)]
enum Stage {
    Waiting {
        shared: Arc<Shared>,
        correlation: u32,
    },
    /// Refused before it was sent.
    Refused(ClientError),
    Done,
}

impl<T> Call<T> {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        correlation: Result<u32, ClientError>,
        convert: fn(Reply, Bytes) -> Result<T, Reply>,
    ) -> Call<T> {
        let stage = match correlation {
            Ok(correlation) => Stage::Waiting { shared: shared.clone(), correlation },
            Err(error) => Stage::Refused(error),
        };
        Call { stage, convert }
    }
}

impl<T> Future for Call<T> {
    type Output = Result<T, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &self.stage {
            Stage::Waiting { shared, correlation } => ready!(shared.poll_answer(*correlation, cx)),
            Stage::Refused(error) => Err(error.clone()),
            Stage::Done => panic!("a call was polled after it was answered"),
        };
        self.stage = Stage::Done;
        let (reply, payload) = answer?;
        let converted = (self.convert)(reply, payload);
        Poll::Ready(
            converted.map_err(|reply| ClientError::Protocol(format!("an answer of another kind: {reply:?}"))),
        )
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        if let Stage::Waiting { shared, correlation } = &self.stage {
            shared.abandon(*correlation);
        }
    }
}

/// The answer to [`crate::Client::hello`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// Protocol version of this connection.
    pub version: u16,
    /// The node that answers.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: String,
    /// The core that answers.
    pub core: CoreId,
    /// Cores of the node.
    pub core_count: u16,
    /// Largest frame the broker takes, in bytes.
    pub frame_bytes_max: u32,
    /// Name and version of the broker's software.
    pub software: String,
}

/// The answer to [`crate::Client::metadata`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// Every core of every node.
    pub brokers: Vec<Broker>,
    /// The topics asked for.
    pub topics: Vec<TopicInfo>,
}

/// The answer to [`crate::Client::produce`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Produced {
    /// Offset of the first record of the first batch.
    pub base_offset: Offset,
    /// The broker's time if the topic uses it, else [`Timestamp::NONE`].
    pub append_time: Timestamp,
}

/// The answer to [`crate::Client::fetch`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// Whole batches; the first one contains the offset asked for.
    pub batches: Bytes,
    /// Offset after the last committed record.
    pub committed: Offset,
    /// First offset still held.
    pub start: Offset,
}

/// The answer to the subscribe request: where the subscription begins.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Subscribed {
    /// The first offset that will be delivered.
    pub from: Offset,
}

/// The answer to [`crate::Client::list_offsets`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The offset; -1 if no record is that new.
    pub offset: Offset,
    /// Timestamp of the record there, if that was asked for.
    pub timestamp: Timestamp,
}

/// The answer to [`crate::Client::describe_topic`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: Vec<PartitionDetail>,
    /// All its settings.
    pub configs: Vec<ConfigEntry>,
}

/// The answer to [`crate::Client::init_producer`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ProducerIdentity {
    /// The id.
    pub id: ProducerId,
    /// Its generation.
    pub epoch: ProducerEpoch,
}

pub(crate) fn welcome(reply: Reply, _: Bytes) -> Result<Welcome, Reply> {
    match reply {
        Reply::Hello { version, node, cluster, core, core_count, frame_bytes_max, software } => {
            Ok(Welcome { version, node, cluster, core, core_count, frame_bytes_max, software })
        }
        other => Err(other),
    }
}

pub(crate) fn metadata(reply: Reply, _: Bytes) -> Result<Metadata, Reply> {
    match reply {
        Reply::Metadata { brokers, topics } => Ok(Metadata { brokers, topics }),
        other => Err(other),
    }
}

pub(crate) fn produced(reply: Reply, _: Bytes) -> Result<Produced, Reply> {
    match reply {
        Reply::Produce { base_offset, append_time } => Ok(Produced { base_offset, append_time }),
        other => Err(other),
    }
}

pub(crate) fn fetched(reply: Reply, batches: Bytes) -> Result<Fetched, Reply> {
    match reply {
        Reply::Fetch { committed, start } => Ok(Fetched { batches, committed, start }),
        other => Err(other),
    }
}

pub(crate) fn subscribed(reply: Reply, _: Bytes) -> Result<Subscribed, Reply> {
    match reply {
        Reply::Subscribed { from, .. } => Ok(Subscribed { from }),
        other => Err(other),
    }
}

pub(crate) fn listed(reply: Reply, _: Bytes) -> Result<Listed, Reply> {
    match reply {
        Reply::ListOffsets { offset, timestamp } => Ok(Listed { offset, timestamp }),
        other => Err(other),
    }
}

pub(crate) fn topic(reply: Reply, _: Bytes) -> Result<TopicId, Reply> {
    match reply {
        Reply::Topic { id } => Ok(id),
        other => Err(other),
    }
}

pub(crate) fn topic_description(reply: Reply, _: Bytes) -> Result<TopicDescription, Reply> {
    match reply {
        Reply::TopicDescription { name, id, partitions, configs } => {
            Ok(TopicDescription { name, id, partitions, configs })
        }
        other => Err(other),
    }
}

pub(crate) fn producer(reply: Reply, _: Bytes) -> Result<ProducerIdentity, Reply> {
    match reply {
        Reply::Producer { id, epoch } => Ok(ProducerIdentity { id, epoch }),
        other => Err(other),
    }
}

pub(crate) fn deleted_records(reply: Reply, _: Bytes) -> Result<Offset, Reply> {
    match reply {
        Reply::DeletedRecords { start } => Ok(start),
        other => Err(other),
    }
}

pub(crate) fn done(reply: Reply, _: Bytes) -> Result<(), Reply> {
    match reply {
        Reply::Done {} => Ok(()),
        other => Err(other),
    }
}

pub(crate) fn latency(reply: Reply, _: Bytes) -> Result<String, Reply> {
    match reply {
        Reply::Latency { json } => Ok(json),
        other => Err(other),
    }
}

pub(crate) fn cluster_status(reply: Reply, _: Bytes) -> Result<String, Reply> {
    match reply {
        Reply::ClusterStatus { json } => Ok(json),
        other => Err(other),
    }
}
