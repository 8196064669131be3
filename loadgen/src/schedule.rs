//! When each record should be sent: the fixed schedule of an open loop, and which due records form a batch.
//!
//! Pure: the present is an argument. A record's intended time depends on its index alone and never on how the
//! broker or the generator is doing, which is what keeps a stall from hiding itself (coordinated omission).

use crate::clock::Nanos;
use std::time::Duration;

const SECOND_NANOS: u128 = 1_000_000_000;

/// The intended times of one producer's records.
///
/// `producer_count` producers share one sequence of evenly spaced points; this one owns every
/// `producer_count`-th point, beginning with its own index.
#[derive(Copy, Clone, Debug)]
pub struct Schedule {
    start: Nanos,
    records_per_second: u64,
    producer: u64,
    producer_count: u64,
}

impl Schedule {
    /// A schedule of `records_per_second` (all producers together, at least 1).
    ///
    /// # Panics
    /// If the rate or the producer count is zero, or `producer` is not below `producer_count`.
    pub fn new(start: Nanos, records_per_second: u64, producer: u64, producer_count: u64) -> Self {
        assert!(records_per_second > 0, "an open loop needs a rate");
        assert!(producer < producer_count, "producer {producer} of {producer_count}");
        Self { start, records_per_second, producer, producer_count }
    }

    /// When this producer's record `index` should be sent.
    pub fn intended(&self, index: u64) -> Nanos {
        let point = u128::from(index) * u128::from(self.producer_count) + u128::from(self.producer);
        let offset = point * SECOND_NANOS / u128::from(self.records_per_second);
        self.start.plus_nanos(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// How many of this producer's records are intended before or at `now`.
    pub fn due_count(&self, now: Nanos) -> u64 {
        if now < self.start {
            return 0;
        }
        // The last shared point p with p * SECOND / rate (rounded down) <= elapsed.
        let elapsed = u128::from(now.since(self.start));
        let points = ((elapsed + 1) * u128::from(self.records_per_second)).div_ceil(SECOND_NANOS);
        let own = points.saturating_sub(u128::from(self.producer)).div_ceil(u128::from(self.producer_count));
        u64::try_from(own).unwrap_or(u64::MAX)
    }
}

/// How one producer paces itself.
#[derive(Copy, Clone, Debug)]
pub enum Pace {
    /// Records are due at fixed times.
    Open(Schedule),
    /// The next batch follows as soon as the window allows; a record is due when it is sent.
    Closed,
}

/// When due records become a batch.
#[derive(Copy, Clone, Debug)]
pub struct BatchRule {
    /// A batch is closed at this many records; at least 1.
    pub records_max: u32,
    /// How long the first record of a batch may wait for company. Zero: what is due goes at once.
    pub linger: Duration,
}

/// What a producer does next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Send the `count` records that begin at `first`, now.
    Send {
        /// Index of the first record.
        first: u64,
        /// Number of records.
        count: u32,
    },
    /// Nothing to send before this point.
    WaitUntil(Nanos),
    /// Something is due, but the window is full: wait for an answer.
    WindowFull,
    /// Everything was sent, or the time to catch up is over.
    Done,
}

/// One producer's place in its schedule.
#[derive(Debug)]
pub struct Producer {
    pace: Pace,
    rule: BatchRule,
    window: u32,
    end: Nanos,
    give_up: Nanos,
    next: u64,
}

impl Producer {
    /// Sends records intended before `end`, at most `window` batches unanswered; what is still unsent at
    /// `give_up` stays unsent.
    pub fn new(pace: Pace, rule: BatchRule, window: u32, end: Nanos, give_up: Nanos) -> Self {
        assert!(window > 0 && rule.records_max > 0, "a producer that may send nothing");
        Self { pace, rule, window, end, give_up, next: 0 }
    }

    /// Decides what to do at `now` with `in_flight` batches unanswered. After `Send` the records count as taken.
    pub fn step(&mut self, now: Nanos, in_flight: u32) -> Step {
        match self.pace {
            Pace::Open(schedule) => self.step_open(&schedule, now, in_flight),
            Pace::Closed => self.step_closed(now, in_flight),
        }
    }

    /// When record `index` was due; `sent` is when it was sent, for a closed loop.
    pub fn intended(&self, index: u64, sent: Nanos) -> Nanos {
        match self.pace {
            Pace::Open(schedule) => schedule.intended(index),
            Pace::Closed => sent,
        }
    }

    /// Records that were due before the end and never sent.
    pub fn unsent_count(&self) -> u64 {
        match self.pace {
            Pace::Open(schedule) => self.last_exclusive(&schedule).saturating_sub(self.next),
            Pace::Closed => 0,
        }
    }

    fn step_closed(&mut self, now: Nanos, in_flight: u32) -> Step {
        if now >= self.end {
            return Step::Done;
        }
        if in_flight >= self.window {
            return Step::WindowFull;
        }
        self.take(self.rule.records_max)
    }

    fn step_open(&mut self, schedule: &Schedule, now: Nanos, in_flight: u32) -> Step {
        let last = self.last_exclusive(schedule);
        if self.next >= last || now >= self.give_up {
            return Step::Done;
        }
        let due = schedule.due_count(now).min(last).saturating_sub(self.next);
        let ready_at = self.ready_at(schedule, last);
        if now < ready_at {
            return Step::WaitUntil(ready_at);
        }
        if in_flight >= self.window {
            return Step::WindowFull;
        }
        let count = due.min(u64::from(self.rule.records_max));
        self.take(u32::try_from(count).expect("bounded by records_max"))
    }

