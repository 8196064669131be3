//! A node of one core with a real log: store, driver, runner, connections; and the metadata that tells it who leads.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use heddle_log_store::{GlommioDisk, Hooks, LogConfig, LogId, LogStore, WriteTimes};
use heddle_net::socket::{Listener, Share, spawn};
use heddle_proto::ids::{CoreId, Epoch, NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use heddle_replication::history::History;
use heddle_replication::leadership::Leadership;
use heddle_replication::message::Life;
use heddle_replication::quorum::InSync;
use heddle_replication::replica::{Config, Hold};
use heddle_replication::rules::Rules;
use heddle_replication::stream;
use heddle_replication_driver::promises::PromiseFiles;
use heddle_replication_driver::{Driver, Event, JobError, Options, Peer, Placement, encode_history};
use heddle_replication_transport::handshake::{Identity, Secret};
use heddle_replication_transport::{Backoff, Observer, Peers, Runner};

/// Nodes of the cluster, each with a replica of everything.
pub const NODE_COUNT: u32 = 3;
const PARTITION_COUNT: u32 = 3;

/// Everything that is replicated.
pub fn partitions() -> impl Iterator<Item = TopicPartition> {
    (0..PARTITION_COUNT).map(|index| TopicPartition::new(TopicId::new([5; 16]), PartitionIndex::new(index)))
}

/// Each node has its replicas on another core, by number.
pub fn peer(node: NodeId) -> Peer {
    Peer { node, core: CoreId::new(node.get() as u16) }
}

fn nodes() -> BTreeSet<NodeId> {
    (0..NODE_COUNT).map(NodeId::new).collect()
}

/// Small windows, so that flow control has something to do.
fn driver_options() -> Options {
    Options {
        stream: stream::Options {
            window_bytes: 256 << 10,
            catch_up_window_bytes: 64 << 10,
            frame_bytes_max: 16 << 10,
            catch_up_bytes_per_second: 64 << 20,
            commit_delay: Duration::from_millis(3),
        },
        resend_after: Duration::from_millis(100),
        stuck_after: Duration::from_millis(1500),
        lag_max: Duration::from_millis(800),
    }
}

fn peers_options() -> heddle_replication_transport::Options {
    heddle_replication_transport::Options {
        backoff: Backoff { first: Duration::from_millis(10), most: Duration::from_millis(100) },
        ping_every: Duration::from_millis(100),
        silence_max: Duration::from_millis(700),
        handshake_time_max: Duration::from_millis(700),
        ..heddle_replication_transport::Options::default()
    }
}

/// What the log store tells a node.
#[derive(Default)]
struct NodeHooks(RefCell<Option<Runner<GlommioDisk>>>);

impl Hooks for NodeHooks {
    fn durable(&self, log: LogId, _: Offset, _: WriteTimes) {
        if let Some(runner) = &*self.0.borrow() {
            runner.durable(log);
        }
    }

    fn snapshot(&self, log: LogId) -> Bytes {
        let runner = self.0.borrow();
        let history =
            runner.as_ref().and_then(|runner| runner.look(|driver| driver.history(log).map(encode_history)));
        history.unwrap_or_default()
    }
}

/// One node.
pub struct Node {
    pub id: NodeId,
    pub runner: Runner<GlommioDisk>,
    pub peers: Peers<Runner<GlommioDisk>>,
    pub address: SocketAddr,
    hooks: Rc<NodeHooks>,
    store: LogStore<GlommioDisk>,
    dir: tempfile::TempDir,
}

impl Node {
    /// Starts a node with an empty disk.
    pub async fn start(id: NodeId, metadata: &Rc<Metadata>) -> Node {
        let dir = tempfile::tempdir().expect("a folder");
        let disk = GlommioDisk::new();
        let options = heddle_log_store::Options {
            dir: dir.path().join("data"),
            wal_file_bytes: 8 << 20,
            reserve_bytes: 1 << 20,
            ..heddle_log_store::Options::default()
        };
        let hooks = Rc::new(NodeHooks::default());
        let opened = LogStore::open(disk.clone(), options, peer(id).core, Default::default(), hooks.clone());
        let store = opened.await.expect("the disk works");
        let files = PromiseFiles::new(disk, dir.path().join("promises"));
        let found = files.read().await.expect("the disk works");
        let driver = Driver::new(id, Life(1), driver_options(), store.clone(), files, found);
        let observer = Rc::new(NodeObserver { id, metadata: Rc::downgrade(metadata) });
        let runner = Runner::new(driver, driver_options(), Duration::from_millis(5), observer);
        *hooks.0.borrow_mut() = Some(runner.clone());
        let identity =
            Identity { cluster: "loom".into(), me: peer(id), life: Life(1), process: [id.get() as u8; 16] };
        let secret = Secret::new(b"a secret that all three know").expect("it is long enough");
        let peers = Peers::new(identity, secret, peers_options(), runner.clone());
        let listener =
            Listener::bind("127.0.0.1:0".parse().unwrap(), Share::Exclusive).expect("a port is free");
        let address = listener.local_addr();
        let node = Node { id, runner, peers, address, hooks, store, dir };
        node.host();
        node.spawn_loops(listener);
        node
    }

    fn host(&self) {
        for partition in partitions() {
            let log = self.store.log(partition, LogConfig::default());
            let placement = Placement {
                partition,
                config: Config { hold: Hold::Durable, catch_up_records_max: 200, rules: Rules::default() },
                replicas: nodes(),
                cores: nodes().into_iter().map(|node| (node, peer(node).core)).collect(),
                history: History::default(),
                is_damaged: false,
                newest_epoch: Epoch::default(),
                was_led: false,
            };
            self.runner.with(|driver, now| driver.add(now, placement, log));
        }
    }

    fn spawn_loops(&self, listener: Listener) {
        let (commit, background) = (self.store.clone(), self.store.clone());
        let (runner, peers) = (self.runner.clone(), self.peers.clone());
        spawn(async move { commit.run_commit().await.expect("the disk works") });
        spawn(async move { background.run_background().await.expect("the disk works") });
        spawn(async move { runner.run().await });
        spawn(async move { peers.serve(listener).await });
    }

    /// Ends everything of it but the loops of the store, which end with the executor and may be at the next WAL file until
    /// then: the folder must outlive it.
    pub async fn stop(self) -> tempfile::TempDir {
        self.peers.stop();
        self.runner.stop();
        self.store.shutdown().await.expect("the disk works");
        self.hooks.0.take();
        self.dir
    }
}

struct NodeObserver {
    id: NodeId,
    metadata: Weak<Metadata>,
}

impl Observer for NodeObserver {
    fn event(&self, event: Event) {
        if let Some(metadata) = self.metadata.upgrade() {
            metadata.hear(self.id, event);
        }
    }

    fn failed(&self, error: JobError) {
        panic!("a job failed: {error}");
    }
}

/// Who leads, by the real rules, told to everybody at once and never out of reach: this is not what is tested here.
#[derive(Default)]
pub struct Metadata {
    leaderships: RefCell<BTreeMap<TopicPartition, Leadership>>,
    runners: RefCell<Vec<Runner<GlommioDisk>>>,
    committed: RefCell<BTreeMap<(NodeId, TopicPartition), Offset>>,
    /// Changes of in-sync sets that were taken.
    pub change_count: Cell<u32>,
}

impl Metadata {
    /// A cluster in which nobody leads.
    pub fn new() -> Rc<Metadata> {
        let in_sync = || InSync { members: nodes(), quorum: 2, commit_all: false, version: 0 };
        let leaderships =
            partitions().map(|partition| (partition, Leadership::new(in_sync(), Rules::default())));
        Rc::new(Metadata { leaderships: RefCell::new(leaderships.collect()), ..Metadata::default() })
    }

    /// All nodes are there.
    pub fn meet(&self, nodes: &[Node]) {
        *self.runners.borrow_mut() = nodes.iter().map(|node| node.runner.clone()).collect();
    }

    /// Who leads a partition.
    pub fn primary(&self, partition: TopicPartition) -> Option<NodeId> {
        self.leaderships.borrow()[&partition].grant().primary.map(|(node, _)| node)
    }

    /// Up to where a node has said that a partition is committed.
    pub fn committed(&self, node: NodeId, partition: TopicPartition) -> Offset {
        self.committed.borrow().get(&(node, partition)).copied().unwrap_or(Offset::ZERO)
    }

    /// Everybody but `without` is asked to seal, and who has the best log leads.
    pub fn elect(&self, partition: TopicPartition, without: Option<NodeId>) {
        let epoch = self.leaderships.borrow_mut().get_mut(&partition).expect("it exists").begin_election();
        for (runner, node) in self.runners.borrow().iter().zip(nodes()) {
            if Some(node) != without {
                runner.with(|driver, now| driver.seal(now, partition, epoch));
            }
        }
    }

    /// The election ends when enough have answered; that is told then.
    pub fn try_elect(&self, partition: TopicPartition) -> bool {
        let elected = self.leaderships.borrow_mut().get_mut(&partition).expect("it exists").elect().is_ok();
        if elected {
            self.tell(partition);
        }
        elected
    }

    fn tell(&self, partition: TopicPartition) {
        let grant = self.leaderships.borrow()[&partition].grant().clone();
        for runner in self.runners.borrow().iter() {
            runner.with(|driver, now| driver.granted(now, partition, grant.clone()));
        }
    }

    fn hear(&self, node: NodeId, event: Event) {
        match event {
            Event::Committed(partition, committed) => {
                let before = self.committed.borrow_mut().insert((node, partition), committed);
                assert!(before <= Some(committed), "committed never falls: {before:?}, {committed}");
            }
            Event::Answer(partition, epoch, answer) => {
                self.leaderships
                    .borrow_mut()
                    .get_mut(&partition)
                    .expect("it exists")
                    .answer(node, epoch, answer);
            }
            Event::Change(partition, change) => {
                let taken =
                    self.leaderships.borrow_mut().get_mut(&partition).expect("it exists").change(&change);
                if taken.is_ok() {
                    self.change_count.set(self.change_count.get() + 1);
                    self.tell(partition);
                }
            }
            Event::NeedElection(_) | Event::Stopped(_) | Event::Appended(..) | Event::Cut(..) => {}
            Event::Halted(..) | Event::Damaged(..) | Event::Broken(..) | Event::Lost(..) => {
                panic!("{node}: {event:?}")
            }
        }
    }
}
