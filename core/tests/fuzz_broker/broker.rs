//! A small broker in this process: all of it but the data directory and the boot, on disks in memory.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use heddle_core::{
    admin::metrics::{CoreMetrics, CoreReport},
    boot::{
        core::{hear_of_metadata, start_loops},
        listen,
        meeting::Meeting,
    },
    cluster::session::Session,
    config::{Config, PortMode, Sources},
    coordinator::group::GroupConfig,
    metadata::{ClusterImage, Command, peers::PeerTransport, service::MetadataService},
    runtime::{
        Queue, Queues,
        executors::{self, Core, ExecutorOptions},
        mesh::{MeshEnds, full_mesh},
        time::sleep,
    },
    shard::{
        Shard, ShardParts,
        hooks::ShardHooks,
        replicas::Replicas,
        request::{CoreReply, CoreRequest},
    },
};
use heddle_log_store::{LogStore, MemoryDisk, Options, RecoveredPartitions};
use heddle_net::socket::{ListenSocket, Share};
use heddle_proto::ids::{CoreId, NodeId};
use heddle_replication::message::Life;
use heddle_replication_driver::promises::PromiseFiles;

/// How often a core moves the time of its disk and looks whether it is asked for a report.
const TICK: Duration = Duration::from_millis(1);

/// A report or a stop that takes longer than this never comes.
const HANG: Duration = Duration::from_secs(20);

/// The cores of one broker, until [`Broker::stop`].
pub struct Broker {
    addresses: Vec<SocketAddr>,
    cores: Vec<Core<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<Config>,
    image: OnceLock<Arc<ClusterImage>>,
    metadata_read: Meeting,
    ready: Meeting,
    stop: AtomicBool,
    /// Counts up with each report asked for.
    asked: AtomicU64,
    reports: Mutex<BTreeMap<usize, (u64, CoreReport)>>,
}

impl Broker {
    /// Starts one with this many cores; the choices of its disks follow from `seed`.
    pub fn start(core_count: usize, seed: u64) -> Broker {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let bind = |_| ListenSocket::bind(any_port, Share::Exclusive).expect("a port is free");
        let sockets: Vec<ListenSocket> = (0..core_count).map(bind).collect();
        let addresses = sockets.iter().map(ListenSocket::local_addr).collect();
        let shared = Arc::new(Shared {
            config: Arc::new(config(core_count)),
            image: OnceLock::new(),
            metadata_read: Meeting::new(core_count),
            ready: Meeting::new(core_count),
            stop: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            reports: Mutex::default(),
        });
        let io_memory_bytes = executors::io_memory_bytes(executors::memlock_limit_bytes(), core_count as u16);
        let options = ExecutorOptions { spin: Duration::ZERO, io_memory_bytes };
        let start = |(core, (socket, ends)): (usize, (ListenSocket, Ends))| {
            let (shared, cpu) = (shared.clone(), shared.config.cpus[core]);
            let disk_seed = seed.wrapping_add(core as u64);
            let main = move || run(core, disk_seed, socket, ends, shared);
            executors::start(core, cpu, options, main).expect("a core starts")
        };
        let ends = full_mesh(core_count as u16);
        let cores = sockets.into_iter().zip(ends).enumerate().map(start).collect();
        Broker { addresses, cores, shared }
    }

    /// Where each core listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The sum over all cores of everything they report, by name.
    pub fn gauges(&self) -> BTreeMap<&'static str, u64> {
        let number = self.shared.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let deadline = Instant::now() + HANG;
        loop {
            let reports = self.shared.reports();
            if reports.values().filter(|(of, _)| *of >= number).count() == self.addresses.len() {
                let mut sums = BTreeMap::new();
                let samples = reports.values().flat_map(|(_, report)| &report.samples);
                samples.for_each(|sample| *sums.entry(sample.name).or_default() += sample.value);
                return sums;
            }
            drop(reports);
            assert!(Instant::now() < deadline, "a core does not answer any more");
            std::thread::sleep(TICK);
        }
    }

    /// Stops it as a signal would; every connection must end.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::Release);
        self.cores.into_iter().for_each(|core| core.join().expect("a core ends"));
    }
}

