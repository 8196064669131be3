//! The command line: arguments and their defaults, nothing else.

use crate::target::Target;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;

/// Open-loop load generator and verifier for Heddle and other Kafka brokers.
///
/// Latency counts from when a record should have been sent, on a fixed schedule, so that a stall of the broker shows
/// up in every record it delayed and not only in the one that met it. Next to a latency stands the limit of the
/// same disk and kernel (`limits`, `run --with-limits`): a naked time says little.
///
/// The generator takes processor time from a broker on the same machine. Measure with both, and say so.
#[derive(Parser, Debug)]
#[command(name = "heddle-loadgen", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Drive a broker with producers and consumers and measure it.
    Run(Box<RunArgs>),
    /// Measure what this disk and this kernel can do at best.
    Limits(LimitsArgs),
    /// Join one consumer group with many members, and measure how long they take to settle.
    Group(GroupArgs),
    /// Kill a broker at random moments under load, and check that every acknowledged record is there.
    Verify(Box<VerifyArgs>),
    /// Make one HTML page, readable without a network, of the folders written by `run --report`.
    Report(ReportArgs),
    /// List the named workloads.
    Workloads,
}

/// Which halves of a run take part.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Producers only.
    Produce,
    /// Consumers only, from the beginning of every partition to where it ends at the start of the run.
    Consume,
    /// Producers, and consumers at the tail; the default when there are consumers.
    Both,
}

/// How native consumers read. Kafka consumers always fetch.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsumeWith {
    /// The broker pushes as credit allows.
    Subscribe,
    /// One long poll after the other.
    Fetch,
}

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The broker: native://host:port or kafka://host:port. Others of its cluster are found from there.
    #[arg(long, default_value = "native://127.0.0.1:9092", env = "HEDDLE_LOADGEN_TARGET")]
    pub target: Target,

    /// Topic to use, created if missing. Several topics are called NAME-0000, NAME-0001, ...
    #[arg(long, default_value = "loadgen")]
    pub topic: String,
    /// Number of topics [default: 1, or the workload's].
    #[arg(long)]
    pub topics: Option<u32>,
    /// Partitions of each topic when it is created [default: 1, or the workload's].
    #[arg(long)]
    pub partitions: Option<u32>,
    /// Replicas of each partition when a topic is created; 0 leaves it to the broker.
    #[arg(long, default_value_t = 0)]
    pub replication_factor: u16,
    /// Setting of a topic when it is created, e.g. durability=async. May be repeated.
    #[arg(long = "config", value_name = "K=V", value_parser = parse_pair)]
    pub configs: Vec<(String, String)>,

    /// A workload of the OpenMessaging Benchmark (see `heddle-loadgen workloads`). Options given beside it win.
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,
    /// Which halves take part [default: both when there are consumers, else produce].
    #[arg(long)]
    pub mode: Option<Mode>,

    /// Bytes of each record's value, at least 16 [default: 1024].
    #[arg(long)]
    pub record_bytes: Option<usize>,
    /// Most bytes of a batch [default: 131072]. Accepts k, m (1024-based): 1m.
    #[arg(long, value_parser = parse_bytes)]
    pub batch_bytes: Option<usize>,
    /// Most records of a batch; 1 sends each record as a batch of its own [default: as --batch-bytes allows].
    #[arg(long)]
    pub batch_records: Option<u32>,
    /// How long the first record of a batch waits for company [default: 0, with a workload 1000].
    #[arg(long)]
    pub linger_us: Option<u64>,
    /// Share of random bytes in each value, 0.0 to 1.0 [default: 1.0].
    #[arg(long)]
    pub random_ratio: Option<f64>,
    /// Number of different values [default: 1000].
    #[arg(long)]
    pub payload_pool: Option<u32>,

    /// Number of different keys, drawn at random for each record; 0: records have no key.
    #[arg(long, default_value_t = 0)]
    pub keys: u64,

    /// Records per second, all producers together. 0: each producer keeps its window full (a closed loop: its
    /// latencies say how deep the window is, not how the broker answers at a load) [default: 1000].
    #[arg(long)]
    pub rate: Option<u64>,
    /// Number of producers; each has its own connection to every broker [default: 1].
    #[arg(long)]
    pub producers: Option<u32>,
    /// Number of consumers, each with its share of the partitions [default: 0].
    #[arg(long)]
    pub consumers: Option<u32>,
    /// Most unanswered batches per connection. A producer that has reached it falls behind its schedule, which counts
    /// as latency.
    #[arg(long, default_value_t = 32)]
    pub in_flight_max: u32,
    /// Acknowledgements to wait for: all (-1), 1 or 0. With 0 latency ends when the batch is in the socket.
    #[arg(long, default_value = "all", value_parser = parse_acks, allow_hyphen_values = true)]
    pub acks: i8,

    /// How long to measure, e.g. 30s, 5m [default: 10s, or the workload's].
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<std::time::Duration>,
    /// How long to warm up before; not measured [default: 2s, or the workload's].
    #[arg(long, value_parser = parse_duration)]
    pub warmup: Option<std::time::Duration>,
    /// How long to wait, after the end, for what is still due or unanswered. What is then unanswered is an error.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub drain: std::time::Duration,

    /// Processors the generator uses, e.g. 1 or 0,2-3: one thread pinned to each. Without it: one thread, not pinned.
    #[arg(long, value_parser = parse_cores)]
    pub cores: Option<CoreList>,
    /// How long a generator thread polls before it sleeps. More makes sends and receipts more punctual and burns
    /// processor time: at 1,000 records/s, 50 us cost about a tenth of a core, and anything above the time between
    /// records a whole one. On a machine shared with the broker a spinning generator competes with it, unless both
    /// have processors of their own (--cores).
    #[arg(long, default_value_t = 50)]
    pub spin_us: u64,

    /// How native consumers read.
    #[arg(long, value_enum, default_value_t = ConsumeWith::Subscribe)]
    pub consume_with: ConsumeWith,
    /// Most bytes of one fetch, or credit of one subscription. Accepts k, m.
    #[arg(long, default_value = "4m", value_parser = parse_bytes)]
    pub fetch_bytes: usize,
    /// Mode consume: begin again at the beginning until the duration is over, as for reads from memory.
    #[arg(long)]
    pub rewind: bool,

    /// Measure the limit of disk and loopback right before and right after, and print the ratio to it.
    #[arg(long)]
    pub with_limits: bool,
    /// Directory on the broker's disk, for the limit.
    #[arg(long, default_value = ".")]
    pub limit_dir: PathBuf,
    /// How long each part of the limit is measured, before and again after.
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    pub limit_duration: std::time::Duration,

    /// Print one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
    /// Write a report folder.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Name of the run in reports [default: from the target and the load].
    #[arg(long)]
    pub name: Option<String>,
    /// Seed of the payloads.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Arguments of `limits`.
