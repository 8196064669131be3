//! The scrub: rot that nobody asks for is found within the interval, wherever it is, and sound logs stay sound.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use heddle_log_store::formats::{DrainHeader, Step, View, Walker};
use heddle_log_store::{LogConfig, Options, ReadError, Stats};
use heddle_proto::ids::Offset;
use support::{World, make_batch, partition, tiny};

const INTERVAL: Duration = Duration::from_secs(600);
const LOGS: u32 = 3;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 32 << 10, ..LogConfig::default() }
}

/// A core with some segments in each log, all of it drained; the newest segment of each is open.
fn filled(seed: u64, options: Options) -> World {
    let mut world = World::new(seed, options, 1);
    for round in 0..40 {
        for index in 0..LOGS {
            let log = world.log(partition(index), config());
            let (batch, header) = make_batch(log.positions().written, 0, 2, 700 + round * 97 % 3000, 1000);
            log.append(batch, &header).unwrap();
        }
        world.wait(Duration::from_millis(20));
    }
    world.wait(Duration::from_secs(4));
    world
}

fn stats(world: &World) -> Stats {
    world.node(partition(0)).store.stats()
}

/// A batch on disk.
struct Stored {
    log: u32,
    file: PathBuf,
    base: Offset,
    position: u64,
    bytes: u64,
}

/// Every batch in every segment.
fn stored(world: &World) -> Vec<Stored> {
    let mut found = Vec::new();
    for (file, bytes) in
        world.disk.files().into_iter().filter(|(file, _)| file.extension() == Some("log".as_ref()))
    {
        let base = Offset::new(file.file_stem().and_then(OsStr::to_str).unwrap().parse().unwrap());
        let walk = |log| {
            let mut walker = Walker::at_drain(DrainHeader::owner_of(partition(log)), base, 0, base);
            let mut batches = Vec::new();
            let view = View { start: 0, bytes: &bytes, data_end: bytes.len() as u64 };
            while let Step::Batch(header, range) = walker.step(&view) {
                let (position, bytes) = (range.start as u64, range.len() as u64);
                batches.push(Stored { log, file: file.clone(), base: header.base_offset, position, bytes });
            }
            batches
        };
        found.extend((0..LOGS).map(walk).find(|batches| !batches.is_empty()).unwrap_or_default());
    }
    found
}

#[test]
fn rot_is_found_within_the_interval_wherever_it_is() {
    let options = Options { scrub_interval: INTERVAL, ..tiny() };
    let count = stored(&filled(1, options.clone())).len();
    assert!(count > 100, "{count}");
    for index in (0..count).step_by(7) {
        let mut world = filled(1, options.clone());
        let rotten = stored(&world).swap_remove(index);
        // Passes come and go before, at another point of theirs each time.
        world.wait(INTERVAL / 50 * index as u32);
        assert!(world.disk.flip_bit(
            &rotten.file,
            rotten.position + rotten.bytes * (index as u64 % 9) / 9,
            3
        ));
        world.wait(INTERVAL);
        for log in 0..LOGS {
            let damage = world.log(partition(log), config()).damage();
            let expected = (log == rotten.log).then_some(rotten.base);
            assert_eq!(damage.as_ref().map(|damage| damage.offset), expected, "batch {index}: {damage:?}");
        }
        assert_eq!(stats(&world).counters.corruptions, 1, "known damage is not found again");
        assert_eq!(stats(&world).counters.disk_reads, 0, "nobody else looked");
        world.crash();
        world.open(1).unwrap();
        assert_eq!(stats(&world).damaged_logs, 1, "known to the next start");
    }
}

#[test]
fn a_pass_reads_all_there_is_and_nothing_more() {
    let mut world = filled(2, Options { scrub_interval: INTERVAL, ..tiny() });
    let before = stats(&world).counters;
    world.wait(INTERVAL * 2);
    let after = stats(&world);
    let passes = after.counters.scrubs - before.scrubs;
    assert!((3..=4).contains(&passes), "{passes} passes in two intervals");
    let data: u64 = (0..LOGS).map(|log| world.log(partition(log), config()).size_bytes()).sum();
    let read = after.counters.scrub_read_bytes - before.scrub_read_bytes;
    assert!((passes * data..=passes * data * 2).contains(&read), "{read} bytes of {passes} times {data}");
    assert_eq!((after.counters.corruptions, after.damaged_logs), (0, 0));
    assert!(after.scrub_ended_at > 0);
}

#[test]
fn without_an_interval_nothing_is_read() {
    let mut world = filled(3, Options { scrub_interval: Duration::ZERO, ..tiny() });
    world.wait(INTERVAL);
    assert_eq!((stats(&world).counters.scrubs, stats(&world).counters.scrub_read_bytes), (0, 0));
}

#[test]
fn rot_in_records_that_were_deleted_takes_nothing_from_the_others() {
    let mut world = filled(4, Options { scrub_interval: INTERVAL, ..tiny() });
    let batches: Vec<_> = stored(&world).into_iter().filter(|batch| batch.log == 0).collect();
    let log = world.log(partition(0), config());
    let first = log.positions().start;
    let start = batches.iter().map(|batch| batch.base).nth(9).unwrap();
    assert!(start > first);
    world.run(log.delete_records(start)).unwrap();
    let rotten = batches.iter().find(|batch| batch.base == first).unwrap();
    assert!(world.disk.flip_bit(&rotten.file, rotten.position + 40, 0), "its segment is still there");
    world.wait(INTERVAL);
    assert_eq!(log.damage(), None);
    let read = world.run(async { log.read(start, log.positions().written, 1 << 20).await });
    assert!(read.is_ok_and(|batches| !batches.is_empty()));
}

#[test]
fn what_lies_before_rot_is_still_served() {
    let mut world = filled(5, Options { scrub_interval: INTERVAL, ..tiny() });
    let rotten = stored(&world).into_iter().rfind(|batch| batch.log == 0).unwrap();
    assert!(world.disk.flip_bit(&rotten.file, rotten.position + 20, 7));
    world.wait(INTERVAL);
    let log = world.log(partition(0), config());
    let read = async |from| log.read(from, log.positions().written, 1 << 20).await;
    assert!(world.run(read(Offset::ZERO)).is_ok_and(|batches| !batches.is_empty()));
    assert!(
        matches!(world.run(read(rotten.base)), Err(ReadError::Damaged(damage)) if damage.offset == rotten.base)
    );
}
