//! Transactions in a partition against a model: random producers, markers, drains, deletions and crashes.
//!
//! The model is the list of batches that must be in the log. From it follows what is stable, what a reader of committed
//! records sees from any offset, and what a producer may send next; all of it is compared, also after crashes that take
//! back what was not durable. `HEDDLE_PROPTEST_CASES` sets how many cases run.

use std::time::Duration;

use heddle_log_store::Disk;
use heddle_proto::batch::{BatchHeader, Marker, Outcome};
use proptest::prelude::*;

use super::*;
use crate::partition::{
    produce::Accepted,
    transactions::{EndTransaction, Isolation, Permit, Standing},
};

const PRODUCERS: u8 = 3;

fn tiny() -> Options {
    Options {
        dir: "/data".into(),
        wal_file_bytes: 64 << 10,
        wal_files_max: 4,
        group_bytes_max: 16 << 10,
        direct_drain_bytes: 6 << 10,
        io_bytes_max: 16 << 10,
        drain_bytes: 2 << 10,
        drain_bytes_max: 4 << 10,
        cache_bytes_max: 1 << 10,
        index_interval_bytes: 1 << 10,
        index_cache_bytes_max: 1 << 10,
        read_ahead_bytes_min: 4 << 10,
        read_ahead_bytes_max: 32 << 10,
        preallocate_bytes_max: 64 << 10,
        state_interval_bytes: 8 << 10,
        snapshot_bytes_max: 8 << 10,
        ..Options::default()
    }
}

fn small_segments() -> TopicConfig {
    let mut config = TopicConfig::parse(&BTreeMap::new()).expect("valid settings");
    config.log.retention_age = None;
    config.log.segment_bytes = 12 << 10; // three blocks: markers and their transactions lie in different segments
    config
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Transactional,
    Marker(Outcome),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    base: i64,
    count: i64,
    producer: i64,
    epoch: i16,
    sequence: i32,
    kind: Kind,
}

#[derive(Clone, Copy, Default)]
struct Known {
    epoch: i16,
    next: i32,
    open: Option<i64>,
}

#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    start: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.entries.last().map_or(0, |entry| entry.base + entry.count)
    }

    fn known(&self, producer: i64) -> Known {
        let mut known = Known::default();
        for entry in self.entries.iter().filter(|entry| entry.producer == producer) {
            if entry.epoch != known.epoch {
                known = Known { epoch: entry.epoch, next: 0, ..known };
            }
            match entry.kind {
                Kind::Marker(_) => known.open = None,
                _ => known.next = entry.sequence + entry.count as i32,
            }
            if entry.kind == Kind::Transactional {
                known.open.get_or_insert(entry.base);
            }
        }
        known
    }

    /// The marker that ends the transaction of a batch.
    fn end_of(&self, batch: &Entry) -> Option<Outcome> {
        self.entries.iter().find_map(|entry| match entry.kind {
            Kind::Marker(outcome) if entry.producer == batch.producer && entry.base > batch.base => {
                Some(outcome)
            }
            _ => None,
        })
    }

    fn stable(&self) -> i64 {
        let open = |entry: &&Entry| entry.kind == Kind::Transactional && self.end_of(entry).is_none();
        self.entries.iter().find(open).map_or(self.end(), |entry| entry.base).max(self.start)
    }

    /// Offsets of the records that a reader of committed records sees from `from` on.
    fn visible(&self, from: i64) -> Vec<i64> {
        let counts = |entry: &&Entry| match entry.kind {
            Kind::Plain => true,
            Kind::Transactional => self.end_of(entry) == Some(Outcome::Commit),
            Kind::Marker(_) => false,
        };
        let entries = self.entries.iter().filter(counts);
        let offsets = entries.flat_map(|entry| entry.base..entry.base + entry.count);
        offsets.filter(|offset| (from..self.stable()).contains(offset)).collect()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Plain { count: u8 },
    Write { producer: u8, count: u8 },
    Stray { producer: u8 },
    End { producer: u8, commits: bool, raises: bool },
    EndAgain { producer: u8 },
    Settle,
    Idle,
    Delete { part: u8 },
    Read { part: u8 },
    Crash,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let producer = 0..PRODUCERS;
    prop_oneof![
        3 => (1..5_u8).prop_map(|count| Op::Plain { count }),
        10 => (producer.clone(), 1..5_u8).prop_map(|(producer, count)| Op::Write { producer, count }),
        1 => producer.clone().prop_map(|producer| Op::Stray { producer }),
        8 => (producer.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(producer, commits, raises)| Op::End { producer, commits, raises }),
        1 => producer.prop_map(|producer| Op::EndAgain { producer }),
        4 => Just(Op::Settle),
        2 => Just(Op::Idle),
        1 => any::<u8>().prop_map(|part| Op::Delete { part }),
        4 => any::<u8>().prop_map(|part| Op::Read { part }),
        2 => Just(Op::Crash),
        1 => Just(Op::Reopen),
    ]
}

