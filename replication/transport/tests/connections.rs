//! What one core does about its connections, seen from a hand-made other end: who is let in, who is shown out, and that a peer
//! which takes nothing costs nothing.
#![allow(clippy::unwrap_used)] // a test throughout

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use heddle_net::frame::{FrameOptions, FrameReader};
use heddle_net::socket::{
    Activity, Listener, ReadHalf, Share, ShutdownHandle, Stream, WriteHalf, close_when_idle, pause, spawn,
};
use heddle_proto::ids::{CoreId, Epoch, NodeId, Offset, TopicPartition};
use heddle_replication::history::History;
use heddle_replication::message::{Life, Message};
use heddle_replication_driver::{Frame, Peer, Said};
use heddle_replication_transport::handshake::{Aim, Greeted, Identity, Roster, Secret, accept, dial};
use heddle_replication_transport::wire::{Body, Encoder, Purpose, Refusal, decode};
use heddle_replication_transport::{Backoff, Bell, Link, Options, Peers, Replicas, StreamCounts};

/// Far longer than any of these takes.
const NEVER: Duration = Duration::from_secs(30);
const BATCH_BYTES: usize = 256 << 10;

fn run<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let executor = glommio::LocalExecutorBuilder::default().spawn(move || async move { test().await });
    executor.expect("an executor starts").join().expect("the test does not panic")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < NEVER, "never: {what}");
        pause(Duration::from_millis(2)).await;
    }
}

/// Replicas that have as much to say as is asked for, and write down what they hear.
#[derive(Clone, Default)]
struct Talkative(Rc<Talk>);

#[derive(Default)]
struct Talk {
    bell: Bell,
    /// Frames that there still are.
    left: Cell<u64>,
    flushed: Cell<u64>,
    heard: RefCell<Vec<(Peer, Frame)>>,
    connected: Cell<u64>,
}

impl Replicas for Talkative {
    fn receive(&self, from: Peer, frame: Frame) {
        self.0.heard.borrow_mut().push((from, frame));
    }

    fn connected(&self, _: Peer) {
        self.0.connected.set(self.0.connected.get() + 1);
    }

    fn flush(&self, _: Peer) -> Option<Frame> {
        let left = self.0.left.get().checked_sub(1)?;
        self.0.left.set(left);
        self.0.flushed.set(self.0.flushed.get() + 1);
        Some(frame(self.0.flushed.get()))
    }

    fn bell(&self) -> &Bell {
        &self.0.bell
    }
}

fn frame(number: u64) -> Frame {
    let message = Message::Append {
        epoch: Epoch::new(1),
        life: Life(1),
        from: Offset::ZERO,
        upto: Offset::new(1),
        history: History::default(),
        committed: Offset::ZERO,
    };
    let batches = vec![Bytes::from(vec![number as u8; BATCH_BYTES])];
    Frame {
        connection: number,
        taken: None,
        said: vec![Said { partition: TopicPartition::default(), message, batches }],
    }
}

fn peer(node: u32) -> Peer {
    Peer { node: NodeId::new(node), core: CoreId::new(0) }
}

fn identity(node: u32) -> Identity {
    Identity { cluster: "loom".into(), me: peer(node), life: Life(1), process: [node as u8; 16] }
}

fn secret() -> Secret {
    Secret::new(&[1; 32]).unwrap()
}

fn options() -> Options {
    Options {
        backoff: Backoff { first: Duration::from_millis(5), most: Duration::from_millis(20) },
        ping_every: Duration::from_millis(20),
        silence_max: Duration::from_millis(400),
        handshake_time_max: Duration::from_millis(400),
        ..Options::default()
    }
}

type Core = (Peers<Talkative>, Talkative, String);

/// A core of this node that lets others in.
fn core(node: u32, options: Options) -> Core {
    let replicas = Talkative::default();
    let peers = Peers::new(identity(node), secret(), options, replicas.clone());
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Share::Exclusive).unwrap();
    let address = listener.local_addr().to_string();
    let serving = peers.clone();
    spawn(async move { serving.serve(listener).await });
    (peers, replicas, address)
}

fn counts(peers: &Peers<Talkative>, of: u32) -> StreamCounts {
    let streams = peers.streams();
    streams.into_iter().find(|(to, _)| *to == peer(of)).map(|(_, counts)| counts).unwrap_or_default()
}

/// A hand-made end of a connection whose ends know each other.
struct Hand {
    frames: FrameReader,
    write: WriteHalf,
    closer: ShutdownHandle,
}

impl Hand {
    fn new(greeted: Greeted<ReadHalf, WriteHalf>) -> Hand {
        let frames = FrameReader::resume(greeted.read, FrameOptions::new(32 << 20), greeted.unread);
        Hand { frames, write: greeted.write, closer: greeted.closer }
    }

