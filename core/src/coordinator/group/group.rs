//! One group: its members under one of the two protocols, and its offsets.

use std::collections::BTreeSet;

use heddle_proto::error::ErrorCode;

use super::{
    classic::ClassicGroup,
    consumer::ConsumerGroup,
    context::Context,
    ids::{Generation, GroupId, InstanceId, MemberId, Millis, ProtocolName, TopicName, WriteSequence},
    message::{GroupState, GroupType, ListedGroup},
    offsets::{ExpiryRule, GroupOffsets},
    record::GroupRecord,
};

/// The members' side of a group.
#[derive(Clone, Debug)]
pub enum Members {
    /// Clients assign. A group that only has offsets is an empty one of these.
    Classic(ClassicGroup),
    /// The coordinator assigns.
    Consumer(ConsumerGroup),
}

/// One group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Who is in it.
    pub members: Members,
    /// How far it has read.
    pub offsets: GroupOffsets,
    /// The last write that changed it: what is said about it waits for that.
    pub last_write: WriteSequence,
}

/// What the members of a group read.
pub enum TopicsRead {
    /// These topics.
    Only(BTreeSet<TopicName>),
    /// Perhaps any: a subscription cannot be understood.
    PerhapsAll,
}

impl TopicsRead {
    /// Whether this topic is, or may be, among them.
    pub fn contains(&self, topic: &TopicName) -> bool {
        match self {
            Self::Only(topics) => topics.contains(topic),
            Self::PerhapsAll => true,
        }
    }
}

/// Who wants to commit.
pub struct Committer<'a> {
    /// The member, or empty.
    pub member: &'a MemberId,
    /// Its name if it is static.
    pub instance: Option<&'a InstanceId>,
    /// What it says it is in, or -1.
    pub generation_or_epoch: i32,
    /// Whether a transaction commits.
    pub is_transactional: bool,
    /// Whether it understands the errors of consumer groups.
    pub knows_consumer_groups: bool,
}

impl Group {
    /// A group that nobody has joined yet.
    pub fn new(now: Millis) -> Self {
        Self {
            members: Members::Classic(ClassicGroup::new(now)),
            offsets: GroupOffsets::default(),
            last_write: WriteSequence::default(),
        }
    }

    /// How many members it has.
    pub fn member_count(&self) -> usize {
        match &self.members {
            Members::Classic(group) => group.member_count(),
            Members::Consumer(group) => group.member_count(),
        }
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        match &self.members {
            Members::Classic(group) => group.is_empty(),
            Members::Consumer(group) => group.is_empty(),
        }
    }

    /// Turns an empty group into one of the classic protocol, if it is not one.
    ///
    /// # Errors
    /// When it has members that speak the other protocol.
    pub fn classic(&mut self, cx: &mut Context<'_>) -> Result<&mut ClassicGroup, ErrorCode> {
        if let Members::Consumer(group) = &mut self.members {
            if !group.is_empty() {
                return Err(ErrorCode::InconsistentGroupProtocol);
            }
            group.delete(cx);
            let mut classic = ClassicGroup::new(cx.now);
            classic.record(cx);
            self.members = Members::Classic(classic);
        }
        match &mut self.members {
            Members::Classic(group) => Ok(group),
            Members::Consumer(_) => unreachable!("it was turned into a classic group above"),
        }
    }

    /// Turns an empty group into one of the consumer protocol, if it is not one.
    ///
    /// # Errors
    /// As Kafka answers: a classic group with members is no consumer group.
    pub fn consumer(
        &mut self,
        cx: &mut Context<'_>,
        may_convert: bool,
    ) -> Result<&mut ConsumerGroup, ErrorCode> {
        if let Members::Classic(group) = &mut self.members {
            if !may_convert || !group.is_empty() {
                return Err(ErrorCode::GroupIdNotFound);
            }
            group.on_removed(cx);
            if group.is_recorded() {
                cx.write(GroupRecord::ClassicGroup { group: cx.group.clone(), value: None });
            }
            self.members = Members::Consumer(ConsumerGroup::default());
        }
        match &mut self.members {
            Members::Consumer(group) => Ok(group),
            Members::Classic(_) => unreachable!("it was turned into a consumer group above"),
        }
    }

