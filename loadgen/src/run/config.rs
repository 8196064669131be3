//! What a run does, with every default and workload resolved.

use crate::batch_pool::{PayloadShape, records_that_fit};
use crate::cli::{ConsumeWith, CoreList, Mode, RunArgs};
use crate::schedule::BatchRule;
use crate::stamp::STAMP_BYTES;
use crate::target::{Protocol, Target, TopicPlan};
use crate::workload::{self, Workload};
use serde::Serialize;
use std::time::Duration;

const RECORD_BYTES: usize = 1024;
const RATE: u64 = 1000;
const DURATION: Duration = Duration::from_secs(10);
const WARMUP: Duration = Duration::from_secs(2);
const PAYLOAD_POOL: u32 = 1000;
/// Largest batch brokers take: Heddle's hard limit.
const BATCH_BYTES_MAX: usize = heddle_proto::limits::BATCH_BYTES_MAX;

/// A run, complete.
#[derive(Clone, Debug, Serialize)]
pub struct RunConfig {
    /// Name in reports.
    pub name: String,
    /// The broker.
    pub target: String,
    /// How to speak to it.
    pub protocol: Protocol,
    /// `host:port` to begin with.
    pub address: String,
    /// Workload it was derived from, if any.
    pub workload: Option<String>,
    /// Which halves take part.
    pub mode: Mode,
    /// Topic names.
    pub topics: Vec<String>,
    /// Partitions of each, when created.
    pub partitions_per_topic: u32,
    /// Replicas of each partition, when created; 0: the broker's default.
    pub replication_factor: u16,
    /// Settings of each topic, when created.
    pub configs: Vec<(String, String)>,
    /// Bytes of each value.
    pub record_bytes: usize,
    /// Most bytes of a batch.
    pub batch_bytes: usize,
    /// Most records of a batch.
    pub batch_records: u32,
    /// How long a batch waits for company, in microseconds.
    pub linger_us: u64,
    /// Share of random bytes.
    pub random_ratio: f64,
    /// Different values.
    pub payload_pool: u32,
    /// Different keys; 0: none.
    pub keys: u64,
    /// Seed of the values.
    pub seed: u64,
    /// Records per second; 0: closed loop.
    pub rate: u64,
    /// Producers.
    pub producers: u32,
    /// Consumers.
    pub consumers: u32,
    /// Times every record is consumed.
    pub subscriptions: u32,
    /// Unanswered batches per connection.
    pub in_flight_max: u32,
    /// -1, 1 or 0.
    pub acks: i8,
    /// How long it measures.
    pub duration: Duration,
    /// How long it warms up.
    pub warmup: Duration,
    /// How long it waits for what is left.
    pub drain: Duration,
    /// Processors, one thread each; `None`: one thread anywhere.
    pub cores: Option<CoreList>,
    /// Polling before sleeping, in microseconds.
    pub spin_us: u64,
    /// How native consumers read.
    pub consume_with: ConsumeWith,
    /// Bytes of one fetch, or credit.
    pub fetch_bytes: usize,
    /// Mode consume begins again until the time is over.
    pub rewind: bool,
}

impl RunConfig {
    /// Resolves arguments, workload and defaults, in this order.
    pub fn resolve(args: &RunArgs) -> Result<Self, String> {
        let workload = match &args.workload {
            Some(name) => Some(workload::by_name(name).ok_or_else(|| {
                format!("no workload is called {name:?}; `heddle-loadgen workloads` lists them")
            })?),
            None => None,
        };
        let w = workload.as_ref();
        let topic_count = args.topics.or(w.map(|w| w.topic_count)).unwrap_or(1);
        let record_bytes = args.record_bytes.or(w.map(|w| w.record_bytes)).unwrap_or(RECORD_BYTES);
        let batch_bytes = args.batch_bytes.unwrap_or(workload::BATCH_BYTES);
        check_sizes(args, topic_count, record_bytes, batch_bytes)?;
        let consumers = args.consumers.or(w.map(|w| w.consumers_per_topic * w.topic_count)).unwrap_or(0);
        let mode = args.mode.unwrap_or(if consumers > 0 { Mode::Both } else { Mode::Produce });
        let fitting = records_that_fit(record_bytes, batch_bytes, args.keys > 0);
        let linger = w.map_or(Duration::ZERO, |_| workload::LINGER);
        let config = Self {
            name: String::new(),
            target: args.target.to_string(),
            protocol: args.target.protocol,
            address: args.target.address.clone(),
            workload: args.workload.clone(),
            mode,
            topics: TopicPlan::names(&args.topic, topic_count),
            partitions_per_topic: args.partitions.or(w.map(|w| w.partitions_per_topic)).unwrap_or(1),
            replication_factor: args.replication_factor,
            configs: args.configs.clone(),
            record_bytes,
            batch_bytes,
            batch_records: args.batch_records.unwrap_or(fitting).min(fitting),
            linger_us: args.linger_us.unwrap_or(linger.as_micros() as u64),
            random_ratio: args.random_ratio.or(w.map(|w| w.random_ratio)).unwrap_or(1.0),
            payload_pool: args.payload_pool.or(w.map(|w| w.payload_pool)).unwrap_or(PAYLOAD_POOL),
            keys: args.keys,
            seed: args.seed,
            rate: args.rate.or(w.map(|w| w.rate)).unwrap_or(RATE),
            producers: producer_count(args, w, mode),
            consumers: if mode == Mode::Produce { 0 } else { consumers.max(1) },
            subscriptions: w.map_or(1, |w| w.subscriptions_per_topic),
            in_flight_max: args.in_flight_max,
            acks: args.acks,
            duration: args.duration.or(w.map(|w| w.duration)).unwrap_or(DURATION),
            warmup: args.warmup.unwrap_or(default_warmup(mode, w)),
            drain: args.drain,
            cores: args.cores.clone(),
            spin_us: args.spin_us,
            consume_with: args.consume_with,
            fetch_bytes: args.fetch_bytes,
            rewind: args.rewind,
        };
        let name = args.name.clone().unwrap_or_else(|| config.default_name());
        Ok(Self { name, ..config })
    }

