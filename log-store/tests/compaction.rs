//! An oracle against compaction: keyed records, random operations, crashes and disk faults, and after each the promises.
//!
//! A record that is read is the one that was written there. The newest record of a key is always there, or it is a
//! tombstone whose time has come. Below what is compacted nothing else is. The last batch of
//! a producer tells where it stood. What a transaction wrote counts once it was committed; until it is decided nothing of
//! it is touched, and its marker stays as long as anything of it does. `HEDDLE_PROPTEST_CASES` sets how many cases run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use heddle_log_store::{Aborted, AppendError, Compaction, Disk, Log, LogConfig, MemoryDisk, ReadError};
use heddle_proto::batch::{self, BatchBuilder, BatchHeader, Compression, Marker, Outcome};
use heddle_proto::ids::{Epoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicPartition};
use proptest::prelude::*;
use support::{World, partition, tiny};

#[derive(Clone, Debug)]
enum Op {
    Append {
        log: u8,
        batches: u8,
        records: u8,
        keys: u8,
        bytes: u16,
        codec: u8,
    },
    Delete {
        log: u8,
        key: u8,
    },
    /// A batch of one of two producers in a transaction, which it may end.
    Transact {
        log: u8,
        producer: u8,
        key: u8,
        end: Option<Outcome>,
    },
    Read {
        log: u8,
        from: u8,
        bytes_max: u16,
    },
    OffsetAt {
        log: u8,
        time: u8,
    },
    Wait {
        ms: u16,
    },
    NextEpoch {
        log: u8,
    },
    DeleteRecords {
        log: u8,
        part: u8,
    },
    Retain {
        log: u8,
        kib: u8,
    },
    Reopen {
        cores: u8,
    },
    Crash {
        cores: u8,
    },
    CrashSoon {
        cores: u8,
        polls: u16,
    },
    CrashTwice {
        cores: u8,
        polls: u16,
    },
    FullDisk,
}

const LOGS: u8 = 2;
/// More keys than a map of the test holds, so that runs have several passes.
const KEYS: u8 = 30;
/// The first of the producers that write in transactions only.
const TRANSACTIONAL: ProducerId = ProducerId::new(100);
const TOMBSTONES_KEPT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

#[derive(Copy, Clone, Debug)]
struct LastBatch {
    base: Offset,
    sequence: Sequence,
}

/// A transaction from its first record to its marker.
#[derive(Clone, Debug)]
struct Transaction {
    producer: ProducerId,
    first: i64,
    end: Option<(i64, Outcome)>,
}

/// What one log must look like.
#[derive(Default)]
struct Model {
    records: BTreeMap<i64, Written>,
    last_batches: BTreeMap<ProducerId, Vec<LastBatch>>,
    transactions: Vec<Transaction>,
    /// Which producer wrote the record of an offset in a transaction.
    transactional: BTreeMap<i64, ProducerId>,
    /// The time of each marker.
    markers: BTreeMap<i64, i64>,
    durable: Offset,
    start: Offset,
    epoch: i32,
    sequence: i32,
    retention_bytes: Option<u64>,
}

impl Model {
    fn config(&self) -> LogConfig {
        let compaction = Compaction {
            dirty_permille_min: 1,
            tombstone_retention: TOMBSTONES_KEPT,
            ..Compaction::default()
        };
        LogConfig {
            segment_bytes: 24 << 10,
            segment_age_max: Duration::from_secs(2),
            retention_bytes: self.retention_bytes,
            compaction: Some(compaction),
            ..LogConfig::default()
        }
    }

    /// Forgets what a crash took.
    fn cut(&mut self, end: Offset) {
        self.records.retain(|offset, _| *offset < end.get());
        for batches in self.last_batches.values_mut() {
            batches.retain(|batch| batch.base < end);
        }
        self.last_batches.retain(|_, batches| !batches.is_empty());
        self.transactions.retain(|transaction| transaction.first < end.get());
        for transaction in &mut self.transactions {
            transaction.end = transaction.end.filter(|(marker, _)| *marker < end.get());
        }
        self.transactional.retain(|offset, _| *offset < end.get());
        self.markers.retain(|offset, _| *offset < end.get());
    }

