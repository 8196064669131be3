//! The figures of a run: what `--json` prints, what the report shows.

use super::config::RunConfig;
use crate::cli::Mode;
use crate::histogram::{Percentiles, round};
use crate::limits::LimitSummary;
use crate::stats::Interval;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The figures of one run. Times in microseconds, rates per second, MB are millions of bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunSummary {
    /// Name of the run.
    pub name: String,
    /// Whether records were due on a fixed schedule; if not, latencies only say how deep the window was.
    pub open_loop: bool,
    /// Median time from when a record was due to its acknowledgement.
    pub p50_us: f64,
    /// 90 %.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// 99.99 %.
    pub p9999_us: f64,
    /// Largest.
    pub max_us: f64,
    /// Smallest.
    pub min_us: f64,
    /// Mean.
    pub mean_us: f64,
    /// Records whose latency was taken.
    pub latency_count: u64,
    /// Records per second that were asked for; 0: as many as possible.
    pub rate_target: u64,
    /// Records acknowledged (mode consume: consumed) per second.
    pub rate_achieved: f64,
    /// Bytes of batches acknowledged (mode consume: consumed), in MB per second.
    pub mb_per_s: f64,
    /// Failed batches and fetches, warm-up included.
    pub errors: u64,
    /// The same by kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// Records due and never sent, because the window was full until the drain time was over.
    pub unsent_records: u64,
    /// Records sent.
    pub sent_records: u64,
    /// Records acknowledged.
    pub acked_records: u64,
    /// Batches acknowledged.
    pub acked_batches: u64,
    /// Records per acknowledged batch.
    pub records_per_batch: f64,
    /// The generator's own lateness and the wait for the window, p50; part of the latencies.
    pub send_lag_p50_us: f64,
    /// The same, 99 %.
    pub send_lag_p99_us: f64,
    /// The same, largest.
    pub send_lag_max_us: f64,
    /// Seconds measured.
    pub seconds: f64,
    /// Processors the generator kept busy on average, warm-up included: what it takes from a broker on the same machine.
    pub generator_cpus: f64,
    /// Records consumed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub consumed_records: Option<u64>,
    /// Records consumed per second.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub consume_rate: Option<f64>,
    /// MB consumed per second.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub consume_mb_per_s: Option<f64>,
    /// Median time from when a record was due to its arrival at a consumer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_to_end_p50_us: Option<f64>,
    /// 99 %.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_to_end_p99_us: Option<f64>,
    /// 99.9 %.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_to_end_p999_us: Option<f64>,
    /// Largest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_to_end_max_us: Option<f64>,
    /// Records whose end-to-end time was taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_to_end_count: Option<u64>,
    /// p50 of the durable write plus p50 of the loopback round trip.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit_p50_us: Option<f64>,
    /// The same of p99.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit_p99_us: Option<f64>,
    /// `p50_us / limit_p50_us`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ratio_p50: Option<f64>,
    /// `p99_us / limit_p99_us`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ratio_p99: Option<f64>,
    /// The limit in detail: before and after the run together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limits: Option<LimitSummary>,
    /// p50 of the limit before the run alone, and after it: how steady the machine was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit_p50_before_after_us: Option<(f64, f64)>,
}

impl RunSummary {
    /// The figures of everything measured, over `measured` time.
    pub fn new(config: &RunConfig, total: &Interval, measured: Duration) -> Self {
        let latency = Percentiles::of(&total.produce);
        let lag = Percentiles::of(&total.send_lag);
        let counts = &total.counts;
        let seconds = measured.as_secs_f64().max(1e-9);
        let (records, bytes) = match config.mode {
            Mode::Consume => (counts.consumed_records, counts.consumed_bytes),
            _ => (counts.acked_records, counts.acked_bytes),
        };
        let mut summary = Self {
            name: config.name.clone(),
            open_loop: config.rate > 0 && config.mode != Mode::Consume,
            p50_us: latency.p50_us,
            p90_us: latency.p90_us,
            p99_us: latency.p99_us,
            p999_us: latency.p999_us,
            p9999_us: latency.p9999_us,
            max_us: latency.max_us,
            min_us: latency.min_us,
            mean_us: latency.mean_us,
            latency_count: latency.count,
            rate_target: config.rate,
            rate_achieved: round(records as f64 / seconds),
            mb_per_s: round(bytes as f64 / 1e6 / seconds),
            errors: counts.errors(),
            errors_by_kind: counts.failures.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
            unsent_records: counts.unsent_records,
            sent_records: counts.sent_records,
            acked_records: counts.acked_records,
            acked_batches: counts.acked_batches,
            records_per_batch: round(counts.acked_records as f64 / counts.acked_batches.max(1) as f64),
            send_lag_p50_us: lag.p50_us,
            send_lag_p99_us: lag.p99_us,
            send_lag_max_us: lag.max_us,
            seconds: round(seconds),
            ..Self::default()
        };
        if config.consumers > 0 {
            summary.consumed_records = Some(counts.consumed_records);
            summary.consume_rate = Some(round(counts.consumed_records as f64 / seconds));
            summary.consume_mb_per_s = Some(round(counts.consumed_bytes as f64 / 1e6 / seconds));
            summary.add_end_to_end(&Percentiles::of(&total.end_to_end));
        }
        summary
    }

