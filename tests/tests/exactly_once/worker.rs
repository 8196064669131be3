//! One worker: takes records as a member of the group, writes them in a transaction that also commits the group's offsets,
//! and begins anew from what is committed whenever something fails.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heddle_tests::kafka;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::{DOOMED, GROUP, IN, OUT};

const BOOTSTRAP: &str = "HEDDLE_TEST_WORKER_BOOTSTRAP";
const TRANSACTIONAL_ID: &str = "HEDDLE_TEST_WORKER_ID";

/// Status of a worker that another one with its transactional id has replaced.
pub const FENCED: i32 = 3;

/// Records of one transaction at most, and how long they are collected.
const BATCH_MAX: usize = 40;
const BATCH_WAIT: Duration = Duration::from_millis(60);
/// One in so many transactions is aborted on purpose.
const ABORT_EVERY: u32 = 7;
/// What any step of a transaction may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a worker is told.
pub struct Arguments {
    bootstrap: String,
    transactional_id: String,
}

impl Arguments {
    /// Of this process, if it is a worker's.
    pub fn from_environment() -> Option<Arguments> {
        let bootstrap = std::env::var(BOOTSTRAP).ok()?;
        Some(Arguments { bootstrap, transactional_id: std::env::var(TRANSACTIONAL_ID).ok()? })
    }

    /// The environment of a worker's process.
    pub fn to_environment<'a>(bootstrap: &'a str, transactional_id: &'a str) -> [(&'a str, &'a str); 2] {
        [(BOOTSTRAP, bootstrap), (TRANSACTIONAL_ID, transactional_id)]
    }
}

/// Notes that the partitions change: what was taken and not written belongs to somebody else now.
#[derive(Clone, Default)]
struct Rebalances(Arc<AtomicBool>);

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Why a life of a worker ended.
enum End {
    Fenced,
    Failed(KafkaError),
}

impl From<KafkaError> for End {
    fn from(error: KafkaError) -> End {
        let code = match &error {
            KafkaError::Transaction(error) if error.is_fatal() => error.code(),
            other => other.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
        };
        match code {
            RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced => End::Fenced,
            RDKafkaErrorCode::InvalidProducerEpoch => End::Fenced,
            _ => End::Failed(error),
        }
    }
}

/// Works until standard input ends, or another worker has taken over.
pub fn run(arguments: &Arguments) -> ! {
    let is_over = Arc::new(AtomicBool::new(false));
    let flag = is_over.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, Ordering::Relaxed);
    });
    let mut transactions = 0;
    while !is_over.load(Ordering::Relaxed) {
        match live(arguments, &is_over, &mut transactions) {
            Ok(()) => break,
            Err(End::Fenced) => std::process::exit(FENCED),
            Err(End::Failed(error)) => {
                eprintln!("{}: begins anew after {error}", arguments.transactional_id);
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
    std::process::exit(0);
}

/// One life: a new producer and a new member.
fn live(arguments: &Arguments, is_over: &AtomicBool, transactions: &mut u32) -> Result<(), End> {
    let mut config =
        kafka::config(&arguments.bootstrap, &[("transactional.id", &arguments.transactional_id)]);
    config.set("transaction.timeout.ms", "8000").set("message.timeout.ms", "8000").set("linger.ms", "1");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
    producer.init_transactions(PATIENCE)?;
    let rebalances = Rebalances::default();
    let mut config = kafka::config(&arguments.bootstrap, &[("group.id", GROUP)]);
    config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    config.set("isolation.level", "read_committed").set("session.timeout.ms", "6000");
    config.set("heartbeat.interval.ms", "500");
    let consumer: BaseConsumer<Rebalances> = config.create_with_context(rebalances.clone())?;
    consumer.subscribe(&[IN])?;
    while !is_over.load(Ordering::Relaxed) {
        let batch = collect(&consumer, &rebalances)?;
        if batch.is_empty() {
            continue;
        }
        *transactions += 1;
        let is_doomed = transactions.is_multiple_of(ABORT_EVERY);
        producer.begin_transaction()?;
        for record in &batch {
            write(&producer, record, is_doomed)?;
        }
        if is_doomed {
            producer.flush(PATIENCE)?;
            producer.abort_transaction(PATIENCE)?;
            // What was taken is to be taken again, which a new life does from the committed offsets.
            return Err(End::Failed(KafkaError::Canceled));
        }
        let group = consumer.group_metadata().ok_or(KafkaError::Canceled)?;
        producer.send_offsets_to_transaction(&behind(&batch), &group, PATIENCE)?;
        producer.commit_transaction(PATIENCE)?;
    }
    Ok(())
}

/// Takes some records; none if the partitions changed meanwhile.
fn collect(consumer: &BaseConsumer<Rebalances>, rebalances: &Rebalances) -> Result<Vec<OwnedMessage>, End> {
    let (mut batch, end) = (Vec::new(), Instant::now() + BATCH_WAIT);
    while batch.len() < BATCH_MAX && Instant::now() < end {
        let polled = consumer.poll(Duration::from_millis(20));
        if rebalances.0.swap(false, Ordering::Relaxed) {
            batch.clear();
        }
        match polled {
            Some(Ok(message)) => batch.push(message.detach()),
            // The broker is away, or a commit is pending: librdkafka goes on by itself.
            Some(Err(KafkaError::MessageConsumption(_))) | None => {}
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(batch)
}

fn write(
    producer: &ThreadedProducer<DefaultProducerContext>,
    record: &OwnedMessage,
    is_doomed: bool,
) -> Result<(), End> {
    let number = std::str::from_utf8(record.payload().unwrap()).unwrap();
    let value = if is_doomed { format!("{DOOMED}{number}") } else { number.to_owned() };
    let record: BaseRecord<'_, (), str> = BaseRecord::to(OUT).partition(record.partition()).payload(&value);
    producer.send(record).map_err(|(error, _)| error.into())
}

/// The offsets behind what was taken.
fn behind(batch: &[OwnedMessage]) -> TopicPartitionList {
    let mut offsets = std::collections::BTreeMap::new();
    for record in batch {
        offsets.insert(record.partition(), record.offset() + 1);
    }
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(IN, partition, Offset::Offset(offset)).unwrap();
    }
    list
}
