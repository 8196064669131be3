//! Tests of the metadata log on the in-memory disk: restart, torn tail, damage, compaction.

use std::collections::BTreeMap;

use futures_lite::future::block_on;
use heddle_log_store::MemoryDisk;
use heddle_proto::ids::TopicId;

use super::*;
use crate::metadata::{
    frame::BLOCK_BYTES,
    image::PortMode,
    quota::{Entity, Limited, QuotaChange, Who},
};

const DIR: &str = "/data";

fn start() -> Command {
    Command::StartNode {
        node: 1,
        host: "localhost".into(),
        port: 9092,
        core_count: 2,
        port_mode: PortMode::PerCore,
    }
}

fn create(turn: u32) -> Command {
    Command::CreateTopic {
        name: format!("topic-{turn}"),
        id: TopicId::new(u128::from(turn + 1).to_be_bytes()).to_string(),
        partition_count: 3,
        replication_factor: 1,
        overrides: BTreeMap::from([("retention.ms".into(), "1000".into())]),
        replicas: Vec::new(),
    }
}

/// Sets or removes what the client `c` of every user may produce.
fn quota(value: Option<f64>) -> Command {
    let entity = Entity { user: Some(Who::Default), client: Some(Who::Name("c".into())) };
    let changes = BTreeMap::from([(Limited::ProduceBytes, value)]);
    Command::ChangeQuota { change: QuotaChange { entity, changes } }
}

async fn open(disk: &MemoryDisk) -> (MetadataLog<MemoryDisk>, ClusterImage) {
    MetadataLog::open(disk.clone(), Path::new(DIR)).await.expect("opens")
}

fn shape(image: &ClusterImage) -> String {
    let quotas = &image.quotas;
    format!("{:?} {:?} {:?} {} {quotas:?}", image.topics, image.nodes, image.deleting, image.index)
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    block_on(async {
        let disk = MemoryDisk::new(1);
        let (mut log, mut image) = open(&disk).await;
        let outcomes =
            log.commit(&mut image, vec![start(), create(0), create(0), create(1), quota(Some(1e6))]).await;
        let outcomes = outcomes.expect("commits");
        assert!(outcomes[1].is_ok() && outcomes[2].is_err() && outcomes[3].is_ok());
        let before = shape(&image);
        drop(log);
        let (mut log, mut image) = open(&disk).await;
        assert_eq!(shape(&image), before);
        log.commit(&mut image, vec![create(2)]).await.expect("goes on");
        drop(log);
        assert_eq!(open(&disk).await.1.topics.len(), 3);
    });
}

#[test]
fn a_torn_last_frame_is_cut_and_an_earlier_bad_one_is_refused() {
    block_on(async {
        let disk = MemoryDisk::new(1);
        let (mut log, mut image) = open(&disk).await;
        for turn in 0..3 {
            let commands = if turn == 0 { vec![start(), create(0)] } else { vec![create(turn)] };
            log.commit(&mut image, commands).await.expect("commits");
        }
        let (path, end) = (log.path.clone(), log.position);
        drop(log);
        flip(&disk, &path, end - BLOCK_BYTES as u64 + 40).await;
        let (log, image) = open(&disk).await;
        assert_eq!((image.topics.len(), log.position), (2, end - BLOCK_BYTES as u64));
        drop(log);
        flip(&disk, &path, end - BLOCK_BYTES as u64 + 40).await;
        flip(&disk, &path, 40).await;
        let refused = MetadataLog::open(disk.clone(), Path::new(DIR)).await;
        assert!(matches!(refused, Err(MetadataLogError::Damaged { position: 0, .. })));
    });
}

#[test]
fn compaction_keeps_everything() {
    block_on(async {
        let disk = MemoryDisk::new(1);
        let (mut log, mut image) = open(&disk).await;
        log.commit(&mut image, vec![start(), quota(Some(2.5)), quota(Some(7.0))]).await.expect("commits");
        let mut turn = 0;
        while log.position > 0 {
            log.commit(&mut image, vec![create(turn)]).await.expect("commits");
            turn += 1;
        }
        log.commit(&mut image, vec![create(turn)]).await.expect("commits");
        let before = shape(&image);
        drop(log);
        assert_eq!(shape(&open(&disk).await.1), before);
        let names = disk.list(&Path::new(DIR).join("metadata")).await.expect("lists");
        assert_eq!(names.len(), 2, "{names:?}");
    });
}

async fn flip(disk: &MemoryDisk, path: &Path, position: u64) {
    let file = disk.open(path, OpenMode::EXISTING.dsync(true)).await.expect("opens");
    let block = position / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let mut buffer = disk.alloc(BLOCK_BYTES);
    file.read_at(block, &mut buffer).await.expect("reads");
    buffer[(position - block) as usize] ^= 1;
    file.write_at(buffer, block).await.expect("writes");
}
