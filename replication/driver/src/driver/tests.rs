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
    (0..80).for_each(|_| append_to(&log));
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
    let mut pair = Pair::new();
    pair.grant(0, 1);
    let (epoch, life, zero) = (Epoch::new(1), Life(1), Offset::ZERO);
    let join = Join { epoch, life, start: zero, end: zero, committed: zero, history: History::default() };
    pair.hear(Message::Join(join));
    pair.hear(Message::Ack { epoch, life, written: zero, held: None, version: 0 });
    (0..20).for_each(|_| pair.produce());
    let appends = |driver: &mut Driver<MemoryDisk>| {
        let said = driver.flush_to(Duration::ZERO, Pair::peer()).map_or(Vec::new(), |frame| frame.said);
        said.iter().filter(|said| !said.batches.is_empty()).count()
    };
    assert!(appends(&mut pair.driver) > 0 && appends(&mut pair.driver) == 0, "the window is full");
    pair.grant(1, 2);
    let taken = Some((pair.driver.connections[&Pair::peer()].number, 8000));
    let connection = connection::number_in(life, 1);
    pair.driver.receive(Duration::ZERO, Pair::peer(), Frame { connection, taken, said: Vec::new() });
    assert_eq!(appends(&mut pair.driver), 0);
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

/// A partition beside the one of a [`Pair`].
fn another() -> TopicPartition {
    TopicPartition::new(TopicId::new([2; 16]), PartitionIndex::new(0))
}

fn append_to(log: &Log<MemoryDisk>) {
    let mut batch = large_batch();
    batch::assign(&mut batch, log.positions().written, Epoch::new(1));
    let header = BatchHeader::parse(&batch).unwrap();
    log.append(batch.freeze(), &header).unwrap();
}

/// A driver with one replica, and another on node 1.
struct Pair {
    disk: MemoryDisk,
    logs: LogStore<MemoryDisk>,
    log: Log<MemoryDisk>,
    driver: Driver<MemoryDisk>,
    partition: TopicPartition,
    nodes: BTreeSet<NodeId>,
}

impl Pair {
    fn new() -> Self {
        let disk = MemoryDisk::new(1);
        let logs = store(&disk, RecoveredPartitions::new());
        let partition = TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(0));
        let log = logs.log(partition, LogConfig::default());
        let mut driver = driver(disk.clone(), logs.clone());
        driver.options.stream = SMALL;
        let nodes = BTreeSet::from([NodeId::new(0), NodeId::new(1)]);
        driver.add(Duration::ZERO, placement(partition, nodes.clone()), log.clone());
        Self { disk, logs, log, driver, partition, nodes }
    }

    fn grant(&mut self, leader: u32, epoch: i32) {
        self.driver.granted(Duration::ZERO, self.partition, led_by(leader, epoch, self.nodes.clone()));
    }

    fn peer() -> Peer {
        Peer { node: NodeId::new(1), core: CoreId::new(0) }
    }

    /// Node 1 says something.
    fn hear(&mut self, message: Message) {
        self.hear_said(Said { partition: self.partition, message, batches: Vec::new() });
    }

    fn hear_said(&mut self, said: Said) {
        let frame = Frame { connection: connection::number_in(Life(1), 1), taken: None, said: vec![said] };
        self.driver.receive(Duration::ZERO, Self::peer(), frame);
    }

    /// Node 1 sends a record at offset 0 as the leader of epoch 1.
    fn hear_record(&mut self, committed: i64) {
        self.hear_record_of(self.partition, committed);
    }

    fn hear_record_of(&mut self, partition: TopicPartition, committed: i64) {
        let (epoch, life, history) = (Epoch::new(1), Life(1), History::default());
        let (from, upto, committed) = (Offset::ZERO, Offset::new(1), Offset::new(committed));
        let mut batch = large_batch();
        batch::assign(&mut batch, from, epoch);
        let message = Message::Append { epoch, life, from, upto, history, committed };
        self.hear_said(Said { partition, message, batches: vec![batch.freeze()] });
    }

    /// What of its records node 1 is told now to have been taken, in bytes of all so far.
    fn taken_bytes(&mut self) -> Option<u64> {
        Some(self.driver.flush_to(Duration::ZERO, Self::peer())?.taken?.1)
    }

    fn append(&self) {
        append_to(&self.log);
    }

    fn produce(&mut self) {
        self.driver.produce(Duration::ZERO, self.partition, large_batch()).unwrap();
    }

    /// Runs what is to be done, what comes of it too, and gives it `time`.
    fn work(&mut self, now: Duration, time: Duration) {
        for _ in 0..3 {
            for job in self.driver.jobs() {
                let done = run(&self.disk, &self.logs, job.run()).unwrap();
                self.driver.done(now, done);
            }
            run(&self.disk, &self.logs, self.disk.sleep(time));
            self.driver.durable(now, self.log.id());
        }
    }

    fn durable_after(&self, time: Duration) -> i64 {
        run(&self.disk, &self.logs, self.disk.sleep(time));
        self.log.positions().durable.get()
    }
}

