//! The end of the process when it must not go on: one exit status per cause, and words a user can act on.
//!
//! Three classes of failure exist. An operating error is a typed value and somebody's reply. A broken environment
//! (this module) stops the process, because a broker that goes on after a failed durable write would lie. A bug is a
//! panic, which [`install_panic_hook`] turns into the same kind of message.

use crate::config::ConfigError;
use crate::doctor::Finding;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;

/// Why the process stops. The order is that of [`CAUSES`].
#[derive(Debug)]
pub enum Fatal {
    /// The configuration is refused.
    Config(ConfigError),
    /// The machine cannot run Heddle as configured; the findings that failed.
    Environment(Vec<Finding>),
    /// Another process listens on a port.
    PortInUse {
        /// The address that is taken.
        address: String,
        /// What else is known, e.g. by whom. May be empty.
        detail: String,
    },
    /// An address cannot be listened on for another reason.
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        detail: String,
    },
    /// Another process uses the data directory.
    DataDirInUse {
        /// The directory.
        dir: PathBuf,
        /// Who, if known. May be empty.
        detail: String,
    },
    /// The data directory belongs to another node or cluster.
    DataDirForeign {
        /// The directory.
        dir: PathBuf,
        /// Whose it is and whose was expected.
        detail: String,
    },
    /// The data directory has another format than this version reads.
    DataDirFormat {
        /// The directory.
        dir: PathBuf,
        /// Its format version.
        found: u32,
        /// The one this version reads.
        supported: u32,
    },
    /// The data directory cannot be created, read or written.
    DataDirUnusable {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// A write or sync failed while running. What the disk holds is unknown until it is read again.
    StorageWrite {
        /// Which core, file and operation, and what the system said.
        detail: String,
    },
    /// What the disk holds is damaged where the process cannot do without it.
    StorageCorrupt {
        /// Which file and where in it.
        detail: String,
    },
    /// The cluster metadata log cannot be read or written.
    MetadataLog {
        /// What happened.
        detail: String,
    },
    /// The cluster that this node is to join does not take it.
    Join {
        /// Who was asked.
        seed: String,
        /// Why.
        detail: String,
    },
    /// The secret of the cluster cannot be used.
    PeerSecret {
        /// Its file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// A core could not be started or ended on its own.
    Core {
        /// Index of the core.
        core: usize,
        /// What happened.
        detail: String,
    },
    /// Memory that was needed could not be had.
    OutOfMemory {
        /// For what.
        detail: String,
    },
    /// A state that cannot be.
    Bug {
        /// What was seen.
        detail: String,
    },
}

/// The documentation of one exit status.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    /// Exit status of the process.
    pub status: u8,
    /// Short name, printed with the message.
    pub name: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub advice: &'static str,
}

const fn cause(status: u8, name: &'static str, meaning: &'static str, advice: &'static str) -> Cause {
    Cause { status, name, meaning, advice }
}