struct World {
    disk: MemoryDisk,
    partition: Option<Rc<Partition<MemoryDisk>>>,
    epoch: i32,
    model: Model,
    /// Everything below was reported durable.
    durable: i64,
    waiting: Vec<Accepted>,
}

impl World {
    fn new(seed: u64) -> World {
        let (disk, model) = (MemoryDisk::new(seed), Model::default());
        World { disk, partition: None, epoch: 0, model, durable: 0, waiting: Vec::new() }
    }

    /// Boots, does what is asked until a crash, and crashes. Whether everything was done.
    fn live(&mut self, ops: &mut std::slice::Iter<'_, Op>) -> bool {
        let disk = self.disk.clone();
        let is_done = disk.run(async {
            let node = open_with(&disk, self.epoch, small_segments(), tiny()).await;
            self.recovered(node.partition.clone());
            with_loops(&node, self.run(ops)).await
        });
        self.waiting.clear();
        self.partition = None;
        self.disk = disk.crash();
        is_done
    }

    async fn run(&mut self, ops: &mut std::slice::Iter<'_, Op>) -> bool {
        for op in ops {
            self.apply(op).await;
            self.check_stable();
            if matches!(op, Op::Crash | Op::Reopen) {
                return false;
            }
        }
        for part in [0, 100, 200] {
            self.read(part).await;
        }
        true
    }

    fn recovered(&mut self, partition: Rc<Partition<MemoryDisk>>) {
        let written = partition.log().positions().written.get();
        assert!(written >= self.durable, "{written} is less than was acknowledged: {}", self.durable);
        self.model.entries.retain(|entry| entry.base + entry.count <= written);
        assert_eq!(self.model.end(), written);
        self.durable = written;
        self.model.start = partition.start().get();
        self.partition = Some(partition);
        self.epoch += 1;
        self.check_stable();
    }

    fn partition(&self) -> Rc<Partition<MemoryDisk>> {
        self.partition.clone().expect("is open")
    }

    async fn settle(&mut self) {
        for accepted in std::mem::take(&mut self.waiting) {
            accepted.settled().await.expect("is durable");
        }
        self.durable = self.model.end();
        self.check_stable();
    }

    /// Stable is what the model says as far as everything is committed, and never more.
    fn check_stable(&self) {
        let partition = self.partition();
        let (stable, committed) = (partition.stable().get(), partition.committed().get());
        assert!(stable <= committed.max(self.model.start));
        if committed == self.model.end() {
            assert_eq!(stable, self.model.stable());
        }
    }