    /// The transaction that wrote the record at an offset, or whose batch begins there.
    fn transaction(&self, offset: i64) -> Option<&Transaction> {
        let producer = *self.transactional.get(&offset)?;
        let of = |transaction: &&Transaction| transaction.producer == producer && transaction.first <= offset;
        self.transactions.iter().rev().find(of)
    }

    /// Whether the record at an offset counts: it belongs to no transaction, or to one that was committed.
    fn counts(&self, offset: i64) -> bool {
        match self.transaction(offset) {
            Some(transaction) => matches!(transaction.end, Some((_, Outcome::Commit))),
            None => true,
        }
    }

    /// The newest record that counts of each key among those below `end`.
    fn newest(&self, end: Offset) -> BTreeMap<&[u8], i64> {
        let below = self.records.range(..end.get()).filter(|(offset, _)| self.counts(**offset));
        below.map(|(offset, record)| (record.key.as_slice(), *offset)).collect()
    }

    /// The transaction of a producer that is not decided.
    fn open(&self, producer: ProducerId) -> Option<&Transaction> {
        self.transactions.iter().find(|open| open.end.is_none() && open.producer == producer)
    }

    /// The first offset of an undecided transaction.
    fn first_open(&self) -> Option<i64> {
        self.transactions.iter().filter(|open| open.end.is_none()).map(|open| open.first).min()
    }
}

/// What a full read gave.
#[derive(Default)]
struct Contents {
    records: BTreeMap<i64, Written>,
    last_batches: BTreeMap<ProducerId, LastBatch>,
    /// Where the batches of transactions begin, those without a record included.
    transactional: Vec<i64>,
    markers: BTreeMap<i64, (ProducerId, Outcome, i64)>,
}

struct Test {
    world: World,
    models: BTreeMap<u8, Model>,
    /// Faults that may cost data were injected.
    tainted: bool,
}

impl Test {
    fn new(seed: u64) -> Self {
        let world = World::new(seed, tiny(), 2);
        Self { world, models: (0..LOGS).map(|log| (log, Model::default())).collect(), tainted: false }
    }

    fn log(&self, slot: u8) -> Log<MemoryDisk> {
        self.world.log(place(slot), self.models[&slot].config())
    }

    fn append(&mut self, slot: u8, records: &[(u8, Option<Vec<u8>>)], codec: Compression) -> bool {
        self.append_as(slot, ProducerId::new(i64::from(records[0].0 % 3)), records, codec)
    }

    /// In a transaction if the producer is one that writes in nothing else.
    fn append_as(
        &mut self,
        slot: u8,
        producer: ProducerId,
        records: &[(u8, Option<Vec<u8>>)],
        codec: Compression,
    ) -> bool {
        let log = self.log(slot);
        let base = log.positions().written;
        let model = self.models.get_mut(&slot).unwrap();
        let sequence = Sequence::new(model.sequence);
        let mut builder = BatchBuilder::new(codec).producer(producer, ProducerEpoch::new(0), sequence);
        if producer >= TRANSACTIONAL {
            builder = builder.transactional();
        }
        let mut written = Vec::new();
        for (index, (key, value)) in records.iter().enumerate() {
            let key = format!("key-{}", key % KEYS).into_bytes();
            let timestamp = 1_000_000 + base.get() * 3 + (index as i64 * 7) % 5;
            builder.push(Timestamp::new(timestamp), Some(&key), value.as_deref(), &[]).unwrap();
            written.push(Written { key, value: value.clone(), timestamp });
        }
        let header = match self.put(slot, builder.build().unwrap()) {
            Ok(header) => header,
            Err(goes_on) => return goes_on,
        };
        let model = self.models.get_mut(&slot).unwrap();
        model.sequence += records.len() as i32;
        for (index, record) in written.into_iter().enumerate() {
            model.records.insert(base.get() + index as i64, record);
            if producer >= TRANSACTIONAL {
                model.transactional.insert(base.get() + index as i64, producer);
            }
        }
        if producer >= TRANSACTIONAL && model.open(producer).is_none() {
            model.transactions.push(Transaction { producer, first: base.get(), end: None });
        }
        let last = LastBatch { base, sequence: header.last_sequence() };
        model.last_batches.entry(producer).or_default().push(last);
        let owner = &self.world.node(place(slot)).owner;
        owner.last_batches.borrow_mut().insert((log.id(), producer), base);
        true
    }

