//! One replica with its log: appends and cuts happen in the order the machine wants them, one cut at a time.
//!
//! The machine is ahead of the log while a cut is under way and more waits behind it. What is kept with the log is therefore
//! the history of the log as it is, not the machine's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use heddle_log_store::{AppendError, Disk, Log, StorageError};
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::{CoreId, Epoch, NodeId, Offset};
use heddle_replication::history::History;
use heddle_replication::io::Refusal;
use heddle_replication::replica::Replica;

use crate::connection::Peer;

/// Something to do to the log.
pub(crate) enum LogOp {
    Append(Bytes, BatchHeader),
    Cut(Offset),
    Begin(Offset),
}

/// What was done to the log.
pub(crate) enum Told {
    Appended(BatchHeader),
    Cut(Offset),
}

/// A cut that has begun and waits for the disk.
pub(crate) type Cutting = Pin<Box<dyn Future<Output = Result<(), StorageError>>>>;

/// How a primary sees a peer over time.
#[derive(Copy, Clone)]
pub(crate) struct Watch {
    /// Reaching this offset counts as keeping up.
    pub(crate) mark: Offset,
    /// When it last did.
    pub(crate) caught_at: Duration,
}

/// A join is a few bytes, and all of a partition's clients wait for it.
const JOINS_FASTER: u32 = 5;

/// With a quarter of a second to begin with, two seconds at most.
const RESEND_DOUBLINGS_MAX: u32 = 3;

pub(crate) struct Hosted<D: Disk> {
    pub(crate) replica: Replica,
    pub(crate) log: Log<D>,
    /// Which epochs the log is made of. No epoch of what is queued is in it.
    history: History,
    /// Every node that is to have a replica.
    pub(crate) replicas: BTreeSet<NodeId>,
    /// So many members of the in-sync set are to hold what is committed; `None`: as many as metadata says.
    pub(crate) required: Option<usize>,
    /// Where replicas are: as placed, and of others that have spoken since.
    cores: BTreeMap<NodeId, CoreId>,
    waiting: VecDeque<LogOp>,
    cutting: bool,
    /// What is committed and not yet told.
    pub(crate) committed_due: Option<Offset>,
    pub(crate) watches: BTreeMap<NodeId, Watch>,
    pub(crate) resent_at: Duration,
    /// How often something was said again since a peer was last heard.
    pub(crate) resend_count: u32,
    /// The newest epoch that metadata has told a leader of.
    granted: Epoch,
    /// It is listed as restless.
    pub(crate) is_restless: bool,
    /// Its log is damaged, which is being recorded or has been told.
    pub(crate) is_damaged: bool,
}

impl<D: Disk> Hosted<D> {
    pub(crate) fn new(
        replica: Replica,
        (log, history): (Log<D>, History),
        (replicas, cores): (BTreeSet<NodeId>, BTreeMap<NodeId, CoreId>),
        now: Duration,
    ) -> Self {
        Hosted {
            replica,
            log,
            history,
            replicas,
            required: None,
            cores,
            waiting: VecDeque::new(),
            cutting: false,
            committed_due: None,
            watches: BTreeMap::new(),
            resent_at: now,
            resend_count: 0,
            granted: Epoch::new(0),
            is_restless: false,
            is_damaged: false,
        }
    }

    /// Which nodes are to have a replica, and where replicas are.
    pub(crate) fn place(&mut self, replicas: BTreeSet<NodeId>, cores: BTreeMap<NodeId, CoreId>) {
        self.watches.retain(|node, _| replicas.contains(node));
        self.replicas = replicas;
        self.cores = cores;
    }

    /// Metadata says who leads in this epoch.
    pub(crate) fn granted(&mut self, now: Duration, epoch: Epoch) {
        if epoch > self.granted {
            self.granted = epoch;
            self.resent_at = now;
            self.resend_count = 0;
        }
    }

    /// Those that its replica waits for: backups that do not hold all of the log, or a primary that has not greeted it.
    pub(crate) fn awaited(&self, me: NodeId) -> Vec<NodeId> {
        match (self.replica.primary(), self.replica.joins()) {
            (Some(primary), _) => {
                let end = self.replica.log().written;
                let lags = |peer: &NodeId| primary.written(*peer).is_some_and(|written| written < end);
                let counts = |peer: &NodeId| primary.held(*peer) == Some(end);
                let replicas = self.replicas.iter().filter(|peer| **peer != me);
                replicas.filter(|peer| lags(peer) || !counts(peer)).copied().collect()
            }
            (None, Some(primary)) => vec![primary],
            (None, None) => Vec::new(),
        }
    }

    /// Whether nothing is due until something happens to it.
    pub(crate) fn is_at_rest(&self, me: NodeId) -> bool {
        let is_settled = |primary: &heddle_replication::primary::Primary| {
            !primary.is_changing()
                && *primary.members() == self.replicas
                && self.required.is_none_or(|required| required == primary.quorum())
        };
        self.awaited(me).is_empty() && self.replica.primary().is_none_or(is_settled)
    }

