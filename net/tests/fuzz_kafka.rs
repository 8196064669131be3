//! The Kafka codec against hostile bytes: random and mutated requests of every api and version never panic, and never
//! make the codec reserve more memory than their size explains.
//!
//! Deterministic: `HEDDLE_FUZZ_SEED` chooses the run and `HEDDLE_FUZZ_ITERATIONS` its length.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{BufMut, Bytes, BytesMut};
use heddle_net::kafka::{
    ApiKey, ControlRequest, DecodeError, RequestHeader, decode_control, decode_fetch, decode_header,
    decode_produce, encode_fetch, encode_produce, encode_reply, is_served, refuse_control, refuse_header,
    unsupported_reply,
};
use heddle_proto::error::ErrorCode;

use heddle_samples::{self as samples, CLAIMS, Rng, mutate, overwrite};

/// Counts what the current thread allocates between two points.
struct Counting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static TOTAL: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    LARGEST.with(|largest| largest.set(largest.get().max(bytes)));
    TOTAL.with(|total| total.set(total.get().saturating_add(bytes)));
}

// SAFETY: every call is passed on unchanged to the system allocator, which upholds the contract; counting touches only
// constant-initialised thread-local cells, which never allocate and have no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller upholds the contract of `realloc`, and `pointer` came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes a frame may make the codec reserve in one piece. The densest request is a list of empty topics: two bytes
/// each on the wire, some 80 decoded.
fn largest_max(frame_bytes: usize) -> usize {
    64 * frame_bytes + 4096
}

/// Bytes a frame may make the codec reserve in all. The densest request gives each item one tagged field, for which
/// the crate makes a tree node of half a kilobyte.
fn total_max(frame_bytes: usize) -> usize {
    256 * frame_bytes + 16_384
}

enum Decoded {
    Produce(heddle_net::kafka::ProduceRequest),
    Fetch(heddle_net::kafka::FetchRequest),
    Control(ControlRequest),
}

fn decode(header: &RequestHeader, body: BytesMut) -> Result<Decoded, DecodeError> {
    match header.api {
        ApiKey::Produce => decode_produce(header, body).map(Decoded::Produce),
        ApiKey::Fetch => decode_fetch(header, body).map(Decoded::Fetch),
        _ => decode_control(header, body.freeze()).map(Decoded::Control),
    }
}

/// Decodes a frame as a connection does, and holds its memory against the bounds.
fn decode_measured(mut frame: BytesMut) -> Result<(RequestHeader, Decoded), DecodeError> {
    let frame_bytes = frame.len();
    LARGEST.set(0);
    TOTAL.set(0);
    let decoded = decode_header(&mut frame).and_then(|header| {
        let decoded = decode(&header, frame)?;
        Ok((header, decoded))
    });
    let (largest, total) = (LARGEST.get(), TOTAL.get());
    assert!(largest <= largest_max(frame_bytes), "a frame of {frame_bytes} bytes reserved {largest} at once");
    assert!(total <= total_max(frame_bytes), "a frame of {frame_bytes} bytes reserved {total} in all");
    decoded
}

/// Decodes a frame, answers it whatever it is, and reads the answer back as a client would.
fn serve(frame: BytesMut) {
    let mut again = frame.clone();
    match decode_measured(frame) {
        Ok((header, decoded)) => read_back(&header, refuse(&header, decoded)),
        Err(DecodeError::UnsupportedVersion { .. }) => unsupported(&mut again),
        Err(error) => {
            if let Ok(header) = decode_header(&mut again) {
                let reply = refuse_header(header.reply(), error.code(), &mut BytesMut::new());
                reply.into_iter().for_each(|reply| read_back(&header, reply));
            }
        }
    }
}

fn refuse(header: &RequestHeader, decoded: Decoded) -> Bytes {
    let (reply, out) = (header.reply(), &mut BytesMut::new());
    let error = ErrorCode::InvalidRequest;
    let bytes = match decoded {
        Decoded::Produce(request) => encode_produce(reply, &request.refuse(error), out),
        Decoded::Fetch(request) => {
            encode_fetch(reply, request.refuse(error), out).map(|chunks| samples::join(&chunks))
        }
        Decoded::Control(request) => encode_reply(reply, refuse_control(&request, error, Some("words")), out),
    };
    bytes.expect("a decoded request can be refused")
}

