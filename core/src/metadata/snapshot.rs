//! The image as it is written to a snapshot file.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use heddle_proto::ids::{NodeId, PartitionIndex, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::{
    command::MetadataError,
    image::{ClusterImage, NodeImage, PartitionImage, PortMode, TopicImage},
    quota::{Entity, Limits, QuotaChange, Quotas},
    topic_config::TopicConfig,
};

/// Everything of a [`ClusterImage`] that cannot be derived.
#[derive(Serialize, Deserialize)]
pub struct Snapshot {
    cluster_id: String,
    index: u64,
    nodes: Vec<Node>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    draining: BTreeSet<u32>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    filling: BTreeSet<u32>,
    /// Topic ids and indexes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    placed_by_hand: Vec<(String, u32)>,
    topics: Vec<Topic>,
    deleting: Vec<(String, BTreeSet<u32>)>,
    producer_id_next: i64,
    #[serde(default)]
    quotas: Vec<Quota>,
    /// Who agreed on all this; nothing where a node was alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Members>,
}

/// Who takes part in the agreement, as of the entry that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Term and index of that entry; nothing when none was ever set.
    pub set_at: Option<(u64, u64)>,
    /// The voters; two sets while one replaces the other.
    pub voters: Vec<BTreeSet<u64>>,
    /// Where each node is reached, those that only learn included.
    pub nodes: Vec<(u64, String)>,
}

#[derive(Serialize, Deserialize)]
struct Quota {
    entity: Entity,
    limits: Limits,
}

#[derive(Serialize, Deserialize)]
struct Node {
    id: u32,
    host: String,
    port: u16,
    core_count: u16,
    port_mode: PortMode,
    life: u32,
    peer_address: String,
    rack: String,
}

#[derive(Serialize, Deserialize)]
struct Topic {
    name: String,
    id: String,
    overrides: BTreeMap<String, String>,
    partitions: Vec<PartitionImage>,
}

impl Snapshot {
    /// Takes one.
    pub fn of(image: &ClusterImage) -> Snapshot {
        Snapshot {
            cluster_id: image.cluster_id.to_string(),
            index: image.index,
            nodes: image
                .nodes
                .values()
                .map(|node| Node {
                    id: node.id.get(),
                    host: node.host.clone(),
                    port: node.port,
                    core_count: node.core_count,
                    port_mode: node.port_mode,
                    life: node.life,
                    peer_address: node.peer_address.clone(),
                    rack: node.rack.clone(),
                })
                .collect(),
            draining: image.draining.clone(),
            filling: image.filling.clone(),
            placed_by_hand: image
                .placed_by_hand
                .iter()
                .map(|at| (at.topic.to_string(), at.partition.get()))
                .collect(),
            topics: image
                .topics
                .values()
                .map(|topic| Topic {
                    name: topic.name.to_string(),
                    id: topic.id.to_string(),
                    overrides: topic.overrides.clone(),
                    partitions: topic.partitions.clone(),
                })
                .collect(),
            deleting: image.deleting.iter().map(|(id, nodes)| (id.to_string(), nodes.clone())).collect(),
            producer_id_next: image.producer_id_next,
            quotas: image
                .quotas
                .iter()
                .map(|(entity, limits)| Quota { entity: entity.clone(), limits: limits.clone() })
                .collect(),
            members: None,
        }
    }

    /// Index of the last command in it.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The image it was taken of.
    ///
    /// # Errors
    /// When an id or a setting in it is not valid.
    pub fn into_image(self) -> Result<ClusterImage, MetadataError> {
        let mut image = ClusterImage {
            cluster_id: self.cluster_id.as_str().into(),
            index: self.index,
            producer_id_next: self.producer_id_next,
            draining: self.draining,
            filling: self.filling,
            ..ClusterImage::default()
        };
        for node in self.nodes {
            let id = NodeId::new(node.id);
            let Node { host, port, core_count, port_mode, life, peer_address, rack, .. } = node;
            let node_image = NodeImage { id, host, port, core_count, port_mode, life, peer_address, rack };
            image.nodes.insert(node.id, Arc::new(node_image));
        }
        for topic in self.topics {
            let topic = Arc::new(TopicImage {
                name: topic.name.as_str().into(),
                id: parse(&topic.id)?,
                config: TopicConfig::parse(&topic.overrides).map_err(MetadataError::InvalidConfig)?,
                overrides: topic.overrides,
                partitions: topic.partitions,
            });
            image.topics_by_id.insert(topic.id, topic.clone());
            image.topics.insert(topic.name.clone(), topic);
        }
        for (topic, index) in self.placed_by_hand {
            let at = TopicPartition::new(parse(&topic)?, PartitionIndex::new(index));
            image.placed_by_hand.insert(at);
        }
        for (id, nodes) in self.deleting {
            image.deleting.insert(parse(&id)?, nodes);
        }
        let mut quotas = Quotas::default();
        for Quota { entity, limits } in self.quotas {
            let changes = limits.into_iter().map(|(limited, value)| (limited, Some(value))).collect();
            quotas.change(&QuotaChange { entity, changes });
        }
        image.quotas = Arc::new(quotas);
        Ok(image)
    }
}

fn parse(id: &str) -> Result<TopicId, MetadataError> {
    id.parse().map_err(|_| MetadataError::InvalidRequest(format!("'{id}' is not a topic id")))
}
