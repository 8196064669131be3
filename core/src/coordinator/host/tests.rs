//! A host over a real partition on the in-memory disk: what is seen before it is durable, what a crash leaves, what is
//! refused, and that nothing is lost for want of memory.

use std::collections::BTreeMap;

use futures_lite::future::{self, FutureExt};
use heddle_log_store::{LogStore, MemoryDisk, Options, list_wal_dirs, replay_wal};
use heddle_proto::ids::{CoreId, Epoch, Offset, TopicId, TopicPartition};
use proptest::prelude::*;

use super::*;
use crate::{
    metadata::{TopicConfig, internal::InternalTopic},
    runtime::{mesh::LocalFuture, oneshot::Cancelled},
    shard::hooks::ShardHooks,
};

/// Remembers texts by name. `Wait` is answered at a deadline.
#[derive(Default)]
struct Notes {
    notes: BTreeMap<String, String>,
    sleepers: BTreeMap<Millis, Vec<RequestId>>,
    ticks: u32,
    last_write: WriteSequence,
}

#[derive(Clone, Debug)]
enum Ask {
    Put(String, String),
    Get(String),
    Wait(Duration),
}

impl StateMachine for Notes {
    type Request = Ask;
    type Notice = ();
    type Reply = Option<String>;
    type Action = String;

    fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string());
        match value {
            Some(value) => drop(self.notes.insert(text(key)?, text(value)?)),
            None => drop(self.notes.remove(&text(key)?)),
        }
        Ok(())
    }

    fn loaded(&mut self, _now: Millis) -> Effects<Option<String>, String> {
        Effects::default()
    }

    fn apply(&mut self, input: Input<Ask, ()>, now: Millis) -> Effects<Option<String>, String> {
        let mut effects = Effects::default();
        match input {
            Input::Request(id, Ask::Put(key, value)) => {
                self.last_write = self.last_write.next();
                let record = KeyValue { key: key.clone().into(), value: Some(value.clone().into()) };
                effects.write = Some(Write { sequence: self.last_write, records: vec![record] });
                effects.actions.push(Held { after: self.last_write, what: value.clone() });
                let before = self.notes.insert(key, value);
                effects.replies.push(Held { after: self.last_write, what: (id, before) });
            }
            Input::Request(id, Ask::Get(key)) => {
                let what = (id, self.notes.get(&key).cloned());
                effects.replies.push(Held { after: self.last_write, what });
            }
            Input::Request(id, Ask::Wait(span)) => {
                self.sleepers.entry(now.plus(span)).or_default().push(id);
            }
            Input::Notice(()) => {}
            Input::Tick => {
                self.ticks += 1;
                let later = self.sleepers.split_off(&now.plus(Duration::from_millis(1)));
                let due = std::mem::replace(&mut self.sleepers, later);
                let due = due.into_values().flatten();
                effects
                    .replies
                    .extend(due.map(|id| Held { after: WriteSequence::default(), what: (id, None) }));
            }
        }
        effects
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.sleepers.first_key_value().map(|(at, _)| *at)
    }

    fn unload(self, _error: ErrorCode) -> Vec<(RequestId, Option<String>)> {
        let waiting = self.sleepers.into_values().flatten();
        waiting.map(|id| (id, Some("unloaded".to_owned()))).collect()
    }
}

struct Node {
    store: LogStore<MemoryDisk>,
    host: Rc<Host<Notes, MemoryDisk>>,
    acted: Rc<RefCell<Vec<String>>>,
    runner: RefCell<LocalFuture<()>>,
    /// The store's loops. They are polled or left alone, and never dropped before the disk is: a write that was begun
    /// and forgotten would be a gap in the log.
    loops: RefCell<LocalFuture<()>>,
}

fn options() -> Options {
    // Little to zero at every start.
    Options {
        dir: "/data".into(),
        wal_file_bytes: 256 << 10,
        wal_files_max: 4,
        group_bytes_max: 64 << 10,
        direct_drain_bytes: 32 << 10,
        io_bytes_max: 64 << 10,
        preallocate_bytes_max: 64 << 10,
        snapshot_bytes_max: 16 << 10,
        ..Options::default()
    }
}