    /// Appends a batch. Where it is not taken: whether others may be tried.
    fn put(&mut self, slot: u8, mut bytes: BytesMut) -> Result<BatchHeader, bool> {
        let log = self.log(slot);
        batch::assign(&mut bytes, log.positions().written, Epoch::new(self.models[&slot].epoch));
        let header = BatchHeader::parse(&bytes).unwrap();
        match log.append(bytes.freeze(), &header) {
            Ok(()) => {}
            Err(AppendError::OverBudget) => {
                self.world.wait(Duration::from_millis(1));
                return Err(true);
            }
            Err(AppendError::DiskFull) => return Err(true),
            Err(AppendError::Damaged(_)) if self.tainted => return Err(false),
            Err(error) => panic!("append: {error}"),
        }
        let owner = &self.world.node(place(slot)).owner;
        owner.states.borrow_mut().entry(log.id()).or_default().add(&header);
        Ok(header)
    }

    fn transact(&mut self, slot: u8, producer: u8, key: u8, end: Option<Outcome>) {
        let producer = ProducerId::new(TRANSACTIONAL.get() + i64::from(producer % 2));
        let records: Vec<_> =
            (0..key % 3 + 1).map(|record| (key.wrapping_add(record * 5), Some(vec![key; 300]))).collect();
        self.append_as(slot, producer, &records, Compression::None);
        if let Some(outcome) = end {
            self.end(slot, producer, outcome);
        }
    }

    fn end(&mut self, slot: u8, producer: ProducerId, outcome: Outcome) {
        let at = self.log(slot).positions().written;
        let model = &self.models[&slot];
        let Some(first) = model.open(producer).map(|open| open.first) else { return };
        let others = model.transactions.iter().filter(|open| open.end.is_none() && open.producer != producer);
        let stable = others.map(|open| open.first).min().map_or(at.next(), Offset::new);
        let marker =
            Marker { outcome, coordinator_epoch: 0, first: Some(Offset::new(first)), stable: Some(stable) };
        let time = 1_000_000 + at.get() * 3;
        let bytes = marker.build(producer, ProducerEpoch::new(0), Timestamp::new(time)).unwrap();
        if self.put(slot, bytes).is_ok() {
            let model = self.models.get_mut(&slot).unwrap();
            model.markers.insert(at.get(), time);
            let open = model.transactions.iter_mut().rev().find(|open| open.producer == producer);
            open.unwrap().end = Some((at.get(), outcome));
        }
    }

    fn append_many(&mut self, slot: u8, batches: u8, records: u8, keys: u8, bytes: u16, codec: u8) {
        let codec = Compression::ALL[usize::from(codec) % Compression::ALL.len()];
        for index in 0..batches {
            let next = self.log(slot).positions().written.get();
            let records: Vec<(u8, Option<Vec<u8>>)> = (0..records % 4 + 1)
                .map(|record| {
                    let key = keys.wrapping_add(index.wrapping_mul(7)).wrapping_add(record * 3);
                    let seed = next as u8 ^ record.wrapping_mul(31);
                    (key, Some((0..bytes).map(|at| seed.wrapping_mul(at as u8 | 1)).collect()))
                })
                .collect();
            if !self.append(slot, &records, codec) {
                return;
            }
        }
    }

    /// What the hooks said so far becomes binding.
    fn note_durable(&mut self) {
        for slot in 0..LOGS {
            let log = self.log(slot);
            let owner = &self.world.node(place(slot)).owner;
            let reported = owner.durable.borrow().get(&log.id()).copied().unwrap_or_default();
            let model = self.models.get_mut(&slot).unwrap();
            model.durable = model.durable.max(reported);
            model.start = model.start.max(log.positions().start);
        }
    }

