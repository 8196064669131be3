//! The native client as a tokio user has it: one thread, one connection per core asked for.

use std::future::Future;
use std::net::SocketAddr;

use heddle_client::{
    Acks, Client, ClientError, ErrorCode, FetchFrom, NewTopic, Offset, PartitionIndex, ProduceTo, TopicId,
    connection,
};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::broker::Broker;
use crate::records;
use crate::wait::HANG;

/// Runs a test's future on a single-threaded tokio runtime, and fails it when it hangs.
///
/// # Panics
/// If the future does not end.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let outcome = runtime.block_on(async { tokio::time::timeout(HANG, work).await });
    outcome.unwrap_or_else(|_| panic!("the test hangs: nothing came for {HANG:?}"))
}

/// Connects a client; its driver runs as a task of the current runtime.
///
/// # Errors
/// When nobody listens there.
pub async fn try_connect(address: SocketAddr) -> std::io::Result<Client> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (client, driver) = connection(stream.compat());
    tokio::spawn(async move { drop(driver.await) });
    Ok(client)
}

/// As [`try_connect`], for a broker that must be there.
///
/// # Panics
/// If it is not.
pub async fn connect(address: SocketAddr) -> Client {
    try_connect(address).await.expect("the broker accepts connections")
}

/// The address that serves a partition, by the broker's own metadata.
///
/// # Panics
/// If the metadata does not name it.
pub async fn address_of(client: &Client, topic: &str, partition: u32) -> SocketAddr {
    let metadata = client.metadata(Some(&[topic]), false).await.expect("metadata is told");
    let found = &metadata.topics[0];
    assert_eq!(found.error, ErrorCode::None, "{topic}");
    let broker = found.partitions[partition as usize].broker;
    let broker =
        metadata.brokers.iter().find(|known| known.id == broker).expect("the leader is a known broker");
    format!("{}:{}", broker.host, broker.port).parse().expect("the broker advertises an address")
}

/// A client of the core that serves a partition.
pub async fn connect_to_owner(broker: &Broker, topic: &str, partition: u32) -> Client {
    let client = connect(broker.address()).await;
    let address = address_of(&client, topic, partition).await;
    if address == broker.address() { client } else { connect(address).await }
}

/// Creates a topic.
///
/// # Panics
/// If the broker refuses.
pub async fn create(client: &Client, name: &str, partition_count: u32, configs: &[(&str, &str)]) -> TopicId {
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let topic = NewTopic { partition_count, configs, ..NewTopic::named(name) };
    client.create_topic(topic).await.expect("the topic is created")
}

/// Sends one record and waits until it is safe; its offset.
///
/// # Errors
/// The broker's refusal, or a failed connection.
pub async fn send(client: &Client, topic: TopicId, partition: u32, value: &[u8]) -> Result<i64, ClientError> {
    let to = ProduceTo::new(topic, PartitionIndex::new(partition));
    let produced = client.produce(to, Acks::All, records::one(value)).await?;
    Ok(produced.base_offset.get())
}

/// Reads a partition from an offset to its committed end: offset and value of each record.
///
/// # Panics
/// If the broker refuses, or the log has holes.
pub async fn read_all(client: &Client, topic: TopicId, partition: u32, from: i64) -> Vec<(i64, Vec<u8>)> {
    let mut found: Vec<(i64, Vec<u8>)> = Vec::new();
    let mut next = from;
    loop {
        let at = FetchFrom::new(topic, PartitionIndex::new(partition), Offset::new(next));
        let fetched = client.fetch(at).await.expect("the partition can be read");
        for record in records::read(fetched.batches) {
            if record.offset.get() >= next {
                next = record.offset.get() + 1;
                found.push((record.offset.get(), record.value.unwrap_or_default().to_vec()));
            }
        }
        if next >= fetched.committed.get() {
            return found;
        }
    }
}

/// The error code of a refusal.
///
/// # Panics
/// If the result is no refusal.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (ErrorCode, String) {
    match result {
        Err(ClientError::Refused { code, message }) => (code, message),
        other => panic!("a refusal was expected, not {other:?}"),
    }
}
