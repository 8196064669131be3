//! The partitions that one reader looks at: which of them may have something new, in the order of preference.
//!
//! A partition is *due* until a look found nothing in it and it is watched; then it becomes due again when it moves. So
//! a look costs what the active partitions cost, however many are idle.

use std::{collections::BTreeSet, rc::Rc};

use ahash::AHashMap;

use super::request::{FetchFrom, OpError};
use crate::{
    partition::fetch::Fetched,
    runtime::watch::{Flag, Watch},
};

/// Partitions by slot; a slot is the reader's name for one of them.
pub struct FetchSet {
    watch: Rc<Watch>,
    items: AHashMap<u32, Item>,
    due: BTreeSet<(u64, u32)>,
    turn_next: u64,
}

struct Item {
    from: FetchFrom,
    /// Its place in the order: smaller comes first.
    turn: u64,
    flag: Option<Rc<Flag>>,
}

impl Default for FetchSet {
    fn default() -> Self {
        FetchSet { watch: Watch::new(), items: AHashMap::new(), due: BTreeSet::new(), turn_next: 0 }
    }
}

impl FetchSet {
    /// Adds a partition behind the others, or changes what is wanted of one. It is due.
    pub fn put(&mut self, slot: u32, from: FetchFrom) {
        match self.items.get_mut(&slot) {
            Some(item) => {
                if item.from.at != from.at {
                    item.flag = None;
                }
                item.from = from;
                self.due.insert((item.turn, slot));
            }
            None => {
                let turn = self.turn_next;
                self.turn_next += 1;
                self.items.insert(slot, Item { from, turn, flag: None });
                self.due.insert((turn, slot));
            }
        }
    }

    /// Takes a partition out.
    pub fn remove(&mut self, slot: u32) {
        if let Some(item) = self.items.remove(&slot) {
            self.due.remove(&(item.turn, slot));
        }
    }

    /// Moves a partition behind the others, so that it is not served before them again.
    pub fn move_back(&mut self, slot: u32) {
        let Some(item) = self.items.get_mut(&slot) else { return };
        let was_due = self.due.remove(&(item.turn, slot));
        item.turn = self.turn_next;
        self.turn_next += 1;
        if was_due {
            self.due.insert((item.turn, slot));
        }
    }

    /// How many partitions there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What wakes the reader.
    pub fn watch(&self) -> Rc<Watch> {
        self.watch.clone()
    }

    /// What is wanted of one partition.
    pub fn get(&self, slot: u32) -> Option<&FetchFrom> {
        self.items.get(&slot).map(|item| &item.from)
    }

    /// The partitions that are due, with those that moved meanwhile, in order.
    pub fn due(&mut self) -> Vec<(u32, FetchFrom)> {
        for slot in self.watch.take() {
            if let Some(item) = self.items.get(&slot) {
                self.due.insert((item.turn, slot));
            }
        }
        self.due.iter().map(|(_, slot)| (*slot, self.items[slot].from)).collect()
    }

    /// Whether a partition is watched.
    pub fn is_watched(&self, slot: u32) -> bool {
        self.items.get(&slot).is_some_and(|item| item.flag.is_some())
    }

    /// The flag to put up at a partition from now on; `None` when the partition is not in the set any more.
    pub fn begin_watch(&mut self, slot: u32) -> Option<Rc<Flag>> {
        let item = self.items.get_mut(&slot)?;
        let flag = self.watch.flag(slot);
        item.flag = Some(flag.clone());
        Some(flag)
    }

    /// Takes note of what a look found. `from` is what was asked then: it may have been changed meanwhile.
    pub fn settle(&mut self, slot: u32, from: &FetchFrom, result: &Result<Fetched, OpError>) {
        let Some(item) = self.items.get_mut(&slot) else { return };
        if let Err(_) | Ok(Fetched { diverging: Some(_), .. } | Fetched { nearer: Some(_), .. }) = result {
            // Who owns the partition may have changed: it is watched anew when it can be read again.
            item.flag = None;
        }
        let is_idle = result.as_ref().is_ok_and(|fetched| is_idle(from, fetched));
        if is_idle && item.flag.is_some() && item.from.offset == from.offset && item.from.at == from.at {
            self.due.remove(&(item.turn, slot));
        }
    }
}

