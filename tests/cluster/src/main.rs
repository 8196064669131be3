//! The command line of the harness. How to use it is told at the top of the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use heddle_cluster::cluster::{Cluster, ClusterOptions};
use heddle_cluster::error::HarnessError;
use heddle_cluster::fault::Kind;
use heddle_cluster::load::LoadOptions;
use heddle_cluster::run::{RunOptions, run};
use heddle_cluster::{doctor, up};

#[derive(Debug, Parser)]
#[command(name = "heddle-cluster", about = "Real clusters under faults, checked from outside")]
struct Cli {
    #[command(subcommand)]
    command: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Start a cluster in network namespaces, load it, inject faults, check the history. Takes root.
    Run(RunArguments),
    /// Start a cluster on ports of 127.0.0.1 and stay until Ctrl-C.
    Up(UpArguments),
    /// Try what runs need of this machine: namespaces, cuts, delays, disks. Takes root.
    Doctor,
    /// List the kinds of faults.
    Kinds,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Chooses the faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many faults.
    #[arg(long, default_value_t = 20)]
    faults: usize,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=5))]
    nodes: u32,
    /// Only this kind; may be given several times.
    #[arg(long)]
    kind: Vec<Kind>,
    /// The broker.
    #[arg(long, env = "HEDDLE_BIN", default_value = "target/release/heddle")]
    heddle: PathBuf,
    /// Where disks and logs go, and stay.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// A table of one line per fault.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// Idempotent Kafka writers.
    #[arg(long, default_value_t = 2)]
    kafka_writers: u32,
    /// No native writers.
    #[arg(long)]
    no_native: bool,
    /// No transactional writer.
    #[arg(long)]
    no_transactions: bool,
    /// Records in a second of each Kafka writer, and of all native ones together.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// Size of a value.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(16..=1_000_000))]
    value_bytes: u64,
    /// How long a client tries before it gives a record up, in seconds.
    #[arg(long, default_value_t = 120)]
    delivery_timeout: u64,
    /// Pause before each fault, in seconds.
    #[arg(long, default_value_t = 5)]
    quiet: u64,
    /// How long a recovery may take, in seconds.
    #[arg(long, default_value_t = 120)]
    recovery_max: u64,
    /// Size of each node's disk, in MiB; a sparse file. The defaults write 1.3 GiB in an hour to each.
    #[arg(long, default_value_t = 4096)]
    disk_mib: u64,
    /// Nodes that do not know of each other, of which the first is used: to try the harness itself.
    #[arg(long)]
    standalone: bool,
    /// More of each broker's command line.
    #[arg(last = true)]
    more: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct UpArguments {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    nodes: u32,
    /// Where data and logs are.
    #[arg(long)]
    dir: PathBuf,
    /// The broker.
    #[arg(long, env = "HEDDLE_BIN", default_value = "target/release/heddle")]
    heddle: PathBuf,
    /// First of consecutive ports for clients, peers and admin, instead of those from 9092, 9192 and 9644; 0 finds free
    /// ones.
    #[arg(long)]
    base_port: Option<u16>,
    /// Nodes that do not know of each other.
    #[arg(long)]
    standalone: bool,
    /// More of each broker's command line.
    #[arg(last = true)]
    more: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Order::Run(arguments) => run_all(arguments),
        Order::Up(arguments) => stay_up(arguments).map(|()| true),
        Order::Doctor => doctor::examine().map(|tried| {
            for (what, went_well) in &tried {
                println!("{:<6} {what}", if *went_well { "ok" } else { "FAILED" });
            }
            tried.iter().all(|(_, went_well)| *went_well)
        }),
        Order::Kinds => {
            for kind in Kind::ALL {
                println!("{kind}{}", if kind.is_default() { "" } else { " (only when asked for)" });
            }
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("heddle-cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(arguments: RunArguments) -> Result<bool, HarnessError> {
    let allowed = |kind: &Kind| kind.is_default() && (!arguments.standalone || kind.is_survived_alone());
    let mut kinds = arguments.kind.clone();
    if kinds.is_empty() {
        kinds = Kind::ALL.into_iter().filter(allowed).collect();
    }
    let folder = || std::env::temp_dir().join(format!("heddle-cluster-{}", std::process::id()));
    let options = RunOptions {
        seed: arguments.seed,
        fault_count: arguments.faults,
        kinds,
        cluster: ClusterOptions {
            binary: arguments.heddle,
            dir: arguments.keep.clone().unwrap_or_else(folder),
            node_count: arguments.nodes,
            disk_bytes: arguments.disk_mib << 20,
            peers: !arguments.standalone,
            more: arguments.more,
        },
        load: LoadOptions {
            bootstrap: String::new(),
            topic: "checked".to_owned(),
            partition_count: arguments.partitions,
            kafka_writers: arguments.kafka_writers,
            native: !arguments.no_native,
            transactions: !arguments.no_transactions,
            rate: arguments.rate,
            value_bytes: arguments.value_bytes as usize,
            delivery_timeout: Duration::from_secs(arguments.delivery_timeout),
        },
        quiet: Duration::from_secs(arguments.quiet),
        recovery_max: Duration::from_secs(arguments.recovery_max),
        keep: arguments.keep.is_some(),
        table: arguments.report,
    };
    eprintln!("seed {}, {} faults, in {}", options.seed, options.fault_count, options.cluster.dir.display());
    let report = run(&options)?;
    print!("{report}");
    if !report.is_good() {
        eprintln!("disks and logs are kept in {}", options.cluster.dir.display());
    }
    Ok(report.is_good())
}

fn stay_up(arguments: UpArguments) -> Result<(), HarnessError> {
    let options = ClusterOptions {
        binary: arguments.heddle,
        dir: arguments.dir,
        node_count: arguments.nodes,
        disk_bytes: 0,
        peers: !arguments.standalone,
        more: arguments.more,
    };
    let cluster = Cluster::start_local(options, arguments.base_port)?;
    up::stay(cluster)
}
