//! A router against a small cluster in memory, whose partitions move and whose brokers come and go.
use std::collections::HashMap;
use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use heddle_proto::native::{self, PartitionInfo, Reply, Request, StartFrom, TopicInfo};
use heddle_proto::{CoreId, Epoch, ErrorCode, NodeId, Offset, PartitionIndex, TopicId};

use super::*;
use crate::testing::{Broker, batch, pipe, produced};
use crate::{Acks, ClientOptions, connection_with};

const TOPIC: TopicId = TopicId::new([1; 16]);
const P0: PartitionIndex = PartitionIndex::new(0);

/// Brokers 0 and 1 at ports 100 and 101; one topic `t` with one partition.
#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    owner: i32,
    down: Vec<u16>,
    log: Vec<Bytes>,
    /// What a broker does with the next produce requests, instead of appending.
    mishaps: Vec<Mishap>,
    metadata_count: usize,
    connect_count: HashMap<u16, usize>,
    pauses: Vec<Duration>,
    no_topic: bool,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Mishap {
    Refuse(ErrorCode),
    /// Appends, then closes the connection without an answer.
    LoseAnswer,
}

type Sleeping = std::future::Ready<()>;
type Connecting = Pin<Box<dyn Future<Output = io::Result<Client>> + Send>>;
type Connect = Box<dyn Fn(String, u16) -> Connecting + Send + Sync>;
type Sleep = Box<dyn Fn(Duration) -> Sleeping + Send + Sync>;

impl Cluster {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn router(&self, options: RouterOptions) -> Router<Closures<Connect, Sleep>> {
        let (connecting, sleeping) = (self.clone(), self.clone());
        let connect: Connect = Box::new(move |host, port| {
            assert_eq!(host, "memory");
            Box::pin(ready(connecting.connect(port)))
        });
        let sleep: Sleep = Box::new(move |time| {
            sleeping.state().pauses.push(time);
            ready(())
        });
        let environment = Closures { connect, sleep };
        Router::new(environment, [("memory".to_owned(), 100), ("memory".to_owned(), 101)], options)
    }

    fn connect(&self, port: u16) -> io::Result<Client> {
        let mut state = self.state();
        *state.connect_count.entry(port).or_default() += 1;
        if state.down.contains(&port) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = pipe();
        let (client, driver) = connection_with(ours, ClientOptions::default());
        tokio::spawn(driver);
        tokio::spawn(self.clone().serve(i32::from(port) - 100, theirs));
        Ok(client)
    }

    async fn serve(self, id: i32, pipe: crate::testing::Pipe) {
        let mut broker = Broker::accept(pipe).await;
        let mut followed = None;
        while let Some(asked) = broker.try_next().await {
            let reply = match asked.request {
                Request::Hello { .. } => hello(),
                Request::Metadata { .. } => self.metadata(),
                Request::Produce { .. } => match self.produce(id, asked.payload) {
                    Some(reply) => reply,
                    None => return,
                },
                Request::Subscribe { subscription, from, .. } => {
                    followed = Some((subscription, self.start(from)));
                    Reply::Subscribed { subscription, from: Offset::new(self.start(from) as i64) }
                }
                Request::Credit { .. } => continue,
                other => panic!("{other:?}"),
            };
            broker.reply(asked.correlation, reply).await;
            if let Some((subscription, at)) = followed.take() {
                // One delivery for each connection: consumers must come back for the rest.
                let next = self.state().log.get(at).cloned();
                if let Some(next) = next {
                    broker.push(subscription, &next).await;
                    return;
                }
            }
        }
    }

    fn start(&self, from: StartFrom) -> usize {
        match from {
            StartFrom::Earliest => 0,
            StartFrom::Offset(offset) => offset.get() as usize,
            other => panic!("{other:?}"),
        }
    }

    fn metadata(&self) -> Reply {
        let mut state = self.state();
        state.metadata_count += 1;
        let broker = |id: i32| native::Broker { id, host: "memory".to_owned(), port: 100 + id as u16 };
        let partition = PartitionInfo {
            partition: P0,
            broker: state.owner,
            epoch: Epoch::new(5),
            error: ErrorCode::None,
        };
        let error = if state.no_topic { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::None };
        let topic = TopicInfo { error, name: "t".to_owned(), id: TOPIC, partitions: vec![partition] };
        Reply::Metadata { brokers: vec![broker(0), broker(1)], topics: vec![topic] }
    }

    fn produce(&self, id: i32, payload: Bytes) -> Option<Reply> {
        let mut state = self.state();
        if state.owner != id {
            return Some(refusal(ErrorCode::NotLeaderOrFollower));
        }
        let mishap = state.mishaps.pop();
        if let Some(Mishap::Refuse(code)) = mishap {
            return Some(refusal(code));
        }
        state.log.push(payload);
        (mishap != Some(Mishap::LoseAnswer)).then(|| produced(state.log.len() as i64 - 1))
    }
}

fn refusal(code: ErrorCode) -> Reply {
    Reply::Error { code, message: "scripted".to_owned() }
}

fn hello() -> Reply {
    Reply::Hello {
        version: 1,
        node: NodeId::new(0),
        cluster: "c".to_owned(),
        core: CoreId::new(0),
        core_count: 1,
        frame_bytes_max: 1 << 20,
        software: "scripted".to_owned(),
    }
}

