//! The one table of configuration keys: name, kind and range, default, meaning. The command line, the environment,
//! the file and `docs/configuration.md` are all made from it.

use super::profiles;
use heddle_proto::limits::FRAME_BYTES_MAX;

/// What a key's value looks like and what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file system path.
    Path,
    /// Free text.
    Text,
    /// `HOST:PORT`.
    Address,
    /// `auto`, a count or a list of CPUs.
    Cores,
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number in this range, both ends included.
    Count(u64, u64),
    /// A size in this range, both ends included.
    Bytes(u64, u64),
    /// `NAME=VALUE` pairs separated by commas, or a TOML table.
    Pairs,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// In the file as is; on the command line with `-` for `_`; in the environment as `HEDDLE_` and upper case.
    pub name: &'static str,
    /// Heading of the reference it stands under.
    pub section: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// A word allowed besides the kind's values (`auto`, `none`), meaning "not set".
    pub unset: Option<&'static str>,
    /// As a user would write it.
    pub default: &'static str,
    /// Meaning, and why the default is what it is.
    pub doc: &'static str,
}

impl Entry {
    /// The command line option, without the dashes in front.
    pub fn option(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("HEDDLE_{}", self.name.to_ascii_uppercase())
    }

    /// The key called `name`.
    pub fn find(name: &str) -> Option<&'static Entry> {
        ENTRIES.iter().find(|entry| entry.name == name)
    }

    /// The key spelled most like `name`, if any is close.
    pub fn nearest(name: &str) -> Option<&'static str> {
        const SIMILARITY_MIN: f64 = 0.75;
        let name = name.to_ascii_lowercase().replace('-', "_");
        let scored = ENTRIES.iter().map(|entry| (strsim::jaro_winkler(&name, entry.name), entry.name));
        scored
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(score, _)| *score >= SIMILARITY_MIN)
            .map(|(_, name)| name)
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const NODE: &str = "Node and network";
const CLUSTER: &str = "Cluster";
const CORES: &str = "Cores and memory";
const STORAGE: &str = "Storage";
const TOPICS: &str = "Topics";
const GROUPS: &str = "Consumer groups";
const LOGGING: &str = "Logging";

