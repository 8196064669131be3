//! What a driver does beyond its parts: damage, flow control, what is said again, the clock.

use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;

use heddle_log_store::{Hooks, LogConfig, MemoryDisk, RecoveredPartitions, WriteTimes, replay_wal};
use heddle_proto::batch::{BatchBuilder, Compression};
use heddle_proto::ids::{PartitionIndex, Timestamp, TopicId};
use heddle_replication::message::Join;
use heddle_replication::quorum::InSync;
use heddle_replication::replica::Hold;
use heddle_replication::rules::Rules;

use super::*;

struct Nobody;

impl Hooks for Nobody {
    fn durable(&self, _: LogId, _: Offset, _: WriteTimes) {}
}

fn store(disk: &MemoryDisk, found: RecoveredPartitions) -> LogStore<MemoryDisk> {
    let options = heddle_log_store::Options {
        dir: "/data".into(),
        wal_file_bytes: 1 << 20,
        cache_bytes_max: 0,
        dirty_bytes_max: 100_000,
        state_interval_bytes: 1, // so that a start takes what is drained on trust
        ..heddle_log_store::Options::default()
    };
    disk.run(LogStore::open(disk.clone(), options, CoreId::new(0), found, Rc::new(Nobody))).unwrap()
}

/// A stream that a few batches fill.
const SMALL: stream::Options = stream::Options {
    window_bytes: 8000,
    catch_up_window_bytes: 2000,
    frame_bytes_max: 1000,
    catch_up_bytes_per_second: 1 << 30,
    commit_delay: Duration::from_millis(5),
};

fn large_batch() -> BytesMut {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp::new(1), None, Some(&[7; 1000]), &[]).unwrap();
    builder.build().unwrap()
}

fn driver(disk: MemoryDisk, store: LogStore<MemoryDisk>) -> Driver<MemoryDisk> {
    let files = PromiseFiles::new(disk, PathBuf::from("/data/promises"));
    Driver::new(NodeId::new(0), Life(1), Options::default(), store, files, None)
}

/// A replica on core 0 of each of these nodes.
fn placement(partition: TopicPartition, replicas: BTreeSet<NodeId>) -> Placement {
    Placement {
        partition,
        config: Config { hold: Hold::Durable, catch_up_records_max: 10, rules: Rules::default() },
        cores: replicas.iter().map(|node| (*node, CoreId::new(0))).collect(),
        replicas,
        history: History::default(),
        is_damaged: false,
        newest_epoch: Epoch::new(0),
        was_led: false,
    }
}

fn led_by_node_1(members: BTreeSet<NodeId>) -> Grant {
    led_by(1, 1, members)
}

fn led_by(node: u32, epoch: i32, members: BTreeSet<NodeId>) -> Grant {
    let in_sync = InSync { members, quorum: 1, commit_all: false, version: 0 };
    let (epoch, primary, lossy) = (Epoch::new(epoch), Some((NodeId::new(node), Life(1))), Epoch::new(0));
    Grant { epoch, primary, in_sync, lossy }
}

/// Runs `work` with the loops of the store behind it.
fn run<T>(disk: &MemoryDisk, store: &LogStore<MemoryDisk>, work: impl Future<Output = T>) -> T {
    let (mut commit, mut background) = (pin!(store.run_commit()), pin!(store.run_background()));
    let mut work = pin!(work);
    disk.run(std::future::poll_fn(|cx| {
        assert!(commit.as_mut().poll(cx).is_pending() && background.as_mut().poll(cx).is_pending());
        work.as_mut().poll(cx)
    }))
}

#[test]
fn damage_that_any_reader_meets_is_told_when_the_next_start_knows_of_it() {
    (0..20).for_each(damage_is_told_when_the_next_start_knows_of_it);
}