#[derive(Args, Clone, Debug)]
pub struct LimitsArgs {
    /// Directory on the disk to measure.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Bytes of one message; writes are this, aligned up to 4 KiB. Accepts k, m.
    #[arg(long, default_value = "1100", value_parser = parse_bytes)]
    pub bytes: usize,
    /// Messages per second; 0: one after another.
    #[arg(long, default_value_t = 1000)]
    pub rate: u64,
    /// Writers, and connections, that share the rate.
    #[arg(long, default_value_t = 1)]
    pub depth: u32,
    /// Also measure an echo in the shape of a produce of one producer to so many nodes on this machine: a durable write on
    /// each, answered when a majority has written.
    #[arg(long, default_value_t = 0)]
    pub replicas: u32,
    /// How long each part is measured.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub duration: std::time::Duration,
    /// Also measure sequential durable writes and direct reads of 512 KiB, four at a time, and one connection over
    /// loopback.
    #[arg(long)]
    pub throughput: bool,
    /// Bytes of the file for --throughput. Accepts k, m, g.
    #[arg(long, default_value = "1g", value_parser = parse_bytes)]
    pub throughput_bytes: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `group`.
#[derive(Args, Clone, Debug)]
pub struct GroupArgs {
    /// A broker to begin with: kafka://host:port.
    #[arg(long)]
    pub target: Target,
    /// The topic that is subscribed to, created if missing.
    #[arg(long, default_value = "group-load")]
    pub topic: String,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 100)]
    pub partitions: u32,
    /// Name of the group.
    #[arg(long, default_value = "group-load")]
    pub group: String,
    /// Members, each with a connection of its own.
    #[arg(long, default_value_t = 100)]
    pub members: u32,
    /// Time between two heartbeats of one member.
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    pub heartbeat: std::time::Duration,
    /// How long they are idle before one leaves.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub duration: std::time::Duration,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// A command that starts the broker. Given several times, they are used in turn, e.g. with another --cores. It
    /// is run directly, without a shell; quotes and backslashes keep words together.
    #[arg(long, value_name = "CMD", required = true)]
    pub serve: Vec<String>,
    /// Where the broker listens: native://host:port or kafka://host:port.
    #[arg(long, default_value = "native://127.0.0.1:9092")]
    pub target: Target,
    /// How often the broker is killed (SIGKILL).
    #[arg(long, default_value_t = 10)]
    pub kills: u32,
    /// Shortest life between the first acknowledgement after a start and the kill.
    #[arg(long, default_value = "200ms", value_parser = parse_duration)]
    pub life_min: std::time::Duration,
    /// Longest such life.
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub life_max: std::time::Duration,
    /// Share of kills that come while the broker is still starting.
    #[arg(long, default_value_t = 0.1)]
    pub early_kills: f64,
    /// Data directory whose write-ahead log is damaged between kill and start, behind its last valid frame, as a
    /// write torn by a power cut would leave it.
    #[arg(long, value_name = "DATA-DIR")]
    pub corrupt_tail: Option<PathBuf>,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 8)]
    pub partitions: u32,
    /// Producers, each to every partition.
    #[arg(long, default_value_t = 4)]
    pub producers: u32,
    /// Unanswered batches of each producer.
    #[arg(long, default_value_t = 16)]
    pub in_flight_max: u32,
    /// Largest value; most records are far smaller. Accepts k, m.
    #[arg(long, default_value = "4k", value_parser = parse_bytes)]
    pub record_bytes_max: usize,
    /// Largest batch; one in a hundred comes near it, so that large writes are tried too. Accepts k, m.
    #[arg(long, default_value = "512k", value_parser = parse_bytes)]
    pub batch_bytes_max: usize,
    /// Batches per second, all producers together; 0 keeps the windows full.
    #[arg(long, default_value_t = 2000)]
    pub rate: u64,
    /// Setting of the topic, e.g. durability=fsync. May be repeated.
    #[arg(long = "config", value_name = "K=V", value_parser = parse_pair)]
    pub configs: Vec<(String, String)>,
    /// Replicas of each partition; 0 leaves it to the broker.
    #[arg(long, default_value_t = 0)]
    pub replication_factor: u16,
    /// Topic; a new one by default, and it must be new.
    #[arg(long)]
    pub topic: Option<String>,
    /// How long a broker may take until it acknowledges.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub ready_max: std::time::Duration,
    /// Seed of kill times, sizes and damage [default: random; it is printed].
    #[arg(long)]
    pub seed: Option<u64>,
    /// File that gets what the brokers print [default: a file in the temporary directory].
    #[arg(long)]
    pub broker_log: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `report`.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// Folders written by `run --report`.
    #[arg(required = true)]
    pub dirs: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, short, default_value = "report.html")]
    pub output: PathBuf,
    /// Title of the page.
    #[arg(long, default_value = "Heddle: measured runs")]
    pub title: String,
}

