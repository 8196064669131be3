//! Writes numbered records without a gap and without a duplicate, as an idempotent producer, through every restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use heddle_tests::kafka::{self, Reporting};
use heddle_tests::wait::HANG;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use crate::{IN, PARTITIONS};

/// Between two records: some hundreds a second.
const PAUSE: Duration = Duration::from_millis(3);

/// A running feeder.
pub struct Feeder {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

/// Begins to feed, with the number `first`.
pub fn start(bootstrap: &str, first: u64) -> Feeder {
    let is_over = Arc::new(AtomicBool::new(false));
    let (flag, bootstrap) = (is_over.clone(), bootstrap.to_owned());
    Feeder { is_over, thread: std::thread::spawn(move || feed(&bootstrap, first as usize, &flag)) }
}

impl Feeder {
    /// Ends it once everything is acknowledged; the number after the last.
    pub fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the feeder ends")
    }
}

fn feed(bootstrap: &str, first: usize, is_over: &AtomicBool) -> u64 {
    let reporting = Reporting::default();
    let settings = [("enable.idempotence", "true"), ("linger.ms", "1"), ("message.timeout.ms", "0")];
    let producer: ThreadedProducer<Reporting> =
        kafka::config(bootstrap, &settings).create_with_context(reporting.clone()).expect("a producer");
    let mut next = first;
    while !is_over.load(Ordering::Relaxed) {
        let value = next.to_string();
        let record: BaseRecord<'_, (), str, usize> = BaseRecord::with_opaque_to(IN, next)
            .partition((next % PARTITIONS as usize) as i32)
            .payload(&value);
        match producer.send(record) {
            Ok(()) => next += 1,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {}
            Err((error, _)) => panic!("the record is not taken: {error}"),
        }
        std::thread::sleep(PAUSE);
    }
    producer.flush(HANG).expect("everything is answered");
    let delivered = reporting.delivered_count();
    assert_eq!(delivered, next - first, "an idempotent producer lost records");
    next as u64
}
