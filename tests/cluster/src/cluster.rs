//! A cluster of broker processes, in namespaces or on ports of 127.0.0.1, and what its metadata says.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heddle_tests::{kafka, ports};
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;

use crate::disk::Disk;
use crate::error::{Context, HarnessError, Result};
use crate::network::{Host, Network};
use crate::node::{Node, NodeOptions};

/// Cores of Kafka clients' brokers per node: core `i` of a node is broker `node * 1000 + i`.
const BROKERS_PER_NODE: i32 = 1000;

/// The node that founds the cluster.
const FOUNDER: u32 = 1;

/// How long a start may take, a disk's recovery included.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a cluster that has just begun may refuse a topic.
const CREATE_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a question to a broker may take.
const ASK_WAIT_MAX: Duration = Duration::from_secs(3);

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The first port of each kind. Nodes on one address take consecutive ones.
#[derive(Copy, Clone, Debug)]
struct Ports {
    listen: u16,
    peers: u16,
    admin: u16,
}

const PORTS: Ports = Ports { listen: 9092, peers: 9192, admin: 9644 };

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The broker's binary.
    pub binary: PathBuf,
    /// Where everything is kept.
    pub dir: PathBuf,
    /// How many nodes.
    pub node_count: u32,
    /// Size of each node's disk; unused without namespaces.
    pub disk_bytes: u64,
    /// Whether nodes know of each other. Without, each is a cluster of its own, to try the harness.
    pub peers: bool,
    /// More of each broker's command line.
    pub more: Vec<String>,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    base_port: Option<u16>,
    /// Its network, if it has one of its own.
    pub network: Option<Network>,
    /// Its nodes by id.
    pub nodes: BTreeMap<u32, Node>,
    /// Their disks, if they have disks of their own.
    pub disks: BTreeMap<u32, Disk>,
}

/// Where a partition is, by a broker's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The node that leads it, if one does.
    pub leader: Option<u32>,
    /// Nodes that have a replica.
    pub replicas: Vec<u32>,
    /// Nodes in sync.
    pub in_sync: Vec<u32>,
}

impl Cluster {
    /// Starts nodes in namespaces, with disks of their own, and moves this thread to where the clients are.
    ///
    /// # Errors
    /// If the process may not, or the nodes do not become ready.
    pub fn start_in(network: Network, options: ClusterOptions) -> Result<Cluster> {
        network.enter_clients()?;
        Cluster::start(options, Some(network), None)
    }

    /// Starts nodes on consecutive ports of 127.0.0.1 from `base_port`, or from the usual ports of each kind; 0 finds
    /// free ones.
    ///
    /// # Errors
    /// If they do not become ready.
    pub fn start_local(options: ClusterOptions, base_port: Option<u16>) -> Result<Cluster> {
        let base_port = match base_port {
            Some(0) => Some(ports::free_run(3 * (options.node_count as u16 + 1))),
            given => given,
        };
        Cluster::start(options, None, base_port)
    }

    fn start(options: ClusterOptions, network: Option<Network>, base_port: Option<u16>) -> Result<Cluster> {
        fs::create_dir_all(&options.dir).context(|| format!("creating {}", options.dir.display()))?;
        let secret = secret_file(&options.dir);
        if !secret.exists() {
            write_secret(&secret)?;
        }
        let count = options.node_count;
        let mut cluster =
            Cluster { options, base_port, network, nodes: BTreeMap::new(), disks: BTreeMap::new() };
        for node in 1..=count {
            cluster.add(node)?;
            cluster.start_node(node)?;
            cluster.wait_ready(node)?;
        }
        Ok(cluster)
    }

    /// Makes room for another node: its namespace and disk. It is not started.
    ///
    /// # Errors
    /// If a tool fails.
    pub fn add(&mut self, node: u32) -> Result<()> {
        let dir = self.options.dir.clone();
        let mut data_dir = dir.join(format!("node{node}"));
        let mut namespace = None;
        if let Some(network) = &mut self.network {
            network.add(Host::Node(node))?;
            namespace = Some(network.namespace_file(Host::Node(node)));
            let disk = Disk::create(&dir, node, self.options.disk_bytes)?;
            data_dir = disk.data_dir();
            self.disks.insert(node, disk);
        }
        let options = NodeOptions {
            id: node,
            binary: self.options.binary.clone(),
            data_dir,
            listen: self.address(node, |ports| ports.listen),
            admin: self.address(node, |ports| ports.admin),
            peers: self.options.peers.then(|| (self.peer_address(node), secret_file(&dir))),
            namespace,
            log: dir.join(format!("node{node}.log")),
            more: self.options.more.clone(),
        };
        self.nodes.insert(node, Node::new(options));
        Ok(())
    }

    fn address(&self, node: u32, port: impl Fn(Ports) -> u16) -> SocketAddr {
        if self.network.is_some() {
            return SocketAddr::from((Host::Node(node).address(), port(PORTS)));
        }
        let offset = node as u16 - 1;
        let first = self.base_port.map_or(PORTS, |base| {
            let count = self.options.node_count as u16 + 1;
            Ports { listen: base, peers: base + count, admin: base + 2 * count }
        });
        SocketAddr::from((Ipv4Addr::LOCALHOST, port(first) + offset))
    }

    fn peer_address(&self, node: u32) -> SocketAddr {
        self.address(node, |ports| ports.peers)
    }

