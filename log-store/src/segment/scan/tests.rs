//! What a scan makes of whole, torn and damaged segments.

use std::path::Path;

use heddle_proto::batch::{BatchBuilder, Compression, assign};
use heddle_proto::ids::{Epoch, Timestamp};

use super::*;
use crate::disk::{Disk, MemoryDisk, OpenMode};
use crate::segment::drain_header::DRAIN_HEADER_BYTES;

const OWNER: u32 = 9;
const SPACE_BYTES: usize = 64 << 10;

/// Three drains of three batches each, and space behind them. Also where each drain begins.
fn segment() -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    for drain in 0..3i64 {
        starts.push(bytes.len());
        let batches: Vec<_> = (0..3).map(|at| batch(drain * 3 + at)).collect();
        let header = DrainHeader {
            position: bytes.len() as u64,
            segment_base: Offset::ZERO,
            first: Offset::new(drain * 3),
            next: Offset::new(drain * 3 + 3),
            epoch: Epoch::new(0),
            data_bytes: batches.iter().map(|batch| batch.len() as u32).sum(),
            owner: OWNER,
            compacted_upto: Offset::ZERO,
        };
        bytes.extend(header.encode());
        batches.iter().for_each(|batch| bytes.extend(batch));
        bytes.resize(align_up(bytes.len() as u64) as usize, 0);
    }
    starts.push(bytes.len());
    bytes.resize(SPACE_BYTES, 0);
    (bytes, starts)
}

fn batch(base: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp::new(base), None, Some(&[base as u8; 2500]), &[]).unwrap();
    let mut bytes = builder.build().unwrap();
    assign(&mut bytes, Offset::new(base), Epoch::new(0));
    bytes.to_vec()
}

fn scan_bytes(bytes: Vec<u8>) -> Scan {
    let disk = MemoryDisk::new(1);
    let options =
        Options { read_ahead_bytes_max: 8 << 10, read_ahead_bytes_min: 4 << 10, ..Options::default() };
    disk.run(async {
        disk.create_dir_all(Path::new("/d")).await.unwrap();
        let file = disk.open(Path::new("/d/segment"), OpenMode::NEW).await.unwrap();
        let data_end = bytes.len() as u64;
        file.write_at(bytes, 0).await.unwrap();
        scan(&file, &options, Walker::at_drain(OWNER, Offset::ZERO, 0, Offset::ZERO), data_end).await.unwrap()
    })
}

#[test]
fn a_whole_segment_is_indexed_to_its_end() {
    let (bytes, starts) = segment();
    let scan = scan_bytes(bytes);
    assert_eq!((scan.end, scan.position, scan.headers.len()), (Offset::new(9), starts[3] as u64, 9));
    assert!(scan.middle.is_none() && scan.tail.is_none() && !scan.has_debris);
}

#[test]
fn an_unfinished_drain_is_left_out_whole() {
    let (mut bytes, starts) = segment();
    let second_batch = starts[2] + DRAIN_HEADER_BYTES + batch(6).len() + 100;
    bytes[second_batch..starts[3]].fill(0);
    let scan = scan_bytes(bytes);
    assert_eq!((scan.end, scan.position), (Offset::new(6), starts[2] as u64));
    let tail = scan.tail.unwrap();
    assert_eq!(
        (tail.offset, tail.drain_first, tail.drain_position),
        (Offset::new(7), Offset::new(6), starts[2] as u64)
    );
    assert!(scan.middle.is_none());
}

#[test]
fn a_drain_whose_beginning_never_arrived_leaves_debris() {
    let (mut bytes, starts) = segment();
    bytes[starts[2]..starts[2] + 4096].fill(0);
    let scan = scan_bytes(bytes);
    assert_eq!((scan.end, scan.position), (Offset::new(6), starts[2] as u64));
    assert!(scan.has_debris && scan.middle.is_none());
}

#[test]
fn damage_with_a_whole_drain_behind_it_is_no_end() {
    let (mut bytes, starts) = segment();
    bytes[starts[1] + DRAIN_HEADER_BYTES + batch(3).len() + 1000] ^= 4;
    let scan = scan_bytes(bytes);
    assert_eq!((scan.end, scan.position), (Offset::new(9), starts[3] as u64));
    assert_eq!(scan.middle.unwrap().offset, Offset::new(4));
    assert!(scan.tail.is_none());
}

#[test]
fn a_drain_that_was_never_written_is_missed_when_a_later_one_is_there() {
    let (mut bytes, starts) = segment();
    bytes[starts[1]..starts[2]].fill(0);
    let scan = scan_bytes(bytes);
    assert_eq!((scan.end, scan.middle.unwrap().offset), (Offset::new(9), Offset::new(3)));
}
