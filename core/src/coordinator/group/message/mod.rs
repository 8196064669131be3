//! What goes into the group coordinator and what comes out of it, as plain values.
//!
//! The front doors translate between these and the messages of their protocols. Names and meanings are Kafka's; a null
//! of the wire is `None`, and an empty member id is the empty [`MemberId`](super::MemberId).

mod admin;
mod classic;
mod consumer;
mod offsets;

use std::sync::Arc;

use heddle_proto::ids::{ProducerEpoch, ProducerId};

use super::{config::GroupConfig, ids::RequestId, topics::TopicImage};

pub use admin::{
    DeleteGroups, DescribeGroups, DescribedGroup, DescribedMember, GroupResult, GroupState, GroupType,
    GroupsDeleted, GroupsDescribed, GroupsListed, ListGroups, ListedGroup,
};
pub use classic::{
    Client, Heartbeat, HeartbeatAnswer, JoinAnswer, JoinGroup, JoinedMember, LeaveAnswer, LeaveGroup,
    LeavingMember, LeftMember, MemberAssignment, MemberProtocol, SyncAnswer, SyncGroup,
};
pub use consumer::{
    Assignment, ConsumerGroupDescribe, ConsumerGroupDescribed, ConsumerGroupHeartbeat,
    ConsumerGroupHeartbeatAnswer, DescribedConsumerGroup, DescribedConsumerMember,
};
pub use offsets::{
    CommitPartition, FetchTopics, FetchedPartition, OffsetCommit, OffsetDelete, OffsetDeleted, OffsetFetch,
    OffsetFetched, OffsetsCommitted, PartitionResult, TopicPartitionName, TxnOffsetCommit,
};

/// Everything that can happen to a coordinator.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // moved once, into the coordinator; almost all events are requests
pub enum Event {
    /// A client asks; the reply, now or later, carries the same id.
    Request(RequestId, Request),
    /// A deadline passed.
    Tick,
    /// The cluster's topics changed.
    TopicsChanged(Arc<TopicImage>),
    /// The operator changed settings. They hold for what happens from now on.
    ConfigChanged(Arc<GroupConfig>),
    /// A transaction was decided. Once the records of this event are durable, the transaction coordinator may be told
    /// that the marker is written.
    TransactionEnded {
        /// Confirms to the caller, as a [`Reply::TransactionEnded`].
        request: RequestId,
        /// Whose transaction.
        producer: ProducerId,
        /// The epoch in the marker: what comes later with a lower one is refused.
        epoch: ProducerEpoch,
        /// Committed, or aborted.
        committed: bool,
    },
}

/// A question or an order of a client.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each is described where it is defined
pub enum Request {
    JoinGroup(JoinGroup),
    SyncGroup(SyncGroup),
    Heartbeat(Heartbeat),
    LeaveGroup(LeaveGroup),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeat),
    ConsumerGroupDescribe(ConsumerGroupDescribe),
    OffsetCommit(OffsetCommit),
    TxnOffsetCommit(TxnOffsetCommit),
    OffsetFetch(OffsetFetch),
    OffsetDelete(OffsetDelete),
    ListGroups(ListGroups),
    DescribeGroups(DescribeGroups),
    DeleteGroups(DeleteGroups),
}

/// The answer to a [`Request`] of the same name.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // each is described where it is defined
pub enum Reply {
    JoinGroup(JoinAnswer),
    SyncGroup(SyncAnswer),
    Heartbeat(HeartbeatAnswer),
    LeaveGroup(LeaveAnswer),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatAnswer),
    ConsumerGroupDescribe(ConsumerGroupDescribed),
    OffsetCommit(OffsetsCommitted),
    TxnOffsetCommit(OffsetsCommitted),
    OffsetFetch(OffsetFetched),
    OffsetDelete(OffsetDeleted),
    ListGroups(GroupsListed),
    DescribeGroups(GroupsDescribed),
    DeleteGroups(GroupsDeleted),
    TransactionEnded,
}
