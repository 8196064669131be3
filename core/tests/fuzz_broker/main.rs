//! The whole Kafka door against hostile clients: random and mutated requests of every api and version, over sockets, to a
//! broker in this process. Each is answered in its schema or the connection ends; nothing panics; and when the clients
//! have gone, the broker still serves and has given back every byte and every place that it had taken for them.
//!
//! Deterministic as far as the requests go: `HEDDLE_FUZZ_SEED` chooses the run and `HEDDLE_FUZZ_ITERATIONS` the number
//! of requests.

mod broker;
mod client;
mod world;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use heddle_net::kafka::{
    ApiKey, RequestHeader, decode_fetch, decode_header, is_served,
    messages::{RequestKind, ResponseKind},
    versions::SERVED,
};
use heddle_samples::{Rng, mutate};

use broker::Broker;
use client::{Client, Expected, HANG, Heard, read_reply};
use world::World;

const CORES: usize = 2;

/// Requests between two looks at whether everything was given back.
const ROUND: u64 = 250;

/// The longest wait that a fetch may ask for here: waits outlive their clients, and each round waits for them.
const FETCH_WAIT_MAX_MS: i32 = 150;

/// Replies that may come in pieces of one burst.
const BURST: usize = 8;

/// What must be 0 when no client is there.
const NOTHING_LEFT: [&str; 6] = [
    "connections",
    "unsent_bytes",
    "mesh_requests_waiting",
    "group_requests_waiting",
    "log_dirty_bytes",
    "log_groups_in_flight",
];

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Errors that the broker logged: none of them may come from a request.
static ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
        Err(_) => default,
    }
}

/// Counts panics of all threads: one in a task of a core may end nothing but a connection.
fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::AcqRel);
        before(info);
    }));
}

/// Keeps what is logged as an error.
struct Errors;

impl tracing::Subscriber for Errors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            text.push_str(&format!("{field}={value:?} "));
        });
        ERRORS.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// A frame and whether it is a request as a client would send it.
struct Frame {
    bytes: BytesMut,
    is_whole: bool,
}

struct Fuzz {
    world: World,
    requests: u64,
    /// Replies by api, and how many of them told no error.
    heard: BTreeMap<i16, (u64, u64)>,
}

impl Fuzz {
    /// One request and its reply on a connection, which is replaced when it ended.
    fn step(&mut self, client: &mut Client) {
        let frame = self.frame();
        client.send(&frame.bytes);
        self.requests += 1;
        let ended = match Expected::of(&frame.bytes) {
            // A failure is told by the end of the connection, at some time.
            Expected::Nothing => true,
            Expected::End => {
                let heard = client.hear(false);
                assert!(matches!(heard, Heard::Closed), "no request, and answered: {frame:?} {heard:?}");
                true
            }
            Expected::Reply(header) => self.hear(client, &header, false, &frame),
            Expected::Later(header) => self.hear(client, &header, true, &frame),
        };
        check_broker();
        if api_of(&frame.bytes) == Some(ApiKey::AlterClientQuotas as i16) {
            // Else this connection, and perhaps all of them, might be held back for longer than anybody waits here.
            self.world.clear_quotas();
            *client = self.world.connect();
        } else if ended {
            *client = self.world.connect();
        }
    }

    /// Takes one reply; whether the connection is of no more use.
    fn hear(&mut self, client: &mut Client, header: &RequestHeader, may_wait: bool, frame: &Frame) -> bool {
        match client.hear(may_wait) {
            Heard::Reply(reply) => {
                self.check_reply(header, &reply);
                false
            }
            Heard::Silence => true,
            Heard::Closed => {
                assert!(!frame.is_whole, "a good request was not answered: {header:?} {frame:?}");
                true
            }
        }
    }

