//! What a group may look at and do while it handles one event.

use std::time::Duration;

use super::{
    config::GroupConfig,
    deadlines::{Deadlines, Timer},
    effects::Output,
    ids::{GroupId, MemberId, Millis, RequestId},
    message::Reply,
    record::GroupRecord,
    topics::TopicImage,
};

/// Handed to a group's methods; everything outside the group that they may touch.
pub struct Context<'a> {
    /// The time of the event.
    pub now: Millis,
    /// The group.
    pub group: &'a GroupId,
    /// The settings.
    pub config: &'a GroupConfig,
    /// The cluster's topics.
    pub topics: &'a TopicImage,
    /// The coordinator's timers.
    pub deadlines: &'a mut Deadlines,
    /// Where records and replies go.
    pub output: &'a mut Output,
}

impl Context<'_> {
    /// Answers a client, held back until everything written for this group so far is durable.
    pub fn reply(&mut self, to: RequestId, reply: Reply) {
        self.output.reply_from_group(to, reply, self.group);
    }

    /// Writes a record. The caller has applied it to the group, or does so at once.
    pub fn write(&mut self, record: GroupRecord) {
        self.output.write(record);
    }

    /// Sets a deadline. At the earliest the next millisecond, so that a timeout of zero does not keep one tick busy
    /// for ever.
    pub fn schedule(&mut self, timer: Timer, after: Duration) {
        self.deadlines.schedule(timer, self.now.plus(after.max(Duration::from_millis(1))));
    }

    /// Forgets a deadline.
    pub fn cancel(&mut self, timer: &Timer) {
        self.deadlines.cancel(timer);
    }

    /// The session timer of a classic member.
    pub fn classic_session(&self, member: &MemberId) -> Timer {
        Timer::ClassicSession(self.group.clone(), member.clone())
    }

    /// The session timer of a member of a consumer group.
    pub fn consumer_session(&self, member: &MemberId) -> Timer {
        Timer::ConsumerSession(self.group.clone(), member.clone())
    }

    /// The rebalance timer of a member of a consumer group.
    pub fn consumer_rebalance(&self, member: &MemberId) -> Timer {
        Timer::ConsumerRebalance(self.group.clone(), member.clone())
    }
}
