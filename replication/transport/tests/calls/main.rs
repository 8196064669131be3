//! Calls between nodes over real sockets: replies in any order, what is lost and what has not left, and who is not let in.
#![allow(clippy::unwrap_used)] // a test throughout

mod hand;
mod node;
mod refused;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future;
use heddle_net::socket::pause;
use heddle_proto::ids::NodeId;
use heddle_replication::message::Life;
use heddle_replication_driver::{Frame, Peer};
use heddle_replication_transport::calls::{CallError, CallFrom, Options};
use heddle_replication_transport::handshake::accept;
use heddle_replication_transport::wire::{Purpose, Refusal};
use heddle_replication_transport::{Bell, Link, Peers, Replicas};

use node::*;

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
