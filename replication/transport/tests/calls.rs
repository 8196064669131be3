//! Calls between nodes over real sockets: replies in any order, what is lost and what has not left, and who is not let in.
#![allow(clippy::unwrap_used)] // a test throughout

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future;
use heddle_net::frame::{FrameOptions, FrameReader};
use heddle_net::socket::{Listener, ReadHalf, Share, Stream, WriteHalf, pause, spawn};
use heddle_proto::ids::{CoreId, NodeId};
use heddle_replication::message::Life;
use heddle_replication_driver::{Frame, Peer};
use heddle_replication_transport::calls::{CallError, CallFrom, Handler, Joined, Options, join};
use heddle_replication_transport::handshake::{Aim, Greeted, Identity, Roster, Secret, accept, dial};
use heddle_replication_transport::wire::{Body, Call, Encoder, Purpose, Refusal, decode};
use heddle_replication_transport::{Backoff, Bell, Calls, Door, Link, Peers, Replicas};

/// Far longer than any of these takes.
const NEVER: Duration = Duration::from_secs(30);

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

fn peer(node: u32) -> Peer {
    Peer { node: NodeId::new(node), core: CoreId::new(0) }
}

fn identity(node: u32) -> Identity {
    Identity { cluster: "loom".into(), me: peer(node), life: Life(0), process: [node as u8; 16] }
}

fn secret(byte: u8) -> Secret {
    Secret::new(&[byte; 32]).unwrap()
}

fn options() -> Options {
    Options {
        backoff: Backoff { first: Duration::from_millis(20), most: Duration::from_millis(40) },
        ping_every: Duration::from_millis(50),
        silence_max: Duration::from_millis(400),
        ..Options::default()
    }
}

fn listener(address: &str) -> Listener {
    Listener::bind(address.parse().unwrap(), Share::Exclusive).unwrap()
}

/// A node with a door that is open.
struct Node {
    door: Door,
    calls: Calls,
    address: String,
    /// Who has asked.
    asked: Rc<RefCell<Vec<CallFrom>>>,
}

impl Node {
    fn new(identity: Identity, secret: Secret, options: Options, address: &str) -> Node {
        let door = Door::new(identity, secret, heddle_replication_transport::Options::default());
        let calls = Calls::new(&door, options);
        let listener = listener(address);
        let address = listener.local_addr().to_string();
        let serving = door.clone();
        spawn(async move { serving.serve(listener).await });
        Node { door, calls, address, asked: Rc::default() }
    }

    /// One that answers.
    fn up(node: u32) -> Node {
        let up = Node::new(identity(node), secret(1), options(), "127.0.0.1:0");
        up.answer();
        up
    }

    fn answer(&self) {
        self.calls.answer(handler(&self.asked));
    }

    async fn ask(&self, node: u32, address: &str, request: &[u8]) -> Result<Vec<u8>, CallError> {
        self.calls.call(NodeId::new(node), address, request.to_vec()).await
    }

    fn stop(&self) {
        self.calls.stop();
        self.door.stop();
    }
}

/// The first byte says what is done: `w`ait as many milliseconds as the second says, `n`ever answer, `b`ad, else at once. The
/// reply is the request turned round.
fn handler(asked: &Rc<RefCell<Vec<CallFrom>>>) -> Handler {
    let asked = asked.clone();
    Rc::new(move |from, request| {
        asked.borrow_mut().push(from);
        Box::pin(async move {
            match request.first() {
                Some(b'w') => pause(Duration::from_millis(u64::from(request[1]))).await,
                Some(b'n') => future::pending().await,
                Some(b'b') => return None,
                _ => {}
            }
            Some(request.into_iter().rev().collect())
        })
    })
}

#[track_caller]
fn unreachable(outcome: Result<Vec<u8>, CallError>) -> String {
    match outcome {
        Err(CallError::Unreachable(why)) => why,
        other => panic!("it is not unreachable: {other:?}"),
    }
}

#[track_caller]
fn lost(outcome: Result<Vec<u8>, CallError>) -> String {
    match outcome {
        Err(CallError::Lost(why)) => why,
        other => panic!("it is not lost: {other:?}"),
    }
}

