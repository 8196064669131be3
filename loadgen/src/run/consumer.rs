//! One consumer: reads its share of the partitions, checks every batch, and measures how old the records are.

use super::thread::{Message, Thread};
use crate::cli::{ConsumeWith, Mode};
use crate::clock::Nanos;
use crate::failure::Failure;
use crate::kafka::KafkaError;
use crate::kafka::wire::{FetchAnswer, FetchLimits, FetchPartition};
use crate::link::{Link, LinkError, Place};
use crate::links::Links;
use crate::records::values;
use crate::stamp::Stamp;
use crate::target::{Layout, Protocol, Route};
use ahash::AHashMap;
use bytes::Bytes;
use heddle_client::{StartFrom, Subscription};
use heddle_proto::batch::{Compression, batches, verify_stored};
use heddle_proto::{Offset, PartitionIndex};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// Longest a broker holds back an empty answer.
const POLL_WAIT: Duration = Duration::from_millis(500);
/// Wait after a failed fetch, so that a broker that is down is not asked a million times.
const RETRY_WAIT: Duration = Duration::from_millis(50);

/// Where a consumer is in one partition.
#[derive(Copy, Clone, Debug)]
pub struct Cursor {
    /// Index in the layout's routes.
    pub route: usize,
    /// Where it began.
    begin: i64,
    /// Next offset wanted.
    offset: i64,
    /// Where it is done; `None` at the tail.
    end: Option<i64>,
}

impl Cursor {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.offset >= end)
    }
}

/// Finds where a consumer of the partitions `mine` begins, and where it ends.
pub async fn place_cursors(
    links: &Rc<Links>,
    layout: &Layout,
    mine: impl Iterator<Item = usize>,
    mode: Mode,
) -> Result<Vec<Cursor>, Failure> {
    let mut cursors = Vec::new();
    for route in mine {
        let at = &layout.routes[route];
        let link = links.get(at.broker)?;
        let latest = link.offset_of(at, Place::Latest).await?;
        let (begin, end) = match mode {
            Mode::Consume => (link.offset_of(at, Place::Earliest).await?, Some(latest)),
            _ => (latest, None),
        };
        cursors.push(Cursor { route, begin, offset: begin, end });
    }
    Ok(cursors)
}

struct State {
    thread: Rc<Thread>,
    links: Rc<Links>,
    cursors: RefCell<Vec<Cursor>>,
    /// Index of the cursor of a topic's partition.
    index: AHashMap<(Bytes, i32), usize>,
    done: Cell<bool>,
    /// When even a tail is no longer waited for.
    deadline: Nanos,
}

/// Runs a consumer until it has read all, or the run is over.
pub async fn run(thread: Rc<Thread>, links: Rc<Links>, cursors: Vec<Cursor>) {
    let deadline = match thread.config.mode {
        Mode::Consume => thread.window.to,
        _ => thread.window.to.plus(thread.config.drain.min(Duration::from_secs(1))),
    };
    let count = cursors.len();
    let layout = thread.metadata.layout();
    let keys = cursors.iter().map(|cursor| key_of(&layout.routes[cursor.route]));
    let index = keys.zip(0..).collect();
    let (cursors, done) = (RefCell::new(cursors), Cell::new(false));
    let state = Rc::new(State { thread, links, cursors, index, done, deadline });
    state.thread.pace(state.thread.start).await;
    state.note_progress();
    let tasks: Vec<_> = match (state.thread.metadata.protocol(), state.thread.config.consume_with) {
        (Protocol::Kafka, _) => {
            let brokers: Vec<i32> =
                state.thread.metadata.layout().brokers.iter().map(|(id, _)| *id).collect();
            brokers
                .into_iter()
                .map(|b| glommio::spawn_local(Rc::clone(&state).fetch_from_broker(b)))
                .collect()
        }
        (Protocol::Native, ConsumeWith::Fetch) => {
            (0..count).map(|c| glommio::spawn_local(Rc::clone(&state).fetch_partition(c))).collect()
        }
        (Protocol::Native, ConsumeWith::Subscribe) => {
            (0..count).map(|c| glommio::spawn_local(Rc::clone(&state).subscribe(c))).collect()
        }
    };
    let left = deadline.left(state.thread.clock.now());
    let all = async {
        for task in tasks {
            task.await;
        }
    };
    futures_lite::future::or(all, async { glommio::timer::sleep(left).await }).await;
}

