//! What the caller must do after an event, and in which order.

use super::{
    ids::{GroupId, Millis, RequestId, WriteSequence},
    message::Reply,
    record::GroupRecord,
};

/// The consequences of one event. The contract is in the documentation of the [group](super) module.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Effects {
    /// To be made durable, whole or not at all.
    pub write: Option<Write>,
    /// To be sent, each not before its write is durable.
    pub replies: Vec<HeldReply>,
    /// When to come back with a tick, at the latest.
    pub next_deadline: Option<Millis>,
}

/// Records that belong together: they go into one record batch.
#[derive(Clone, PartialEq, Debug)]
pub struct Write {
    /// Goes up by one with each write.
    pub sequence: WriteSequence,
    /// In the order in which they must stand in the topic. Never empty.
    pub records: Vec<GroupRecord>,
}

/// A reply with the condition under which it may be seen.
#[derive(Clone, PartialEq, Debug)]
pub struct HeldReply {
    /// Who asked.
    pub to: RequestId,
    /// Hold the reply until this write and all before it are durable.
    pub after: WriteSequence,
    /// What to say.
    pub reply: Reply,
}

/// Whose state a reply shows.
enum Shows {
    Group(GroupId),
    Everything,
}

/// Collects the effects of one event while groups handle it.
#[derive(Default)]
pub struct Output {
    records: Vec<GroupRecord>,
    replies: Vec<(RequestId, Reply, Shows)>,
    rebalance_count: u64,
}

impl Output {
    /// Adds a record to the write of this event.
    pub fn write(&mut self, record: GroupRecord) {
        self.records.push(record);
    }

    /// How many records the write of this event has so far.
    pub fn record_count(&self) -> usize {
        self.records.len()
    }

    /// Counts a new generation or epoch of a group.
    pub fn count_rebalance(&mut self) {
        self.rebalance_count += 1;
    }

    /// How many there were in this event.
    pub fn rebalance_count(&self) -> u64 {
        self.rebalance_count
    }

    /// Adds a reply that shows the state of one group.
    pub fn reply_from_group(&mut self, to: RequestId, reply: Reply, group: &GroupId) {
        self.replies.push((to, reply, Shows::Group(group.clone())));
    }

    /// Adds a reply that shows the state of several groups, or that a group does not exist.
    pub fn reply(&mut self, to: RequestId, reply: Reply) {
        self.replies.push((to, reply, Shows::Everything));
    }

    /// The records so far.
    pub fn records(&self) -> &[GroupRecord] {
        &self.records
    }

    /// Makes the effects of it. `last_write` is the coordinator's, this event's included, and `last_write_of` that of
    /// one group, if it exists.
    pub fn into_effects(
        self,
        last_write: WriteSequence,
        last_write_of: impl Fn(&GroupId) -> Option<WriteSequence>,
        next_deadline: Option<Millis>,
    ) -> Effects {
        let replies = self.replies.into_iter().map(|(to, reply, shows)| {
            let after = match shows {
                Shows::Group(group) => last_write_of(&group).unwrap_or(last_write),
                Shows::Everything => last_write,
            };
            HeldReply { to, after, reply }
        });
        Effects {
            replies: replies.collect(),
            write: (!self.records.is_empty())
                .then_some(Write { sequence: last_write, records: self.records }),
            next_deadline,
        }
    }
}
