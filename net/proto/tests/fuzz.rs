//! Drives every fuzz target on the stable toolchain: random bytes and mutations of valid inputs, from a seed.
//!
//! `HEDDLE_FUZZ_ITERATIONS` (per target) and `HEDDLE_FUZZ_SEED` choose how long and where to begin. A failure
//! prints the seed that repeats it in one iteration.

mod common;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::allocations;
use heddle_proto::batch::{BATCH_HEADER_BYTES, BATCH_LENGTH_PREFIX_BYTES, BatchHeader};
use heddle_proto::crc::crc32c;
use heddle_proto::fuzz::{TARGETS, Target, UNPACKED_BYTES_MAX};
use heddle_proto::samples;

const ITERATIONS: u64 = 4_000;
const SEED: u64 = 0x4865_6464_6c65; // any will do; fixed so that a plain `cargo test` is repeatable

/// Fewest iterations from which the share of accepted inputs says something.
const ITERATIONS_TELLING: u64 = 1_000;

/// LZ4 keeps two of its largest blocks and a window: 8 MiB and a bit. Everything else stays far below.
const CODEC_ALLOCATION_BYTES_MAX: usize = 9 << 20;

macro_rules! fuzz_tests {
    ($($name:ident: $corpus:expr, $repair:expr;)*) => {
        $(
            #[test]
            fn $name() {
                drive(stringify!($name), $corpus, $repair);
            }
        )*

        #[test]
        fn every_target_is_driven() {
            let driven = [$(stringify!($name)),*];
            assert!(TARGETS.iter().all(|(name, _)| driven.contains(name)));
            assert_eq!(driven.len(), TARGETS.len());
        }
    };
}

fuzz_tests! {
    batch_header: single_batches(), Repair::None;
    verify: single_batches(), Repair::Batch;
    batches: batch_rows(), Repair::None;
    records: single_batches(), Repair::Batch;
    rewrite: single_batches(), Repair::Batch;
    decompress: packed(), Repair::None;
    builder: scripts(), Repair::None;
    frame: frames_without_length(), Repair::None;
    native_request: request_frames(), Repair::Frame;
    native_reply: reply_frames(), Repair::Frame;
    small_parsers: small_texts(), Repair::None;
}

/// What is made consistent again after a mutation, most of the time, to get past the first check.
#[derive(Copy, Clone, PartialEq)]
enum Repair {
    None,
    Batch,
    Frame,
}

type Corpus = Vec<Vec<u8>>;

fn single_batches() -> Corpus {
    samples::batches().iter().map(|bytes| bytes.to_vec()).collect()
}

fn batch_rows() -> Corpus {
    let batches = single_batches();
    batches.windows(3).map(|window| window.concat()).chain(batches.iter().cloned()).collect()
}

fn packed() -> Corpus {
    let body = |bytes: &Vec<u8>| {
        let codec = BatchHeader::parse(bytes).expect("samples are valid").compression() as u8;
        // The target takes the codec from this byte modulo 5, which 120 leaves alone, and a limit from the rest.
        [&[codec + 120], &bytes[BATCH_HEADER_BYTES..]].concat()
    };
    single_batches().iter().map(body).collect()
}

fn scripts() -> Corpus {
    let mut random = Random(SEED);
    (0..20).map(|length| random.bytes(length * 40)).collect()
}

fn request_frames() -> Corpus {
    samples::request_frames().iter().map(|bytes| bytes.to_vec()).collect()
}

fn reply_frames() -> Corpus {
    samples::reply_frames().iter().map(|bytes| bytes.to_vec()).collect()
}

fn frames_without_length() -> Corpus {
    let frames = request_frames().into_iter().chain(reply_frames());
    frames
        .flat_map(|frame| [frame[4..].to_vec(), frame])
        .chain([heddle_proto::native::PREFACE.to_vec()])
        .collect()
}

fn small_texts() -> Corpus {
    vec![samples::topic().to_string().into_bytes(), b"\0\x01".to_vec(), b"123456789".to_vec()]
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

fn drive(name: &str, corpus: Corpus, repair: Repair) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).expect("the target is listed").1;
    let iterations = number("HEDDLE_FUZZ_ITERATIONS").unwrap_or(ITERATIONS);
    let first_seed = number("HEDDLE_FUZZ_SEED").unwrap_or(SEED);
    assert!(corpus.iter().any(|input| target(input)), "{name} refuses its whole corpus");
    let mut accepted = 0;
    for seed in (0..iterations).map(|index| first_seed.wrapping_add(index)) {
        let input = Random::new(seed).input(&corpus, repair);
        accepted += u64::from(run(name, target, seed, &input));
    }
    if iterations >= ITERATIONS_TELLING {
        let percent = accepted * 100 / iterations;
        assert!((1..=99).contains(&percent), "{name} accepts {percent} % of its inputs, which tests little");
    }
}