/// A key without a word for "not set".
const fn entry(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Entry {
    Entry { name, section, kind, unset: None, default, doc }
}

/// A key that may be left unset with the word `unset`.
const fn optional(unset: &'static str, entry: Entry) -> Entry {
    Entry { unset: Some(unset), ..entry }
}

/// Every key of the broker, in the order of the reference.
pub const ENTRIES: &[Entry] = &[
    entry(
        NODE,
        "data_dir",
        Kind::Path,
        "./heddle-data",
        "Directory of everything durable. Created if missing. Belongs to one node and is locked while in use.",
    ),
    entry(
        NODE,
        "node_id",
        Kind::Count(1, 2_147_482),
        "1",
        "Id of this node in its cluster, written into the data directory at the first start. Kafka clients see core *i* as broker `node_id * 1000 + i`, which sets the upper limit.",
    ),
    entry(
        NODE,
        "listen",
        Kind::Address,
        "127.0.0.1:9092",
        "Address for Kafka and native clients. With per-core ports this is core 0, and core *i* listens on the port plus *i*. The default is reachable from this machine only; use `0.0.0.0:9092` together with `advertised_host` for others.",
    ),
    optional(
        "none",
        entry(
            NODE,
            "advertised_host",
            Kind::Text,
            "none",
            "Host name or address that clients are told to connect to. `none` tells them the host of `listen`, or this machine's host name if `listen` is a wildcard address.",
        ),
    ),
    optional(
        "none",
        entry(
            NODE,
            "advertised_port",
            Kind::Count(1, 65_535),
            "none",
            "Port that clients are told, where a proxy or a container maps it; of core 0 with per-core ports. `none` tells them the port of `listen`.",
        ),
    ),
    entry(
        NODE,
        "port_mode",
        Kind::Choice(&["per-core", "single"]),
        "per-core",
        "`per-core`: every core has a port, and clients talk straight to the core that owns a partition. `single`: one port for all, for NAT and containers; requests for other cores take one more hop inside the node.",
    ),
    optional(
        "none",
        entry(
            NODE,
            "admin",
            Kind::Address,
            "127.0.0.1:9644",
            "Address of the admin HTTP server (`/metrics`, `/health/live`, `/health/ready`). `none` disables it.",
        ),
    ),
    entry(
        NODE,
        "connections_max",
        Kind::Count(1, 1_000_000),
        "4000",
        "Open client connections per core. A connection above it is closed at once and counted. `heddle doctor` compares it with the open-file limit.",
    ),
    entry(
        NODE,
        "frame_bytes_max",
        Kind::Bytes(64 * KIB, FRAME_BYTES_MAX as u64),
        "32MiB",
        "Largest request accepted, checked before any memory is allocated for it. A core has room for at least two.",
    ),
    entry(
        NODE,
        "auto_create_topics",
        Kind::Boolean,
        "true",
        "Whether a client that asks for the metadata of an unknown topic creates it, as Kafka's `auto.create.topics.enable`.",
    ),
    optional(
        "none",
        entry(
            CLUSTER,
            "peer_listen",
            Kind::Address,
            "none",
            "Address for the other nodes of the cluster, as they reach this one: core *i* listens on the port plus *i*. Needs `peer_secret_file`. `none` for a node that is alone.",
        ),
    ),
    optional(
        "none",
        entry(
            CLUSTER,
            "peer_secret_file",
            Kind::Path,
            "none",
            "File with the secret that all nodes of a cluster share, at least 16 bytes; white space around it is left out. Whoever knows it is taken for a node.",
        ),
    ),
    optional(
        "none",
        entry(
            CLUSTER,
            "join",
            Kind::Address,
            "none",
            "`peer_listen` of any node of the cluster that this node is to join at its first start. Once its data directory belongs to a cluster it is not looked at again. `none` founds a cluster.",
        ),
    ),
    optional(
        "none",
        entry(
            CLUSTER,
            "rack",
            Kind::Text,
            "none",
            "Where this node stands. Replicas of a partition go to different racks where there are several.",
        ),
    ),
    entry(
        CLUSTER,
        "catch_up_bytes_per_second",
        Kind::Bytes(MIB, TIB),
        "256MiB",
        "Bytes of records that one core sends in a second at most to one core of another node for replicas that lag behind, so that those that keep up are not held up.",
    ),
    entry(
        CLUSTER,
        "fill_new_nodes",
        Kind::Boolean,
        "true",
        "Whether a node that has joined, or is no longer drained, gets its share of the partitions that were there before. The node that leads the metadata goes by its own value, so it is to be the same on all. Where it is false nothing moves, and what is due moves when it becomes true.",
    ),
    entry(
        CORES,
        "cores",
        Kind::Cores,
        "auto",
        "`auto`: one core per CPU this process may use. `4`: that many, on the first CPUs. `0,2-3`: those CPUs (`2-2` is CPU 2 alone). A count above the number of CPUs makes cores share CPUs, which is for tests. The count may change between starts; data stays where it is.",
    ),
    entry(
        CORES,
        "profile",
        Kind::Choice(profiles::NAMES),
        "balanced",
        "Sets several keys at once; each can still be set by hand. See [Profiles](#profiles).",
    ),
    entry(
        CORES,
        "spin_us",
        Kind::Count(0, 1_000_000),
        "20",
        "Microseconds an idle core looks for work before it sleeps. 0 saves the most CPU. Much more than a durable write takes does not pay when cores share a CPU with the kernel's own work for the disk, which then waits for the core.",
    ),
    optional(
        "none",
        entry(
            CORES,
            "wakeup_latency_us",
            Kind::Count(0, 1_000_000),
            "none",
            "Longest time in microseconds that an idle CPU of this machine may take to wake while the broker runs (the kernel's PM QoS); 0 keeps them all awake. Takes write permission on `/dev/cpu_dma_latency`; without it the broker says so and goes on. `none` asks for nothing.",
        ),
    ),
    optional(
        "auto",
        entry(
            CORES,
            "memory_bytes",
            Kind::Bytes(32 * MIB, TIB),
            "auto",
            "Memory budget of one core: cache, batches not yet in segments, requests and replies in flight. Over it, the core stops reading from its sockets. `auto`: a quarter of the memory (of the machine or the container) divided by the number of cores, between 128 MiB and 4 GiB.",
        ),
    ),
    entry(
        CORES,
        "keep_memory",
        Kind::Boolean,
        "true",
        "Whether memory that was used once stays with the process instead of going back to the kernel when it is free. Its size is then that of the busiest moment, which `memory_bytes` bounds, and later bursts do not wait for the kernel to find and clear pages.",
    ),
    entry(
        CORES,
        "touch_memory",
        Kind::Boolean,
        "false",
        "Whether `memory_bytes` of each core are taken from the kernel at start, in the background, instead of page by page as they are first used. A first use costs a request up to milliseconds (on a virtual machine tens of them); the process has its full size from the start. Needs `keep_memory`.",
    ),
    entry(
        CORES,
        "cache_percent",
        Kind::Count(1, 80),
        "40",
        "Share of `memory_bytes` for consumers: three quarters of it for the cache of recent batches, one for what is read from disk for those who lag behind.",
    ),
    entry(
        CORES,
        "dirty_percent",
        Kind::Count(5, 80),
        "30",
        "Share of `memory_bytes` for batches that are durable in the WAL but not yet in segments. What is left belongs to connections; at least 10 % must be.",
    ),
    entry(
        CORES,
        "compaction_percent",
        Kind::Count(1, 50),
        "5",
        "Share of `memory_bytes` for the table of the newest record of each key while a partition is compacted; 24 bytes for a key. With less, compaction reads a partition more often.",
    ),
    entry(
        STORAGE,
        "compaction_bytes_per_second",
        Kind::Bytes(MIB, TIB),
        "64MiB",
        "Bytes that compaction on one core reads and writes in a second at most.",
    ),
    entry(
        STORAGE,
        "compaction_interval_ms",
        Kind::Count(100, 3_600_000),
        "15000",
        "How often a core looks for a partition to compact, as Kafka's `log.cleaner.backoff.ms`.",
    ),
    entry(
        STORAGE,
        "scrub_interval_hours",
        Kind::Count(0, 8760),
        "168",
        "Within this time every byte in segments is read again and held against its checksum, in the background, so that rot is found while a backup can still mend it. 0: never.",
    ),
    entry(
        STORAGE,
        "scrub_bytes_per_second",
        Kind::Bytes(MIB, TIB),
        "64MiB",
        "Bytes that the scrub of one core reads in a second at most. It reads only as fast as the interval asks for; where this is too little for that, the log says so.",
    ),
    entry(
        STORAGE,
        "wal_file_bytes",
        Kind::Bytes(MIB, GIB),
        "64MiB",
        "Size of one write-ahead log file, a multiple of 4096 bytes. Files are zeroed before use and recycled.",
    ),
    entry(
        STORAGE,
        "wal_files_max",
        Kind::Count(3, 1024),
        "6",
        "Write-ahead log files per core. Together with `wal_file_bytes` it bounds both the disk space of the WAL and the time a restart needs.",
    ),
    entry(
        STORAGE,
        "groups_in_flight_max",
        Kind::Count(1, 64),
        "4",
        "Commit groups of one core being written at the same time. More raises throughput of small writes on devices with deep queues.",
    ),
    entry(
        STORAGE,
        "direct_drain_bytes",
        Kind::Bytes(4 * KIB, 448 * KIB),
        "256KiB",
        "A commit group that holds at least this much for one partition is written straight into the segment instead of the WAL, so that large batches are written once.",
    ),
    entry(
        STORAGE,
        "reserve_bytes",
        Kind::Bytes(0, TIB),
        "512MiB",
        "Free disk space to keep. Below it producers get a retryable error while consumers go on, so that the disk is never truly full.",
    ),
    entry(
        TOPICS,
        "partition_count_default",
        Kind::Count(1, 100_000),
        "1",
        "Partitions of a topic that is created without saying how many, also by auto-creation. One keeps a topic in one order, which is what a first produce and consume expect; ask for more where throughput matters.",
    ),
    entry(
        TOPICS,
        "replication_factor_default",
        Kind::Count(1, 7),
        "1",
        "Copies of each partition of a topic that is created without saying how many.",
    ),
    optional(
        "none",
        entry(
            TOPICS,
            "topic_defaults",
            Kind::Pairs,
            "none",
            "Configs (see below) that a topic created on this node gets unless its creator sets them: `retention.ms=3600000,durability=replicated`, or a table `[topic_defaults]` in the file. They become part of the topic, so a later change here does not touch topics that exist.",
        ),
    ),
    entry(
        GROUPS,
        "offsets_topic_num_partitions",
        Kind::Count(1, 1_000),
        "16",
        "Partitions of `__consumer_offsets`, in which groups are kept. Read when the first group makes the topic; later changes do nothing. Each partition's coordinator runs on the core that owns it, so that groups spread over the cores.",
    ),
    entry(GROUPS, "group_max_size", Kind::Count(1, 100_000), "10000", "Most members of one group."),
    entry(
        GROUPS,
        "group_min_session_timeout_ms",
        Kind::Count(1, 86_400_000),
        "6000",
        "Shortest session timeout that a member of a classic group may ask for.",
    ),
    entry(
        GROUPS,
        "group_max_session_timeout_ms",
        Kind::Count(1, 86_400_000),
        "1800000",
        "Longest session timeout that a member of a classic group may ask for: how long a group waits for a member that died.",
    ),
    entry(
        GROUPS,
        "group_initial_rebalance_delay_ms",
        Kind::Count(0, 600_000),
        "3000",
        "How long the first rebalance of an empty classic group waits for more members, so that a fleet that starts together is not rebalanced for each of its members. 0 makes tests fast.",
    ),
    entry(
        GROUPS,
        "group_consumer_session_timeout_ms",
        Kind::Count(1, 86_400_000),
        "45000",
        "How long a member of a consumer group (KIP-848) may be silent.",
    ),
    entry(
        GROUPS,
        "group_consumer_heartbeat_interval_ms",
        Kind::Count(1, 86_400_000),
        "5000",
        "How often members of consumer groups (KIP-848) are asked to call. Must be shorter than their session timeout.",
    ),
    entry(
        GROUPS,
        "offset_metadata_max_bytes",
        Kind::Bytes(0, MIB),
        "4KiB",
        "Longest text that a client may commit with an offset.",
    ),
    entry(
        GROUPS,
        "offsets_retention_minutes",
        Kind::Count(1, 100_000_000),
        "10080",
        "How long committed offsets outlive the last member of their group, or the last subscriber of their topic.",
    ),
    entry(
        GROUPS,
        "offsets_retention_check_interval_ms",
        Kind::Count(1, 86_400_000),
        "600000",
        "How often offsets past their retention are looked for.",
    ),
    entry(
        LOGGING,
        "log",
        Kind::Text,
        "info",
        "What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels per module as in `info,heddle_core=debug`. Logs go to standard error.",
    ),
];
