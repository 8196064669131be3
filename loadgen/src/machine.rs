//! What a measurement was made on: processors, kernel, disk, commit. Never the machine's name.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A machine in words; an empty field is unknown.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Processors this process may use.
    pub cpu_count: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Kernel release.
    pub kernel: String,
    /// Distribution.
    pub os: String,
    /// Filesystem and device of the measured directory, with what the kernel says of the device.
    pub disk: String,
    /// Commit of the working directory, with `-dirty` when files differ from it.
    pub commit: String,
}

impl Machine {
    /// Describes this machine; `dir` is on the disk in question.
    pub fn describe(dir: &Path) -> Self {
        Self {
            cpu: cpu_model(),
            cpu_count: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory_mib(),
            kernel: read("/proc/sys/kernel/osrelease"),
            os: os_name(),
            disk: disk_of(dir),
            commit: commit(),
        }
    }

    /// Its lines, for people.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("processor", format!("{} x {}", self.cpu_count, self.cpu)),
            ("memory", format!("{} MiB", self.memory_mib)),
            ("kernel", self.kernel.clone()),
            ("system", self.os.clone()),
            ("disk", self.disk.clone()),
            ("commit", self.commit.clone()),
        ]
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The value behind `key` in text of `key<separator>value` lines.
fn field(text: &str, key: &str, separator: char) -> Option<String> {
    let value =
        text.lines().filter_map(|line| line.split_once(separator)).find(|(name, _)| name.trim() == key)?.1;
    Some(value.trim().trim_matches('"').to_owned())
}

fn cpu_model() -> String {
    field(&read("/proc/cpuinfo"), "model name", ':').unwrap_or_default()
}

fn memory_mib() -> u64 {
    let total = field(&read("/proc/meminfo"), "MemTotal", ':').unwrap_or_default();
    total.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}

fn os_name() -> String {
    field(&read("/etc/os-release"), "PRETTY_NAME", '=').unwrap_or_default()
}

/// Filesystem and device behind the longest mount point that holds `dir`.
fn disk_of(dir: &Path) -> String {
    let Ok(dir) = dir.canonicalize() else { return String::new() };
    let mounts = read("/proc/self/mounts");
    let best = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?, words.next()?))
        })
        .filter(|(_, point, _)| dir.starts_with(point))
        .max_by_key(|(_, point, _)| point.len());
    let Some((device, _, filesystem)) = best else { return String::new() };
    let name = device.rsplit('/').next().unwrap_or(device);
    let queue = Path::new("/sys/block").join(name).join("queue");
    let scheduler = read(queue.join("scheduler"));
    let rotational = match read(queue.join("rotational")).as_str() {
        "0" => ", not rotational",
        "1" => ", rotational",
        _ => "",
    };
    let cache = read(queue.join("write_cache"));
    format!("{filesystem} on {device}{rotational}, scheduler {scheduler}, cache {cache}")
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return String::new() };
    let is_dirty =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if is_dirty { format!("{head}-dirty") } else { head }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_kernel_and_processors() {
        let machine = Machine::describe(Path::new("."));
        assert!(!machine.kernel.is_empty() && machine.cpu_count > 0 && machine.memory_mib > 0);
        assert!(machine.disk.contains(" on "), "{machine:?}");
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "a: 1\nab : \"two\"\n";
        assert_eq!(field(text, "ab", ':'), Some("two".into()));
        assert_eq!(field(text, "b", ':'), None);
    }
}
