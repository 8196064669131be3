//! The ordered queue of deadlines: what is due is found without looking at anything that is not.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{Generation, GroupId, MemberId, Millis};

/// What happens at a deadline. There is at most one deadline of each.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// Look for offsets, and remembered producers, that are past their retention.
    ExpireOffsets,
    /// The join phase of a classic group's rebalance ends.
    JoinPhase(GroupId),
    /// Members of a classic group that have not asked for their assignment are put out.
    SyncPhase(GroupId, Generation),
    /// A classic member, or one that was given an id and did not come back, has been silent for too long.
    ClassicSession(GroupId, MemberId),
    /// A member of a consumer group has been silent for too long.
    ConsumerSession(GroupId, MemberId),
    /// A member of a consumer group has not given up its partitions in time.
    ConsumerRebalance(GroupId, MemberId),
}

/// Timers in the order in which they are due.
#[derive(Default, Debug)]
pub struct Deadlines {
    due: BTreeSet<(Millis, Timer)>,
    at: BTreeMap<Timer, Millis>,
}

impl Deadlines {
    /// Sets the deadline of `timer`, or moves it.
    pub fn schedule(&mut self, timer: Timer, at: Millis) {
        self.cancel(&timer);
        self.at.insert(timer.clone(), at);
        self.due.insert((at, timer));
    }

    /// Forgets `timer`.
    pub fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.at.remove_entry(timer) {
            self.due.remove(&(at, timer));
        }
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the next timer that is due at `now`.
    pub fn pop_due(&mut self, now: Millis) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.due.pop_first()?;
        self.at.remove(&timer);
        Some(timer)
    }

    /// How many timers have a deadline.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether no timer has a deadline.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_out_in_order_and_move() {
        let session = |member: &str| Timer::ClassicSession("g".into(), member.into());
        let mut deadlines = Deadlines::default();
        deadlines.schedule(session("a"), Millis::new(10));
        deadlines.schedule(session("b"), Millis::new(20));
        deadlines.schedule(session("a"), Millis::new(30));
        deadlines.schedule(session("c"), Millis::new(5));
        deadlines.cancel(&session("c"));
        assert_eq!((deadlines.next(), deadlines.len()), (Some(Millis::new(20)), 2));
        assert_eq!(deadlines.pop_due(Millis::new(19)), None);
        assert_eq!(deadlines.pop_due(Millis::new(40)), Some(session("b")));
        assert_eq!(deadlines.pop_due(Millis::new(40)), Some(session("a")));
        assert!(deadlines.is_empty() && deadlines.pop_due(Millis::new(40)).is_none());
    }
}