    /// The broker.
    pub fn target(&self) -> Target {
        Target { protocol: self.protocol, address: self.address.clone() }
    }

    /// Topics to create.
    pub fn topic_plan(&self) -> TopicPlan {
        TopicPlan {
            names: self.topics.clone(),
            partition_count: self.partitions_per_topic,
            replication_factor: self.replication_factor,
            configs: self.configs.clone(),
        }
    }

    /// When records become batches.
    pub fn batch_rule(&self) -> BatchRule {
        BatchRule { records_max: self.batch_records, linger: Duration::from_micros(self.linger_us) }
    }

    /// What values look like, for generator thread `thread`.
    pub fn payload_shape(&self, thread: usize) -> PayloadShape {
        PayloadShape {
            record_bytes: self.record_bytes,
            random_ratio: self.random_ratio,
            pool: self.payload_pool,
            keys: self.keys,
            seed: self.seed.wrapping_add(thread as u64),
        }
    }

    /// Records one batch holds at this rate and linger, about: the size the limit is measured with.
    pub fn typical_batch_records(&self) -> u32 {
        if self.rate == 0 {
            return self.batch_records;
        }
        let per_producer = self.rate as f64 / f64::from(self.producers.max(1));
        let lingered = 1.0 + per_producer * self.linger_us as f64 / 1e6;
        (lingered as u32).clamp(1, self.batch_records)
    }

    fn default_name(&self) -> String {
        if let Some(workload) = &self.workload {
            return format!("{workload} {}", self.target);
        }
        let rate = if self.rate == 0 { "max".to_owned() } else { format!("{}/s", self.rate) };
        let (topics, partitions) = (self.topics.len(), self.partitions_per_topic);
        format!("{rate} x {} B, {topics}x{partitions} partitions, {}", self.record_bytes, self.target)
    }
}

fn producer_count(args: &RunArgs, workload: Option<&Workload>, mode: Mode) -> u32 {
    match mode {
        Mode::Consume => 0,
        _ => args.producers.or(workload.map(|w| w.producers_per_topic * w.topic_count)).unwrap_or(1).max(1),
    }
}

fn default_warmup(mode: Mode, workload: Option<&Workload>) -> Duration {
    match (mode, workload) {
        (Mode::Consume, _) => Duration::ZERO,
        (_, Some(_)) => workload::WARMUP,
        (_, None) => WARMUP,
    }
}

fn check_sizes(args: &RunArgs, topics: u32, record_bytes: usize, batch_bytes: usize) -> Result<(), String> {
    if record_bytes < STAMP_BYTES {
        return Err(format!(
            "--record-bytes is {record_bytes}; at least {STAMP_BYTES} are needed for the stamp"
        ));
    }
    if record_bytes.max(batch_bytes) + 100 > BATCH_BYTES_MAX {
        return Err(format!("records and batches end at {BATCH_BYTES_MAX} bytes"));
    }
    if args.partitions == Some(0) || topics == 0 || args.in_flight_max == 0 || args.batch_records == Some(0) {
        return Err("--topics, --partitions, --in-flight-max and --batch-records are at least 1".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn resolve(arguments: &str) -> Result<RunConfig, String> {
        let words = ["heddle-loadgen", "run"].into_iter().chain(arguments.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(args) => RunConfig::resolve(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_send_what_is_due_at_once() {
        let config = resolve("").unwrap();
        assert_eq!((config.rate, config.record_bytes, config.producers), (1000, 1024, 1));
        assert_eq!((config.mode, config.linger_us), (Mode::Produce, 0));
        assert_eq!(config.batch_records, 125);
        assert_eq!(config.typical_batch_records(), 1);
    }

    #[test]
    fn a_workload_fills_in_and_options_win() {
        let config =
            resolve("--workload 1-topic-100-partitions-1kb-4p-4c-200k --duration 5s --rate 10").unwrap();
        assert_eq!((config.partitions_per_topic, config.producers, config.consumers), (100, 4, 4));
        assert_eq!((config.duration, config.warmup), (Duration::from_secs(5), Duration::from_secs(60)));
        assert_eq!((config.rate, config.linger_us, config.mode), (10, 1000, Mode::Both));
        assert!(resolve("--workload nope").unwrap_err().contains("nope"));
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        assert!(resolve("--record-bytes 15").unwrap_err().contains("16"));
        assert!(resolve("--batch-bytes 16m").is_err());
        assert!(resolve("--partitions 0").is_err());
    }

    #[test]
    fn consume_mode_has_consumers_and_no_producers() {
        let config = resolve("--mode consume --producers 4").unwrap();
        assert_eq!((config.producers, config.consumers, config.warmup), (0, 1, Duration::ZERO));
    }
}
