//! What can be typed: commands, options and their help.

use super::consume::start::StartAt;
use crate::config::{ENTRIES, Entry, Sources, allowed};
use clap::{Arg, ArgMatches, Args, Command as ClapCommand, FromArgMatches, Parser, Subcommand, ValueEnum};
use heddle_proto::batch::Compression;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A durable message broker that speaks Kafka: one pinned thread per CPU core, every core a broker.
#[derive(Debug, Parser)]
#[command(name = "heddle", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker until SIGTERM or SIGINT
    Serve(ServeArgs),
    /// Create, list, describe, alter and delete topics
    Topic(TopicArgs),
    /// Send each line of a file or of standard input as a record
    Produce(ProduceArgs),
    /// Print the records of a topic as they come
    Consume(ConsumeArgs),
    /// List, describe, reset and delete consumer groups
    Group(GroupArgs),
    /// Look at the cluster
    Cluster(ClusterArgs),
    /// Say what is wrong with this machine, and what to do
    Doctor(DoctorArgs),
    /// Print docs/configuration.md
    #[command(hide = true)]
    ConfigReference,
}

impl Command {
    /// Whether errors are to be printed for programs.
    pub fn wants_json(&self) -> bool {
        match self {
            Command::Topic(args) => args.connect.json,
            Command::Produce(args) => args.connect.json,
            Command::Consume(args) => args.connect.json,
            Command::Group(args) => args.connect.json,
            Command::Cluster(args) => args.connect.json,
            Command::Doctor(args) => args.json,
            Command::Serve(_) | Command::ConfigReference => false,
        }
    }
}

/// Which broker, and for whom to print.
#[derive(Clone, Debug, Args)]
pub struct Connect {
    /// Broker to ask first; it names the others
    #[arg(
        long,
        global = true,
        env = "HEDDLE_SERVER",
        default_value = "127.0.0.1:9092",
        value_name = "HOST:PORT"
    )]
    pub server: String,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// The options of `serve`, made from the table of configuration keys.
#[derive(Debug, Default)]
pub struct ServeArgs {
    /// Config file.
    pub file: Option<PathBuf>,
    /// Keys given as options.
    pub values: BTreeMap<String, String>,
}

impl ServeArgs {
    /// These options and the environment as layers of the configuration.
    pub fn sources(&self) -> Sources {
        let sources =
            Sources { file: self.file.clone(), command_line: self.values.clone(), ..Sources::default() };
        sources.read_environment()
    }
}

const FILE: &str = "config";

impl Args for ServeArgs {
    fn augment_args(command: ClapCommand) -> ClapCommand {
        let file = Arg::new(FILE)
            .long(FILE)
            .env("HEDDLE_CONFIG")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file with any of the keys below, `_` for `-`");
        let command = command.arg(file).args(ENTRIES.iter().map(option_of));
        command.after_help("Each option is also read from the environment, as HEDDLE_ and its name in capitals (HEDDLE_DATA_DIR), and from the file.\nThe command line wins over the environment, and the environment over the file.")
    }

    fn augment_args_for_update(command: ClapCommand) -> ClapCommand {
        ServeArgs::augment_args(command)
    }
}

fn option_of(entry: &Entry) -> Arg {
    let plain = |text: &str| text.replace(['`', '*'], "");
    let brief = entry.doc.split_once(". ").map_or(entry.doc, |(first, _)| first).trim_end_matches('.');
    let default = entry.default;
    let allowed = plain(&allowed(entry));
    Arg::new(entry.name)
        .long(entry.option())
        .value_name("VALUE")
        .allow_hyphen_values(true)
        .help(format!("{} [default: {default}]", plain(brief)))
        .long_help(format!("{}\n[allowed: {allowed}] [default: {default}]", plain(entry.doc)))
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = ServeArgs::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(file) = matches.get_one::<PathBuf>(FILE) {
            self.file = Some(file.clone());
        }
        for entry in ENTRIES {
            if let Some(value) = matches.get_one::<String>(entry.name) {
                self.values.insert(entry.name.to_owned(), value.clone());
            }
        }
        Ok(())
    }
}

/// `heddle topic`
#[derive(Debug, Args)]
pub struct TopicArgs {
    /// Which broker.
    #[command(flatten)]
    pub connect: Connect,
    /// What to do.
    #[command(subcommand)]
    pub command: TopicCommand,
}

