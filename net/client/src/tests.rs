//! A client against a scripted broker: pipelining, credit, limits, and every way a connection may end.
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_lite::{AsyncRead, AsyncWrite, StreamExt};
use heddle_proto::native::{Reply, Request, StartFrom};
use heddle_proto::{CoreId, ErrorCode, NodeId, Offset, PartitionIndex, TopicId};

use crate::testing::{Broker, Driven, connected, pipe, produced};
use crate::*;

const TOPIC: TopicId = TopicId::new([7; 16]);
const PARTITION: PartitionIndex = PartitionIndex::new(3);

async fn start() -> (Client, Driven, Broker) {
    connected(ClientOptions::default()).await
}

fn to() -> ProduceTo {
    ProduceTo::new(TOPIC, PARTITION)
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn requests_are_on_their_way_before_an_answer_is_awaited() {
    let (client, _driven, mut broker) = start().await;
    let calls: Vec<_> = (0..5u8).map(|i| client.produce(to(), Acks::All, Bytes::from(vec![i; 10]))).collect();
    let mut asked = Vec::new();
    for i in 0..5u8 {
        let next = broker.next().await;
        assert_eq!(next.payload[..], [i; 10]);
        assert_eq!(
            next.request,
            Request::Produce { topic: TOPIC, partition: PARTITION, epoch: Epoch::NONE, acks: -1 }
        );
        asked.push(next.correlation);
    }
    for (i, correlation) in asked.into_iter().enumerate().rev() {
        broker.reply(correlation, produced(i as i64)).await;
    }
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().base_offset, Offset::new(i as i64));
    }
}

#[tokio::test]
async fn large_batches_pass_in_pieces_both_ways() {
    let (client, _driven, mut broker) = start().await;
    let batches = Bytes::from((0..3_000_000u32).map(|i| i as u8).collect::<Vec<_>>());
    let call = client.produce(to(), Acks::Primary, batches.clone());
    let asked = broker.next().await;
    assert!(asked.payload == batches);
    broker.reply(asked.correlation, produced(1)).await;
    call.await.unwrap();
    let fetched = client.fetch(FetchFrom::new(TOPIC, PARTITION, Offset::ZERO));
    let asked = broker.next().await;
    let reply = Reply::Fetch { committed: Offset::new(5), start: Offset::ZERO };
    let answer = async {
        broker.reply_with(asked.correlation, reply, &batches).await;
        broker.refuse(asked.correlation + 1, ErrorCode::UnknownServerError).await;
    };
    let small = client.cluster_status();
    let ((), fetched, small) = tokio::join!(answer, fetched, small);
    assert!(fetched.unwrap().batches == batches);
    assert_eq!(small.unwrap_err().code(), Some(ErrorCode::UnknownServerError));
}

#[tokio::test]
async fn a_refusal_fails_its_call_only() {
    let (client, _driven, mut broker) = start().await;
    let call = client.delete_topic("gone");
    let asked = broker.next().await;
    assert_eq!(asked.request, Request::DeleteTopic { name: "gone".to_owned() });
    broker.refuse(asked.correlation, ErrorCode::UnknownTopicOrPartition).await;
    let error = call.await.unwrap_err();
    assert_eq!(error.to_string(), "UNKNOWN_TOPIC_OR_PARTITION: scripted");
    assert!(error.is_retryable() && error.is_misrouted() && !error.is_disconnected());
    let call = client.create_topic(NewTopic::named("new"));
    let asked = broker.next().await;
    broker.reply(asked.correlation, Reply::Topic { id: TOPIC }).await;
    assert_eq!(call.await.unwrap(), TOPIC);
}

#[tokio::test]
async fn an_answer_of_another_kind_is_an_error_of_its_call() {
    let (client, _driven, mut broker) = start().await;
    let call = client.init_producer();
    let asked = broker.next().await;
    broker.reply(asked.correlation, produced(1)).await;
    assert!(matches!(call.await, Err(ClientError::Protocol(_))));
    assert!(client.failure().is_none());
}

