//! The values of the records, field by field in the order of their bytes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use heddle_proto::ids::{Epoch, Offset, ProducerEpoch, TopicId};

use super::codec::{DecodeError, Field, Reader};
use crate::coordinator::group::{
    ids::{Generation, GroupEpoch, InstanceId, MemberId, Millis, ProtocolName, TopicName, TopicRegex},
    message::{Assignment, Client},
};

macro_rules! fields {
    ($name:ident { $($field:ident),* }) => {
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: Field::take(reader)?),* })
            }
        }
    };
}

/// A classic group: who was in its last generation, and what they were given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicGroupValue {
    /// For consumers: `consumer`; `None` while nobody ever joined.
    pub protocol_type: Option<ProtocolName>,
    /// The last generation that began.
    pub generation: Generation,
    /// The protocol chosen.
    pub protocol: Option<ProtocolName>,
    /// Who assigned.
    pub leader: Option<MemberId>,
    /// Since when the group is as it is here.
    pub since: Millis,
    /// In the order of their names.
    pub members: Vec<ClassicMemberValue>,
}
fields!(ClassicGroupValue { protocol_type, generation, protocol, leader, since, members });

/// One member of a [`ClassicGroupValue`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // as when it joined
pub struct ClassicMemberValue {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub client: Client,
    pub rebalance_timeout: Duration,
    pub session_timeout: Duration,
    /// What it said under the chosen protocol.
    pub metadata: Bytes,
    pub assignment: Bytes,
}
fields!(ClassicMemberValue {
    member,
    instance,
    client,
    rebalance_timeout,
    session_timeout,
    metadata,
    assignment
});
fields!(Client { id, host });

/// A consumer group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConsumerGroupValue {
    /// Goes up when members come, go or want something else, and when their topics change.
    pub epoch: GroupEpoch,
    /// Of the topics that members are subscribed to, as of this epoch.
    pub topics_hash: u64,
    /// When this epoch began.
    pub since: Millis,
}
fields!(ConsumerGroupValue { epoch, topics_hash, since });

/// What a member of a consumer group is and wants.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)] // as in the heartbeat
pub struct ConsumerMemberValue {
    pub instance: Option<InstanceId>,
    pub rack: Option<Arc<str>>,
    pub client: Client,
    pub rebalance_timeout: Duration,
    pub subscribed_names: BTreeSet<TopicName>,
    pub subscribed_regex: Option<TopicRegex>,
    pub server_assignor: Option<Arc<str>>,
}
fields!(ConsumerMemberValue {
    instance,
    rack,
    client,
    rebalance_timeout,
    subscribed_names,
    subscribed_regex,
    server_assignor
});

/// How far a member has followed the target assignment.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum MemberState {
    /// It has what its epoch gives it.
    #[default]
    Stable,
    /// It must give up partitions first.
    Unrevoked,
    /// Partitions that it is to have are still with others.
    Unreleased,
}

impl Field for MemberState {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Stable => 0,
            Self::Unrevoked => 1,
            Self::Unreleased => 2,
        });
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(reader)? {
            0 => Ok(Self::Stable),
            1 => Ok(Self::Unrevoked),
            2 => Ok(Self::Unreleased),
            _ => Err(DecodeError::Impossible),
        }
    }
}

/// What a member of a consumer group has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CurrentAssignmentValue {
    /// What it has reached; -2 while a static member is away.
    pub epoch: GroupEpoch,
    /// What it had reached before: a reply may have been lost.
    pub previous_epoch: GroupEpoch,
    /// What it waits for.
    pub state: MemberState,
    /// What it was told to own.
    pub assigned: Assignment,
    /// What it was told to give up and still may own.
    pub revoking: Assignment,
}
fields!(CurrentAssignmentValue { epoch, previous_epoch, state, assigned, revoking });

/// Which topics match a regular expression.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ResolvedRegexValue {
    /// As of the last change of the cluster's topics that the group has seen.
    pub topics: BTreeSet<TopicName>,
}
fields!(ResolvedRegexValue { topics });

/// How far a group has read one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOffset {
    /// The next record to read.
    pub offset: Offset,
    /// Epoch of the last record read, or -1.
    pub leader_epoch: Epoch,
    /// Free text of the client.
    pub metadata: Arc<str>,
    /// The topic at that time: one of the same name made later is another.
    pub topic_id: TopicId,
    /// When it was committed.
    pub committed: Millis,
    /// When it ends, if a client of long ago asked for that.
    pub expires: Option<Millis>,
}
fields!(CommittedOffset { offset, leader_epoch, metadata, topic_id, committed, expires });

/// What is remembered of a transactional producer.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ProducerValue {
    /// What comes with a lower epoch is refused.
    pub epoch: ProducerEpoch,
    /// When that became known.
    pub since: Millis,
}
fields!(ProducerValue { epoch, since });
