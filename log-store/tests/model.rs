//! An oracle against the store: random operations, crashes and disk faults, and after each the promises are checked.
//!
//! What was reported durable is read back byte for byte and in order after any crash, or the log says that it is
//! damaged, which it may only after a fault was injected. No wrong byte is ever served, no offset goes back, nothing
//! deleted returns. `HEDDLE_PROPTEST_CASES` sets how many cases run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use heddle_log_store::{AppendError, Disk, Log, LogConfig, MemoryDisk, ReadError, StorageError, SyncMode};
use heddle_proto::ids::{Offset, Timestamp, TopicPartition};
use proptest::prelude::*;
use support::{OwnerState, World, make_batch, partition, tiny};

#[derive(Clone, Debug)]
enum Op {
    Append { log: u8, count: u8, records: u8, bytes: u16 },
    Read { log: u8, from: u8, bytes_max: u16 },
    OffsetAt { log: u8, time: u8 },
    Wait { ms: u16 },
    Flush { log: u8 },
    Sync { log: u8, flushed: bool },
    Patient { log: u8, patient: bool },
    Retain { log: u8, kib: u8 },
    NextEpoch { log: u8 },
    Cut { log: u8, part: u8 },
    BeginAnew { log: u8, at: u8 },
    CutAndCrash { log: u8, part: u8, anew: bool, polls: u16, recovery_polls: u16 },
    DeleteRecords { log: u8, part: u8 },
    Delete { log: u8 },
    Reopen { cores: u8 },
    Crash { cores: u8 },
    CrashTwice { cores: u8, polls: u16 },
    CrashBusy { trims: bool, rounds: u8, bytes: u16, polls: u8, cores: u8 },
    FullDisk { appends: u8 },
}

#[derive(Copy, Clone, Debug)]
enum Fault {
    FlipWal { file: u8, position: u16, bit: u8 },
    FlipSegment { file: u8, position: u16, bit: u8 },
    LoseWalWrite,
    LoseSegmentWrite,
}

/// Record timestamps: a few values, so that lookups by time hit ties and order changes.
fn timestamp(at: Offset) -> i64 {
    1_000_000 + (at.get() * 7) % 50 + at.get()
}

#[derive(Clone)]
struct Batch {
    base: Offset,
    next: Offset,
    bytes: Bytes,
}

/// What one log must look like.
#[derive(Clone, Default)]
struct Model {
    batches: Vec<Batch>,
    /// Where it began, when it began anew.
    begin: Offset,
    /// A start that `delete_records` or retention made durable.
    start: Offset,
    durable: Offset,
    epoch: i32,
    flushed: bool,
    retention_bytes: Option<u64>,
}

impl Model {
    fn end(&self) -> Offset {
        self.batches.last().map_or(self.begin, |batch| batch.next)
    }

    fn config(&self) -> LogConfig {
        let sync = match self.flushed {
            true => SyncMode::Flush { after: Duration::from_millis(40), bytes: 20 << 10 },
            false => SyncMode::Wal,
        };
        LogConfig {
            sync,
            segment_bytes: 40 << 10,
            retention_bytes: self.retention_bytes,
            ..LogConfig::default()
        }
    }

    /// What is left after a cut, all of it durable.
    fn cut(&self, to: Offset, anew: bool) -> Self {
        let stays = |batch: &&Batch| !anew && batch.next <= to;
        let (begin, start) = if anew { (to, to) } else { (self.begin, self.start) };
        let batches = self.batches.iter().filter(stays).cloned().collect();
        Self { batches, begin, start, durable: to, ..*self }
    }

    fn expect(&self, from: Offset) -> impl Iterator<Item = &Batch> {
        self.batches.iter().filter(move |batch| batch.next > from)
    }
}

struct Test {
    world: World,
    models: BTreeMap<u8, Model>,
    /// Index of the partition each slot uses now: of those that are deleted every other one is used again.
    slots: [u32; SLOTS],
    next_partition: u32,
    /// Faults that may cost data were injected.
    tainted: bool,
}

