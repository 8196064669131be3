//! Taking back the end of a log, with the power failing at every step of it and of the recovery after it.
//!
//! Either the log is as it was before, or it ends, or begins, exactly where it was to; its owner gets the state that belongs
//! to it; and what was taken back never returns.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use heddle_log_store::{Log, LogConfig, MemoryDisk, StorageError, SyncMode};
use heddle_proto::ids::Offset;
use support::{OwnerState, World, make_batch, partition, tiny};

type Cutting = Pin<Box<dyn Future<Output = Result<(), StorageError>>>>;

/// A log and what is done to it. Batch `n` has offset `n`.
#[derive(Copy, Clone, Debug)]
struct Case {
    sync: SyncMode,
    batch_count: i64,
    batch_bytes: usize,
    /// Time to drain before the cut.
    wait: Duration,
    /// Batches appended right before the cut, not yet durable.
    fresh_count: i64,
    to: i64,
    anew: bool,
}

/// A log that lives in the write-ahead log alone, without any state record.
const NEW: Case = Case {
    sync: SyncMode::Wal,
    batch_count: 2,
    batch_bytes: 50,
    wait: Duration::ZERO,
    fresh_count: 0,
    to: 1,
    anew: false,
};

/// One with several segments, a part that is not drained, and several files of the write-ahead log.
const LARGE: Case = Case { batch_count: 120, batch_bytes: 1500, fresh_count: 3, to: 70, ..NEW };

const FLUSHED: SyncMode = SyncMode::Flush { after: Duration::from_millis(40), bytes: 20 << 10 };

const CASES: [Case; 13] = [
    NEW,
    Case { anew: true, ..NEW },
    Case { to: 29, anew: true, ..NEW },
    Case { to: 0, ..NEW },
    Case { fresh_count: 1, to: 3, ..NEW },
    LARGE,
    Case { to: 121, ..LARGE },
    Case { to: 0, ..LARGE },
    Case { to: 20, wait: Duration::from_secs(3), ..LARGE },
    Case { to: 20, anew: true, ..LARGE },
    Case { to: 500, anew: true, wait: Duration::from_secs(3), ..LARGE },
    Case { sync: FLUSHED, to: 119, ..LARGE },
    Case { sync: FLUSHED, to: 122, ..LARGE },
];

impl Case {
    fn config(self) -> LogConfig {
        LogConfig { sync: self.sync, segment_bytes: 40 << 10, ..LogConfig::default() }
    }

    fn log(self, world: &World) -> Log<MemoryDisk> {
        world.log(partition(0), self.config())
    }

    fn batch(self, offset: i64) -> (Bytes, heddle_proto::batch::BatchHeader) {
        make_batch(Offset::new(offset), 0, 1, self.batch_bytes, 1000)
    }

    fn append(self, world: &mut World) {
        let log = self.log(world);
        let (batch, header) = self.batch(log.positions().written.get());
        while !world.nodes[0].store.has_room(batch.len()) {
            world.wait(Duration::from_millis(1));
        }
        log.append(batch, &header).unwrap();
        let mut states = world.nodes[0].owner.states.borrow_mut();
        states.entry(log.id()).or_default().add(&header);
    }

    /// A log as it is before the cut.
    fn world(self) -> World {
        let mut world = World::new(7, tiny(), 1);
        (0..self.batch_count).for_each(|_| self.append(&mut world));
        world.run(self.log(&world).flush()).unwrap();
        world.wait(self.wait);
        (0..self.fresh_count).for_each(|_| self.append(&mut world));
        world
    }

    /// Begins the cut, and sets the owner back in the same moment.
    fn start(self, world: &World) -> Cutting {
        let (log, to) = (self.log(world), Offset::new(self.to));
        let cutting: Cutting = if self.anew { Box::pin(log.begin_anew(to)) } else { Box::pin(log.cut(to)) };
        self.set_owner(world, &log, self.after());
        cutting
    }

    fn set_owner(self, world: &World, log: &Log<MemoryDisk>, state: OwnerState) {
        world.nodes[0].owner.states.borrow_mut().insert(log.id(), state);
        world.nodes[0].owner.durable.borrow_mut().remove(&log.id());
    }

    /// The owner's state when the cut is made.
    fn after(self) -> OwnerState {
        OwnerState { batches: if self.anew { 0 } else { self.to as u64 }, end: self.to }
    }

