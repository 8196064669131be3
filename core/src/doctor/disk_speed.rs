//! Check: how long does a durable 4 KiB write take, and is the answer believable?
//!
//! Measures the same write twice: durable (O_DSYNC) and merely direct. An honest disk with a volatile cache takes
//! visibly longer for the first. What a virtual disk's host does with a flush cannot be seen from inside.

use super::Finding;
use super::data_dir::{Block, ScratchFile};
use super::mounts::{Device, device_of, existing};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const CHECK_SPEED: &str = "disk speed";
const CHECK_TRUTH: &str = "disk truth";
const BLOCK_BYTES: u64 = 4096;
const FILE_BLOCKS: u64 = 1024;
const DURABLE_TIME: Duration = Duration::from_millis(1000);
const DIRECT_TIME: Duration = Duration::from_millis(300);
/// Bounds memory on a disk that answers at once.
const SAMPLES_MAX: usize = 200_000;

/// Half of the writes took at most `p50`, 99 of 100 at most `p99`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Latency {
    p50: Duration,
    p99: Duration,
}

pub fn check(data_dir: &Path) -> Vec<Finding> {
    let dir = existing(data_dir);
    match measure_both(&dir) {
        Ok((durable, direct)) => {
            let device = device_of(&dir);
            vec![classify_speed(durable), classify_truth(durable, direct, device.as_ref())]
        }
        Err(error) => vec![Finding::warn(
            CHECK_SPEED,
            format!("could not be measured in {}: {error}", dir.display()),
            "See what the check of the data directory says.",
        )],
    }
}

fn measure_both(dir: &Path) -> io::Result<(Latency, Latency)> {
    let durable = measure(dir, libc::O_DIRECT | libc::O_DSYNC, DURABLE_TIME)?;
    Ok((durable, measure(dir, libc::O_DIRECT, DIRECT_TIME)?))
}

/// Overwrites a zeroed file block by block, one write at a time.
fn measure(dir: &Path, flags: i32, duration: Duration) -> io::Result<Latency> {
    let scratch = ScratchFile::create(dir, flags)?;
    let chunk = AlignedChunk::new();
    for index in 0..FILE_BLOCKS / CHUNK_BLOCKS {
        scratch.file.write_all_at(chunk.bytes(), index * CHUNK_BLOCKS * BLOCK_BYTES)?;
    }
    scratch.file.sync_all()?;
    let block = Block([0x5A; 4096]);
    let (begin, mut samples) = (Instant::now(), Vec::with_capacity(SAMPLES_MAX));
    while begin.elapsed() < duration && samples.len() < SAMPLES_MAX {
        let position = samples.len() as u64 % FILE_BLOCKS * BLOCK_BYTES;
        let started = Instant::now();
        scratch.file.write_all_at(&block.0, position)?;
        samples.push(started.elapsed());
    }
    Ok(latency(&mut samples))
}

const CHUNK_BLOCKS: u64 = 64;

/// Zeroes to fill the file with, aligned for direct I/O.
struct AlignedChunk(Vec<Block>);

impl AlignedChunk {
    fn new() -> AlignedChunk {
        AlignedChunk((0..CHUNK_BLOCKS).map(|_| Block([0; 4096])).collect())
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `Block` is `repr(C)` around 4096 bytes and as large as its alignment, so the blocks of the vector
        // are contiguous initialised bytes without padding; the slice lives no longer than the vector's borrow.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * size_of::<Block>()) }
    }
}

fn latency(samples: &mut [Duration]) -> Latency {
    samples.sort_unstable();
    let at = |percent: usize| samples.get(samples.len() * percent / 100).copied().unwrap_or_default();
    Latency { p50: at(50), p99: at(99) }
}

fn classify_speed(durable: Latency) -> Finding {
    let found =
        format!("a durable 4 KiB write takes {} (p50), {} (p99)", micros(durable.p50), micros(durable.p99));
    if durable.p50 > Duration::from_millis(5) {
        let advice = "Every lone acknowledgement waits that long. Disks with power-loss protection take 10 to 100 us; batching and more producers hide part of it, and topics with durability=replicated do not wait for it.";
        return Finding::warn(CHECK_SPEED, format!("{found}: slow"), advice);
    }
    if durable.p99 > Duration::from_millis(50) {
        let advice = "Something else keeps the disk busy, or it pauses by itself. Give the data directory a disk of its own.";
        return Finding::warn(CHECK_SPEED, format!("{found}: it stalls"), advice);
    }
    Finding::ok(CHECK_SPEED, found)
}