    /// Starts a node with the command line it always has: the first founds the cluster, the others join the first.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_node(&mut self, node: u32) -> Result<()> {
        let join = (node != FOUNDER).then(|| self.peer_address(FOUNDER));
        self.node(node).start(join)
    }

    /// Starts a node that has nothing any more, and joins some other that runs.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_empty(&mut self, node: u32) -> Result<()> {
        let other = self.nodes.iter().find(|(id, other)| **id != node && other.is_started());
        let join = other.map(|(id, _)| self.peer_address(*id));
        self.node(node).start(join)
    }

    /// A node.
    ///
    /// # Panics
    /// If there is none of this id.
    pub fn node(&mut self, node: u32) -> &mut Node {
        self.nodes.get_mut(&node).unwrap_or_else(|| panic!("there is no node {node}"))
    }

    /// Waits until a node says that it is ready.
    ///
    /// # Errors
    /// If it ends instead, or takes too long.
    pub fn wait_ready(&mut self, node: u32) -> Result<()> {
        let deadline = Instant::now() + READY_WAIT_MAX;
        while !self.node(node).is_ready() {
            self.node(node).check_alive()?;
            if Instant::now() > deadline {
                return Err(HarnessError::Late {
                    what: format!("node {node} to be ready"),
                    after: READY_WAIT_MAX,
                });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Where clients begin: nodes that know of each other, or the first alone.
    pub fn bootstrap(&self) -> String {
        let known = if self.options.peers { self.nodes.len() } else { 1 };
        let addresses = self.nodes.values().take(known).map(|node| node.options().listen.to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Whether nodes know of each other.
    pub fn has_peers(&self) -> bool {
        self.options.peers
    }

    /// Where everything is kept.
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// Creates a topic; a cluster that has just begun is asked again.
    ///
    /// # Errors
    /// The last refusal.
    pub fn create_topic(
        &self,
        name: &str,
        partition_count: i32,
        copies: i32,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let mut topic = NewTopic::new(name, partition_count, TopicReplication::Fixed(copies));
        for (name, value) in configs {
            topic = topic.set(name, value);
        }
        let deadline = Instant::now() + CREATE_WAIT_MAX;
        loop {
            match self.try_create(&topic) {
                // An answer that was lost on an earlier try.
                Ok(()) | Err(RDKafkaErrorCode::TopicAlreadyExists) => return Ok(()),
                Err(code) if Instant::now() > deadline => {
                    let (what, said) = (format!("creating {name}"), code.to_string());
                    return Err(HarnessError::Client { what, said });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }

    fn try_create(&self, topic: &NewTopic<'_>) -> std::result::Result<(), RDKafkaErrorCode> {
        let admin = kafka::admin(&self.bootstrap());
        let asked = admin.create_topics([topic], &kafka::admin_options());
        let results = futures_lite::future::block_on(asked)
            .map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown))?;
        results.into_iter().next().map_or(Ok(()), |result| result.map(drop).map_err(|(_, code)| code))
    }

    /// The partitions of a topic that lack a leader or copies in sync.
    ///
    /// # Errors
    /// As [`Cluster::placement`].
    pub fn lame(&self, topic: &str) -> Result<Vec<u32>> {
        let whole =
            |placed: &Placed| placed.leader.is_some() && placed.in_sync.len() == placed.replicas.len();
        let placement = self.placement(topic)?;
        Ok(placement.iter().filter(|(_, placed)| !whole(placed)).map(|(partition, _)| *partition).collect())
    }

    /// Where the partitions of a topic are.
    ///
    /// # Errors
    /// If no broker answers, or it does not know the topic.
    pub fn placement(&self, topic: &str) -> Result<BTreeMap<u32, Placed>> {
        let failed = |said: String| HarnessError::Client { what: format!("the metadata of {topic}"), said };
        let consumer: BaseConsumer = kafka::config(&self.bootstrap(), &[("group.id", "heddle-cluster")])
            .create()
            .map_err(|error| failed(error.to_string()))?;
        let metadata = consumer.fetch_metadata(Some(topic), ASK_WAIT_MAX);
        let metadata = metadata.map_err(|error| failed(error.to_string()))?;
        let topics = metadata.topics();
        let found = topics.first().ok_or_else(|| failed("it is not there".to_owned()))?;
        let nodes = |ids: &[i32]| ids.iter().map(|id| node_of(*id)).collect();
        let placed = found.partitions().iter().map(|partition| {
            let leader = Some(partition.leader()).filter(|id| *id >= 0).map(node_of);
            let placed =
                Placed { leader, replicas: nodes(partition.replicas()), in_sync: nodes(partition.isr()) };
            (partition.id() as u32, placed)
        });
        Ok(placed.collect())
    }
}

fn node_of(broker: i32) -> u32 {
    (broker / BROKERS_PER_NODE) as u32
}

fn secret_file(dir: &Path) -> PathBuf {
    dir.join("peer-secret")
}

/// A secret for this cluster alone, readable by its owner.
fn write_secret(path: &Path) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .context(|| format!("creating {}", path.display()))?;
    let words: [u64; 4] = rand::random();
    let text: String = words.iter().map(|word| format!("{word:016x}")).collect();
    writeln!(file, "{text}").context(|| format!("writing {}", path.display()))
}
