//! Three drivers with logs on a real disk, replicating over real sockets through relays that break the connections: whatever
//! happens, the logs end equal, hold all that was acknowledged, and hold it in order.
#![allow(clippy::unwrap_used)] // a test throughout

mod node;
mod relay;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use heddle_net::socket::{pause, spawn};
use heddle_proto::batch::{BatchBuilder, BatchHeader, Compression, records, verify};
use heddle_proto::ids::{NodeId, Offset, Timestamp, TopicPartition};
use heddle_replication_transport::StreamCounts;

use node::{Metadata, NODE_COUNT, Node, partitions, peer};
use relay::{Mode, Relay};

/// Far longer than it ever takes: a cluster that is not whole by then never will be.
const NEVER: Duration = Duration::from_secs(120);

fn run<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let executor = glommio::LocalExecutorBuilder::default().spawn(move || async move { test().await });
    executor.expect("an executor starts").join().expect("the test does not panic")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < NEVER, "never: {what}");
        pause(Duration::from_millis(2)).await;
    }
}

struct Cluster {
    nodes: Vec<Node>,
    metadata: Rc<Metadata>,
    /// By the nodes at their ends, the dialer first.
    relays: BTreeMap<(u32, u32), Relay>,
}

impl Cluster {
    async fn start() -> Cluster {
        let metadata = Metadata::new();
        let mut nodes = Vec::new();
        for id in 0..NODE_COUNT {
            nodes.push(Node::start(NodeId::new(id), &metadata).await);
        }
        metadata.meet(&nodes);
        let mut relays = BTreeMap::new();
        for dialer in 0..NODE_COUNT {
            for acceptor in dialer + 1..NODE_COUNT {
                relays.insert((dialer, acceptor), Relay::new(nodes[acceptor as usize].address));
            }
        }
        for node in &nodes {
            for peer in node.runner.look(|driver| driver.peers()) {
                let ends = (node.id.get().min(peer.node.get()), node.id.get().max(peer.node.get()));
                node.peers.need(peer, &relays[&ends].address.to_string());
            }
        }
        let cluster = Cluster { nodes, metadata, relays };
        for partition in partitions() {
            cluster.elect(partition, None).await;
        }
        cluster
    }

    async fn elect(&self, partition: TopicPartition, without: Option<NodeId>) {
        self.metadata.elect(partition, without);
        until("an election ends", || self.metadata.try_elect(partition)).await;
    }

    /// All links of a node.
    fn set_links(&self, node: u32, mode: Mode) {
        for ((dialer, acceptor), relay) in &self.relays {
            if node == *dialer || node == *acceptor {
                relay.set(mode);
            }
        }
    }

    fn counts(&self, node: u32, other: u32) -> StreamCounts {
        let streams = self.nodes[node as usize].peers.streams();
        let found = streams.into_iter().find(|(to, _)| *to == peer(NodeId::new(other)));
        found.map(|(_, counts)| counts).unwrap_or_default()
    }

    fn written(&self, node: &Node, partition: TopicPartition) -> Offset {
        node.runner.look(|driver| driver.log(partition).unwrap().positions().written)
    }

    /// Everybody holds everything and knows that it is committed.
    fn is_whole(&self) -> bool {
        partitions().all(|partition| {
            let end = self.metadata.primary(partition).map(|id| &self.nodes[id.get() as usize]);
            let Some(end) = end.map(|primary| self.written(primary, partition)) else { return false };
            self.nodes.iter().all(|node| {
                self.written(node, partition) == end && self.metadata.committed(node.id, partition) == end
            })
        })
    }

    async fn log(&self, node: &Node, partition: TopicPartition) -> Vec<Bytes> {
        let log = node.runner.look(|driver| driver.log(partition).unwrap().clone());
        let (mut at, end, mut found) = (Offset::ZERO, log.positions().written, Vec::new());
        while at < end {
            let batches = log.read(at, end, 1 << 20).await.unwrap();
            at = BatchHeader::parse(batches.last().expect("a batch")).unwrap().next_offset();
            found.extend(batches);
        }
        found
    }

    /// The folders must outlive the executor.
    async fn stop(self) -> Vec<tempfile::TempDir> {
        let mut folders = Vec::new();
        for node in self.nodes {
            folders.push(node.stop().await);
        }
        folders
    }
}

