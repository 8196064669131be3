//! librdkafka as a Kafka user has it: producers, consumers and the admin client of the `rdkafka` crate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::wait::HANG;

/// A record to be sent.
#[derive(Clone, Debug, Default)]
pub struct ToSend {
    /// `None`: librdkafka chooses by the key, or at random.
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds; `None`: now.
    pub timestamp: Option<i64>,
    /// Headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl ToSend {
    /// A value to a partition.
    pub fn to(partition: i32, value: impl Into<Vec<u8>>) -> ToSend {
        ToSend { partition: Some(partition), value: Some(value.into()), ..ToSend::default() }
    }
}

/// Where a record went, or why it did not.
pub type Delivery = Result<(i32, i64), RDKafkaErrorCode>;

/// A librdkafka configuration for a broker.
pub fn config(bootstrap: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("broker.address.family", "v4");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

/// Collects delivery reports by the number of the record.
#[derive(Debug, Default)]
pub struct Deliveries {
    reports: Mutex<BTreeMap<usize, Delivery>>,
}

impl Deliveries {
    fn all(&self) -> BTreeMap<usize, Delivery> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The context of a producer, giving its reports to [`Deliveries`].
#[derive(Clone, Debug, Default)]
pub struct Reporting(Arc<Deliveries>);

impl Reporting {
    /// How many records have arrived.
    pub fn delivered_count(&self) -> usize {
        self.0.all().values().filter(|delivery| delivery.is_ok()).count()
    }
}

impl ClientContext for Reporting {}

impl ProducerContext for Reporting {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let report = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        self.0.reports.lock().unwrap_or_else(PoisonError::into_inner).insert(number, report);
    }
}

/// Sends all records with one producer and waits for every report.
///
/// # Panics
/// If reports are missing.
pub fn send(bootstrap: &str, topic: &str, settings: &[(&str, &str)], records: &[ToSend]) -> Vec<Delivery> {
    let reporting = Reporting::default();
    let producer: ThreadedProducer<Reporting> =
        config(bootstrap, settings).create_with_context(reporting.clone()).expect("a producer can be made");
    for (number, record) in records.iter().enumerate() {
        enqueue(&producer, topic, number, record);
    }
    producer.flush(HANG).expect("all records are answered");
    let reports = reporting.0.all();
    assert_eq!(reports.len(), records.len(), "every record has one report");
    reports.into_values().collect()
}

fn enqueue(producer: &ThreadedProducer<Reporting>, topic: &str, number: usize, record: &ToSend) {
    let mut message: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(topic, number);
    message.partition = record.partition;
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    message.timestamp = record.timestamp;
    if !record.headers.is_empty() {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: value.as_deref() })
        });
        message.headers = Some(headers);
    }
    loop {
        match producer.send(message) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                std::thread::sleep(Duration::from_millis(5));
                message = refused;
            }
            Err((error, _)) => panic!("librdkafka does not take the record: {error}"),
        }
    }
}

/// As [`send`], for records that must all arrive; their offsets.
///
/// # Panics
/// If one does not.
pub fn deliver(bootstrap: &str, topic: &str, settings: &[(&str, &str)], records: &[ToSend]) -> Vec<i64> {
    let reports = send(bootstrap, topic, settings, records);
    reports.into_iter().map(|report| report.expect("the record is acknowledged").1).collect()
}

/// A consumer that is assigned these partitions, without a group.
///
/// # Panics
/// If it cannot be made.
pub fn consumer(
    bootstrap: &str,
    topic: &str,
    at: &[(i32, Offset)],
    settings: &[(&str, &str)],
) -> BaseConsumer {
    let mut config = config(bootstrap, &[]);
    // Assigning needs the name of a group in librdkafka, although none is joined.
    config.set("group.id", "heddle-tests").set("enable.auto.commit", "false");
    // An end is told after an empty fetch, so that fetches which wait long make tests slow.
    config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "50").set("check.crcs", "true");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    let consumer: BaseConsumer = config.create().expect("a consumer can be made");
    let mut partitions = TopicPartitionList::new();
    for (partition, offset) in at {
        partitions.add_partition_offset(topic, *partition, *offset).expect("an offset can be asked for");
    }
    consumer.assign(&partitions).expect("partitions can be assigned");
    consumer
}