/// Whether there is nothing to read from there, now.
pub fn is_idle(from: &FetchFrom, fetched: &Fetched) -> bool {
    fetched.diverging.is_none()
        && fetched.nearer.is_none()
        && fetched.batches.is_empty()
        && fetched.committed == from.offset
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use heddle_proto::ids::{Offset, PartitionIndex, TopicId, TopicPartition};

    use super::*;
    use crate::{partition::transactions::Isolation, shard::request::Reach};

    fn from(index: u32, offset: i64) -> FetchFrom {
        FetchFrom {
            at: TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(index)),
            offset: Offset::new(offset),
            epoch: None,
            last_epoch: None,
            isolation: Isolation::ReadUncommitted,
            bytes_max: 100,
            reach: Reach::Leader,
        }
    }

    fn found(committed: i64, batches: Vec<Bytes>) -> Result<Fetched, OpError> {
        let committed = Offset::new(committed);
        let (start, stable, aborted) = (Offset::ZERO, committed, Vec::new());
        Ok(Fetched { committed, start, stable, aborted, batches, diverging: None, nearer: None })
    }

    fn slots(set: &mut FetchSet) -> Vec<u32> {
        set.due().into_iter().map(|(slot, _)| slot).collect()
    }

    #[test]
    fn idle_partitions_are_not_looked_at_again_until_they_move() {
        let mut set = FetchSet::default();
        (0..4).for_each(|slot| set.put(slot, from(slot, 5)));
        assert_eq!(slots(&mut set), [0, 1, 2, 3]);
        let flags: Vec<_> = (0..3).map(|slot| set.begin_watch(slot).expect("is there")).collect();
        set.settle(0, &from(0, 5), &found(5, vec![]));
        set.settle(1, &from(1, 5), &found(7, vec![Bytes::from_static(b"x")]));
        set.settle(2, &from(2, 5), &found(7, vec![]));
        set.settle(3, &from(3, 5), &found(5, vec![]));
        // 1 had something, 2 has something that did not fit, 3 is not watched.
        assert_eq!(slots(&mut set), [1, 2, 3]);
        flags[0].raise();
        assert_eq!(slots(&mut set), [0, 1, 2, 3]);
        set.settle(0, &from(0, 5), &found(5, vec![]));
        set.put(0, from(0, 6));
        assert_eq!(slots(&mut set), [0, 1, 2, 3], "something else is wanted of it");
    }

    #[test]
    fn what_is_refused_stays_due_and_is_watched_anew() {
        let mut set = FetchSet::default();
        set.put(0, from(0, 0));
        let flag = set.begin_watch(0).expect("is there");
        let error = OpError::new(heddle_proto::error::ErrorCode::NotLeaderOrFollower, "moved");
        set.settle(0, &from(0, 0), &Err(error));
        assert!(!set.is_watched(0));
        assert_eq!(slots(&mut set), [0]);
        drop(flag);
    }

    #[test]
    fn a_result_for_what_is_no_longer_wanted_settles_nothing() {
        let mut set = FetchSet::default();
        set.put(0, from(0, 5));
        let _flag = set.begin_watch(0);
        set.put(0, from(0, 2));
        set.settle(0, &from(0, 5), &found(5, vec![]));
        assert_eq!(slots(&mut set), [0]);
        set.remove(0);
        set.settle(0, &from(0, 2), &found(2, vec![]));
        assert!(slots(&mut set).is_empty() && set.is_empty());
    }

    #[test]
    fn who_was_served_comes_last() {
        let mut set = FetchSet::default();
        (0..3).for_each(|slot| set.put(slot, from(slot, 0)));
        set.move_back(0);
        assert_eq!(slots(&mut set), [1, 2, 0]);
        set.move_back(2);
        assert_eq!(slots(&mut set), [1, 0, 2]);
    }
}