fn key_of(route: &Route) -> (Bytes, i32) {
    (Bytes::copy_from_slice(route.topic.as_bytes()), route.partition as i32)
}

impl State {
    fn is_over(&self) -> bool {
        self.done.get() || self.thread.stop.is_raised() || self.thread.clock.now() >= self.deadline
    }

    /// Kafka: one fetch at a time for all partitions this broker leads, sent again before its answer is looked into.
    async fn fetch_from_broker(self: Rc<Self>, broker: i32) {
        let mut ahead = None;
        while !self.is_over() {
            let Some(answer) = ahead.take().or_else(|| self.start_fetch(broker)) else {
                glommio::timer::sleep(RETRY_WAIT).await;
                continue;
            };
            let answer = answer.await;
            let now = self.thread.clock.now();
            let taken = self.advance_all(answer);
            self.note_progress();
            match taken {
                Ok(taken) => {
                    ahead = (!self.is_over()).then(|| self.start_fetch(broker)).flatten();
                    taken.iter().for_each(|batches| self.take_in(batches, now));
                }
                Err(failure) => {
                    self.fail(failure);
                    glommio::timer::sleep(RETRY_WAIT).await;
                }
            }
        }
    }

    /// Moves the cursors behind what an answer brought. If a partition was refused, so is the answer: what it brought is
    /// asked for again.
    fn advance_all(&self, answer: Result<Vec<FetchAnswer>, KafkaError>) -> Result<Vec<Bytes>, Failure> {
        let answers = answer.map_err(|error| error.failure())?;
        if let Some(refused) = answers.iter().find(|answer| answer.error != 0) {
            return Err(Failure::Broker(refused.error));
        }
        let mut taken = Vec::with_capacity(answers.len());
        for answer in answers.into_iter().filter(|answer| !answer.batches.is_empty()) {
            if let Some(cursor) = self.index.get(&(answer.topic, answer.partition)) {
                self.advance(*cursor, &answer.batches);
                taken.push(answer.batches);
            }
        }
        Ok(taken)
    }

    fn start_fetch(
        &self,
        broker: i32,
    ) -> Option<impl Future<Output = Result<Vec<FetchAnswer>, KafkaError>> + use<>> {
        let layout = self.thread.metadata.layout();
        let cursors = self.cursors.borrow();
        let wanted: Vec<FetchPartition<'_>> = cursors
            .iter()
            .filter(|cursor| !cursor.is_done())
            .map(|cursor| (&layout.routes[cursor.route], cursor.offset))
            .filter(|(route, _)| route.broker == broker)
            .map(|(route, offset)| FetchPartition {
                topic: &route.topic,
                partition: route.partition as i32,
                offset,
            })
            .collect();
        if wanted.is_empty() {
            return None;
        }
        let bytes_max = i32::try_from(self.thread.config.fetch_bytes).unwrap_or(i32::MAX);
        let limits = FetchLimits {
            wait_max_ms: POLL_WAIT.as_millis() as i32,
            bytes_min: 1,
            bytes_max,
            partition_bytes_max: bytes_max,
        };
        match self.links.get(broker) {
            Ok(Link::Kafka(connection)) => Some(connection.fetch(limits, &wanted)),
            Ok(Link::Native(_)) => None,
            Err(failure) => {
                self.fail(failure);
                None
            }
        }
    }

    /// Native: one fetch after the other of one partition.
    async fn fetch_partition(self: Rc<Self>, cursor: usize) {
        while !self.is_over() {
            let Cursor { route, offset, .. } = self.cursors.borrow()[cursor];
            let layout = self.thread.metadata.layout();
            let route = &layout.routes[route];
            let fetched = match self.links.get(route.broker) {
                Ok(link) => link.fetch(route, offset, self.thread.config.fetch_bytes, POLL_WAIT).await,
                Err(failure) => Err(failure),
            };
            match fetched {
                Ok(fetched) => self.take_delivery(cursor, &fetched.batches),
                Err(failure) => {
                    self.fail(failure);
                    glommio::timer::sleep(RETRY_WAIT).await;
                }
            }
            if self.cursors.borrow()[cursor].is_done() {
                return;
            }
        }
    }

