//! What a generator thread measures: counts and histograms of one interval, and which of it counts.

use crate::clock::Nanos;
use crate::failure::Failure;
use crate::histogram::{self, Latencies};
use std::collections::BTreeMap;
use std::time::Duration;

/// The time that is measured: after the warm-up, until the end.
#[derive(Copy, Clone, Debug)]
pub struct Window {
    /// When the warm-up is over.
    pub from: Nanos,
    /// When the run is over.
    pub to: Nanos,
}

impl Window {
    /// Whether `at` is measured.
    pub fn contains(&self, at: Nanos) -> bool {
        self.from <= at && at < self.to
    }

    /// How long is measured.
    pub fn length(&self) -> Duration {
        self.to.left(self.from)
    }
}

/// Counts of one interval. Records and bytes are those whose event fell into the window.
#[derive(Clone, Default, Debug)]
pub struct Counts {
    /// Records handed to a connection.
    pub sent_records: u64,
    /// Records acknowledged.
    pub acked_records: u64,
    /// Bytes of acknowledged batches.
    pub acked_bytes: u64,
    /// Batches acknowledged.
    pub acked_batches: u64,
    /// Records consumed.
    pub consumed_records: u64,
    /// Bytes of consumed batches.
    pub consumed_bytes: u64,
    /// Records due in the run and never sent.
    pub unsent_records: u64,
    /// Failed batches and fetches by kind, warm-up included: an error is an error.
    pub failures: BTreeMap<Failure, u64>,
}

impl Counts {
    /// All failures.
    pub fn errors(&self) -> u64 {
        self.failures.values().sum()
    }

    fn add(&mut self, other: &Self) {
        self.sent_records += other.sent_records;
        self.acked_records += other.acked_records;
        self.acked_bytes += other.acked_bytes;
        self.acked_batches += other.acked_batches;
        self.consumed_records += other.consumed_records;
        self.consumed_bytes += other.consumed_bytes;
        self.unsent_records += other.unsent_records;
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
    }
}

/// Everything measured in one interval.
#[derive(Clone, Debug)]
pub struct Interval {
    /// From when a record should have been sent to its acknowledgement.
    pub produce: Latencies,
    /// From when a record should have been sent to its arrival at a consumer.
    pub end_to_end: Latencies,
    /// From when a batch's last record was due to when the batch was handed to its connection: the generator's own lateness,
    /// and waiting for the window. Part of the latencies above; told apart here.
    pub send_lag: Latencies,
    /// Counts.
    pub counts: Counts,
}

impl Default for Interval {
    fn default() -> Self {
        Self {
            produce: histogram::new_latencies(),
            end_to_end: histogram::new_latencies(),
            send_lag: histogram::new_latencies(),
            counts: Counts::default(),
        }
    }
}

impl Interval {
    /// Adds what another thread, or another interval, measured.
    pub fn add(&mut self, other: &Self) {
        histogram::add(&mut self.produce, &other.produce);
        histogram::add(&mut self.end_to_end, &other.end_to_end);
        histogram::add(&mut self.send_lag, &other.send_lag);
        self.counts.add(&other.counts);
    }
}

/// Where the tasks of one generator thread put what they see.
#[derive(Debug)]
pub struct Recorder {
    window: Window,
    interval: Box<Interval>,
}

impl Recorder {
    /// Records what falls into `window`.
    pub fn new(window: Window) -> Self {
        Self { window, interval: Box::default() }
    }

    /// A batch was handed to its connection at `now`; its last record was due at `due`.
    pub fn sent(&mut self, records: u32, due: Nanos, now: Nanos) {
        if self.window.contains(due) {
            self.interval.counts.sent_records += u64::from(records);
            self.interval.send_lag.saturating_record(now.since(due));
        }
    }

    /// A batch of `bytes` was acknowledged at `now`; `intended` are the times its records were due.
    pub fn acked(&mut self, bytes: usize, now: Nanos, intended: impl ExactSizeIterator<Item = Nanos>) {
        if self.window.contains(now) {
            self.interval.counts.acked_batches += 1;
            self.interval.counts.acked_records += intended.len() as u64;
            self.interval.counts.acked_bytes += bytes as u64;
        }
        for due in intended.filter(|due| self.window.contains(*due)) {
            self.interval.produce.saturating_record(now.since(due));
        }
    }

    /// A batch of `records` and `bytes` arrived at a consumer at `now`.
    pub fn consumed(&mut self, records: u64, bytes: usize, now: Nanos) {
        if self.window.contains(now) {
            self.interval.counts.consumed_records += records;
            self.interval.counts.consumed_bytes += bytes as u64;
        }
    }