    fn push(&mut self, producer: i64, count: u8, kind: Kind) {
        let base = self.model.end();
        let known = self.model.known(producer);
        let mut builder = BatchBuilder::new(Compression::None);
        if kind == Kind::Transactional {
            let (id, epoch) = (ProducerId::new(producer), ProducerEpoch::new(known.epoch));
            builder = builder.producer(id, epoch, Sequence::new(known.next)).transactional();
        }
        for _ in 0..count {
            builder.push(Timestamp::new(5), None, Some(&[7; 90]), &[]).expect("fits");
        }
        let permit = match kind {
            Kind::Transactional => self.permit(producer, known),
            _ => None,
        };
        let records = builder.build().expect("builds");
        let accepted = self
            .partition()
            .produce_permitted(records, None, Acks::Quorum, permit, NOW)
            .expect("is accepted");
        assert_eq!(accepted.base_offset.get(), base);
        self.waiting.push(accepted);
        let (epoch, sequence) = (known.epoch, known.next);
        self.model.entries.push(Entry { base, count: count.into(), producer, epoch, sequence, kind });
    }

    fn permit(&self, producer: i64, known: Known) -> Option<Permit> {
        let standing = self.partition().standing(ProducerId::new(producer), ProducerEpoch::new(known.epoch));
        match standing {
            Standing::Open => {
                assert!(known.open.is_some(), "a transaction is open that was ended");
                None
            }
            Standing::Ask(guard) => {
                assert!(known.open.is_none(), "an open transaction was forgotten");
                Some(Permit { guard, has_own_epoch: true })
            }
        }
    }

    fn end(&mut self, producer: i64, outcome: Outcome, raises: bool) {
        let known = self.model.known(producer);
        let epoch = known.epoch + i16::from(raises);
        let end = EndTransaction {
            producer: ProducerId::new(producer),
            epoch: ProducerEpoch::new(epoch),
            outcome,
            coordinator_epoch: 0,
        };
        let before = self.model.end();
        self.waiting.push(self.partition().end_transaction(end, NOW).expect("is written"));
        let written = self.partition().log().positions().written.get();
        let seen = self.model.entries.iter().any(|entry| entry.producer == producer);
        assert_eq!(written > before, known.open.is_some() || raises || !seen, "a marker was written twice");
        if written > before {
            let kind = Kind::Marker(outcome);
            self.model.entries.push(Entry { base: before, count: 1, producer, epoch, sequence: -1, kind });
        }
    }

    /// A batch of no transaction that the coordinator knows leaves no trace.
    fn stray(&mut self, producer: i64) {
        let known = self.model.known(producer);
        if known.open.is_some() {
            return;
        }
        let mut builder = BatchBuilder::new(Compression::None)
            .producer(ProducerId::new(producer), ProducerEpoch::new(known.epoch), Sequence::new(known.next))
            .transactional();
        builder.push(Timestamp::new(5), None, Some(b"stray"), &[]).expect("fits");
        let records = builder.build().expect("builds");
        let refused = self.partition().produce(records, None, Acks::Quorum, NOW).map(drop);
        assert_eq!(refused.expect_err("is refused").code(), ErrorCode::InvalidTxnState);
    }

    async fn delete(&mut self, part: u8) {
        self.settle().await;
        let before = self.model.start + (self.model.end() - self.model.start) * i64::from(part) / 255;
        let start = self.partition().log().delete_records(Offset::new(before)).await.expect("deletes");
        self.model.start = start.get();
    }

    async fn read(&mut self, part: u8) {
        self.settle().await;
        let from = self.model.start + (self.model.stable() - self.model.start) * i64::from(part) / 255;
        let seen = read_committed(&self.partition(), from).await;
        assert_eq!(seen, self.model.visible(from), "from {from}, of {:#?}", self.model.entries);
    }