/// What can be done with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    Create {
        /// Its name
        name: String,
        /// Partitions [default: the broker's]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        partitions: Option<u32>,
        /// Copies of each partition [default: the broker's]
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        replication_factor: Option<u16>,
        /// A config, e.g. retention.ms=3600000 (see docs/configuration.md); may be repeated
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = parse_pair)]
        configs: Vec<(String, String)>,
    },
    /// List all topics
    List,
    /// Show the partitions and configs of a topic
    Describe {
        /// Its name
        name: String,
    },
    /// Change configs of a topic, or add partitions
    Alter {
        /// Its name
        name: String,
        /// New value of a config; NAME= without a value returns it to its default; may be repeated
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = parse_pair)]
        configs: Vec<(String, String)>,
        /// New number of partitions, larger than now
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        partitions: Option<u32>,
    },
    /// Delete a topic and its records
    Delete {
        /// Its name
        name: String,
    },
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a config is written NAME=VALUE, as in retention.ms=3600000".to_owned()),
    }
}

/// When a record counts as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    /// As safe as the topic's durability says
    All,
    /// The primary alone has it
    #[value(name = "1")]
    One,
    /// No reply is waited for
    #[value(name = "0")]
    None,
}

/// `heddle produce`
#[derive(Debug, Args)]
pub struct ProduceArgs {
    /// Which broker.
    #[command(flatten)]
    pub connect: Connect,
    /// Topic; created if the broker creates topics by itself
    pub topic: String,
    /// File to read; standard input if missing or `-`
    pub file: Option<PathBuf>,
    /// Text between key and value on each line (`\t` for a tab); without it records have no key
    #[arg(long, value_name = "TEXT", value_parser = parse_separator)]
    pub key_separator: Option<String>,
    /// Partition to send all to [default: by the key's hash, or in turn]
    #[arg(long)]
    pub partition: Option<u32>,
    /// When a record counts as sent
    #[arg(long, value_enum, default_value = "all")]
    pub acks: Acks,
    /// Compression of batches: none, gzip, snappy, lz4, zstd
    #[arg(long, default_value = "none", value_parser = parse_compression)]
    pub compression: Compression,
}

fn parse_separator(text: &str) -> Result<String, String> {
    match text.replace("\\t", "\t") {
        text if text.is_empty() => Err("the separator must not be empty".to_owned()),
        text => Ok(text),
    }
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    let names = || Compression::ALL.map(Compression::name).join(", ");
    Compression::ALL
        .into_iter()
        .find(|compression| compression.name() == text)
        .ok_or_else(|| format!("allowed are {}", names()))
}

/// How records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The value and a newline
    Raw,
    /// One JSON object a line: topic, partition, offset, timestamp, key, value, headers
    Json,
}

/// `heddle consume`
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// Which broker.
    #[command(flatten)]
    pub connect: Connect,
    /// Topic
    pub topic: String,
    /// Where to start: beginning, end, an offset, or a time (2026-01-31T12:00:00Z, or @ and milliseconds since 1970)
    #[arg(long, default_value = "beginning", value_name = "WHERE", value_parser = StartAt::parse, allow_hyphen_values = true)]
    pub from: StartAt,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    pub max: Option<u64>,
    /// Stop at the end as it was when the command started
    #[arg(long)]
    pub until_end: bool,
    /// Only this partition
    #[arg(long)]
    pub partition: Option<u32>,
    /// How to print records [default: raw, or json with --json]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Share the topic with a consumer group
    #[arg(long)]
    pub group: Option<String>,
}

/// `heddle group`
#[derive(Debug, Args)]
pub struct GroupArgs {
    /// Which broker.
    #[command(flatten)]
    pub connect: Connect,
    /// What to do.
    #[command(subcommand)]
    pub command: GroupCommand,
}

/// What can be done with groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List all groups
    List,
    /// Show the members of a group, what it has committed, and how far behind it is
    Describe {
        /// Its name
        group: String,
    },
    /// Move what a group without members has committed
    Reset(ResetArgs),
    /// Delete a group without members, and what it has committed
    Delete {
        /// Its name
        group: String,
    },
}

/// `heddle group reset`
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Its name
    pub group: String,
    /// Where to: earliest, latest, an offset, or a time (2026-01-31T12:00:00Z, or @ and milliseconds since 1970)
    #[arg(long, value_name = "WHERE", value_parser = parse_reset)]
    pub to: StartAt,
    /// Only this topic, with all its partitions; may be repeated [default: all that the group has committed]
    #[arg(long = "topic", value_name = "NAME")]
    pub topics: Vec<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// As where to start consuming, and Kafka's two words for the ends.
