//! The state of the cluster and the latencies of a node as JSON, for `heddle cluster`.

use std::rc::Rc;

use heddle_log_store::Disk;
use serde::Serialize;

use super::{metrics::CoreReport, server::collect};
use crate::shard::Shard;

#[derive(Serialize)]
struct Status {
    cluster_id: String,
    metadata_index: u64,
    topic_count: usize,
    partition_count: usize,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    id: u32,
    address: String,
    port_mode: crate::config::PortMode,
    core_count: u16,
    led_partition_count: usize,
}

impl<D: Disk> Shard<D> {
    /// The state of the cluster as this core knows it, as one JSON object.
    pub fn status_json(&self) -> String {
        let image = self.image();
        let leaders = || image.topics.values().flat_map(|topic| topic.partitions.iter().map(|p| p.leader));
        let status = Status {
            cluster_id: image.cluster_id.to_string(),
            metadata_index: image.index,
            topic_count: image.topics.len(),
            partition_count: leaders().count(),
            nodes: image
                .nodes
                .values()
                .map(|node| Node {
                    id: node.id.get(),
                    address: format!("{}:{}", node.host, node.port),
                    port_mode: node.port_mode,
                    core_count: node.core_count,
                    led_partition_count: leaders().filter(|leader| *leader == node.id.get()).count(),
                })
                .collect(),
        };
        simd_json::to_string(&status).expect("plain data becomes JSON")
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