fn payload(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 100])
}

#[tokio::test]
async fn a_connection_to_the_owner_is_made_once() {
    let cluster = Cluster::default();
    cluster.state().owner = 1;
    let producer = Producer::new(cluster.router(RouterOptions::default()), Acks::All);
    for offset in 0..10u8 {
        let produced = producer.produce("t", P0, payload(offset)).await.unwrap();
        assert_eq!(produced.base_offset, Offset::new(i64::from(offset)));
    }
    let state = cluster.state();
    assert_eq!((state.metadata_count, state.pauses.len()), (1, 0));
    assert_eq!(state.connect_count, HashMap::from([(100, 1), (101, 1)]));
}

#[tokio::test]
async fn a_moved_partition_is_followed() {
    let cluster = Cluster::default();
    let producer = Producer::new(cluster.router(RouterOptions::default()), Acks::All);
    producer.produce("t", P0, payload(0)).await.unwrap();
    cluster.state().owner = 1;
    producer.produce("t", P0, payload(1)).await.unwrap();
    let state = cluster.state();
    assert_eq!((state.metadata_count, state.log.len(), state.pauses.len()), (2, 2, 1));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_with_growing_pauses() {
    let cluster = Cluster::default();
    let full = Mishap::Refuse(ErrorCode::NotEnoughReplicas);
    cluster.state().mishaps = vec![full; 4];
    let (pause_min, pause_max) = (Duration::from_millis(10), Duration::from_millis(35));
    let options = RouterOptions { pause_min, pause_max, ..RouterOptions::default() };
    let producer = Producer::new(cluster.router(options), Acks::All);
    producer.produce("t", P0, payload(0)).await.unwrap();
    let state = cluster.state();
    assert_eq!(state.pauses, [10, 20, 35, 35].map(Duration::from_millis));
    assert_eq!(state.metadata_count, 1, "the owner was right all the time");
}

#[tokio::test]
async fn what_cannot_pass_is_told_at_once() {
    let cluster = Cluster::default();
    cluster.state().mishaps = vec![Mishap::Refuse(ErrorCode::MessageTooLarge)];
    let producer = Producer::new(cluster.router(RouterOptions::default()), Acks::All);
    let error = producer.produce("t", P0, payload(0)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
    assert!(cluster.state().pauses.is_empty());
}

#[tokio::test]
async fn attempts_end_with_the_last_reason() {
    let cluster = Cluster::default();
    let options = RouterOptions { attempt_count_max: 3, ..RouterOptions::default() };
    let producer = Producer::new(cluster.router(options.clone()), Acks::All);
    let error = producer.produce("t", PartitionIndex::new(8), payload(0)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(cluster.state().pauses.len(), 2);
    cluster.state().no_topic = true;
    let router = cluster.router(options.clone());
    assert_eq!(
        router.partition_count("t").await.unwrap_err().code(),
        Some(ErrorCode::UnknownTopicOrPartition)
    );
    cluster.state().down = vec![100, 101];
    let error = cluster.router(options).any().await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable { address, .. } if address == "memory:101"), "{error}");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let cluster = Cluster::default();
    cluster.state().mishaps = vec![Mishap::LoseAnswer];
    let producer = Producer::new(cluster.router(RouterOptions::default()), Acks::All);
    let produced = producer.produce("t", P0, payload(0)).await.unwrap();
    assert_eq!(produced.base_offset, Offset::new(1), "at least once");
    assert_eq!(cluster.state().connect_count[&100], 2);
}

#[tokio::test]
async fn another_broker_helps_when_the_first_is_down() {
    let cluster = Cluster::default();
    cluster.state().owner = 1;
    cluster.state().down = vec![100];
    let router = cluster.router(RouterOptions::default());
    assert_eq!(router.partition_count("t").await.unwrap(), 1);
    Producer::new(router, Acks::Primary).produce("t", P0, payload(0)).await.unwrap();
    assert_eq!(cluster.state().connect_count, HashMap::from([(100, 1), (101, 1)]));
}

#[tokio::test]
async fn a_consumer_goes_on_where_it_was() {
    let cluster = Cluster::default();
    cluster.state().log = (0..5).map(|offset| batch(offset, 1)).collect();
    let options = RouterOptions { attempt_count_max: 3, ..RouterOptions::default() };
    let router = cluster.router(options);
    let mut consumer = Consumer::new(router, "t", P0, StartFrom::Earliest, 1 << 16);
    for offset in 0..5 {
        let delivery = consumer.next().await.unwrap();
        assert_eq!(delivery.batches, batch(offset, 1));
        assert_eq!(consumer.position(), StartFrom::Offset(Offset::new(offset + 1)));
        cluster.state().owner ^= 1; // and to be found again
    }
    assert!(cluster.state().connect_count.values().sum::<usize>() >= 5);
}

#[tokio::test]
async fn a_router_may_cross_threads() {
    let cluster = Cluster::default();
    let producer = Producer::new(cluster.router(RouterOptions::default()), Acks::All);
    let produced = tokio::spawn(async move { producer.produce("t", P0, payload(0)).await });
    produced.await.unwrap().unwrap();
}
