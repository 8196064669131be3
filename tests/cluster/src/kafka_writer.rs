//! An idempotent Kafka producer as most programs have one: defaults, and a record now and then.

use std::sync::Arc;
use std::time::Duration;

use heddle_tests::kafka;
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

use crate::history::{Outcome, RecordId};
use crate::load::{Load, Pace};
use crate::value;

/// Puts delivery reports into the history.
#[derive(Clone, Debug)]
pub struct Reports(pub Arc<Load>);

impl ClientContext for Reports {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}

    // Lost connections are the business of the run; what becomes of records is what counts.
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<RecordId>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<RecordId>) {
        let outcome = match result {
            // A repetition that the broker knew has no offset.
            Ok(message) => Outcome::Acked(Some(message.offset()).filter(|offset| *offset >= 0)),
            Err((error, _)) => Outcome::Failed(code_of(error)),
        };
        self.0.complete(*id, outcome);
    }
}

/// The code of an error, in one word.
pub fn code_of(error: &KafkaError) -> String {
    match error {
        KafkaError::Transaction(error) => format!("{:?}", error.code()),
        error => error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| format!("{code:?}")),
    }
}

/// Gives a record to a producer; whether it was taken. What is not taken was never sent.
pub fn send(
    load: &Load,
    producer: &ThreadedProducer<Reports>,
    id: RecordId,
    partition: u32,
    transaction: Option<usize>,
) -> Result<(), KafkaError> {
    let value = value::encode(id, partition, load.options.value_bytes);
    let record: BaseRecord<'_, (), [u8], Box<RecordId>> =
        BaseRecord::with_opaque_to(&load.options.topic, Box::new(id));
    load.invoke(id, partition, transaction);
    producer.send(record.partition(partition as i32).payload(&value)).map_err(|(error, _)| {
        load.history().writes.remove(&id);
        error
    })
}

/// Writes until told to stop. After an error that ends a producer for good, another one goes on.
pub fn run(load: &Arc<Load>) {
    while !load.is_stopping() {
        if let Err(error) = one_life(load) {
            load.error(format!("producer: {}", code_of(&error)));
            load.pause(Duration::from_secs(1));
        }
    }
}

fn one_life(load: &Arc<Load>) -> Result<(), KafkaError> {
    let writer = load.new_writer();
    let timeout = load.options.delivery_timeout.as_millis().to_string();
    let settings = [("enable.idempotence", "true"), ("message.timeout.ms", timeout.as_str())];
    let producer: ThreadedProducer<Reports> =
        kafka::config(&load.options.bootstrap, &settings).create_with_context(Reports(load.clone()))?;
    let mut pace = Pace::new(load.options.rate);
    let mut sequence = 0;
    while !load.is_stopping() {
        pace.wait();
        if let Some((code, reason)) = producer.client().fatal_error() {
            load.error(format!("fatal: {code:?} {reason}"));
            break;
        }
        let id = RecordId { writer, sequence };
        let partition = (sequence % u64::from(load.options.partition_count)) as u32;
        match send(load, &producer, id, partition, None) {
            Ok(()) => sequence += 1,
            // Full of what could not be delivered: this one is left out.
            Err(KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::QueueFull)) => {}
            Err(error) => load.error(format!("send: {}", code_of(&error))),
        }
    }
    producer.flush(load.options.delivery_timeout + Duration::from_secs(10))
}