fn damage_is_told_when_the_next_start_knows_of_it(seed: u64) {
    let disk = MemoryDisk::new(seed);
    let logs = store(&disk, RecoveredPartitions::new());
    let partition = TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(0));
    let log = logs.log(partition, LogConfig::default());
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp::new(1), None, Some(b"value"), &[]).unwrap();
    let mut batch = builder.build().unwrap();
    batch::assign(&mut batch, Offset::ZERO, Epoch::new(1));
    let header = BatchHeader::parse(&batch).unwrap();
    log.append(batch.freeze(), &header).unwrap();
    run(&disk, &logs, disk.sleep(Duration::from_secs(4)));
    let mut driver = driver(disk.clone(), logs.clone());
    driver.add(Duration::ZERO, placement(partition, BTreeSet::new()), log.clone());
    let damage_jobs = |driver: &mut Driver<MemoryDisk>| {
        driver.tick(Duration::ZERO);
        let is_about_damage = |job: &Job<MemoryDisk>| matches!(job, Job::Damage { .. });
        driver.jobs().into_iter().filter(is_about_damage).collect::<Vec<_>>()
    };
    assert!(damage_jobs(&mut driver).is_empty());

    let files = disk.files();
    let (path, bytes) =
        files.iter().find(|(path, _)| path.extension().is_some_and(|is| is == "log")).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    assert!(disk.flip_bit(path, last as u64, 1));
    run(&disk, &logs, log.read(Offset::ZERO, Offset::new(1), 1000)).unwrap_err();

    let mut jobs = damage_jobs(&mut driver);
    assert!(jobs.len() == 1 && damage_jobs(&mut driver).is_empty(), "once");
    assert_eq!(driver.events(), []);
    let done = run(&disk, &logs, jobs.remove(0).run()).unwrap();
    driver.done(Duration::ZERO, done);
    assert!(matches!(driver.events()[..], [Event::Damaged(at, _)] if at == partition));

    let disk = disk.crash();
    let options = heddle_log_store::Options { dir: "/data".into(), ..Default::default() };
    let found = disk.run(replay_wal(&disk, &options, 0)).unwrap().partitions;
    let damage = store(&disk, found).log(partition, LogConfig::default()).damage();
    assert_eq!(damage.map(|damage| damage.offset), Some(Offset::ZERO));
}

#[test]
fn peers_are_told_what_was_taken_when_there_is_room_for_more() {
    let disk = MemoryDisk::new(1);
    let logs = store(&disk, RecoveredPartitions::new());
    let partition = |index| TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(index));
    let log = logs.log(partition(0), LogConfig::default());
    for offset in 0..80 {
        let mut batch = large_batch();
        batch::assign(&mut batch, Offset::new(offset), Epoch::new(1));
        let header = BatchHeader::parse(&batch).unwrap();
        log.append(batch.freeze(), &header).unwrap();
    }
    let batch = large_batch().freeze();
    let mut driver = driver(disk.clone(), logs.clone());
    driver.options.stream = SMALL;
    let peer = Peer { node: NodeId::new(1), core: CoreId::new(0) };
    let message = Message::Commit { epoch: Epoch::new(1), life: Life(1), committed: Offset::ZERO };
    let said = Said { partition: partition(1), message, batches: vec![batch.clone()] };
    let connection = connection::number_in(Life(1), 1);
    driver.receive(Duration::ZERO, peer, Frame { connection, taken: None, said: vec![said] });
    let taken = |driver: &mut Driver<MemoryDisk>| driver.flush_to(Duration::ZERO, peer)?.taken;
    assert_eq!(taken(&mut driver), None, "these batches nearly fill the memory, and none is in its segment");
    run(&disk, &logs, disk.sleep(Duration::from_secs(4)));
    assert_eq!(taken(&mut driver), Some((connection, batch.len() as u64)));
    assert_eq!(taken(&mut driver), None, "it was told");
}

