//! Checks: locked memory and open files; and raising the latter as far as this user may.

use super::Finding;
use crate::config::Config;

/// The ring library refuses to start below this.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// The least I/O memory an executor registers.
const IO_MEMORY_BYTES_MIN: u64 = 64 << 10;
/// An executor registers its memory with each of its rings (main, latency, poll), and each time is counted.
const RINGS_PER_CORE: u64 = 3;
/// Descriptors besides client connections: listeners, rings, WAL and open segments of one core.
const FILES_PER_CORE: u64 = 1200;
/// With fewer the broker has no room for its own files and some clients.
const FILES_PER_CORE_MIN: u64 = 256;

/// A soft limit and its hard limit; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In force.
    pub soft: u64,
    /// As far as this user may raise it.
    pub hard: u64,
}

/// Reads one limit of this process.
fn read(resource: libc::__rlimit_resource_t) -> Limit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live, writable `rlimit`; the call writes nothing else.
    match unsafe { libc::getrlimit(resource, &mut limit) } {
        0 => Limit { soft: limit.rlim_cur, hard: limit.rlim_max },
        // Cannot fail for a valid resource; then nothing is known to be limited.
        _ => Limit { soft: u64::MAX, hard: u64::MAX },
    }
}

/// Limit of locked memory, bytes.
pub fn memlock() -> Limit {
    read(libc::RLIMIT_MEMLOCK)
}

/// Limit of open files.
pub fn open_files() -> Limit {
    read(libc::RLIMIT_NOFILE)
}

/// Raises the soft limit of open files to the hard one. A refusal changes nothing and shows in the check.
pub fn raise_open_files() {
    let limit = open_files();
    if limit.soft >= limit.hard {
        return;
    }
    let raised = libc::rlimit { rlim_cur: limit.hard, rlim_max: limit.hard };
    // SAFETY: the pointer is to a live `rlimit` that the call only reads.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) };
}

/// The finding about locked memory.
pub fn check_memlock(core_count: usize) -> Finding {
    classify_memlock(memlock(), core_count)
}

fn classify_memlock(limit: Limit, core_count: usize) -> Finding {
    const CHECK: &str = "memlock";
    const ADVICE: &str = "Raise it: `ulimit -l 8192` (the hard limit permitting), LimitMEMLOCK=infinity in a systemd unit, --ulimit memlock=-1 for a container, or /etc/security/limits.conf.";
    let needed = MEMLOCK_BYTES_MIN.max(IO_MEMORY_BYTES_MIN * RINGS_PER_CORE * core_count as u64);
    let found = format!("the limit of locked memory is {}", in_words(limit.soft / 1024, "KiB"));
    if limit.soft < MEMLOCK_BYTES_MIN {
        let what = format!("{found}, and io_uring needs {} KiB", MEMLOCK_BYTES_MIN / 1024);
        return Finding::fail(CHECK, what, ADVICE);
    }
    if limit.soft < needed {
        let what = format!("{found}, and {core_count} cores want {} KiB", needed / 1024);
        return Finding::warn(CHECK, what, ADVICE);
    }
    Finding::ok(CHECK, found)
}

/// The finding about open files.
pub fn check_open_files(config: &Config) -> Finding {
    // `serve` raises the soft limit to the hard one, so the hard one is what counts.
    classify_open_files(open_files().hard, config.core_count() as u64, config.connections_max as u64)
}

fn classify_open_files(limit: u64, core_count: u64, connections_max: u64) -> Finding {
    const CHECK: &str = "open files";
    const ADVICE: &str = "Raise the hard limit (`ulimit -Hn`, LimitNOFILE= in a systemd unit, --ulimit nofile= for a container), or lower connections_max.";
    let needed = core_count * (FILES_PER_CORE + connections_max);
    let found = format!("up to {} may be open", in_words(limit, "files"));
    if limit < core_count * FILES_PER_CORE_MIN {
        let what = format!("{found}, too few for {core_count} cores");
        return Finding::fail(CHECK, what, ADVICE);
    }
    if limit < needed {
        let clients = (limit / core_count).saturating_sub(FILES_PER_CORE);
        let what = format!(
            "{found}, {needed} would be needed for {connections_max} connections per core; about {clients} fit"
        );
        return Finding::warn(CHECK, what, ADVICE);
    }
    Finding::ok(CHECK, found)
}

/// `unlimited`, or the number with its unit.
fn in_words(number: u64, unit: &str) -> String {
    // A limit of "infinity" in bytes is still astronomically large after division.
    if number >= u64::MAX / 1024 { "unlimited".to_owned() } else { format!("{number} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn limit(soft: u64) -> Limit {
        Limit { soft, hard: soft }
    }

    #[test]
    fn memlock_rules() {
        for (soft, core_count, verdict) in [
            (u64::MAX, 128, Verdict::Ok),
            (8 << 20, 2, Verdict::Ok),
            (512 << 10, 2, Verdict::Ok),
            (512 << 10, 3, Verdict::Warn),
            (64 << 10, 1, Verdict::Fail),
            (0, 1, Verdict::Fail),
        ] {
            assert_eq!(classify_memlock(limit(soft), core_count).verdict, verdict, "{soft} {core_count}");
        }
    }

    #[test]
    fn open_files_rules() {
        assert_eq!(classify_open_files(1 << 20, 4, 10_000).verdict, Verdict::Ok);
        assert_eq!(classify_open_files(20_000, 2, 10_000).verdict, Verdict::Warn);
        assert_eq!(classify_open_files(1024, 8, 10).verdict, Verdict::Fail);
        assert_eq!(classify_open_files(u64::MAX, 8, 10_000).verdict, Verdict::Ok);
    }

    #[test]
    fn this_process_has_limits() {
        raise_open_files();
        assert!(open_files().soft > 0);
    }
}
