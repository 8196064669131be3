//! Says in plain words what is wrong with the machine and what to do about it.
//!
//! One check per file, each split into reading the machine and classifying what was read; only the second has rules,
//! and is tested by table. Nothing here uses an io_uring, so that it works where the ring does not. `heddle doctor`
//! runs everything; `serve` runs [`preflight`].

use crate::config::Config;
use crate::fatal::Fatal;

mod clock;
mod cpu;
mod data_dir;
mod disk_speed;
pub mod free_space;
mod io_uring;
mod kernel;
pub mod limits;
mod mounts;
mod port;
mod report;
mod wakeup;

pub use report::{print_human, print_json};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Heddle runs, but not as well or as safely as it could.
    Warn,
    /// Heddle cannot run like this.
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What was checked, e.g. `io_uring`.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, in plain words with the figures.
    pub what: String,
    /// What to do; `None` when all is well.
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Ok, what: what.into(), advice: None }
    }

    fn warn(check: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Warn, what: what.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Fail, what: what.into(), advice: Some(advice.into()) }
    }
}

/// One line for a log.
impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.check, self.what)?;
        self.advice.iter().try_for_each(|advice| write!(f, ". {advice}"))
    }
}

/// The quick checks that `serve` makes before it starts, in well under 50 ms when the ports are free. Creates the data directory and raises
/// the soft limit of open files. `Ok`: the warnings; `Err`: why the broker must not start.
pub fn preflight(config: &Config) -> Result<Vec<Finding>, Fatal> {
    create_data_dir(config)?;
    limits::raise_open_files();
    port::wait_for_predecessor(config);
    let (failed, rest): (Vec<Finding>, Vec<Finding>) =
        quick_checks(config).into_iter().partition(|finding| finding.verdict == Verdict::Fail);
    match failed.as_slice() {
        [] => Ok(rest.into_iter().filter(|finding| finding.verdict == Verdict::Warn).collect()),
        [first, rest @ ..] if failed_at_ports(first) && rest.iter().all(failed_at_ports) => {
            Err(port::fatal(config, first))
        }
        _ => Err(Fatal::Environment(failed)),
    }
}

fn failed_at_ports(finding: &Finding) -> bool {
    finding.check == port::CHECK
}

fn create_data_dir(config: &Config) -> Result<(), Fatal> {
    let dir = &config.data_dir;
    std::fs::create_dir_all(dir)
        .map_err(|error| Fatal::DataDirUnusable { dir: dir.clone(), detail: error.to_string() })
}

/// Every check, the disk measurement (about two seconds) included. Changes nothing that lasts.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = quick_checks(config).into_iter().map(port::unless_running).collect();
    findings.extend(disk_speed::check(&config.data_dir));
    findings
}

fn quick_checks(config: &Config) -> Vec<Finding> {
    let mut findings = vec![
        kernel::check(),
        io_uring::check(),
        limits::check_memlock(config.core_count()),
        limits::check_open_files(config),
        cpu::check(config),
        clock::check(),
        data_dir::check(&config.data_dir),
        free_space::check(config),
    ];
    findings.extend(wakeup::check(config));
    findings.extend(port::check(config));
    findings
}

/// What keeps even a client command from running on this machine: it needs a ring, too.
pub fn client_failures() -> Vec<Finding> {
    let findings = [kernel::check(), io_uring::check(), limits::check_memlock(1)];
    findings.into_iter().filter(|finding| finding.verdict == Verdict::Fail).collect()
}
