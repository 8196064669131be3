//! The clients of a verification: producers and consumers that live through every crash, and the final reading.
//!
//! One executor on one thread. The main thread kills and starts brokers; the two talk through [`Progress`].

use super::history::{Finding, Found, Outcome, PartitionHistory, Problem};
use super::record::{HEAD_BYTES, RecordId};
use crate::clock::Clock;
use crate::failure::Failure;
use crate::link::{Link, Place, prepare_topics};
use crate::links::{Links, Metadata};
use crate::target::{Layout, Target, TopicPlan};
use bytes::Bytes;
use heddle_proto::Timestamp;
use heddle_proto::batch::{BatchBuilder, Compression, batches, records, verify_stored};
use heddle_proto::limits::DECOMPRESSED_BYTES_MAX;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Wait before something that failed is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(10);
const POLL_WAIT: Duration = Duration::from_millis(200);
const FETCH_BYTES: usize = 1 << 20;
/// Longest wait for answers once nothing is sent any more.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// One batch in so many is large.
const LARGE_EVERY: u32 = 100;
const SMALL_RECORDS_MAX: usize = 8;

/// How the main thread and the clients talk.
pub struct Progress {
    /// Records acknowledged so far.
    pub acked: AtomicU64,
    phase: AtomicU8,
}

/// What the clients are to do.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Produce and consume.
    Load,
    /// Come to rest.
    Stop,
    /// At rest: everything sent was answered or given up.
    Rested,
    /// Read everything.
    Read,
}

impl Default for Progress {
    fn default() -> Self {
        Self { acked: AtomicU64::new(0), phase: AtomicU8::new(Phase::Load as u8) }
    }
}

impl Progress {
    /// Moves on to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Whether `phase` has been reached.
    pub fn has_reached(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) >= phase as u8
    }
}

/// What the clients do.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// The broker.
    pub target: Target,
    /// The one topic.
    pub topic: TopicPlan,
    /// Number of producers.
    pub producers: u32,
    /// Unanswered batches of each.
    pub in_flight_max: u32,
    /// Largest value.
    pub record_bytes_max: usize,
    /// Largest batch, about.
    pub batch_bytes_max: usize,
    /// Batches per second of all producers; 0: as many as the windows allow.
    pub rate: u64,
    /// Tells records of this run.
    pub run: u64,
    /// Seed of sizes and partitions.
    pub seed: u64,
    /// How long a broker may take to answer.
    pub ready_max: Duration,
}

/// What the clients know in the end.
#[derive(Debug, Default)]
pub struct LoadOutcome {
    /// One for each partition.
    pub histories: Vec<PartitionHistory>,
    /// What is there, by partition.
    pub found: Vec<Vec<Found>>,
    /// Partitions that cannot be read.
    pub unreadable: Vec<Finding>,
    /// Failed requests by kind; expected while brokers are killed.
    pub failures: BTreeMap<Failure, u64>,
}

struct Clients {
    plan: LoadPlan,
    clock: Clock,
    metadata: Rc<Metadata>,
    histories: RefCell<Vec<PartitionHistory>>,
    failures: RefCell<BTreeMap<Failure, u64>>,
    in_flight: Cell<u32>,
    progress: Arc<Progress>,
}

