//! The state of the cluster and the latencies of a node as JSON, for `heddle cluster`.

use std::{collections::BTreeMap, rc::Rc};

use heddle_log_store::Disk;
use serde::Serialize;

use super::{metrics::CoreReport, server::collect};
use crate::{
    cluster::message::{Reply, Request},
    metadata::{ClusterImage, PartitionImage, ReplicaSlot},
    shard::Shard,
};

/// The most partitions that each list of the status names.
const LISTED_MAX: usize = 100;

#[derive(Serialize)]
struct Status {
    cluster_id: String,
    metadata_index: u64,
    topic_count: usize,
    partition_count: usize,
    /// The node that leads the metadata.
    controller: Option<u32>,
    leaderless_count: usize,
    under_replicated_count: usize,
    under_replicated: Vec<UnderReplicated>,
    moving_count: usize,
    moving: Vec<Moving>,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct UnderReplicated {
    topic: String,
    partition: u32,
    replicas: Vec<u32>,
    in_sync: Vec<u32>,
}

#[derive(Serialize)]
struct Moving {
    topic: String,
    partition: u32,
    replicas: Vec<u32>,
    target: Vec<u32>,
}

#[derive(Serialize)]
struct Node {
    id: u32,
    address: String,
    peer_address: String,
    rack: String,
    port_mode: crate::config::PortMode,
    core_count: u16,
    /// Nothing where whoever leads the metadata could not be asked.
    is_alive: Option<bool>,
    is_draining: bool,
    led_partition_count: usize,
    replica_count: usize,
    /// What it lacks of the partitions that the asked node leads; nothing for that node itself.
    lag_records: Option<u64>,
    /// As [`Node::lag_records`].
    lag_bytes: Option<u64>,
}

impl<D: Disk> Shard<D> {
    /// The state of the cluster as this core and whoever leads the metadata know it, as one JSON object.
    pub async fn status_json(self: &Rc<Self>) -> String {
        let alive = match self.ask_leader(Request::WhoLives).await {
            Reply::Alive(leader, nodes) => Some((leader, nodes)),
            _ => None,
        };
        let mut lags: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for stream in collect(self).await.iter().flat_map(|report| &report.streams) {
            let (records, bytes) = lags.entry(stream.peer.node.get()).or_default();
            *records += stream.lag.records;
            *bytes += stream.lag.bytes;
        }
        let status = status(&self.image(), alive, (self.node.get(), &lags));
        simd_json::to_string(&status).expect("plain data becomes JSON")
    }
}

fn status(
    image: &ClusterImage,
    alive: Option<(u32, Vec<u32>)>,
    (me, lags): (u32, &BTreeMap<u32, (u64, u64)>),
) -> Status {
    let all = || {
        let topics = image.topics.values();
        topics.flat_map(|topic| topic.indexes().zip(&topic.partitions).map(move |it| (&topic.name, it)))
    };
    let nodes_of = |replicas: &[ReplicaSlot]| replicas.iter().map(|replica| replica.node).collect();
    let is_gone = |node: &u32| alive.as_ref().is_some_and(|(_, alive)| !alive.contains(node));
    let is_under = |partition: &PartitionImage| {
        partition.wanted().iter().any(|it| !partition.isr.contains(&it.node) || is_gone(&it.node))
    };
    let under = || all().filter(|(_, (_, partition))| is_under(partition));
    let moving = || all().filter(|(_, (_, partition))| partition.is_moving());
    let (mut led, mut held) = (BTreeMap::<u32, usize>::new(), BTreeMap::<u32, usize>::new());
    for (_, (_, partition)) in all() {
        *led.entry(partition.leader).or_default() += 1;
        for replica in partition.replicas.iter().chain(&partition.leaving) {
            *held.entry(replica.node).or_default() += 1;
        }
    }
    Status {
        cluster_id: image.cluster_id.to_string(),
        metadata_index: image.index,
        topic_count: image.topics.len(),
        partition_count: all().count(),
        controller: alive.as_ref().map(|(leader, _)| *leader),
        leaderless_count: all().filter(|(_, (_, it))| it.electing != 0).count(),
        under_replicated_count: under().count(),
        under_replicated: under()
            .take(LISTED_MAX)
            .map(|(topic, (index, partition))| UnderReplicated {
                topic: topic.to_string(),
                partition: index.get(),
                replicas: nodes_of(&partition.replicas),
                in_sync: partition.isr.clone(),
            })
            .collect(),
        moving_count: moving().count(),
        moving: moving()
            .take(LISTED_MAX)
            .map(|(topic, (index, partition))| Moving {
                topic: topic.to_string(),
                partition: index.get(),
                replicas: nodes_of(&partition.replicas),
                target: nodes_of(&partition.target),
            })
            .collect(),
        nodes: image
            .nodes
            .values()
            .map(|node| {
                let id = node.id.get();
                let lag = (id != me).then(|| lags.get(&id).copied().unwrap_or_default());
                Node {
                    id,
                    address: format!("{}:{}", node.host, node.port),
                    peer_address: node.peer_address.clone(),
                    rack: node.rack.clone(),
                    port_mode: node.port_mode,
                    core_count: node.core_count,
                    is_alive: alive.as_ref().map(|(_, alive)| alive.contains(&id)),
                    is_draining: image.draining.contains(&id),
                    led_partition_count: led.get(&id).copied().unwrap_or(0),
                    replica_count: held.get(&id).copied().unwrap_or(0),
                    lag_records: lag.map(|(records, _)| records),
                    lag_bytes: lag.map(|(_, bytes)| bytes),
                }
            })
            .collect(),
    }
}

/// What each core of a node recorded since it started.
#[derive(Serialize)]
struct Latencies {
    node: u32,
    cores: Vec<CoreLatencies>,
}

#[derive(Serialize)]
struct CoreLatencies {
    core: u16,
    stages: Vec<StageLatency>,
}

#[derive(Serialize)]
struct StageLatency {
    operation: &'static str,
    stage: &'static str,
    /// A duration in nanoseconds and how often it (or one that is the same to two digits) occurred.
    counts: Vec<(u64, u64)>,
}

/// The stage histograms of every core of this node, as one JSON object (docs/operations.md).
pub async fn latency_json<D: Disk>(shard: &Rc<Shard<D>>) -> String {
    let cores = collect(shard).await.iter().map(core_latencies).collect();
    let latencies = Latencies { node: shard.node.get(), cores };
    simd_json::to_string(&latencies).expect("plain data becomes JSON")
}

fn core_latencies(report: &CoreReport) -> CoreLatencies {
    let stages = report.stages.iter().map(|stage| StageLatency {
        operation: stage.operation,
        stage: stage.stage,
        counts: stage
            .latency
            .iter_recorded()
            .map(|value| (value.value_iterated_to(), value.count_since_last_iteration()))
            .collect(),
    });
    CoreLatencies { core: report.core, stages: stages.collect() }
}
