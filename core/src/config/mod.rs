//! What `heddle serve` is told to do: reads the layers (default < file < environment < command line), checks them,
//! and hands over one typed [`Config`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::coordinator::group::GroupConfig;
use crate::metadata::topic_config::TopicConfig;

mod cores;
mod entries;
mod error;
pub mod machine;
pub mod profiles;
mod reference;
mod settings;
#[cfg(test)]
mod tests;
mod value;

pub use cores::CoreSelection;
pub use entries::{ENTRIES, Entry, Kind};
pub use error::ConfigError;
pub use reference::{allowed, markdown};
pub use settings::{Origin, Sources};
pub use value::{format_bytes, split_host_port};

use settings::Settings;

/// Broker ids are `node_id * 1000 + core`, so a node has fewer cores than this.
pub const CORES_PER_NODE_MAX: usize = 1000;

/// What is read for those who lag behind may use one part in so many of the cache.
const READ_DIVISOR: u64 = 4;

/// Unit of direct I/O.
const DISK_BLOCK_BYTES: u64 = 4096;

/// How listening ports are laid out over the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortMode {
    /// Core *i* listens on `port + i` and is a broker of its own.
    PerCore,
    /// All cores accept on one port.
    Single,
}

/// What an acknowledgement promises; a property of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// On stable storage of the commit quorum.
    Fsync,
    /// In memory of the commit quorum, flushed within the flush window.
    Replicated,
    /// In memory of the primary, flushed within the flush window.
    Async,
}

impl Durability {
    /// Every variant, in the order of the documentation.
    pub const ALL: [Durability; 3] = [Durability::Fsync, Durability::Replicated, Durability::Async];

    /// The word used in configuration files and topic configs.
    pub const fn name(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Replicated => "replicated",
            Durability::Async => "async",
        }
    }
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Durability {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Durability::ALL.into_iter().find(|durability| durability.name() == word).ok_or(())
    }
}

/// How a node hears the other nodes of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Address of core 0, resolved.
    pub listen: SocketAddr,
    /// Its host as it was written; what the others are told.
    pub host: String,
    /// The file with the cluster's secret.
    pub secret_file: PathBuf,
}

impl PeerConfig {
    /// Where the others reach core 0.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.listen.port())
    }
}

fn peer_config(settings: &Settings) -> Result<Option<PeerConfig>, ConfigError> {
    let listen = settings.optional_address("peer_listen")?;
    let secret_file = settings.optional_text("peer_secret_file")?.map(PathBuf::from);
    match (listen, secret_file) {
        (Some((host, listen)), Some(secret_file)) => Ok(Some(PeerConfig { listen, host, secret_file })),
        (Some(_), None) => Err(ConfigError::Conflict {
            what: "peer_listen without peer_secret_file".to_owned(),
            advice: "give the file with the secret that all nodes of the cluster share".to_owned(),
        }),
        (None, Some(_)) => Err(ConfigError::Conflict {
            what: "peer_secret_file without peer_listen".to_owned(),
            advice: "give the address at which the other nodes reach this one".to_owned(),
        }),
        (None, None) => Ok(None),
    }
}

