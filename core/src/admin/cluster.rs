//! What a node knows of its cluster, as numbers: its partitions, its part in the metadata, the elections it decided.

use heddle_log_store::Disk;
use heddle_proto::ids::{PartitionIndex, TopicPartition};

use super::metrics::{Kind, Sample};
use crate::{cluster::session::Session, metadata::PartitionImage, shard::Shard};

fn gauge(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample { name, help, kind: Kind::Gauge, value }
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample { name, help, kind: Kind::Counter, value }
}

impl<D: Disk> Shard<D> {
    /// The partitions that this core leads; on core 0 also what is one for the whole node.
    pub(super) fn cluster_samples(&self) -> Vec<Sample> {
        let image = self.image();
        let all = || {
            image.topics.values().flat_map(|topic| {
                let parts = topic.partitions.iter().enumerate();
                parts
                    .map(|(index, it)| (TopicPartition::new(topic.id, PartitionIndex::new(index as u32)), it))
            })
        };
        let is_led_here = |at: &TopicPartition, partition: &PartitionImage| {
            partition.leader == self.node.get()
                && partition.electing == 0
                && image.core_on(self.node, *at) == Some(self.core())
        };
        let led = || all().filter(|(at, partition)| is_led_here(at, partition));
        // Who is gone stays in sync with a partition that nobody writes to, and still has to be seen to be gone.
        let reached = self.reached_nodes();
        let is_whole = |node: u32, partition: &PartitionImage| {
            partition.isr.contains(&node) && (node == self.node.get() || reached.contains(&node))
        };
        let is_under_replicated = |partition: &PartitionImage| {
            partition.is_replicated() && partition.wanted().iter().any(|it| !is_whole(it.node, partition))
        };
        let under = led().filter(|(_, partition)| is_under_replicated(partition)).count();
        let mut samples = vec![
            gauge("partitions_led", "Partitions that this core leads", led().count() as u64),
            gauge(
                "partitions_under_replicated",
                "Of these, partitions with replicas that are not in sync, or on nodes that this core is not connected to",
                under as u64,
            ),
        ];
        if let Some(session) = &self.metadata {
            let leaderless = all().filter(|(_, partition)| partition.electing != 0).count();
            samples.push(gauge(
                "partitions_leaderless",
                "Partitions of the cluster that wait for a leader to be elected, as this node knows",
                leaderless as u64,
            ));
            samples.extend(metadata_samples(session));
        }
        samples
    }
}

fn metadata_samples<D: Disk>(session: &Session<D>) -> [Sample; 10] {
    let node = session.metadata().node();
    let (members, positions) = (node.members(), node.positions());
    let (begun, lossy) = session.elections();
    [
        gauge("metadata_term", "Term of the metadata's leader", members.term),
        gauge(
            "metadata_appended",
            "Index of the newest entry in this node's log of the metadata",
            positions.appended,
        ),
        gauge(
            "metadata_applied",
            "Index of the newest entry that is committed and applied here",
            positions.applied,
        ),
        gauge("metadata_voters", "Nodes that vote on the metadata", members.voters.len() as u64),
        gauge(
            "metadata_members",
            "Nodes that have the metadata",
            (members.voters.len() + members.learners.len()) as u64,
        ),
        gauge("metadata_leader", "Id of the node that leads the metadata, 0 while none is known", {
            members.leader.map_or(0, |leader| leader.get().into())
        }),
        gauge("metadata_leads", "1 while this node leads the metadata", node.leads().is_some().into()),
        gauge(
            "metadata_in_touch",
            "1 while whoever leads the metadata hears this node; without that it takes no records",
            session.is_in_touch().into(),
        ),
        counter("elections", "Elections of leaders of partitions that this node began", begun),
        counter("elections_lossy", "Of these, elections that may have lost records", lossy),
    ]
}