async fn open(disk: &MemoryDisk, options: Options) -> Node {
    let mut recovered = BTreeMap::new();
    let dirs = list_wal_dirs(disk, &options).await.expect("lists");
    for dir in &dirs {
        recovered.extend(replay_wal(disk, &options, *dir).await.expect("replays").partitions);
    }
    let hooks: Rc<ShardHooks<MemoryDisk>> = Rc::default();
    let store = LogStore::open(disk.clone(), options, CoreId::new(0), recovered, hooks.clone()).await;
    let store = store.expect("opens");
    store.retire_old_wals(&dirs).await.expect("retires");
    let at = TopicPartition::new(TopicId::new([3; 16]), PartitionIndex::new(0));
    let settings = InternalTopic::Groups.overrides();
    let config = std::sync::Arc::new(TopicConfig::parse(&settings).expect("are valid"));
    let log = store.log(at, config.log);
    let id = log.id();
    let partition = Partition::new(at, "notes".into(), log, Epoch::new(0), config, None);
    hooks.attach(id, &partition);
    let acted: Rc<RefCell<Vec<String>>> = Rc::default();
    let acts = acted.clone();
    let host = Host::new(HostParts {
        partition,
        store: store.clone(),
        room: hooks.room(),
        make: Box::new(Notes::default),
        act: Box::new(move |action| acts.borrow_mut().push(action)),
    });
    let running = host.clone();
    let runner: LocalFuture<()> = Box::pin(async move {
        running.run().await;
        future::pending().await
    });
    let (commit, background) = (store.clone(), store.clone());
    let loops: LocalFuture<()> = Box::pin(async move {
        let commit = async move { drop(commit.run_commit().await) };
        commit.or(async move { drop(background.run_background().await) }).await;
        future::pending().await
    });
    Node { store, host, acted, runner: RefCell::new(runner), loops: RefCell::new(loops) }
}

/// Runs a test with the host beside it, and nothing that makes anything durable.
async fn without_disk<T>(node: &Node, test: impl Future<Output = T>) -> T {
    let host = future::poll_fn(|cx| {
        assert!(node.runner.borrow_mut().as_mut().poll(cx).is_pending());
        std::task::Poll::Pending
    });
    test.or(host).await
}

/// Runs a test with the host and the store's loops beside it.
async fn with_disk<T>(node: &Node, test: impl Future<Output = T>) -> T {
    let loops = future::poll_fn(|cx| {
        assert!(node.loops.borrow_mut().as_mut().poll(cx).is_pending());
        std::task::Poll::Pending
    });
    without_disk(node, test).or(loops).await
}

fn put(key: &str, value: &str) -> Ask {
    Ask::Put(key.into(), value.into())
}

async fn ready(node: &Node) {
    while !node.host.is_ready() {
        future::yield_now().await;
    }
}

async fn ask(node: &Node, ask: Ask) -> Result<Option<String>, Cancelled> {
    node.host.call(ask).expect("is loaded").await
}

#[test]
fn nothing_is_seen_before_it_is_durable() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, options()).await;
        assert_eq!(node.host.call(put("a", "1")).map(drop), Err(ErrorCode::CoordinatorLoadInProgress));
        without_disk(&node, ready(&node)).await;
        let mut told = node.host.call(put("a", "1")).expect("is loaded");
        let mut seen = node.host.call(Ask::Get("a".into())).expect("is loaded");
        without_disk(&node, async {
            for _ in 0..100 {
                assert!(future::poll_once(&mut told).await.is_none(), "told before it was written");
                assert!(future::poll_once(&mut seen).await.is_none(), "seen before it was written");
                future::yield_now().await;
            }
        })
        .await;
        assert!(node.acted.borrow().is_empty(), "acted before it was written");
    });
    let disk = disk.crash();
    disk.run(async {
        let node = open(&disk, options()).await;
        with_disk(&node, async {
            ready(&node).await;
            assert_eq!(ask(&node, Ask::Get("a".into())).await, Ok(None), "a reply could have rested on it");
            assert_eq!(ask(&node, put("a", "2")).await, Ok(None));
            assert_eq!(ask(&node, Ask::Get("a".into())).await, Ok(Some("2".into())));
        })
        .await;
        assert_eq!(*node.acted.borrow(), ["2"]);
        assert_eq!(node.host.waiting_count(), 0);
    });
}

#[test]
fn one_sleep_serves_all_deadlines() {
    let disk = MemoryDisk::new(2);
    disk.run(async {
        let node = open(&disk, options()).await;
        with_disk(&node, async {
            ready(&node).await;
            let begun = node.host.now();
            let spans = [7_000, 50, 3_600_000, 50, 1];
            let waits = spans.map(|span| node.host.call(Ask::Wait(Duration::from_millis(span))));
            let [long, short, never, same, first] = waits.map(|wait| wait.expect("is loaded"));
            for (wait, span) in [(first, 1), (short, 50), (same, 50), (long, 7_000)] {
                assert_eq!(wait.await, Ok(None));
                let passed = node.host.now().since(begun);
                assert!(passed >= Duration::from_millis(span), "woken after {passed:?} instead of {span} ms");
            }
            drop(never);
            assert_eq!(node.host.inspect(|notes| notes.ticks), Some(3), "one tick for each deadline");
        })
        .await;
    });
}