#[test]
fn who_leads_no_more_sends_no_more_records() {
    let disk = MemoryDisk::new(1);
    let logs = store(&disk, RecoveredPartitions::new());
    let partition = TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(0));
    let log = logs.log(partition, LogConfig::default());
    let mut driver = driver(disk.clone(), logs.clone());
    driver.options.stream = SMALL;
    let (nodes, now, peer) = (
        BTreeSet::from([NodeId::new(0), NodeId::new(1)]),
        Duration::ZERO,
        Peer { node: NodeId::new(1), core: CoreId::new(0) },
    );
    driver.add(now, placement(partition, nodes.clone()), log);
    driver.granted(now, partition, led_by(0, 1, nodes.clone()));
    let (epoch, life, connection) = (Epoch::new(1), Life(1), connection::number_in(Life(1), 1));
    let zero = Offset::ZERO;
    let join = Join { epoch, life, start: zero, end: zero, committed: zero, history: History::default() };
    let ack = Message::Ack { epoch, life, written: zero, held: None };
    for message in [Message::Join(join), ack] {
        let said = vec![Said { partition, message, batches: Vec::new() }];
        driver.receive(now, peer, Frame { connection, taken: None, said });
    }
    for _ in 0..20 {
        driver.produce(now, partition, large_batch()).unwrap();
    }
    let appends = |driver: &mut Driver<MemoryDisk>| {
        let said = driver.flush_to(now, peer).map_or(Vec::new(), |frame| frame.said);
        said.iter().filter(|said| !said.batches.is_empty()).count()
    };
    assert!(appends(&mut driver) > 0 && appends(&mut driver) == 0, "the window is full");
    driver.granted(now, partition, led_by(1, 2, nodes));
    let taken = Some((driver.connections[&peer].number, 8000));
    driver.receive(now, peer, Frame { connection, taken, said: Vec::new() });
    assert_eq!(appends(&mut driver), 0);
}

#[test]
fn every_join_that_is_not_answered_is_said_again_however_many_share_the_connection() {
    let disk = MemoryDisk::new(1);
    let logs = store(&disk, RecoveredPartitions::new());
    let mut driver = driver(disk.clone(), logs.clone());
    let peer = Peer { node: NodeId::new(1), core: CoreId::new(0) };
    let nodes = BTreeSet::from([NodeId::new(0), NodeId::new(1)]);
    for index in 0..20 {
        let partition = TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(index));
        let log = logs.log(partition, LogConfig::default());
        driver.add(Duration::ZERO, placement(partition, nodes.clone()), log);
        driver.granted(Duration::ZERO, partition, led_by_node_1(nodes.clone()));
    }
    let said = |driver: &mut Driver<MemoryDisk>, now| {
        driver.tick(now);
        driver.flush_to(now, peer).map_or(0, |frame| frame.said.len())
    };
    let after = driver.options.resend_after;
    assert_eq!(said(&mut driver, Duration::ZERO), 20);
    assert_eq!(said(&mut driver, after / 10), 0);
    let mut now = Duration::ZERO;
    for _ in 0..3 {
        now += after;
        assert_eq!(said(&mut driver, now), 20);
    }
}

#[test]
fn a_promise_under_way_is_not_one_of_a_replica_that_comes_in_its_place() {
    let disk = MemoryDisk::new(1);
    let logs = store(&disk, RecoveredPartitions::new());
    let mut driver = driver(disk.clone(), logs.clone());
    let partition = TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(0));
    let nodes = BTreeSet::from([NodeId::new(0), NodeId::new(1)]);
    let log = logs.log(partition, LogConfig::default());
    driver.add(Duration::ZERO, placement(partition, nodes.clone()), log.clone());
    driver.seal(Duration::ZERO, partition, Epoch::new(1));
    let mut writing = driver.jobs();
    assert!(matches!(writing[..], [Job::Promises { .. }]));

    driver.remove(partition);
    driver.add(Duration::ZERO, placement(partition, nodes), log);
    driver.seal(Duration::ZERO, partition, Epoch::new(2));
    let done = run(&disk, &logs, writing.remove(0).run()).unwrap();
    driver.done(Duration::ZERO, done);
    assert_eq!(driver.events(), [], "nobody has promised anything");
    let write = |driver: &mut Driver<MemoryDisk>| {
        for job in driver.jobs() {
            let done = run(&disk, &logs, job.run()).unwrap();
            driver.done(Duration::ZERO, done);
        }
        driver.events()
    };
    assert_eq!(write(&mut driver), [], "its first promise is one of its start");
    let answers = write(&mut driver);
    assert!(matches!(answers[..], [Event::Answer(_, epoch, _)] if epoch == Epoch::new(2)), "{answers:?}");

    driver.remove(partition);
    write(&mut driver);
    let found = disk.run(driver.files.read()).unwrap();
    assert_eq!(
        found.map(|(promises, _)| promises),
        Some(Promises::new()),
        "what is gone has promised nothing"
    );
}