const SLOTS: usize = 4;

type Cutting = Pin<Box<dyn Future<Output = Result<(), StorageError>>>>;

/// A recovery after a cut is interrupted after fewer polls than this, or not at all.
const RECOVERY_POLLS: u16 = 120;

impl Test {
    fn new(seed: u64) -> Self {
        let slots = [0, 1, 2, 3];
        let mut test = Self {
            world: World::new(seed, tiny(), 2),
            models: BTreeMap::new(),
            slots,
            next_partition: 4,
            tainted: false,
        };
        for slot in 0..SLOTS as u8 {
            test.models.insert(slot, Model { flushed: slot == 3, ..Model::default() });
        }
        test
    }

    fn partition(&self, slot: u8) -> TopicPartition {
        partition(self.slots[usize::from(slot)])
    }

    fn log(&self, slot: u8) -> Log<MemoryDisk> {
        self.world.log(self.partition(slot), self.models[&slot].config())
    }

    fn append(&mut self, slot: u8, records: u32, bytes: usize) -> Result<(), AppendError> {
        let log = self.log(slot);
        let base = log.positions().written;
        let (batch, header) = make_batch(base, self.models[&slot].epoch, records, bytes, timestamp(base));
        log.append(batch.clone(), &header)?;
        let owner = &self.world.node(self.partition(slot)).owner;
        owner.states.borrow_mut().entry(log.id()).or_default().add(&header);
        let model = self.models.get_mut(&slot).unwrap();
        model.batches.push(Batch { base, next: header.next_offset(), bytes: batch });
        Ok(())
    }

    fn append_many(&mut self, slot: u8, count: u8, records: u8, bytes: u16) {
        for _ in 0..count {
            match self.append(slot, u32::from(records % 5) + 1, usize::from(bytes)) {
                Ok(()) => {}
                Err(AppendError::OverBudget) => self.world.wait(Duration::from_millis(1)),
                Err(AppendError::Damaged(_)) if self.tainted => return,
                Err(error) => panic!("append: {error}"),
            }
        }
    }

    /// What the hooks said so far becomes binding.
    fn note_durable(&mut self) {
        for slot in 0..SLOTS as u8 {
            let log = self.log(slot);
            let owner = &self.world.node(self.partition(slot)).owner;
            let reported = owner.durable.borrow().get(&log.id()).copied().unwrap_or_default();
            let positions = log.positions();
            assert!(reported <= positions.durable);
            let model = self.models.get_mut(&slot).unwrap();
            model.durable = model.durable.max(reported);
            model.start = model.start.max(positions.start);
        }
    }

    /// Compares what a read gave with the model. Returns where to read on, `None` at the end.
    fn check_read(&self, slot: u8, from: Offset, found: Result<Vec<Bytes>, ReadError>) -> Option<Offset> {
        let model = &self.models[&slot];
        let positions = self.log(slot).positions();
        match found {
            Ok(found) => {
                let mut at = from;
                for (bytes, expected) in found.iter().zip(model.expect(from)) {
                    assert_eq!(bytes, &expected.bytes, "slot {slot} at {at}");
                    at = expected.next;
                }
                assert!(!found.is_empty() || from == positions.written, "nothing at {from} of {positions:?}");
                (!found.is_empty()).then_some(at)
            }
            Err(ReadError::Damaged(damage)) => {
                assert!(self.tainted, "damage without a fault: {damage}");
                None
            }
            Err(error) => panic!("read of {from} in {positions:?}: {error}"),
        }
    }

