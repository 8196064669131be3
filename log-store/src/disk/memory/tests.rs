//! The in-memory disk keeps exactly what it promised.

use super::*;

fn path() -> &'static Path {
    Path::new("/d/file")
}

async fn create(disk: &MemoryDisk) -> MemoryFile {
    disk.create_dir_all(Path::new("/d")).await.unwrap();
    disk.sync_dir(Path::new("/")).await.unwrap();
    let file = disk.open(path(), OpenMode::NEW).await.unwrap();
    disk.sync_dir(Path::new("/d")).await.unwrap();
    file
}

fn content(disk: &MemoryDisk) -> Vec<u8> {
    disk.files().into_iter().find(|(name, _)| name == path()).map(|(_, bytes)| bytes).unwrap_or_default()
}

#[test]
fn a_synced_write_survives_every_crash() {
    for seed in 0..50 {
        let disk = MemoryDisk::new(seed);
        disk.run(async {
            let file = create(&disk).await;
            file.write_at(vec![7; BLOCK_BYTES], 0).await.unwrap();
            file.sync().await.unwrap();
        });
        assert_eq!(content(&disk.crash()), vec![7; BLOCK_BYTES], "seed {seed}");
    }
}

#[test]
fn an_unsynced_write_survives_sometimes_and_in_part() {
    let mut survivors = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let disk = MemoryDisk::new(seed);
        disk.run(async {
            let file = create(&disk).await;
            file.preallocate(BLOCK_BYTES as u64).await.unwrap();
            file.sync().await.unwrap();
            file.write_at(vec![7; BLOCK_BYTES], 0).await.unwrap();
        });
        survivors.insert(content(&disk.crash()).iter().filter(|byte| **byte == 7).count());
    }
    assert!(survivors.contains(&0) && survivors.len() > 2, "{survivors:?}");
}

#[test]
fn a_file_whose_directory_was_not_synced_may_vanish() {
    let remains = |seed| {
        let disk = MemoryDisk::new(seed);
        disk.run(async {
            disk.create_dir_all(Path::new("/d")).await.unwrap();
            let file = disk.open(path(), OpenMode::NEW).await.unwrap();
            file.sync().await.unwrap();
        });
        disk.crash().files().len()
    };
    let counts: std::collections::BTreeSet<_> = (0..50).map(remains).collect();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_lost_write_reports_success_and_a_failed_one_does_not() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let file = create(&disk).await;
        disk.lose_next_write("file");
        file.write_at(vec![7; BLOCK_BYTES], 0).await.unwrap();
        disk.fail_next("file");
        file.write_at(vec![8; BLOCK_BYTES], 0).await.unwrap_err();
    });
    assert!(content(&disk).is_empty());
}

/// A file of two blocks on stable storage, and what was to happen to its disk.
fn harmed(seed: u64, harm: impl AsyncFnOnce(&MemoryDisk, &MemoryFile)) -> MemoryDisk {
    let disk = MemoryDisk::new(seed);
    disk.run(async {
        let file = create(&disk).await;
        file.write_at(vec![7; 2 * BLOCK_BYTES], 0).await.unwrap();
        file.sync().await.unwrap();
        assert!(!disk.is_harmed());
        harm(&disk, &file).await;
    });
    disk
}

/// Harms the second block in turn by either fault.
async fn harm_second_block(seed: u64, disk: &MemoryDisk, file: &MemoryFile) {
    if seed.is_multiple_of(2) {
        assert!(disk.flip_bit(path(), BLOCK_BYTES as u64 + 9, 3));
    } else {
        disk.lose_next_write("file");
        assert!(disk.is_harmed(), "it will be");
        file.write_at(vec![8; BLOCK_BYTES], BLOCK_BYTES as u64).await.unwrap();
    }
    file.sync().await.unwrap();
    assert!(disk.is_harmed());
}

#[test]
fn a_harmed_disk_stays_harmed_through_crashes_and_other_writes() {
    for seed in 0..50 {
        let disk = harmed(seed, async |disk, file| {
            harm_second_block(seed, disk, file).await;
            file.write_at(vec![9; BLOCK_BYTES], 0).await.unwrap();
            file.preallocate(3 * BLOCK_BYTES as u64).await.unwrap();
            file.sync().await.unwrap();
        });
        assert!(disk.is_harmed() && disk.crash().is_harmed(), "seed {seed}");
    }
}

