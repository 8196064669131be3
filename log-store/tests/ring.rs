//! The store over the real disk: one life of a log through io_uring, direct I/O and a restart.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use heddle_log_store::{
    GlommioDisk, Hooks, Log, LogConfig, LogId, LogStore, Options, RecoveredPartitions, SyncMode, WriteTimes,
    list_partitions, list_wal_dirs, replay_wal,
};
use heddle_proto::batch::{self, BatchBuilder, BatchHeader, Compression};
use heddle_proto::ids::{CoreId, Epoch, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};

#[derive(Default)]
struct Owner {
    durable: RefCell<BTreeMap<LogId, Offset>>,
}

impl Hooks for Owner {
    fn durable(&self, log: LogId, upto: Offset, _: WriteTimes) {
        self.durable.borrow_mut().insert(log, upto);
    }
}

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.join("data"),
        wal_file_bytes: 1 << 20,
        drain_bytes: 64 << 10,
        cache_bytes_max: 0,
        reserve_bytes: 1 << 20,
        ..Options::default()
    }
}

async fn open(options: &Options, owner: Rc<Owner>) -> LogStore<GlommioDisk> {
    let disk = GlommioDisk::new();
    let dirs = list_wal_dirs(&disk, options).await.unwrap();
    let mut recovered = RecoveredPartitions::new();
    for dir in &dirs {
        let contents = replay_wal(&disk, options, *dir).await.unwrap();
        assert!(contents.lost_frames.is_empty());
        recovered.extend(contents.partitions);
    }
    for partition in list_partitions(&disk, options).await.unwrap() {
        recovered.entry(partition).or_default();
    }
    let store = LogStore::open(disk, options.clone(), CoreId::new(0), recovered, owner).await.unwrap();
    store.retire_old_wals(&dirs).await.unwrap();
    for each in [true, false] {
        let store = store.clone();
        let work = async move { if each { store.run_commit().await } else { store.run_background().await } };
        glommio::spawn_local(async move { work.await.unwrap() }).detach();
    }
    store
}

fn append(log: &Log<GlommioDisk>, bytes: usize) {
    let mut builder = BatchBuilder::new(Compression::None);
    let base = log.positions().written;
    let value = vec![base.get() as u8; bytes];
    builder.push(Timestamp::new(base.get()), None, Some(&value), &[]).unwrap();
    let mut batch = builder.build().unwrap();
    batch::assign(&mut batch, base, Epoch::new(0));
    let header = BatchHeader::parse(&batch).unwrap();
    log.append(batch.freeze(), &header).unwrap();
}

async fn check(log: &Log<GlommioDisk>, count: i64) {
    let (mut at, mut seen) = (Offset::ZERO, 0);
    while seen < count {
        let batches: Vec<Bytes> = log.read(at, Offset::new(count), 1 << 20).await.unwrap();
        assert!(!batches.is_empty(), "nothing at {at}");
        for batch in batches {
            let header = batch::verify(&batch).unwrap();
            assert_eq!(header.base_offset, at);
            let record = batch::records(&batch, 1 << 24).unwrap().next().unwrap().unwrap();
            assert!(record.value.unwrap().iter().all(|byte| *byte == at.get() as u8));
            at = header.next_offset();
            seen += 1;
        }
    }
}

fn partition(index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::new([7; 16]), PartitionIndex::new(index))
}

async fn first_life(options: Options) {
    let owner = Rc::new(Owner::default());
    let store = open(&options, owner.clone()).await;
    let logs: Vec<_> = (0..3).map(|index| store.log(partition(index), LogConfig::default())).collect();
    let flushed = SyncMode::Flush { after: Duration::from_millis(5), bytes: 1 << 20 };
    logs[2].set_config(LogConfig { sync: flushed, ..LogConfig::default() });
    for round in 0..200 {
        append(&logs[0], 900);
        append(&logs[2], 500);
        if round % 50 == 0 {
            append(&logs[1], 700 << 10);
        }
        logs[0].flush().await.unwrap();
    }
    for log in &logs {
        log.flush().await.unwrap();
        assert_eq!(owner.durable.borrow()[&log.id()], log.positions().written);
    }
    check(&logs[0], 200).await;
    check(&logs[1], 4).await;
    check(&logs[2], 200).await;
}

async fn second_life(options: Options) {
    let store = open(&options, Rc::default()).await;
    assert_eq!(store.recovered().len(), 3);
    for (index, count) in [(0, 200), (1, 4), (2, 200)] {
        let log = store.log(partition(index), LogConfig::default());
        assert_eq!(log.positions().durable, Offset::new(count));
        assert!(log.recovered_state().1.len() as i64 <= count);
        check(&log, count).await;
    }
    store.delete(partition(1)).await.unwrap();
    store.shutdown().await.unwrap();
}

async fn third_life(options: Options) {
    let store = open(&options, Rc::default()).await;
    assert_eq!(store.recovered(), [partition(0), partition(2)]);
    let log = store.log(partition(0), LogConfig::default());
    check(&log, 200).await;
    assert_eq!(
        log.offset_at(Timestamp::new(150)).await.unwrap(),
        Some((Offset::new(150), Timestamp::new(150)))
    );
}

#[test]
fn a_log_lives_three_lives_on_a_real_disk() {
    // Not the system's temporary directory: that may be a tmpfs, which has no direct I/O.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = options(dir.path());
    for life in 0..3 {
        let options = options.clone();
        let executor = LocalExecutorBuilder::new(Placement::Unbound).spawn(move || async move {
            match life {
                0 => first_life(options).await,
                1 => second_life(options).await,
                _ => third_life(options).await,
            }
        });
        executor.unwrap().join().unwrap();
    }
}
