//! The newest batches of a log in memory: how they get there, and how consumers near the end find them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use heddle_log_store::{
    Hooks, Log, LogConfig, LogId, LogStore, MemoryDisk, Options, RecoveredPartitions, WriteTimes,
};
use heddle_micro::{Case, Shape, in_chunk};
use heddle_proto::batch::BatchHeader;
use heddle_proto::{CoreId, Epoch, Offset, PartitionIndex, TopicId, TopicPartition};

/// A log is thrown away when it holds so much.
const KEPT_BYTES_MAX: usize = 8 << 20;

struct NoOwner;

impl Hooks for NoOwner {
    fn durable(&self, _: LogId, _: Offset, _: WriteTimes) {
        panic!("nothing is written here");
    }
}

/// An empty log whose commit loop does not run, so that everything stays where it was appended.
fn fresh_log() -> Log<MemoryDisk> {
    let options = Options {
        dir: "/data".into(),
        wal_file_bytes: 4 * KEPT_BYTES_MAX as u64,
        group_bytes_max: 4 * KEPT_BYTES_MAX,
        io_bytes_max: 4 * KEPT_BYTES_MAX,
        direct_drain_bytes: 3 * KEPT_BYTES_MAX,
        drain_bytes: 4 * KEPT_BYTES_MAX,
        dirty_bytes_max: 8 * KEPT_BYTES_MAX,
        ..Options::default()
    };
    let disk = MemoryDisk::new(1);
    let none = RecoveredPartitions::default();
    let open = LogStore::open(disk.clone(), options, CoreId::new(0), none, Rc::new(NoOwner));
    let store = disk.run(open).expect("an empty disk opens");
    let at = TopicPartition { topic: TopicId::new([9; 16]), partition: PartitionIndex::new(0) };
    store.log(at, LogConfig::default())
}

/// A batch that begins at `base`, and its header.
fn batch_at(shape: Shape, base: Offset) -> (Bytes, BatchHeader) {
    let mut batch = heddle_micro::batch(shape);
    heddle_proto::batch::assign(&mut batch, base, Epoch::new(7));
    let header = BatchHeader::parse(&batch).expect("the sample is a batch");
    (batch.freeze(), header)
}

/// One batch of so many records joins the tail and the open commit group.
pub struct Append {
    log: RefCell<Log<MemoryDisk>>,
    kept_bytes: Cell<usize>,
    batch: Bytes,
    header: BatchHeader,
}

impl Case for Append {
    type Input = Bytes;
    type Output = Offset;

    fn new(shape: Shape) -> Self {
        let (batch, header) = batch_at(shape, Offset::ZERO);
        Append { log: RefCell::new(fresh_log()), kept_bytes: Cell::new(0), batch, header }
    }

    fn input(&self) -> Bytes {
        let kept_bytes = self.kept_bytes.get() + self.batch.len();
        self.kept_bytes.set(kept_bytes);
        if kept_bytes > KEPT_BYTES_MAX {
            self.kept_bytes.set(0);
            self.log.replace(fresh_log());
        }
        in_chunk(&self.batch).freeze()
    }

    fn run(&self, batch: Bytes) -> Offset {
        let log = self.log.borrow();
        let base_offset = log.positions().written;
        let header = BatchHeader { base_offset, ..self.header };
        log.append(batch, &header).expect("there is room");
        base_offset
    }

    fn check(&self, base: Offset) {
        let log = self.log.borrow();
        let end = base.plus(i64::from(self.header.record_count));
        assert_eq!(log.positions().written, end);
        assert_eq!(log.read_cached(base, end, usize::MAX).as_deref(), Some(&[self.batch.clone()][..]));
    }
}

/// One batch is read from a tail of a few hundred.
pub struct Read {
    log: Log<MemoryDisk>,
    batches: Vec<Bytes>,
    next: Cell<usize>,
}

const TAIL_COUNT: usize = 500;

impl Case for Read {
    type Input = usize;
    type Output = (usize, Vec<Bytes>);

    fn new(shape: Shape) -> Self {
        let log = fresh_log();
        let append = |_| {
            let (batch, header) = batch_at(shape, log.positions().written);
            log.append(batch.clone(), &header).expect("there is room");
            batch
        };
        let batches = (0..TAIL_COUNT).map(append).collect();
        Read { log, batches, next: Cell::new(0) }
    }

    fn input(&self) -> usize {
        self.next.set((self.next.get() + 211) % self.batches.len());
        self.next.get()
    }

    fn run(&self, index: usize) -> Self::Output {
        let end = self.log.positions().written;
        let from = Offset::new(end.get() / TAIL_COUNT as i64 * index as i64);
        (index, self.log.read_cached(from, end, 1).expect("it is in memory"))
    }

    fn check(&self, (index, found): Self::Output) {
        assert_eq!(found, [self.batches[index].clone()]);
    }
}