fn run(name: &str, target: Target, seed: u64, input: &[u8]) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let (accepted, seen) = allocations(|| target(input));
        let bytes_max = allocation_bytes_max(name, input.len());
        let largest_bytes = seen.largest_bytes;
        assert!(
            largest_bytes <= bytes_max,
            "{largest_bytes} bytes allocated at once, at most {bytes_max} expected"
        );
        accepted
    }));
    outcome.unwrap_or_else(|_| {
        let shown = &input[..input.len().min(400)];
        panic!(
            "repeat with HEDDLE_FUZZ_SEED={seed} HEDDLE_FUZZ_ITERATIONS=1 cargo test -p heddle-proto --test fuzz {name}\n\
             input of {} bytes begins {shown:02x?}",
            input.len()
        )
    })
}

fn allocation_bytes_max(name: &str, input_bytes: usize) -> usize {
    const BASE_BYTES: usize = 128 * 1024;
    /// Decoded values against their encoding: an empty text takes 24 bytes for 4.
    const FACTOR: usize = 8;
    match name {
        "records" | "rewrite" | "decompress" => CODEC_ALLOCATION_BYTES_MAX.max(2 * UNPACKED_BYTES_MAX),
        "builder" => BASE_BYTES + 64 * input_bytes,
        _ => BASE_BYTES + FACTOR * input_bytes,
    }
}

/// SplitMix64 and the mutations drawn from it.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        random.0 = random.next(); // neighbouring seeds must not give neighbouring streams
        random
    }

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

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    fn input(&mut self, corpus: &Corpus, repair: Repair) -> Vec<u8> {
        if self.below(16) == 0 {
            let count = self.below(300);
            return self.bytes(count);
        }
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..self.below(5) {
            self.mutate(&mut input, corpus);
        }
        match repair {
            Repair::Batch if self.below(4) != 0 => repair_batch(&mut input),
            Repair::Frame if self.below(4) != 0 => repair_frame(&mut input),
            _ => {}
        }
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, corpus: &Corpus) {
        let at = self.place(input.len());
        match self.below(8) {
            0 | 1 if at < input.len() => input[at] ^= 1 << self.below(8),
            2 if at < input.len() => input[at] = self.next() as u8,
            3 => input.truncate(at),
            4 => {
                let count = self.below(12);
                let insert = self.bytes(count);
                input.splice(at..at, insert);
            }
            5 => {
                let end = (at + self.below(12)).min(input.len());
                input.drain(at..end);
            }
            6 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len());
                let end = (from + self.below(64)).min(other.len());
                let to = (at + self.below(64)).min(input.len());
                input.splice(at..to, other[from..end].iter().copied());
            }
            _ => self.edit_length(input, at),
        }
    }

    /// Half the time within the first bytes, where the headers are.
    fn place(&mut self, bytes: usize) -> usize {
        if self.below(2) == 0 { self.below(bytes.min(96) + 1) } else { self.below(bytes + 1) }
    }

    /// Overwrites a field of 1, 2, 4 or 8 bytes with a number that lengths stumble over.
    fn edit_length(&mut self, input: &mut [u8], at: usize) {
        let width = 1 << self.below(4);
        let small = self.below(300) as i64;
        let near = input.len() as i64 + small % 17 - 8;
        let numbers =
            [0, 1, -1, small, near, -small, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN];
        let number = numbers[self.below(numbers.len())];
        let little = number.to_le_bytes();
        let mut field = little[..width].to_vec();
        if self.below(2) == 0 {
            field.reverse();
        }
        if let Some(place) = input.get_mut(at..at + width) {
            place.copy_from_slice(&field);
        }
    }
}

fn repair_batch(input: &mut [u8]) {
    if input.len() < BATCH_HEADER_BYTES {
        return;
    }
    let length = (input.len() - BATCH_LENGTH_PREFIX_BYTES) as u32;
    input[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&input[21..]);
    input[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn repair_frame(input: &mut [u8]) {
    if input.len() < 8 {
        return;
    }
    let frame_bytes = (input.len() - 4) as u32;
    input[..4].copy_from_slice(&frame_bytes.to_le_bytes());
    input[4..8].copy_from_slice(&(frame_bytes - 4).to_le_bytes());
}
