//! Transactions that reach past what is stable: open ones, and decided ones whose marker is not committed yet.
//!
//! Consumers that want committed records only stop at the first of them (Kafka's last stable offset, KIP-98). A decided
//! transaction counts until its marker is committed: before that a crash may take the marker back.

use std::collections::{BTreeMap, VecDeque};

use heddle_proto::ids::Offset;

/// How many transactions may be open in one partition at once: all of them fit into the partition's checkpoint.
pub const OPEN_MAX: usize = 1_000;

/// The transactions of one partition by their first offset. Two never begin at the same one.
#[derive(Debug, Default)]
pub struct Unstable {
    /// First offset, and whether the marker is still to come.
    first: BTreeMap<Offset, bool>,
    /// Where the markers lie that are written but not committed, and where their transactions begin.
    decided: VecDeque<(Offset, Offset)>,
    open_count: usize,
}

impl Unstable {
    /// Whether everything committed is stable.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Whether another transaction may begin.
    pub fn has_room(&self) -> bool {
        self.open_count < OPEN_MAX
    }

    /// A transaction wrote its first record.
    pub fn open(&mut self, first: Offset) {
        self.open_count += usize::from(self.first.insert(first, true).is_none());
    }

    /// The marker of the transaction that began at `first` was written.
    pub fn decide(&mut self, first: Offset, marker: Offset) {
        if let Some(is_open) = self.first.get_mut(&first).filter(|is_open| **is_open) {
            *is_open = false;
            self.open_count -= 1;
            self.decided.push_back((marker, first));
        }
    }

    /// What was decided by markers below `committed` counts no more.
    pub fn settle(&mut self, committed: Offset) {
        while let Some((_, first)) = self.decided.pop_front_if(|(marker, _)| *marker < committed) {
            self.first.remove(&first);
        }
    }

    /// Where the first transaction begins that is open or not settled.
    pub fn first(&self) -> Option<Offset> {
        self.first.first_key_value().map(|(first, _)| *first)
    }

    /// Where the first transaction begins that is open, the one at `except` left out.
    pub fn first_open_except(&self, except: Option<Offset>) -> Option<Offset> {
        self.first
            .iter()
            .find(|(first, is_open)| **is_open && Some(**first) != except)
            .map(|(first, _)| *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decided_transaction_counts_until_its_marker_is_committed() {
        let at = Offset::new;
        let mut unstable = Unstable::default();
        unstable.open(at(3));
        unstable.open(at(5));
        assert_eq!(unstable.first_open_except(Some(at(3))), Some(at(5)));
        unstable.decide(at(3), at(8));
        unstable.settle(at(8));
        assert_eq!(unstable.first(), Some(at(3)), "the marker at 8 is not below 8");
        unstable.settle(at(9));
        assert_eq!(unstable.first(), Some(at(5)));
        unstable.decide(at(5), at(10));
        unstable.decide(at(5), at(11));
        unstable.settle(at(11));
        assert!(unstable.is_empty());
    }

    #[test]
    fn the_number_of_open_transactions_is_bounded() {
        let mut unstable = Unstable::default();
        for first in 0..OPEN_MAX as i64 {
            assert!(unstable.has_room());
            unstable.open(Offset::new(first));
        }
        assert!(!unstable.has_room());
        unstable.decide(Offset::new(0), Offset::new(5000));
        assert!(unstable.has_room());
    }
}