#[tokio::test]
async fn a_lost_connection_fails_every_pending_call() {
    let (client, driven, mut broker) = start().await;
    let calls: Vec<_> = (0..10).map(|_| client.produce(to(), Acks::All, Bytes::from_static(b"x"))).collect();
    broker.next().await;
    drop(broker);
    for call in calls {
        let error = call.await.unwrap_err();
        assert!(error.is_disconnected() && error.is_retryable(), "{error}");
    }
    assert!(driven.await.unwrap().unwrap_err().is_disconnected());
    assert!(client.failure().is_some());
    let late = client.produce(to(), Acks::All, Bytes::new()).await;
    assert!(late.unwrap_err().is_disconnected());
    assert!(client.subscribe(TOPIC, PARTITION, StartFrom::Latest, 1).await.unwrap_err().is_disconnected());
    assert!(client.ready().await.unwrap_err().is_disconnected());
}

#[tokio::test]
async fn a_dropped_driver_fails_every_pending_call() {
    let (client, driver) = connection(pipe().0);
    let call = client.cluster_status();
    drop(driver);
    assert!(matches!(call.await, Err(ClientError::ConnectionClosed)));
}

#[tokio::test]
async fn nonsense_from_the_broker_ends_the_connection() {
    let nonsense: [&[u8]; 6] = [
        &[0; 16],                                           // a frame without a header
        &[255; 16],                                         // a length above the limit
        &[8, 0, 0, 0, 255, 0, 0, 0, 1, 2, 3, 4],            // a header beyond its frame
        &[12, 0, 0, 0, 8, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9], // no FlatBuffer
        &[2, 0, 0, 0, 1, 2],                                // no room for a header's length
        &[200, 0, 0, 0, 1],                                 // an end inside a frame
    ];
    for bytes in nonsense {
        let (client, driven, mut broker) = start().await;
        let call = client.cluster_status();
        broker.next().await;
        broker.send(bytes).await;
        if bytes.len() < 6 {
            drop(broker);
        }
        assert!(matches!(call.await, Err(ClientError::Protocol(_))), "{bytes:?}");
        assert!(matches!(driven.await.unwrap(), Err(ClientError::Protocol(_))));
    }
}

#[tokio::test]
async fn an_answer_nobody_asked_for_ends_the_connection() {
    let (client, driven, mut broker) = start().await;
    let call = client.cluster_status();
    let asked = broker.next().await;
    broker.reply(asked.correlation + 7, produced(0)).await;
    assert!(matches!(call.await, Err(ClientError::Protocol(_))));
    assert!(driven.await.unwrap().is_err());
}

#[tokio::test]
async fn a_dropped_call_gives_up_its_answer_only() {
    let (client, _driven, mut broker) = start().await;
    drop(client.cluster_status());
    let kept = client.cluster_status();
    let (first, second) = (broker.next().await, broker.next().await);
    broker.reply(first.correlation, Reply::ClusterStatus { json: "1".to_owned() }).await;
    broker.reply(second.correlation, Reply::ClusterStatus { json: "2".to_owned() }).await;
    assert_eq!(kept.await.unwrap(), "2");
}

#[tokio::test]
async fn the_driver_ends_when_all_is_done_and_everybody_gone() {
    let (client, driven, mut broker) = start().await;
    let call = client.cluster_status();
    client.produce_unacked(to(), Bytes::from(vec![1; 10_000])).unwrap();
    drop(client);
    let asked = broker.next().await;
    let unacked = broker.next().await;
    assert!(matches!(unacked.request, Request::Produce { acks: 0, .. }));
    assert!(!driven.is_finished());
    broker.reply(asked.correlation, Reply::ClusterStatus { json: String::new() }).await;
    call.await.unwrap();
    assert!(driven.await.unwrap().is_ok());
    assert!(broker.try_next().await.is_none());
}

