//! The pieces of this crate put together as a broker does, against `heddle-client` on the same core:
//! pipelined requests, acks that come late and out of order, pushes between them, and a connection handed to
//! another reader.
#![allow(clippy::unwrap_used)] // a test throughout

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_lite::future;
use heddle_client::{
    Acks, Client, ErrorCode, Offset, PartitionIndex, ProduceTo, StartFrom, Timestamp, TopicId,
};
use heddle_net::frame::{FrameOptions, FrameReader, Protocol};
use heddle_net::outbox::{Closed, Outbox, OutboxOptions, Reply, ReplySlot, outbox};
use heddle_net::socket::{self, Listener, Share, Stream};
use heddle_proto::native::{self, Request, decode_request, encode_reply, split_frame};

const TOPIC: TopicId = TopicId::new([1; 16]);
const PARTITION: PartitionIndex = PartitionIndex::new(0);
const OPTIONS: FrameOptions = FrameOptions::new(4 << 20);

fn run<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let executor = glommio::LocalExecutorBuilder::default().spawn(move || async move { test().await });
    executor.expect("an executor starts").join().expect("the test does not panic")
}

async fn connect(listener: &Listener) -> (Client, Stream) {
    let target = listener.local_addr().to_string();
    let connecting = Stream::connect(&target, Duration::from_secs(10));
    let (ours, theirs) = future::zip(connecting, listener.accept()).await;
    let (client, driver) = heddle_client::connection(ours.unwrap());
    socket::spawn(async { drop(driver.await) });
    (client, theirs.unwrap())
}

fn encode(correlation: u32, reply: &native::Reply, payload: Bytes) -> Reply {
    let mut head = BytesMut::new();
    encode_reply(correlation, reply, &mut head, payload.len()).unwrap();
    Reply::Two(head.freeze(), payload)
}

/// Acks wait here until three of them do, then are sent latest first.
#[derive(Default)]
struct Parked(RefCell<Vec<(u32, ReplySlot)>>);

impl Parked {
    fn park(&self, correlation: u32, slot: ReplySlot) {
        self.0.borrow_mut().push((correlation, slot));
        if self.0.borrow().len() < 3 {
            return;
        }
        for (offset, (correlation, slot)) in self.0.take().into_iter().enumerate().rev() {
            let base_offset = Offset::new(offset as i64);
            let reply = native::Reply::Produce { base_offset, append_time: Timestamp::NONE };
            slot.fill(encode(correlation, &reply, Bytes::new()));
        }
    }
}

async fn answer(outbox: &Outbox, parked: &Parked, frame: BytesMut) -> Result<(), Closed> {
    let (header, payload) = split_frame(frame).unwrap();
    let (correlation, request) = decode_request(&header).unwrap();
    match request {
        Request::Produce { .. } => parked.park(correlation, outbox.slot(0).await?),
        Request::Fetch { .. } => {
            let reply = native::Reply::Fetch { committed: Offset::ZERO, start: Offset::ZERO };
            let payload = Bytes::from(vec![7; 3 << 20]);
            outbox.slot(payload.len()).await?.fill(encode(correlation, &reply, payload));
        }
        Request::Subscribe { subscription, .. } => {
            let reply = native::Reply::Subscribed { subscription, from: Offset::ZERO };
            let push = native::Reply::Push { subscription, committed: Offset::ZERO };
            outbox.push(encode(0, &push, Bytes::from_static(b"pushed")), None).await?;
            outbox.slot(0).await?.fill(encode(correlation, &reply, Bytes::new()));
        }
        Request::Unsubscribe { .. } | Request::Credit { .. } => {}
        _ => {
            let message = format!("{} bytes", payload.len());
            let reply = native::Reply::Error { code: ErrorCode::InvalidRequest, message };
            outbox.slot(0).await?.fill(encode(correlation, &reply, Bytes::new()));
        }
    }
    Ok(())
}

async fn serve(stream: Stream) {
    let (read, write) = stream.into_split();
    let mut frames = FrameReader::new(read, OPTIONS);
    assert_eq!(frames.sniff().await.unwrap(), Some(Protocol::Native));
    // As if another core took over: after the preface, with whatever was read beyond it.
    let (read, unread) = frames.into_parts();
    let stream = Stream::from_raw(Stream::reunite(read, write).unwrap().into_raw().unwrap()).unwrap();
    let (read, write) = stream.into_split();
    let mut frames = FrameReader::resume(read, OPTIONS, unread);
    let (outbox, writer) = outbox(OutboxOptions::default());
    let reading = async {
        let parked = Parked::default();
        while let Some(frame) = frames.next().await.unwrap() {
            if answer(&outbox, &parked, frame).await.is_err() {
                break;
            }
        }
        outbox.close();
    };
    let ((), written) = future::zip(reading, writer.run(write, ())).await;
    written.unwrap();
}

#[test]
fn a_native_client_is_served() {
    run(async || {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), Share::Exclusive).unwrap();
        let (client, stream) = connect(&listener).await;
        let done = Rc::new(RefCell::new(false));
        let served = done.clone();
        socket::spawn(async move {
            serve(stream).await;
            served.replace(true);
        });
        exercise(&client).await;
        drop(client);
        while !*done.borrow() {
            socket::pause(Duration::from_millis(1)).await;
        }
    });
}

async fn exercise(client: &Client) {
    let to = ProduceTo::new(TOPIC, PARTITION);
    let calls: Vec<_> =
        [10, 100_000, 3_000_000].map(|size| client.produce(to, Acks::All, Bytes::from(vec![1; size]))).into();
    let refused = client.cluster_status();
    for (offset, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().base_offset, Offset::new(offset as i64));
    }
    assert_eq!(refused.await.unwrap_err().code(), Some(ErrorCode::InvalidRequest));
    let fetched = client.fetch(heddle_client::FetchFrom::new(TOPIC, PARTITION, Offset::ZERO)).await.unwrap();
    assert!(fetched.batches[..] == vec![7; 3 << 20][..]);
    let mut subscription = client.subscribe(TOPIC, PARTITION, StartFrom::Latest, 1000).await.unwrap();
    assert_eq!(subscription.next().await.unwrap().unwrap().batches[..], b"pushed"[..]);
}
