//! Whether a partition holds what was acknowledged: every acknowledged record once, at its offset, in the order sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a producer knows about one partition.
#[derive(Clone, Debug, Default)]
pub struct History {
    sent: BTreeSet<u64>,
    acknowledged: BTreeMap<u64, i64>,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// An acknowledged record is not there.
    Lost {
        /// Which record.
        value: u64,
        /// Where it was said to be.
        offset: i64,
    },
    /// A record is there, but not where its acknowledgement said.
    Moved {
        /// Which record.
        value: u64,
        /// Where it was said to be.
        acknowledged: i64,
        /// Where it is.
        found: i64,
    },
    /// A record is there more than once.
    Duplicated {
        /// Which record.
        value: u64,
        /// Where it is again.
        offset: i64,
    },
    /// A record comes after one that was sent later.
    Reordered {
        /// Which record.
        value: u64,
        /// The later one before it.
        after: u64,
    },
    /// A record is there that nobody sent.
    Unknown {
        /// Which record.
        value: u64,
        /// Where it is.
        offset: i64,
    },
    /// Offsets are not consecutive.
    Gap {
        /// The offset that should come.
        expected: i64,
        /// The one that came.
        found: i64,
    },
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl History {
    /// Notes that a record is on its way. Values of one partition grow in the order of sending, and each is sent once.
    pub fn sent(&mut self, value: u64) {
        assert!(self.sent.last().is_none_or(|last| *last < value), "values must grow");
        self.sent.insert(value);
    }

    /// Notes an acknowledgement.
    pub fn acknowledged(&mut self, value: u64, offset: i64) {
        self.acknowledged.insert(value, offset);
    }

    /// How many records were acknowledged.
    pub fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    /// Compares with what was read from the beginning: offset and value of each record, in the order read.
    pub fn check(&self, read: &[(i64, u64)]) -> Vec<Anomaly> {
        let mut found = BTreeMap::new();
        let mut anomalies = Vec::new();
        let mut expected = read.first().map_or(0, |(offset, _)| *offset);
        let mut newest: Option<u64> = None;
        for (offset, value) in read.iter().copied() {
            if offset != expected {
                anomalies.push(Anomaly::Gap { expected, found: offset });
            }
            expected = offset + 1;
            if !self.sent.contains(&value) {
                anomalies.push(Anomaly::Unknown { value, offset });
            }
            if found.contains_key(&value) {
                anomalies.push(Anomaly::Duplicated { value, offset });
                continue;
            }
            found.insert(value, offset);
            if let Some(after) = newest.filter(|newest| *newest > value) {
                anomalies.push(Anomaly::Reordered { value, after });
            }
            newest = newest.max(Some(value));
        }
        for (value, offset) in &self.acknowledged {
            match found.get(value) {
                None => anomalies.push(Anomaly::Lost { value: *value, offset: *offset }),
                Some(at) if at != offset => {
                    anomalies.push(Anomaly::Moved { value: *value, acknowledged: *offset, found: *at })
                }
                Some(_) => {}
            }
        }
        anomalies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let mut history = History::default();
        (10..15).for_each(|value| history.sent(value));
        history.acknowledged(10, 0);
        history.acknowledged(12, 2);
        history
    }

    #[test]
    fn what_is_right_is_accepted() {
        let history = history();
        assert_eq!(history.check(&[(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)]), []);
        assert_eq!(history.check(&[(0, 10), (1, 11), (2, 12)]), [], "unacknowledged records may be missing");
    }

    #[test]
    fn each_broken_promise_is_found() {
        let history = history();
        assert_eq!(history.check(&[(0, 10), (1, 11)]), [Anomaly::Lost { value: 12, offset: 2 }]);
        assert_eq!(
            history.check(&[(0, 10), (1, 12)]),
            [Anomaly::Moved { value: 12, acknowledged: 2, found: 1 }]
        );
        assert_eq!(
            history.check(&[(0, 10), (1, 11), (2, 12), (3, 12)]),
            [Anomaly::Duplicated { value: 12, offset: 3 }]
        );
        assert_eq!(
            history.check(&[(0, 10), (1, 13), (2, 12)]),
            [Anomaly::Reordered { value: 12, after: 13 }]
        );
        assert_eq!(
            history.check(&[(0, 10), (1, 11), (2, 12), (3, 99)]),
            [Anomaly::Unknown { value: 99, offset: 3 }]
        );
        assert_eq!(history.check(&[(0, 10), (2, 12)]), [Anomaly::Gap { expected: 1, found: 2 }]);
    }
}
