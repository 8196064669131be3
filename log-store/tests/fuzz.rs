//! Mutated and random bytes against every decoder of what lies on disk: never a panic, never a wild allocation, and
//! nothing accepted that differs from what was written.
//!
//! Deterministic on the stable toolchain. `HEDDLE_FUZZ_ITERATIONS` and `HEDDLE_FUZZ_SEED` set how long and from where.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use bytes::Bytes;
use heddle_log_store::PartitionState;
use heddle_log_store::formats::frame::{self, Entry, EntryKind, FrameHeader};
use heddle_log_store::formats::{DrainHeader, Index, IndexEntry, Step, View, Walker, frames_in};
use heddle_proto::batch::{self, BatchBuilder, BatchHeader, Compression};
use heddle_proto::crc::crc32c;
use heddle_proto::ids::{Epoch, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A few changes of the kinds that disks and bugs make.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(7) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                2 => bytes.truncate(at),
                3 => bytes.extend((0..self.below(64)).map(|_| 0xff)),
                4 => {
                    let end = (at + self.below(512)).min(bytes.len());
                    bytes[at..end].fill(0);
                }
                5 if bytes.len() >= 8 => {
                    let at = self.below(bytes.len() - 7);
                    let wild = [u64::MAX, i64::MAX as u64, 0, 1 << 31, self.next()][self.below(5)];
                    bytes[at..at + 8].copy_from_slice(&wild.to_le_bytes());
                }
                _ => {
                    let from = self.below(bytes.len());
                    let length = self.below(200).min(bytes.len() - from).min(bytes.len() - at);
                    bytes.copy_within(from..from + length, at);
                }
            }
        }
    }
}

/// Mutates samples and feeds them to `check` together with the original.
fn fuzz(samples: &[Vec<u8>], check: impl Fn(&[u8], &[u8])) {
    let seed = setting("HEDDLE_FUZZ_SEED", 1);
    println!("HEDDLE_FUZZ_SEED={seed}");
    let mut random = Random(seed);
    for _ in 0..setting("HEDDLE_FUZZ_ITERATIONS", 20_000) {
        let original = &samples[random.below(samples.len())];
        let mut bytes = original.clone();
        if random.below(20) == 0 {
            bytes = (0..random.below(600)).map(|_| random.next() as u8).collect();
        } else {
            random.mutate(&mut bytes);
        }
        check(&bytes, original);
    }
}

fn partition() -> TopicPartition {
    TopicPartition::new(TopicId::new([5; 16]), PartitionIndex::new(1))
}

fn batch_at(base: i64, epoch: i32, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp::new(base), Some(b"key"), Some(&vec![base as u8; bytes]), &[]).unwrap();
    let mut batch = builder.build().unwrap();
    batch::assign(&mut batch, Offset::new(base), Epoch::new(epoch));
    batch.freeze()
}

fn state(snapshot: &'static [u8]) -> PartitionState {
    PartitionState {
        version: 3,
        deleted: false,
        start: Offset::new(1),
        segment_base: Offset::new(2),
        position: 4096,
        drained: Offset::new(9),
        segment_max_timestamp: Timestamp::new(5),
        damage: None,
        snapshot_end: Offset::new(9),
        snapshot: Bytes::from_static(snapshot),
    }
}

fn wal_file() -> Vec<u8> {
    let mut file = Vec::new();
    for sequence in 1..6u64 {
        let payload = state(b"snapshot").encode();
        let state = Entry {
            kind: EntryKind::State,
            partition: partition(),
            base: Offset::new(1),
            offset_count: 0,
            epoch: Epoch::NONE,
            payload_bytes: payload.len() as u32,
            payload_crc: crc32c(&payload),
        };
        let batch = batch_at(sequence as i64, 2, 300 * sequence as usize);
        let written = Entry {
            kind: EntryKind::Batch,
            base: Offset::new(sequence as i64),
            offset_count: 1,
            epoch: Epoch::new(2),
            payload_bytes: batch.len() as u32,
            payload_crc: BatchHeader::parse(&batch).unwrap().crc,
            ..state
        };
        let bytes = frame::frame_bytes(2, batch.len() + payload.len());
        let header = FrameHeader {
            core: 1,
            generation: 7,
            incarnation: 1234,
            sequence,
            durable_sequence: sequence - 1,
            released_sequence: 1,
            position: file.len() as u64,
            frame_bytes: 0,
            payload_bytes: 0,
            entry_count: 0,
        };
        let at = file.len();
        file.resize(at + bytes, 0);
        frame::encode(header, &[(written, batch), (state, payload)], &mut file[at..]);
    }
    file
}