#[test]
fn replies_come_in_any_order_and_both_nodes_ask() {
    run(async || {
        let (one, two) = (Node::up(1), Node::up(2));
        let order = RefCell::new(Vec::new());
        let ask = async |from: &Node, to: u32, address: &str, wait: u8| {
            let reply = from.ask(to, address, &[b'w', wait]).await;
            assert_eq!(reply, Ok(vec![wait, b'w']));
            order.borrow_mut().push(wait);
        };
        let slow = future::zip(ask(&one, 2, &two.address, 200), ask(&one, 2, &two.address, 100));
        let quick = future::zip(ask(&one, 2, &two.address, 1), ask(&two, 1, &one.address, 50));
        future::zip(slow, quick).await;
        assert_eq!(*order.borrow(), [1, 50, 100, 200]);
        let from = |node| CallFrom { node: NodeId::new(node), purpose: Purpose::Calls };
        assert_eq!(*two.asked.borrow(), [from(1); 3]);
        assert_eq!(*one.asked.borrow(), [from(2)]);
        // Longer than silence may be: pings keep it.
        pause(2 * options().silence_max).await;
        let began = Instant::now();
        assert_eq!(one.ask(2, &two.address, b"ab").await, Ok(b"ba".to_vec()));
        assert!(began.elapsed() < options().silence_max);
        one.stop();
        two.stop();
        let why = unreachable(one.ask(2, &two.address, b"ab").await);
        assert!(why.contains("stopped"), "{why}");
    });
}

#[test]
fn large_requests_pass_and_larger_ones_do_not_leave() {
    run(async || {
        // Both ends share a thread here, which turns every byte round before it reads on.
        let patient = Options { silence_max: NEVER, ..options() };
        let [one, two] = [1, 2].map(|node| Node::new(identity(node), secret(1), patient, "127.0.0.1:0"));
        two.answer();
        let bytes_max = patient.payload_bytes_max;
        let large: Vec<u8> = (0..bytes_max).map(|at| (at % 251) as u8).collect();
        let reply = one.ask(2, &two.address, &large).await.unwrap();
        assert!(reply.iter().eq(large.iter().rev()));
        let why = unreachable(one.ask(2, &two.address, &vec![0; bytes_max + 1]).await);
        assert!(why.contains("above the limit"), "{why}");
        assert_eq!(one.ask(2, &two.address, b"xy").await, Ok(b"yx".to_vec()));
        // A node that takes less hangs up on what is more.
        let small = Options { payload_bytes_max: 1000, ..options() };
        let three = Node::new(identity(3), secret(1), small, "127.0.0.1:0");
        three.answer();
        assert!(one.ask(3, &three.address, &[7; 1000]).await.is_ok());
        lost(one.ask(3, &three.address, &[7; 2000]).await);
        assert_eq!(three.asked.borrow().len(), 1);
        [one, two, three].iter().for_each(Node::stop);
    });
}

#[test]
fn what_is_no_request_ends_the_connection_and_all_that_is_outstanding() {
    run(async || {
        let (one, two) = (Node::up(1), Node::up(2));
        let never = one.ask(2, &two.address, b"n");
        let bad = async {
            until("it is asked", || two.asked.borrow().len() == 1).await;
            one.ask(2, &two.address, b"b").await
        };
        let (never, bad) = future::zip(never, bad).await;
        lost(never);
        lost(bad);
        one.stop();
        two.stop();
    });
}

#[test]
fn nobody_there_is_told_quickly_and_a_node_that_comes_back_is_reached() {
    run(async || {
        let one = Node::up(1);
        let free = listener("127.0.0.1:0").local_addr().to_string();
        let began = Instant::now();
        let (first, second) = future::zip(one.ask(2, &free, b"x"), one.ask(2, &free, b"y")).await;
        assert_eq!(unreachable(first), unreachable(second));
        unreachable(one.ask(2, &free, b"z").await);
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        for _ in 0..2 {
            let two = Node::new(identity(2), secret(1), options(), &free);
            two.answer();
            let began = Instant::now();
            while one.ask(2, &free, b"ab").await != Ok(b"ba".to_vec()) {
                assert!(began.elapsed() < NEVER);
                pause(Duration::from_millis(5)).await;
            }
            let killed = async {
                until("it is asked", || two.asked.borrow().len() > 1).await;
                two.stop();
            };
            let (outcome, ()) = future::zip(one.ask(2, &free, b"n"), killed).await;
            lost(outcome);
            pause(Duration::from_millis(20)).await; // the port is free again
        }
        let why = unreachable(one.ask(1, &free, b"x").await);
        assert!(why.contains("itself"), "{why}");
        one.stop();
    });
}

