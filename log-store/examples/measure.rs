//! Measures the store alone on a real disk, beside the limit of the same disk in the same minute.
//!
//! `cargo run --release -p heddle-log-store --example measure -- DIR [SECONDS]`

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};
use heddle_log_store::{
    Disk, DiskFile, GlommioDisk, Hooks, Log, LogConfig, LogId, LogStore, OpenMode, Options,
    RecoveredPartitions, WriteTimes,
};
use heddle_proto::batch::{self, BatchBuilder, BatchHeader, Compression};
use heddle_proto::ids::{CoreId, Epoch, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};

/// Notes when each batch became durable.
#[derive(Default)]
struct Clock {
    sent: RefCell<BTreeMap<(LogId, Offset), Instant>>,
    latencies: RefCell<Vec<Duration>>,
    durable_bytes: Cell<u64>,
}

impl Hooks for Clock {
    fn durable(&self, log: LogId, upto: Offset, _: WriteTimes) {
        let mut sent = self.sent.borrow_mut();
        let now = Instant::now();
        let done: Vec<_> =
            sent.range((log, Offset::ZERO)..(log, upto)).map(|(key, at)| (*key, *at)).collect();
        for (key, at) in done {
            sent.remove(&key);
            self.latencies.borrow_mut().push(now - at);
        }
    }
}

impl Clock {
    fn report(&self, what: &str, elapsed: Duration, bytes: u64) {
        report(what, &mut self.latencies.borrow_mut(), elapsed, bytes);
        self.durable_bytes.set(0);
    }
}

fn report(what: &str, latencies: &mut Vec<Duration>, elapsed: Duration, bytes: u64) {
    latencies.sort_unstable();
    let at = |part: f64| latencies.get((latencies.len() as f64 * part) as usize).copied().unwrap_or_default();
    println!(
        "{what:<44} {:>8} done  p50 {:>8.1} us  p99 {:>8.1} us  max {:>9.1} us  {:>8.1} MB/s",
        latencies.len(),
        at(0.5).as_secs_f64() * 1e6,
        at(0.99).as_secs_f64() * 1e6,
        latencies.last().copied().unwrap_or_default().as_secs_f64() * 1e6,
        bytes as f64 / elapsed.as_secs_f64() / 1e6,
    );
    latencies.clear();
}

fn template(bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder
        .push(Timestamp::new(1), None, Some(&vec![0x5a; bytes]), &[])
        .unwrap_or_else(|error| panic!("{error}"));
    builder.build().unwrap_or_else(|error| panic!("{error}")).to_vec()
}

fn append(log: &Log<GlommioDisk>, clock: &Clock, template: &[u8]) {
    let mut bytes = bytes::BytesMut::from(template);
    let base = log.positions().written;
    batch::assign(&mut bytes, base, Epoch::new(0));
    let header = BatchHeader::parse(&bytes).unwrap_or_else(|error| panic!("{error}"));
    clock.sent.borrow_mut().insert((log.id(), base), Instant::now());
    log.append(bytes.freeze(), &header).unwrap_or_else(|error| panic!("{error}"));
}

/// Raw O_DSYNC writes of one size at depth one on a pre-zeroed file.
async fn raw(disk: &GlommioDisk, dir: &Path, bytes: usize, time: Duration) -> std::io::Result<()> {
    const FILE_BYTES: u64 = 64 << 20;
    let path = dir.join(format!("raw-{bytes}"));
    let file = disk.open(&path, OpenMode::NEW).await?;
    file.preallocate(FILE_BYTES).await?;
    for position in (0..FILE_BYTES).step_by(512 << 10) {
        let mut zeros = disk.alloc(512 << 10);
        zeros.as_bytes_mut().fill(0);
        file.write_at(zeros, position).await?;
    }
    file.sync().await?;
    let file = disk.open(&path, OpenMode::EXISTING.dsync(true)).await?;
    let (start, mut latencies, mut position) = (Instant::now(), Vec::new(), 0);
    while start.elapsed() < time {
        let mut buffer = disk.alloc(bytes);
        buffer.as_bytes_mut().fill(1);
        let begin = Instant::now();
        file.write_at(buffer, position).await?;
        latencies.push(begin.elapsed());
        position = (position + bytes as u64) % (FILE_BYTES - bytes as u64) / 4096 * 4096;
    }
    let total = latencies.len() as u64 * bytes as u64;
    report(&format!("limit: O_DSYNC {} KiB, depth 1", bytes >> 10), &mut latencies, start.elapsed(), total);
    disk.remove(&path).await
}