#[test]
fn wal_frames() {
    let samples = [wal_file(), vec![0; 8192]];
    let truth = frames_in(&Bytes::from(samples[0].clone()), 7);
    assert_eq!(truth.len(), 5);
    fuzz(&samples, |bytes, _| {
        let found = frames_in(&Bytes::copy_from_slice(bytes), 7);
        for (header, entries) in &found {
            let original = truth.iter().find(|(known, _)| known == header).expect("a frame nobody wrote");
            for (entry, known) in entries.iter().zip(&original.1) {
                assert_eq!(entry.0, known.0);
                assert!(entry.1.is_none() || entry.1 == known.1, "a payload nobody wrote");
            }
        }
        assert!(frames_in(&Bytes::copy_from_slice(bytes), 8).is_empty(), "frames of another use of the file");
        let _ = frame::decode(bytes);
        let _ = frame::decode_back(bytes);
    });
}

#[test]
fn state_records() {
    let samples = [state(b"").encode().to_vec(), state(b"some owner's bytes").encode().to_vec()];
    fuzz(&samples, |bytes, _| {
        // A record has no checksum of its own: the frame's table covers it. What is accepted must encode back.
        if let Some(state) = PartitionState::decode(&Bytes::copy_from_slice(bytes)) {
            assert_eq!(state.encode(), bytes);
        }
    });
}

#[test]
fn indexes() {
    let mut index = Index::new(Offset::new(10));
    for step in 0..40i64 {
        let entry = IndexEntry {
            offset: Offset::new(10 + step),
            position: 64 + step as u64 * 500,
            epoch: Epoch::new(1),
            max_timestamp: Timestamp::new(step),
        };
        index.add(entry, entry.offset.next(), 1000);
    }
    index.data_bytes = 1 << 20;
    let mut padded = index.encode();
    padded.resize(4096, 0);
    fuzz(&[index.encode(), padded], |bytes, _| {
        if let Some(read) = Index::decode(bytes) {
            assert_eq!(read, index, "an index nobody wrote");
        }
    });
}

fn segment(owner: u32) -> Vec<u8> {
    let mut segment = Vec::new();
    for drain in 0..4i64 {
        let batches: Vec<Bytes> =
            (0..3).map(|at| batch_at(drain * 3 + at, drain as i32, 700 * at as usize + 40)).collect();
        let header = DrainHeader {
            position: segment.len() as u64,
            segment_base: Offset::ZERO,
            first: Offset::new(drain * 3),
            next: Offset::new(drain * 3 + 3),
            epoch: Epoch::new(drain as i32),
            data_bytes: batches.iter().map(|batch| batch.len() as u32).sum(),
            owner,
            compacted_upto: Offset::ZERO,
        };
        segment.extend(header.encode());
        batches.iter().for_each(|batch| segment.extend_from_slice(batch));
        segment.resize(segment.len().next_multiple_of(4096), 0);
    }
    segment
}

#[test]
fn segments() {
    let owner = DrainHeader::owner_of(partition());
    let samples = [segment(owner)];
    fuzz(&samples, |bytes, original| {
        let mut walker = Walker::at_drain(owner, Offset::ZERO, 0, Offset::ZERO);
        let view = View { start: 0, bytes, data_end: bytes.len() as u64 };
        let mut steps = 0;
        while let Step::Batch(_, range) = walker.step(&view) {
            assert_eq!(bytes[range.clone()], original[range], "a batch nobody wrote");
            steps += 1;
            assert!(steps <= 12);
        }
        let _ = DrainHeader::decode(bytes);
    });
}