    /// Reads from the start to the end; `None` if damage is in the way.
    fn contents(&mut self, slot: u8) -> Option<Contents> {
        let log = self.log(slot);
        let mut contents = Contents::default();
        let mut at = log.positions().start;
        loop {
            match self.world.run(log.read(at, Offset::new(i64::MAX), 5 << 10)) {
                Ok(found) if found.is_empty() => {
                    assert_eq!(at, log.positions().written, "nothing at {at}");
                    return Some(contents);
                }
                Ok(found) => found.iter().for_each(|bytes| at = contents.take(at, bytes)),
                Err(ReadError::OutOfRange { start, .. }) if at < start => at = start, // retention
                Err(ReadError::Damaged(damage)) => {
                    assert!(self.tainted, "damage without a fault: {damage}");
                    return None;
                }
                Err(error) => panic!("read at {at}: {error}"),
            }
        }
    }

    /// Reads log 0 under another configuration, records without a model included.
    fn contents_of(&mut self, config: impl Fn(&Self) -> LogConfig) -> Contents {
        let log = self.world.log(place(0), config(self));
        let mut contents = Contents::default();
        let mut at = log.positions().start;
        while at < log.positions().written {
            let found = self.world.run(log.read(at, Offset::new(i64::MAX), 1 << 20)).unwrap();
            found.iter().for_each(|bytes| at = contents.take(at, bytes));
        }
        contents
    }

    fn check_all(&mut self) {
        for slot in 0..LOGS {
            self.check(slot);
        }
    }

    fn check(&mut self, slot: u8) {
        // Measured before: a run may end meanwhile, and takes away only.
        let compacted = self.log(slot).compacted_upto();
        let Some(contents) = self.contents(slot) else { return };
        let positions = self.log(slot).positions();
        let model = &self.models[&slot];
        for (offset, found) in contents.records.range(positions.start.get()..) {
            assert_eq!(Some(found), model.records.get(offset), "slot {slot}: a strange record at {offset}");
        }
        for (key, newest) in model.newest(Offset::new(i64::MAX)) {
            let is_tombstone = model.records[&newest].value.is_none();
            let is_there = contents.records.contains_key(&newest);
            assert!(
                is_there || is_tombstone || newest < positions.start.get(),
                "slot {slot}: the newest record of {} at {newest} is gone",
                String::from_utf8_lossy(key)
            );
        }
        let newest_below = model.newest(compacted);
        for (offset, found) in
            contents.records.range(..compacted.get()).filter(|(at, _)| **at >= positions.start.get())
        {
            assert_eq!(newest_below[found.key.as_slice()], *offset, "slot {slot}: {offset} was to go");
        }
        self.check_producers(slot, &contents);
        self.check_transactions(slot, &contents, compacted);
        self.check_aborted(slot, &contents);
    }

    /// The log tells readers of every record that does not count.
    fn check_aborted(&mut self, slot: u8, contents: &Contents) {
        let log = self.log(slot);
        let positions = log.positions();
        let told = match self.world.run(log.aborted(positions.start, positions.written)) {
            Ok(told) => told,
            Err(error) => return assert!(self.tainted, "aborted: {error}"),
        };
        for offset in contents.records.range(positions.start.get()..).map(|(offset, _)| *offset) {
            let transaction = self.models[&slot].transaction(offset);
            let Some((marker, Outcome::Abort)) = transaction.and_then(|of| of.end) else { continue };
            let producer = transaction.unwrap().producer;
            let covers = |aborted: &Aborted| {
                aborted.producer == producer
                    && aborted.marker.get() == marker
                    && aborted.first.get() <= offset
            };
            assert!(told.iter().any(covers), "slot {slot}: that {offset} was aborted is not told: {told:?}");
        }
    }

