//! Renders the reports of all cores as Prometheus text.

use std::{collections::BTreeMap, fmt};

use hdrhistogram::Histogram;
use heddle_log_store::Stats;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use super::metrics::{CoreReport, Kind, Sample};

/// Upper bounds of the exported latency buckets, in microseconds.
const BUCKETS_MICROS: [u64; 26] = [
    1, 3, 6, 12, 25, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000,
    25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000,
];

/// Prometheus text of all cores: numbers by core, latencies merged.
pub fn prometheus_text(reports: Vec<CoreReport>) -> String {
    let mut registry = Registry::with_prefix("heddle");
    registry.register_collector(Box::new(Reports(reports)));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to a string does not fail");
    out
}

#[derive(Debug)]
struct Reports(Vec<CoreReport>);

impl Collector for Reports {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families: BTreeMap<&str, Vec<(u16, &Sample)>> = BTreeMap::new();
        for report in &self.0 {
            for sample in &report.samples {
                families.entry(sample.name).or_default().push((report.core, sample));
            }
        }
        for (name, samples) in families {
            encode_family(&mut encoder, name, &samples)?;
        }
        self.encode_refusals(&mut encoder)?;
        super::peers::encode(&mut encoder, &self.0)?;
        self.encode_stages(&mut encoder)
    }
}

/// The operation and the name of a stage.
type StageName = (&'static str, &'static str);

impl Reports {
    /// One family with every stage, all cores together.
    fn encode_stages(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut merged: Vec<(StageName, Histogram<u64>)> = Vec::new();
        for report in self.0.iter().flat_map(|report| &report.stages) {
            let name = (report.operation, report.stage);
            match merged.iter_mut().find(|(known, _)| *known == name) {
                Some((_, histogram)) => histogram.add(&report.latency).map_err(|_| fmt::Error)?,
                None => merged.push((name, report.latency.clone())),
            }
        }
        let help = "How long the stages of a request take, and all of it (stage \"total\")";
        let unit = prometheus_client::registry::Unit::Seconds;
        let mut family =
            encoder.encode_descriptor("stage_latency", help, Some(&unit), MetricType::Histogram)?;
        for ((operation, stage), histogram) in &merged {
            let labels = [("operation", *operation), ("stage", *stage)];
            let sum = histogram.mean() * histogram.len() as f64 / 1e9;
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(sum, histogram.len(), &buckets(histogram), None)?;
        }
        Ok(())
    }

    fn encode_refusals(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests refused, by error";
        let mut family = encoder.encode_descriptor("requests_refused", help, None, MetricType::Counter)?;
        for report in &self.0 {
            for (code, count) in &report.refusals {
                let labels = [("core", report.core.to_string()), ("error", code.name().to_owned())];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
            }
        }
        Ok(())
    }
}

fn encode_family(encoder: &mut DescriptorEncoder<'_>, name: &str, samples: &[(u16, &Sample)]) -> fmt::Result {
    let Some((_, first)) = samples.first() else { return Ok(()) };
    let kind = match first.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut family = encoder.encode_descriptor(name, first.help, None, kind)?;
    for (core, sample) in samples {
        let labels = [("core", core.to_string())];
        let mut metric = family.encode_family(&labels)?;
        match sample.kind {
            Kind::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&sample.value, None)?,
            Kind::Gauge => metric.encode_gauge(&sample.value)?,
        }
    }
    Ok(())
}

/// How many durations fall into each exported bucket.
fn buckets(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let mut buckets = Vec::with_capacity(BUCKETS_MICROS.len() + 1);
    let mut before = 0;
    for micros in BUCKETS_MICROS {
        let upto = histogram.count_between(0, micros * 1000);
        buckets.push((micros as f64 / 1e6, upto - before));
        before = upto;
    }
    buckets.push((f64::MAX, histogram.len() - before));
    buckets
}

macro_rules! counter_samples {
    ($values:expr; $($name:ident $help:literal,)*) => {
        vec![$(Sample {
            name: concat!("log_", stringify!($name)),
            help: $help,
            kind: Kind::Counter,
            value: $values.$name,
        },)*]
    };
}