    fn read_all(&mut self, slot: u8) {
        let log = self.log(slot);
        let mut at = log.positions().start;
        loop {
            let found = self.world.run(log.read(at, Offset::new(i64::MAX), 6 << 10));
            match self.check_read(slot, at, found) {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    fn read_some(&mut self, slot: u8, from: u8, bytes_max: u16) {
        let log = self.log(slot);
        let positions = log.positions();
        let span = positions.written.since(positions.start);
        let from = positions.start.plus(span * i64::from(from) / 256);
        let found = self.world.run(log.read(from, positions.written, usize::from(bytes_max)));
        self.check_read(slot, from, found);
    }

    fn offset_at(&mut self, slot: u8, time: u8) {
        let log = self.log(slot);
        let span = log.positions().written.get() + 60;
        let wanted = 1_000_000 + span * i64::from(time) / 256;
        let start = log.positions().start;
        match self.world.run(log.offset_at(Timestamp::new(wanted))) {
            Ok(found) => assert_eq!(found, self.first_at(slot, start, wanted)),
            Err(error) => assert!(self.tainted, "offset_at: {error}"),
        }
    }

    fn first_at(&self, slot: u8, start: Offset, wanted: i64) -> Option<(Offset, Timestamp)> {
        let records = self.models[&slot].batches.iter().flat_map(|batch| {
            let first = timestamp(batch.base);
            (0..batch.next.since(batch.base))
                .map(move |index| (batch.base.plus(index), Timestamp::new(first + index)))
        });
        records.into_iter().find(|(offset, time)| *offset >= start && time.get() >= wanted)
    }

    fn delete_records(&mut self, slot: u8, part: u8) {
        let log = self.log(slot);
        let positions = log.positions();
        let span = positions.durable.since(positions.start);
        let before = positions.start.plus(span * i64::from(part) / 255);
        let start = self.world.run(log.delete_records(before)).unwrap();
        assert!(start >= before);
        let model = self.models.get_mut(&slot).unwrap();
        model.start = model.start.max(start);
    }

    /// A batch boundary somewhere in what is readable.
    fn boundary(&self, slot: u8, part: u8) -> Offset {
        let (model, start) = (&self.models[&slot], self.log(slot).positions().start);
        let ends: Vec<Offset> =
            model.batches.iter().map(|batch| batch.next).filter(|end| *end >= start).collect();
        match ends.len() {
            0 => self.log(slot).positions().written,
            count => ends[count * usize::from(part) / 256],
        }
    }

    /// Begins a cut as an owner does: its state goes back in the same moment.
    fn start_cut(&mut self, slot: u8, to: Offset, anew: bool) -> Cutting {
        self.note_durable();
        let log = self.log(slot);
        let cutting: Cutting = if anew { Box::pin(log.begin_anew(to)) } else { Box::pin(log.cut(to)) };
        let model = self.models.get_mut(&slot).unwrap();
        *model = model.cut(to, anew);
        let state = OwnerState { batches: model.batches.len() as u64, end: to.get() };
        let owner = &self.world.node(self.partition(slot)).owner;
        owner.states.borrow_mut().insert(log.id(), state);
        cutting
    }

    /// What was reported before a cut, or while it waited, says nothing any more.
    fn forget_durable(&mut self, slot: u8) {
        let id = self.log(slot).id();
        self.world.node(self.partition(slot)).owner.durable.borrow_mut().remove(&id);
    }

    fn cut(&mut self, slot: u8, part: u8) {
        let to = self.boundary(slot, part);
        let cutting = self.start_cut(slot, to, false);
        self.world.run(cutting).unwrap();
        self.forget_durable(slot);
        let positions = self.log(slot).positions();
        assert_eq!((positions.durable, positions.written), (to, to));
        self.read_all(slot);
    }

    fn begin_anew(&mut self, slot: u8, at: Offset) {
        let cutting = self.start_cut(slot, at, true);
        self.world.run(cutting).unwrap();
        self.forget_durable(slot);
        let positions = self.log(slot).positions();
        assert_eq!((positions.start, positions.durable, positions.written), (at, at, at));
    }

    /// Cuts the power in the middle of a cut, and perhaps of the recovery after it. Afterwards the cut was made, or not at all.
    fn cut_and_crash(&mut self, slot: u8, part: u8, anew: bool, polls: u16, recovery_polls: u16) {
        self.note_durable();
        let to = self.boundary(slot, part);
        let before = self.models[&slot].clone();
        let mut cutting = self.start_cut(slot, to, anew);
        let is_done = self.world.run_for(u32::from(polls), &mut cutting).is_some();
        drop(cutting);
        self.world.crash();
        if recovery_polls < RECOVERY_POLLS {
            self.open_in_vain(1 + recovery_polls % 3, recovery_polls);
        }
        let contents = self.world.open(2).unwrap();
        assert_eq!((contents.lost_frames.len(), contents.damaged_entries), (0, 0));
        let after = self.models[&slot].clone();
        let candidates = if is_done { vec![after] } else { vec![after, before] };
        self.check_one_of(slot, &candidates);
        (0..SLOTS as u8).filter(|other| *other != slot).for_each(|other| self.check_recovered(other));
    }

    fn delete(&mut self, slot: u8) {
        let gone = self.partition(slot);
        let store = self.world.node(gone).store.clone();
        self.world.run(store.delete(gone)).unwrap();
        if slot.is_multiple_of(2) {
            self.slots[usize::from(slot)] = self.next_partition;
            self.next_partition += 1;
        }
        self.models.insert(slot, Model::default());
    }

    fn shutdown(&mut self) {
        let stores: Vec<_> = self.world.nodes.iter().map(|node| node.store.clone()).collect();
        for store in stores {
            self.world.run(store.shutdown()).unwrap();
        }
        self.note_durable();
        self.world.abandon();
    }

    fn crash(&mut self) {
        self.note_durable();
        self.world.crash();
    }

    /// Boots and checks everything. `false` if the disk says that frames are lost, after which nothing can be said.
    fn reopen(&mut self, cores: u16) -> bool {
        let contents = self.world.open(cores).unwrap();
        if !contents.lost_frames.is_empty() {
            assert!(self.tainted, "frames are lost without a fault: {contents:?}");
            return false;
        }
        assert!(self.tainted || contents.damaged_entries == 0);
        let live: Vec<TopicPartition> = self.slots.iter().map(|index| partition(*index)).collect();
        for node in &self.world.nodes {
            let recovered = node.store.recovered();
            assert!(recovered.iter().all(|partition| live.contains(partition)), "a deleted log came back");
        }
        for slot in 0..SLOTS as u8 {
            self.check_recovered(slot);
        }
        true
    }

    fn check_recovered(&mut self, slot: u8) {
        let model = self.models[&slot].clone();
        self.check_one_of(slot, &[model]);
    }

    /// What was recovered must be one of these. Rebuilds the owner's state as an owner would.
    fn check_one_of(&mut self, slot: u8, candidates: &[Model]) {
        let log = self.log(slot);
        let (snapshot, headers) = log.recovered_state();
        let state = (!self.tainted).then(|| {
            let mut state = snapshot.map_or(OwnerState::default(), |bytes| OwnerState::decode(&bytes));
            headers.iter().for_each(|header| state.add(header));
            state
        });
        let mut misfits = Vec::new();
        let found = candidates.iter().find_map(|candidate| {
            let fit = self.fit(candidate, &log, state);
            fit.map_err(|why| misfits.push(why)).ok()
        });
        let model = found.unwrap_or_else(|| panic!("slot {slot}: {misfits:?}"));
        let state = OwnerState { batches: model.batches.len() as u64, end: log.positions().written.get() };
        self.models.insert(slot, model);
        self.world.node(self.partition(slot)).owner.states.borrow_mut().insert(log.id(), state);
        self.read_all(slot);
    }

    /// The model as it goes on from what was recovered, or why this cannot be.
    fn fit(&self, model: &Model, log: &Log<MemoryDisk>, state: Option<OwnerState>) -> Result<Model, String> {
        let (positions, is_damaged) = (log.positions(), log.damage().is_some());
        if is_damaged && !self.tainted {
            return Err(format!("{:?} without a fault", log.damage()));
        }
        if positions.written < model.durable && !is_damaged {
            return Err(format!("{positions:?} after {} was durable", model.durable));
        }
        if positions.start < model.start && !(positions.start == positions.written && self.tainted) {
            return Err(format!("{positions:?} after a start at {}", model.start));
        }
        let mut model = Model { start: positions.start, durable: positions.durable, ..model.clone() };
        model.batches.retain(|batch| batch.next <= positions.written);
        if model.end() != positions.written && !is_damaged {
            return Err(format!("{positions:?} where batches end at {}", model.end()));
        }
        let truth = OwnerState { batches: model.batches.len() as u64, end: model.end().get() };
        match state {
            Some(state) if state != truth => Err(format!("the owner gets {state:?}, not {truth:?}")),
            _ => Ok(model),
        }
    }

    fn full_disk(&mut self, appends: u8) {
        self.world.disk.set_capacity(Some(self.world.disk.used_bytes() + (90 << 10)));
        self.world.wait(Duration::from_millis(1500));
        for round in 0..appends {
            let slot = round % 3;
            match self.append(slot, 1, 3 << 10) {
                Ok(()) | Err(AppendError::DiskFull | AppendError::OverBudget) => {}
                Err(error) => panic!("append on a full disk: {error}"),
            }
            self.world.wait(Duration::from_millis(1));
        }
        self.read_some(0, 0, 1000);
        self.world.disk.set_capacity(None);
        self.world.wait(Duration::from_millis(2500));
    }

    fn apply(&mut self, op: &Op) {
        let slot = |log: &u8| log % SLOTS as u8;
        match op {
            Op::Append { log, count, records, bytes } => {
                self.append_many(slot(log), *count, *records, *bytes)
            }
            Op::Read { log, from, bytes_max } => self.read_some(slot(log), *from, *bytes_max),
            Op::OffsetAt { log, time } => self.offset_at(slot(log), *time),
            Op::Wait { ms } => self.world.wait(Duration::from_millis(u64::from(*ms))),
            Op::Flush { log } => {
                let log = self.log(slot(log));
                self.world.run(log.flush()).unwrap();
            }
            Op::Sync { log, flushed } => self.configure(slot(log), |model| model.flushed = *flushed),
            Op::Patient { log, patient } => self.log(slot(log)).set_patient(*patient),
            Op::Retain { log, kib } => {
                self.configure(slot(log), |model| model.retention_bytes = Some(u64::from(*kib) << 10));
                self.world.wait(Duration::from_secs(11));
            }
            Op::NextEpoch { log } => self.models.get_mut(&slot(log)).unwrap().epoch += 1,
            Op::Cut { log, part } => self.cut(slot(log), *part),
            Op::BeginAnew { log, at } => self.begin_anew(slot(log), Offset::new(i64::from(*at))),
            Op::CutAndCrash { log, part, anew, polls, recovery_polls } => {
                self.cut_and_crash(slot(log), *part, *anew, *polls, *recovery_polls);
            }
            Op::DeleteRecords { log, part } => self.delete_records(slot(log), *part),
            Op::Delete { log } => self.delete(slot(log)),
            Op::Reopen { cores } => {
                self.shutdown();
                self.reopen(u16::from(cores % 3) + 1);
            }
            Op::Crash { cores } => {
                self.crash();
                self.reopen(u16::from(cores % 3) + 1);
            }
            Op::CrashTwice { cores, polls } => {
                self.crash();
                self.open_in_vain(u16::from(cores % 3) + 1, *polls);
                self.reopen(u16::from(cores % 2) + 1);
            }
            Op::CrashBusy { trims, rounds, bytes, polls, cores } => {
                if *trims {
                    // From now on only state records say where the logs begin.
                    (0..SLOTS as u8).for_each(|slot| self.delete_records(slot, 128));
                }
                self.keep_busy(*rounds, *bytes, u32::from(*polls));
                self.crash();
                self.reopen(u16::from(cores % 3) + 1);
            }
            Op::FullDisk { appends } => self.full_disk(*appends % 40),
        }
        self.note_durable();
    }

    fn configure(&mut self, slot: u8, change: impl FnOnce(&mut Model)) {
        let model = self.models.get_mut(&slot).unwrap();
        change(model);
        self.log(slot); // takes the new configuration
    }

    /// Small batches for all logs, with so few steps in between that frames, drains and the release of WAL files overlap. Else
    /// nothing is under way when the power fails: I/O takes steps here, and a wait lets all of it end first.
    fn keep_busy(&mut self, rounds: u8, bytes: u16, polls: u32) {
        let mut never: Pin<Box<dyn Future<Output = ()>>> = Box::pin(std::future::pending());
        for _ in 0..rounds {
            (0..SLOTS as u8).for_each(|slot| self.append_many(slot, 1, 0, bytes));
            self.world.run_for(polls, &mut never);
        }
    }

    /// Cuts the power in the middle of recovery.
    fn open_in_vain(&mut self, cores: u16, polls: u16) {
        self.world.open_for(cores, u32::from(polls));
        self.world.crash();
    }

    /// Lets everything acknowledged be vouched for, then breaks something.
    fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::LoseWalWrite => self.lose_write(".wal"),
            Fault::LoseSegmentWrite => self.lose_write(".log"),
            _ => {}
        }
        self.world.wait(Duration::from_millis(500));
        self.note_durable();
        match fault {
            Fault::FlipWal { file, position, bit } => self.flip("/wal/", file, position, bit),
            Fault::FlipSegment { file, position, bit } => self.flip(".log", file, position, bit),
            Fault::LoseWalWrite | Fault::LoseSegmentWrite => {}
        }
    }

    fn lose_write(&mut self, path_part: &str) {
        self.tainted = true;
        self.world.disk.lose_next_write(path_part);
        for slot in 0..SLOTS as u8 {
            self.append_many(slot, 2, 1, 2000);
            self.append_many(slot, 1, 1, 9000);
        }
    }

    fn flip(&mut self, path_part: &str, file: u8, position: u16, bit: u8) {
        let mut files = self.world.disk.files();
        files.retain(|(path, bytes)| path.to_string_lossy().contains(path_part) && !bytes.is_empty());
        let Some((path, bytes)) = files.get(usize::from(file) % files.len().max(1)) else { return };
        // Mostly where something was written.
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let at = used * usize::from(position) / 65536;
        assert!(self.world.disk.flip_bit(path, at as u64, bit));
        self.tainted = true;
    }

    fn read_everything(&mut self) {
        for slot in 0..SLOTS as u8 {
            self.read_all(slot);
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let small = (any::<u8>(), 1..12u8, any::<u8>(), 50..3000u16);
    let large = (any::<u8>(), 1..6u8, any::<u8>(), 5000..20000u16);
    prop_oneof![
        10 => small.prop_map(|(log, count, records, bytes)| Op::Append { log, count, records, bytes }),
        4 => large.prop_map(|(log, count, records, bytes)| Op::Append { log, count, records, bytes }),
        5 => (any::<u8>(), any::<u8>(), any::<u16>()).prop_map(|(log, from, bytes_max)| Op::Read { log, from, bytes_max }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(log, time)| Op::OffsetAt { log, time }),
        4 => (0..60u16).prop_map(|ms| Op::Wait { ms }),
        1 => (1000..3000u16).prop_map(|ms| Op::Wait { ms }),
        2 => any::<u8>().prop_map(|log| Op::Flush { log }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(log, flushed)| Op::Sync { log, flushed }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(log, patient)| Op::Patient { log, patient }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(log, kib)| Op::Retain { log, kib }),
        1 => any::<u8>().prop_map(|log| Op::NextEpoch { log }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(log, part)| Op::DeleteRecords { log, part }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(log, part)| Op::Cut { log, part }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(log, at)| Op::BeginAnew { log, at }),
        2 => (any::<u8>(), any::<u8>(), any::<bool>(), 0..40u16, 0..2 * RECOVERY_POLLS).prop_map(
            |(log, part, anew, polls, recovery_polls)| Op::CutAndCrash { log, part, anew, polls, recovery_polls }
        ),
        1 => any::<u8>().prop_map(|log| Op::Delete { log }),
        2 => any::<u8>().prop_map(|cores| Op::Reopen { cores }),
        4 => any::<u8>().prop_map(|cores| Op::Crash { cores }),
        2 => (any::<u8>(), 0..RECOVERY_POLLS).prop_map(|(cores, polls)| Op::CrashTwice { cores, polls }),
        3 => (any::<bool>(), 1..40u8, 50..1500u16, 1..6u8, any::<u8>()).prop_map(
            |(trims, rounds, bytes, polls, cores)| Op::CrashBusy { trims, rounds, bytes, polls, cores }
        ),
        1 => any::<u8>().prop_map(|appends| Op::FullDisk { appends }),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let place = || (any::<u8>(), any::<u16>(), any::<u8>());
    prop_oneof![
        3 => place().prop_map(|(file, position, bit)| Fault::FlipWal { file, position, bit }),
        3 => place().prop_map(|(file, position, bit)| Fault::FlipSegment { file, position, bit }),
        1 => Just(Fault::LoseWalWrite),
        1 => Just(Fault::LoseSegmentWrite),
    ]
}

fn config() -> ProptestConfig {
    let cases =
        std::env::var("HEDDLE_PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_acknowledged_is_lost(seed in any::<u64>(), ops in prop::collection::vec(op(), 1..40)) {
        let mut test = Test::new(seed);
        ops.iter().for_each(|op| test.apply(op));
        test.read_everything();
        test.crash();
        test.reopen(2);
        test.read_everything();
    }

    #[test]
    fn a_damaged_disk_is_noticed_and_never_served(
        seed in any::<u64>(),
        ops in prop::collection::vec(op(), 1..25),
        fault in fault(),
        read_before_crash in any::<bool>(),
    ) {
        let mut test = Test::new(seed);
        ops.iter().for_each(|op| test.apply(op));
        test.inject(fault);
        if read_before_crash {
            test.read_everything();
        }
        test.crash();
        if test.reopen(2) {
            test.read_everything();
            test.crash();
            if test.reopen(1) {
                test.read_everything();
            }
        }
    }
}

/// No state record had ever been written of the log that begins anew.
#[test]
fn a_new_log_begins_anew_or_is_as_before() {
    let never = 2 * RECOVERY_POLLS;
    for polls in 0..20 {
        let mut test = Test::new(194_325_233_268_027);
        let ops = [
            Op::CutAndCrash { log: 200, part: 0, anew: false, polls: 0, recovery_polls: never },
            Op::Crash { cores: 15 },
            Op::FullDisk { appends: 3 },
            Op::Append { log: 0, count: 1, records: 0, bytes: 50 },
            Op::CutAndCrash { log: 12, part: 0, anew: true, polls, recovery_polls: never },
        ];
        ops.iter().for_each(|op| test.apply(op));
        test.read_everything();
    }
}

/// The models own the whole history, so that this never happens unnoticed.
#[test]
fn the_oracle_notices_a_wrong_byte() {
    let mut test = Test::new(1);
    test.append(0, 1, 100).unwrap();
    test.models.get_mut(&0).unwrap().batches[0].bytes = Bytes::from_static(b"other");
    let noticed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test.read_all(0)));
    assert!(noticed.is_err());
    let _ = test.world.disk.now();
}

/// Recovery is interrupted while it lets go of the old write-ahead logs, and the next one may have more cores: none of the files
/// may be missed, what was deleted must stay deleted, and what is written from then on counts.
#[test]
fn a_recovery_that_is_interrupted_at_any_step_can_be_repeated() {
    for polls in 0..3 * RECOVERY_POLLS {
        for rounds in [25, 60] {
            let mut test = Test::new(u64::from(polls));
            test.keep_busy(rounds, 1000, 4);
            let ops = [
                Op::Delete { log: 2 },
                Op::Delete { log: 3 },
                Op::CrashTwice { cores: polls as u8, polls },
                Op::CrashBusy { trims: false, rounds: 3, bytes: 100, polls: 6, cores: 1 },
            ];
            ops.iter().for_each(|op| test.apply(op));
            test.read_everything();
        }
    }
}
