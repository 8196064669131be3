//! Where readers may stop: at a last record of each partition, written when all writers have ended.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::history::Reading;

/// How long readers may take to the end, once it is known: longer than a transaction left open may last.
pub const READ_WAIT_MAX: Duration = Duration::from_secs(120);

/// The offset of each partition's last record, once known.
#[derive(Debug, Default)]
pub struct Ends {
    known: OnceLock<(BTreeMap<u32, i64>, Instant)>,
}

impl Ends {
    /// Makes the ends known.
    ///
    /// # Panics
    /// If they were already.
    pub fn set(&self, ends: BTreeMap<u32, i64>) {
        self.known.set((ends, Instant::now())).expect("a run ends once");
    }

    /// The partitions whose end is still to come: `None` while there is something to wait for.
    pub fn left_of(&self, readings: &BTreeMap<u32, Reading>) -> Option<Vec<u32>> {
        let (ends, since) = self.known.get()?;
        let short = |(partition, end): (&u32, &i64)| {
            let next = readings.get(partition).map_or(0, |reading| reading.next);
            (next <= *end).then_some(*partition)
        };
        let left: Vec<u32> = ends.iter().filter_map(short).collect();
        (left.is_empty() || since.elapsed() > READ_WAIT_MAX).then_some(left)
    }

    /// Whether one partition was read to its end, or there is no time left.
    pub fn is_over(&self, partition: u32, next: i64) -> Option<bool> {
        let (ends, since) = self.known.get()?;
        let reached = ends.get(&partition).is_none_or(|end| next > *end);
        (reached || since.elapsed() > READ_WAIT_MAX).then_some(reached)
    }
}
