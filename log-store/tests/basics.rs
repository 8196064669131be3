//! The life of a log, step by step, over the in-memory disk.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use heddle_log_store::formats::{DrainHeader, Step, View, Walker};
use heddle_log_store::{AppendError, Disk, LogConfig, Options, ReadError, SyncMode};
use heddle_proto::ids::{Offset, Timestamp};
use support::{World, make_batch, partition, tiny};

fn config() -> LogConfig {
    LogConfig { segment_bytes: 32 << 10, ..LogConfig::default() }
}

fn append(world: &World, index: u32, count: i64, bytes: usize) {
    let log = world.log(partition(index), config());
    for _ in 0..count {
        let (batch, header) = make_batch(log.positions().written, 0, 1, bytes, 1000);
        log.append(batch, &header).unwrap();
    }
}

fn read_all(world: &mut World, index: u32) -> Vec<Offset> {
    let log = world.log(partition(index), config());
    world.run(async move {
        let (mut at, mut found) = (log.positions().start, Vec::new());
        loop {
            let batches = log.read(at, log.positions().written, 8 << 10).await.unwrap();
            if batches.is_empty() {
                return found;
            }
            for batch in batches {
                let header = heddle_proto::batch::verify(&batch).unwrap();
                found.push(header.base_offset);
                at = header.next_offset();
            }
        }
    })
}

#[test]
fn a_lone_batch_becomes_durable_and_survives_a_crash() {
    let mut world = World::new(1, tiny(), 1);
    append(&world, 0, 1, 100);
    let log = world.log(partition(0), config());
    world.run(log.flush()).unwrap();
    assert_eq!(log.positions().durable, Offset::new(1));
    drop(log);
    world.crash();
    let contents = world.open(1).unwrap();
    assert_eq!((contents.damaged_entries, contents.lost_frames.len()), (0, 0));
    assert_eq!(read_all(&mut world, 0), [Offset::ZERO]);
}

#[test]
fn many_batches_are_drained_rolled_and_read_back_from_disk_by_other_cores() {
    let mut world = World::new(2, tiny(), 3);
    for round in 0..40 {
        for index in 0..5 {
            append(&world, index, 3, 700 + round * 10);
        }
        world.wait(Duration::from_millis(2));
    }
    let log = world.log(partition(4), config());
    world.run(log.flush()).unwrap();
    let expected: Vec<Offset> = (0..120).map(Offset::new).collect();
    assert_eq!(read_all(&mut world, 4), expected);
    drop(log);
    world.crash();
    world.open(2).unwrap();
    for index in 0..5 {
        let all = read_all(&mut world, index);
        assert!(all.len() >= 110 && all[..] == expected[..all.len()], "log {index}: {} batches", all.len());
    }
    assert!(world.nodes.iter().all(|node| node.store.stats().counters.disk_reads > 0));
}

#[test]
fn large_batches_bypass_the_wal() {
    let mut world = World::new(3, tiny(), 1);
    append(&world, 0, 10, 20 << 10 >> 1);
    let log = world.log(partition(0), config());
    world.run(log.flush()).unwrap();
    let counters = world.nodes[0].store.stats().counters;
    assert_eq!(counters.wal_batches, 0);
    assert!(counters.direct_drains > 0);
    assert_eq!(read_all(&mut world, 0).len(), 10);
}

#[test]
fn a_flushed_log_never_touches_the_wal_and_is_durable_in_time() {
    let mut world = World::new(4, tiny(), 1);
    let sync = SyncMode::Flush { after: Duration::from_millis(50), bytes: 1 << 20 };
    let log = world.log(partition(0), LogConfig { sync, ..LogConfig::default() });
    let (batch, header) = make_batch(Offset::ZERO, 0, 1, 100, 5);
    log.append(batch, &header).unwrap();
    world.wait(Duration::from_millis(20));
    assert_eq!(log.positions().durable, Offset::ZERO);
    world.wait(Duration::from_millis(80));
    assert_eq!(log.positions().durable, Offset::new(1));
    assert_eq!(world.nodes[0].store.stats().counters.wal_batches, 0);
}