fn parse_reset(text: &str) -> Result<StartAt, String> {
    match text {
        "earliest" => Ok(StartAt::Beginning),
        "latest" => Ok(StartAt::End),
        text => StartAt::parse(text).map_err(|allowed| allowed.replace("beginning, end", "earliest, latest")),
    }
}

/// `heddle cluster`
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Which broker.
    #[command(flatten)]
    pub connect: Connect,
    /// What to do.
    #[command(subcommand)]
    pub command: ClusterCommand,
}

/// What can be asked of the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show who leads the metadata, what is not fully replicated, what moves, and the nodes
    Status,
    /// List the nodes, and what each leads and holds
    Nodes,
    /// Have a node give its leadership and its replicas to the others, and get none
    Drain {
        /// Its id
        node: u32,
        /// Let it take replicas again
        #[arg(long)]
        undo: bool,
    },
    /// Take a node that is stopped and holds nothing out of the cluster for good
    Remove {
        /// Its id
        node: u32,
    },
    /// Move the replicas of a partition, or say which node is to lead it
    Move {
        /// The topic
        topic: String,
        /// The partition
        partition: u32,
        /// Ids of the nodes that are to have it, the preferred primary first, as in 1,2,3
        #[arg(value_delimiter = ',', required_unless_present = "cancel", conflicts_with = "cancel")]
        nodes: Vec<u32>,
        /// Take the move under way back
        #[arg(long)]
        cancel: bool,
    },
    /// Show where the time of requests goes on a node, stage by stage
    Latency(LatencyArgs),
}

/// `heddle cluster latency`
#[derive(Clone, Debug, Args)]
pub struct LatencyArgs {
    /// Seconds each table covers
    #[arg(long, default_value_t = 2.0, value_parser = clap::value_parser!(f64))]
    pub interval: f64,
    /// Tables to print; 0: until interrupted
    #[arg(long, default_value_t = 0)]
    pub count: u32,
    /// Everything since the broker started, once, instead of what happens now
    #[arg(long)]
    pub since_start: bool,
    /// Cores one by one instead of together
    #[arg(long)]
    pub by_core: bool,
}

/// `heddle doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The options the broker would be started with.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn every_configuration_key_is_an_option_of_serve() {
        for entry in ENTRIES {
            let line = format!("heddle serve --{} x", entry.option());
            let Command::Serve(args) = parse(&line).unwrap() else { panic!("not serve") };
            assert_eq!(args.values.get(entry.name).map(String::as_str), Some("x"));
        }
    }

    #[test]
    fn the_designs_examples_parse() {
        for line in [
            "heddle serve --config heddle.toml --data-dir ./heddle-data --listen 127.0.0.1:9092 --cores 0,2-3 --port-mode single --admin none",
            "heddle topic create a --partitions 3 --replication-factor 1 --config retention.ms=1 --config durability=async",
            "heddle topic list --json --server host:1",
            "heddle topic --server host:1 describe a",
            "heddle topic alter a --config retention.ms=",
            "heddle topic delete a",
            "heddle produce a --key-separator : file",
            "heddle produce a --acks 0 --compression zstd",
            "heddle consume a --from beginning --max 3 --format json",
            "heddle consume a --from @1700000000000 --partition 2 --until-end",
            "heddle consume a --group g",
            "heddle group list --json",
            "heddle group describe g",
            "heddle group reset g --to earliest",
            "heddle group reset g --to 42 --topic a --topic b --dry-run",
            "heddle group delete g --server host:1",
            "heddle cluster status --json",
            "heddle cluster nodes --server host:1",
            "heddle cluster drain 3",
            "heddle cluster drain 3 --undo",
            "heddle cluster remove 3",
            "heddle cluster move orders 0 1,2,3",
            "heddle cluster move orders 0 --cancel",
            "heddle doctor --json --data-dir /x",
            "heddle config-reference",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_is_allowed() {
        for (line, expected) in [
            ("heddle topic create a --partitions 0", "partitions"),
            ("heddle topic create a --config retention", "NAME=VALUE"),
            ("heddle produce a --compression brotli", "none, gzip, snappy, lz4, zstd"),
            ("heddle produce a --acks 2", "all"),
            ("heddle consume a --from yesterday", "beginning"),
            ("heddle group reset g --to yesterday", "earliest"),
            ("heddle group reset g", "--to"),
            ("heddle serve --data-dri x", "--data-dir"),
        ] {
            let message = parse(line).unwrap_err().to_string();
            assert!(message.contains(expected), "{line}: {message}");
        }
    }
}
