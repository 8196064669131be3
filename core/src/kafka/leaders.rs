//! Where a client should go instead: the leader of a partition, told with a refusal (KIP-951).

use heddle_net::kafka::produce::{CurrentLeader, NodeEndpoint};
use heddle_proto::{error::ErrorCode, ids::TopicPartition};

use super::words;
use crate::metadata::ClusterImage;

/// Leaders told in one reply, and the brokers that the reply must say the addresses of.
pub struct Leaders<'a> {
    image: &'a ClusterImage,
    endpoints: Vec<NodeEndpoint>,
}

impl<'a> Leaders<'a> {
    /// None told yet.
    pub fn new(image: &'a ClusterImage) -> Self {
        Leaders { image, endpoints: Vec::new() }
    }

    /// The leader to tell beside `error`; `None` for errors that another broker does not cure, and while there is no
    /// leader.
    pub fn tell(&mut self, at: TopicPartition, error: ErrorCode) -> Option<CurrentLeader> {
        if !matches!(error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch) {
            return None;
        }
        let topic = self.image.topic_by_id(at.topic)?;
        let partition = topic.partition(at.partition)?;
        let id = self.image.leader_broker(topic, partition);
        if !self.endpoints.iter().any(|known| known.id == id) {
            let mut brokers = self.image.nodes.values().flat_map(|node| node.brokers());
            let broker = brokers.find(|broker| broker.id == id)?;
            let (host, port) = (words(broker.host), i32::from(broker.port));
            let rack = self.image.broker(id).and_then(|(node, _)| node.rack()).map(words);
            self.endpoints.push(NodeEndpoint { id, host, port, rack });
        }
        Some(CurrentLeader { id, epoch: partition.epoch })
    }

    /// The brokers that were told, each once.
    pub fn into_endpoints(self) -> Vec<NodeEndpoint> {
        self.endpoints
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use heddle_proto::ids::{PartitionIndex, TopicId};

    use super::*;
    use crate::metadata::{Command, PortMode, command::apply};

    fn image() -> ClusterImage {
        let mut image = ClusterImage::default();
        for node in 1..=2 {
            let (host, port_mode) = (format!("host-{node}"), PortMode::PerCore);
            let start = Command::StartNode {
                node,
                host,
                port: 9092,
                core_count: 2,
                port_mode,
                peer_address: String::new(),
                rack: String::new(),
            };
            apply(&mut image, &start).expect("starts");
        }
        let create = Command::CreateTopic {
            name: "t".into(),
            id: TopicId::new([1; 16]).to_string(),
            partition_count: 4,
            replication_factor: 1,
            overrides: BTreeMap::new(),
            replicas: Vec::new(),
        };
        apply(&mut image, &create).expect("creates");
        image
    }

    #[test]
    fn each_broker_is_told_once_and_only_where_it_helps() {
        let image = image();
        let mut leaders = Leaders::new(&image);
        let at = |index| TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(index));
        assert_eq!(leaders.tell(at(0), ErrorCode::OffsetOutOfRange), None);
        assert_eq!(leaders.tell(at(9), ErrorCode::NotLeaderOrFollower), None);
        let told: Vec<i32> = (0..4)
            .chain(0..4)
            .map(|index| leaders.tell(at(index), ErrorCode::NotLeaderOrFollower).expect("has a leader").id)
            .collect();
        let topic = image.topic("t").expect("is there");
        let want: Vec<i32> = topic.partitions.iter().map(|p| image.leader_broker(topic, p)).collect();
        assert_eq!(told, [want.clone(), want].concat());
        let endpoints = leaders.into_endpoints();
        assert_eq!(endpoints.len(), 4);
        for endpoint in endpoints {
            let (node, core) = (endpoint.id / 1000, endpoint.id % 1000);
            assert_eq!((endpoint.host.as_str(), endpoint.port), (&*format!("host-{node}"), 9092 + core));
        }
    }
}
