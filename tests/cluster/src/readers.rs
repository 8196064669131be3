//! Kafka consumers that read every partition from the beginning up to the last record of the run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heddle_tests::kafka;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::ends::Ends;
use crate::history::{Isolation, Reading};
use crate::kafka_writer::code_of;
use crate::load::Load;
use crate::value;

/// What one reader brings home.
#[derive(Debug)]
pub struct Brought {
    /// One per partition.
    pub readings: Vec<Reading>,
    /// Partitions whose end it did not reach in time.
    pub stuck: Vec<u32>,
}

/// Reads until the ends are known and reached.
///
/// # Errors
/// If the consumer cannot be made.
pub fn run(load: &Arc<Load>, ends: &Ends, name: &str, isolation: Isolation) -> Result<Brought, KafkaError> {
    let consumer = consumer(load, isolation)?;
    let mut readings: BTreeMap<u32, Reading> = (0..load.options.partition_count)
        .map(|partition| (partition, Reading::new(name, isolation, partition)))
        .collect();
    let mut last_error: Option<(String, Instant)> = None;
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                let partition = message.partition() as u32;
                let id = value::decode(message.payload().unwrap_or_default(), partition);
                if let Some(reading) = readings.get_mut(&partition) {
                    reading.push(message.offset(), id);
                }
                continue;
            }
            // Consumers repeat themselves while a fault lasts; each code counts once in a second.
            Some(Err(error)) => {
                let code = code_of(&error);
                let told = |(before, at): &(String, Instant)| *before == code && at.elapsed().as_secs() < 1;
                if !last_error.as_ref().is_some_and(told) && counts(&error) {
                    load.error(format!("consumer: {code}"));
                    last_error = Some((code, Instant::now()));
                }
            }
        }
        if let Some(stuck) = ends.left_of(&readings) {
            return Ok(Brought { readings: readings.into_values().collect(), stuck });
        }
    }
}

/// Lost connections are told to programs for their information only; librdkafka makes new ones.
fn counts(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut};
    let informs = [AllBrokersDown, BrokerTransportFailure, OperationTimedOut];
    !error.rdkafka_error_code().is_some_and(|code| informs.contains(&code))
}

fn consumer(load: &Load, isolation: Isolation) -> Result<BaseConsumer<DefaultConsumerContext>, KafkaError> {
    let level = match isolation {
        Isolation::Committed => "read_committed",
        Isolation::Uncommitted => "read_uncommitted",
    };
    let mut config = kafka::config(&load.options.bootstrap, &[("isolation.level", level)]);
    config.set("group.id", "heddle-cluster").set("enable.auto.commit", "false").set("check.crcs", "true");
    // A reader that is told its offset is gone must not hide it by starting over.
    config.set("auto.offset.reset", "error");
    config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
    let consumer: BaseConsumer = config.create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..load.options.partition_count {
        partitions.add_partition_offset(&load.options.topic, partition as i32, Offset::Offset(0))?;
    }
    consumer.assign(&partitions)?;
    Ok(consumer)
}