/// Four batches of two records, in a segment.
fn append_pairs(pair: &Pair) {
    for _ in 0..4 {
        let mut builder = BatchBuilder::new(Compression::None);
        (0..2).for_each(|_| builder.push(Timestamp::new(1), None, Some(b"value"), &[]).unwrap());
        let mut batch = builder.build().unwrap();
        batch::assign(&mut batch, pair.log.positions().written, Epoch::new(1));
        let header = BatchHeader::parse(&batch).unwrap();
        pair.log.append(batch.freeze(), &header).unwrap();
    }
    run(&pair.disk, &pair.logs, pair.disk.sleep(Duration::from_secs(4)));
}

#[test]
fn who_is_left_with_a_part_of_a_batch_shares_nothing_of_it_and_begins_anew_before_it() {
    let mut pair = Pair::new();
    append_pairs(&pair);
    run(&pair.disk, &pair.logs, pair.log.delete_records(Offset::new(3))).unwrap();
    pair.driver.remove(pair.partition);
    pair.driver.add(Duration::ZERO, placement(pair.partition, pair.nodes.clone()), pair.log.clone());
    pair.grant(1, 1);
    let said = pair.driver.flush_to(Duration::ZERO, Pair::peer()).unwrap().said;
    let joins: Vec<&Join> = said
        .iter()
        .filter_map(|said| match &said.message {
            Message::Join(join) => Some(join),
            _ => None,
        })
        .collect();
    let whole = joins.iter().map(|join| (join.start.get(), join.end.get(), join.committed.get()));
    assert_eq!(whole.collect::<Vec<_>>(), [(0, 8, 0)], "where a batch begins, not where reading does");
    let (epoch, life) = (Epoch::new(1), Life(1));
    let (start, shared, elected_end) = (Offset::ZERO, Offset::new(2), Offset::ZERO);
    pair.hear(Message::Welcome { epoch, life, shared, start, elected_end, committed: shared });
    let mut jobs = pair.driver.jobs();
    jobs.retain(|job| matches!(job, Job::Cut { .. }));
    let Some(job) = jobs.pop() else { panic!("nothing is cut") };
    run(&pair.disk, &pair.logs, job.run()).unwrap();
    let left = pair.log.positions();
    assert_eq!((left.start, left.written), (shared, shared), "reading began behind the cut");
}

#[test]
fn a_read_from_before_the_start_says_where_whole_batches_begin() {
    let pair = Pair::new();
    append_pairs(&pair);
    let read = |from, upto| {
        let (peer, partition, log) = (Pair::peer(), pair.partition, pair.log.clone());
        let (from, upto) = (Offset::new(from), Offset::new(upto));
        let job = ReadJob { peer, connection: 1, partition, ticket: 1, log, from, upto, bytes_max: 1 << 20 };
        let done = run(&pair.disk, &pair.logs, Job::Read(job).run()).unwrap();
        let Done::Read { batches, begin, .. } = done else { panic!("{done:?}") };
        let ends = batches.iter().map(|batch| BatchHeader::parse(batch).unwrap().next_offset().get());
        (ends.collect::<Vec<_>>(), begin.map(Offset::get))
    };
    assert_eq!(read(0, 8), (vec![2, 4, 6, 8], None));
    run(&pair.disk, &pair.logs, pair.log.delete_records(Offset::new(3))).unwrap();
    assert_eq!(pair.log.begin(), Offset::ZERO, "of the segment, which is there still");
    assert_eq!(read(0, 8), (vec![], Some(2)), "the batch that holds the start");
    assert_eq!(read(0, 2), (vec![], Some(2)), "all that was wanted is gone");
    assert_eq!(read(2, 6), (vec![4, 6], None), "that batch as a whole, and no more than was wanted");
    run(&pair.disk, &pair.logs, pair.log.delete_records(Offset::new(8))).unwrap();
    assert_eq!(read(2, 8), (vec![], Some(8)), "nothing is left");
}

/// Long enough for a group of the WAL, not for a log that is patient.
const SOON: Duration = Duration::from_millis(20);

#[test]
fn records_that_others_have_long_committed_wait_for_a_large_write_and_no_others_do() {
    let mut pair = Pair::new();
    pair.grant(1, 1);
    pair.hear_record(12);
    pair.append();
    assert_eq!((pair.durable_after(SOON), pair.durable_after(5 * SOON)), (0, 1), "far behind");
    pair.hear_record(11);
    pair.append();
    assert_eq!(pair.durable_after(SOON), 2, "near the end");
    pair.hear_record(12);
    pair.append();
    assert_eq!(pair.durable_after(SOON), 2, "far behind again");
    pair.hear_record(11);
    assert_eq!(pair.durable_after(SOON), 3, "what waited does not any more");
}

