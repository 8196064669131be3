//! What all writers and readers of a run share: the history, the clock, the end.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::history::{History, Outcome, RecordId};

/// How much is written, and where.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Addresses of brokers, with commas.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partition_count: u32,
    /// Kafka writers, each to all partitions in turn.
    pub kafka_writers: u32,
    /// Whether native writers (one per partition, each waiting for its answer) write too.
    pub native: bool,
    /// Whether a transactional writer writes too.
    pub transactions: bool,
    /// Records in a second of each Kafka writer, and of all native ones together.
    pub rate: u32,
    /// Size of a value.
    pub value_bytes: usize,
    /// How long a client tries before it gives a record up.
    pub delivery_timeout: Duration,
}

/// Shared by all threads of the load.
#[derive(Debug)]
pub struct Load {
    /// What is to be done.
    pub options: LoadOptions,
    begin: Instant,
    history: Mutex<History>,
    writers_stop: AtomicBool,
    next_writer: AtomicU32,
    /// When each partition last acknowledged something, in microseconds.
    last_acks: Vec<AtomicU64>,
}

impl Load {
    /// A load that begins now.
    pub fn new(options: LoadOptions) -> Load {
        Load {
            last_acks: (0..options.partition_count).map(|_| AtomicU64::new(0)).collect(),
            options,
            begin: Instant::now(),
            history: Mutex::default(),
            writers_stop: AtomicBool::new(false),
            next_writer: AtomicU32::new(1),
        }
    }

    /// Time since the load began.
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// The history so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the writers to end.
    pub fn stop_writers(&self) {
        self.writers_stop.store(true, Ordering::Relaxed);
    }

    /// Whether writers are to end.
    pub fn is_stopping(&self) -> bool {
        self.writers_stop.load(Ordering::Relaxed)
    }

    /// A writer nobody was before.
    pub fn new_writer(&self) -> u32 {
        self.next_writer.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that a record is about to be sent.
    pub fn invoke(&self, id: RecordId, partition: u32, transaction: Option<usize>) {
        let now = self.now();
        self.history().invoke(id, partition, transaction, now);
    }

    /// Notes what came of a record.
    pub fn complete(&self, id: RecordId, outcome: Outcome) {
        let now = self.now();
        let is_acked = matches!(outcome, Outcome::Acked(_));
        let mut history = self.history();
        let partition = history.writes[&id].partition;
        history.complete(id, outcome, now);
        drop(history);
        if is_acked {
            self.last_acks[partition as usize].store(now.as_micros() as u64, Ordering::Relaxed);
        }
    }

    /// The partitions that have acknowledged nothing since then.
    pub fn silent_since(&self, since: Duration) -> Vec<u32> {
        let since = since.as_micros() as u64;
        let silent = |partition: &u32| self.last_acks[*partition as usize].load(Ordering::Relaxed) < since;
        (0..self.options.partition_count).filter(silent).collect()
    }

    /// Notes an error that belongs to no single record.
    pub fn error(&self, code: String) {
        let now = self.now();
        self.history().errors.push((now, code));
    }

    /// Sleeps, but not beyond the end of writing.
    pub fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_stopping() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20).min(time));
        }
    }
}

/// Calls at a fixed rate. One that fell far behind does not catch up.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    /// So many calls in a second.
    pub fn new(rate: u32) -> Pace {
        Pace { interval: Duration::from_secs(1) / rate.max(1), next: Instant::now() }
    }

    /// When the next call is due.
    pub fn due(&mut self) -> Instant {
        let due = self.next.max(Instant::now() - Duration::from_millis(100));
        self.next = due + self.interval;
        due
    }

    /// Waits for the next call.
    pub fn wait(&mut self) {
        let due = self.due();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