#[test]
fn a_host_that_is_stopped_refuses_whoever_waits() {
    let disk = MemoryDisk::new(3);
    disk.run(async {
        let node = open(&disk, options()).await;
        with_disk(&node, ready(&node)).await;
        let unwritten = node.host.call(put("a", "1")).expect("is loaded");
        let asleep = node.host.call(Ask::Wait(Duration::from_secs(60))).expect("is loaded");
        node.host.stop(ErrorCode::NotCoordinator);
        assert_eq!(unwritten.await, Err(Cancelled), "nobody knows whether it will be durable");
        assert_eq!(asleep.await, Ok(Some("unloaded".into())));
        assert_eq!(node.host.call(put("b", "1")).map(drop), Err(ErrorCode::NotCoordinator));
        node.host.clone().run().await;
    });
}

#[test]
fn a_partition_that_is_deleted_stops_its_host() {
    let disk = MemoryDisk::new(4);
    disk.run(async {
        let node = open(&disk, options()).await;
        with_disk(&node, ready(&node)).await;
        let unwritten = node.host.call(put("a", "1")).expect("is loaded");
        node.host.parts.partition.close();
        with_disk(&node, async {
            while !node.host.is_stopped() {
                future::yield_now().await;
            }
        })
        .await;
        assert_eq!(unwritten.await, Err(Cancelled));
        assert!(node.host.is_stopped());
    });
}

#[test]
fn a_refused_write_takes_the_state_back_to_what_is_on_disk() {
    let disk = MemoryDisk::new(5);
    disk.run(async {
        let options = Options { reserve_bytes: 64 << 20, ..options() };
        let node = open(&disk, options).await;
        with_disk(&node, async {
            ready(&node).await;
            assert_eq!(ask(&node, put("a", "1")).await, Ok(None));
            disk.set_capacity(Some(disk.used_bytes() + (1 << 20)));
            let patience = node.host.now();
            while !node.store.stats().disk_full {
                assert!(node.host.now().since(patience) < Duration::from_secs(600), "the disk is never full");
                disk.sleep(Duration::from_secs(1)).await;
            }
            assert_eq!(ask(&node, put("a", "2")).await, Err(Cancelled));
            ready(&node).await;
            assert_eq!(ask(&node, Ask::Get("a".into())).await, Ok(Some("1".into())));
            disk.set_capacity(None);
            while node.store.stats().disk_full {
                disk.sleep(Duration::from_secs(1)).await;
            }
            assert_eq!(ask(&node, put("a", "3")).await, Ok(Some("1".into())));
        })
        .await;
        assert_eq!(*node.acted.borrow(), ["1", "3"]);
    });
}

#[test]
fn writes_wait_for_memory_in_their_order() {
    let disk = MemoryDisk::new(6);
    disk.run(async {
        let node = open(&disk, Options { dirty_bytes_max: 1 << 20, ..options() }).await;
        with_disk(&node, ready(&node)).await;
        let text = "x".repeat(300 << 10);
        let puts: Vec<_> = (0..20).map(|n| node.host.call(put("a", &format!("{n}{text}")))).collect();
        assert!(node.host.backlog.borrow().bytes() > 4 << 20, "nothing waits: the test is too small");
        with_disk(&node, async {
            for (n, reply) in puts.into_iter().enumerate() {
                let before = n.checked_sub(1).map(|n| format!("{n}{text}"));
                assert_eq!(reply.expect("was taken").await, Ok(before));
            }
        })
        .await;
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..200 {
            match node.host.call(put("a", &text)) {
                Ok(_) => taken += 1,
                Err(error) => {
                    assert_eq!(error, ErrorCode::CoordinatorNotAvailable);
                    refused += 1;
                }
            }
        }
        assert!(taken > 20 && refused > 100, "{taken} taken, {refused} refused");
        assert!(node.host.backlog.borrow().bytes() < BACKLOG_BYTES_MAX + text.len() * 2);
    });
}

#[test]
fn what_cannot_be_understood_keeps_the_coordinator_down() {
    let disk = MemoryDisk::new(7);
    disk.run(async {
        let node = open(&disk, options()).await;
        let record = KeyValue { key: vec![0xff, 0xfe], value: Some(Vec::new()) };
        let bytes = batch::encode(&[record], Timestamp::new(1)).expect("fits").remove(0);
        node.host
            .parts
            .partition
            .produce(bytes, None, Acks::Quorum, Timestamp::new(1))
            .map(drop)
            .expect("fits");
        with_disk(&node, disk.sleep(Duration::from_secs(60))).await;
        assert_eq!(node.host.call(put("a", "1")).map(drop), Err(ErrorCode::CoordinatorNotAvailable));
        assert!(node.host.is_unreadable());
    });
}