    /// Dials as a lower node does.
    async fn dial(node: u32, life: u32, to: u32, address: &str) -> Hand {
        Hand::try_dial(node, life, to, address).await.unwrap()
    }

    async fn try_dial(node: u32, life: u32, to: u32, address: &str) -> Option<Hand> {
        let stream = Stream::connect(address, NEVER).await.ok()?;
        let identity = Identity { life: Life(life), ..identity(node) };
        let greeted =
            dial(Link::from(stream), &identity, &secret(), &RefCell::default(), Aim::Streams(peer(to))).await;
        greeted.ok().map(Hand::new)
    }

    async fn send(&mut self, body: &Body) {
        let mut chunks = Vec::new();
        Encoder::new().encode(body, &mut chunks).unwrap();
        self.write.write_all_vectored(&chunks).await.unwrap();
    }

    /// The next frame; `None` when the other end has hung up, which it has to do some time.
    async fn read(&mut self) -> Option<Body> {
        let (began, closer) = (Instant::now(), self.closer.clone());
        let frame = close_when_idle(Activity::default(), NEVER, closer, self.frames.next()).await;
        assert!(began.elapsed() < NEVER, "it neither says anything nor hangs up");
        let frame = frame.ok()??;
        Some(decode(frame.freeze()).unwrap())
    }

    /// Reads until the other end hangs up, answering every ping if it is to live.
    async fn read_all(mut self, answers: bool) -> Vec<Body> {
        let (began, mut all) = (Instant::now(), Vec::new());
        while let Some(body) = self.read().await {
            assert!(began.elapsed() < NEVER, "it does not hang up");
            if let Body::Ping(number) = body
                && answers
            {
                self.send(&Body::Pong(number)).await;
            }
            all.push(body);
        }
        all
    }
}

#[test]
fn frames_pass_both_ways_in_order_and_are_counted() {
    run(async || {
        let options = || Options { silence_max: Duration::from_secs(1), ..options() };
        let (one, one_says, _) = core(1, options());
        let (two, two_says, address) = core(2, options());
        one_says.0.left.set(20);
        two_says.0.left.set(30);
        one.need(peer(2), &address);
        two.need(peer(1), "nobody dials this:1");
        until("all has been heard", || {
            two_says.0.heard.borrow().len() == 20 && one_says.0.heard.borrow().len() == 30
        })
        .await;
        for (says, from) in [(&one_says, 2), (&two_says, 1)] {
            let heard = says.0.heard.borrow();
            assert!(heard.iter().zip(1u64..).all(|(heard, number)| *heard == (peer(from), frame(number))));
            assert_eq!(says.0.connected.get(), 1);
        }
        until("both have measured", || {
            counts(&one, 2).round_trip.is_some() && counts(&two, 1).round_trip.is_some()
        })
        .await;
        assert!(counts(&one, 2).bytes_sent >= 20 * BATCH_BYTES as u64);
        assert!(counts(&one, 2).bytes_received >= 30 * BATCH_BYTES as u64);
        assert!(counts(&two, 1).frames_received > 20, "frames and pings");
        assert_eq!(counts(&two, 1).failed_dial_count, 0, "the lower one dials");
        // Longer than silence may be: pings keep it.
        pause(2 * options().silence_max).await;
        assert_eq!((counts(&one, 2).connection_count, counts(&one, 2).is_connected), (1, true));
        one_says.0.left.set(1);
        one_says.0.bell.ring();
        until("it was rung for", || two_says.0.heard.borrow().len() == 21).await;
        one.stop();
        two.stop();
        until("both have noticed", || one_says.0.left.get() == 0 && two.streams().is_empty()).await;
    });
}

#[test]
fn a_peer_that_takes_nothing_costs_one_frame() {
    run(async || {
        let (peers, says, address) = core(2, Options { silence_max: NEVER, ..options() });
        says.0.left.set(100_000);
        let hand = Hand::dial(1, 1, 2, &address).await;
        until("something is flushed", || says.0.flushed.get() > 0).await;
        // What the kernel takes for both ends is the only measure of how much that may be; it takes no more once it is full.
        let mut before = 0;
        until("the kernel is full", || {
            std::mem::replace(&mut before, says.0.flushed.get()) == before && before > 1
        })
        .await;
        pause(Duration::from_millis(100)).await;
        let flushed = says.0.flushed.get();
        assert!(flushed * (BATCH_BYTES as u64) < 64 << 20, "{flushed} frames were taken from the driver");
        drop(hand);
        until("it is gone", || !counts(&peers, 1).is_connected).await;
        peers.stop();
    });
}

