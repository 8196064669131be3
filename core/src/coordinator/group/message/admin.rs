//! ListGroups, DescribeGroups and DeleteGroups.

use bytes::Bytes;
use heddle_proto::error::ErrorCode;

use super::Client;
use crate::coordinator::group::ids::{GroupId, InstanceId, MemberId, ProtocolName};

/// Which protocol a group speaks.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GroupType {
    /// Clients assign.
    Classic,
    /// The coordinator assigns (KIP-848).
    Consumer,
}

impl GroupType {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// Where a group stands.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GroupState {
    /// No members.
    Empty,
    /// Classic: members are joining.
    PreparingRebalance,
    /// Classic: members wait for the leader's assignment.
    CompletingRebalance,
    /// All have what they should have.
    Stable,
    /// Consumer: the target assignment is older than the group.
    Assigning,
    /// Consumer: members are moving to the target assignment.
    Reconciling,
    /// There is no such group.
    Dead,
}

impl GroupState {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Dead => "Dead",
        }
    }
}

/// Which groups are there?
#[derive(Clone, Debug, Default)]
pub struct ListGroups {
    /// Names of states, in any case; none means all.
    pub states: Vec<String>,
    /// Names of types, in any case; none means all.
    pub types: Vec<String>,
}

/// One group of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedGroup {
    /// The group.
    pub group: GroupId,
    /// For consumers: `consumer`; empty when offsets alone were ever committed.
    pub protocol_type: ProtocolName,
    /// Where it stands.
    pub state: GroupState,
    /// Which protocol it speaks.
    pub group_type: GroupType,
}

/// Answer to [`ListGroups`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupsListed {
    /// In the order of their names.
    pub groups: Vec<ListedGroup>,
}

/// An operator asks about classic groups.
#[derive(Clone, Debug)]
pub struct DescribeGroups {
    /// Which.
    pub groups: Vec<GroupId>,
    /// Whether an unknown group is an error (DescribeGroups 6 and later) or shown as dead.
    pub unknown_is_error: bool,
}

/// One member of a classic group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedMember {
    /// Its name.
    pub member: MemberId,
    /// Its name if it is static.
    pub instance: Option<InstanceId>,
    /// Who it is.
    pub client: Client,
    /// What it told the leader; empty while the group rebalances.
    pub metadata: Bytes,
    /// What the leader gave it; empty while the group rebalances.
    pub assignment: Bytes,
}

/// One classic group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedGroup {
    /// `None` is success.
    pub error: ErrorCode,
    /// The group.
    pub group: GroupId,
    /// Where it stands.
    pub state: GroupState,
    /// Empty when there is none.
    pub protocol_type: ProtocolName,
    /// Empty when there is none, or while the group rebalances.
    pub protocol: ProtocolName,
    /// The members in the order of their names.
    pub members: Vec<DescribedMember>,
}

/// Answer to [`DescribeGroups`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupsDescribed {
    /// As asked, in the same order.
    pub groups: Vec<DescribedGroup>,
}

/// An operator deletes groups with their offsets.
#[derive(Clone, Debug)]
pub struct DeleteGroups {
    /// Which.
    pub groups: Vec<GroupId>,
}

/// What became of one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupResult {
    /// The group.
    pub group: GroupId,
    /// `None` is success.
    pub error: ErrorCode,
}

/// Answer to [`DeleteGroups`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupsDeleted {
    /// As asked, in the same order.
    pub groups: Vec<GroupResult>,
}
