//! Scrub: reads what lies in segments again and again, slowly, and holds it against its checksums. Rot in records that nobody asks
//! for is found that way while a backup or a replica can still mend it.
//!
//! A pass goes over all logs of the core and begins every half interval. It is paced to take three quarters of that, so that from one
//! reading of a segment to the next it is never longer than the interval. Nothing is remembered over a restart; a pass begins at a log chosen by
//! chance, so that a broker that is restarted often still comes to all of them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use heddle_proto::ids::{Offset, TopicPartition};

use crate::disk::Disk;
use crate::log::inner::LogInner;
use crate::segment::SegmentRef;
use crate::segment::reader::{BatchReader, Pace, Stop};
use crate::store::shared::Store;
use crate::store::stats::add;

/// What the store says about its last pass.
#[derive(Default)]
pub(crate) struct Gauges {
    /// Wall time at which it ended, in seconds; 0 before the first.
    pub(crate) ended_at: Cell<u64>,
    pub(crate) took: Cell<Duration>,
}

/// Passes in one interval: what comes first in a pass and last in the next must not be read less often.
const PASSES: u32 = 2;

impl<D: Disk> Store<D> {
    /// A start has better things to do.
    pub(crate) fn first_scrub_at(&self) -> Duration {
        match self.options.scrub_interval {
            Duration::ZERO => Duration::MAX,
            interval => self.disk.now() + interval / 1000,
        }
    }

    /// When the pass after the one that begins now is due.
    pub(crate) fn next_scrub_at(&self, now: Duration) -> Duration {
        now + self.options.scrub_interval / PASSES
    }

    /// One pass over all logs of the core. What it finds is noted and reported; it never fails itself.
    pub(crate) async fn scrub(self: &Rc<Self>) {
        let begun = self.disk.now();
        let (partitions, bytes) = self.scrub_order();
        let wanted = rate(bytes, self.options.scrub_interval / PASSES * 3 / 4);
        self.scrub_pacer.set_rate(wanted.min(self.options.scrub_bytes_per_second));
        for partition in partitions {
            let log = self.logs.borrow().get(&partition).cloned();
            if let Some(log) = log {
                self.scrub_log(&log).await;
            }
        }
        let took = self.disk.now().saturating_sub(begun);
        if took > self.options.scrub_interval / PASSES {
            tracing::warn!(
                took_s = took.as_secs(),
                bytes,
                "a scrub takes longer than half its interval: rot may be found later than asked for"
            );
        }
        self.scrub.took.set(took);
        self.scrub.ended_at.set(u64::try_from(self.disk.wall().get() / 1000).unwrap_or(0));
        add(&self.counters.scrubs, 1);
    }

    /// All logs, from one by chance on, and the bytes in their segments.
    fn scrub_order(&self) -> (Vec<TopicPartition>, u64) {
        let logs = self.logs.borrow();
        let mut partitions: Vec<TopicPartition> = logs.keys().copied().collect();
        if !partitions.is_empty() {
            let first = self.disk.entropy() % partitions.len() as u64;
            partitions.rotate_left(first as usize);
        }
        (partitions, logs.values().map(|log| log.segments.borrow().data_bytes()).sum())
    }

    /// From the start to known damage, or to the end. One log after the other is open, and one of its files.
    async fn scrub_log(self: &Rc<Self>, log: &Rc<LogInner>) {
        let mut from = Offset::ZERO;
        while let Some(segment) = log.segment_from(from) {
            from = segment.end;
            self.scrub_segment(log, segment).await;
        }
    }

    async fn scrub_segment(self: &Rc<Self>, log: &Rc<LogInner>, segment: SegmentRef) {
        let cut_count = log.cut_count.get();
        let Err((verified, stop)) = self.read_all(log, segment).await else { return };
        let is_as_it_was = !log.deleted.get()
            && log.cut_count.get() == cut_count
            && log.has_segment(segment.base, segment.version);
        // What was taken back, replaced or removed meanwhile says nothing, nor do records that were deleted.
        if !is_as_it_was || verified < log.positions().start {
            return;
        }
        match stop {
            Stop::Damaged(damage) => self.note_damage(log, damage),
            Stop::Unreadable(error) => {
                tracing::error!(partition = %log.partition, %error, "the disk does not read a segment");
                add(&self.counters.scrub_unreadable_segments, 1);
            }
            Stop::Gone | Stop::NoSpace | Stop::Storage(_) => {}
        }
    }

    /// On failure also the offset up to which all is well.
    async fn read_all(&self, log: &LogInner, segment: SegmentRef) -> Result<(), (Offset, Stop)> {
        let pace = Pace { pacer: &self.scrub_pacer, read_bytes: &self.counters.scrub_read_bytes };
        let opened = BatchReader::open(self, log, segment, pace).await;
        let mut reader = opened.map_err(|stop| (segment.base, stop))?;
        loop {
            match reader.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(stop) => return Err((reader.expected(), stop)),
            }
        }
    }
}

/// Bytes per second that move `bytes` within `time`.
fn rate(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1000 / time.as_millis().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX).max(RATE_MIN)
}

/// So little that it is in nobody's way, and enough for a pass over little data to end soon.
const RATE_MIN: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_from_the_interval() {
        assert_eq!(rate(3600 << 20, Duration::from_secs(3600)), 1 << 20);
        assert_eq!(rate(0, Duration::ZERO), RATE_MIN);
        assert_eq!(rate(u64::MAX, Duration::from_millis(1)), u64::MAX);
    }
}
