//! A partition over the real log store on the in-memory disk: what is acknowledged, what is refused, what survives.

mod transactions;

use std::{collections::BTreeMap, future::Future};

use bytes::BytesMut;
use futures_lite::future;
use heddle_log_store::{LogStore, MemoryDisk, Options, list_wal_dirs, replay_wal};
use heddle_proto::{
    batch::{BatchBuilder, Compression, records},
    error::ErrorCode,
    ids::{CoreId, Epoch, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId},
};

use super::{
    produce::{Acks, ProduceError},
    *,
};
use crate::{runtime::watch::Watch, shard::hooks::ShardHooks};

const NOW: Timestamp = Timestamp::new(1_700_000_000_000);

fn place() -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([3; 16]), partition: PartitionIndex::new(0) }
}

fn options() -> Options {
    Options { dir: "/data".into(), ..Options::default() }
}

struct Node {
    store: LogStore<MemoryDisk>,
    partition: Rc<Partition<MemoryDisk>>,
}

async fn open(disk: &MemoryDisk, epoch: i32, settings: &[(&str, &str)]) -> Node {
    let overrides = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let config = TopicConfig::parse(&overrides.collect()).expect("valid settings");
    open_with(disk, epoch, config, options()).await
}

async fn open_with(disk: &MemoryDisk, epoch: i32, config: TopicConfig, options: Options) -> Node {
    let mut recovered = BTreeMap::new();
    let dirs = list_wal_dirs(disk, &options).await.expect("lists");
    for dir in &dirs {
        let contents = replay_wal(disk, &options, *dir).await.expect("replays");
        assert!(contents.lost_frames.is_empty());
        recovered.extend(contents.partitions);
    }
    let hooks: Rc<ShardHooks<MemoryDisk>> = Rc::default();
    let store = LogStore::open(disk.clone(), options, CoreId::new(0), recovered, hooks.clone()).await;
    let store = store.expect("opens");
    store.retire_old_wals(&dirs).await.expect("retires");
    let config = Arc::new(config);
    let log = store.log(place(), config.log);
    let id = log.id();
    let partition = Partition::new(place(), "t".into(), log, Epoch::new(epoch), config, None);
    hooks.attach(id, &partition);
    Node { store, partition }
}

/// Runs a test with the store's loops beside it.
async fn with_loops<T>(node: &Node, test: impl Future<Output = T>) -> T {
    let commit = async {
        let failed = node.store.run_commit().await;
        panic!("the commit loop ended: {failed:?}");
    };
    let background = async {
        let failed = node.store.run_background().await;
        panic!("the background loop ended: {failed:?}");
    };
    future::or(test, future::or(commit, background)).await
}

fn batch(values: &[&str], producer: Option<(i64, i32)>) -> BytesMut {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, sequence)) = producer {
        builder = builder.producer(ProducerId::new(id), ProducerEpoch::new(0), Sequence::new(sequence));
    }
    for value in values {
        builder.push(Timestamp::new(5), None, Some(value.as_bytes()), &[]).expect("fits");
    }
    builder.build().expect("builds")
}

fn produce(node: &Node, records: BytesMut) -> Result<super::produce::Accepted, ProduceError> {
    node.partition.produce(records, None, Acks::Quorum, NOW)
}

async fn read_all(node: &Node) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    let mut next = node.partition.start();
    while next < node.partition.committed() {
        let fetched = node.partition.fetch(next, 1 << 20).await.expect("reads");
        for batch in fetched.batches {
            for record in records(&batch, 1 << 20).expect("is a batch") {
                let record = record.expect("is a record");
                let value = record.value.expect("has a value");
                found.push((record.offset.get(), String::from_utf8(value.to_vec()).expect("text")));
                next = record.offset.next();
            }
        }
    }
    found
}

#[test]
fn an_ack_waits_for_the_disk_and_consumers_see_nothing_before() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, 0, &[]).await;
        let accepted = produce(&node, batch(&["a"], None)).expect("is accepted");
        let mut settled = Box::pin(accepted.settled());
        assert!(future::poll_once(&mut settled).await.is_none(), "acknowledged before anything was written");
        assert_eq!(node.partition.committed(), Offset::ZERO);
        with_loops(&node, settled).await.expect("settles");
        assert_eq!(node.partition.committed(), Offset::new(1));
        assert_eq!(read_all(&node).await, [(0, "a".to_owned())]);
    });
}

#[test]
fn async_topics_acknowledge_at_once() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, 0, &[("durability", "async")]).await;
        let accepted = produce(&node, batch(&["a", "b"], None)).expect("is accepted");
        accepted.settled().await.expect("settles without any loop running");
        assert_eq!(node.partition.committed(), Offset::new(2));
    });
}