    fn check_transactions(&self, slot: u8, contents: &Contents, compacted: Offset) {
        let (model, start) = (&self.models[&slot], self.log(slot).positions().start.get());
        let first_open = model.first_open().filter(|first| *first >= start);
        assert!(
            first_open.is_none_or(|first| compacted.get() <= first),
            "slot {slot}: compacted to {compacted}"
        );
        for offset in model.transactional.keys().filter(|offset| **offset >= start) {
            let open = model.transaction(*offset).unwrap().end.is_none();
            assert!(
                !open || contents.records.contains_key(offset),
                "slot {slot}: {offset} is undecided, and gone"
            );
        }
        for offset in contents.transactional.iter().filter(|offset| **offset >= start) {
            let transaction = model.transaction(*offset).unwrap();
            if let Some((marker, outcome)) = transaction.end {
                let found = contents.markers.get(&marker).map(|(producer, outcome, _)| (*producer, *outcome));
                assert_eq!(
                    found,
                    Some((transaction.producer, outcome)),
                    "slot {slot}: the marker at {marker}"
                );
            }
        }
        for (offset, (_, _, time)) in contents.markers.range(start..) {
            assert_eq!(model.markers.get(offset), Some(time), "slot {slot}: a strange marker at {offset}");
        }
    }

    fn check_producers(&self, slot: u8, contents: &Contents) {
        let (model, start) = (&self.models[&slot], self.log(slot).positions().start);
        for (producer, batches) in &model.last_batches {
            let last = batches.last().unwrap();
            if last.base < start {
                continue;
            }
            let found = contents.last_batches.get(producer).copied();
            let found = found.map(|found| (found.base, found.sequence));
            assert_eq!(found, Some((last.base, last.sequence)), "slot {slot}: producer {producer}");
        }
    }

    fn read_some(&mut self, slot: u8, from: u8, bytes_max: u16) {
        let log = self.log(slot);
        let positions = log.positions();
        let span = positions.written.since(positions.start);
        let from = positions.start.plus(span * i64::from(from) / 256);
        match self.world.run(log.read(from, positions.written, usize::from(bytes_max))) {
            Ok(found) => {
                assert!(!found.is_empty() || from == positions.written, "nothing at {from} of {positions:?}");
                let mut contents = Contents::default();
                found.iter().fold(from, |at, bytes| contents.take(at, bytes));
                for (offset, record) in &contents.records {
                    assert_eq!(Some(record), self.models[&slot].records.get(offset));
                }
                let first = found.first().map(|bytes| BatchHeader::parse(bytes).unwrap());
                if let Some(first) = first.filter(|first| !first.is_hole() && first.base_offset > from) {
                    self.read_hole(&log, (from, first.base_offset), bytes_max);
                }
            }
            Err(ReadError::OutOfRange { start, .. }) => assert!(from < start),
            Err(error) => assert!(self.tainted, "read of {from}: {error}"),
        }
    }

    /// What ends in a hole is told as one that ends there, so that whoever needs every offset goes on.
    fn read_hole(&mut self, log: &Log<MemoryDisk>, (from, end): (Offset, Offset), part: u16) {
        let upto = from.plus(1 + i64::from(part) % end.since(from));
        let found = self.world.run(log.read(from, upto, 1 << 20)).unwrap();
        let headers: Vec<_> = found.iter().map(|bytes| BatchHeader::parse(bytes).unwrap()).collect();
        assert!(headers.iter().all(BatchHeader::is_hole), "{headers:?}");
        assert_eq!(headers.last().map(BatchHeader::next_offset), Some(upto), "from {from}, before {end}");
    }

    fn offset_at(&mut self, slot: u8, time: u8) {
        let log = self.log(slot);
        let wanted = 1_000_000 + (log.positions().written.get() + 20) * 3 * i64::from(time) / 256;
        let Some(before) = self.contents(slot) else { return };
        let found = match self.world.run(log.offset_at(Timestamp::new(wanted))) {
            Ok(found) => found.map(|(offset, _)| offset.get()),
            Err(error) => return assert!(self.tainted, "offset_at: {error}"),
        };
        let Some(after) = self.contents(slot) else { return };
        let start = log.positions().start.get();
        let first = |contents: &Contents| {
            let mut records = contents.records.range(start..);
            let record = records.find(|(_, record)| record.timestamp >= wanted).map(|(offset, _)| *offset);
            let mut markers = contents.markers.range(start..);
            let marker = markers.find(|(_, (_, _, time))| *time >= wanted).map(|(offset, _)| *offset);
            record.into_iter().chain(marker).min()
        };
        assert!(found == first(&before) || found == first(&after), "time {wanted}: {found:?}");
    }