/// The checked configuration of one node. Field docs are in [`ENTRIES`], which is also what users read.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// Cluster-wide id of this node.
    pub node_id: u32,
    /// Address of core 0 (and of all cores with [`PortMode::Single`]), resolved.
    pub listen: SocketAddr,
    /// Host part of `listen` as it was written; what clients are told unless `advertised_host` is set.
    pub listen_host: String,
    /// Host clients are told to connect to; `None`: see [`Config::advertised_host`].
    pub advertised_host: Option<String>,
    /// Port clients are told (of core 0 with per-core ports); `None`: the port of `listen`.
    pub advertised_port: Option<u16>,
    /// One port per core or one for all.
    pub port_mode: PortMode,
    /// Address of the admin HTTP server; `None` disables it.
    pub admin: Option<SocketAddr>,
    /// Where this node hears its peers, and the host as it was written.
    pub peers: Option<PeerConfig>,
    /// Whom to ask to be let into a cluster, as it was written.
    pub join: Option<String>,
    /// Where it stands.
    pub rack: Option<String>,
    /// Bytes that one core sends in a second at most to one core of another node for replicas that lag behind.
    pub catch_up_bytes_per_second: u64,
    /// Whether nodes that came get their share, while this node leads the metadata.
    pub fill_new_nodes: bool,
    /// What the user asked for in `cores`.
    pub cores: CoreSelection,
    /// CPU of each core, index = core id. Never empty. A CPU appears twice only if more cores than CPUs were asked for.
    pub cpus: Vec<usize>,
    /// Name of the profile, one of [`profiles::PROFILES`].
    pub profile: String,
    /// How long an idle executor spins before it sleeps.
    pub spin: Duration,
    /// How long an idle CPU may take to wake; `None`: as the machine is set up.
    pub wakeup_latency: Option<Duration>,
    /// Memory budget of one core.
    pub memory_bytes: u64,
    /// Whether freed memory stays with the process.
    pub keep_memory: bool,
    /// Whether the budgets of all cores are touched at start.
    pub touch_memory: bool,
    /// Percent of `memory_bytes` for the tail and read cache.
    pub cache_percent: u8,
    /// Percent of `memory_bytes` for batches not yet drained into segments.
    pub dirty_percent: u8,
    /// Percent of `memory_bytes` for compaction.
    pub compaction_percent: u8,
    /// Bytes that compaction reads and writes in a second at most.
    pub compaction_bytes_per_second: u64,
    /// How often a core looks for something to compact.
    pub compaction_interval: Duration,
    /// Within this time every byte in segments is read again; zero: never.
    pub scrub_interval: Duration,
    /// Bytes that the scrub of one core reads in a second at most.
    pub scrub_bytes_per_second: u64,
    /// Size of one WAL file.
    pub wal_file_bytes: u64,
    /// WAL files of one core.
    pub wal_files_max: usize,
    /// Commit groups of one core being written at once.
    pub groups_in_flight_max: usize,
    /// A commit group with at least this many bytes for one partition skips the WAL.
    pub direct_drain_bytes: u64,
    /// Free disk space below which producers are refused.
    pub reserve_bytes: u64,
    /// Largest request frame accepted from a socket.
    pub frame_bytes_max: usize,
    /// Open client connections of one core.
    pub connections_max: usize,
    /// Whether naming an unknown topic in a metadata request creates it.
    pub auto_create_topics: bool,
    /// Partitions of a topic created without a count.
    pub partition_count_default: u32,
    /// Replication factor of a topic created without one.
    pub replication_factor_default: u16,
    /// Configs a topic created on this node gets unless its creator sets them; checked.
    pub topic_defaults: BTreeMap<String, String>,
    /// Partitions of the topic that groups are kept in.
    pub group_partition_count: u32,
    /// The settings of group coordinators.
    pub groups: Arc<GroupConfig>,
    /// Log filter in `tracing` syntax, e.g. `info` or `info,heddle_core=debug`.
    pub log: String,
    in_force: Vec<(&'static str, String)>,
}