#[tokio::test]
async fn too_much_under_way_is_refused_until_there_is_room() {
    let options = ClientOptions { call_count_max: 2, ..ClientOptions::default() };
    let (client, _driven, mut broker) = connected(options).await;
    let first = client.cluster_status();
    let _second = client.cluster_status();
    assert!(matches!(client.cluster_status().await, Err(ClientError::Overloaded { call_count: 2, .. })));
    assert!(poll_once(client.ready()).is_pending());
    let asked = broker.next().await;
    broker.reply(asked.correlation, Reply::ClusterStatus { json: String::new() }).await;
    first.await.unwrap();
    client.ready().await.unwrap();
    let options = ClientOptions { queued_bytes_max: 10_000, ..ClientOptions::default() };
    let (client, _driven, mut broker) = connected(options).await;
    let _large = client.produce(to(), Acks::All, Bytes::from(vec![0; 20_000]));
    assert!(matches!(client.cluster_status().await, Err(ClientError::Overloaded { .. })));
    assert!(poll_once(client.ready()).is_pending());
    let ((), ready) = tokio::join!(async { drop(broker.next().await) }, client.ready());
    ready.unwrap();
}

#[tokio::test]
async fn what_the_broker_would_not_take_is_not_sent() {
    let (client, _driven, mut broker) = start().await;
    let hello = client.hello("test", Some("c"));
    let asked = broker.next().await;
    let expected = Request::Hello { version: 1, client: "test".to_owned(), cluster: Some("c".to_owned()) };
    assert_eq!(asked.request, expected);
    let reply = Reply::Hello {
        version: 1,
        node: NodeId::new(4),
        cluster: "c".to_owned(),
        core: CoreId::new(1),
        core_count: 2,
        frame_bytes_max: 10_000,
        software: "scripted".to_owned(),
    };
    broker.reply(asked.correlation, reply).await;
    let welcome = hello.await.unwrap();
    assert_eq!((welcome.node, welcome.core_count), (NodeId::new(4), 2));
    let error = client.produce(to(), Acks::All, Bytes::from(vec![0; 10_000])).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { bytes_max: 10_000, .. }), "{error}");
    assert!(!error.is_retryable());
}

/// Subscribes with a credit of 100 bytes, and answers as the broker.
async fn subscribed(client: &Client, broker: &mut Broker) -> (Subscription, u32) {
    let subscribing = client.subscribe(TOPIC, PARTITION, StartFrom::Latest, 100);
    let answering = async {
        let asked = broker.next().await;
        let Request::Subscribe { subscription, credit_bytes, .. } = asked.request else {
            panic!("{asked:?}")
        };
        assert_eq!(credit_bytes, 100);
        broker.reply(asked.correlation, Reply::Subscribed { subscription, from: Offset::new(40) }).await;
        subscription
    };
    let (subscription, number) = tokio::join!(subscribing, answering);
    (subscription.unwrap(), number)
}

#[tokio::test]
async fn credit_comes_back_as_deliveries_are_taken() {
    let (client, _driven, mut broker) = start().await;
    let (mut subscription, number) = subscribed(&client, &mut broker).await;
    assert_eq!(subscription.from(), Offset::new(40));
    for byte in 0..4u8 {
        broker.push(number, &[byte; 30]).await;
    }
    let first = subscription.next().await.unwrap().unwrap();
    assert_eq!((&first.batches[..], first.committed), (&[0; 30][..], Offset::new(99)));
    assert_eq!(StreamExt::next(&mut subscription).await.unwrap().unwrap().batches[..], [1; 30]);
    let credit = broker.next().await.request;
    assert_eq!(credit, Request::Credit { subscription: number, bytes: 60 });
    subscription.next().await.unwrap().unwrap();
    subscription.next().await.unwrap().unwrap();
    let credit = broker.next().await.request;
    assert_eq!(credit, Request::Credit { subscription: number, bytes: 60 });
}

#[tokio::test]
async fn a_push_without_credit_ends_the_connection() {
    let (client, driven, mut broker) = start().await;
    let (mut subscription, number) = subscribed(&client, &mut broker).await;
    broker.push(number, &[1; 99]).await;
    broker.push(number, &[2; 500]).await; // credit may be overdrawn once
    broker.push(number, &[3; 1]).await;
    assert!(matches!(driven.await.unwrap(), Err(ClientError::Protocol(_))));
    assert_eq!(subscription.next().await.unwrap().unwrap().batches.len(), 99);
    assert_eq!(subscription.next().await.unwrap().unwrap().batches.len(), 500);
    assert!(matches!(subscription.next().await, Some(Err(ClientError::Protocol(_)))));
    assert!(subscription.next().await.is_none());
}