#[test]
fn the_clock_gets_round_to_every_partition_at_rest() {
    let disk = MemoryDisk::new(1);
    let logs = store(&disk, RecoveredPartitions::new());
    for count in [1, 39, 100] {
        let mut driver = driver(disk.clone(), logs.clone());
        for index in 0..count {
            let partition = TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(index));
            let log = logs.log(partition, LogConfig::default());
            driver.add(Duration::ZERO, placement(partition, BTreeSet::new()), log);
        }
        driver.tick(Duration::ZERO);
        assert_eq!(driver.restless, [], "nothing is due for them");
        let moved = TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(0));
        driver.place(Duration::ZERO, moved, BTreeSet::new(), BTreeMap::new());
        assert_eq!(driver.restless, [moved], "other nodes are to have replicas");
        driver.granted(Duration::ZERO, moved, led_by_node_1(BTreeSet::from([NodeId::new(1)])));
        assert_eq!(driver.restless, [moved], "once");
        for _ in 0..50 {
            driver.tick(Duration::ZERO);
            assert_eq!(driver.restless, [moved], "it waits for its primary, and is listed once");
        }
        driver.remove(moved);
        driver.tick(Duration::ZERO);
        assert_eq!(driver.restless, []);
        driver.add(Duration::ZERO, placement(moved, BTreeSet::new()), logs.log(moved, LogConfig::default()));
        driver.tick(Duration::ZERO);
        let mut met = BTreeMap::new();
        for _ in 0..120 {
            for partition in driver.next_swept() {
                *met.entry(partition).or_insert(0) += 1;
            }
        }
        assert!(met.len() == count as usize && met.values().all(|times| *times >= 3), "{count}: {met:?}");
    }
}

#[test]
fn records_older_than_all_epochs_the_sender_knows_are_taken_with_their_own() {
    let batch_of = |base: i64, epoch: i32| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(Timestamp::new(1), None, Some(b"value"), &[]).unwrap();
        let mut bytes = builder.build().unwrap();
        batch::assign(&mut bytes, Offset::new(base), Epoch::new(epoch));
        bytes.freeze()
    };
    let history = |entries: &[(i32, i64)]| {
        let entries = entries.iter().map(|(epoch, start)| (Epoch::new(*epoch), Offset::new(*start)));
        History::from_entries(entries.collect()).unwrap()
    };
    let taken = |told: History| {
        let (epoch, life, committed) = (Epoch::new(9), Life(1), Offset::ZERO);
        let (from, upto) = (Offset::ZERO, Offset::new(3));
        let said = Said {
            partition: TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(0)),
            message: Message::Append { epoch, life, from, upto, history: told, committed },
            batches: vec![batch_of(0, 1), batch_of(1, 3), batch_of(2, 3)],
        };
        checked_batches(&said).map(|(_, epochs)| epochs)
    };
    let whole = || history(&[(1, 0), (3, 1)]);
    assert_eq!(taken(whole()), Some(whole()));
    assert_eq!(taken(history(&[(3, 1)])), Some(whole()));
    assert_eq!(taken(History::default()), Some(whole()));
    assert_eq!(taken(history(&[(2, 1)])), None);
    assert_eq!(taken(history(&[(1, 0), (4, 1)])), None);
}