    /// Whether this commit may be taken.
    ///
    /// # Errors
    /// What Kafka answers.
    pub fn check_commit(&mut self, cx: &mut Context<'_>, who: &Committer<'_>) -> Result<(), ErrorCode> {
        match &mut self.members {
            Members::Classic(group) => group.check_commit(
                cx,
                who.member,
                who.instance,
                Generation::from_commit(who.generation_or_epoch),
                who.is_transactional,
            ),
            Members::Consumer(group) => {
                let is_outside = who.generation_or_epoch < 0;
                let is_anonymous = is_outside && who.member.is_empty() && who.instance.is_none();
                if (is_outside && group.is_empty()) || (is_anonymous && who.is_transactional) {
                    return Ok(());
                }
                if !who.knows_consumer_groups {
                    return Err(ErrorCode::UnsupportedVersion);
                }
                let checked = group.check_member(who.member, who.generation_or_epoch);
                match checked {
                    // Transactional commits know the errors of classic groups alone.
                    Err(ErrorCode::StaleMemberEpoch) if who.is_transactional => {
                        Err(ErrorCode::IllegalGeneration)
                    }
                    checked => checked,
                }
            }
        }
    }

    /// Whether a fetch from this member may be answered.
    ///
    /// # Errors
    /// What Kafka answers.
    pub fn check_fetch(&self, member: Option<&MemberId>, epoch: i32) -> Result<(), ErrorCode> {
        match (&self.members, member) {
            (Members::Classic(_), _) => Ok(()),
            (Members::Consumer(_), None) if epoch < 0 => Ok(()),
            (Members::Consumer(group), member) => {
                group.check_member(member.unwrap_or(&MemberId::default()), epoch)
            }
        }
    }

    /// Which topics the members read, whose offsets must not be deleted.
    ///
    /// # Errors
    /// `NonEmptyGroup` when the members are no consumers: what they read cannot be known.
    pub fn topics_read(&self) -> Result<TopicsRead, ErrorCode> {
        match &self.members {
            Members::Classic(group) if group.is_empty() => Ok(TopicsRead::Only(BTreeSet::new())),
            Members::Classic(group) if !group.is_of_consumers() => Err(ErrorCode::NonEmptyGroup),
            Members::Classic(group) => {
                Ok(group.subscribed().cloned().map_or(TopicsRead::PerhapsAll, TopicsRead::Only))
            }
            Members::Consumer(group) => Ok(TopicsRead::Only(group.subscribed())),
        }
    }

    /// Forgets up to `count_max` offsets that are past their time; says how many.
    pub fn expire_offsets(&mut self, cx: &mut Context<'_>, count_max: usize) -> usize {
        let subscribed;
        let rule = match &self.members {
            Members::Classic(group) if group.protocol_type().is_none() => {
                ExpiryRule::SinceEmpty(Millis::new(i64::MIN))
            }
            Members::Classic(group) if group.is_empty() => ExpiryRule::SinceEmpty(group.since()),
            Members::Classic(group) => match group.subscribed() {
                Some(topics) if group.state() == GroupState::Stable => ExpiryRule::UnlessSubscribed(topics),
                _ => ExpiryRule::Never,
            },
            Members::Consumer(group) if group.is_empty() => ExpiryRule::SinceEmpty(group.since()),
            Members::Consumer(group) => {
                subscribed = group.subscribed();
                ExpiryRule::UnlessSubscribed(&subscribed)
            }
        };
        self.offsets.expire(cx, &rule, count_max)
    }

    /// Whether nothing is left of it, so that it may go: no members, no offsets, no name given away.
    pub fn is_forgettable(&self) -> bool {
        let has_pending = matches!(&self.members, Members::Classic(group) if group.has_pending());
        self.is_empty() && self.offsets.is_empty() && !has_pending
    }

    /// Takes the group back with everything it has. Only an empty one goes.
    pub fn delete(&mut self, cx: &mut Context<'_>) {
        self.offsets.delete_all(cx);
        match &mut self.members {
            Members::Classic(group) => {
                group.on_removed(cx);
                if group.is_recorded() {
                    cx.write(GroupRecord::ClassicGroup { group: cx.group.clone(), value: None });
                }
            }
            Members::Consumer(group) => group.delete(cx),
        }
    }

    /// As in a list.
    pub fn list(&self, id: &GroupId) -> ListedGroup {
        let (protocol_type, state, group_type) = match &self.members {
            Members::Classic(group) => {
                (group.protocol_type().cloned().unwrap_or_default(), group.state(), GroupType::Classic)
            }
            Members::Consumer(group) => (ProtocolName::from("consumer"), group.state(), GroupType::Consumer),
        };
        ListedGroup { group: id.clone(), protocol_type, state, group_type }
    }
}