#[tokio::test]
async fn dropping_a_subscription_ends_it() {
    let (client, _driven, mut broker) = start().await;
    let (subscription, number) = subscribed(&client, &mut broker).await;
    drop(subscription);
    let asked = broker.next().await;
    assert_eq!(asked.request, Request::Unsubscribe { subscription: number });
    broker.push(number, &[1; 10]).await; // was on its way
    let ended =
        Reply::SubscriptionEnded { subscription: number, code: ErrorCode::None, message: String::new() };
    broker.reply(asked.correlation, ended).await;
    let (_other, other_number) = subscribed(&client, &mut broker).await;
    assert_ne!(number, other_number);
    assert!(client.failure().is_none());
}

#[tokio::test]
async fn giving_up_while_subscribing_ends_the_subscription() {
    let (client, _driven, mut broker) = start().await;
    assert!(poll_once(client.subscribe(TOPIC, PARTITION, StartFrom::Earliest, 100)).is_pending());
    let Request::Subscribe { subscription, .. } = broker.next().await.request else { panic!() };
    assert_eq!(broker.next().await.request, Request::Unsubscribe { subscription });
}

#[tokio::test]
async fn a_refused_subscription_leaves_nothing_behind() {
    let (client, _driven, mut broker) = start().await;
    let subscribing = client.subscribe(TOPIC, PARTITION, StartFrom::Latest, 100);
    let refusing = async {
        let asked = broker.next().await;
        broker.refuse(asked.correlation, ErrorCode::NotLeaderOrFollower).await;
    };
    let (subscription, ()) = tokio::join!(subscribing, refusing);
    assert_eq!(subscription.unwrap_err().code(), Some(ErrorCode::NotLeaderOrFollower));
    let _next = client.cluster_status();
    assert_eq!(broker.next().await.request, Request::ClusterStatus {});
}

#[tokio::test]
async fn the_broker_ends_a_subscription_with_a_reason() {
    let (client, _driven, mut broker) = start().await;
    let (mut subscription, number) = subscribed(&client, &mut broker).await;
    broker.push(number, &[1; 10]).await;
    let code = ErrorCode::UnknownTopicOrPartition;
    broker.reply(0, Reply::SubscriptionEnded { subscription: number, code, message: "deleted".into() }).await;
    assert_eq!(subscription.next().await.unwrap().unwrap().batches.len(), 10);
    assert_eq!(subscription.next().await.unwrap().unwrap_err().code(), Some(code));
    assert!(subscription.next().await.is_none());
    drop(subscription);
    let _next = client.cluster_status();
    assert_eq!(broker.next().await.request, Request::ClusterStatus {});
}

#[tokio::test]
async fn a_lost_connection_ends_subscriptions() {
    let (client, _driven, mut broker) = start().await;
    let (mut subscription, number) = subscribed(&client, &mut broker).await;
    broker.push(number, &[1; 10]).await;
    drop(broker);
    assert_eq!(subscription.next().await.unwrap().unwrap().batches.len(), 10);
    assert!(subscription.next().await.unwrap().unwrap_err().is_disconnected());
    assert!(subscription.next().await.is_none());
}

#[test]
fn everything_may_cross_threads_if_the_stream_may() {
    fn assert_send<T: Send>(_: &T) {}
    fn assert_sync<T: Sync>(_: &T) {}
    let (client, driver) = connection(pipe().0);
    assert_send(&driver);
    assert_send(&client);
    assert_sync(&client);
    assert_send(&client.cluster_status());
    assert_send(&client.subscribe(TOPIC, PARTITION, StartFrom::Latest, 1));
    assert_send(&client.ready());
}

/// A stream that must stay on its thread, as a glommio stream.
struct Pinned(futures_lite::io::Cursor<Vec<u8>>, Rc<()>);

impl AsyncRead for Pinned {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        assert_eq!(Rc::strong_count(&self.1), 1);
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pinned {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_stream_bound_to_its_thread_will_do() {
    let (_client, driver) = connection(Pinned(futures_lite::io::Cursor::new(Vec::new()), Rc::new(())));
    assert!(matches!(futures_lite::future::block_on(driver), Err(ClientError::ConnectionClosed)));
}