#[test]
fn a_peer_that_has_restarted_gets_a_new_connection() {
    let disk = MemoryDisk::new(1);
    let mut driver = driver(disk.clone(), store(&disk, RecoveredPartitions::new()));
    let peer = Peer { node: NodeId::new(1), core: CoreId::new(0) };
    let mut number_after = |life, count| {
        let connection = connection::number_in(Life(life), count);
        driver.receive(Duration::ZERO, peer, Frame { connection, taken: None, said: Vec::new() });
        driver.connections[&peer].number
    };
    let first = number_after(1, 1);
    assert_eq!(number_after(1, 1), first);
    assert_eq!(number_after(1, 2), first, "only its own end is new");
    let second = number_after(2, 1);
    assert!(second > first, "what the life before has not taken is lost");
    assert_eq!(number_after(1, 3), second, "that life is over");
}

#[test]
fn records_that_others_have_long_committed_wait_for_a_large_write_and_no_others_do() {
    const SOON: Duration = Duration::from_millis(20);
    let disk = MemoryDisk::new(1);
    let logs = store(&disk, RecoveredPartitions::new());
    let partition = TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(0));
    let log = logs.log(partition, LogConfig::default());
    let mut driver = driver(disk.clone(), logs.clone());
    let (nodes, now) = (BTreeSet::from([NodeId::new(0), NodeId::new(1)]), Duration::ZERO);
    let peer = Peer { node: NodeId::new(1), core: CoreId::new(0) };
    driver.add(now, placement(partition, nodes.clone()), log.clone());
    driver.granted(now, partition, led_by_node_1(nodes.clone()));
    let hear = |driver: &mut Driver<MemoryDisk>, committed: i64| {
        let (epoch, life, history) = (Epoch::new(1), Life(1), History::default());
        let (from, upto, committed) = (Offset::ZERO, Offset::new(1), Offset::new(committed));
        let message = Message::Append { epoch, life, from, upto, history, committed };
        let mut batch = large_batch();
        batch::assign(&mut batch, from, epoch);
        let said = vec![Said { partition, message, batches: vec![batch.freeze()] }];
        driver.receive(now, peer, Frame { connection: connection::number_in(life, 1), taken: None, said });
    };
    let append = || {
        let mut batch = large_batch();
        batch::assign(&mut batch, log.positions().written, Epoch::new(1));
        let header = BatchHeader::parse(&batch).unwrap();
        log.append(batch.freeze(), &header).unwrap();
    };
    let durable_after = |time: Duration| {
        run(&disk, &logs, disk.sleep(time));
        log.positions().durable.get()
    };
    hear(&mut driver, 12);
    append();
    assert_eq!((durable_after(SOON), durable_after(5 * SOON)), (0, 1), "far behind");
    hear(&mut driver, 11);
    append();
    assert_eq!(durable_after(SOON), 2, "near the end");
    hear(&mut driver, 12);
    append();
    assert_eq!(durable_after(SOON), 2, "far behind again");
    hear(&mut driver, 11);
    assert_eq!(durable_after(SOON), 3, "what waited does not any more");
}

#[test]
fn a_new_leader_makes_records_durable_at_once_however_far_behind_it_was() {
    let disk = MemoryDisk::new(1);
    let logs = store(&disk, RecoveredPartitions::new());
    let partition = TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(0));
    let log = logs.log(partition, LogConfig::default());
    let mut driver = driver(disk.clone(), logs.clone());
    let (nodes, now) = (BTreeSet::from([NodeId::new(0), NodeId::new(1)]), Duration::ZERO);
    driver.add(now, placement(partition, nodes.clone()), log.clone());
    driver.granted(now, partition, led_by(0, 1, nodes));
    log.set_patient(true);
    driver.produce(now, partition, large_batch()).unwrap();
    run(&disk, &logs, disk.sleep(Duration::from_millis(20)));
    assert_eq!(log.positions().durable.get(), 1);
}