    async fn apply(&mut self, op: &Op) {
        match *op {
            Op::Plain { count } => self.push(-1, count, Kind::Plain),
            Op::Write { producer, count } => self.push(producer.into(), count, Kind::Transactional),
            Op::Stray { producer } => self.stray(producer.into()),
            Op::End { producer, commits, raises } => {
                self.end(producer.into(), if commits { Outcome::Commit } else { Outcome::Abort }, raises);
            }
            Op::EndAgain { producer } => {
                self.end(producer.into(), Outcome::Abort, false);
                self.end(producer.into(), Outcome::Abort, false);
            }
            Op::Settle | Op::Reopen => self.settle().await,
            Op::Idle => {
                self.settle().await;
                self.disk.sleep(Duration::from_secs(3)).await;
            }
            Op::Delete { part } => self.delete(part).await,
            Op::Read { part } => self.read(part).await,
            Op::Crash => {}
        }
    }
}

/// What a Kafka client with `read_committed` makes of the replies: offsets of the records it shows.
async fn read_committed(partition: &Rc<Partition<MemoryDisk>>, from: i64) -> Vec<i64> {
    let (mut seen, mut next) = (Vec::new(), from);
    loop {
        let fetched =
            partition.fetch_isolated(Offset::new(next), 300, Isolation::ReadCommitted).await.expect("reads");
        if fetched.batches.is_empty() {
            assert_eq!(next, fetched.stable.get(), "nothing is given below what is stable");
            return seen;
        }
        let mut to_come: Vec<_> = fetched.aborted.clone();
        let mut aborted = Vec::new();
        for batch in &fetched.batches {
            let header = BatchHeader::parse(batch).expect("is a batch");
            let begun = |transaction: &heddle_log_store::Aborted| transaction.first <= header.last_offset();
            aborted.extend(to_come.iter().filter(|t| begun(t)).map(|t| t.producer));
            to_come.retain(|transaction| !begun(transaction));
            let skip = header.is_transactional() && aborted.contains(&header.producer_id);
            if let Some(marker) = Marker::parse(batch) {
                if marker.outcome == Outcome::Abort {
                    aborted.retain(|producer| *producer != header.producer_id);
                }
            } else if !skip {
                let offsets = header.base_offset.get()..header.next_offset().get();
                seen.extend(offsets.filter(|offset| *offset >= next));
            }
            next = header.next_offset().get();
        }
    }
}

fn config() -> ProptestConfig {
    let cases =
        std::env::var("HEDDLE_PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn readers_see_whole_transactions_or_nothing(seed in any::<u64>(), ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new(seed);
        let mut ops = ops.iter();
        while !world.live(&mut ops) {}
        world.live(&mut [].iter());
    }
}

fn write(
    node: &Node,
    producer: i64,
    epoch: i16,
    sequence: i32,
    permit: Option<Permit>,
) -> Result<Accepted, ProduceError> {
    let mut builder = BatchBuilder::new(Compression::None)
        .producer(ProducerId::new(producer), ProducerEpoch::new(epoch), Sequence::new(sequence))
        .transactional();
    builder.push(Timestamp::new(5), None, Some(b"v"), &[]).expect("fits");
    node.partition.produce_permitted(builder.build().expect("builds"), None, Acks::Quorum, permit, NOW)
}

fn permit(node: &Node, producer: i64) -> Permit {
    match node.partition.standing(ProducerId::new(producer), ProducerEpoch::new(0)) {
        Standing::Ask(guard) => Permit { guard, has_own_epoch: true },
        Standing::Open => panic!("nothing is open"),
    }
}

fn end_of(producer: i64, epoch: i16) -> EndTransaction {
    let (producer, epoch) = (ProducerId::new(producer), ProducerEpoch::new(epoch));
    EndTransaction { producer, epoch, outcome: Outcome::Abort, coordinator_epoch: 0 }
}