    fn delete_records(&mut self, slot: u8, part: u8) {
        let log = self.log(slot);
        let positions = log.positions();
        let span = positions.durable.since(positions.start);
        let before = positions.start.plus(span * i64::from(part) / 255);
        self.world.run(log.delete_records(before)).unwrap();
    }

    fn reopen(&mut self, cores: u16) -> bool {
        let contents = self.world.open(cores).unwrap();
        if !contents.lost_frames.is_empty() {
            assert!(self.tainted, "frames are lost without a fault: {contents:?}");
            return false;
        }
        for (path, _) in self.world.disk.files() {
            let name = path.to_string_lossy().into_owned();
            assert!(!name.ends_with(".cleaned") && !name.ends_with(".swap"), "{name} was left");
        }
        for slot in 0..LOGS {
            self.attach(slot);
        }
        self.check_all();
        true
    }

    fn attach(&mut self, slot: u8) {
        let log = self.log(slot);
        let (positions, (snapshot, headers)) = (log.positions(), log.recovered_state());
        drop((snapshot, headers));
        let model = self.models.get_mut(&slot).unwrap();
        assert!(log.damage().is_none() || self.tainted, "{:?}", log.damage());
        assert!(positions.written >= model.durable || log.damage().is_some(), "{positions:?}");
        assert!(positions.start >= model.start || self.tainted);
        model.durable = positions.durable;
        model.start = positions.start;
        model.cut(positions.written);
        let owner = &self.world.nodes[support::owner_of(place(slot), self.world.nodes.len() as u16)].owner;
        let mut state = support::OwnerState { batches: 0, end: positions.written.get() };
        state.batches = model.records.len() as u64;
        owner.states.borrow_mut().insert(log.id(), state);
        for (producer, batches) in &model.last_batches {
            let last = batches.last().unwrap().base;
            owner.last_batches.borrow_mut().insert((log.id(), *producer), last);
        }
    }

    fn crash(&mut self) {
        self.note_durable();
        self.world.crash();
    }

    /// Lets the loops take so many steps, in the middle of whatever they do.
    fn run_for(&mut self, polls: u16) {
        let mut left = polls;
        self.world.run(std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            left = left.saturating_sub(1);
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        }));
    }

    fn apply(&mut self, op: &Op) {
        let slot = |log: &u8| log % LOGS;
        match op {
            Op::Append { log, batches, records, keys, bytes, codec } => {
                self.append_many(slot(log), *batches, *records, *keys, *bytes, *codec)
            }
            Op::Delete { log, key } => drop(self.append(slot(log), &[(*key, None)], Compression::None)),
            Op::Transact { log, producer, key, end } => self.transact(slot(log), *producer, *key, *end),
            Op::Read { log, from, bytes_max } => self.read_some(slot(log), *from, *bytes_max),
            Op::OffsetAt { log, time } => self.offset_at(slot(log), *time),
            Op::Wait { ms } => self.world.wait(Duration::from_millis(u64::from(*ms))),
            Op::NextEpoch { log } => self.models.get_mut(&slot(log)).unwrap().epoch += 1,
            Op::DeleteRecords { log, part } => self.delete_records(slot(log), *part),
            Op::Retain { log, kib } => {
                let bytes = (u64::from(*kib) + 20) << 10;
                self.models.get_mut(&slot(log)).unwrap().retention_bytes = Some(bytes);
                self.log(slot(log));
                self.world.wait(Duration::from_secs(11));
            }
            Op::Reopen { cores } => {
                for node in 0..self.world.nodes.len() {
                    let store = self.world.nodes[node].store.clone();
                    self.world.run(store.shutdown()).unwrap();
                }
                self.note_durable();
                self.world.abandon();
                self.reopen(u16::from(cores % 3) + 1);
            }
            Op::Crash { cores } => {
                self.crash();
                self.reopen(u16::from(cores % 3) + 1);
            }
            Op::CrashSoon { cores, polls } => {
                self.world.wait(Duration::from_millis(300));
                self.run_for(*polls);
                self.crash();
                self.reopen(u16::from(cores % 3) + 1);
            }
            Op::CrashTwice { cores, polls } => {
                self.crash();
                self.world.open_for(u16::from(cores % 3) + 1, u32::from(*polls));
                self.world.crash();
                self.reopen(u16::from(cores % 2) + 1);
            }
            Op::FullDisk => {
                self.world.disk.set_capacity(Some(self.world.disk.used_bytes() + (70 << 10)));
                self.world.wait(Duration::from_millis(2500));
                self.append_many(0, 10, 1, 3, 2000, 0);
                self.check_all();
                self.world.disk.set_capacity(None);
                self.world.wait(Duration::from_millis(2500));
            }
        }
        self.note_durable();
    }

    /// Lets every segment be closed and every run be made.
    fn calm_down(&mut self) {
        self.world.wait(Duration::from_secs(90));
    }

    /// Nothing is left but the newest of each key, and no tombstone.
    fn check_calm(&mut self) {
        for slot in 0..LOGS {
            let log = self.log(slot);
            let compacted = log.compacted_upto();
            assert_eq!(compacted, log.positions().written, "slot {slot}: everything is closed and compacted");
            let contents = self.contents(slot).unwrap();
            let model = &self.models[&slot];
            let expected: Vec<i64> = {
                let newest = model.newest(compacted);
                let kept = newest.into_values().filter(|offset| model.records[offset].value.is_some());
                let mut kept: Vec<i64> =
                    kept.filter(|offset| *offset >= log.positions().start.get()).collect();
                kept.sort_unstable();
                kept
            };
            let found: Vec<i64> =
                contents.records.range(log.positions().start.get()..).map(|(at, _)| *at).collect();
            assert_eq!(found, expected, "slot {slot}");
        }
    }
}