#[test]
fn who_is_silent_is_shown_out_and_dialed_again() {
    run(async || {
        let (peers, says, _) = core(1, options());
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Share::Exclusive).unwrap();
        peers.need(peer(2), &listener.local_addr().to_string());
        let roster = RefCell::new(Roster::default());
        for round in 1..=3 {
            let stream = listener.accept().await.unwrap();
            let greeted =
                accept(Link::from(stream), &identity(2), &secret(), &roster, &Purpose::ALL).await.unwrap();
            let all = Hand::new(greeted).read_all(false).await;
            assert!(all.iter().all(|body| matches!(body, Body::Ping(_))), "{all:?}");
            assert!(!all.is_empty(), "it was asked before");
            assert_eq!(says.0.connected.get(), round);
        }
        peers.forget(peer(2));
        until("it is not needed any more", || peers.streams().is_empty()).await;
        peers.stop();
    });
}

#[test]
fn a_newer_connection_of_a_peer_ends_the_older_one() {
    run(async || {
        let (peers, says, address) = core(2, Options { silence_max: NEVER, ..options() });
        let first = Hand::dial(1, 1, 2, &address).await;
        until("it is there", || says.0.connected.get() == 1).await;
        let mut second = Hand::dial(1, 1, 2, &address).await;
        let all = first.read_all(true).await;
        assert!(all.iter().all(|body| matches!(body, Body::Ping(_))));
        second.send(&Body::Streams(frame(5))).await;
        until("the newer one is heard", || says.0.heard.borrow().len() == 1).await;
        assert!(counts(&peers, 1).is_connected);
        let third = Hand::dial(1, 2, 2, &address).await;
        second.read_all(true).await;
        assert_eq!(counts(&peers, 1).connection_count, 3);
        drop(third);
        until("none is left", || !counts(&peers, 1).is_connected).await;
        peers.stop();
    });
}

#[test]
fn who_says_what_does_not_belong_there_is_shown_out_and_counted() {
    run(async || {
        let (peers, says, address) = core(2, options());
        let mut garbage = Hand::dial(1, 1, 2, &address).await;
        garbage
            .write
            .write_all_vectored(&[Bytes::from_static(b"\x10\0\0\0\x01\0\0\0not a frame!")])
            .await
            .unwrap();
        garbage.read_all(false).await;
        until("it was counted", || counts(&peers, 1).bad_frame_count == 1).await;
        let mut proof = Hand::dial(1, 1, 2, &address).await;
        proof.send(&Body::Proof([0; 32])).await;
        proof.read_all(false).await;
        until("it was counted", || counts(&peers, 1).bad_frame_count == 2).await;
        let mut huge = Hand::dial(1, 1, 2, &address).await;
        huge.write.write_all_vectored(&[Bytes::from_static(&[0xff; 64])]).await.unwrap();
        huge.read_all(false).await;
        until("it was counted", || counts(&peers, 1).bad_frame_count == 3).await;
        assert!(says.0.heard.borrow().is_empty());
        assert_eq!(counts(&peers, 1).connection_count, 3);
        peers.stop();
    });
}

/// Connects and says so much that it may be a peer.
async fn begin(address: &str) -> (ReadHalf, WriteHalf) {
    let (read, mut write) = Stream::connect(address, NEVER).await.unwrap().into_split();
    write.write_all_vectored(&[Bytes::from_static(&[0xff, b'H', b'D'])]).await.unwrap();
    (read, write)
}

#[test]
fn handshakes_that_take_too_long_or_are_too_many_end() {
    run(async || {
        let most = Options { greeting_count_max: 2, handshake_time_max: NEVER, ..options() };
        let (peers, says, address) = core(2, most);
        let mut slow = vec![begin(&address).await, begin(&address).await];
        slow.push(begin(&address).await);
        assert!(!slow[0].0.read(&mut [0; 8]).await.is_ok_and(|count| count > 0), "it makes room for another");
        assert_eq!(peers.handshakes().too_many, 1);
        let hand = Hand::dial(1, 1, 2, &address).await;
        until("it is let in although the others are silent", || says.0.connected.get() == 1).await;
        assert_eq!(peers.handshakes().too_many, 2);
        drop(hand);
        let (other, _, other_address) = core(3, options());
        let mut late = begin(&other_address).await;
        assert!(!late.0.read(&mut [0; 8]).await.is_ok_and(|count| count > 0), "its time is over");
        until("it was counted", || other.handshakes().too_slow == 1).await;
        other.stop();
        peers.stop();
    });
}

#[test]
fn refusals_are_counted_by_reason_and_dialing_goes_on() {
    run(async || {
        let (two, _, address) = core(2, options());
        let other = Identity { cluster: "warp".into(), ..identity(1) };
        let says = Talkative::default();
        let one = Peers::new(other, secret(), options(), says.clone());
        one.need(peer(2), &address);
        until("it was refused again and again", || {
            two.handshakes().refused.get(&Refusal::Cluster) >= Some(&3)
                && counts(&one, 2).failed_dial_count >= 3
        })
        .await;
        assert_eq!((says.0.connected.get(), counts(&one, 2).is_connected), (0, false));
        one.stop();
        two.stop();
    });
}