/// Who is there takes connections and says nothing.
#[test]
fn an_attempt_to_connect_ends_in_time_and_a_silent_node_is_given_up() {
    run(async || {
        let quick = Options { attempt_time_max: Duration::from_millis(200), ..options() };
        let one = Node::new(identity(1), secret(1), quick, "127.0.0.1:0");
        let mute = listener("127.0.0.1:0");
        let began = Instant::now();
        unreachable(one.ask(2, &mute.local_addr().to_string(), b"x").await);
        let lived = began.elapsed();
        assert!(lived >= Duration::from_millis(150) && lived < Duration::from_secs(1), "{lived:?}");
        // One that greets, and then says nothing.
        let silent = listener("127.0.0.1:0");
        let address = silent.local_addr().to_string();
        let greeting = async {
            let link = Link::from(silent.accept().await.unwrap());
            accept(link, &identity(2), &secret(1), &RefCell::default(), &Purpose::ALL).await.ok().unwrap()
        };
        let (outcome, _greeted) = future::zip(one.ask(2, &address, b"x"), greeting).await;
        lost(outcome);
        one.stop();
    });
}

#[test]
fn who_does_not_belong_here_is_told_why() {
    run(async || {
        let two = Node::new(identity(2), secret(1), options(), "127.0.0.1:0");
        let one = Node::up(1);
        let why = unreachable(one.ask(2, &two.address, b"x").await);
        assert!(why.contains(&Refusal::Purpose.to_string()), "nobody answers yet: {why}");
        two.answer();
        let stranger = Node::new(identity(1), secret(2), options(), "127.0.0.1:0");
        let why = unreachable(stranger.ask(2, &two.address, b"x").await);
        assert!(why.contains(&Refusal::Secret.to_string()), "{why}");
        let foreign = Identity { cluster: "warp".into(), ..identity(1) };
        let foreign = Node::new(foreign, secret(1), options(), "127.0.0.1:0");
        let why = unreachable(foreign.ask(2, &two.address, b"x").await);
        assert!(why.contains(&Refusal::Cluster.to_string()), "{why}");
        let why = unreachable(stranger.ask(3, &two.address, b"x").await);
        assert!(why.contains(&Refusal::NotMe.to_string()), "{why}");
        assert!(two.asked.borrow().is_empty());
        let refused = two.door.handshakes().refused;
        assert_eq!(refused.get(&Refusal::Secret), Some(&1));
        [one, two, stranger, foreign].iter().for_each(Node::stop);
    });
}

#[test]
fn a_node_id_in_use_is_refused_while_the_other_process_is_there() {
    run(async || {
        let (one, two) = (Node::up(1), Node::up(2));
        assert!(one.ask(2, &two.address, b"x").await.is_ok());
        let again = Identity { process: [99; 16], ..identity(1) };
        let again = Node::new(again, secret(1), options(), "127.0.0.1:0");
        let why = unreachable(again.ask(2, &two.address, b"x").await);
        assert!(why.contains(&Refusal::NodeInUse.to_string()), "{why}");
        one.stop();
        let began = Instant::now();
        while again.ask(2, &two.address, b"x").await.is_err() {
            assert!(began.elapsed() < NEVER, "a restarted node is let in");
            pause(Duration::from_millis(5)).await;
        }
        again.stop();
        two.stop();
    });
}