#[test]
fn a_write_larger_than_a_batch_is_told_when_all_of_it_is_durable() {
    let value = vec![0; 5 << 20];
    let records: Vec<_> =
        (0..7u8).map(|key| KeyValue { key: vec![key], value: Some(value.clone()) }).collect();
    let batches = batch::encode(&records, Timestamp::new(1)).expect("no record is too large");
    assert_eq!(batches.len(), 3);
    let disk = MemoryDisk::new(9);
    disk.run(async {
        let node = open(&disk, options()).await;
        with_disk(&node, ready(&node)).await;
        node.host.write(&Write { sequence: WriteSequence::new(1), records }).expect("is taken");
        let unsettled = node.host.unsettled.borrow();
        let backlog = node.host.backlog.borrow().sequences();
        let reached: Vec<_> = unsettled.iter().map(|(sequence, _)| *sequence).chain(backlog).collect();
        assert_eq!(reached, [0, 0, 1].map(WriteSequence::new));
    });
    let huge = KeyValue { key: Vec::new(), value: Some(vec![0; 17 << 20]) };
    assert!(batch::encode(&[huge], Timestamp::new(1)).is_err());
}

/// One step of a life, by chance.
#[derive(Clone, Debug)]
enum Step {
    /// Puts so many values, without waiting.
    Puts(u8),
    /// Lets everything run for so many turns.
    Turns(u16),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..20u8).prop_map(Step::Puts),
        4 => (0..400u16).prop_map(Step::Turns),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 40 } else { 2_000 }))]

    /// Whatever was told before a crash is there after it, and what is there is a prefix of what was asked.
    #[test]
    fn a_crash_takes_back_nothing_that_was_told(seed: u64, steps in prop::collection::vec(step(), 1..30)) {
        let mut disk = MemoryDisk::new(seed);
        let (mut asked, mut told) = (0u64, 0u64);
        let mut steps = steps.into_iter();
        let mut is_over = false;
        while !is_over {
            is_over = true;
            disk.run(async {
                let node = open(&disk, options()).await;
                with_disk(&node, ready(&node)).await;
                let found = with_disk(&node, ask(&node, Ask::Get("n".into()))).await.expect("answers");
                let found: u64 = found.map_or(0, |n| n.parse().expect("is a number"));
                assert!((told..=asked).contains(&found), "{told} were told, {asked} asked, {found} are there");
                let mut pending = VecDeque::new();
                asked = found;
                told = found;
                for step in steps.by_ref() {
                    match step {
                        Step::Puts(count) => {
                            for _ in 0..count {
                                asked += 1;
                                let reply = node.host.call(put("n", &asked.to_string())).expect("is loaded");
                                pending.push_back((asked, reply));
                            }
                        }
                        Step::Turns(count) => {
                            let turns = async {
                                for _ in 0..count {
                                    future::yield_now().await;
                                }
                            };
                            with_disk(&node, turns).await;
                        }
                        Step::Crash => {
                            is_over = false;
                            break;
                        }
                    }
                    while let Some((n, reply)) = pending.front_mut() {
                        let Some(reply) = future::poll_once(reply).await else { break };
                        reply.expect("is told");
                        told = *n;
                        pending.pop_front();
                    }
                }
                assert!(pending.iter_mut().skip(1).all(|(_, reply)| future::block_on(future::poll_once(reply)).is_none()),
                    "told out of order");
            });
            disk = disk.crash();
        }
    }
}

#[test]
fn a_long_partition_is_read_in_pieces() {
    let disk = MemoryDisk::new(8);
    disk.run(async {
        let node = open(&disk, options()).await;
        with_disk(&node, async {
            ready(&node).await;
            for n in 0..400 {
                ask(&node, put(&format!("{n}"), &"x".repeat(4 << 10))).await.expect("is told");
            }
        })
        .await;
        let end = node.host.parts.partition.committed();
        assert_eq!(end, Offset::new(400));
    });
    let disk = disk.crash();
    disk.run(async {
        let node = open(&disk, options()).await;
        let turns = Cell::new(0);
        let count = async {
            loop {
                turns.set(turns.get() + 1);
                future::yield_now().await;
            }
        };
        ready(&node).or(with_disk(&node, count)).await;
        assert_eq!(node.host.inspect(|notes| notes.notes.len()), Some(400));
        assert!(turns.get() > 10, "others got {} turns", turns.get());
    });
}