/// What the log store counts, as samples.
pub fn store_samples(stats: &Stats) -> Vec<Sample> {
    let mut samples = counter_samples!(stats.counters;
        appends "Batches appended",
        append_bytes "Bytes of batches appended",
        wal_frames "Frames of the write-ahead log written",
        wal_bytes "Bytes of the write-ahead log written, padding included",
        wal_batches "Batches that became durable through the write-ahead log",
        drains "Drains from memory into segments",
        drain_bytes "Bytes drained into segments, padding included",
        direct_drains "Drains on behalf of waiting producers",
        states "State records of partitions written",
        cache_reads "Reads served from memory",
        disk_reads "Reads that needed the disk",
        disk_read_bytes "Bytes read from segments",
        corruptions "Places where stored bytes were not what was written",
        segments_deleted "Segments deleted by retention or request",
        disk_full_refusals "Appends refused because the disk is full",
        compactions "Runs of compaction, each over one partition",
        compactions_without_space "Runs of compaction that found too little space",
        compaction_passes "Passes of compaction over a partition",
        compaction_read_bytes "Bytes that compaction read",
        compaction_written_bytes "Bytes that compaction wrote",
        compaction_segments "Segments that compaction wrote anew",
        compaction_records_removed "Records that compaction removed",
        scrubs "Passes of the scrub over all partitions",
        scrub_read_bytes "Bytes that the scrub read",
        scrub_unreadable_segments "Segments that the disk refused to read for the scrub",
        wal_stalls "Times the write-ahead log had no room for a group",
    );
    let compaction = stats.compaction;
    let gauges = [
        ("log_count", "Logs in memory", stats.logs as u64),
        ("log_dirty_bytes", "Bytes of batches not drained yet", stats.dirty_bytes as u64),
        ("log_cache_bytes", "Bytes of drained batches kept in memory", stats.cache_bytes as u64),
        (
            "log_read_bytes",
            "Bytes of memory with what was read from disk for consumers",
            stats.read_bytes as u64,
        ),
        (
            "log_wal_used_bytes",
            "Bytes of the write-ahead log that a restart would read",
            stats.wal_used_bytes,
        ),
        ("log_wal_files", "Files of the write-ahead log", stats.wal_files as u64),
        ("log_groups_in_flight", "Writes of the write-ahead log in flight", stats.groups_in_flight as u64),
        ("log_open_files", "Segment files open", stats.open_files as u64),
        ("disk_free_bytes", "Estimated free space of the data directory", stats.free_bytes),
        (
            "disk_full",
            "1 while free space is below the reserve and appends are refused",
            stats.disk_full.into(),
        ),
        ("log_damaged", "Logs with known damage", stats.damaged_logs as u64),
        ("log_compacted", "Logs that are compacted", compaction.logs as u64),
        ("log_compaction_running", "1 while compaction is at work", compaction.running.into()),
        (
            "log_compaction_dirty_bytes",
            "Bytes of closed segments that wait for compaction",
            compaction.dirty_bytes,
        ),
        (
            "log_compaction_dirty_permille_max",
            "Largest share of a log that waits for compaction, in thousandths",
            compaction.dirty_permille_max,
        ),
        (
            "log_compaction_ended_seconds",
            "When the last run of compaction ended, in seconds since 1970",
            compaction.ended_at,
        ),
        (
            "log_compaction_took_millis",
            "How long the last run of compaction took",
            u64::try_from(compaction.took.as_millis()).unwrap_or(u64::MAX),
        ),
        (
            "log_scrub_ended_seconds",
            "When the last pass of the scrub ended, in seconds since 1970",
            stats.scrub_ended_at,
        ),
        ("log_scrub_took_seconds", "How long the last pass of the scrub took", stats.scrub_took.as_secs()),
    ];
    samples.extend(gauges.map(|(name, help, value)| Sample { name, help, kind: Kind::Gauge, value }));
    samples
}