#[test]
fn a_node_without_a_cluster_joins_if_it_knows_the_secret() {
    run(async || {
        let two = Node::up(2);
        let new = Identity { cluster: String::new(), ..identity(5) };
        let ask = async |identity: &Identity, with: u8, request: &[u8]| {
            join(&two.address, identity, &secret(with), options(), request.to_vec()).await
        };
        let (cluster, reply) = ("loom".to_owned(), b"gniht".to_vec());
        let joined = Joined { cluster, node: NodeId::new(2), reply };
        assert_eq!(ask(&new, 1, b"thing").await, Ok(joined.clone()));
        assert_eq!(*two.asked.borrow(), [CallFrom { node: NodeId::new(5), purpose: Purpose::Join }]);
        assert_eq!(ask(&identity(5), 1, b"thing").await, Ok(joined), "it expects that cluster");
        let why = |outcome: Result<Joined, CallError>| unreachable(outcome.map(|joined| joined.reply));
        let secret = why(ask(&new, 2, b"thing").await);
        assert!(secret.contains(&Refusal::Secret.to_string()), "{secret}");
        let own = Identity { me: peer(2), ..new.clone() };
        let own = why(ask(&own, 1, b"thing").await);
        assert!(own.contains(&Refusal::OwnNode.to_string()), "{own}");
        let other = Identity { cluster: "warp".into(), ..new.clone() };
        let other = why(ask(&other, 1, b"thing").await);
        assert!(other.contains(&Refusal::Cluster.to_string()), "{other}");
        let bad = ask(&new, 1, b"bad").await;
        assert!(matches!(bad, Err(CallError::Lost(_))), "{bad:?}");
        let nobody = listener("127.0.0.1:0").local_addr().to_string();
        why(join(&nobody, &new, &Secret::new(&[1; 32]).unwrap(), options(), Vec::new()).await);
        assert_eq!(two.asked.borrow().len(), 3);
        two.stop();
    });
}

#[test]
fn who_gives_up_is_forgotten_and_another_address_replaces_the_connection() {
    run(async || {
        let (one, two) = (Node::up(1), Node::up(2));
        let given_up = async {
            pause(Duration::from_millis(60)).await;
            Err(CallError::Lost("given up".to_owned()))
        };
        let outcome = future::or(one.ask(2, &two.address, &[b'w', 120]), given_up).await;
        assert_eq!(lost(outcome), "given up");
        // Its reply comes and is nobody's.
        assert!(one.ask(2, &two.address, &[b'w', 150]).await.is_ok());
        let moved = Node::up(2);
        let (old, new) = future::zip(one.ask(2, &two.address, b"n"), async {
            until("it is asked", || two.asked.borrow().len() == 3).await;
            // The other one has the same process here, as a node that has moved has not.
            one.ask(2, &moved.address, b"ab").await
        })
        .await;
        assert!(lost(old).contains("another address"));
        assert_eq!(new, Ok(b"ba".to_vec()));
        [one, two, moved].iter().for_each(Node::stop);
    });
}

/// A hand-made end of a connection whose ends know each other.
struct Hand {
    frames: FrameReader,
    write: WriteHalf,
}

impl Hand {
    fn new(greeted: Greeted<ReadHalf, WriteHalf>) -> Hand {
        let frames = FrameReader::resume(greeted.read, FrameOptions::new(32 << 20), greeted.unread);
        Hand { frames, write: greeted.write }
    }

    async fn dial(to: &Node, aim: Aim) -> Hand {
        let stream = Stream::connect(&to.address, NEVER).await.unwrap();
        let roster = RefCell::<Roster>::default();
        Hand::new(dial(Link::from(stream), &identity(1), &secret(1), &roster, aim).await.ok().unwrap())
    }

    async fn send(&mut self, body: &Body) {
        let mut chunks = Vec::new();
        Encoder::new().encode(body, &mut chunks).unwrap();
        self.write.write_all_vectored(&chunks).await.unwrap();
    }

    /// The next frame that is no ping.
    async fn read(&mut self) -> Option<Body> {
        loop {
            let frame = self.frames.next().await.ok()??;
            match decode(frame.freeze()).unwrap() {
                Body::Ping(_) => {}
                body => return Some(body),
            }
        }
    }
}

fn request(number: u64, payload: &'static [u8]) -> Body {
    Body::Request(Call { number, payload: Bytes::from_static(payload) })
}

