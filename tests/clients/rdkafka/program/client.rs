//! Producers, consumers and the admin client as the cases use them, with errors instead of panics.

use std::time::{Duration, Instant, SystemTime};

use futures_lite::future::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::{Outcome, expect};

/// Longest wait for anything.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// A record of partition 0 unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct ToSend {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: Option<i64>,
    pub headers: Option<OwnedHeaders>,
}

impl ToSend {
    pub fn new(value: impl Into<Vec<u8>>) -> ToSend {
        ToSend { value: Some(value.into()), ..ToSend::default() }
    }
}

/// A name of this run's own.
pub fn unique(name: &str) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{name}-{:x}", now.as_nanos())
}

pub fn config(bootstrap: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("broker.address.family", "v4");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

pub fn admin(bootstrap: &str) -> Outcome<AdminClient<DefaultClientContext>> {
    Ok(config(bootstrap, &[]).create()?)
}

pub fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(WAIT_MAX))
}

/// Creates a topic; its whole name.
pub fn create(
    bootstrap: &str,
    name: &str,
    partition_count: i32,
    configs: &[(&str, &str)],
) -> Outcome<String> {
    let name = unique(name);
    let mut topic = NewTopic::new(&name, partition_count, TopicReplication::Fixed(1));
    for (key, value) in configs {
        topic = topic.set(key, value);
    }
    for result in block_on(admin(bootstrap)?.create_topics([&topic], &options()))? {
        result.map_err(|(topic, code)| format!("{topic} is not created: {code}"))?;
    }
    Ok(name)
}

/// Sends all and waits for the reports; the offsets.
pub fn send(
    bootstrap: &str,
    topic: &str,
    settings: &[(&str, &str)],
    records: &[ToSend],
) -> Outcome<Vec<i64>> {
    let producer: FutureProducer = config(bootstrap, settings).create()?;
    let mut reports = Vec::with_capacity(records.len());
    for record in records {
        let mut message: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).partition(record.partition);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        message.timestamp = record.timestamp;
        message.headers = record.headers.clone();
        reports.push(producer.send_result(message).map_err(|(error, _)| error)?);
    }
    producer.flush(WAIT_MAX)?;
    let mut offsets = Vec::with_capacity(reports.len());
    for report in reports {
        offsets.push(block_on(report)?.map_err(|(error, _)| error)?.offset);
    }
    Ok(offsets)
}

pub fn consumer(bootstrap: &str, group: &str, settings: &[(&str, &str)]) -> Outcome<BaseConsumer> {
    let own = [("group.id", group), ("enable.auto.commit", "false"), ("auto.offset.reset", "earliest")];
    Ok(config(bootstrap, &[&own, settings].concat()).create()?)
}

/// Reads so many records of partition 0 from the beginning, and that there is none after them.
pub fn read(
    bootstrap: &str,
    topic: &str,
    count: usize,
    settings: &[(&str, &str)],
) -> Outcome<Vec<OwnedMessage>> {
    let ends = [("enable.partition.eof", "true")];
    let consumer = consumer(bootstrap, &unique("reader"), &[&ends, settings].concat())?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&partitions)?;
    let (mut found, begun) = (Vec::new(), Instant::now());
    while begun.elapsed() < WAIT_MAX {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => found.push(message.detach()),
            Some(Err(KafkaError::PartitionEOF(_))) if found.len() >= count => break,
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
        }
    }
    expect(found.len(), count, &format!("records of {topic}"))?;
    Ok(found)
}

/// Waits until a condition holds.
pub fn until(what: &str, mut condition: impl FnMut() -> Outcome<bool>) -> Outcome {
    let begun = Instant::now();
    while !condition()? {
        if begun.elapsed() > WAIT_MAX {
            return Err(format!("{what}: not within {WAIT_MAX:?}").into());
        }
    }
    Ok(())
}

/// The values of records, which must have some.
pub fn values(records: &[OwnedMessage]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.payload().unwrap_or_default().to_vec()).collect()
}
