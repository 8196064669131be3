//! The state of the cluster as JSON, for `heddle cluster status`.

use heddle_log_store::Disk;
use serde::Serialize;

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