    /// How long to wait until something is said again, longer each time that nothing comes of it. A backup that has not been
    /// greeted is in a hurry: its primary may just not have known yet that it leads.
    pub(crate) fn resend_pause(&self, after: Duration) -> Duration {
        let first = if self.replica.joins().is_some() { after / JOINS_FASTER } else { after };
        first * (1 << self.resend_count.min(RESEND_DOUBLINGS_MAX))
    }

    /// A peer is heard; somebody may speak for a replica that no placement has named yet.
    pub(crate) fn met(&mut self, peer: Peer) {
        self.resend_count = 0;
        self.cores.entry(peer.node).or_insert(peer.core);
    }

    /// Where the replica of a node is.
    pub(crate) fn peer(&self, node: NodeId) -> Option<Peer> {
        self.cores.get(&node).map(|core| Peer { node, core: *core })
    }

    /// Everywhere a replica is.
    pub(crate) fn peers(&self) -> impl Iterator<Item = Peer> + '_ {
        self.cores.iter().map(|(node, core)| Peer { node: *node, core: *core })
    }

    /// Whether a client's records may be appended now, and in which epoch: when enough members keep up. Those that a new
    /// primary has not heard yet count for a while, so that records wait for them rather than come back to their clients.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn admits(&self, now: Duration, lag_max: Duration) -> Result<Epoch, Refusal> {
        let primary = self.replica.primary().ok_or(Refusal::NotPrimary)?;
        let epoch = self.replica.leads().ok_or(Refusal::NotPrimary)?;
        let keeps_up = |node: &&NodeId| self.keeps_up(**node, now, lag_max);
        let in_sync_count = primary.members().iter().filter(keeps_up).count();
        let quorum = primary.quorum();
        if in_sync_count < quorum {
            Err(Refusal::NotEnoughReplicas { in_sync_count, quorum })
        } else {
            Ok(epoch)
        }
    }

    fn keeps_up(&self, node: NodeId, now: Duration, lag_max: Duration) -> bool {
        self.watches.get(&node).is_none_or(|watch| now.saturating_sub(watch.caught_at) < lag_max)
    }

    /// Nodes whose replicas are not in sync with the primary here, or do not keep up.
    pub(crate) fn out_of_sync(&self, now: Duration, lag_max: Duration) -> Vec<NodeId> {
        let Some(primary) = self.replica.primary() else { return Vec::new() };
        let is_in_sync =
            |node: &NodeId| primary.members().contains(node) && self.keeps_up(*node, now, lag_max);
        self.replicas.iter().filter(|node| !is_in_sync(node)).copied().collect()
    }

    /// Records that a backup of the primary here has not acknowledged, and about how many bytes these are.
    pub(crate) fn lag(&self, node: NodeId) -> (u64, u64) {
        let Some(primary) = self.replica.primary().filter(|_| self.replicas.contains(&node)) else {
            return (0, 0);
        };
        let log = self.replica.log();
        let held = primary.written(node).unwrap_or(log.start).max(log.start);
        let (records, behind) = (log.written.since(log.start), log.written.since(held));
        if records <= 0 || behind <= 0 {
            return (0, 0);
        }
        let bytes = u128::from(self.log.size_bytes()) * behind as u128 / records as u128;
        (behind as u64, bytes as u64)
    }

    /// Whether a cut is under way or something waits behind one.
    pub(crate) fn is_cutting(&self) -> bool {
        self.cutting || !self.waiting.is_empty()
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn queue(&mut self, op: LogOp) {
        self.waiting.push_back(op);
    }

    pub(crate) fn cut_done(&mut self) {
        self.cutting = false;
    }

    /// Appends a batch at the end of the log as it is.
    ///
    /// # Errors
    /// Nothing is kept then.
    pub(crate) fn append(&mut self, batch: Bytes, header: &BatchHeader) -> Result<(), AppendError> {
        self.log.append(batch, header)?;
        self.history.note(header.epoch, header.base_offset);
        Ok(())
    }

    /// Does what may be done now. Returns a cut that has begun.
    ///
    /// # Errors
    /// An append failed that the machine counts as done.
    pub(crate) fn pump(&mut self, mut told: impl FnMut(Told)) -> Result<Option<Cutting>, AppendError> {
        while !self.cutting
            && let Some(op) = self.waiting.pop_front()
        {
            match op {
                LogOp::Append(batch, header) => {
                    self.append(batch, &header)?;
                    told(Told::Appended(header));
                }
                // A request has deleted a part of a batch, or of a segment, which goes now as a whole.
                LogOp::Cut(at) if at < self.log.positions().start => {
                    self.waiting.push_front(LogOp::Begin(at));
                }
                LogOp::Cut(at) => {
                    self.history.truncate(at);
                    told(Told::Cut(at));
                    let cutting = self.log.cut(at);
                    return Ok(Some(self.begin(cutting)));
                }
                LogOp::Begin(at) => {
                    self.history = History::default();
                    told(Told::Cut(Offset::ZERO));
                    let cutting = self.log.begin_anew(at);
                    return Ok(Some(self.begin(cutting)));
                }
            }
        }
        Ok(None)
    }

    fn begin(&mut self, cutting: impl Future<Output = Result<(), StorageError>> + 'static) -> Cutting {
        self.cutting = true;
        Box::pin(cutting)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use heddle_log_store::{Hooks, LogConfig, LogId, LogStore, MemoryDisk, Options, WriteTimes};
    use heddle_proto::batch::{self, BatchBuilder, Compression};
    use heddle_proto::ids::{CoreId, PartitionIndex, Timestamp, TopicId, TopicPartition};
    use heddle_replication::io::LogView;
    use heddle_replication::message::Life;
    use heddle_replication::replica::{Config, Hold, Restored};
    use heddle_replication::rules::Rules;

    use super::*;

    struct Nobody;

    impl Hooks for Nobody {
        fn durable(&self, _: LogId, _: Offset, _: WriteTimes) {}
    }

    fn store(disk: &MemoryDisk) -> LogStore<MemoryDisk> {
        let options = Options { dir: "/data".into(), wal_file_bytes: 1 << 20, ..Options::default() };
        let opened =
            LogStore::open(disk.clone(), options, CoreId::new(0), Default::default(), Rc::new(Nobody));
        disk.run(opened).unwrap()
    }

    fn hosted(store: &LogStore<MemoryDisk>) -> Hosted<MemoryDisk> {
        let partition = TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(0));
        let config = Config { hold: Hold::Durable, catch_up_records_max: 10, rules: Rules::default() };
        let log = LogView {
            start: Offset::ZERO,
            durable: Offset::ZERO,
            written: Offset::ZERO,
            history: History::default(),
        };
        let (committed, newest_epoch) = (log.start, Epoch::default());
        let restored = Restored { promise: None, log, committed, newest_epoch, was_led: false };
        let replica = Replica::start(NodeId::new(0), Life(1), config, restored, &mut Vec::new());
        let log = store.log(partition, LogConfig::default());
        Hosted::new(replica, (log, History::default()), Default::default(), Duration::ZERO)
    }

    fn batch_at(base: i64, epoch: i32) -> (Bytes, BatchHeader) {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(Timestamp::new(1), None, Some(b"value"), &[]).unwrap();
        let mut bytes = builder.build().unwrap();
        batch::assign(&mut bytes, Offset::new(base), Epoch::new(epoch));
        let header = BatchHeader::parse(&bytes).unwrap();
        (bytes.freeze(), header)
    }

    fn finish(disk: &MemoryDisk, store: &LogStore<MemoryDisk>, mut cutting: Cutting) {
        let (commit, background) = (store.clone(), store.clone());
        let mut commit = Box::pin(async move { commit.run_commit().await });
        let mut background = Box::pin(async move { background.run_background().await });
        let done = disk.run(std::future::poll_fn(|cx| {
            assert!(commit.as_mut().poll(cx).is_pending() && background.as_mut().poll(cx).is_pending());
            cutting.as_mut().poll(cx)
        }));
        done.unwrap();
    }

    #[test]
    fn what_waits_behind_a_cut_is_not_in_the_history() {
        let disk = MemoryDisk::new(1);
        let store = store(&disk);
        let mut hosted = hosted(&store);
        for (base, epoch) in [(0, 1), (1, 2)] {
            let (batch, header) = batch_at(base, epoch);
            hosted.append(batch, &header).unwrap();
        }
        let epochs = |hosted: &Hosted<MemoryDisk>| -> Vec<(i32, i64)> {
            let entries = hosted.history().entries().iter();
            entries.map(|(epoch, start)| (epoch.get(), start.get())).collect()
        };
        assert_eq!(epochs(&hosted), [(1, 0), (2, 1)]);
        let (batch, header) = batch_at(1, 3);
        for op in [LogOp::Cut(Offset::new(1)), LogOp::Append(batch, header), LogOp::Cut(Offset::ZERO)] {
            hosted.queue(op);
        }
        let cutting = hosted.pump(|_| {}).unwrap().unwrap();
        assert_eq!(epochs(&hosted), [(1, 0)]);
        assert!(hosted.pump(|_| {}).unwrap().is_none(), "one cut at a time");
        finish(&disk, &store, cutting);
        assert_eq!(epochs(&hosted), [(1, 0)]);
        hosted.cut_done();
        let cutting = hosted.pump(|_| {}).unwrap().unwrap();
        assert_eq!(hosted.log.positions().written, Offset::new(2));
        finish(&disk, &store, cutting);
        assert_eq!((epochs(&hosted), hosted.log.positions().written), (vec![], Offset::ZERO));
    }
}
