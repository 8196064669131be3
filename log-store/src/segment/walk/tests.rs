//! What the walker accepts and refuses.

use heddle_proto::batch::{BatchBuilder, Compression, assign};
use heddle_proto::ids::Timestamp;

use super::*;

const OWNER: u32 = 42;

fn batch(base: i64, epoch: i32, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp::new(base), None, Some(&vec![7; value_bytes]), &[]).unwrap();
    let mut bytes = builder.build().unwrap();
    assign(&mut bytes, Offset::new(base), Epoch::new(epoch));
    bytes.to_vec()
}

/// Appends a drain of these batches to a segment that begins at offset 0.
fn add_drain(segment: &mut Vec<u8>, first: i64, epoch: i32, batches: &[Vec<u8>]) {
    let header = DrainHeader {
        position: segment.len() as u64,
        segment_base: Offset::ZERO,
        first: Offset::new(first),
        next: Offset::new(first + batches.len() as i64),
        epoch: Epoch::new(epoch),
        data_bytes: batches.iter().map(|batch| batch.len() as u32).sum(),
        owner: OWNER,
        compacted_upto: Offset::ZERO,
    };
    segment.extend(header.encode());
    batches.iter().for_each(|batch| segment.extend(batch));
    segment.resize(align_up(segment.len() as u64) as usize, 0);
}

/// A value length that makes a batch at `base` exactly `bytes` long, if there is one.
fn batch_of(base: i64, epoch: i32, bytes: usize) -> Option<Vec<u8>> {
    (bytes.saturating_sub(90)..bytes)
        .map(|value| batch(base, epoch, value))
        .find(|batch| batch.len() == bytes)
}

/// Walks with windows no larger than asked for, and returns the offsets found and how it ended.
fn walk(segment: &[u8], from: Walker) -> (Vec<i64>, Step) {
    let mut walker = from;
    let (mut found, mut window) = (Vec::new(), (0u64, 0usize));
    loop {
        let end = (window.0 as usize + window.1).min(segment.len());
        let bytes = &segment[window.0 as usize..end];
        let view = View { start: window.0, bytes, data_end: segment.len() as u64 };
        match walker.step(&view) {
            Step::Batch(header, range) => {
                assert_eq!(range.len(), header.batch_bytes as usize);
                found.push(header.base_offset.get());
            }
            Step::More(bytes) => {
                assert!(walker.position + bytes as u64 <= segment.len() as u64, "asks beyond the end");
                window = (walker.position, bytes);
            }
            end => return (found, end),
        }
    }
}

fn start() -> Walker {
    Walker::at_drain(OWNER, Offset::ZERO, 0, Offset::ZERO)
}

#[test]
fn drains_follow_one_another_over_their_padding_whatever_its_length() {
    for length in 3000..3100 {
        let Some(first) = batch_of(0, 1, length + 1000) else { continue };
        let mut segment = Vec::new();
        add_drain(&mut segment, 0, 1, &[first, batch(1, 1, 10)]);
        add_drain(&mut segment, 2, 5, &[batch(2, 5, 5000)]);
        assert_eq!(walk(&segment, start()), (vec![0, 1, 2], Step::End), "length {length}");
        segment.resize(segment.len() + 2 * BLOCK_BYTES, 0); // space reserved and not used
        assert_eq!(walk(&segment, start()), (vec![0, 1, 2], Step::End), "length {length} with space");
    }
}

#[test]
fn a_batch_may_begin_right_before_a_block_boundary() {
    for gap in 1..12 {
        let first = batch_of(0, 0, BLOCK_BYTES - DRAIN_HEADER_BYTES - gap).unwrap();
        let mut segment = Vec::new();
        add_drain(&mut segment, 0, 0, &[first, batch(1, 0, 300), batch(2, 0, 300)]);
        assert_eq!(walk(&segment, start()), (vec![0, 1, 2], Step::End), "gap {gap}");
    }
}

#[test]
fn a_drain_may_end_right_before_a_block_boundary() {
    for gap in 0..12 {
        let only = batch_of(0, 0, BLOCK_BYTES - DRAIN_HEADER_BYTES - gap).unwrap();
        let mut segment = Vec::new();
        add_drain(&mut segment, 0, 0, &[only]);
        assert_eq!(walk(&segment, start()), (vec![0], Step::End), "gap {gap}, nothing behind");
        add_drain(&mut segment, 1, 0, &[batch(1, 0, 10)]);
        assert_eq!(walk(&segment, start()), (vec![0, 1], Step::End), "gap {gap}, a drain behind");
    }
}

#[test]
fn every_flipped_bit_of_a_drain_is_noticed() {
    let mut segment = Vec::new();
    add_drain(&mut segment, 0, 3, &[batch(0, 3, 20), batch(1, 3, 20)]);
    let data_end = DrainHeader::decode(&segment).unwrap().data_end() as usize;
    for bit in 0..data_end * 8 {
        let mut bad = segment.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let (found, end) = walk(&bad, start());
        assert!(found.len() < 2, "bit {bit} of byte {} changed nothing: {end:?}", bit / 8);
    }
}

#[test]
fn a_walk_may_begin_at_any_batch() {
    let mut segment = Vec::new();
    add_drain(&mut segment, 0, 3, &[batch(0, 3, 20), batch(1, 3, 20)]);
    add_drain(&mut segment, 2, 4, &[batch(2, 4, 20)]);
    let second = (DRAIN_HEADER_BYTES + batch(0, 3, 20).len()) as u64;
    let from = Walker::at_batch(OWNER, Offset::ZERO, second, Offset::new(1), Epoch::new(3));
    assert_eq!(walk(&segment, from), (vec![1, 2], Step::End));
    let wrong_epoch = Walker::at_batch(OWNER, Offset::ZERO, second, Offset::new(1), Epoch::new(2));
    assert_eq!(walk(&segment, wrong_epoch), (vec![], Step::Bad));
}

#[test]
fn bytes_of_another_partition_or_place_are_refused() {
    let mut segment = Vec::new();
    add_drain(&mut segment, 0, 0, &[batch(0, 0, 20)]);
    let other = Walker::at_drain(OWNER + 1, Offset::ZERO, 0, Offset::ZERO);
    assert_eq!(walk(&segment, other), (vec![], Step::Bad));
    let copy = segment.clone();
    segment.extend(copy);
    assert_eq!(walk(&segment, start()), (vec![0], Step::Bad));
}

#[test]
fn the_next_intact_drain_is_found_behind_damage() {
    let mut segment = Vec::new();
    add_drain(&mut segment, 0, 0, &[batch(0, 0, 9000)]);
    let second = segment.len() as u64;
    add_drain(&mut segment, 1, 0, &[batch(1, 0, 20)]);
    segment[100] ^= 1;
    let mut walker = start();
    let view = View { start: 0, bytes: &segment, data_end: segment.len() as u64 };
    assert_eq!(walker.step(&view), Step::Bad);
    assert_eq!(find_drain(&walker, &view).map(|header| header.position), Some(second));
}