/// `count` logs, each with `depth` batches outstanding, until the time is over.
async fn produce(store: &LogStore<GlommioDisk>, clock: &Rc<Clock>, what: &str, load: Load, time: Duration) {
    let template = template(load.bytes);
    let logs: Vec<_> =
        (0..load.logs).map(|index| store.log(partition(load.topic, index), LogConfig::default())).collect();
    let start = Instant::now();
    let tasks: Vec<_> = logs
        .into_iter()
        .map(|log| {
            let (clock, template, store) = (clock.clone(), template.clone(), store.clone());
            glommio::spawn_local(async move {
                let mut sent = 0u64;
                while start.elapsed() < time {
                    while log.positions().written.since(log.positions().durable) < load.depth
                        && store.has_room(template.len())
                    {
                        append(&log, &clock, &template);
                        sent += 1;
                    }
                    if load.depth == 1 && store.has_room(template.len()) {
                        drop(log.flush().await);
                    } else {
                        glommio::executor().yield_task_queue_now().await;
                        glommio::timer::sleep(Duration::from_micros(20)).await;
                    }
                }
                drop(log.flush().await);
                sent * template.len() as u64
            })
        })
        .collect();
    let mut bytes = 0;
    for task in tasks {
        bytes += task.await;
    }
    clock.report(what, start.elapsed(), bytes);
}

#[derive(Copy, Clone)]
struct Load {
    topic: u8,
    logs: u32,
    depth: i64,
    bytes: usize,
}

fn partition(topic: u8, index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::new([topic; 16]), PartitionIndex::new(index))
}

async fn consume(store: &LogStore<GlommioDisk>, topic: u8) {
    let log = store.log(partition(topic, 0), LogConfig::default());
    let (start, mut at, mut bytes) = (Instant::now(), Offset::ZERO, 0u64);
    while at < log.positions().durable {
        let found =
            log.read(at, log.positions().durable, 1 << 20).await.unwrap_or_else(|error| panic!("{error}"));
        let Some(last) = found.last() else { break };
        at = BatchHeader::parse(last).unwrap_or_else(|error| panic!("{error}")).next_offset();
        bytes += found.iter().map(|batch| batch.len() as u64).sum::<u64>();
    }
    let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("cold read of one log, 1 MiB per call: {:.0} MB at {rate:.0} MB/s", bytes as f64 / 1e6);
}

/// What the loops cost when nothing happens.
async fn idle(time: Duration) -> std::io::Result<()> {
    glommio::timer::sleep(Duration::from_secs(3)).await; // what is dirty is drained first
    let before = cpu_time()?;
    glommio::timer::sleep(time).await;
    let used = cpu_time()?.saturating_sub(before); // a thread that ended takes its time along
    println!("idle with all those logs: {:.2} % of a core", 100.0 * used.as_secs_f64() / time.as_secs_f64());
    Ok(())
}

/// CPU time of all threads of this process.
fn cpu_time() -> std::io::Result<Duration> {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let line = std::fs::read_to_string(task?.path().join("schedstat"))?;
        total += line.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(total))
}

async fn run(dir: PathBuf, time: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let disk = GlommioDisk::new();
    disk.create_dir_all(&dir).await?;
    raw(&disk, &dir, 4 << 10, time).await?;
    raw(&disk, &dir, 512 << 10, time).await?;
    let clock = Rc::new(Clock::default());
    let dsync = std::env::var("SEGMENT_DSYNC").is_ok();
    let mut options = Options { dir: dir.clone(), segment_dsync: dsync, ..Options::default() };
    if let Some(bytes) = std::env::var("DIRECT").ok().and_then(|bytes| bytes.parse().ok()) {
        options.direct_drain_bytes = bytes;
    }
    let store =
        LogStore::open(disk.clone(), options, CoreId::new(0), RecoveredPartitions::new(), clock.clone())
            .await?;
    let (commit, background) = (store.clone(), store.clone());
    glommio::spawn_local(async move { commit.run_commit().await }).detach();
    glommio::spawn_local(async move { background.run_background().await }).detach();
    let load = |topic, logs, depth, bytes| Load { topic, logs, depth, bytes };
    produce(&store, &clock, "1 KiB, one at a time", load(1, 1, 1, 1 << 10), time).await;
    produce(&store, &clock, "1 KiB, 64 logs, one at a time each", load(2, 64, 1, 1 << 10), time).await;
    produce(&store, &clock, "1 KiB, 1000 logs, one at a time each", load(3, 1000, 1, 1 << 10), time).await;
    produce(&store, &clock, "128 KiB, one log, depth 8", load(4, 1, 8, 128 << 10), time).await;
    produce(&store, &clock, "256 KiB, one log, one at a time", load(5, 1, 1, 256 << 10), time).await;
    produce(&store, &clock, "1 MiB, one log, one at a time", load(6, 1, 1, 1 << 20), time).await;
    produce(&store, &clock, "1 MiB, one log, depth 8", load(7, 1, 8, 1 << 20), time).await;
    produce(&store, &clock, "1 MiB, 4 logs, depth 4", load(8, 4, 4, 1 << 20), time).await;
    consume(&store, 7).await;
    println!("{:?}", store.stats());
    idle(time).await?;
    store.shutdown().await?;
    disk.remove_dir_all(&dir).await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: measure DIR [SECONDS]")?).join("measure");
    let seconds = arguments.next().map_or(Ok(3), |seconds| seconds.parse())?;
    let executor = LocalExecutorBuilder::new(Placement::Fixed(0))
        .spin_before_park(Duration::from_micros(100))
        .spawn(move || async move {
            run(dir, Duration::from_secs(seconds)).await.map_err(|error| error.to_string())
        })?;
    executor.join().map_err(|error| error.to_string())??;
    Ok(())
}