/// Virtual time until `kib` of batches in a log that is patient are durable, on a disk that takes 1 ms for each I/O, and how many
/// I/Os of the smaller size that is.
fn patient_drain(kib: i64) -> (Duration, u32) {
    let options = Options { dirty_bytes_max: 1600 << 10, drain_bytes_max: 4 << 20, ..tiny() };
    let mut world = World::new(4, options, 1);
    let config = LogConfig { segment_bytes: 8 << 20, ..config() };
    let log = world.log(partition(0), config);
    append(&world, 0, 1, 100);
    world.wait(Duration::from_secs(2)); // it is drained, and there is a segment
    world.disk.set_latency(Some(Duration::from_millis(1)..Duration::from_micros(1001)));
    log.set_patient(true);
    append(&world, 0, kib, 1 << 10);
    let began = world.disk.now();
    while log.positions().durable < log.positions().written {
        world.wait(Duration::from_micros(100));
    }
    (world.disk.now() - began, (kib as u32) / 8)
}

#[test]
fn a_patient_log_waits_for_more_while_there_is_memory_and_then_drains_without_a_crowd_at_the_disk() {
    let (time, _) = patient_drain(300);
    assert!(time > Duration::from_millis(100), "it waits for more: {time:?}");
    let (time, ios) = patient_drain(500);
    assert!(time < Duration::from_millis(100), "a quarter of the memory is used: {time:?}");
    assert!(time > Duration::from_millis(1) * ios, "one I/O after another: {time:?}");
    let (time, ios) = patient_drain(1300);
    assert!(
        time < Duration::from_millis(1) * ios,
        "the memory is nearly used up, so several at once: {time:?}"
    );
}

#[test]
fn a_flushed_log_that_is_patient_keeps_nothing_in_memory_for_long() {
    let mut world = World::new(4, tiny(), 1);
    let sync = SyncMode::Flush { after: Duration::from_secs(3600), bytes: 1 << 30 };
    let log = world.log(partition(0), LogConfig { sync, ..LogConfig::default() });
    let write = || {
        let (batch, header) = make_batch(log.positions().written, 0, 1, 100, 5);
        log.append(batch, &header).unwrap();
    };
    write();
    world.wait(Duration::from_millis(200));
    assert_eq!(log.positions().durable, Offset::ZERO);
    log.set_patient(true);
    world.wait(Duration::from_millis(150));
    assert_eq!(log.positions().durable, log.positions().written, "what was there before, too");
    write();
    world.wait(Duration::from_millis(150));
    assert_eq!(log.positions().durable, log.positions().written);
}

#[test]
fn readers_that_keep_what_they_get_pin_little_more_than_that() {
    const READERS: usize = 20;
    let read_bytes_max = 48 << 10;
    let mut world = World::new(5, Options { read_bytes_max, read_cursors_max: READERS, ..tiny() }, 1);
    for _ in 0..4 {
        append(&world, 0, 100, 1000);
        world.wait(Duration::from_secs(5)); // all of it is in segments
    }
    let log = world.log(partition(0), config());
    let kept = world.run(async move {
        let mut kept = Vec::new();
        for reader in 0..READERS as i64 {
            for step in 0..12 {
                let from = Offset::new(reader * 15 + step);
                let mut found = log.read(from, log.positions().written, 1000).await.unwrap();
                if step == 11 {
                    kept.append(&mut found);
                }
            }
        }
        kept
    });
    let used = || world.nodes[0].store.stats().read_bytes;
    assert_eq!(kept.len(), READERS);
    assert!(used() <= read_bytes_max + READERS * (8 << 10), "{} bytes", used());
    drop(kept);
    assert!(used() <= read_bytes_max + (32 << 10), "{} bytes", used());
}

#[test]
fn records_are_found_by_time_in_memory_and_on_disk() {
    let mut world = World::new(5, tiny(), 1);
    let log = world.log(partition(0), config());
    for index in 0..100i64 {
        let (batch, header) = make_batch(log.positions().written, 0, 2, 900, index * 10);
        log.append(batch, &header).unwrap();
        if index % 8 == 0 {
            world.run(log.flush()).unwrap();
        }
    }
    world.wait(Duration::from_secs(5));
    for index in [0, 1, 37, 98, 99] {
        let (batch_start, second) = (Offset::new(index * 2), Offset::new(index * 2 + 1));
        let at = |ms| log.offset_at(Timestamp::new(ms));
        assert_eq!(world.run(at(index * 10)).unwrap(), Some((batch_start, Timestamp::new(index * 10))));
        assert_eq!(world.run(at(index * 10 + 1)).unwrap(), Some((second, Timestamp::new(index * 10 + 1))));
    }
    assert_eq!(world.run(log.offset_at(Timestamp::new(992))).unwrap(), None);
    assert_eq!(world.run(log.max_timestamp()).unwrap(), Some((Offset::new(199), Timestamp::new(991))));
}

