//! Connections with a hand-made other end: garbage, lies, and more requests than may be under way.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future;
use heddle_net::frame::{FrameOptions, FrameReader};
use heddle_net::socket::{ReadHalf, Stream, WriteHalf, pause};
use heddle_replication_transport::Link;
use heddle_replication_transport::calls::Options;
use heddle_replication_transport::handshake::{Aim, Greeted, Roster, accept, dial};
use heddle_replication_transport::wire::{Body, Call, Encoder, Purpose, decode};

use crate::node::*;

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