/// Exit statuses, ascending. 0, 1 and 2 mean success, a client command that failed, and a wrong command line.
pub const CAUSES: &[Cause] = &[
    cause(10, "configuration", "the configuration is refused", "Correct the key that the message names."),
    cause(
        11,
        "environment",
        "this machine cannot run Heddle as configured",
        "Follow the advice of each finding; `heddle doctor` repeats the checks and makes more.",
    ),
    cause(
        12,
        "port in use",
        "another process listens on a port of this broker",
        "Stop the other process, or choose another port with `--listen` (or `--admin`).",
    ),
    cause(
        13,
        "listen",
        "an address cannot be listened on",
        "Check that the address belongs to this machine and that the port may be used by this user.",
    ),
    cause(
        20,
        "data directory in use",
        "another process uses the data directory",
        "Stop the other broker, or give this one its own directory with `--data-dir`.",
    ),
    cause(
        21,
        "data directory of another node",
        "the data directory belongs to another node or cluster",
        "Start with the `--node-id` the directory was made with, or give this node its own directory.",
    ),
    cause(
        22,
        "data directory too new",
        "the data directory was written by a newer version of Heddle",
        "Start the newer version. Nothing was changed.",
    ),
    cause(
        23,
        "data directory unusable",
        "the data directory cannot be created, read or written",
        "Check its path, owner and permissions, and that its file system is mounted writable.",
    ),
    cause(
        30,
        "storage write",
        "a write or sync to the disk failed while running",
        "Check the disk (`dmesg`, SMART) and its free space, then start again: the broker recovers from what the disk really holds.",
    ),
    cause(
        31,
        "storage corrupt",
        "data on the disk is damaged where the broker cannot do without it",
        "Keep a copy of the data directory. Restore the named file from a replica or a backup.",
    ),
    cause(
        32,
        "metadata log",
        "the cluster metadata cannot be read or written",
        "Check the disk below `metadata/` in the data directory; keep a copy before changing anything.",
    ),
    cause(
        33,
        "join",
        "the cluster that this node is to join does not take it",
        "Follow the message: give the node an id that is free, or the address (`--join`) of a node that runs.",
    ),
    cause(
        34,
        "peer secret",
        "the file with the cluster's secret cannot be used",
        "Give every node of the cluster the same file, readable by the broker, with at least 16 bytes (`head -c 32 /dev/urandom | base64`).",
    ),
    cause(
        40,
        "core",
        "a core could not be started, or ended on its own",
        "Read its message; `heddle doctor` checks what a core needs from the machine.",
    ),
    cause(
        41,
        "out of memory",
        "memory that was needed could not be had",
        "Lower `memory_bytes` or the number of cores, or give the process more memory.",
    ),
    cause(
        70,
        "bug",
        "a bug in Heddle",
        "Report it with the text above. Starting again is safe: nothing acknowledged is lost.",
    ),
];

impl Fatal {
    /// The documented cause of this failure.
    pub fn cause(&self) -> &'static Cause {
        let index = match self {
            Fatal::Config(_) => 0,
            Fatal::Environment(_) => 1,
            Fatal::PortInUse { .. } => 2,
            Fatal::Listen { .. } => 3,
            Fatal::DataDirInUse { .. } => 4,
            Fatal::DataDirForeign { .. } => 5,
            Fatal::DataDirFormat { .. } => 6,
            Fatal::DataDirUnusable { .. } => 7,
            Fatal::StorageWrite { .. } => 8,
            Fatal::StorageCorrupt { .. } => 9,
            Fatal::MetadataLog { .. } => 10,
            Fatal::Join { .. } => 11,
            Fatal::PeerSecret { .. } => 12,
            Fatal::Core { .. } => 13,
            Fatal::OutOfMemory { .. } => 14,
            Fatal::Bug { .. } => 15,
        };
        &CAUSES[index]
    }

    /// Exit status of the process.
    pub fn status(&self) -> u8 {
        self.cause().status
    }
}

impl std::error::Error for Fatal {}

impl From<ConfigError> for Fatal {
    fn from(error: ConfigError) -> Fatal {
        Fatal::Config(error)
    }
}

/// What happened and where; the advice is printed after it by [`fatal`].
impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Config(error) => write!(f, "{error}"),
            Fatal::Environment(findings) => write_findings(f, findings),
            Fatal::PortInUse { address, detail } => write!(f, "{address} is in use{}", appended(detail)),
            Fatal::Listen { address, detail } => write!(f, "cannot listen on {address}{}", appended(detail)),
            Fatal::DataDirInUse { dir, detail } => {
                write!(f, "{} is in use by another process{}", dir.display(), appended(detail))
            }
            Fatal::DataDirForeign { dir, detail } => {
                write!(f, "{} belongs to another node{}", dir.display(), appended(detail))
            }
            Fatal::DataDirFormat { dir, found, supported } => {
                let dir = dir.display();
                write!(
                    f,
                    "{dir} has format version {found}, and this version of Heddle reads version {supported}"
                )
            }
            Fatal::DataDirUnusable { dir, detail } => {
                write!(f, "{} cannot be used{}", dir.display(), appended(detail))
            }
            Fatal::Join { seed, detail } => write!(f, "joining by way of {seed}{}", appended(detail)),
            Fatal::PeerSecret { path, detail } => write!(f, "{}{}", path.display(), appended(detail)),
            Fatal::Core { core, detail } => write!(f, "core {core}{}", appended(detail)),
            Fatal::StorageWrite { detail }
            | Fatal::StorageCorrupt { detail }
            | Fatal::MetadataLog { detail }
            | Fatal::OutOfMemory { detail }
            | Fatal::Bug { detail } => f.write_str(detail),
        }
    }
}