    /// When the batch that begins with the next record may go: full, lingered, or the last one.
    fn ready_at(&self, schedule: &Schedule, last: u64) -> Nanos {
        let lingered = schedule.intended(self.next).plus(self.rule.linger);
        let full_index = (self.next + u64::from(self.rule.records_max)).min(last) - 1;
        lingered.min(schedule.intended(full_index))
    }

    fn last_exclusive(&self, schedule: &Schedule) -> u64 {
        match self.end.get() {
            0 => 0,
            end => schedule.due_count(Nanos::new(end - 1)),
        }
    }

    fn take(&mut self, count: u32) -> Step {
        let first = self.next;
        self.next += u64::from(count);
        Step::Send { first, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Nanos = Nanos::new(1_000_000_000_000);

    fn at_ms(ms: u64) -> Nanos {
        START.plus_nanos(ms * 1_000_000)
    }

    fn open(rate: u64, rule: BatchRule, window: u32, seconds: u64) -> Producer {
        let end = at_ms(seconds * 1000);
        Producer::new(
            Pace::Open(Schedule::new(START, rate, 0, 1)),
            rule,
            window,
            end,
            end.plus_nanos(5_000_000_000),
        )
    }

    const SINGLE: BatchRule = BatchRule { records_max: 1, linger: Duration::ZERO };

    #[test]
    fn intended_times_and_due_counts_agree() {
        for (rate, producers) in [(1000, 1), (1000, 3), (7, 2), (3_000_000, 16), (999_983, 7)] {
            for producer in 0..producers {
                let schedule = Schedule::new(START, rate, producer, producers);
                for index in [0, 1, 2, 10, 999, 123_457] {
                    let when = schedule.intended(index);
                    assert_eq!(schedule.due_count(when), index + 1, "rate {rate} index {index}");
                    assert!(schedule.due_count(Nanos::new(when.get() - 1)) <= index);
                }
            }
        }
    }

    #[test]
    fn producers_share_one_evenly_spaced_sequence() {
        let mut all: Vec<u64> = (0..4)
            .flat_map(|p| (0..5).map(move |i| Schedule::new(START, 1000, p, 4).intended(i).since(START)))
            .collect();
        all.sort_unstable();
        let expected: Vec<u64> = (0..20).map(|i| i * 1_000_000).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn lone_records_go_when_due_and_not_before() {
        let mut producer = open(1000, SINGLE, 4, 1);
        assert_eq!(producer.step(at_ms(0), 0), Step::Send { first: 0, count: 1 });
        assert_eq!(producer.step(at_ms(0), 1), Step::WaitUntil(at_ms(1)));
        assert_eq!(producer.step(at_ms(3), 1), Step::Send { first: 1, count: 1 });
        assert_eq!(producer.step(at_ms(3), 4), Step::WindowFull);
    }

    #[test]
    fn linger_gathers_until_full_or_time_is_up() {
        let rule = BatchRule { records_max: 4, linger: Duration::from_millis(10) };
        let mut producer = open(1000, rule, 4, 1);
        assert_eq!(producer.step(at_ms(0), 0), Step::WaitUntil(at_ms(3)));
        assert_eq!(producer.step(at_ms(3), 0), Step::Send { first: 0, count: 4 });
        let rule = BatchRule { records_max: 100, linger: Duration::from_millis(10) };
        let mut producer = open(1000, rule, 4, 1);
        assert_eq!(producer.step(at_ms(0), 0), Step::WaitUntil(at_ms(10)));
        assert_eq!(producer.step(at_ms(10), 0), Step::Send { first: 0, count: 11 });
    }

    #[test]
    fn without_linger_a_late_producer_sends_what_is_due_together() {
        let mut producer = open(1000, BatchRule { records_max: 8, linger: Duration::ZERO }, 4, 1);
        assert_eq!(producer.step(at_ms(20), 0), Step::Send { first: 0, count: 8 });
        assert_eq!(producer.step(at_ms(20), 1), Step::Send { first: 8, count: 8 });
        assert_eq!(producer.step(at_ms(20), 2), Step::Send { first: 16, count: 5 });
        assert_eq!(producer.step(at_ms(20), 3), Step::WaitUntil(at_ms(21)));
    }

    #[test]
    fn stops_at_the_end_and_counts_what_it_never_sent() {
        let mut producer = open(1000, SINGLE, 1, 1);
        for _ in 0..1000 {
            assert!(matches!(producer.step(at_ms(1500), 0), Step::Send { .. }));
        }
        assert_eq!(producer.step(at_ms(1500), 0), Step::Done);
        assert_eq!(producer.unsent_count(), 0);

        let mut stuck = open(1000, SINGLE, 1, 1);
        assert!(matches!(stuck.step(at_ms(0), 0), Step::Send { .. }));
        assert_eq!(stuck.step(at_ms(5999), 1), Step::WindowFull);
        assert_eq!(stuck.step(at_ms(6000), 1), Step::Done);
        assert_eq!(stuck.unsent_count(), 999);
    }

    #[test]
    fn a_closed_loop_fills_its_window() {
        let rule = BatchRule { records_max: 10, linger: Duration::ZERO };
        let mut producer = Producer::new(Pace::Closed, rule, 2, at_ms(10), at_ms(10));
        assert_eq!(producer.step(at_ms(0), 0), Step::Send { first: 0, count: 10 });
        assert_eq!(producer.step(at_ms(0), 1), Step::Send { first: 10, count: 10 });
        assert_eq!(producer.step(at_ms(0), 2), Step::WindowFull);
        assert_eq!(producer.step(at_ms(10), 0), Step::Done);
    }
}
