//! ConsumerGroupHeartbeat and ConsumerGroupDescribe: the protocol of KIP-848, in which the coordinator assigns.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use heddle_proto::{error::ErrorCode, ids::TopicPartition};

use super::{Client, GroupState};
use crate::coordinator::group::{
    assignor::AssignorName,
    ids::{GroupEpoch, GroupId, InstanceId, MemberId, TopicName, TopicRegex},
};

/// Partitions of one member.
pub type Assignment = BTreeSet<TopicPartition>;

/// A member joins, goes on, changes what it wants, or leaves. `None` means "as before".
#[derive(Clone, Debug)]
pub struct ConsumerGroupHeartbeat {
    /// The group, made when it does not exist and the member joins.
    pub group: GroupId,
    /// Made by the client; may be empty only in version 0, by a member that joins.
    pub member: MemberId,
    /// The name given to a member that comes without one: a random UUID, made by the caller.
    pub new_member: MemberId,
    /// 0 to join, -1 to leave, -2 when a static member leaves for a while, else the epoch last received.
    pub epoch: GroupEpoch,
    /// Its name if it is static.
    pub instance: Option<InstanceId>,
    /// Where the member is. Kept for operators; the assignors do not look at it.
    pub rack: Option<Arc<str>>,
    /// How long the member may take to give up partitions.
    pub rebalance_timeout: Option<Duration>,
    /// Topics by name.
    pub subscribed_names: Option<BTreeSet<TopicName>>,
    /// Topics by a regular expression; an empty one ends that subscription.
    pub subscribed_regex: Option<TopicRegex>,
    /// Which assignor the member prefers, as named on the wire.
    pub server_assignor: Option<Arc<str>>,
    /// What the member owns now.
    pub owned: Option<Assignment>,
    /// Who asks.
    pub client: Client,
}

/// Answer to [`ConsumerGroupHeartbeat`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerGroupHeartbeatAnswer {
    /// `None` is success.
    pub error: ErrorCode,
    /// What was wrong, for people.
    pub message: Option<&'static str>,
    /// The member's name.
    pub member: MemberId,
    /// The epoch that the member has reached.
    pub epoch: GroupEpoch,
    /// How soon to call again.
    pub heartbeat_interval: Duration,
    /// What the member is to own; `None` when that has not changed.
    pub assignment: Option<Assignment>,
}

/// An operator asks about consumer groups.
#[derive(Clone, Debug)]
pub struct ConsumerGroupDescribe {
    /// Which.
    pub groups: Vec<GroupId>,
}

/// One member of a consumer group.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // as in the heartbeat
pub struct DescribedConsumerMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub rack: Option<Arc<str>>,
    pub epoch: GroupEpoch,
    pub client: Client,
    pub subscribed_names: BTreeSet<TopicName>,
    pub subscribed_regex: Option<TopicRegex>,
    /// What it has been given.
    pub assignment: Assignment,
    /// What it will have once all members have followed.
    pub target: Assignment,
}

/// One consumer group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedConsumerGroup {
    /// `None` is success; `GroupIdNotFound` also when the group is a classic one.
    pub error: ErrorCode,
    /// The group.
    pub group: GroupId,
    /// Where it stands.
    pub state: GroupState,
    /// Version of its members and their wishes.
    pub epoch: GroupEpoch,
    /// The version that the target assignment was made for.
    pub target_epoch: GroupEpoch,
    /// Who assigns.
    pub assignor: AssignorName,
    /// The members in the order of their names.
    pub members: Vec<DescribedConsumerMember>,
}

/// Answer to [`ConsumerGroupDescribe`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerGroupDescribed {
    /// As asked, in the same order.
    pub groups: Vec<DescribedConsumerGroup>,
}
