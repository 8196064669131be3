//! Check: is there room on the disk for the WAL and the reserve?

use super::Finding;
use super::mounts::existing;
use crate::config::{Config, format_bytes};
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const CHECK: &str = "free space";

/// Looks at the file system of the data directory.
pub fn check(config: &Config) -> Finding {
    // Enough for a broker that has just started: two WAL files per core; the rest comes as it is needed.
    let wal_start = 2 * config.wal_file_bytes * config.core_count() as u64;
    let wal_full = config.wal_file_bytes * (config.wal_files_max * config.core_count()) as u64;
    match space(&existing(&config.data_dir)) {
        Some(Space { free_bytes: free, .. }) => {
            // What `boot::data_dir` writes first: somebody's records may be here, and consumers want them.
            let is_new = !config.data_dir.join("node.toml").exists();
            classify(free, config.reserve_bytes, wal_start, wal_full, is_new)
        }
        None => {
            Finding::warn(CHECK, "the file system does not say how much is free", "Watch it by other means.")
        }
    }
}

/// What a file system has room for.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Its size.
    pub total_bytes: u64,
    /// What an ordinary user may still write.
    pub free_bytes: u64,
}

/// The room on the file system of `path`; `None` when it does not say, or the path is not there.
pub fn space(path: &Path) -> Option<Space> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends in a zero byte, and `stat` has room for what the call writes.
    let status = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let stat = unsafe { stat.assume_init() };
    Some(Space {
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

fn classify(free: u64, reserve: u64, wal_start: u64, wal_full: u64, is_new: bool) -> Finding {
    let found = format!("{} free", rounded(free));
    if free < wal_start || (is_new && free < reserve + wal_start) {
        let what = format!(
            "{found}, less than the reserve ({}) and the first WAL files ({})",
            format_bytes(reserve),
            format_bytes(wal_start)
        );
        return Finding::fail(
            CHECK,
            what,
            "Free some space, choose another --data-dir, or lower reserve_bytes or wal_file_bytes.",
        );
    }
    if free < reserve + wal_start {
        return Finding::warn(
            CHECK,
            format!("{found}, less than the reserve ({})", format_bytes(reserve)),
            "Consumers are served; producers are refused until there is space. Free some, or lower reserve_bytes.",
        );
    }
    if free < reserve + 2 * wal_full {
        let what = format!(
            "{found}, little beside the reserve ({}) and the WAL (up to {})",
            format_bytes(reserve),
            format_bytes(wal_full)
        );
        return Finding::warn(
            CHECK,
            what,
            "Producers are refused when only the reserve is left. Free some space or lower wal_files_max.",
        );
    }
    Finding::ok(CHECK, found)
}

fn rounded(bytes: u64) -> String {
    match bytes {
        0..=0x3FFF_FFFF => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn room_rules() {
        const MIB: u64 = 1 << 20;
        for (free, is_new, verdict) in [
            (100 * MIB, true, Verdict::Fail),
            (100 * MIB, false, Verdict::Fail),
            (200 * MIB, true, Verdict::Fail),
            (200 * MIB, false, Verdict::Warn),
            (700 * MIB, true, Verdict::Warn),
            (10_000 * MIB, true, Verdict::Ok),
        ] {
            let found = classify(free, 512 * MIB, 128 * MIB, 512 * MIB, is_new);
            assert_eq!(found.verdict, verdict, "{free} {is_new}");
        }
    }

    #[test]
    fn this_machine_has_some() {
        let space = space(Path::new("/")).expect("says so");
        assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
        assert!(super::space(Path::new("/nonexistent")).is_none());
    }
}
