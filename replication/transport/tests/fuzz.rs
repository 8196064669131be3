//! Frames between cores, mutated: from a seed, with the checksum made right again most of the time, so that it is the rest that
//! has to hold. `HEDDLE_FUZZ_ITERATIONS` and `HEDDLE_FUZZ_SEED` choose how long and where to begin.
#![allow(clippy::unwrap_used)] // a test throughout

#[path = "../../../net/proto/tests/common/mod.rs"]
mod common;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use common::allocations;
use heddle_proto::crc::crc32c;
use heddle_proto::ids::{CoreId, Epoch, NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use heddle_replication::history::History;
use heddle_replication::message::{Join, Life, Message};
use heddle_replication_driver::{Frame, Peer, Said};
use heddle_replication_transport::wire::{
    Body, Call, Encoder, Hello, LENGTH_BYTES, PREFIX_BYTES, Purpose, Refusal, SAID_COUNT_MAX, decode,
};

const ITERATIONS: u64 = 20_000;
const SEED: u64 = 0x7374_7265_616d; // any will do; fixed so that a plain `cargo test` is repeatable

/// The list of messages as values, growing by doubling: each takes a hundred bytes and more, and may take four on the wire.
const LIST_BYTES_MAX: usize = 2 * SAID_COUNT_MAX * size_of::<Said>();

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

/// Frames without their length.
fn corpus() -> Vec<Vec<u8>> {
    let peer = |node| Peer { node: NodeId::new(node), core: CoreId::new(1) };
    let hello = Hello {
        cluster: "loom".into(),
        from: peer(1),
        life: Life(3),
        process: [7; 16],
        to: peer(2),
        challenge: [9; 32],
        purpose: Purpose::Calls,
    };
    let call = Call { number: 6, payload: Bytes::from(vec![1; 90]) };
    let bodies =
        [Body::Hello(hello), Body::Proof([1; 32]), Body::Accepted([2; 32]), Body::Refused(Refusal::Cluster)];
    let streams = [0, 1, 3, 40].map(|count| Body::Streams(frame(count)));
    let encode = |body: Body| {
        let mut chunks = Vec::new();
        Encoder::new().encode(&body, &mut chunks).unwrap();
        chunks.concat()[LENGTH_BYTES..].to_vec()
    };
    bodies
        .into_iter()
        .chain(streams)
        .chain([Body::Ping(4), Body::Pong(5)])
        .chain([Body::Request(call.clone()), Body::Reply(call)])
        .map(encode)
        .collect()
}

fn frame(count: u32) -> Frame {
    let (epoch, life, at) = (Epoch::new(4), Life(2), |offset| Offset::new(offset));
    let history = History::from_entries(vec![(Epoch::new(1), at(0)), (epoch, at(70))]).unwrap();
    let said = |index: u32| {
        let message = match index % 5 {
            0 => Message::Join(Join {
                epoch,
                life,
                start: at(0),
                end: at(90),
                committed: at(5),
                history: history.clone(),
            }),
            1 => Message::Welcome {
                epoch,
                life,
                shared: at(70),
                start: at(0),
                elected_end: at(80),
                committed: at(60),
            },
            2 => Message::Append {
                epoch,
                life,
                from: at(80),
                upto: at(82),
                history: history.clone(),
                committed: at(79),
            },
            3 => Message::Commit { epoch, life, committed: at(81) },
            _ => Message::Ack { epoch, life, written: at(82), held: Some(at(81)), version: 3 },
        };
        let batches = if index % 5 == 2 {
            vec![Bytes::from(vec![index as u8; 61 + index as usize]); 2]
        } else {
            Vec::new()
        };
        Said {
            partition: TopicPartition::new(TopicId::new([3; 16]), PartitionIndex::new(index)),
            message,
            batches,
        }
    };
    Frame {
        connection: 9,
        taken: count.checked_sub(1).map(|_| (5, 1000)),
        said: (0..count).map(said).collect(),
    }
}

/// Does not panic, asks for no more memory than there is reason for, and gives what can be written and read again. Returns
/// whether these bytes are a frame.
fn hold(input: &[u8]) -> bool {
    let frame = Bytes::copy_from_slice(input);
    let (decoded, seen) = allocations(|| decode(frame));
    let bytes_max = LIST_BYTES_MAX + 16 * input.len();
    assert!(seen.largest_bytes <= bytes_max, "{} bytes allocated at once", seen.largest_bytes);
    let Ok(body) = decoded else { return false };
    let mut chunks = Vec::new();
    Encoder::new().encode(&body, &mut chunks).expect("what was read can be written");
    let again = decode(Bytes::from(chunks.concat()).split_off(LENGTH_BYTES));
    assert_eq!(again, Ok(body));
    true
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

    fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..self.below(5) {
            self.mutate(&mut input, corpus);
        }
        if self.below(8) != 0 {
            repair(&mut input);
        }
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        match self.below(7) {
            0 | 1 if at < input.len() => input[at] ^= 1 << self.below(8),
            2 => input.truncate(at),
            3 => {
                let end = (at + self.below(12)).min(input.len());
                input.drain(at..end);
            }
            4 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len());
                let end = (from + self.below(64)).min(other.len());
                let to = (at + self.below(64)).min(input.len());
                input.splice(at..to, other[from..end].iter().copied());
            }
            _ => self.edit_number(input, at & !3),
        }
    }

    /// Overwrites a field with a number that lengths and positions stumble over.
    fn edit_number(&mut self, input: &mut [u8], at: usize) {
        let small = self.below(300) as i64;
        let numbers = [0, 1, -1, small, -small, input.len() as i64, i64::from(i32::MAX), i64::MAX, i64::MIN];
        let width = if self.below(2) == 0 { 4 } else { 8 };
        let number = numbers[self.below(numbers.len())].to_le_bytes();
        if let Some(place) = input.get_mut(at..at + width) {
            place.copy_from_slice(&number[..width]);
        }
    }
}