#[test]
fn deleted_records_stay_deleted_and_their_segments_go() {
    let mut world = World::new(6, tiny(), 1);
    append(&world, 0, 120, 900);
    let log = world.log(partition(0), config());
    world.run(log.flush()).unwrap();
    let used = world.disk.used_bytes();
    assert_eq!(world.run(log.delete_records(Offset::new(100))).unwrap(), Offset::new(100));
    assert!(world.disk.used_bytes() < used);
    drop(log);
    world.crash();
    world.open(1).unwrap();
    let log = world.log(partition(0), config());
    assert_eq!(log.positions().start, Offset::new(100));
    let error = world.run(log.read(Offset::new(99), Offset::new(120), 1)).unwrap_err();
    assert!(matches!(error, ReadError::OutOfRange { .. }));
}

#[test]
fn retention_by_size_and_age_deletes_whole_segments() {
    let mut world = World::new(7, tiny(), 1);
    let limited =
        LogConfig { segment_bytes: 16 << 10, retention_bytes: Some(40 << 10), ..LogConfig::default() };
    let log = world.log(partition(0), limited);
    for _ in 0..100 {
        let (batch, header) = make_batch(log.positions().written, 0, 1, 1 << 10, 1);
        log.append(batch, &header).unwrap();
        world.run(log.flush()).unwrap();
    }
    world.wait(Duration::from_secs(60));
    assert!(log.size_bytes() <= 60 << 10 && log.positions().start > Offset::ZERO);
    log.set_config(LogConfig {
        retention_age: Some(Duration::from_secs(10)),
        segment_age_max: Duration::from_secs(1),
        ..limited
    });
    world.wait(Duration::from_secs(60));
    assert_eq!((log.positions().start, log.size_bytes()), (Offset::new(100), 0));
    let (batch, header) = make_batch(Offset::new(100), 0, 1, 100, 2);
    log.append(batch, &header).unwrap();
    drop(log);
    world.wait(Duration::from_secs(5));
    world.crash();
    world.open(1).unwrap();
    assert_eq!(read_all(&mut world, 0), [Offset::new(100)]);
}

#[test]
fn a_deleted_log_leaves_nothing_behind() {
    let mut world = World::new(8, tiny(), 2);
    append(&world, 0, 50, 900);
    append(&world, 2, 1, 900);
    world.wait(Duration::from_secs(1));
    let store = world.node(partition(0)).store.clone();
    world.run(store.delete(partition(0))).unwrap();
    drop(store);
    world.crash();
    let cores = 1;
    world.open(cores).unwrap();
    assert_eq!(world.nodes[0].store.recovered(), [partition(2)]);
    assert!(
        world
            .disk
            .files()
            .iter()
            .all(|(path, _)| !path.to_string_lossy().contains(&partition(0).to_string()))
    );
}

#[test]
fn a_log_that_was_deleted_and_made_again_keeps_what_it_got_since() {
    let mut world = World::new(8, tiny(), 2);
    append(&world, 0, 50, 900);
    world.wait(Duration::from_secs(1));
    for round in 0..3 {
        let store = world.node(partition(0)).store.clone();
        world.run(store.delete(partition(0))).unwrap();
        drop(store);
        append(&world, 0, 5 + round, 900);
        let log = world.log(partition(0), config());
        world.run(log.flush()).unwrap();
        drop(log);
        for cores in [2, 1, 2] {
            world.crash();
            world.open(cores).unwrap();
            assert_eq!(read_all(&mut world, 0).len(), 5 + round as usize, "round {round}, {cores} cores");
        }
    }
}

#[test]
fn a_full_disk_refuses_appends_early_and_keeps_serving() {
    let mut world = World::new(9, tiny(), 1);
    append(&world, 0, 10, 900);
    world.wait(Duration::from_secs(2));
    world.disk.set_capacity(Some(world.disk.used_bytes() + (200 << 10)));
    world.wait(Duration::from_secs(2));
    let log = world.log(partition(0), config());
    let mut appended = 0;
    let refused = loop {
        let (batch, header) = make_batch(log.positions().written, 0, 1, 4 << 10, 1);
        if let Err(error) = log.append(batch, &header) {
            break error;
        }
        appended += 1;
        world.run(log.flush()).unwrap();
    };
    assert_eq!(refused, heddle_log_store::AppendError::DiskFull);
    assert!(appended > 3);
    world.wait(Duration::from_secs(5));
    assert_eq!(read_all(&mut world, 0).len(), 10 + appended);
    world.disk.set_capacity(None);
    world.wait(Duration::from_secs(2));
    append(&world, 0, 1, 900);
    drop(log);
    world.wait(Duration::from_secs(2));
    world.crash();
    world.open(1).unwrap();
    assert_eq!(read_all(&mut world, 0).len(), 11 + appended);
}