    fn check_reply(&mut self, header: &RequestHeader, reply: &Bytes) {
        assert_eq!(
            reply[..4],
            header.correlation.to_be_bytes(),
            "a reply to another request than {header:?}"
        );
        if !is_served(header.api, header.version) {
            return;
        }
        let (_, reply) = read_reply(header.api, header.version, reply);
        let (unknown, refused) = match &reply {
            // Batches would make a long text.
            ResponseKind::Fetch(reply) => {
                let parts = reply.responses.iter().flat_map(|topic| &topic.partitions);
                let codes: Vec<i16> = parts.map(|part| part.error_code).chain([reply.error_code]).collect();
                (codes.contains(&-1), codes.iter().any(|code| *code != 0))
            }
            reply => {
                let text = format!("{reply:?}");
                (
                    text.contains("error_code: -1,"),
                    text.matches("error_code: ").count() > text.matches("error_code: 0").count(),
                )
            }
        };
        assert!(!unknown, "{header:?} is answered with UNKNOWN_SERVER_ERROR: {reply:?}");
        let (heard, well) = self.heard.entry(header.api as i16).or_default();
        *heard += 1;
        *well += u64::from(!refused);
        self.world.learn(&reply);
    }

    /// Some requests at once, of whose replies only some are read before the client goes.
    fn burst(&mut self) {
        let mut client = self.world.connect();
        let (mut expected, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..=self.world.rng.below(BURST) {
            let frame = self.frame();
            if api_of(&frame.bytes) == Some(ApiKey::AlterClientQuotas as i16) {
                continue;
            }
            client.send(&frame.bytes);
            self.requests += 1;
            expected.push(Expected::of(&frame.bytes));
            sent.push(frame);
        }
        let read = self.world.rng.below(BURST);
        for expected in expected.into_iter().take(read) {
            let header = match expected {
                Expected::Nothing => continue,
                Expected::End => return,
                Expected::Reply(header) | Expected::Later(header) => header,
            };
            // What waits holds up the replies behind it.
            match client.hear(true) {
                Heard::Reply(reply) => {
                    let is_in_turn = reply[..4] == header.correlation.to_be_bytes();
                    assert!(is_in_turn, "a reply to another request of {sent:?} than {header:?}");
                    self.check_reply(&header, &reply);
                }
                Heard::Closed | Heard::Silence => return,
            }
        }
        if self.world.rng.flip() {
            client.finish();
        }
    }

    /// A frame whose length is a lie, which only the end of the connection can answer.
    fn lie(&mut self) {
        let mut client = self.world.connect();
        let frame = self.frame();
        let rng = &mut self.world.rng;
        let length = match rng.below(5) {
            0 => i32::MAX,
            1 => -(rng.below(100) as i32),
            2 => frame.bytes.len() as i32 + 1 + rng.below(1000) as i32,
            3 => (4 << 20) + 1 + rng.below(1000) as i32,
            _ => (4 << 20) - rng.below(1000) as i32,
        };
        client.send_bytes(&[&length.to_be_bytes()[..], &frame.bytes].concat());
        client.finish();
        self.requests += 1;
        let heard = client.hear(false);
        assert!(matches!(heard, Heard::Closed), "a frame of {length} bytes that never came: {heard:?}");
    }

    /// A request of any api and version, as it is or changed.
    fn frame(&mut self) -> Frame {
        loop {
            let rng = &mut self.world.rng;
            let frame = match rng.below(24) {
                0 => Frame { bytes: noise(rng), is_whole: false },
                1..=10 => Frame { bytes: whole(rng), is_whole: true },
                _ => {
                    let mut bytes = whole(rng);
                    for _ in 0..=rng.below(3) {
                        if !bytes.is_empty() {
                            mutate(&mut bytes, rng);
                        }
                    }
                    Frame { bytes, is_whole: false }
                }
            };
            if !waits_for_long(&frame.bytes) {
                return frame;
            }
        }
    }

    /// Waits until the broker has given everything back.
    fn assert_nothing_left(&self, broker: &Broker) {
        let deadline = Instant::now() + HANG;
        loop {
            let gauges = broker.gauges();
            let left: Vec<_> =
                NOTHING_LEFT.iter().map(|name| (*name, gauges[name])).filter(|(_, left)| *left > 0).collect();
            if left.is_empty() {
                let (sessions, parts) = (gauges["fetch_sessions"], gauges["fetch_session_partitions"]);
                assert!(sessions > 0 || parts == 0, "{parts} partitions of no session");
                return;
            }
            assert!(Instant::now() < deadline, "no client is there, and there is left: {left:?}");
            sleep(Duration::from_millis(5));
        }
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "frame of {} bytes: {bytes}", self.bytes.len())
    }
}