    /// A record of this run, due at `due`, arrived at a consumer at `now`.
    pub fn arrived(&mut self, due: Nanos, now: Nanos) {
        if self.window.contains(due) {
            self.interval.end_to_end.saturating_record(now.since(due));
        }
    }

    /// A batch or a fetch failed.
    pub fn failed(&mut self, failure: Failure) {
        *self.interval.counts.failures.entry(failure).or_default() += 1;
    }

    /// Records that were due and will not be sent.
    pub fn unsent(&mut self, records: u64) {
        self.interval.counts.unsent_records += records;
    }

    /// Hands over what was measured since the last time.
    pub fn take(&mut self) -> Box<Interval> {
        std::mem::take(&mut self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Percentiles;
    use crate::schedule::{BatchRule, Pace, Producer, Schedule, Step};

    const START: Nanos = Nanos::new(1_000_000_000_000);
    const MILLI: u64 = 1_000_000;

    /// Drives a producer of 1,000 records/s for ten seconds in virtual time against a broker that answers in
    /// one millisecond, except that from second five it answers nothing for a second.
    fn run_with_stall(latency_from: fn(&Producer, u64, Nanos) -> Nanos) -> Interval {
        let end = START.plus_nanos(10_000 * MILLI);
        let rule = BatchRule { records_max: 1, linger: Duration::ZERO };
        let pace = Pace::Open(Schedule::new(START, 1000, 0, 1));
        let mut producer = Producer::new(pace, rule, 1, end, end.plus_nanos(5_000 * MILLI));
        let mut recorder = Recorder::new(Window { from: START, to: end });
        let mut now = START;
        loop {
            match producer.step(now, 0) {
                Step::Send { first, count } => {
                    let sent = now;
                    now = answer_time(now);
                    let intended = latency_from(&producer, first, sent);
                    recorder.sent(count, intended, sent);
                    recorder.acked(100, now, std::iter::once(intended));
                }
                Step::WaitUntil(then) => now = then,
                Step::WindowFull => unreachable!("nothing is in flight"),
                Step::Done => return *recorder.take(),
            }
        }
    }

    fn answer_time(sent: Nanos) -> Nanos {
        let stall = (START.plus_nanos(5_000 * MILLI), START.plus_nanos(6_000 * MILLI));
        let answered = sent.plus_nanos(MILLI / 2);
        if stall.0 <= sent && sent < stall.1 { stall.1.plus_nanos(MILLI / 2) } else { answered }
    }

    #[test]
    fn a_stall_shows_in_the_percentiles() {
        let honest = run_with_stall(|producer, index, sent| producer.intended(index, sent));
        let figures = Percentiles::of(&honest.produce);
        assert_eq!(figures.count, 10_000);
        // A second of stall at 1,000/s delays some 2,000 records (the second itself, and the catching up): a fifth.
        assert!(figures.p90_us > 400_000.0, "{figures:?}");
        assert!(figures.p99_us > 900_000.0, "{figures:?}");
        assert!(figures.max_us > 999_000.0, "{figures:?}");
    }

    #[test]
    fn counting_from_the_send_would_have_hidden_it() {
        let naive = run_with_stall(|_, _, sent| sent);
        let figures = Percentiles::of(&naive.produce);
        assert!(figures.p999_us < 1_000.0, "only one record saw the stall: {figures:?}");
    }

    #[test]
    fn warm_up_counts_for_nothing_but_errors() {
        let window = Window { from: START.plus_nanos(MILLI), to: START.plus_nanos(10 * MILLI) };
        let mut recorder = Recorder::new(window);
        recorder.acked(100, START, std::iter::once(START));
        recorder.failed(Failure::Disconnected);
        recorder.acked(100, window.from, std::iter::once(START));
        recorder.acked(100, window.to, std::iter::once(window.from));
        let interval = recorder.take();
        assert_eq!(interval.produce.len(), 1, "only the record that was due in the window");
        assert_eq!(interval.counts.acked_records, 1, "only the ack that came in the window");
        assert_eq!(interval.counts.errors(), 1);
    }

    #[test]
    fn intervals_add_up() {
        let mut recorder = Recorder::new(Window { from: START, to: START.plus_nanos(MILLI) });
        recorder.acked(10, START, std::iter::once(START));
        recorder.failed(Failure::Broker(6));
        let mut sum = *recorder.take();
        sum.add(&sum.clone());
        assert_eq!((sum.counts.acked_records, sum.counts.errors(), sum.produce.len()), (2, 2, 2));
    }
}