/// Runs the clients through all phases.
pub async fn run(plan: LoadPlan, progress: Arc<Progress>) -> Result<LoadOutcome, String> {
    let layout = prepare(&plan).await?;
    let partition_count = layout.routes.len();
    let histories = (0..partition_count).map(|_| PartitionHistory::new(plan.producers as usize)).collect();
    let clients = Rc::new(Clients {
        metadata: Metadata::new(&plan.target, plan.topic.names.clone(), layout),
        clock: Clock::start(),
        histories: RefCell::new(histories),
        failures: RefCell::default(),
        in_flight: Cell::new(0),
        progress,
        plan,
    });
    let producers = (0..clients.plan.producers).map(|p| glommio::spawn_local(Rc::clone(&clients).produce(p)));
    let consumers = (0..partition_count).map(|p| glommio::spawn_local(Rc::clone(&clients).consume(p)));
    let tasks: Vec<_> = producers.chain(consumers).collect();
    for task in tasks {
        task.await;
    }
    let drained = Instant::now();
    while clients.in_flight.get() > 0 && drained.elapsed() < DRAIN_MAX {
        glommio::timer::sleep(RETRY_WAIT).await;
    }
    clients.progress.enter(Phase::Rested);
    while !clients.progress.has_reached(Phase::Read) {
        glommio::timer::sleep(RETRY_WAIT).await;
    }
    clients.read_all().await
}

/// Creates the topic as soon as the broker answers.
async fn prepare(plan: &LoadPlan) -> Result<Layout, String> {
    let begun = Instant::now();
    loop {
        match prepare_topics(&plan.target, &plan.topic).await {
            Ok(layout) => return Ok(layout),
            Err(error) if begun.elapsed() > plan.ready_max || !error.failure().is_stale_route() => {
                return Err(format!("{}: {error}", plan.target));
            }
            Err(_) => glommio::timer::sleep(RETRY_WAIT).await,
        }
    }
}

/// A batch with the ids of its records.
struct Sent {
    partition: usize,
    producer: u32,
    first: u64,
    count: u64,
    bytes: Bytes,
}

impl Clients {
    fn fail(&self, failure: Failure) {
        *self.failures.borrow_mut().entry(failure).or_default() += 1;
        self.metadata.refresh_if(failure);
    }