    /// Looks at what a start recovered; returns whether the cut is made.
    fn check(self, world: &mut World) -> bool {
        let log = self.log(world);
        let (snapshot, headers) = log.recovered_state();
        let mut state = snapshot.map_or(OwnerState::default(), |bytes| OwnerState::decode(&bytes));
        headers.iter().for_each(|header| state.add(header));
        let (positions, after) = (log.positions(), self.after());
        let (start, end) = (positions.start.get(), positions.written.get());
        assert_eq!((log.damage(), positions.durable), (None, positions.written), "{self:?}");
        let is_made = state == after && end == self.to && start == if self.anew { self.to } else { 0 };
        let is_before = (self.batch_count..=self.batch_count + self.fresh_count).contains(&end)
            && start == 0
            && state == OwnerState { batches: end as u64, end };
        assert!(is_made || is_before, "{self:?}: {positions:?}, the owner gets {state:?}");
        self.set_owner(world, &log, state);
        for offset in start..end {
            let read = world.run(log.read(Offset::new(offset), positions.written, 1)).unwrap();
            assert_eq!(read, [self.batch(offset).0], "{self:?} at {offset}");
        }
        is_made
    }

    /// The power fails when the cut has been polled so often. Returns whether it had ended.
    fn interrupted(self, polls: u32) -> (World, bool) {
        let mut world = self.world();
        let mut cutting = self.start(&world);
        let is_done = world.run_for(polls, &mut cutting).is_some();
        drop(cutting);
        world.crash();
        (world, is_done)
    }

    /// After how many polls the cut is sure to be made, although it has not ended.
    fn announced(self) -> u32 {
        (1..)
            .find(|polls| {
                let (mut world, is_done) = self.interrupted(*polls);
                assert!(!is_done, "{self:?} ends without having been announced");
                world.open(1).unwrap();
                self.check(&mut world)
            })
            .unwrap()
    }
}

#[test]
fn a_cut_is_made_or_not_wherever_the_power_fails() {
    for case in CASES {
        for polls in 1.. {
            let (mut world, is_done) = case.interrupted(polls);
            world.open(1).unwrap();
            let is_made = case.check(&mut world);
            // What was appended behind it stays, and nothing else comes back.
            case.append(&mut world);
            let end = case.log(&world).positions().written;
            world.run(case.log(&world).flush()).unwrap();
            world.crash();
            world.open(1).unwrap();
            assert_eq!(case.log(&world).positions().written, end, "{case:?} after {polls} polls");
            if is_done {
                assert!(is_made, "{case:?} ended and is not made");
                break;
            }
        }
    }
}

#[test]
fn a_cut_stays_made_wherever_the_power_fails_during_recovery() {
    for case in CASES {
        let announced = case.announced();
        for polls in (1..).step_by(2) {
            let (mut world, _) = case.interrupted(announced);
            let is_open = world.open_for(1, polls);
            world.crash();
            world.open(2).unwrap();
            assert!(case.check(&mut world), "{case:?} after {polls} polls of recovery");
            if is_open {
                break;
            }
        }
    }
}

#[test]
fn a_start_that_moves_gives_way_to_a_log_that_begins_anew() {
    let case = Case { wait: Duration::from_secs(3), ..LARGE };
    let mut world = case.world();
    let log = case.log(&world);
    let mut deleting: Pin<Box<dyn Future<Output = _>>> = Box::pin({
        let log = log.clone();
        async move { log.delete_records(Offset::new(60)).await }
    });
    assert!(world.run_for(1, &mut deleting).is_none());
    let cutting = Case { to: 5, anew: true, ..case }.start(&world);
    let (deleted, cut) = world.run(futures_lite::future::zip(deleting, cutting));
    cut.unwrap();
    deleted.unwrap();
    // Until the cut was made the owner may have been told of what it takes back.
    world.nodes[0].owner.durable.borrow_mut().remove(&log.id());
    let positions = log.positions();
    assert_eq!((positions.start, positions.written), (Offset::new(5), Offset::new(5)));
    case.append(&mut world);
    world.run(log.flush()).unwrap();
}

#[test]
fn a_deletion_ends_a_cut() {
    let mut world = LARGE.world();
    let cutting = LARGE.start(&world);
    let store = world.nodes[0].store.clone();
    let deleting = async move { store.delete(partition(0)).await };
    let (cut, deleted) = world.run(futures_lite::future::zip(cutting, deleting));
    cut.unwrap();
    deleted.unwrap();
    world.crash();
    world.open(1).unwrap();
    assert!(world.nodes[0].store.recovered().is_empty());
}
