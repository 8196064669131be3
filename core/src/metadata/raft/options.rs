//! The times and sizes that the metadata's quorum works by.

use std::time::Duration;

/// How one node takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// A node that has heard no leader for so long, plus up to as much again by chance, wants to be elected. It must be
    /// several heartbeats and several durable writes.
    pub election: Duration,
    /// How long a proposal or a read waits for a leader and a quorum.
    pub patience: Duration,
    /// A snapshot is taken after so many entries.
    pub snapshot_entries: u64,
    /// So many entries stay in the log when a snapshot has replaced them, for nodes that lag a little.
    pub kept_entries: u64,
}

/// Far above a heartbeat over a network and a durable write on a disk that is doing well, and short enough that a node
/// which dies is replaced within half a second.
const ELECTION: Duration = Duration::from_millis(150);

impl Default for Options {
    fn default() -> Self {
        Options {
            heartbeat: Duration::from_millis(50),
            election: ELECTION,
            patience: Duration::from_secs(5),
            snapshot_entries: 2000,
            kept_entries: 500,
        }
    }
}

/// A piece of a snapshot on the wire, in bytes.
const SNAPSHOT_PIECE_BYTES: u64 = 512 << 10;

/// How long a piece of a snapshot may take to be sent, received and answered.
const SNAPSHOT_PIECE_WAIT: Duration = Duration::from_secs(2);

/// How many entries share one message: with small commands some tens of KiB.
const ENTRIES_PER_MESSAGE: u64 = 300;

/// A choice of times that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("times of the metadata's quorum: {0}")]
pub struct OptionsError(String);

impl Options {
    /// The same for the consensus library.
    ///
    /// # Errors
    /// When the times contradict each other.
    pub(super) fn to_config(&self) -> Result<openraft::Config, OptionsError> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let config = openraft::Config {
            cluster_name: "metadata".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election),
            election_timeout_max: millis(self.election * 2),
            install_snapshot_timeout: millis(SNAPSHOT_PIECE_WAIT),
            snapshot_max_chunk_size: SNAPSHOT_PIECE_BYTES,
            max_payload_entries: ENTRIES_PER_MESSAGE,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            max_in_snapshot_log_to_keep: self.kept_entries,
            replication_lag_threshold: self.kept_entries.max(self.snapshot_entries),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| OptionsError(error.to_string()))
    }
}