    async fn produce(self: Rc<Self>, producer: u32) {
        let mut rng = fastrand::Rng::with_seed(self.plan.seed ^ u64::from(producer) << 32);
        let links = Links::new(Rc::clone(&self.metadata));
        let window = Rc::new(Cell::new(0u32));
        let interval = match self.plan.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1) * self.plan.producers / u32::try_from(rate).unwrap_or(u32::MAX),
        };
        while !self.progress.has_reached(Phase::Stop) {
            if window.get() >= self.plan.in_flight_max {
                glommio::timer::sleep(Duration::from_micros(200)).await;
                continue;
            }
            let partition = rng.usize(..self.histories.borrow().len());
            let layout = self.metadata.layout();
            let route = &layout.routes[partition];
            let Ok(link) = links.get(route.broker) else {
                glommio::timer::sleep(RETRY_WAIT).await;
                continue;
            };
            let sent = self.make_batch(partition, producer, &mut rng);
            window.set(window.get() + 1);
            self.in_flight.set(self.in_flight.get() + 1);
            let answer = link.produce(route, -1, sent.bytes.clone());
            let (clients, window) = (Rc::clone(&self), Rc::clone(&window));
            glommio::spawn_local(async move {
                let outcome = answer.await;
                clients.settle(&sent, outcome);
                window.set(window.get() - 1);
                clients.in_flight.set(clients.in_flight.get() - 1);
            })
            .detach();
            // Unevenly, so that groups of all sizes are tried.
            match interval.is_zero() {
                true => glommio::yield_if_needed().await,
                false => glommio::timer::sleep(interval * rng.u32(0..=2)).await,
            }
        }
    }

    fn make_batch(&self, partition: usize, producer: u32, rng: &mut fastrand::Rng) -> Sent {
        let bytes_max = match rng.u32(..LARGE_EVERY) {
            0 => rng.usize(
                self.plan.record_bytes_max..=self.plan.batch_bytes_max.max(self.plan.record_bytes_max),
            ),
            _ => 0,
        };
        let count_wanted = rng.usize(1..=SMALL_RECORDS_MAX);
        let time = Timestamp::new(self.clock.now().unix_millis());
        let mut builder = BatchBuilder::new(Compression::None);
        let (mut first, mut count) = (None, 0);
        while count < count_wanted || builder.size_bytes() + self.plan.record_bytes_max < bytes_max {
            let sequence = self.histories.borrow_mut()[partition].send(producer);
            first.get_or_insert(sequence);
            let id = RecordId { run: self.plan.run, partition: partition as u32, producer, sequence };
            let value = id.value(self.value_bytes(rng, bytes_max > 0));
            builder
                .push(time, None, Some(&value), &[])
                .expect("sizes were checked against the protocol's limit");
            count += 1;
        }
        let bytes = builder.build().expect("it holds a record and stays within the limit").freeze();
        Sent { partition, producer, first: first.unwrap_or_default(), count: count as u64, bytes }
    }

    /// Most values are small; those of a large batch are not.
    fn value_bytes(&self, rng: &mut fastrand::Rng, is_large: bool) -> usize {
        let max = self.plan.record_bytes_max.max(HEAD_BYTES);
        match is_large || rng.u8(..16) == 0 {
            true => rng.usize(HEAD_BYTES..=max),
            false => rng.usize(HEAD_BYTES..=max.min(300)),
        }
    }

    fn settle(&self, sent: &Sent, outcome: Result<i64, Failure>) {
        match outcome {
            Ok(base) => {
                let mut histories = self.histories.borrow_mut();
                for index in 0..sent.count {
                    let outcome = Outcome::Acked(base + index as i64);
                    histories[sent.partition].settle(sent.producer, sent.first + index, outcome);
                }
                self.progress.acked.fetch_add(sent.count, Ordering::AcqRel);
            }
            Err(failure) => self.fail(failure),
        }
    }

    /// Follows one partition and notes all it sees.
    async fn consume(self: Rc<Self>, partition: usize) {
        let links = Links::new(Rc::clone(&self.metadata));
        let mut offset = 0;
        while !self.progress.has_reached(Phase::Stop) {
            let layout = self.metadata.layout();
            let route = &layout.routes[partition];
            let fetched = match links.get(route.broker) {
                Ok(link) => link.fetch(route, offset, FETCH_BYTES, POLL_WAIT).await,
                Err(failure) => Err(failure),
            };
            match fetched {
                Ok(fetched) => {
                    let mut histories = self.histories.borrow_mut();
                    offset = decode(
                        &fetched.batches,
                        offset,
                        self.plan.run,
                        partition,
                        &mut histories[partition].seen,
                    );
                }
                Err(failure) => {
                    if failure != Failure::Refused {
                        self.fail(failure);
                    }
                    glommio::timer::sleep(RETRY_WAIT).await;
                }
            }
        }
    }

    async fn read_all(self: Rc<Self>) -> Result<LoadOutcome, String> {
        let mut outcome = LoadOutcome::default();
        let count = self.histories.borrow().len();
        for partition in 0..count {
            let mut found = Vec::new();
            if let Err(detail) = self.read_partition(partition, &mut found).await {
                outcome.unreadable.push(Finding {
                    problem: Problem::Unreadable,
                    partition: partition as u32,
                    producer: None,
                    sequence: None,
                    offset: found.last().map(|f: &Found| f.offset + 1),
                    detail,
                });
            }
            outcome.found.push(found);
        }
        outcome.histories = self.histories.take();
        outcome.failures = self.failures.take();
        Ok(outcome)
    }

    /// Reads one partition from its first record to its last. Gives up when nothing comes for the time allowed.
    async fn read_partition(&self, partition: usize, found: &mut Vec<Found>) -> Result<(), String> {
        let links = Links::new(Rc::clone(&self.metadata));
        let mut moved = Instant::now();
        let mut range: Option<(i64, i64)> = None;
        let mut last_failure = String::from("no answer");
        while moved.elapsed() < self.plan.ready_max {
            let layout = self.metadata.layout();
            let route = &layout.routes[partition];
            let Ok(link) = links.get(route.broker) else {
                glommio::timer::sleep(RETRY_WAIT).await;
                continue;
            };
            let step = match range {
                None => bounds(&link, route).await.map(|bounds| range = Some(bounds)),
                Some((offset, end)) if offset >= end => return Ok(()),
                Some((offset, end)) => {
                    link.fetch(route, offset, FETCH_BYTES, POLL_WAIT).await.map(|fetched| {
                        let next = decode(&fetched.batches, offset, self.plan.run, partition, found);
                        range = Some((next, end));
                        if next > offset {
                            moved = Instant::now();
                        }
                    })
                }
            };
            if let Err(failure) = step {
                last_failure = failure.to_string();
                self.metadata.refresh_if(failure);
                glommio::timer::sleep(RETRY_WAIT).await;
            }
        }
        Err(format!("reading stopped at {range:?}: {last_failure}"))
    }
}

