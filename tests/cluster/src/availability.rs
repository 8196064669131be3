//! What a fault cost the writers: the longest time without an acknowledgement, per partition. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::{History, Outcome};

/// A gap this short is never put down to a fault.
const NOTICED_MIN: Duration = Duration::from_millis(50);

/// A span of the run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub begin: Duration,
    /// Its last.
    pub end: Duration,
}

/// When records of each partition were acknowledged, in order.
#[derive(Clone, Debug, Default)]
pub struct Acks {
    by_partition: BTreeMap<u32, Vec<Duration>>,
}

impl Acks {
    /// Those of a history. Partitions without any are listed too.
    pub fn of(history: &History, partition_count: u32) -> Acks {
        let mut by_partition: BTreeMap<u32, Vec<Duration>> =
            (0..partition_count).map(|partition| (partition, Vec::new())).collect();
        for (_, write) in history.acked() {
            by_partition.entry(write.partition).or_default().extend(write.completed);
        }
        by_partition.values_mut().for_each(|times| times.sort_unstable());
        Acks { by_partition }
    }

    /// The longest gap of each partition that was longer than usual: than twice the longest of the quiet time, and noticeable.
    pub fn outages(&self, quiet: Window, fault: Window) -> Vec<(u32, Duration)> {
        let mut outages = Vec::new();
        for (partition, times) in &self.by_partition {
            let usual = longest_gap(times, quiet) * 2;
            let gap = longest_gap(times, fault);
            if gap > usual.max(NOTICED_MIN) {
                outages.push((*partition, gap));
            }
        }
        outages
    }
}

/// The longest time between two neighbours of which the later lies in the window, or from the last one to its end.
fn longest_gap(times: &[Duration], window: Window) -> Duration {
    let first = times.partition_point(|time| *time < window.begin);
    let last = times.partition_point(|time| *time <= window.end);
    let mut before = if first == 0 { window.begin } else { times[first - 1] };
    let mut longest = Duration::ZERO;
    for time in times[first..last].iter().copied().chain([window.end]) {
        longest = longest.max(time.saturating_sub(before));
        before = time;
    }
    longest
}

/// The value below which so many percent lie (nearest rank); zero of nothing.
pub fn percentile(values: &[Duration], percent: u32) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent as usize).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// How often each error surfaced to a client in a window.
pub fn errors(history: &History, window: Window) -> BTreeMap<String, u64> {
    let inside = |time: Duration| window.begin <= time && time <= window.end;
    let mut counts = BTreeMap::new();
    for write in history.writes.values().filter(|write| write.completed.is_some_and(inside)) {
        if let Outcome::Failed(code) = &write.outcome {
            *counts.entry(code.clone()).or_default() += 1;
        }
    }
    for (_, code) in history.errors.iter().filter(|(time, _)| inside(*time)) {
        *counts.entry(code.clone()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::RecordId;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn window(begin: u64, end: u64) -> Window {
        Window { begin: ms(begin), end: ms(end) }
    }

    #[test]
    fn gaps_reach_back_and_to_the_end() {
        let times: Vec<Duration> = [10, 20, 30, 500, 510].map(ms).into();
        assert_eq!(longest_gap(&times, window(0, 30)), ms(10));
        assert_eq!(longest_gap(&times, window(100, 600)), ms(470), "begins with the last one before");
        assert_eq!(longest_gap(&times, window(505, 2000)), ms(1490), "and ends with the window");
        assert_eq!(longest_gap(&[], window(100, 300)), ms(200));
    }

    #[test]
    fn only_what_is_longer_than_usual_is_an_outage() {
        let mut history = History::default();
        let mut sequence = 0;
        let mut ack = |partition: u32, at: u64| {
            let id = RecordId { writer: partition, sequence };
            history.invoke(id, partition, None, ms(at));
            history.complete(id, Outcome::Acked(Some(sequence as i64)), ms(at));
            sequence += 1;
        };
        (0..300).for_each(|at| ack(0, at * 10));
        (0..300).filter(|at| !(100..200).contains(at)).for_each(|at| ack(1, at * 10));
        let acks = Acks::of(&history, 3);
        let outages = acks.outages(window(0, 900), window(900, 2900));
        assert_eq!(outages[0], (1, ms(1010)));
        assert_eq!(outages[1].0, 2, "nothing was ever acknowledged in the third partition");
        assert_eq!(outages.len(), 2);
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<Duration> = (1..=100).map(ms).collect();
        assert_eq!(percentile(&values, 50), ms(50));
        assert_eq!(percentile(&values, 99), ms(99));
        assert_eq!(percentile(&values[..1], 99), ms(1));
        assert_eq!(percentile(&[], 50), ms(0));
    }

    #[test]
    fn errors_are_counted_where_they_surfaced() {
        let mut history = History::default();
        let id = RecordId { writer: 1, sequence: 0 };
        history.invoke(id, 0, None, ms(1));
        history.complete(id, Outcome::Failed("A".into()), ms(50));
        history.errors.push((ms(60), "B".into()));
        history.errors.push((ms(600), "B".into()));
        let counts = errors(&history, window(10, 100));
        assert_eq!(counts, BTreeMap::from([("A".to_owned(), 1), ("B".to_owned(), 1)]));
    }
}