#[test]
fn who_is_placed_on_a_node_that_stops_stops_too() {
    let mut pair = Pair::new();
    pair.driver.stop(Duration::ZERO);
    let other = another();
    let log = pair.logs.log(other, LogConfig::default());
    pair.driver.add(Duration::ZERO, placement(other, pair.nodes.clone()), log);
    pair.driver.granted(Duration::ZERO, other, led_by(0, 1, pair.nodes.clone()));
    pair.work(Duration::ZERO, SOON);
    let events = pair.driver.events();
    let stopped: BTreeSet<&TopicPartition> = events
        .iter()
        .filter_map(|event| match event {
            Event::Stopped(partition) => Some(partition),
            _ => None,
        })
        .collect();
    assert_eq!(stopped, BTreeSet::from([&other, &pair.partition]));
    assert_eq!(pair.driver.replica(other).unwrap().leads(), None);
}

#[test]
fn a_member_that_comes_back_with_little_leaves_the_in_sync_set_at_once() {
    let second = Duration::from_secs(1);
    let left_after = |arrived: i64, held: Option<i64>| {
        let mut pair = Pair::new();
        pair.grant(0, 1);
        (0..20).for_each(|_| pair.produce());
        pair.work(Duration::ZERO, SOON);
        assert_eq!(pair.driver.replica(pair.partition).unwrap().committed(), Offset::new(20));
        let (epoch, life, zero) = (Epoch::new(1), Life(1), Offset::ZERO);
        let join = Join { epoch, life, start: zero, end: zero, committed: zero, history: History::default() };
        pair.hear(Message::Join(join));
        pair.driver.tick(Duration::ZERO);
        let (written, held) = (Offset::new(arrived), held.map(Offset::new));
        pair.hear(Message::Ack { epoch, life, written, held, version: 0 });
        pair.driver.events();
        pair.driver.tick(second);
        let is_change =
            |event: &Event| matches!(event, Event::Change(_, change) if change.members.len() == 1);
        pair.driver.events().iter().any(is_change)
    };
    assert!(left_after(0, None), "as with a new disk");
    assert!(!left_after(10, None), "there soon");
    assert!(!left_after(0, Some(0)), "slow, but it has all it had");
}

#[test]
fn who_is_far_behind_waits_when_memory_fills_and_who_keeps_up_does_not() {
    let mut pair = Pair::new();
    pair.grant(1, 1);
    let keeps_up = another();
    let log = pair.logs.log(keeps_up, LogConfig::default());
    pair.driver.add(Duration::ZERO, placement(keeps_up, pair.nodes.clone()), log);
    pair.driver.granted(Duration::ZERO, keeps_up, led_by(1, 1, pair.nodes.clone()));
    let batch_bytes = large_batch().len() as u64;
    (0..30).for_each(|_| pair.append()); // more than a quarter of the memory
    pair.hear_record(100);
    pair.hear_record(100);
    assert_eq!(pair.taken_bytes(), None, "far behind");
    pair.hear_record_of(keeps_up, 11);
    assert_eq!(pair.taken_bytes(), Some(batch_bytes), "keeps up");
    pair.hear_record(100);
    assert_eq!(pair.taken_bytes(), None, "far behind still");
    run(&pair.disk, &pair.logs, pair.disk.sleep(Duration::from_secs(4)));
    assert_eq!(pair.taken_bytes(), Some(4 * batch_bytes), "there is room again");
    pair.hear_record(100);
    assert_eq!(pair.taken_bytes(), Some(5 * batch_bytes), "and there was");
}

#[test]
fn what_clients_write_elsewhere_does_not_keep_a_replica_from_catching_up() {
    let mut pair = Pair::new();
    pair.grant(1, 1);
    let other = pair.logs.log(another(), LogConfig::default());
    (0..45).for_each(|_| append_to(&other)); // nearly half of the memory, and it stays that
    let batch_bytes = large_batch().len() as u64;
    pair.hear_record(100);
    assert_eq!(pair.taken_bytes(), Some(batch_bytes));
    (0..15).for_each(|_| pair.append()); // less than a quarter, and more than half of one
    pair.log.set_patient(false);
    pair.log.set_patient(true);
    pair.hear_record(100);
    assert_eq!(pair.taken_bytes(), Some(2 * batch_bytes), "it counts what it has itself, once");
}

#[test]
fn a_leader_makes_records_durable_at_once_however_far_behind_it_was() {
    let mut pair = Pair::new();
    pair.grant(0, 1);
    pair.log.set_patient(true);
    pair.produce();
    assert_eq!(pair.durable_after(SOON), 1);
}

#[test]
fn who_is_not_followed_does_not_decide_how_soon_records_are_durable() {
    let mut pair = Pair::new();
    pair.grant(0, 2);
    pair.produce();
    pair.hear_record(1000);
    assert_eq!(pair.durable_after(SOON), 1, "from the leader of an epoch that is over");
}