impl Config {
    /// Reads and checks all layers. Reads the config file, `/proc` and `/sys`; resolves host names.
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        let settings = Settings::collect(sources)?;
        let config = Config::from_settings(&settings)?;
        let topic = TopicConfig::parse(&config.topic_defaults)
            .map_err(|why| settings.refuse("topic_defaults", why))?;
        config.check_batches(&topic)?;
        config.check_relations()?;
        Ok(config)
    }

    /// The built-in defaults on this machine, with nothing read from file, environment or command line.
    pub fn defaults() -> Result<Config, ConfigError> {
        Config::load(&Sources::default())
    }

    fn from_settings(settings: &Settings) -> Result<Config, ConfigError> {
        let (listen_host, listen) = settings.address("listen")?;
        let cores: CoreSelection = settings.cores("cores")?;
        let cpus =
            cores.resolve(&machine::usable_cpus()).map_err(|allowed| settings.refuse("cores", allowed))?;
        let memory_bytes = match settings.optional_bytes("memory_bytes")? {
            Some(bytes) => bytes,
            None => default_memory_bytes(machine::memory_limit_bytes(), cpus.len()),
        };
        Ok(Config {
            data_dir: PathBuf::from(settings.text("data_dir")?),
            node_id: settings.count("node_id")?,
            listen,
            listen_host,
            advertised_host: settings.optional_text("advertised_host")?,
            advertised_port: settings.optional_count("advertised_port")?,
            port_mode: match settings.text("port_mode")?.as_str() {
                "single" => PortMode::Single,
                _ => PortMode::PerCore,
            },
            admin: settings.optional_address("admin")?.map(|(_, address)| address),
            peers: peer_config(settings)?,
            join: settings.optional_text("join")?,
            rack: settings.optional_text("rack")?,
            cores,
            cpus,
            profile: settings.text("profile")?,
            spin: Duration::from_micros(settings.count("spin_us")?),
            wakeup_latency: settings.optional_count("wakeup_latency_us")?.map(Duration::from_micros),
            memory_bytes,
            keep_memory: settings.boolean("keep_memory")?,
            touch_memory: settings.boolean("touch_memory")?,
            cache_percent: settings.count("cache_percent")?,
            dirty_percent: settings.count("dirty_percent")?,
            compaction_percent: settings.count("compaction_percent")?,
            compaction_bytes_per_second: settings.bytes("compaction_bytes_per_second")?,
            compaction_interval: Duration::from_millis(settings.count("compaction_interval_ms")?),
            scrub_interval: Duration::from_hours(settings.count("scrub_interval_hours")?),
            catch_up_bytes_per_second: settings.bytes("catch_up_bytes_per_second")?,
            fill_new_nodes: settings.boolean("fill_new_nodes")?,
            scrub_bytes_per_second: settings.bytes("scrub_bytes_per_second")?,
            wal_file_bytes: settings.bytes("wal_file_bytes")?,
            wal_files_max: settings.count("wal_files_max")?,
            groups_in_flight_max: settings.count("groups_in_flight_max")?,
            direct_drain_bytes: settings.bytes("direct_drain_bytes")?,
            reserve_bytes: settings.bytes("reserve_bytes")?,
            frame_bytes_max: settings.bytes("frame_bytes_max")?,
            connections_max: settings.count("connections_max")?,
            auto_create_topics: settings.boolean("auto_create_topics")?,
            partition_count_default: settings.count("partition_count_default")?,
            replication_factor_default: settings.count("replication_factor_default")?,
            topic_defaults: settings.pairs("topic_defaults")?,
            group_partition_count: settings.count("offsets_topic_num_partitions")?,
            groups: Arc::new(group_config(settings)?),
            log: settings.log_filter("log")?,
            in_force: settings.in_force(),
        })
    }

    /// Relations between keys that no single key can be checked for.
    fn check_relations(&self) -> Result<(), ConfigError> {
        let conflict =
            |what: String, advice: &str| Err(ConfigError::Conflict { what, advice: advice.to_owned() });
        if self.cache_percent + self.dirty_percent + self.compaction_percent > 90 {
            return conflict(
                format!(
                    "cache_percent ({}), dirty_percent ({}) and compaction_percent ({}) leave less than 10 % of the memory for connections",
                    self.cache_percent, self.dirty_percent, self.compaction_percent
                ),
                "lower one of them so that together they stay at or below 90",
            );
        }
        if !self.wal_file_bytes.is_multiple_of(DISK_BLOCK_BYTES) {
            return conflict(
                format!("wal_file_bytes ({}) is not a multiple of {DISK_BLOCK_BYTES}", self.wal_file_bytes),
                "direct I/O needs whole blocks: give it in MiB",
            );
        }
        if self.join.is_some() && self.peers.is_none() {
            return conflict(
                "join without peer_listen".to_owned(),
                "a node of a cluster needs peer_listen and peer_secret_file",
            );
        }
        self.check_groups()?;
        self.check_memory()?;
        self.check_ports()
    }

    fn check_batches(&self, topic: &TopicConfig) -> Result<(), ConfigError> {
        if topic.batch_bytes_max < self.frame_bytes_max {
            return Ok(());
        }
        Err(ConfigError::Conflict {
            what: format!(
                "a batch of max.message.bytes ({}) does not fit into a frame of frame_bytes_max ({})",
                topic.batch_bytes_max, self.frame_bytes_max
            ),
            advice: "raise frame_bytes_max, or lower max.message.bytes in topic_defaults".to_owned(),
        })
    }

    fn check_groups(&self) -> Result<(), ConfigError> {
        let ordered = |low: (&str, Duration), high: (&str, Duration)| match low.1 <= high.1 {
            true => Ok(()),
            false => Err(ConfigError::Conflict {
                what: format!(
                    "{} ({} ms) is above {} ({} ms)",
                    low.0,
                    low.1.as_millis(),
                    high.0,
                    high.1.as_millis()
                ),
                advice: "lower the one or raise the other".to_owned(),
            }),
        };
        let groups = &self.groups;
        ordered(
            ("group_min_session_timeout_ms", groups.session_timeout_min),
            ("group_max_session_timeout_ms", groups.session_timeout_max),
        )?;
        ordered(
            ("group_consumer_heartbeat_interval_ms", groups.consumer_heartbeat_interval),
            ("group_consumer_session_timeout_ms", groups.consumer_session_timeout),
        )
    }

    fn check_memory(&self) -> Result<(), ConfigError> {
        if self.touch_memory && !self.keep_memory {
            return Err(ConfigError::Conflict {
                what: "touch_memory without keep_memory would give back what it has just taken".to_owned(),
                advice: "set keep_memory to true or touch_memory to false".to_owned(),
            });
        }
        let frame_bytes = self.frame_bytes_max as u64;
        if frame_bytes <= self.memory_bytes / 2 {
            return Ok(());
        }
        Err(ConfigError::Conflict {
            what: format!(
                "one frame of frame_bytes_max ({}) would take more than half of memory_bytes ({}) of its core",
                format_bytes(frame_bytes),
                format_bytes(self.memory_bytes)
            ),
            advice: "raise memory_bytes or lower frame_bytes_max".to_owned(),
        })
    }

    /// Per-core ports must exist, and the admin server must not sit on one of them.
    fn check_ports(&self) -> Result<(), ConfigError> {
        let first = usize::from(self.listen.port());
        let last = first + self.port_count() - 1;
        if last > usize::from(u16::MAX) {
            return Err(ConfigError::Conflict {
                what: format!(
                    "{} cores with a port each need ports {first} to {last}, and ports end at 65535",
                    self.core_count()
                ),
                advice: "choose a lower port in listen, fewer cores, or port_mode = \"single\"".to_owned(),
            });
        }
        match self.admin {
            Some(admin) if admin.port() != 0 && (first..=last).contains(&usize::from(admin.port())) => {
                Err(ConfigError::Conflict {
                    what: format!(
                        "the admin address {admin} is one of the broker's own ports {first} to {last}"
                    ),
                    advice: "choose another port for admin".to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Number of cores (executors) of this node.
    pub fn core_count(&self) -> usize {
        self.cpus.len()
    }

    /// Number of listening ports, counted up from the port of `listen`.
    pub fn port_count(&self) -> usize {
        match self.port_mode {
            PortMode::PerCore => self.core_count(),
            PortMode::Single => 1,
        }
    }

    /// The address core `index` listens on.
    pub fn listen_of_core(&self, index: usize) -> SocketAddr {
        let mut address = self.listen;
        if self.port_mode == PortMode::PerCore {
            address.set_port(address.port() + index as u16);
        }
        address
    }

    /// Host clients are told: `advertised_host`, else the host of `listen`, else (for a wildcard address) this
    /// machine's host name.
    pub fn advertised_host(&self) -> String {
        match &self.advertised_host {
            Some(host) => host.clone(),
            None if self.listen.ip().is_unspecified() => machine::host_name(),
            None => self.listen_host.clone(),
        }
    }

    /// Port clients are told for core `index`.
    pub fn advertised_port_of_core(&self, index: usize) -> u16 {
        let first = self.advertised_port.unwrap_or(self.listen.port());
        match self.port_mode {
            PortMode::PerCore => first.saturating_add(index as u16),
            PortMode::Single => first,
        }
    }

    /// Every key with its value as written, for DescribeConfigs.
    pub fn entries_in_force(&self) -> Vec<(&'static str, String)> {
        self.in_force.clone()
    }

    /// Configs a new topic gets unless its creator sets them.
    pub fn topic_defaults(&self) -> impl Iterator<Item = (&str, String)> {
        self.topic_defaults.iter().map(|(name, value)| (name.as_str(), value.clone()))
    }

    /// Bytes of the cache of one core for recent batches.
    pub fn cache_bytes(&self) -> u64 {
        self.all_cache_bytes() - self.read_bytes()
    }

    /// Bytes of the cache of one core for what is read for those who lag behind.
    pub fn read_bytes(&self) -> u64 {
        self.all_cache_bytes() / READ_DIVISOR
    }

    fn all_cache_bytes(&self) -> u64 {
        self.memory_bytes / 100 * u64::from(self.cache_percent)
    }

    /// Bytes of not yet drained batches of one core.
    pub fn dirty_bytes(&self) -> u64 {
        self.memory_bytes / 100 * u64::from(self.dirty_percent)
    }

    /// Bytes of one core left for connections: frames in flight and unsent replies.
    pub fn connection_bytes(&self) -> u64 {
        self.memory_bytes
            .saturating_sub(self.all_cache_bytes() + self.dirty_bytes() + self.compaction_bytes())
    }

    /// Bytes of one core for compaction.
    pub fn compaction_bytes(&self) -> u64 {
        self.memory_bytes / 100 * u64::from(self.compaction_percent)
    }
}

/// What an operator may choose about groups; the rest is fixed.
fn group_config(settings: &Settings) -> Result<GroupConfig, ConfigError> {
    let millis = |name| settings.count(name).map(Duration::from_millis);
    Ok(GroupConfig {
        session_timeout_min: millis("group_min_session_timeout_ms")?,
        session_timeout_max: millis("group_max_session_timeout_ms")?,
        initial_rebalance_delay: millis("group_initial_rebalance_delay_ms")?,
        members_max: settings.count("group_max_size")?,
        consumer_session_timeout: millis("group_consumer_session_timeout_ms")?,
        consumer_heartbeat_interval: millis("group_consumer_heartbeat_interval_ms")?,
        offset_metadata_bytes_max: settings.bytes("offset_metadata_max_bytes")?,
        offsets_retention: Duration::from_secs(60 * settings.count::<u64>("offsets_retention_minutes")?),
        offsets_check_interval: millis("offsets_retention_check_interval_ms")?,
        ..GroupConfig::default()
    })
}

/// A quarter of the memory shared by all cores, between 128 MiB (a core needs room for its largest frames) and
/// 4 GiB (beyond that the reader should decide, not a default).
fn default_memory_bytes(limit_bytes: u64, core_count: usize) -> u64 {
    const FLOOR: u64 = 128 << 20;
    const CEILING: u64 = 4 << 30;
    (limit_bytes / 4 / core_count.max(1) as u64).clamp(FLOOR, CEILING)
}
