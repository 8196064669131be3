//! Native clients of a cluster: an idempotent writer per partition that waits for each answer, and a reader.
//!
//! A native call has no timeout of its own. Here a call that stays unanswered is given up with its connections, and
//! repeated over new ones under the same sequence, by which the broker knows it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use heddle_client::batch::{batches, records_shared};
use heddle_client::router::{Consumer, Environment, Router, RouterOptions};
use heddle_client::{
    Acks, Client, ClientError, Offset, PartitionIndex, ProduceTo, Produced, ProducerIdentity, StartFrom,
};
use heddle_tests::native::try_connect;
use heddle_tests::records;

use crate::ends::Ends;
use crate::history::{Isolation, Outcome, Reading, RecordId};
use crate::load::{Load, Pace};
use crate::readers::Brought;
use crate::value;

/// How long one answer may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Silence after which a reader makes new connections.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What a reader lets the broker send ahead.
const CREDIT_BYTES: u64 = 1 << 20;

/// Largest batch unpacked.
const BATCH_BYTES_MAX: usize = 64 << 20;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(tokio::task::LocalSet::new().run_until(work))
}

/// Connections and pauses of tokio.
struct Tokio;

impl Environment for Tokio {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Client> {
        let address: SocketAddr = format!("{host}:{port}").parse().map_err(io::Error::other)?;
        tokio::time::timeout(ANSWER_WAIT_MAX, try_connect(address)).await?
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

fn router(load: &Load, attempt_count_max: usize) -> Router<Tokio> {
    let options =
        RouterOptions { name: "heddle-cluster".to_owned(), attempt_count_max, ..RouterOptions::default() };
    let bootstrap = load.options.bootstrap.split(',').filter_map(|address| {
        let (host, port) = address.rsplit_once(':')?;
        Some((host.to_owned(), port.parse().ok()?))
    });
    Router::new(Tokio, bootstrap, options)
}

/// Writes to all partitions until told to stop.
pub fn write(load: &Arc<Load>) {
    block_on(async {
        let partitions = 0..load.options.partition_count;
        let tasks: Vec<_> =
            partitions.map(|partition| tokio::task::spawn_local(write_to(load.clone(), partition))).collect();
        for task in tasks {
            task.await.expect("a writer ends in peace");
        }
    });
}

/// A new identity follows every record whose fate is unknown.
async fn write_to(load: Arc<Load>, partition: u32) {
    while !load.is_stopping() {
        let begun = tokio::time::timeout(ANSWER_WAIT_MAX, identity(&load)).await;
        let Ok(Ok(identity)) = begun else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        one_life(&load, partition, identity).await;
    }
}

async fn identity(load: &Load) -> Result<ProducerIdentity, ClientError> {
    router(load, 1).any().await?.init_producer().await
}

async fn one_life(load: &Arc<Load>, partition: u32, identity: ProducerIdentity) {
    let writer = load.new_writer();
    let mut pace = Pace::new((load.options.rate / load.options.partition_count).max(1));
    let mut routes = router(load, 1);
    for sequence in 0.. {
        tokio::time::sleep_until(pace.due().into()).await;
        if load.is_stopping() {
            return;
        }
        let id = RecordId { writer, sequence };
        load.invoke(id, partition, None);
        let outcome = produce(load, &mut routes, identity, id, partition).await;
        let failed = matches!(outcome, Outcome::Failed(_));
        load.complete(id, outcome);
        if failed {
            return;
        }
    }
}

/// Sends one record until there is an answer that stands.
async fn produce(
    load: &Load,
    routes: &mut Router<Tokio>,
    identity: ProducerIdentity,
    id: RecordId,
    partition: u32,
) -> Outcome {
    let value = value::encode(id, partition, load.options.value_bytes);
    let batch = records::idempotent(identity.id, identity.epoch, id.sequence as i32, &[&value]).freeze();
    let deadline = Instant::now() + load.options.delivery_timeout;
    loop {
        let sent = routes.at_owner(&load.options.topic, PartitionIndex::new(partition), |owner| {
            owner.client.produce(ProduceTo::from(owner), Acks::All, batch.clone())
        });
        let error = match tokio::time::timeout(ANSWER_WAIT_MAX, sent).await {
            Ok(Ok(Produced { base_offset, .. })) => {
                return Outcome::Acked(Some(base_offset.get()).filter(|offset| *offset >= 0));
            }
            Ok(Err(error)) => error,
            Err(_) => {
                *routes = router(load, 1);
                ClientError::ConnectionClosed
            }
        };
        if !error.is_retryable() || Instant::now() > deadline {
            return Outcome::Failed(format!("native: {}", code_of(&error)));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn code_of(error: &ClientError) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.to_string())
}

/// Reads all partitions until the ends are known and reached.
pub fn read(load: &Arc<Load>, ends: &Arc<Ends>, name: &str) -> Brought {
    block_on(async {
        let partitions = 0..load.options.partition_count;
        let tasks: Vec<_> = partitions
            .map(|partition| {
                let reading = Reading::new(name, Isolation::Uncommitted, partition);
                tokio::task::spawn_local(read_from(load.clone(), ends.clone(), reading))
            })
            .collect();
        let (mut readings, mut stuck) = (Vec::new(), Vec::new());
        for task in tasks {
            let (reading, reached) = task.await.expect("a reader ends in peace");
            if !reached {
                stuck.push(reading.partition);
            }
            readings.push(reading);
        }
        Brought { readings, stuck }
    })
}

async fn read_from(load: Arc<Load>, ends: Arc<Ends>, mut reading: Reading) -> (Reading, bool) {
    let partition = PartitionIndex::new(reading.partition);
    loop {
        let at = StartFrom::Offset(Offset::new(reading.next));
        let topic = load.options.topic.clone();
        let mut consumer = Consumer::new(router(&load, 3), topic, partition, at, CREDIT_BYTES);
        let mut heard = Instant::now();
        while heard.elapsed() < SILENCE_MAX {
            if let Some(reached) = ends.is_over(reading.partition, reading.next) {
                return (reading, reached);
            }
            match tokio::time::timeout(Duration::from_millis(200), consumer.next()).await {
                Ok(Ok(delivery)) => {
                    take(&mut reading, &delivery.batches);
                    heard = Instant::now();
                }
                Ok(Err(error)) if error.is_retryable() => tokio::time::sleep(PAUSE).await,
                Ok(Err(error)) => {
                    load.error(format!("native consumer: {}", code_of(&error)));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(_) => {}
            }
        }
    }
}

/// Notes the records of some batches; a batch that cannot be read is noted as a record nobody wrote.
fn take(reading: &mut Reading, delivered: &Bytes) {
    for batch in batches(delivered) {
        let Ok((header, at)) = batch else {
            reading.push(reading.next, None);
            return;
        };
        if header.is_control() {
            reading.next = reading.next.max(header.next_offset().get());
            continue;
        }
        let records = records_shared(&delivered.slice(at), BATCH_BYTES_MAX).into_iter().flatten();
        let from = reading.next;
        for record in records.flatten().filter(|record| record.offset.get() >= from) {
            let id = record.value.and_then(|value| value::decode(&value, reading.partition));
            reading.push(record.offset.get(), id);
        }
        reading.next = reading.next.max(header.next_offset().get());
    }
}

/// Writes one last record to each partition and waits for the answers: where they are, and what cannot be written and why.
pub fn write_ends(load: &Arc<Load>) -> (BTreeMap<u32, i64>, Vec<String>) {
    block_on(async {
        let (mut ends, mut failures) = (BTreeMap::new(), Vec::new());
        for partition in 0..load.options.partition_count {
            match write_end(load, partition).await {
                Ok(offset) => drop(ends.insert(partition, offset)),
                Err(why) => failures.push(format!("partition {partition} takes no last record: {why}")),
            }
        }
        (ends, failures)
    })
}

async fn write_end(load: &Load, partition: u32) -> Result<i64, String> {
    let identity = tokio::time::timeout(ANSWER_WAIT_MAX, identity(load)).await;
    let identity = identity.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
    let id = RecordId { writer: load.new_writer(), sequence: 0 };
    load.invoke(id, partition, None);
    let outcome = produce(load, &mut router(load, 1), identity, id, partition).await;
    load.complete(id, outcome.clone());
    match outcome {
        Outcome::Acked(Some(offset)) => Ok(offset),
        other => Err(format!("{other:?}")),
    }
}