#[test]
fn a_batch_that_was_overtaken_by_its_marker_is_refused() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, 0, &[]).await;
        let permit = permit(&node, 7);
        drop(node.partition.end_transaction(end_of(7, 0), NOW).expect("is written"));
        let late = write(&node, 7, 0, 0, Some(permit)).map(drop).expect_err("it would hang for ever");
        assert_eq!(late.code(), ErrorCode::InvalidTxnState);
        drop(node.partition.end_transaction(end_of(7, 1), NOW).expect("is written"));
        let fenced = write(&node, 7, 0, 0, Some(self::permit(&node, 7))).map(drop).expect_err("is fenced");
        assert_eq!(fenced.code(), ErrorCode::InvalidProducerEpoch);
        let old = node.partition.end_transaction(end_of(7, 0), NOW).map(drop).expect_err("is an old marker");
        assert_eq!(old.code(), ErrorCode::InvalidProducerEpoch);
    });
}

#[test]
fn a_producer_nobody_knows_begins_with_sequence_0_where_epochs_rise() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, 0, &[]).await;
        let ask = permit(&node, 7);
        let gap = write(&node, 7, 0, 3, Some(ask)).map(drop).expect_err("0 to 2 are missing");
        assert_eq!(gap.code(), ErrorCode::OutOfOrderSequenceNumber);
        let without_epoch = Permit { has_own_epoch: false, ..ask };
        write(&node, 7, 0, 3, Some(without_epoch)).map(drop).expect("the first version cannot know");
        let mut plain = BatchBuilder::new(Compression::None);
        plain = plain.producer(ProducerId::new(7), ProducerEpoch::new(0), Sequence::new(4));
        plain.push(Timestamp::new(5), None, Some(b"v"), &[]).expect("fits");
        let outside = node.partition.produce(plain.build().expect("builds"), None, Acks::Quorum, NOW);
        assert_eq!(outside.map(drop).expect_err("is outside").code(), ErrorCode::InvalidTxnState);
    });
}

#[test]
fn sequences_survive_idle_hours_and_a_restart() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, 0, &[]).await;
        for sequence in 0..3 {
            let accepted = produce(&node, batch(&["x"], Some((7, sequence)))).expect("is new");
            with_loops(&node, accepted.settled()).await.expect("settles");
        }
        with_loops(&node, disk.sleep(Duration::from_secs(3 * 3600))).await;
        let again = produce(&node, batch(&["x"], Some((7, 2)))).expect("is a duplicate");
        assert_eq!(again.base_offset, Offset::new(2));
    });
    let disk = disk.crash();
    disk.run(async {
        let node = open(&disk, 1, &[]).await;
        assert_eq!(
            produce(&node, batch(&["x"], Some((7, 2)))).expect("is a duplicate").base_offset,
            Offset::new(2)
        );
        let gap = produce(&node, batch(&["x"], Some((7, 4)))).map(drop).expect_err("3 comes next");
        assert_eq!(gap.code(), ErrorCode::OutOfOrderSequenceNumber);
    });
}

#[test]
fn deleting_records_under_an_open_transaction_moves_what_is_stable() {
    let disk = MemoryDisk::new(1);
    disk.run(async {
        let node = open(&disk, 0, &[]).await;
        let accepted = write(&node, 7, 0, 0, Some(permit(&node, 7))).expect("is accepted");
        with_loops(&node, accepted.settled()).await.expect("settles");
        let accepted = produce(&node, batch(&["a", "b"], None)).expect("is accepted");
        with_loops(&node, accepted.settled()).await.expect("settles");
        assert_eq!(node.partition.stable(), Offset::ZERO);
        let log = node.partition.log();
        with_loops(&node, log.delete_records(Offset::new(2))).await.expect("deletes");
        assert_eq!(node.partition.stable(), Offset::new(2), "never below the start");
        let fetched = node
            .partition
            .fetch_isolated(Offset::new(2), 1000, Isolation::ReadCommitted)
            .await
            .expect("in range");
        assert!(fetched.batches.is_empty() && fetched.stable == Offset::new(2));
        let accepted = node.partition.end_transaction(end_of(7, 0), NOW).expect("is written");
        with_loops(&node, accepted.settled()).await.expect("settles");
        assert_eq!(node.partition.stable(), Offset::new(4), "readers go on");
    });
}
