//! A consumer group of KIP-848: members say what they want, the coordinator says who gets what.
//!
//! Three layers follow one another, each with an epoch: the group (who is in it and wants what), the target assignment
//! (who is to have what), and each member's current assignment (what it was told to have). A member moves towards the
//! target on its own, and gets a partition only after its owner has given it up.
//!
//! All of it is durable and changes through [`ConsumerGroup::apply`] alone, live and when records are read back. Only
//! timers are not; after a restart they run anew.

mod describe;
mod heartbeat;
mod leave;
mod reconcile;
mod subscription;
mod target;

use std::collections::BTreeMap;

use heddle_proto::{error::ErrorCode, ids::TopicPartition};

use super::{
    context::Context,
    ids::{GroupEpoch, GroupId, InstanceId, MemberId, Millis, TopicName, TopicRegex},
    message::Assignment,
    record::{
        ConsumerGroupValue, ConsumerMemberValue, CurrentAssignmentValue, GroupRecord, MemberState,
        ResolvedRegexValue,
    },
};

pub use heartbeat::validate;

/// Why a heartbeat is refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// For the client.
    pub error: ErrorCode,
    /// For people.
    pub message: &'static str,
}

impl Refusal {
    /// Both together.
    pub const fn new(error: ErrorCode, message: &'static str) -> Self {
        Self { error, message }
    }
}

/// One member: what it wants and what it has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Member {
    wants: ConsumerMemberValue,
    has: CurrentAssignmentValue,
}

/// A consumer group.
#[derive(Clone, Debug, Default)]
pub struct ConsumerGroup {
    value: ConsumerGroupValue,
    members: BTreeMap<MemberId, Member>,
    /// The static ones among the members.
    instances: BTreeMap<InstanceId, MemberId>,
    target_epoch: Option<GroupEpoch>,
    target: BTreeMap<MemberId, Assignment>,
    /// Who was told to own each partition, or to give it up and has not yet said so.
    owners: BTreeMap<TopicPartition, MemberId>,
    regexes: BTreeMap<TopicRegex, ResolvedRegexValue>,
    /// How many members subscribe to each topic by name.
    name_uses: BTreeMap<TopicName, usize>,
    /// How many members subscribe with each regular expression.
    regex_uses: BTreeMap<TopicRegex, usize>,
    /// About what the members' wishes take in memory.
    bytes: usize,
    /// The cluster's topics may have changed since this group last looked.
    must_look_at_topics: bool,
}

impl ConsumerGroup {
    /// How many members it has.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// When that version began.
    pub fn since(&self) -> Millis {
        self.value.since
    }

    /// The cluster's topics have changed; the next heartbeat looks at them.
    pub fn on_topics_changed(&mut self) {
        self.must_look_at_topics = true;
    }

    /// Whether a commit or fetch from this member may be taken.
    ///
    /// # Errors
    /// `UnknownMemberId`, or `StaleMemberEpoch` when the member has moved on.
    pub fn check_member(&self, member: &MemberId, epoch: i32) -> Result<(), ErrorCode> {
        let member = self.members.get(member).ok_or(ErrorCode::UnknownMemberId)?;
        if member.has.epoch.get() == epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
    }

    /// The group was read from its records: its members' time runs from now, and its topics may have changed.
    pub fn on_loaded(&mut self, cx: &mut Context<'_>) {
        self.must_look_at_topics = true;
        for (id, member) in &self.members {
            cx.schedule(cx.consumer_session(id), cx.config.consumer_session_timeout);
            if member.has.state == MemberState::Unrevoked {
                cx.schedule(cx.consumer_rebalance(id), member.wants.rebalance_timeout);
            }
        }
    }