impl Shared {
    fn reports(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, (u64, CoreReport)>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn config(core_count: usize) -> Config {
    let settings = [
        ("cores", core_count.to_string()),
        ("memory_bytes", "64MiB".to_owned()),
        ("frame_bytes_max", "4MiB".to_owned()),
        ("offsets_topic_num_partitions", "4".to_owned()),
        ("port_mode", "single".to_owned()),
    ];
    let command_line = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut config = Config::load(&Sources { command_line, ..Sources::default() }).expect("is allowed");
    // Members that are forgotten soon, so that nothing that waits for one waits long.
    config.groups = Arc::new(GroupConfig {
        session_timeout_min: Duration::from_millis(1),
        session_timeout_max: Duration::from_millis(300),
        initial_rebalance_delay: Duration::from_millis(5),
        new_member_join_timeout: Duration::from_millis(300),
        consumer_session_timeout: Duration::from_millis(300),
        consumer_heartbeat_interval: Duration::from_millis(100),
        ..GroupConfig::default()
    });
    config
}

/// Small files, and a background that comes round often.
fn store_options(config: &Config) -> Options {
    Options {
        dir: "/data".into(),
        wal_file_bytes: 1 << 20,
        wal_files_max: 4,
        group_bytes_max: 256 << 10,
        direct_drain_bytes: 64 << 10,
        io_bytes_max: 256 << 10,
        preallocate_bytes_max: 64 << 10,
        snapshot_bytes_max: 16 << 10,
        dirty_bytes_max: config.dirty_bytes() as usize,
        cache_bytes_max: 4 << 20,
        reserve_bytes: 0,
        idle_drain_delay: Duration::from_millis(20),
        retention_interval: Duration::from_millis(200),
        compaction_interval: Duration::from_millis(200),
        ..Options::default()
    }
}

type Ends = MeshEnds<CoreRequest, CoreReply>;

async fn run(core: usize, disk_seed: u64, socket: ListenSocket, ends: Ends, shared: Arc<Shared>) {
    let queues = Queues::create();
    let disk = MemoryDisk::new(disk_seed);
    // Sleeps of the store end as the real time goes on.
    let (clock, begun) = (disk.clone(), Instant::now());
    queues.spawn(Queue::Hot, async move {
        loop {
            sleep(TICK).await;
            clock.advance_to(begun.elapsed());
        }
    });
    let port = socket.local_addr().port();
    let listener = listen::attach(socket).expect("a listener is attached");
    let metadata = read_metadata(core, port, &disk, &shared).await;
    let hooks: Rc<ShardHooks<MemoryDisk>> = Rc::default();
    let options = store_options(&shared.config);
    let id = CoreId::new(core as u16);
    let store =
        LogStore::open(disk.clone(), options, id, RecoveredPartitions::default(), hooks.clone()).await;
    let store = store.expect("an empty disk opens");
    let image = shared.image.get().expect("core 0 has read it").clone();
    let me = (NodeId::new(shared.config.node_id), Life(1));
    let replicas = Replicas::new(
        me,
        heddle_replication_driver::Options::default(),
        image.clone(),
        store.clone(),
        (PromiseFiles::new(disk, "/data/promises".into()), None),
        Arc::default(),
    );
    let shard = Shard::new(ShardParts {
        config: shared.config.clone(),
        queues,
        mesh: ends.connect().await,
        store,
        hooks,
        metrics: Rc::new(CoreMetrics::default()),
        metadata,
        image,
        replicas,
    });
    start_loops(&shard);
    shard.start_replicas(None);
    hear_of_metadata(&shard).await;
    shard.follow_groups(&ClusterImage::default());
    shard.follow_transactions();
    shared.ready.meet().await;
    let stop = listener.shutdown_handle();
    queues.spawn(Queue::Hot, listen::accept(shard.clone(), listener));
    report_until_stopped(core, &shard, &shared).await;
    stop.shutdown();
    shard.begin_stop();
    listen::close_connections(&shard);
    let deadline = Instant::now() + HANG;
    while shard.connection_count() > 0 {
        assert!(Instant::now() < deadline, "{} connections do not end", shard.connection_count());
        sleep(TICK).await;
    }
}

async fn report_until_stopped(core: usize, shard: &Rc<Shard<MemoryDisk>>, shared: &Shared) {
    let mut answered = 0;
    while !shared.stop.load(Ordering::Acquire) {
        let asked = shared.asked.load(Ordering::Acquire);
        if asked != answered {
            shared.reports().insert(core, (asked, shard.report()));
            answered = asked;
        }
        sleep(TICK).await;
    }
}

async fn read_metadata(
    core: usize,
    port: u16,
    disk: &MemoryDisk,
    shared: &Shared,
) -> Option<Rc<Session<MemoryDisk>>> {
    if core != 0 {
        shared.metadata_read.meet().await;
        return None;
    }
    let (node, transport) = (NodeId::new(shared.config.node_id), Rc::new(PeerTransport::default()));
    let opened = MetadataService::open(node, disk.clone(), Path::new("/data"), transport.clone()).await;
    let service = opened.expect("an empty disk opens");
    service.node().found("").await.expect("it is alone");
    let start = [
        Command::FoundCluster { cluster_id: "a-small-broker".to_owned() },
        Command::StartNode {
            node: shared.config.node_id,
            host: "127.0.0.1".to_owned(),
            port,
            core_count: shared.config.core_count() as u16,
            port_mode: PortMode::Single,
            peer_address: String::new(),
            rack: String::new(),
        },
    ];
    for command in start {
        service.insist(command).await.expect("it agrees with itself");
    }
    shared.image.set(service.image()).expect("core 0 reads once");
    shared.metadata_read.meet().await;
    Some(Session::new(node, service, transport))
}