#[test]
fn a_clean_shutdown_leaves_nothing_to_replay_and_the_next_start_finds_all() {
    let mut world = World::new(10, tiny(), 2);
    for index in 0..6 {
        append(&world, index, 20, 700);
    }
    let stores: Vec<_> = world.nodes.iter().map(|node| node.store.clone()).collect();
    for store in stores {
        world.run(store.shutdown()).unwrap();
        assert_eq!(store.stats().dirty_bytes, 0);
    }
    world.abandon();
    world.open(3).unwrap();
    for index in 0..6 {
        assert_eq!(read_all(&mut world, index).len(), 20);
    }
}

#[test]
fn a_failed_durable_write_ends_the_loop_and_is_not_retried() {
    let mut world = World::new(11, tiny(), 1);
    world.disk.fail_next(".wal");
    append(&world, 0, 1, 100);
    let log = world.log(partition(0), config());
    assert!(world.try_run(log.flush()).is_err());
    assert_eq!(log.positions().durable, Offset::ZERO);
}

#[test]
fn a_wal_file_is_kept_while_it_is_the_only_copy_of_anything() {
    let mut world = World::new(12, tiny(), 1);
    append(&world, 0, 1, 100);
    for _ in 0..200 {
        append(&world, 1, 1, 2000);
        let log = world.log(partition(1), config());
        world.run(log.flush()).unwrap();
    }
    assert!(world.nodes[0].store.stats().counters.wal_bytes > 10 * world.options.wal_file_bytes);
    assert!(world.nodes[0].store.stats().wal_files <= world.options.wal_files_max);
    world.crash();
    world.open(1).unwrap();
    assert_eq!(read_all(&mut world, 0), [Offset::ZERO]);
    assert_eq!(read_all(&mut world, 1).len(), 200);
}

/// More is appended than all its files hold before anything is drained, and only state records let go of the oldest one.
#[test]
fn a_full_wal_has_room_for_what_lets_go_of_it() {
    let mut world = World::new(3, Options { dirty_bytes_max: 1 << 20, ..tiny() }, 1);
    for round in 1..20 {
        (0..40).for_each(|index| append(&world, index, 1, 1000));
        world.run_for(2, &mut (Box::pin(std::future::pending()) as Pin<Box<dyn Future<Output = ()>>>));
        assert_eq!(world.log(partition(0), config()).positions().written, Offset::new(round));
    }
    for index in 0..40 {
        let log = world.log(partition(index), config());
        world.run(log.flush()).unwrap();
        // That takes a state record.
        assert_eq!(world.run(log.delete_records(Offset::new(1))).unwrap(), Offset::new(1));
    }
    assert!(world.nodes[0].store.stats().counters.wal_stalls > 0, "the WAL was never full");
    world.wait(Duration::from_secs(3));
    let stats = world.nodes[0].store.stats();
    assert!(stats.wal_files <= tiny().wal_files_max, "{stats:?}");
    world.crash();
    world.open(1).unwrap();
    let expected: Vec<Offset> = (1..19).map(Offset::new).collect();
    (0..40).for_each(|index| assert_eq!(read_all(&mut world, index), expected, "log {index}"));
}