    /// Applies a record of this group; those of other kinds change nothing. Every change goes through here.
    pub fn apply(&mut self, record: &GroupRecord) {
        match record.clone() {
            GroupRecord::ConsumerGroup { value, .. } => self.value = value.unwrap_or_default(),
            GroupRecord::ConsumerMember { member, value, .. } => self.apply_member(member, value),
            GroupRecord::TargetEpoch { value, .. } => self.target_epoch = value,
            GroupRecord::TargetMember { member, value: Some(value), .. } => {
                self.target.insert(member, value);
            }
            GroupRecord::TargetMember { member, value: None, .. } => {
                self.target.remove(&member);
            }
            GroupRecord::CurrentAssignment { member, value, .. } => self.apply_current(member, value),
            GroupRecord::ResolvedRegex { regex, value: Some(value), .. } => {
                self.regexes.insert(regex, value);
            }
            GroupRecord::ResolvedRegex { regex, value: None, .. } => {
                self.regexes.remove(&regex);
            }
            GroupRecord::ClassicGroup { .. }
            | GroupRecord::Offset { .. }
            | GroupRecord::PendingOffset { .. }
            | GroupRecord::Producer { .. } => {}
        }
    }

    fn apply_member(&mut self, id: MemberId, value: Option<ConsumerMemberValue>) {
        if let Some(member) = self.members.get(&id) {
            let before = member.wants.clone();
            self.count_subscription(&before, false);
            if let Some(instance) = &before.instance
                && self.instances.get(instance) == Some(&id)
            {
                self.instances.remove(instance);
            }
        }
        match value {
            Some(wants) => {
                self.count_subscription(&wants, true);
                if let Some(instance) = &wants.instance {
                    self.instances.insert(instance.clone(), id.clone());
                }
                self.members.entry(id).or_default().wants = wants;
            }
            None => {
                self.release(&id);
                self.members.remove(&id);
            }
        }
    }

    fn apply_current(&mut self, id: MemberId, value: Option<CurrentAssignmentValue>) {
        self.release(&id);
        match value {
            Some(has) => {
                for partition in has.assigned.union(&has.revoking) {
                    self.owners.insert(*partition, id.clone());
                }
                self.members.entry(id).or_default().has = has;
            }
            None => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.has = CurrentAssignmentValue::default();
                }
            }
        }
    }

    /// What this member owned is free.
    fn release(&mut self, id: &MemberId) {
        let Some(member) = self.members.get(id) else { return };
        for partition in member.has.assigned.union(&member.has.revoking) {
            if self.owners.get(partition) == Some(id) {
                self.owners.remove(partition);
            }
        }
    }

    /// Applies a record and writes it.
    fn write(&mut self, cx: &mut Context<'_>, record: GroupRecord) {
        self.apply(&record);
        cx.write(record);
    }

    /// All of it as records.
    pub fn snapshot(&self, group: &GroupId) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        let group = || group.clone();
        if self.value != ConsumerGroupValue::default() {
            records.push(GroupRecord::ConsumerGroup { group: group(), value: Some(self.value.clone()) });
        }
        for (id, member) in &self.members {
            records.push(GroupRecord::ConsumerMember {
                group: group(),
                member: id.clone(),
                value: Some(member.wants.clone()),
            });
            if member.has != CurrentAssignmentValue::default() {
                records.push(GroupRecord::CurrentAssignment {
                    group: group(),
                    member: id.clone(),
                    value: Some(member.has.clone()),
                });
            }
        }
        if let Some(epoch) = self.target_epoch {
            records.push(GroupRecord::TargetEpoch { group: group(), value: Some(epoch) });
        }
        let targets = self.target.iter().map(|(member, target)| GroupRecord::TargetMember {
            group: group(),
            member: member.clone(),
            value: Some(target.clone()),
        });
        let regexes = self.regexes.iter().map(|(regex, value)| GroupRecord::ResolvedRegex {
            group: group(),
            regex: regex.clone(),
            value: Some(value.clone()),
        });
        records.extend(targets.chain(regexes));
        records
    }

    /// Takes the group back, record by record. Only an empty one goes.
    pub fn delete(&mut self, cx: &mut Context<'_>) {
        assert!(self.members.is_empty(), "a group with members is not removed");
        // The group's own record comes first in a snapshot and must go last.
        for record in self.snapshot(cx.group).iter().rev() {
            self.write(cx, record.tombstone());
        }
    }
}