/// A producer of one partition: numbers that rise, one batch each.
struct Producer {
    partition: TopicPartition,
    next: Cell<u64>,
    /// Appended and not yet acknowledged: who took it, where it ends, its number.
    pending: RefCell<Vec<(NodeId, Offset, u64)>>,
    /// Acknowledged: where it begins, and its number.
    acked: RefCell<BTreeMap<Offset, u64>>,
    /// Taken by a primary that could not pass it on.
    lost: RefCell<BTreeSet<u64>>,
}

fn batch_of(number: u64, bytes: usize) -> bytes::BytesMut {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(8 + bytes, number as u8);
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp::new(1), None, Some(&value), &[]).unwrap();
    builder.build().unwrap()
}

fn number_in(batch: &Bytes) -> u64 {
    let record = records(batch, 1 << 20).unwrap().next().unwrap().unwrap();
    u64::from_le_bytes(record.value.unwrap()[..8].try_into().unwrap())
}

impl Producer {
    fn new(partition: TopicPartition) -> Producer {
        let (pending, acked, lost) = (RefCell::default(), RefCell::default(), RefCell::default());
        Producer { partition, next: Cell::new(1), pending, acked, lost }
    }

    /// Sends the next batch to the primary, if that takes it.
    fn send(&self, cluster: &Cluster) {
        let Some(primary) = cluster.metadata.primary(self.partition) else { return };
        let number = self.next.get();
        let batch = batch_of(number, (number * 37 % 1500) as usize);
        let runner = &cluster.nodes[primary.get() as usize].runner;
        if let Ok(header) = runner.with(|driver, now| driver.produce(now, self.partition, batch)) {
            let end = header.next_offset();
            self.pending.borrow_mut().push((primary, end, number));
            self.next.set(number + 1);
        }
    }

    /// What is committed where it was sent to is acknowledged.
    fn settle(&self, metadata: &Metadata) {
        let mut acked = self.acked.borrow_mut();
        self.pending.borrow_mut().retain(|(primary, end, number)| {
            let is_acked = Some(*primary) == metadata.primary(self.partition)
                && metadata.committed(*primary, self.partition) >= *end;
            if is_acked {
                let before = acked.insert(end.plus(-1), *number);
                assert_eq!(before, None, "{number} is acknowledged where another one was");
            }
            !is_acked
        });
    }

    /// Sends to a primary that reaches nobody and is about to be replaced.
    fn lose(&self, cluster: &Cluster) {
        let first = self.next.get();
        (0..30).for_each(|_| self.send(cluster));
        assert!(self.next.get() > first, "it does not know yet that it is cut off");
        self.lost.borrow_mut().extend(first..self.next.get());
        self.abandon(&cluster.metadata);
    }

    /// Its primary has changed: what is open may be lost or not.
    fn abandon(&self, metadata: &Metadata) {
        self.settle(metadata);
        self.pending.borrow_mut().clear();
    }
}

/// Appends until so many batches are acknowledged in all, a few at a time.
async fn produce(cluster: &Cluster, producers: &[Producer], acked_min: usize) {
    until("batches are acknowledged", || {
        for producer in producers {
            producer.settle(&cluster.metadata);
            for _ in 0..4 {
                if producer.pending.borrow().len() < 50 {
                    producer.send(cluster);
                }
            }
        }
        producers.iter().map(|producer| producer.acked.borrow().len()).sum::<usize>() >= acked_min
    })
    .await;
}

async fn check(cluster: &Cluster, producers: &[Producer]) {
    until("the cluster is whole", || cluster.is_whole()).await;
    for producer in producers {
        producer.settle(&cluster.metadata);
        let first = cluster.log(&cluster.nodes[0], producer.partition).await;
        for node in &cluster.nodes[1..] {
            let log = cluster.log(node, producer.partition).await;
            assert!(first == log, "node {} holds another log than node 0", node.id);
        }
        let mut found = BTreeMap::new();
        for batch in &first {
            let header = verify(batch).expect("a whole batch");
            assert_eq!(header.base_offset.get() as usize, found.len(), "no hole and nothing twice");
            found.insert(header.base_offset, number_in(batch));
        }
        assert!(
            found.values().zip(found.values().skip(1)).all(|(one, next)| one < next),
            "in the order of sending"
        );
        let lost = producer.lost.borrow();
        assert!(found.values().all(|number| !lost.contains(number)), "what one node alone had is cut");
        for (offset, number) in &*producer.acked.borrow() {
            assert_eq!(found.get(offset), Some(number), "acknowledged at {offset} of {}", producer.partition);
        }
    }
}