async fn bounds(link: &Link, route: &crate::target::Route) -> Result<(i64, i64), Failure> {
    Ok((link.offset_of(route, Place::Earliest).await?, link.offset_of(route, Place::Latest).await?))
}

/// Appends the records at `offset` and behind to `into`; the offset behind the last of them.
fn decode(bytes: &[u8], offset: i64, run: u64, partition: usize, into: &mut Vec<Found>) -> i64 {
    let mut next = offset;
    for (header, range) in batches(bytes).map_while(Result::ok) {
        let batch = &bytes[range];
        let (first, end) = (header.base_offset.get(), header.next_offset().get());
        let ids = identify(batch, run, partition);
        for at in first.max(offset)..end {
            let id = ids.get((at - first) as usize).copied().flatten();
            into.push(Found { offset: at, id });
        }
        next = next.max(end);
    }
    next
}

/// Who the records of a batch are; nobody where a checksum, of the batch or of a record, is wrong.
fn identify(batch: &[u8], run: u64, partition: usize) -> Vec<Option<(u32, u64)>> {
    if verify_stored(batch).is_err() {
        return Vec::new();
    }
    let Ok(records) = records(batch, DECOMPRESSED_BYTES_MAX) else { return Vec::new() };
    let read = |value: &[u8]| {
        let id = RecordId::read(value)?;
        // A record that strayed here from another run or partition is one that nobody sent here.
        let is_ours = id.run == run && id.partition as usize == partition;
        Some(if is_ours { (id.producer, id.sequence) } else { (u32::MAX, id.sequence) })
    };
    records.map(|record| read(&record.ok()?.value?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_proto::batch::assign;
    use heddle_proto::{Epoch, Offset};

    fn batch(base: i64, ids: &[RecordId]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        for id in ids {
            builder.push(Timestamp::new(1), None, Some(&id.value(50)), &[]).unwrap();
        }
        let mut bytes = builder.build().unwrap();
        assign(&mut bytes, Offset::new(base), Epoch::new(0));
        bytes.to_vec()
    }

    #[test]
    fn records_are_recognised_from_the_wanted_offset_on() {
        let id = |sequence| RecordId { run: 5, partition: 2, producer: 1, sequence };
        let strayed = RecordId { partition: 3, ..id(9) };
        let mut bytes = batch(10, &[id(0), id(1)]);
        bytes.extend(batch(12, &[strayed]));
        let whole = bytes.len();
        bytes.extend(batch(13, &[id(2)]));
        bytes.truncate(bytes.len() - 1);
        let mut found = Vec::new();
        assert_eq!(decode(&bytes, 11, 5, 2, &mut found), 13);
        let expected =
            [Found { offset: 11, id: Some((1, 1)) }, Found { offset: 12, id: Some((u32::MAX, 9)) }];
        assert_eq!(found, expected);
        bytes.truncate(whole);
        bytes[70] ^= 1;
        found.clear();
        decode(&bytes, 10, 5, 2, &mut found);
        assert_eq!(found[0], Found { offset: 10, id: None });
    }
}