fn place(slot: u8) -> TopicPartition {
    partition(u32::from(slot))
}

impl Contents {
    /// Takes in a batch read at `at`; returns where to read on.
    fn take(&mut self, at: Offset, bytes: &Bytes) -> Offset {
        let header = batch::verify_stored(bytes).unwrap();
        assert!(header.next_offset() > at, "a batch from before {at}");
        if header.is_control() {
            let outcome = Marker::parse(bytes).unwrap().outcome;
            let marker = (header.producer_id, outcome, header.max_timestamp.get());
            assert!(self.markers.insert(header.base_offset.get(), marker).is_none());
            return header.next_offset();
        }
        if header.is_transactional() {
            self.transactional.push(header.base_offset.get());
        }
        for record in batch::records(bytes, 1 << 20).unwrap() {
            let record = record.unwrap();
            let written = Written {
                key: record.key.unwrap().to_vec(),
                value: record.value.map(|value| value.to_vec()),
                timestamp: record.timestamp.get(),
            };
            assert!(self.records.insert(record.offset.get(), written).is_none(), "{} twice", record.offset);
        }
        if header.producer_id.is_some() {
            let last = LastBatch { base: header.base_offset, sequence: header.last_sequence() };
            self.last_batches.insert(header.producer_id, last);
        }
        header.next_offset()
    }
}

fn op() -> impl Strategy<Value = Op> {
    let append = (any::<u8>(), 1..25u8, any::<u8>(), any::<u8>(), 20..900u16, any::<u8>());
    prop_oneof![
        14 => append.prop_map(|(log, batches, records, keys, bytes, codec)| Op::Append {
            log, batches, records, keys, bytes, codec
        }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(log, key)| Op::Delete { log, key }),
        7 => (any::<u8>(), any::<u8>(), any::<u8>(), 0..5u8).prop_map(|(log, producer, key, end)| Op::Transact {
            log,
            producer,
            key,
            end: match end {
                0 | 1 => Some(Outcome::Commit),
                2 | 3 => Some(Outcome::Abort),
                _ => None,
            },
        }),
        4 => (any::<u8>(), any::<u8>(), any::<u16>()).prop_map(|(log, from, bytes_max)| Op::Read { log, from, bytes_max }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(log, time)| Op::OffsetAt { log, time }),
        3 => (0..60u16).prop_map(|ms| Op::Wait { ms }),
        3 => (1000..13000u16).prop_map(|ms| Op::Wait { ms }),
        1 => any::<u8>().prop_map(|log| Op::NextEpoch { log }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(log, part)| Op::DeleteRecords { log, part }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(log, kib)| Op::Retain { log, kib }),
        2 => any::<u8>().prop_map(|cores| Op::Reopen { cores }),
        2 => any::<u8>().prop_map(|cores| Op::Crash { cores }),
        5 => (any::<u8>(), 0..600u16).prop_map(|(cores, polls)| Op::CrashSoon { cores, polls }),
        2 => (any::<u8>(), 0..400u16).prop_map(|(cores, polls)| Op::CrashTwice { cores, polls }),
        1 => Just(Op::FullDisk),
    ]
}