fn appended(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

fn write_findings(f: &mut fmt::Formatter<'_>, findings: &[Finding]) -> fmt::Result {
    write!(f, "this machine cannot run Heddle as configured")?;
    for finding in findings {
        write!(f, "\n  {}: {}", finding.check, finding.what)?;
        if let Some(advice) = &finding.advice {
            write!(f, "\n    {advice}")?;
        }
    }
    Ok(())
}

/// The whole message: what, where, what to do, and the status.
pub fn message(reason: &Fatal) -> String {
    let cause = reason.cause();
    format!("heddle: {}: {reason}\n  {}\n  (exit status {})\n", cause.name, cause.advice, cause.status)
}

/// Says why on standard error and ends the process at once, from any thread, without running destructors: nothing
/// that is still in memory may reach the disk or a client after a failure of this kind.
pub fn fatal(reason: Fatal) -> ! {
    let text = message(&reason);
    // One write, so that two cores failing together do not mix their lines. Nobody to tell if it fails.
    let _ = std::io::stderr().write_all(text.as_bytes());
    exit_now(reason.status())
}

fn exit_now(status: u8) -> ! {
    // SAFETY: `_exit` has no preconditions and does not return; it neither unwinds nor touches memory of ours.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Makes a panic on any thread print where it happened and what to do, and end the process with the status of
/// [`Fatal::Bug`]. Call once, first thing in `main`.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let trace = std::backtrace::Backtrace::force_capture();
        let detail = format!("{panic}\n  thread {}\n{trace}", thread.name().unwrap_or("without a name"));
        fatal(Fatal::Bug { detail })
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Finding, Verdict};

    fn one_of_each() -> Vec<Fatal> {
        let text = || "detail".to_owned();
        let dir = || PathBuf::from("/data");
        let conflict = ConfigError::Conflict { what: text(), advice: text() };
        let finding =
            Finding { check: "io_uring", verdict: Verdict::Fail, what: text(), advice: Some(text()) };
        vec![
            Fatal::Config(conflict),
            Fatal::Environment(vec![finding]),
            Fatal::PortInUse { address: text(), detail: text() },
            Fatal::Listen { address: text(), detail: text() },
            Fatal::DataDirInUse { dir: dir(), detail: text() },
            Fatal::DataDirForeign { dir: dir(), detail: text() },
            Fatal::DataDirFormat { dir: dir(), found: 2, supported: 1 },
            Fatal::DataDirUnusable { dir: dir(), detail: text() },
            Fatal::StorageWrite { detail: text() },
            Fatal::StorageCorrupt { detail: text() },
            Fatal::MetadataLog { detail: text() },
            Fatal::Join { seed: text(), detail: text() },
            Fatal::PeerSecret { path: dir(), detail: text() },
            Fatal::Core { core: 0, detail: text() },
            Fatal::OutOfMemory { detail: text() },
            Fatal::Bug { detail: text() },
        ]
    }

    #[test]
    fn every_failure_has_its_own_documented_status() {
        let statuses: Vec<u8> = one_of_each().iter().map(Fatal::status).collect();
        let documented: Vec<u8> = CAUSES.iter().map(|cause| cause.status).collect();
        assert_eq!(statuses, documented);
        assert!(documented.is_sorted_by(|a, b| a < b), "statuses repeat or are out of order");
        assert!(documented.iter().all(|status| (3..126).contains(status)), "reserved by the shell");
    }

    #[test]
    fn messages_say_what_where_and_what_to_do() {
        for reason in one_of_each() {
            let text = message(&reason);
            assert!(text.contains("detail") || text.contains("format version 2"), "{text}");
            assert!(text.contains(reason.cause().advice), "{text}");
        }
    }
}