/// Processors by number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CoreList(pub Vec<usize>);

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form K=V")),
    }
}

fn parse_acks(text: &str) -> Result<i8, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        "0" => Ok(0),
        _ => Err("write all, 1 or 0".to_owned()),
    }
}

/// Bytes with an optional unit k, m or g, in powers of 1024.
fn parse_bytes(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match lower.strip_suffix(['k', 'm', 'g']) {
        Some(digits) if lower.ends_with('k') => (digits, 1 << 10),
        Some(digits) if lower.ends_with('m') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 30),
        None => (lower.as_str(), 1),
    };
    let number: usize =
        digits.parse().map_err(|_| format!("{text:?} is no number of bytes (try 64k, 1m)"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// A duration with its unit: 500us, 200ms, 10s, 5m. A bare number is seconds.
fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is no unit of time: us, ms, s, m, h")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is no duration (try 30s, 5m)"))?;
    std::time::Duration::try_from_secs_f64(number * scale).map_err(|e| e.to_string())
}

fn parse_cores(text: &str) -> Result<CoreList, String> {
    let wrong = || format!("{text:?} is no list of processors (try 1 or 0,2-3)");
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: usize = from.trim().parse().map_err(|_| wrong())?;
        let to: usize = to.trim().parse().map_err(|_| wrong())?;
        if from > to || to > 4095 {
            return Err(wrong());
        }
        cores.extend(from..=to);
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(CoreList(cores))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::time::Duration;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_parsed_or_named() {
        assert_eq!(parse_bytes("64k"), Ok(65_536));
        assert_eq!(parse_bytes("1M"), Ok(1 << 20));
        assert_eq!(parse_bytes("17"), Ok(17));
        assert!(parse_bytes("k").is_err() && parse_bytes("1t").is_err() && parse_bytes("-1").is_err());
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert!(parse_duration("-1s").is_err() && parse_duration("1y").is_err());
        assert_eq!(parse_cores("3,0-1"), Ok(CoreList(vec![0, 1, 3])));
        assert!(parse_cores("1-0").is_err() && parse_cores("a").is_err() && parse_cores("").is_err());
        assert_eq!(parse_pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(parse_pair("=b").is_err() && parse_pair("a").is_err());
        assert_eq!([parse_acks("all"), parse_acks("1")], [Ok(-1), Ok(1)]);
    }
}