#[test]
fn logs_end_equal_whatever_happens_to_connections() {
    run(async || {
        let cluster = Rc::new(Cluster::start().await);
        let producers: Vec<Producer> = partitions().map(Producer::new).collect();
        produce(&cluster, &producers, 300).await;

        // Killed again and again, after some bytes, so in the middle of frames.
        let is_over = Rc::new(Cell::new(false));
        let killer = (cluster.clone(), is_over.clone());
        spawn(async move {
            let (cluster, is_over) = killer;
            for round in 0u64.. {
                if is_over.get() {
                    break;
                }
                let relay = cluster.relays.values().nth(round as usize % 3).unwrap();
                relay.kill_after(1 + round * 7919 % 60_000);
                pause(Duration::from_millis(40)).await;
            }
        });
        let killed_count = || cluster.relays.values().map(Relay::killed_count).sum::<u64>();
        let mut acked = 300;
        while acked < 1_800 || killed_count() < 60 {
            acked += 50;
            produce(&cluster, &producers, acked).await;
        }
        is_over.set(true);

        // A primary is cut off: what it takes from then on is lost, it leaves the in-sync sets, and comes back.
        let away = cluster.metadata.primary(producers[0].partition).unwrap();
        let before = cluster.metadata.change_count.get();
        cluster.set_links(away.get(), Mode::Cut);
        for producer in &producers {
            if cluster.metadata.primary(producer.partition) == Some(away) {
                producer.settle(&cluster.metadata);
                producer.lose(&cluster);
                cluster.elect(producer.partition, Some(away)).await;
            }
        }
        let cut_off = &cluster.nodes[away.get() as usize];
        let at: Vec<Offset> = partitions().map(|partition| cluster.written(cut_off, partition)).collect();
        produce(&cluster, &producers, acked + 800).await;
        let now: Vec<Offset> = partitions().map(|partition| cluster.written(cut_off, partition)).collect();
        assert_eq!(at, now, "it got nothing new");
        until("it leaves an in-sync set", || cluster.metadata.change_count.get() > before).await;
        cluster.set_links(away.get(), Mode::Pass);
        check(&cluster, &producers).await;

        // A peer that takes nothing and says nothing, on a connection that stays.
        let before = cluster.counts(0, 1).connection_count;
        cluster.relays[&(0, 1)].set(Mode::Hang);
        produce(&cluster, &producers, acked + 1_200).await;
        until("silence ends a connection", || !cluster.counts(0, 1).is_connected).await;
        cluster.relays[&(0, 1)].set(Mode::Pass);
        until("it is made anew", || cluster.counts(0, 1).connection_count > before).await;

        // Bits flip on the way.
        for round in 0..20 {
            let relay = cluster.relays.values().nth(round % 3).unwrap();
            relay.flip();
            let acked = producers.iter().map(|producer| producer.acked.borrow().len()).sum::<usize>();
            produce(&cluster, &producers, acked + 30).await;
            until("a bit flips", || relay.has_flipped()).await;
        }

        // Another primary for all of them, in the middle.
        for producer in &producers {
            let old = cluster.metadata.primary(producer.partition);
            producer.abandon(&cluster.metadata);
            cluster.elect(producer.partition, old).await;
            assert_ne!(cluster.metadata.primary(producer.partition), old);
        }
        let acked = producers.iter().map(|producer| producer.acked.borrow().len()).sum::<usize>();
        produce(&cluster, &producers, acked + 500).await;
        check(&cluster, &producers).await;

        for (node, other) in [(0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)] {
            until("both ends have measured", || cluster.counts(node, other).round_trip.is_some()).await;
            let counts = cluster.counts(node, other);
            assert!(counts.is_connected && counts.connection_count > 1, "{node} and {other}: {counts:?}");
            assert!(counts.bytes_sent > 10_000 && counts.bytes_received > 10_000, "{counts:?}");
            // Two of three commit: the last acknowledgements of the third may be under way when everybody holds everything.
            let lag =
                || cluster.nodes[node as usize].runner.look(|driver| driver.lag(peer(NodeId::new(other))));
            until("all of it is acknowledged", || (lag().records, lag().bytes) == (0, 0)).await;
        }
        let bad: u64 = (0..3)
            .flat_map(|node| (0..3).map(move |other| (node, other)))
            .map(|(node, other)| cluster.counts(node, other).bad_frame_count)
            .sum();
        assert!(bad > 0, "flipped bits were noticed by the frames, not only by the batches");
        let cluster = Rc::into_inner(cluster).expect("the killer has ended");
        cluster.stop().await
    });
}