fn config() -> ProptestConfig {
    let cases =
        std::env::var("HEDDLE_PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 1000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_newest_of_each_key_stays_and_nothing_else(
        seed in any::<u64>(),
        ops in prop::collection::vec(op(), 1..40),
    ) {
        let mut test = Test::new(seed);
        for op in &ops {
            test.apply(op);
            test.check_all();
        }
        test.crash();
        test.reopen(2);
        test.calm_down();
        test.check_all();
        // Tombstones that were marked before the last start go with the next run only.
        for slot in 0..LOGS {
            for producer in [TRANSACTIONAL, ProducerId::new(TRANSACTIONAL.get() + 1)] {
                test.end(slot, producer, Outcome::Commit);
            }
            test.append_many(slot, 20, 3, 0, 900, 0);
        }
        test.calm_down();
        test.check_calm();
    }

    #[test]
    fn a_damaged_source_is_noticed_and_nothing_of_it_is_dropped(
        seed in any::<u64>(),
        ops in prop::collection::vec(op(), 1..20),
        file in any::<u8>(),
        position in any::<u16>(),
        bit in any::<u8>(),
    ) {
        let mut test = Test::new(seed);
        ops.iter().for_each(|op| test.apply(op));
        test.note_durable();
        let mut files = test.world.disk.files();
        files.retain(|(path, bytes)| path.to_string_lossy().ends_with(".log") && !bytes.is_empty());
        if let Some((path, bytes)) = files.get(usize::from(file) % files.len().max(1)) {
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            assert!(test.world.disk.flip_bit(path, (used * usize::from(position) / 65536) as u64, bit));
            test.tainted = true;
        }
        test.calm_down();
        test.check_all();
        test.crash();
        if test.reopen(1) {
            test.calm_down();
            test.check_all();
        }
    }
}

/// Young segments are left alone, whatever their share, until they are old enough.
#[test]
fn segments_younger_than_the_lag_are_not_touched() {
    let mut test = Test::new(7);
    let lag = Duration::from_secs(600);
    let config = |test: &Test| {
        let config = test.models[&0].config();
        let compaction = Compaction { lag_min: lag, ..config.compaction.unwrap() };
        LogConfig { compaction: Some(compaction), ..config }
    };
    let now = test.world.disk.wall().get();
    for round in 0..60i64 {
        let log = test.world.log(place(0), config(&test));
        let base = log.positions().written;
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(Timestamp::new(now + round), Some(b"key"), Some(&[1; 900]), &[]).unwrap();
        let mut bytes = builder.build().unwrap();
        batch::assign(&mut bytes, base, Epoch::new(0));
        let header = BatchHeader::parse(&bytes).unwrap();
        log.append(bytes.freeze(), &header).unwrap();
        test.world.run(log.flush()).unwrap();
    }
    test.world.wait(Duration::from_secs(30));
    assert_eq!(test.contents_of(config).records.len(), 60);
    test.world.wait(lag);
    assert_eq!(test.contents_of(config).records.len(), 1);
}

/// The oracle owns the whole history, so that a lost record never goes unnoticed.
#[test]
fn the_oracle_notices_a_lost_record() {
    let mut test = Test::new(1);
    assert!(test.append(0, &[(1, Some(vec![1]))], Compression::None));
    let newer = Written { key: b"key-1".to_vec(), value: Some(vec![2]), timestamp: 0 };
    test.models.get_mut(&0).unwrap().records.insert(1, newer);
    let noticed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test.check(0)));
    assert!(noticed.is_err());
}