#[test]
fn harm_ends_when_it_is_overwritten_cut_or_removed_for_good() {
    for seed in 0..50 {
        let cut = harmed(seed, async |disk, file| {
            harm_second_block(seed, disk, file).await;
            file.truncate(BLOCK_BYTES as u64).await.unwrap();
            file.sync().await.unwrap();
        });
        assert!(!cut.is_harmed() && !cut.crash().is_harmed(), "seed {seed}");
        let overwritten = harmed(seed, async |disk, file| {
            harm_second_block(seed, disk, file).await;
            file.write_at(vec![9; BLOCK_BYTES], BLOCK_BYTES as u64).await.unwrap();
            assert!(disk.is_harmed(), "a crash could bring it back");
            file.sync().await.unwrap();
        });
        assert!(!overwritten.is_harmed() && !overwritten.crash().is_harmed(), "seed {seed}");
        let removed = harmed(seed, async |disk, file| {
            harm_second_block(seed, disk, file).await;
            disk.remove(path()).await.unwrap();
            disk.sync_dir(Path::new("/d")).await.unwrap();
        });
        assert!(!removed.is_harmed() && !removed.crash().is_harmed(), "seed {seed}");
    }
}

#[test]
fn a_lost_write_that_was_never_synced_does_no_harm_in_a_crash() {
    for seed in 0..50 {
        let disk = harmed(seed, async |disk, file| {
            disk.lose_next_write("file");
            file.write_at(vec![8; BLOCK_BYTES], 0).await.unwrap();
            assert!(disk.is_harmed(), "readers see it");
        });
        assert!(!disk.crash().is_harmed(), "seed {seed}: it could have been lost as well");
    }
    let disk = MemoryDisk::new(1);
    disk.lose_next_write("file");
    assert!(!disk.crash().is_harmed());
}

#[test]
fn a_full_disk_refuses_to_grow_a_file() {
    let disk = MemoryDisk::new(1);
    disk.set_capacity(Some(2 * BLOCK_BYTES as u64));
    disk.run(async {
        let file = create(&disk).await;
        file.preallocate(2 * BLOCK_BYTES as u64).await.unwrap();
        let error = file.preallocate(3 * BLOCK_BYTES as u64).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.write_at(vec![1; 2 * BLOCK_BYTES], 0).await.unwrap();
    });
}

#[test]
fn handles_of_before_a_crash_fail() {
    let disk = MemoryDisk::new(1);
    let file = disk.run(create(&disk));
    let after = disk.crash();
    assert!(after.run(file.sync()).is_err());
    assert!(after.run(after.open(path(), OpenMode::EXISTING)).is_ok());
}

#[test]
fn sleeping_takes_virtual_time_only() {
    let disk = MemoryDisk::new(1);
    disk.run(disk.sleep(Duration::from_secs(3600)));
    assert_eq!(disk.now(), Duration::from_secs(3600));
}

#[test]
fn a_write_that_nobody_waits_for_lands_late_or_when_somebody_does() {
    let mut landed_late = 0;
    for seed in 0..100 {
        let disk = MemoryDisk::new(seed);
        let block = |byte| vec![byte; BLOCK_BYTES];
        let after = disk.run(async {
            let file = create(&disk).await;
            file.write_at(block(1), 0).await.unwrap();
            let abandoned = file.write_at(block(2), 0);
            assert!(futures_lite::future::poll_once(abandoned).await.is_none_or(|done| done.is_ok()));
            if seed % 2 == 0 {
                file.preallocate(BLOCK_BYTES as u64).await.unwrap();
            }
            file.write_at(block(3), 0).await.unwrap();
            file.sync().await.unwrap();
            disk.sync_dir(Path::new("/d")).await.unwrap();
            disk.crash()
        });
        let content = after.files()[0].1.clone();
        assert!(seed % 2 == 1 || content == block(3), "seed {seed}");
        landed_late += usize::from(content != block(3));
    }
    assert!(landed_late > 0, "without waiting, some land in the crash");
}