#[test]
fn a_retry_is_acknowledged_with_its_first_offset_also_after_a_restart() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, 0, &[]).await;
        with_loops(&node, async {
            for sequence in 0..3 {
                let accepted = produce(&node, batch(&["x"], Some((7, sequence)))).expect("is new");
                accepted.settled().await.expect("settles");
            }
            let again = produce(&node, batch(&["x"], Some((7, 1)))).expect("is a duplicate");
            assert_eq!(again.base_offset, Offset::new(1));
            again.settled().await.expect("settles");
        })
        .await;
        assert_eq!(read_all(&node).await.len(), 3);
    });
    let disk = disk.crash();
    disk.run(async {
        let node = open(&disk, 1, &[]).await;
        assert_eq!(read_all(&node).await.len(), 3);
        let again = produce(&node, batch(&["x"], Some((7, 2)))).expect("is a duplicate");
        assert_eq!(again.base_offset, Offset::new(2));
        let gap = produce(&node, batch(&["x"], Some((7, 4)))).map(drop).expect_err("3 comes next");
        assert_eq!(gap.code(), ErrorCode::OutOfOrderSequenceNumber);
        let accepted = produce(&node, batch(&["y"], Some((7, 3)))).expect("is new");
        with_loops(&node, accepted.settled()).await.expect("settles");
        assert_eq!(node.partition.epoch_end(Epoch::new(0)), Some((Epoch::new(0), Offset::new(3))));
    });
}

#[test]
fn what_was_sent_behind_a_refused_batch_is_refused_alike() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let options = Options { dirty_bytes_max: 8 << 10, ..options() };
        let node = open_with(&disk, 0, TopicConfig::default(), options).await;
        let filler = "x".repeat(1 << 10);
        while produce(&node, batch(&[&filler], None)).is_ok() {}
        // Of producer 7 nothing is known yet, so that any sequence would do.
        for (producer, first) in [(7, 0), (8, 3)] {
            let send = |sequence| produce(&node, batch(&[&filler], Some((producer, sequence)))).map(drop);
            for time in 0..2 {
                assert_eq!(send(first).expect_err("is full").code(), ErrorCode::RequestTimedOut);
                for behind in 1..=4 {
                    let refused = send(first + behind).expect_err("is behind");
                    assert!(matches!(refused, ProduceError::Behind { .. }), "{time}: {refused}");
                    assert_eq!(refused.code(), ErrorCode::RequestTimedOut);
                }
            }
        }
        with_loops(&node, async {
            let emptied = async {
                while node.partition.log().positions().durable < node.partition.log().positions().written {
                    future::yield_now().await;
                }
            };
            emptied.await;
            let behind = produce(&node, batch(&["x"], Some((7, 1)))).map(drop);
            assert!(!matches!(behind, Err(ProduceError::Behind { .. })), "a fifth one cannot be in flight");
            for sequence in [3, 4] {
                let accepted = produce(&node, batch(&["x"], Some((8, sequence)))).expect("is in order");
                accepted.settled().await.expect("settles");
            }
            let gap = produce(&node, batch(&["x"], Some((8, 6)))).map(drop).expect_err("5 comes next");
            assert_eq!(gap.code(), ErrorCode::OutOfOrderSequenceNumber);
        })
        .await;
    });
}

#[test]
fn refusals_write_nothing() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, 3, &[("max.message.bytes", "200")]).await;
        let mut flipped = batch(&["a"], None);
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let mut truncated = batch(&["a"], None);
        truncated.truncate(65);
        let large = "x".repeat(300);
        let cases = [
            (flipped, ErrorCode::CorruptMessage),
            (truncated, ErrorCode::CorruptMessage),
            (batch(&[&large], None), ErrorCode::MessageTooLarge),
            (BytesMut::new(), ErrorCode::InvalidRecord),
        ];
        for (records, expected) in cases {
            let refused = produce(&node, records).map(drop).expect_err("is refused");
            assert_eq!(refused.code(), expected, "{refused}");
        }
        for (epoch, expected) in [(2, ErrorCode::FencedLeaderEpoch), (4, ErrorCode::UnknownLeaderEpoch)] {
            let epoch = Some(Epoch::new(epoch));
            let refused = node.partition.produce(batch(&["a"], None), epoch, Acks::Quorum, NOW);
            assert_eq!(refused.map(drop).expect_err("is refused").code(), expected);
        }
        assert_eq!(node.partition.log().positions().written, Offset::ZERO);
    });
}

#[test]
fn the_broker_sets_timestamps_when_the_topic_says_so() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, 0, &[("message.timestamp.type", "LogAppendTime")]).await;
        let accepted = produce(&node, batch(&["a"], None)).expect("is accepted");
        assert_eq!(accepted.append_time, NOW);
        with_loops(&node, accepted.settled()).await.expect("settles");
        let fetched = node.partition.fetch(Offset::ZERO, 1000).await.expect("reads");
        let header = heddle_proto::batch::verify(&fetched.batches[0]).expect("its CRC is right");
        assert_eq!(header.max_timestamp, NOW);
    });
}

#[test]
fn reads_outside_of_what_is_committed_are_refused() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, 0, &[]).await;
        produce(&node, batch(&["a"], None)).map(drop).expect("is accepted");
        for offset in [-1, 1] {
            let refused = node.partition.fetch(Offset::new(offset), 100).await.expect_err("is out of range");
            assert_eq!(refused.code(), ErrorCode::OffsetOutOfRange);
        }
        assert!(node.partition.fetch(Offset::ZERO, 100).await.expect("is the end").batches.is_empty());
    });
}

#[test]
fn deleting_a_partition_ends_every_wait() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, 0, &[]).await;
        let accepted = produce(&node, batch(&["a"], None)).expect("is accepted");
        let watch = Watch::new();
        let flag = watch.flag(3);
        node.partition.watch(&flag);
        node.partition.close();
        assert!(accepted.settled().await.is_err(), "an ack for a deleted partition would be a lie");
        assert_eq!(watch.take(), [3]);
        assert!(produce(&node, batch(&["a"], None)).is_err());
    });
}