/// Faster than any flash can program a page: only a cache answers like this, protected or not.
const BELIEVABLE_MIN: Duration = Duration::from_micros(8);
/// Half a turn of the fastest disks sold is 2 ms; a sync write of the next sector waits nearly a whole one.
const ROTATION_MIN: Duration = Duration::from_millis(2);

fn classify_truth(durable: Latency, direct: Latency, device: Option<&Device>) -> Finding {
    let Some(device) = device else {
        return Finding::ok(CHECK_TRUTH, "the file system has no block device of its own to ask");
    };
    let name = match device.model.as_str() {
        "" => device.name.clone(),
        model => format!("{} ({model})", device.name),
    };
    let p50 = micros(durable.p50);
    let verify = "If it has power-loss protection all is well. If not, acknowledged records can vanish in a power cut: check the data sheet or the controller's cache mode.";
    if durable.p50 < BELIEVABLE_MIN {
        let what = format!(
            "{name} answers durable writes in {p50}, faster than flash can write: it answers from a cache"
        );
        return Finding::warn(CHECK_TRUTH, what, verify);
    }
    if device.is_virtual() {
        let what = format!(
            "{name} is a virtual disk; whether its host keeps what it acknowledges cannot be seen from here"
        );
        return Finding::ok(CHECK_TRUTH, what);
    }
    if device.rotational && durable.p50 < ROTATION_MIN {
        let what = format!(
            "{name} turns, yet answers durable writes in {p50}, less than its platter needs: it may lie about flushes"
        );
        return Finding::warn(CHECK_TRUTH, what, verify);
    }
    if device.volatile_cache && durable.p50 < direct.p50 * 3 / 2 {
        let direct = micros(direct.p50);
        let what = format!(
            "{name} says it has a volatile cache, yet a flush costs it nothing ({p50} with, {direct} without): it may lie about flushes"
        );
        return Finding::warn(CHECK_TRUTH, what, verify);
    }
    let cache =
        if device.volatile_cache { "has a volatile cache and flushes it" } else { "has no volatile cache" };
    Finding::ok(CHECK_TRUTH, format!("{name} {cache}, as far as its answers show"))
}

fn micros(duration: Duration) -> String {
    format!("{} us", duration.as_micros())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn us(p50: u64, p99: u64) -> Latency {
        Latency { p50: Duration::from_micros(p50), p99: Duration::from_micros(p99) }
    }

    fn device(name: &str, volatile_cache: bool, rotational: bool) -> Device {
        Device { name: name.to_owned(), model: String::new(), volatile_cache, rotational }
    }

    #[test]
    fn speed_rules() {
        assert_eq!(classify_speed(us(100, 200)).verdict, Verdict::Ok);
        assert_eq!(classify_speed(us(900, 5_000)).verdict, Verdict::Ok);
        assert_eq!(classify_speed(us(8_000, 20_000)).verdict, Verdict::Warn);
        assert!(classify_speed(us(100, 80_000)).what.contains("stalls"));
    }

    #[test]
    fn truth_rules() {
        for (durable, direct, device, verdict) in [
            // An honest consumer disk: the flush is dear.
            (1500, 20, device("nvme0n1", true, false), Verdict::Ok),
            // A disk with power-loss protection that says so.
            (15, 12, device("nvme0n1", false, false), Verdict::Ok),
            // Says its cache is volatile, and flushes it in no time.
            (20, 18, device("nvme0n1", true, false), Verdict::Warn),
            // Memory behind it.
            (3, 2, device("nvme0n1", false, false), Verdict::Warn),
            (8300, 100, device("sda", true, true), Verdict::Ok),
            (60, 50, device("sda", false, true), Verdict::Warn),
            (100, 60, device("vda", true, true), Verdict::Ok),
            (3, 2, device("vda", true, true), Verdict::Warn),
        ] {
            let finding = classify_truth(us(durable, durable), us(direct, direct), Some(&device));
            assert_eq!(finding.verdict, verdict, "{durable} {direct} {device:?}: {}", finding.what);
        }
        assert_eq!(classify_truth(us(1, 1), us(1, 1), None).verdict, Verdict::Ok);
    }

    #[test]
    fn percentiles_of_few_samples() {
        assert_eq!(latency(&mut []), us(0, 0));
        let mut one = [Duration::from_micros(7)];
        assert_eq!(latency(&mut one), us(7, 7));
        let mut hundred: Vec<_> = (0..100).rev().map(Duration::from_micros).collect();
        assert_eq!(latency(&mut hundred), us(50, 99));
    }
}