fn api_of(frame: &[u8]) -> Option<i16> {
    Some(i16::from_be_bytes(frame.get(..2)?.try_into().ok()?))
}

fn waits_for_long(frame: &BytesMut) -> bool {
    let mut body = frame.clone();
    let header = decode_header(&mut body).ok().filter(|header| header.api == ApiKey::Fetch);
    let request = header.and_then(|header| decode_fetch(&header, body).ok());
    request.is_some_and(|request| request.wait_max_ms > FETCH_WAIT_MAX_MS)
}

/// A request that its version can say.
fn whole(rng: &mut Rng) -> BytesMut {
    let entry = SERVED[rng.below(SERVED.len())];
    let version = entry.body_min + rng.below((entry.max - entry.body_min + 1) as usize) as i16;
    let mut request = heddle_samples::request(entry.api, version, rng).expect("served apis have samples");
    if let RequestKind::Fetch(request) = &mut request {
        request.max_wait_ms = request.max_wait_ms.min(FETCH_WAIT_MAX_MS);
    }
    if rng.flip() {
        world::make_sensible(&mut request, version, rng);
    }
    heddle_samples::frame(&request, entry.api, version, rng)
}

/// Random bytes, most of them behind a header that gets them to a decoder.
fn noise(rng: &mut Rng) -> BytesMut {
    let mut frame = BytesMut::new();
    if rng.below(4) > 0 {
        let apis: Vec<ApiKey> = ApiKey::iter().collect();
        let api = apis[rng.below(apis.len())];
        frame = heddle_samples::header(api, rng.below(20) as i16 - 1, rng);
    }
    let largest = if rng.flip() { 256 } else { 4 };
    (0..rng.below(120)).for_each(|_| frame.put_u8(rng.below(largest) as u8));
    frame
}

/// Nothing panicked, and nothing went wrong that an operator would be told of.
fn check_broker() {
    assert_eq!(PANICS.load(Ordering::Acquire), 0, "something panicked");
    let errors = ERRORS.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(errors.is_empty(), "the broker logged errors: {errors:?}");
}

fn run(seed: u64, requests: u64) {
    let broker = Broker::start(CORES, seed);
    let world = World::create(broker.addresses(), seed);
    let mut fuzz = Fuzz { world, requests: 0, heard: BTreeMap::new() };
    fuzz.world.assert_well();
    fuzz.assert_nothing_left(&broker);
    while fuzz.requests < requests {
        let round_end = (fuzz.requests + ROUND).min(requests);
        let mut client = fuzz.world.connect();
        while fuzz.requests < round_end {
            match fuzz.world.rng.below(40) {
                0 => fuzz.burst(),
                1 => fuzz.lie(),
                _ => fuzz.step(&mut client),
            }
        }
        drop(client);
        fuzz.world.restore();
        fuzz.world.assert_well();
        check_broker();
        fuzz.assert_nothing_left(&broker);
    }
    for (api, (heard, well)) in &fuzz.heard {
        println!("api {api}: {heard} replies, {well} without an error");
    }
    let unheard: Vec<ApiKey> =
        SERVED.iter().map(|entry| entry.api).filter(|api| !fuzz.heard.contains_key(&(*api as i16))).collect();
    assert!(requests < 2000 || unheard.is_empty(), "never answered: {unheard:?}");
    broker.stop();
    check_broker();
}

#[test]
fn whatever_is_sent_the_broker_answers_or_closes_and_leaks_nothing() {
    let (seed, requests) = (setting("HEDDLE_FUZZ_SEED", 1), setting("HEDDLE_FUZZ_ITERATIONS", 12_000));
    println!("HEDDLE_FUZZ_SEED={seed} HEDDLE_FUZZ_ITERATIONS={requests}");
    tracing::subscriber::set_global_default(Errors).expect("nobody else listens");
    count_panics();
    run(seed, requests);
}