/// Replies in versions that the crate's client side does not know cannot be read back, only built.
fn read_back(header: &RequestHeader, reply: Bytes) {
    if is_served(header.api, header.version) {
        let (correlation, _) = samples::read_reply(header.api, header.version, reply);
        assert_eq!(correlation, header.correlation);
    }
}

fn unsupported(frame: &mut BytesMut) {
    let header = decode_header(frame).expect("the version was read from this header");
    let body_bytes = frame.len();
    LARGEST.set(0);
    let reply = unsupported_reply(&header, std::mem::take(frame), &mut BytesMut::new());
    // The reply repeats the names of the request, in structures of its own and then on the wire.
    assert!(LARGEST.get() <= 2 * largest_max(body_bytes));
    if let Some(reply) = reply {
        assert_eq!(reply[..4], (reply.len() as u32 - 4).to_be_bytes());
    }
}

/// A well-formed request of any api with a sample, at any version the crate knows.
fn random_frame(rng: &mut Rng) -> BytesMut {
    let apis: Vec<ApiKey> = ApiKey::iter().collect();
    loop {
        let api = apis[rng.below(apis.len())];
        let range = api.valid_versions();
        // The crate lists one version too many of these.
        let max = match api {
            ApiKey::InitProducerId => 5,
            ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
            _ => range.max,
        };
        let version = range.min + rng.below((max - range.min + 1) as usize) as i16;
        if let Some(request) = samples::request(api, version, rng) {
            return samples::frame(&request, api, version, rng);
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
        Err(_) => default,
    }
}

#[test]
fn random_and_mutated_requests_never_panic() {
    let seed = setting("HEDDLE_FUZZ_SEED", 1);
    let iterations = setting("HEDDLE_FUZZ_ITERATIONS", 5000);
    println!("HEDDLE_FUZZ_SEED={seed} HEDDLE_FUZZ_ITERATIONS={iterations}");
    let mut rng = Rng::new(seed);
    for _ in 0..iterations {
        let mut frame = random_frame(&mut rng);
        for _ in 0..rng.below(4) {
            if !frame.is_empty() {
                mutate(&mut frame, &mut rng);
            }
        }
        serve(frame);
        serve(noise(&mut rng));
    }
}

/// Random bytes, most of them behind a header that gets them to a decoder.
fn noise(rng: &mut Rng) -> BytesMut {
    let mut frame = BytesMut::new();
    if rng.below(4) > 0 {
        let apis: Vec<ApiKey> = ApiKey::iter().collect();
        let api = apis[rng.below(apis.len())];
        frame = samples::header(api, rng.below(20) as i16 - 1, rng);
    }
    let length = rng.below(120);
    // Small numbers pass for lengths, and so lead deeper than uniform noise.
    let largest = if rng.flip() { 256 } else { 4 };
    (0..length).for_each(|_| frame.put_u8(rng.below(largest) as u8));
    frame
}

#[test]
fn a_claimed_length_is_not_allocated() {
    let mut rng = Rng::new(setting("HEDDLE_FUZZ_SEED", 1));
    for api in ApiKey::iter() {
        let range = api.valid_versions();
        for version in (range.min..=range.max).filter(|&version| is_served(api, version)) {
            let request = samples::request(api, version, &mut rng).expect("served apis have samples");
            let frame = samples::frame(&request, api, version, &mut rng);
            for at in 8..frame.len() {
                for claim in CLAIMS {
                    let mut hostile = frame.clone();
                    overwrite(&mut hostile, at, claim);
                    let _ = decode_measured(hostile);
                }
            }
        }
    }
}

#[test]
fn the_densest_requests_stay_within_the_bounds() {
    // Empty topics of Metadata v9: two bytes each, and no tagged fields.
    let mut dense = samples::header(ApiKey::Metadata, 9, &mut Rng::new(1));
    dense.put_slice(&[0xc1, 0xb8, 0x02]); // 40,000 topics
    (0..40_000).for_each(|_| dense.put_slice(&[1, 0]));
    dense.put_slice(&[1, 0, 0, 0]);
    assert!(decode_measured(dense).is_ok());

    // The same with a tagged field in each, as many as are allowed.
    let mut tagged = samples::header(ApiKey::Metadata, 9, &mut Rng::new(1));
    tagged.put_slice(&[0x81, 0x08]); // 1,024 topics
    (0..1024).for_each(|_| tagged.put_slice(&[1, 1, 5, 0]));
    tagged.put_slice(&[1, 0, 0, 0]);
    assert!(decode_measured(tagged).is_ok());
}