    /// Native: has one partition pushed, again from where it stood when the connection breaks, and at once from the
    /// beginning when a run that rewinds has read it.
    async fn subscribe(self: Rc<Self>, cursor: usize) {
        while !self.is_over() {
            let read = match self.open_subscription(cursor).await {
                Ok(mut subscription) => self.read_subscription(cursor, &mut subscription).await,
                Err(failure) => Err(failure),
            };
            if self.cursors.borrow()[cursor].is_done() {
                return;
            }
            if let Err(failure) = read {
                self.fail(failure);
                glommio::timer::sleep(RETRY_WAIT).await;
            }
        }
    }

    async fn open_subscription(self: &Rc<Self>, cursor: usize) -> Result<Subscription, Failure> {
        let Cursor { route, offset, .. } = self.cursors.borrow()[cursor];
        let layout = self.thread.metadata.layout();
        let route = &layout.routes[route];
        let Link::Native(client) = self.links.get(route.broker)? else { return Err(Failure::Protocol) };
        let from = StartFrom::Offset(Offset::new(offset));
        let partition = PartitionIndex::new(route.partition);
        let credit = self.thread.config.fetch_bytes as u64;
        let opened = client.subscribe(route.topic_id, partition, from, credit).await;
        opened.map_err(|error| LinkError::from(error).failure())
    }

    /// Takes deliveries until the partition is read, it is to begin again, or the run is over; an error is why the
    /// subscription ended before.
    async fn read_subscription(&self, cursor: usize, subscription: &mut Subscription) -> Result<(), Failure> {
        while !self.is_over() {
            let delivery = subscription.next().await.ok_or(Failure::Disconnected)?;
            let delivery = delivery.map_err(|error| LinkError::from(error).failure())?;
            let before = self.cursors.borrow()[cursor].offset;
            self.take_delivery(cursor, &delivery.batches);
            let after = self.cursors.borrow()[cursor];
            if after.is_done() || after.offset < before {
                break;
            }
        }
        Ok(())
    }

    fn take_delivery(&self, cursor: usize, batches: &Bytes) {
        let now = self.thread.clock.now();
        self.advance(cursor, batches);
        self.note_progress();
        self.take_in(batches, now);
    }

    /// Moves a cursor behind what was read; to the beginning again if that was all and the run wants it.
    fn advance(&self, cursor: usize, bytes: &[u8]) {
        let mut cursors = self.cursors.borrow_mut();
        let cursor = &mut cursors[cursor];
        if let Some((last, _)) = batches(bytes).map_while(Result::ok).last() {
            cursor.offset = last.next_offset().get().max(cursor.offset);
        }
        if cursor.is_done() && self.thread.config.rewind && cursor.begin < cursor.offset {
            cursor.offset = cursor.begin;
        }
    }

    fn note_progress(&self) {
        if !self.done.get() && self.cursors.borrow().iter().all(Cursor::is_done) {
            self.done.set(true);
            let _ = self.thread.sender.send(Message::ConsumerDone);
        }
    }

    /// Counts and checks batches, and reads the stamps of this run's records.
    fn take_in(&self, bytes: &[u8], now: Nanos) {
        let mut recorder = self.thread.recorder.borrow_mut();
        for (header, range) in batches(bytes).map_while(Result::ok) {
            let batch = &bytes[range];
            if verify_stored(batch).is_err() {
                recorder.failed(Failure::Corrupt);
                continue;
            }
            recorder.consumed(u64::from(header.record_count), batch.len(), now);
            if self.thread.config.mode == Mode::Consume || header.compression() != Compression::None {
                continue;
            }
            let stamps = values(batch).filter_map(|value| Stamp::read(&batch[value]));
            for stamp in stamps.filter(|stamp| stamp.run == self.thread.run_tag) {
                recorder.arrived(stamp.intended, now);
            }
        }
    }

    fn fail(&self, failure: Failure) {
        self.thread.recorder.borrow_mut().failed(failure);
        self.thread.metadata.refresh_if(failure);
    }
}
