//! OffsetCommit, TxnOffsetCommit, OffsetFetch and OffsetDelete.

use std::sync::Arc;

use heddle_proto::{
    error::ErrorCode,
    ids::{Epoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp},
};

use crate::coordinator::group::ids::{Generation, GroupId, InstanceId, MemberId, TopicName};

/// A partition as clients name it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TopicPartitionName {
    /// The topic.
    pub topic: TopicName,
    /// The partition within it.
    pub partition: PartitionIndex,
}

/// How far a group has read one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitPartition {
    /// The partition.
    pub partition: TopicPartitionName,
    /// The next record to read.
    pub offset: Offset,
    /// Epoch of the last record read, or -1.
    pub leader_epoch: Epoch,
    /// Free text of the client.
    pub metadata: Option<Arc<str>>,
}

/// A group, or a client without one, says how far it has read.
#[derive(Clone, Debug)]
pub struct OffsetCommit {
    /// The group.
    pub group: GroupId,
    /// Generation of a classic member, epoch of a consumer group's member, or -1 from outside the group.
    pub generation_or_epoch: i32,
    /// The member, or empty.
    pub member: MemberId,
    /// Its name if it is static.
    pub instance: Option<InstanceId>,
    /// Whether the client understands the errors of consumer groups (OffsetCommit 9 and later).
    pub knows_consumer_groups: bool,
    /// When the offsets end, asked for by clients of long ago (OffsetCommit 2 to 4).
    pub expires: Option<Timestamp>,
    /// What to keep.
    pub partitions: Vec<CommitPartition>,
}

/// A transaction says how far its group has read; it holds once the transaction commits.
#[derive(Clone, Debug)]
pub struct TxnOffsetCommit {
    /// The group.
    pub group: GroupId,
    /// The transaction's producer.
    pub producer: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// As in [`OffsetCommit`].
    pub generation_or_epoch: i32,
    /// As in [`OffsetCommit`].
    pub member: MemberId,
    /// As in [`OffsetCommit`].
    pub instance: Option<InstanceId>,
    /// What to keep.
    pub partitions: Vec<CommitPartition>,
}

/// What became of one partition of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionResult {
    /// As asked.
    pub partition: TopicPartitionName,
    /// `None` is success.
    pub error: ErrorCode,
}

/// Answer to [`OffsetCommit`] and [`TxnOffsetCommit`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetsCommitted {
    /// As asked, in the same order.
    pub partitions: Vec<PartitionResult>,
}

/// Which offsets to fetch.
#[derive(Clone, Debug)]
pub enum FetchTopics {
    /// Whatever the group has.
    All,
    /// These.
    These(Vec<TopicPartitionName>),
}

/// How far has a group read? One group; a request for many is many of these.
#[derive(Clone, Debug)]
pub struct OffsetFetch {
    /// The group.
    pub group: GroupId,
    /// Given by members of consumer groups (OffsetFetch 9 and later).
    pub member: Option<MemberId>,
    /// The member's epoch, or -1.
    pub epoch: i32,
    /// Offsets that an open transaction may still change are refused.
    pub require_stable: bool,
    /// Which.
    pub topics: FetchTopics,
}

/// One fetched offset; without one the offset is -1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: TopicPartitionName,
    /// `None` is success.
    pub error: ErrorCode,
    /// The next record to read, or -1.
    pub offset: Offset,
    /// Epoch of the last record read, or -1.
    pub leader_epoch: Epoch,
    /// Free text of the client.
    pub metadata: Arc<str>,
}

/// Answer to [`OffsetFetch`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetFetched {
    /// Of the whole group.
    pub error: ErrorCode,
    /// As asked; for all: in the order of their names.
    pub partitions: Vec<FetchedPartition>,
}

/// An operator forgets offsets.
#[derive(Clone, Debug)]
pub struct OffsetDelete {
    /// The group.
    pub group: GroupId,
    /// Which.
    pub partitions: Vec<TopicPartitionName>,
}

/// Answer to [`OffsetDelete`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetDeleted {
    /// Of the whole request.
    pub error: ErrorCode,
    /// As asked, in the same order; none when the whole request failed.
    pub partitions: Vec<PartitionResult>,
}

impl Generation {
    /// What a commit calls "generation or epoch", read as a generation.
    pub const fn from_commit(generation_or_epoch: i32) -> Self {
        Self::new(generation_or_epoch)
    }
}
