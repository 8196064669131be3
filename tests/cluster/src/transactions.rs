//! A transactional Kafka producer: a few records to some partitions, then a commit, or in one of four an abort.

use std::sync::Arc;
use std::time::Duration;

use heddle_tests::kafka;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::error::{KafkaError, RDKafkaError};
use rdkafka::producer::{Producer, ThreadedProducer};

use crate::history::{Ending, Outcome, RecordId};
use crate::kafka_writer::{Reports, code_of, send};
use crate::load::Load;

/// Records in a transaction.
const RECORDS: u64 = 4;

/// One of so many is aborted.
const ABORT_ONE_OF: u32 = 4;

/// Pause between transactions.
const PAUSE: Duration = Duration::from_millis(100);

/// How long one step may take before it is asked again.
const STEP_WAIT_MAX: Duration = Duration::from_secs(30);

/// How often a step that may be repeated is.
const STEP_TRIES_MAX: usize = 5;

type TxProducer = ThreadedProducer<Reports>;

/// Writes until told to stop. A producer that cannot go on is followed by another with the same transactional id, which
/// fences it.
pub fn run(load: &Arc<Load>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    while !load.is_stopping() {
        if let Err(error) = one_life(load, &mut random) {
            load.error(format!("transaction: {}", code_of(&error)));
            load.pause(Duration::from_secs(1));
        }
    }
}

fn one_life(load: &Arc<Load>, random: &mut StdRng) -> Result<(), KafkaError> {
    let writer = load.new_writer();
    let mut config = kafka::config(&load.options.bootstrap, &[("transactional.id", "heddle-cluster")]);
    config.set("transaction.timeout.ms", "60000").set("message.timeout.ms", "60000");
    let producer: TxProducer = config.create_with_context(Reports(load.clone()))?;
    repeat(|| producer.init_transactions(STEP_WAIT_MAX))?;
    let mut sequence = 0;
    while !load.is_stopping() {
        one_transaction(load, &producer, writer, &mut sequence, random)?;
        load.pause(PAUSE);
    }
    Ok(())
}

/// One transaction; an error ends the producer.
fn one_transaction(
    load: &Arc<Load>,
    producer: &TxProducer,
    writer: u32,
    sequence: &mut u64,
    random: &mut StdRng,
) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    let transaction = load.history().begin();
    let mut ids = Vec::new();
    for _ in 0..RECORDS {
        let id = RecordId { writer, sequence: *sequence };
        let partition = random.gen_range(0..load.options.partition_count);
        send(load, producer, id, partition, Some(transaction))?;
        *sequence += 1;
        ids.push(id);
    }
    let wants_abort = random.gen_ratio(1, ABORT_ONE_OF);
    let arrived = repeat(|| producer.flush(STEP_WAIT_MAX)).is_ok() && all_acked(load, &ids);
    if wants_abort || !arrived {
        repeat(|| producer.abort_transaction(STEP_WAIT_MAX))?;
        load.history().transactions[transaction] = Ending::Aborted;
        return Ok(());
    }
    match repeat(|| producer.commit_transaction(STEP_WAIT_MAX)) {
        Ok(()) => load.history().transactions[transaction] = Ending::Committed,
        Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
            load.error(format!("commit: {:?}", error.code()));
            // The commit may have been heard all the same: its end stays unknown.
            repeat(|| producer.abort_transaction(STEP_WAIT_MAX))?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn all_acked(load: &Load, ids: &[RecordId]) -> bool {
    let history = load.history();
    ids.iter().all(|id| matches!(history.writes[id].outcome, Outcome::Acked(_)))
}

fn repeat(step: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let mut tries = 1;
    loop {
        match step() {
            Err(KafkaError::Transaction(error)) if may_pass(&error) && tries < STEP_TRIES_MAX => tries += 1,
            done => return done,
        }
    }
}

fn may_pass(error: &RDKafkaError) -> bool {
    error.is_retriable() && !error.is_fatal()
}