/// What one poll of a consumer gave.
#[derive(Debug)]
pub enum Polled {
    /// A record.
    Record(OwnedMessage),
    /// The end of this partition, for now.
    End(i32),
    /// Nothing yet.
    Nothing,
}

/// Polls once, and fails on anything that a consumer of assigned partitions need not live with.
///
/// # Panics
/// On such an error.
pub fn poll(consumer: &BaseConsumer) -> Polled {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, UnsupportedVersion};
    match consumer.poll(Duration::from_millis(200)) {
        None => Polled::Nothing,
        Some(Ok(message)) => Polled::Record(message.detach()),
        Some(Err(KafkaError::PartitionEOF(partition))) => Polled::End(partition),
        // The broker is being restarted, or says that it has no groups.
        Some(Err(KafkaError::MessageConsumption(
            AllBrokersDown | BrokerTransportFailure | OperationTimedOut | UnsupportedVersion,
        ))) => Polled::Nothing,
        Some(Err(error)) => panic!("consuming failed: {error:?}"),
    }
}

/// Reads all partitions from the given offsets to their ends.
///
/// # Panics
/// If the ends do not come.
pub fn read_to_end(bootstrap: &str, topic: &str, at: &[(i32, Offset)]) -> Vec<OwnedMessage> {
    let consumer = consumer(bootstrap, topic, at, &[]);
    let deadline = Instant::now() + HANG;
    let (mut records, mut ended) = (Vec::new(), std::collections::BTreeSet::new());
    while ended.len() < at.len() {
        assert!(Instant::now() < deadline, "{} records came, but no end of {topic}", records.len());
        match poll(&consumer) {
            Polled::Record(record) => records.push(record),
            Polled::End(partition) => drop(ended.insert(partition)),
            Polled::Nothing => {}
        }
    }
    records
}

/// The first `partition_count` partitions from the beginning.
pub fn from_beginning(partition_count: i32) -> Vec<(i32, Offset)> {
    (0..partition_count).map(|partition| (partition, Offset::Beginning)).collect()
}

/// The values of records, as text.
///
/// # Panics
/// If one has none, or it is no text.
pub fn texts(records: &[OwnedMessage]) -> Vec<String> {
    let text = |record: &OwnedMessage| {
        String::from_utf8(record.payload().expect("the record has a value").to_vec())
            .expect("the value is text")
    };
    records.iter().map(text).collect()
}

/// An admin client.
///
/// # Panics
/// If it cannot be made.
pub fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    config(bootstrap, &[]).create().expect("an admin client can be made")
}

/// The options of admin requests here.
pub fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)))
}

/// Creates a topic with configs.
///
/// # Panics
/// If the broker refuses.
pub fn create(bootstrap: &str, name: &str, partition_count: i32, configs: &[(&str, &str)]) {
    create_topic(bootstrap, name, partition_count, configs).expect("the topic is created");
}

/// As [`create`], with the broker's refusal.
///
/// # Errors
/// The refusal.
///
/// # Panics
/// If there is no answer.
pub fn create_topic(
    bootstrap: &str,
    name: &str,
    partition_count: i32,
    configs: &[(&str, &str)],
) -> Result<(), RDKafkaErrorCode> {
    let mut topic = NewTopic::new(name, partition_count, TopicReplication::Fixed(1));
    for (name, value) in configs {
        topic = topic.set(name, value);
    }
    let admin = admin(bootstrap);
    let results = futures_lite::future::block_on(admin.create_topics([&topic], &admin_options()));
    let result = results.expect("the broker answers").pop().expect("one topic, one result");
    result.map(drop).map_err(|(_, code)| code)
}
