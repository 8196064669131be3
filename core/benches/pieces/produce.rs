//! An append on the core that owns the partition: check, assign offsets, join the log, park the ack.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use heddle_core::metadata::TopicConfig;
use heddle_core::partition::Partition;
use heddle_core::partition::produce::{Accepted, Acks};
use heddle_core::shard::hooks::ShardHooks;
use heddle_log_store::{LogStore, MemoryDisk, Options, RecoveredPartitions};
use heddle_micro::{Case, Shape, in_chunk};
use heddle_proto::batch::{self, BatchBuilder, Compression};
use heddle_proto::ids::{
    CoreId, Epoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
    TopicPartition,
};

const NOW: Timestamp = Timestamp::new(1_700_000_000_000);

/// A partition is thrown away when it holds so much.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// A partition over a store whose commit loop does not run, so that every ack is parked.
fn fresh_partition() -> Rc<Partition<MemoryDisk>> {
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
    let hooks: Rc<ShardHooks<MemoryDisk>> = Rc::default();
    let none = RecoveredPartitions::default();
    let open = LogStore::open(disk.clone(), options, CoreId::new(0), none, hooks.clone());
    let store = disk.run(open).expect("an empty disk opens");
    let at = TopicPartition { topic: TopicId::new([9; 16]), partition: PartitionIndex::new(0) };
    let config = Arc::new(TopicConfig::default());
    let log = store.log(at, config.log);
    let id = log.id();
    let partition = Partition::new(at, "orders".into(), log, Epoch::new(7), config, None);
    hooks.attach(id, &partition);
    partition
}

/// A partition that is replaced before it holds too much.
struct Target {
    partition: RefCell<Rc<Partition<MemoryDisk>>>,
    kept_bytes: Cell<usize>,
}

impl Target {
    fn new() -> Target {
        Target { partition: RefCell::new(fresh_partition()), kept_bytes: Cell::new(0) }
    }

    fn make_room(&self, bytes: usize) {
        self.kept_bytes.set(self.kept_bytes.get() + bytes);
        if self.kept_bytes.get() > KEPT_BYTES_MAX {
            self.kept_bytes.set(0);
            self.partition.replace(fresh_partition());
        }
    }

    fn produce(&self, records: BytesMut) -> Accepted {
        let partition = self.partition.borrow();
        partition.produce(records, None, Acks::Quorum, NOW).expect("it is accepted")
    }

    /// The batch lies where the ack says, as it was sent but for its offset and epoch.
    fn check(&self, accepted: &Accepted, sent: &[u8]) {
        let partition = self.partition.borrow();
        let log = partition.log();
        let found = log.read_cached(accepted.base_offset, log.positions().written, usize::MAX);
        let found = found.expect("it is in memory");
        let [stored] = found.as_slice() else { panic!("{} batches", found.len()) };
        let mut meant = sent.to_vec();
        batch::assign(&mut meant, accepted.base_offset, Epoch::new(7));
        assert_eq!(stored[..], meant[..]);
        assert_eq!(partition.committed(), Offset::ZERO, "nothing is on the disk");
    }
}

/// One batch of so many records, of a producer without an id.
pub struct Produce {
    target: Target,
    batch: BytesMut,
}

impl Case for Produce {
    type Input = BytesMut;
    type Output = Accepted;

    fn new(shape: Shape) -> Self {
        Produce { target: Target::new(), batch: heddle_micro::batch(shape) }
    }

    fn input(&self) -> BytesMut {
        self.target.make_room(self.batch.len());
        in_chunk(&self.batch)
    }

    fn run(&self, records: BytesMut) -> Accepted {
        self.target.produce(records)
    }

    fn check(&self, accepted: Accepted) {
        self.target.check(&accepted, &self.batch);
    }
}

/// The same of an idempotent producer.
pub struct ProduceIdempotent {
    target: Target,
    shape: Shape,
    next: Cell<Sequence>,
    latest: RefCell<BytesMut>,
}

impl Case for ProduceIdempotent {
    type Input = BytesMut;
    type Output = Accepted;

    fn new(shape: Shape) -> Self {
        let next = Cell::new(Sequence::new(0));
        ProduceIdempotent { target: Target::new(), shape, next, latest: RefCell::default() }
    }

    fn input(&self) -> BytesMut {
        let mut builder = BatchBuilder::new(Compression::None).producer(
            ProducerId::new(4000),
            ProducerEpoch::new(0),
            self.next.get(),
        );
        for _ in 0..self.shape.item_count {
            let value = vec![7; self.shape.item_bytes];
            builder.push(NOW, None, Some(&value), &[]).expect("the sample is within the limits");
        }
        self.next.set(self.next.get().plus(self.shape.item_count as u32));
        let batch = builder.build().expect("the sample is within the limits");
        self.target.make_room(batch.len());
        self.latest.replace(batch.clone());
        in_chunk(&batch)
    }

    fn run(&self, records: BytesMut) -> Accepted {
        self.target.produce(records)
    }

    fn check(&self, accepted: Accepted) {
        self.target.check(&accepted, &self.latest.borrow());
        let retry = in_chunk(&self.latest.borrow());
        assert_eq!(self.target.produce(retry).base_offset, accepted.base_offset, "a retry is recognised");
    }
}