/// Makes the length of the header fit and the checksum right, as a peer that means harm would.
fn repair(input: &mut [u8]) {
    if input.len() < PREFIX_BYTES {
        return;
    }
    let told = u32::from_le_bytes(input[..4].try_into().unwrap()) as usize;
    let header_bytes = told.min(input.len() - PREFIX_BYTES);
    let lengths = [(input.len() as u32).to_le_bytes(), (header_bytes as u32).to_le_bytes()].concat();
    input[..4].copy_from_slice(&lengths[4..]);
    let crc = crc32c(&[&lengths, &input[PREFIX_BYTES..PREFIX_BYTES + header_bytes]].concat());
    input[4..8].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn mutated_frames_are_refused_or_sound() {
    let corpus = corpus();
    assert!(corpus.iter().all(|input| hold(input)), "the corpus is sound");
    let iterations = number("HEDDLE_FUZZ_ITERATIONS").unwrap_or(ITERATIONS);
    let first_seed = number("HEDDLE_FUZZ_SEED").unwrap_or(SEED);
    let mut accepted = 0;
    for seed in (0..iterations).map(|index| first_seed.wrapping_add(index)) {
        let mut random = Random(seed);
        random.0 = random.next(); // neighbouring seeds must not give neighbouring streams
        let input = random.input(&corpus);
        let held = catch_unwind(AssertUnwindSafe(|| hold(&input)));
        accepted += u64::from(held.unwrap_or_else(|_| {
            panic!(
                "repeat with HEDDLE_FUZZ_SEED={seed} HEDDLE_FUZZ_ITERATIONS=1; {} bytes: {input:02x?}",
                input.len()
            )
        }));
    }
    if iterations >= 1_000 {
        let percent = accepted * 100 / iterations;
        assert!((5..=95).contains(&percent), "{percent} % of the inputs are taken, which tests little");
    }
}
