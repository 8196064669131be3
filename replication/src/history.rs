//! The history of leadership in one log: which epoch began at which offset.
//!
//! A record is known by its epoch and its offset: only one primary writes in an epoch, and it writes every offset once.
//! Two logs that share a record share everything before it, so their histories alone say where they part.

use heddle_proto::ids::{Epoch, Offset};

/// How many epochs are kept. Failovers are rare, so the last 64 reach far beyond what is not yet committed; where none
/// is shared, replicas fall back to what they know to be committed.
pub const EPOCHS_MAX: usize = 64;

/// Epochs in rising order, each with the offset of its first record. An epoch without records leaves no entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History {
    entries: Vec<(Epoch, Offset)>,
}

impl History {
    /// Takes entries that come from a disk or a peer; `None` when they do not rise or are more than [`EPOCHS_MAX`].
    pub fn from_entries(entries: Vec<(Epoch, Offset)>) -> Option<History> {
        let rises = entries.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        (rises && entries.len() <= EPOCHS_MAX).then_some(History { entries })
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[(Epoch, Offset)] {
        &self.entries
    }

    /// The epoch of the last record.
    pub fn last_epoch(&self) -> Option<Epoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// Notes that records from `start` on were written in `epoch`. Nothing changes when the last record is of that epoch.
    pub fn note(&mut self, epoch: Epoch, start: Offset) {
        match self.entries.last() {
            Some((last, _)) if *last >= epoch => return,
            _ => self.entries.push((epoch, start)),
        }
        if self.entries.len() > EPOCHS_MAX {
            self.entries.remove(0);
        }
    }

    /// The part that says of which epochs the records `from..upto` are: what travels beside them.
    pub fn of_range(&self, from: Offset, upto: Offset) -> History {
        let first = self.entries.iter().rposition(|(_, start)| *start <= from);
        let entries = self.entries[first.unwrap_or(0)..].iter().filter(|(_, start)| *start < upto);
        History { entries: entries.map(|(epoch, start)| (*epoch, (*start).max(from))).collect() }
    }

    /// Takes over the epochs of records that were appended at `end`, as [`History::of_range`] of their sender gave them.
    pub fn extend(&mut self, end: Offset, appended: &History) {
        for (epoch, start) in &appended.entries {
            self.note(*epoch, (*start).max(end));
        }
    }

    /// Forgets epochs that begin at or after `end`.
    pub fn truncate(&mut self, end: Offset) {
        self.entries.retain(|(_, start)| *start < end);
    }

    /// Whether older epochs may have been dropped.
    pub fn is_full(&self) -> bool {
        self.entries.len() == EPOCHS_MAX
    }

    /// The end of the last stretch that this log (which ends at `end`) shares with another; `None` when they share no
    /// known epoch.
    pub fn shared_end(&self, end: Offset, other: &History, other_end: Offset) -> Option<Offset> {
        let (mine, theirs) = (0..self.entries.len()).rev().find_map(|mine| {
            let theirs = other.entries.iter().position(|(epoch, _)| *epoch == self.entries[mine].0)?;
            let (my_start, their_start) = (self.entries[mine].1, other.entries[theirs].1);
            // A log that begins in the middle of an epoch knows no better where that began.
            let agree = my_start == their_start
                || (mine == 0 && my_start > their_start)
                || (theirs == 0 && their_start > my_start);
            agree.then_some((mine, theirs))
        })?;
        Some(self.end_of(mine, end).min(other.end_of(theirs, other_end)))
    }

    fn end_of(&self, index: usize, end: Offset) -> Offset {
        self.entries.get(index + 1).map_or(end, |(_, start)| *start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1@0 3@10` is a history of two epochs.
    fn history(text: &str) -> History {
        let mut history = History::default();
        for entry in text.split_whitespace() {
            let (epoch, start) = entry.split_once('@').expect("epoch@start");
            history.note(
                Epoch::new(epoch.parse().expect("a number")),
                Offset::new(start.parse().expect("a number")),
            );
        }
        history
    }

    /// One log and its end | another and its end | where they part.
    const TABLE: &str = "
        1@0     | 5  | 1@0     | 9  | 5
        1@0     | 9  | 1@0     | 5  | 5
        1@0 2@5 | 9  | 1@0     | 9  | 5
        1@0     | 9  | 1@0 2@5 | 7  | 5
        1@0 2@5 | 9  | 1@0 3@4 | 9  | 4
        1@0 2@5 | 9  | 1@0 2@5 | 7  | 7
        2@0     | 3  | 1@0     | 3  | -
                | 0  | 1@0     | 3  | -
        1@0 2@5 | 9  | 1@0 2@4 | 9  | 4
        1@0 2@5 | 9  | 2@7     | 8  | 8
        1@3     | 9  | 1@0 2@5 | 8  | 5
    ";

    #[test]
    fn shared_end_table() {
        for line in TABLE.lines().map(str::trim).filter(|line| line.contains('|')) {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            let end = |text: &str| Offset::new(text.parse().expect("a number"));
            let found =
                history(columns[0]).shared_end(end(columns[1]), &history(columns[2]), end(columns[3]));
            assert_eq!(found, columns[4].parse().ok().map(Offset::new), "{line}");
        }
    }

    #[test]
    fn a_range_carries_its_epochs() {
        let sender = history("1@0 3@10 4@12");
        assert_eq!(sender.of_range(Offset::new(11), Offset::new(12)), history("3@11"));
        let mut receiver = history("1@0 3@10");
        receiver.extend(Offset::new(11), &sender.of_range(Offset::new(11), Offset::new(20)));
        assert_eq!(receiver, sender);
    }

    #[test]
    fn what_does_not_rise_is_refused() {
        let entries = |list: &[(i32, i64)]| {
            list.iter().map(|(epoch, start)| (Epoch::new(*epoch), Offset::new(*start))).collect()
        };
        assert!(History::from_entries(entries(&[(1, 0), (2, 5)])).is_some());
        assert!(History::from_entries(entries(&[(2, 0), (1, 5)])).is_none());
        assert!(History::from_entries(entries(&[(1, 5), (2, 5)])).is_none());
    }
}
