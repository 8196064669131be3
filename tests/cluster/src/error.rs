//! What can keep the harness itself from working, as one type. What the brokers do wrong is a finding, not an error.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why a run cannot go on.
#[derive(Debug, Error)]
pub enum HarnessError {
    /// Namespaces and mounts are not for everybody.
    #[error("network namespaces and loop mounts take root (CAP_NET_ADMIN and CAP_SYS_ADMIN): {0}")]
    NotAllowed(String),
    /// A tool of the system is missing or failed.
    #[error("`{command}` failed: {said}")]
    Command {
        /// The command line.
        command: String,
        /// What it said.
        said: String,
    },
    /// A kind of fault that this machine or this cluster cannot have.
    #[error("the fault {fault} cannot be injected here: {why}")]
    Unsupported {
        /// Which.
        fault: &'static str,
        /// Why not, and what would help.
        why: String,
    },
    /// A broker ended that was to go on.
    #[error("node {node} ended ({status}); its log is {}", log.display())]
    Ended {
        /// Which.
        node: u32,
        /// How.
        status: String,
        /// Where to read why.
        log: PathBuf,
    },
    /// Something did not happen in time.
    #[error("waited {after:?} in vain for: {what}")]
    Late {
        /// What.
        what: String,
        /// How long.
        after: Duration,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Its refusal.
        source: io::Error,
    },
    /// A client of the cluster failed where it may not.
    #[error("{what}: {said}")]
    Client {
        /// What was tried.
        what: String,
        /// The client's error.
        said: String,
    },
}

/// The result of what the harness does.
pub type Result<T> = std::result::Result<T, HarnessError>;

/// Names what was tried.
pub trait Context<T> {
    /// Wraps the error.
    ///
    /// # Errors
    /// The same, with its name.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| HarnessError::Io { what: what(), source })
    }
}
