//! Permissions to begin a transaction in a partition, each good until a marker of the same producer is written.
//!
//! Between the question to the coordinator whether the partition is in the transaction and the append, the transaction
//! may end, and its marker may be written here. A record appended after that would belong to no transaction and hold up
//! readers for ever (KIP-890). A guard is taken before the question and is gone once a marker came in between.

use std::collections::VecDeque;

use heddle_proto::ids::ProducerId;

/// How many questions may be under way in one partition; beyond it the oldest guard is void and its producer tries again.
const GUARDS_MAX: usize = 1_024;

/// Names one permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard(u64);

/// The guards of one partition.
#[derive(Debug, Default)]
pub struct Guards {
    taken: VecDeque<(ProducerId, Guard)>,
    last: u64,
}

impl Guards {
    /// A guard for a producer that is about to ask its coordinator.
    pub fn take(&mut self, producer: ProducerId) -> Guard {
        if let Some((_, guard)) = self.taken.iter().find(|(id, _)| *id == producer) {
            return *guard;
        }
        if self.taken.len() == GUARDS_MAX {
            self.taken.pop_front();
        }
        self.last += 1;
        self.taken.push_back((producer, Guard(self.last)));
        Guard(self.last)
    }

    /// Whether no marker of the producer was written since the guard was taken.
    pub fn holds(&self, producer: ProducerId, guard: Guard) -> bool {
        self.taken.contains(&(producer, guard))
    }

    /// The producer's guard is used up, or void.
    pub fn forget(&mut self, producer: ProducerId) {
        self.taken.retain(|(id, _)| *id != producer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_ends_with_its_producers_marker() {
        let (one, two) = (ProducerId::new(1), ProducerId::new(2));
        let mut guards = Guards::default();
        let guard = guards.take(one);
        assert_eq!(guards.take(one), guard);
        let other = guards.take(two);
        guards.forget(two);
        assert!(guards.holds(one, guard) && !guards.holds(two, other) && !guards.holds(two, guard));
        assert_ne!(guards.take(two), other);
    }

    #[test]
    fn guards_are_bounded() {
        let mut guards = Guards::default();
        let first = guards.take(ProducerId::new(0));
        for id in 1..=GUARDS_MAX as i64 {
            guards.take(ProducerId::new(id));
        }
        assert!(!guards.holds(ProducerId::new(0), first));
        assert_eq!(guards.taken.len(), GUARDS_MAX);
    }
}
