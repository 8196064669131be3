//! Latency histograms in nanoseconds: their shape, their percentiles, and the standard HDR interval log.

use crate::clock::Nanos;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;

/// Values below this are not told apart: a clock reading costs about as much.
const LOWEST_NANOS: u64 = 64;
/// Longer times are counted as this long.
const HIGHEST_NANOS: u64 = 3_600_000_000_000;
/// Three digits: a value is at most 0.1 % off.
const SIGNIFICANT_DIGITS: u8 = 3;
/// HDR logs print the maximum of each interval in milliseconds by custom.
const MAX_DIVISOR: f64 = 1_000_000.0;

/// A histogram of nanoseconds.
pub type Latencies = Histogram<u64>;

/// An empty histogram in the one shape used everywhere, so that any two can be added.
pub fn new_latencies() -> Latencies {
    Histogram::new_with_bounds(LOWEST_NANOS, HIGHEST_NANOS, SIGNIFICANT_DIGITS)
        .expect("the bounds are constants in range")
}

/// Adds `from` into `into`.
pub fn add(into: &mut Latencies, from: &Latencies) {
    into.add(from).expect("all histograms have one shape");
}

/// The figures of one histogram, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Number of values.
    pub count: u64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Smallest.
    pub min_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90 % are at or below.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// 99.99 %.
    pub p9999_us: f64,
    /// Largest.
    pub max_us: f64,
}

impl Percentiles {
    /// Reads the figures off `latencies`; all zero when it is empty.
    pub fn of(latencies: &Latencies) -> Self {
        let at = |quantile| micros(latencies.value_at_quantile(quantile));
        if latencies.is_empty() {
            return Self::default();
        }
        Self {
            count: latencies.len(),
            mean_us: round(latencies.mean() / 1000.0),
            min_us: micros(latencies.min()),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: micros(latencies.max()),
        }
    }
}

fn micros(nanos: u64) -> f64 {
    round(nanos as f64 / 1000.0)
}

/// Two digits after the point: a hundredth of a microsecond is below what the clock resolves.
pub fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// One interval of an HDR log.
#[derive(Clone, Debug)]
pub struct TaggedInterval {
    /// What was measured, e.g. `produce`.
    pub tag: String,
    /// When the interval began.
    pub start: Nanos,
    /// How long it lasted.
    pub length: Duration,
    /// What was measured in it.
    pub latencies: Latencies,
}

/// Why an HDR log could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistogramLogError {
    /// The file could not be written.
    #[error("writing the histogram log: {0}")]
    Write(String),
    /// The text is no HDR log of version 2.
    #[error("reading the histogram log: {0}")]
    Read(String),
}

/// Writes `intervals` in the standard interval log format (V2, compressed, base64).
pub fn write_log(
    out: &mut impl io::Write,
    start: Nanos,
    intervals: &[TaggedInterval],
) -> Result<(), HistogramLogError> {
    let error = |e: &dyn std::fmt::Display| HistogramLogError::Write(e.to_string());
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("values in nanoseconds").with_max_value_divisor(MAX_DIVISOR);
    builder.with_start_time(start.system_time()).with_base_time(start.system_time());
    let mut log = builder.begin_log_with(out, &mut serializer).map_err(|e| error(&e))?;
    for interval in intervals {
        let offset = interval.start.left(start);
        let tag = Tag::new(&interval.tag);
        log.write_histogram(&interval.latencies, offset, interval.length, tag)
            .map_err(|e| error(&format!("{e:?}")))?;
    }
    Ok(())
}

/// Reads a log back: every interval with a tag, in file order. Start times are relative to the epoch given in
/// the log's base time; a log without one is read as absolute.
pub fn read_log(text: &[u8]) -> Result<Vec<TaggedInterval>, HistogramLogError> {
    let error = |e: String| HistogramLogError::Read(e);
    let mut base = Duration::ZERO;
    let mut intervals = Vec::new();
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(text) {
        match entry.map_err(|e| error(format!("{e:?}")))? {
            LogEntry::BaseTime(time) => base = time,
            LogEntry::StartTime(_) => {}
            LogEntry::Interval(line) => {
                let compressed = BASE64.decode(line.encoded_histogram()).map_err(|e| error(e.to_string()))?;
                let latencies: Latencies =
                    deserializer.deserialize(&mut &compressed[..]).map_err(|e| error(format!("{e:?}")))?;
                intervals.push(TaggedInterval {
                    tag: line.tag().map(|t| t.as_str().to_owned()).unwrap_or_default(),
                    start: Nanos::default().plus(base + line.start_timestamp()),
                    length: line.duration(),
                    latencies,
                });
            }
        }
    }
    Ok(intervals)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: impl Iterator<Item = u64>) -> Latencies {
        let mut latencies = new_latencies();
        values.for_each(|v| latencies.saturating_record(v));
        latencies
    }

    #[test]
    fn percentiles_are_read_off_in_microseconds() {
        let figures = Percentiles::of(&filled((1..=1000).map(|i| i * 1000)));
        assert_eq!(figures.count, 1000);
        assert!((figures.p50_us - 500.0).abs() < 1.0, "{figures:?}");
        assert!((figures.p99_us - 990.0).abs() < 2.0, "{figures:?}");
        assert!((figures.max_us - 1000.0).abs() < 2.0, "{figures:?}");
        assert_eq!(Percentiles::of(&new_latencies()), Percentiles::default());
    }

    #[test]
    fn a_value_beyond_the_range_is_kept_as_the_largest() {
        let latencies = filled([u64::MAX].into_iter());
        assert_eq!(latencies.len(), 1);
        assert!(Percentiles::of(&latencies).max_us >= 3_600_000_000.0);
    }

    #[test]
    fn log_round_trip_keeps_every_count() {
        let start = Nanos::new(1_700_000_000_000_000_000);
        let second = Duration::from_secs(1);
        let written: Vec<TaggedInterval> = (0..3u64)
            .map(|i| TaggedInterval {
                tag: if i == 2 { "end_to_end".into() } else { "produce".into() },
                start: start.plus(second * i as u32),
                length: second,
                latencies: filled((0..5000).map(|v| (v + 1) * (i + 1) * 977)),
            })
            .collect();
        let mut text = Vec::new();
        write_log(&mut text, start, &written).unwrap();
        let line = String::from_utf8(text.clone()).unwrap();
        assert!(line.contains("Tag=produce,") && line.contains(",HISTFAAA"), "{line}");

        let read = read_log(&text).unwrap();
        assert_eq!(read.len(), written.len());
        for (read, written) in read.iter().zip(&written) {
            assert_eq!(read.tag, written.tag);
            assert_eq!(read.start, written.start);
            assert_eq!(read.latencies, written.latencies);
        }
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(read_log(b"Tag=x,0.0,1.0,2.0,!!!!\n").is_err());
        assert!(read_log(b"Tag=x,0.0,1.0,2.0,AAAA\n").is_err());
    }
}
