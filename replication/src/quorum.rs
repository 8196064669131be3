//! The commit rule: an offset is committed when enough in-sync replicas hold it.

use std::collections::BTreeSet;

use heddle_proto::ids::{NodeId, Offset};

/// The in-sync set of a partition and how many of it make a commit quorum, with the version that metadata gave it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InSync {
    /// The members, the primary among them.
    pub members: BTreeSet<NodeId>,
    /// `min.insync.replicas`, at least 1: the set is never smaller, and so many members hold a committed record.
    pub quorum: usize,
    /// All members hold a committed record (`commit=all`): slower than the slowest of them, and one that is left can take
    /// over.
    pub commit_all: bool,
    /// Rises with every change, so that one that arrives twice or late is recognised, and with every replica that is placed or taken
    /// away: what a newcomer acknowledges is told from what another said that was there before, and nobody waits for a change
    /// that cannot be any more.
    pub version: u32,
}

impl InSync {
    /// How many members, the primary among them, hold a record when it is committed.
    pub fn commit_quorum(&self) -> usize {
        if self.commit_all { self.members.len() } else { self.quorum }
    }

    /// How many answers to a seal are sure to hold every committed record between them: fewer could all lie outside some
    /// commit quorum.
    pub fn seal_quorum(&self) -> usize {
        (self.members.len() + 1).saturating_sub(self.commit_quorum()).max(1)
    }

    /// The set that a change leads to.
    #[must_use]
    pub fn changed(&self, members: BTreeSet<NodeId>) -> InSync {
        InSync { members, version: self.version + 1, ..*self }
    }

    /// The same members, of which another number holds what is committed.
    #[must_use]
    pub fn requiring(&self, quorum: usize) -> InSync {
        InSync { quorum, ..self.changed(self.members.clone()) }
    }
}

/// The committed position of a partition.
///
/// `held` is, for each in-sync replica (the primary among them), the offset after the last record it holds in the
/// sense of the topic's durability, as reported in the current epoch. `quorum` is `min.insync.replicas`.
/// Returns `None` when fewer replicas than the quorum are in sync: then nothing new may be committed.
pub fn committed(held: &mut [Offset], quorum: usize) -> Option<Offset> {
    if quorum == 0 || held.len() < quorum {
        return None;
    }
    held.sort_unstable_by(|a, b| b.cmp(a));
    Some(held[quorum - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line: positions held | quorum | committed.
    const TABLE: &str = "
        7       | 1 | 7
        7       | 2 | -
        7 5     | 1 | 7
        7 5     | 2 | 5
        3 9 5   | 1 | 9
        3 9 5   | 2 | 5
        3 9 5   | 3 | 3
        3 9 5   | 4 | -
        4 4 4   | 2 | 4
        4       | 0 | -
    ";

    #[test]
    fn quorum_table() {
        for line in TABLE.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            let mut held: Vec<Offset> = columns[0]
                .split_whitespace()
                .map(|text| Offset::new(text.parse().expect("a number")))
                .collect();
            let expected = columns[2].parse().ok().map(Offset::new);
            assert_eq!(committed(&mut held, columns[1].parse().expect("a number")), expected, "{line}");
        }
    }

    #[test]
    fn any_seal_quorum_meets_any_commit_quorum() {
        for member_count in 1..=7 {
            for quorum in 1..=member_count {
                let members = (0..member_count as u32).map(NodeId::new).collect();
                let set = InSync { members, quorum, commit_all: false, version: 0 };
                assert_eq!(set.seal_quorum() + set.commit_quorum(), member_count + 1);
                let all = InSync { commit_all: true, ..set };
                assert_eq!(all.seal_quorum() + all.commit_quorum(), member_count + 1);
            }
        }
    }
}