#[test]
fn damage_before_an_acknowledged_drain_is_not_cut_as_a_torn_end() {
    let mut world = World::new(13, tiny(), 1);
    let log = world.log(partition(0), config());
    for _ in 0..3 {
        append(&world, 0, 1, 7000);
        world.run(log.flush()).unwrap();
    }
    // No time passes: no state record vouches for these drains yet, only each for the one before it.
    let path = world
        .disk
        .files()
        .into_iter()
        .map(|(path, _)| path)
        .find(|path| path.extension() == Some("log".as_ref()));
    assert!(world.disk.flip_bit(&path.unwrap(), 9_000, 3));
    drop(log);
    world.crash();
    world.open(1).unwrap();
    let log = world.log(partition(0), config());
    assert_eq!((log.positions().written, log.damage().unwrap().offset), (Offset::new(3), Offset::new(1)));
    let batch = make_batch(Offset::new(3), 0, 1, 100, 1);
    assert!(matches!(log.append(batch.0, &batch.1), Err(AppendError::Damaged(_))));
    let found = world.run(log.read(Offset::ZERO, Offset::new(3), usize::MAX)).unwrap();
    assert_eq!(found.len(), 1);
    let refused = world.run(log.read(Offset::new(1), Offset::new(3), usize::MAX));
    assert!(matches!(refused, Err(ReadError::Damaged(_))));
    // The operator gives up what is lost.
    world.run(log.delete_records(Offset::new(3))).unwrap();
    assert_eq!(log.damage(), None);
    append(&world, 0, 1, 100);
    world.run(log.flush()).unwrap();
    assert_eq!(read_all(&mut world, 0), [Offset::new(3)]);
}

#[test]
fn retention_by_age_reaches_segments_of_an_earlier_life() {
    let mut world = World::new(14, tiny(), 1);
    append(&world, 0, 100, 900);
    world.wait(Duration::from_secs(5));
    world.crash();
    world.open(1).unwrap();
    let log = world.log(partition(0), LogConfig { retention_age: Some(Duration::from_secs(60)), ..config() });
    world.wait(Duration::from_secs(30));
    assert!(log.positions().start > Offset::ZERO);
    assert!(log.size_bytes() <= config().segment_bytes);
}

/// Where the intact drains of a segment end.
fn walk_to_end(bytes: &[u8], index: u32) -> usize {
    let owner = DrainHeader::owner_of(partition(index));
    let mut walker = Walker::at_drain(owner, Offset::ZERO, 0, Offset::ZERO);
    while let Step::Batch(..) = walker.step(&View { start: 0, bytes, data_end: bytes.len() as u64 }) {}
    walker.position.next_multiple_of(4096) as usize
}

/// Found by the oracle: what an unfinished drain left behind the end of the data was taken for part of a later one.
#[test]
fn recovery_leaves_only_zeros_behind_the_data() {
    let mut torn = 0;
    for seed in 0..150 {
        let mut world = World::new(seed, tiny(), 1);
        let flushed = SyncMode::Flush { after: Duration::from_millis(1), bytes: 1 << 20 };
        let log = world.log(partition(0), LogConfig { sync: flushed, ..config() });
        let append = || {
            let (batch, header) = make_batch(log.positions().written, 0, 1, 9000, 1);
            log.append(batch, &header).unwrap();
        };
        append();
        world.run(log.flush()).unwrap();
        (0..2).for_each(|_| append());
        world.wait(Duration::from_millis(1));
        let mut polls = 1 + seed % 12;
        world.run(std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            polls -= 1;
            if polls == 0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        }));
        drop(log);
        world.crash();
        let debris = |world: &World| {
            let segments =
                world.disk.files().into_iter().filter(|(path, _)| path.extension() == Some("log".as_ref()));
            segments
                .map(|(_, bytes)| bytes[walk_to_end(&bytes, 0)..].iter().filter(|byte| **byte != 0).count())
                .sum()
        };
        let before: usize = debris(&world);
        torn += usize::from(before > 0);
        world.open(1).unwrap();
        assert_eq!(debris(&world), 0, "seed {seed}, {before} bytes before");
    }
    assert!(torn > 3, "only {torn} seeds left debris: the test has lost its aim");
}

/// The process is killed, and what it had under way lands when its successor has long written to the same place.
#[test]
fn writes_of_a_process_that_is_gone_do_no_harm_when_they_land_late() {
    for seed in 0..200 {
        let mut world = World::new(seed, tiny(), 1);
        let mut never: Pin<Box<dyn Future<Output = ()>>> = Box::pin(std::future::pending());
        for _ in 0..30 + seed % 7 {
            append(&world, 0, 1, 1500);
            world.run_for(2, &mut never);
        }
        world.abandon();
        world.open(1).unwrap();
        for _ in 0..30 {
            append(&world, 0, 1, 1500);
            world.run_for(2, &mut never);
        }
        let log = world.log(partition(0), config());
        let durable = log.positions().durable;
        drop(log);
        world.crash();
        let contents = world.open(1).unwrap();
        assert_eq!((contents.damaged_entries, contents.lost_frames.len()), (0, 0), "seed {seed}");
        assert!(world.log(partition(0), config()).positions().written >= durable, "seed {seed}");
    }
}
