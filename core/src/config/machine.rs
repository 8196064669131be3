//! What the machine gives this process: CPUs, memory and CPU quota, read from `/proc`, `/sys` and the cgroup files.

use super::cores::parse_cpu_list;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Assumed when the machine does not tell: small enough to be true nearly everywhere.
const MEMORY_FALLBACK_BYTES: u64 = 1 << 30;

/// CPUs this process may use and that are online, ascending; never empty.
pub fn usable_cpus() -> Vec<usize> {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let online = read_to_string("/sys/devices/system/cpu/online").ok();
    let cpus = cpus_from(&status, online.as_deref());
    if cpus.is_empty() { vec![0] } else { cpus }
}

fn cpus_from(status: &str, online: Option<&str>) -> Vec<usize> {
    let allowed = field(status, "Cpus_allowed_list:").and_then(parse_cpu_list).unwrap_or_default();
    match online.and_then(parse_cpu_list) {
        Some(online) => allowed.into_iter().filter(|cpu| online.contains(cpu)).collect(),
        None => allowed,
    }
}

/// Memory this process may use: the machine's, or the tightest cgroup limit above it. Bytes.
pub fn memory_limit_bytes() -> u64 {
    let machine = read_to_string("/proc/meminfo").ok().and_then(|text| memory_total_bytes(&text));
    let cgroup = cgroup_files("memory", "memory.max", "memory.limit_in_bytes");
    let limits = cgroup.iter().filter_map(|path| read_to_string(path).ok()?.trim().parse::<u64>().ok());
    limits.chain(machine).min().unwrap_or(MEMORY_FALLBACK_BYTES)
}

fn memory_total_bytes(meminfo: &str) -> Option<u64> {
    let kib = field(meminfo, "MemTotal:")?.split_whitespace().next()?;
    Some(kib.parse::<u64>().ok()? * 1024)
}

/// CPUs' worth of time the cgroup grants, if it is limited: 1.5 means one and a half CPUs.
pub fn cpu_quota() -> Option<f64> {
    let v2 = cgroup_files("cpu", "cpu.max", "cpu.cfs_quota_us");
    v2.iter().filter_map(|path| quota_at(path)).min_by(f64::total_cmp)
}

fn quota_at(path: &Path) -> Option<f64> {
    let text = read_to_string(path).ok()?;
    match path.file_name()?.to_str()? {
        "cpu.max" => quota_from(&text),
        _ => {
            let period = read_to_string(path.with_file_name("cpu.cfs_period_us")).ok()?;
            quota_from(&format!("{} {}", text.trim(), period.trim()))
        }
    }
}

/// `QUOTA PERIOD` in microseconds; `max` or a negative quota is no limit.
fn quota_from(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let quota: f64 = words.next()?.parse().ok()?;
    let period: f64 = words.next()?.parse().ok()?;
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// The limit files of this process's cgroup and of every cgroup above it, for version 2 and version 1 hierarchies.
fn cgroup_files(controller: &str, v2_name: &str, v1_name: &str) -> Vec<PathBuf> {
    let cgroups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut files = Vec::new();
    for (root, path) in cgroup_roots(&cgroups, controller) {
        let name = if root.ends_with(controller) { v1_name } else { v2_name };
        let mut directory = root.join(path.trim_start_matches('/'));
        while directory.starts_with(&root) {
            files.push(directory.join(name));
            if !directory.pop() {
                break;
            }
        }
    }
    files
}

/// (mount point, path below it) of the hierarchies that may limit `controller`.
fn cgroup_roots(cgroups: &str, controller: &str) -> Vec<(PathBuf, String)> {
    let mut roots = Vec::new();
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if controllers.is_empty() {
            roots.push((PathBuf::from("/sys/fs/cgroup"), path.to_owned()));
        } else if controllers.split(',').any(|name| name == controller) {
            roots.push((Path::new("/sys/fs/cgroup").join(controller), path.to_owned()));
        }
    }
    roots
}

/// This machine's host name, or `localhost` if it has none.
pub fn host_name() -> String {
    let name = read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" | "(none)" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// The rest of the first line that starts with `name`, trimmed.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_allowed_and_online() {
        let status = "Name:\theddle\nCpus_allowed_list:\t0-7,9\n";
        assert_eq!(cpus_from(status, Some("0-3,9\n")), vec![0, 1, 2, 3, 9]);
        assert_eq!(cpus_from(status, None).len(), 9);
        assert!(cpus_from("", Some("0-3")).is_empty());
    }

    #[test]
    fn memory_and_quota_are_read() {
        assert_eq!(memory_total_bytes("MemTotal:       24684092 kB\nMemFree: 1 kB\n"), Some(24684092 * 1024));
        assert_eq!(quota_from("150000 100000"), Some(1.5));
        assert_eq!(quota_from("max 100000"), None);
        assert_eq!(quota_from("-1 100000"), None);
        assert_eq!(quota_from(""), None);
    }

    #[test]
    fn both_cgroup_versions_are_found() {
        let text = "4:memory:/a/b\n3:cpu,cpuacct:/c\n0::/d\n";
        let roots = cgroup_roots(text, "memory");
        assert_eq!(roots[0], (PathBuf::from("/sys/fs/cgroup/memory"), "/a/b".to_owned()));
        assert_eq!(roots[1], (PathBuf::from("/sys/fs/cgroup"), "/d".to_owned()));
        assert_eq!(cgroup_roots(text, "cpu").len(), 2);
    }

    #[test]
    fn this_machine_has_a_cpu_and_memory() {
        assert!(!usable_cpus().is_empty());
        assert!(memory_limit_bytes() > 0);
    }
}