    fn add_end_to_end(&mut self, figures: &Percentiles) {
        if figures.count > 0 {
            self.end_to_end_p50_us = Some(figures.p50_us);
            self.end_to_end_p99_us = Some(figures.p99_us);
            self.end_to_end_p999_us = Some(figures.p999_us);
            self.end_to_end_max_us = Some(figures.max_us);
            self.end_to_end_count = Some(figures.count);
        }
    }

    /// Adds the limit measured before and after, and the ratios to it.
    pub fn add_limits(&mut self, joined: LimitSummary, before_after: (f64, f64)) {
        let ratio = |value: f64, limit: f64| (limit > 0.0 && value > 0.0).then(|| round(value / limit));
        self.limit_p50_us = Some(joined.limit_p50_us);
        self.limit_p99_us = Some(joined.limit_p99_us);
        self.ratio_p50 = ratio(self.p50_us, joined.limit_p50_us);
        self.ratio_p99 = ratio(self.p99_us, joined.limit_p99_us);
        self.limit_p50_before_after_us = Some(before_after);
        self.limits = Some(joined);
    }

    /// For people.
    pub fn to_text(&self) -> String {
        use std::fmt::Write;
        let mut text = format!("{}\n", self.name);
        let mut line = |args: std::fmt::Arguments<'_>| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "  {args}");
        };
        let target = if self.rate_target == 0 { "max".to_owned() } else { self.rate_target.to_string() };
        line(format_args!(
            "rate        {:.0} records/s (asked: {target}), {:.2} MB/s",
            self.rate_achieved, self.mb_per_s
        ));
        if self.latency_count > 0 {
            let loop_note =
                if self.open_loop { "" } else { "   (closed loop: depth of the window, not service time)" };
            line(format_args!(
                "produce     p50 {:.1}  p99 {:.1}  p99.9 {:.1}  p99.99 {:.1}  max {:.1} us{loop_note}",
                self.p50_us, self.p99_us, self.p999_us, self.p9999_us, self.max_us
            ));
            line(format_args!(
                "  of which the generator was late: p50 {:.1}  p99 {:.1}  max {:.1} us",
                self.send_lag_p50_us, self.send_lag_p99_us, self.send_lag_max_us
            ));
        }
        line(format_args!("generator   used {:.2} processors", self.generator_cpus));
        if let (Some(rate), Some(mb)) = (self.consume_rate, self.consume_mb_per_s) {
            line(format_args!("consume     {rate:.0} records/s, {mb:.2} MB/s"));
        }
        if let (Some(p50), Some(p99), Some(max)) =
            (self.end_to_end_p50_us, self.end_to_end_p99_us, self.end_to_end_max_us)
        {
            line(format_args!("end to end  p50 {p50:.1}  p99 {p99:.1}  max {max:.1} us"));
        }
        if let (Some(limits), Some((before, after))) = (&self.limits, self.limit_p50_before_after_us) {
            line(format_args!(
                "limit       p50 {:.1} (write {:.1} + round trip {:.1})  p99 {:.1} us; p50 before {before:.1}, after {after:.1}",
                limits.limit_p50_us, limits.write.p50_us, limits.round_trip.p50_us, limits.limit_p99_us
            ));
        }
        if self.limits.as_ref().is_some_and(|limits| limits.is_saturated) {
            line(format_args!(
                "            the disk cannot do this many writes one by one: this limit is a queue, not a limit"
            ));
        }
        if let (Some(p50), Some(p99)) = (self.ratio_p50, self.ratio_p99) {
            line(format_args!("ratio       p50 {p50:.2} x limit, p99 {p99:.2} x limit"));
        }
        if self.unsent_records > 0 {
            line(format_args!(
                "UNSENT      {} records were due and never sent: the latencies above are too good",
                self.unsent_records
            ));
        }
        let kinds: Vec<String> =
            self.errors_by_kind.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        line(format_args!("errors      {} {}", self.errors, kinds.join(", ")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_promised_names() {
        let mut summary = RunSummary { p50_us: 200.0, p99_us: 300.0, ..RunSummary::default() };
        let limits = LimitSummary { limit_p50_us: 100.0, limit_p99_us: 200.0, ..LimitSummary::default() };
        summary.add_limits(limits, (99.0, 101.0));
        let text = simd_json::to_string(&summary).unwrap();
        for name in [
            "p50_us",
            "p99_us",
            "p999_us",
            "max_us",
            "rate_achieved",
            "mb_per_s",
            "errors",
            "limit_p50_us",
            "limit_p99_us",
            "ratio_p50",
            "ratio_p99",
        ] {
            assert!(text.contains(&format!("\"{name}\":")), "{name} in {text}");
        }
        assert_eq!((summary.ratio_p50, summary.ratio_p99), (Some(2.0), Some(1.5)));
        assert!(summary.to_text().contains("2.00 x limit"));
    }
}