#[test]
fn garbage_ends_a_connection() {
    run(async || {
        let two = Node::up(2);
        let aim = Aim::Calls(peer(2));
        for garbage in [Body::Proof([1; 32]), Body::Reply(Call { number: 1, payload: Bytes::new() })] {
            let mut hand = Hand::dial(&two, aim).await;
            hand.send(&garbage).await;
            assert_eq!(hand.read().await, None);
        }
        for garbage in [&[0xff; 64][..], b"\x10\0\0\0\x01\0\0\0not a frame!"] {
            let mut hand = Hand::dial(&two, aim).await;
            hand.write.write_all_vectored(&[Bytes::from_static(garbage)]).await.unwrap();
            assert_eq!(hand.read().await, None);
        }
        let mut hand = Hand::dial(&two, aim).await;
        let mut chunks = Vec::new();
        Encoder::new().encode(&request(1, b"hello"), &mut chunks).unwrap();
        chunks[1] = Bytes::from_static(b"hallo");
        hand.write.write_all_vectored(&chunks).await.unwrap();
        assert_eq!(hand.read().await, None);
        assert!(two.asked.borrow().is_empty());
        // Who says nothing is shown out too.
        let mut hand = Hand::dial(&two, aim).await;
        assert_eq!(hand.read().await, None);
        two.stop();
    });
}

#[test]
fn replies_to_what_was_not_asked_end_a_connection() {
    run(async || {
        let one = Node::up(1);
        let liar = listener("127.0.0.1:0");
        let address = liar.local_addr().to_string();
        let lying = async {
            let link = Link::from(liar.accept().await.unwrap());
            let greeted = accept(link, &identity(2), &secret(1), &RefCell::default(), &Purpose::ALL).await;
            let mut hand = Hand::new(greeted.ok().unwrap());
            assert_eq!(hand.read().await, Some(request(1, b"x")));
            hand.send(&Body::Reply(Call { number: 2, payload: Bytes::new() })).await;
            assert_eq!(hand.read().await, None);
        };
        let (outcome, ()) = future::zip(one.ask(2, &address, b"x"), lying).await;
        lost(outcome);
        one.stop();
    });
}

#[test]
fn more_requests_than_may_be_under_way_wait_unread() {
    run(async || {
        let few = Options { underway_count_max: 3, ..options() };
        heard_at_once(few).await;
        let small = Options { underway_bytes_max: 5, ..options() }; // a request has two
        heard_at_once(small).await;
    });
}

async fn heard_at_once(options: Options) {
    let two = Node::new(identity(2), secret(1), options, "127.0.0.1:0");
    two.answer();
    let mut hand = Hand::dial(&two, Aim::Calls(peer(2))).await;
    for number in 1..=10 {
        hand.send(&request(number, &[b'w', 200])).await;
    }
    until("three are heard", || two.asked.borrow().len() == 3).await;
    pause(Duration::from_millis(50)).await;
    assert_eq!(two.asked.borrow().len(), 3);
    let mut numbers = Vec::new();
    while numbers.len() < 10 {
        let Some(Body::Reply(reply)) = hand.read().await else { panic!("a reply") };
        numbers.push(reply.number);
        hand.send(&Body::Ping(1)).await;
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=10));
    two.stop();
}

/// Replicas that only count their connections.
#[derive(Clone, Default)]
struct Quiet(Rc<(Cell<u64>, Bell)>);

impl Replicas for Quiet {
    fn receive(&self, _: Peer, _: Frame) {}

    fn connected(&self, _: Peer) {
        self.0.0.set(self.0.0.get() + 1);
    }

    fn flush(&self, _: Peer) -> Option<Frame> {
        None
    }

    fn bell(&self) -> &Bell {
        &self.0.1
    }
}

#[test]
fn streams_come_in_at_the_same_door_once_the_life_is_known() {
    run(async || {
        let (one, two) = (Node::up(1), Node::up(2));
        assert!(one.ask(2, &two.address, b"x").await.is_ok());
        let (from, to) = (Quiet::default(), Quiet::default());
        let dialing = Peers::behind(&one.door, Life(7), from.clone());
        dialing.need(peer(2), &two.address);
        until("it is refused", || two.door.handshakes().refused.contains_key(&Refusal::Purpose)).await;
        let accepting = Peers::behind(&two.door, Life(4), to.clone());
        until("they are connected", || from.0.0.get() == 1 && to.0.0.get() == 1).await;
        assert!(one.ask(2, &two.address, b"x").await.is_ok());
        assert!(two.ask(1, &one.address, b"x").await.is_ok());
        accepting.stop();
        until("they are not", || !dialing.streams()[0].1.is_connected).await;
        assert!(one.ask(2, &two.address, b"x").await.is_ok(), "calls go on");
        dialing.stop();
        one.stop();
        two.stop();
    });
}
