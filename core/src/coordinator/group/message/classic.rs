//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup: the classic protocol, in which clients assign partitions.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use heddle_proto::error::ErrorCode;

use crate::coordinator::group::ids::{Generation, GroupId, InstanceId, MemberId, ProtocolName};

/// Who a client says it is, for operators.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Client {
    /// Kafka: `client.id`.
    pub id: Arc<str>,
    /// The address the request came from.
    pub host: Arc<str>,
}

impl Client {
    /// Collects both.
    pub fn new(id: impl Into<Arc<str>>, host: impl Into<Arc<str>>) -> Self {
        Self { id: id.into(), host: host.into() }
    }
}

/// One way of assigning that a member can take part in, with what it wants the leader to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberProtocol {
    /// For example `range`.
    pub name: ProtocolName,
    /// For the type `consumer`: a ConsumerProtocolSubscription.
    pub metadata: Bytes,
}

/// A member wants to be in the next generation of a group.
#[derive(Clone, Debug)]
pub struct JoinGroup {
    /// The group, made when it does not exist and the member is new.
    pub group: GroupId,
    /// Empty when the member is new.
    pub member: MemberId,
    /// Given by static members.
    pub instance: Option<InstanceId>,
    /// The name that a new member gets: the client's id, a hyphen and a random UUID, made by the caller.
    pub new_member: MemberId,
    /// Whether a new dynamic member must ask again with its name (KIP-394; JoinGroup 4 and later).
    pub member_id_required: bool,
    /// Whether a leader that returns may be told to assign nothing (JoinGroup 9 and later).
    pub can_skip_assignment: bool,
    /// Who asks.
    pub client: Client,
    /// How long the member may be silent.
    pub session_timeout: Duration,
    /// How long the member may take to join a rebalance (JoinGroup 0: the session timeout).
    pub rebalance_timeout: Duration,
    /// For consumers: `consumer`.
    pub protocol_type: ProtocolName,
    /// In order of preference.
    pub protocols: Arc<[MemberProtocol]>,
}

/// One member, as the leader is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    /// Its name.
    pub member: MemberId,
    /// Its name if it is static.
    pub instance: Option<InstanceId>,
    /// What it said under the chosen protocol.
    pub metadata: Bytes,
}

/// Answer to [`JoinGroup`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinAnswer {
    /// `None` is success.
    pub error: ErrorCode,
    /// The generation that begins, or -1.
    pub generation: Generation,
    /// The group's protocol type.
    pub protocol_type: Option<ProtocolName>,
    /// The protocol chosen.
    pub protocol: Option<ProtocolName>,
    /// Who assigns.
    pub leader: MemberId,
    /// The leader need not assign.
    pub skip_assignment: bool,
    /// The name of the member that is answered.
    pub member: MemberId,
    /// All members, for the leader alone.
    pub members: Vec<JoinedMember>,
}

impl JoinAnswer {
    /// A refusal.
    pub fn refuse(error: ErrorCode, member: MemberId) -> Self {
        Self {
            error,
            generation: Generation::NONE,
            protocol_type: None,
            protocol: None,
            leader: MemberId::default(),
            skip_assignment: false,
            member,
            members: Vec::new(),
        }
    }
}

/// What the leader decided for one member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberAssignment {
    /// The member.
    pub member: MemberId,
    /// For the type `consumer`: a ConsumerProtocolAssignment.
    pub assignment: Bytes,
}

/// A member asks for its assignment; the leader brings all of them.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    /// The group.
    pub group: GroupId,
    /// The generation that the member joined.
    pub generation: Generation,
    /// The member.
    pub member: MemberId,
    /// Its name if it is static.
    pub instance: Option<InstanceId>,
    /// Checked when given (SyncGroup 5 and later).
    pub protocol_type: Option<ProtocolName>,
    /// Checked when given (SyncGroup 5 and later).
    pub protocol: Option<ProtocolName>,
    /// From the leader.
    pub assignments: Vec<MemberAssignment>,
}

/// Answer to [`SyncGroup`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncAnswer {
    /// `None` is success.
    pub error: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<ProtocolName>,
    /// The protocol chosen.
    pub protocol: Option<ProtocolName>,
    /// What the leader decided for this member.
    pub assignment: Bytes,
}

impl SyncAnswer {
    /// A refusal.
    pub fn refuse(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// A member is alive.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The group.
    pub group: GroupId,
    /// The generation that the member is in.
    pub generation: Generation,
    /// The member.
    pub member: MemberId,
    /// Its name if it is static.
    pub instance: Option<InstanceId>,
}

/// Answer to [`Heartbeat`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct HeartbeatAnswer {
    /// `None` is success; `RebalanceInProgress` asks the member to join again.
    pub error: ErrorCode,
}

/// One member of a [`LeaveGroup`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeavingMember {
    /// Empty when an operator puts out a static member.
    pub member: MemberId,
    /// Its name if it is static.
    pub instance: Option<InstanceId>,
}

/// Members leave, or an operator puts them out.
#[derive(Clone, Debug)]
pub struct LeaveGroup {
    /// The group.
    pub group: GroupId,
    /// Who leaves (LeaveGroup 0 to 2: one).
    pub members: Vec<LeavingMember>,
}

/// What became of a [`LeavingMember`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftMember {
    /// As asked.
    pub member: MemberId,
    /// As asked.
    pub instance: Option<InstanceId>,
    /// `None` is success.
    pub error: ErrorCode,
}

/// Answer to [`LeaveGroup`]; for LeaveGroup 0 to 2 the front door lifts the only member's error to the top.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveAnswer {
    /// Of the whole request.
    pub error: ErrorCode,
    /// As asked, in the same order.
    pub members: Vec<LeftMember>,
}
