//! The agreement on the metadata: the broker's commands, applied by the broker to the broker's image, one after the other.
//!
//! It is ideal: what is proposed while somebody leads takes effect once, in one order for all. Who leads changes when the
//! leader is gone, and sometimes for no reason; one that is replaced goes on until it hears of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use heddle_core::metadata::command::apply;
use heddle_core::metadata::{
    ClusterImage, Command, MetadataError, Outcome, PartitionImage, PortMode, ReplicaSlot,
};
use heddle_proto::ids::{NodeId, TopicId, TopicPartition};
use heddle_replication::replica::Hold;

use crate::network::{METADATA, Network, Packet};
use crate::plan::{Bug, Plan};
use crate::random::Random;

/// The name of the only topic.
pub const TOPIC: &str = "t";
/// Its id.
pub const TOPIC_ID: TopicId = TopicId::new([7; 16]);

/// Images are sent again to those that lack the newest, as often as this.
const AGAIN_EVERY: Duration = Duration::from_millis(50);

/// Who leads the metadata.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leader {
    /// Since when, as a number that rises.
    pub term: u64,
    /// Who.
    pub node: NodeId,
}

/// See the module.
pub struct Metadata {
    image: Arc<ClusterImage>,
    leader: Option<Leader>,
    term: u64,
    /// When somebody leads again.
    elects_at: Option<Duration>,
    lossy_counts: BTreeMap<TopicPartition, u32>,
    random: Random,
    bug: Option<Bug>,
}

impl Metadata {
    /// A cluster that nobody has joined.
    pub fn new(plan: &Plan) -> Metadata {
        let mut metadata = Metadata {
            image: Arc::default(),
            leader: None,
            term: 0,
            elects_at: None,
            lossy_counts: BTreeMap::new(),
            random: Random::new(plan.seed, 5),
            bug: plan.bug,
        };
        let found = metadata.apply(&Command::FoundCluster { cluster_id: "sim".into() });
        assert!(found.is_ok(), "a cluster is founded: {found:?}");
        metadata
    }

    /// What is agreed on.
    pub fn image(&self) -> &Arc<ClusterImage> {
        &self.image
    }

    /// Who leads.
    pub fn leader(&self) -> Option<Leader> {
        self.leader
    }

    /// Whether what is proposed now takes effect.
    pub fn is_led(&self) -> bool {
        self.leader.is_some() && self.elects_at.is_none()
    }

    /// A partition of the only topic.
    ///
    /// # Panics
    /// Before the topic is made.
    pub fn partition(&self, at: TopicPartition) -> &PartitionImage {
        let topic = self.image.topic_by_id(at.topic);
        topic.and_then(|topic| topic.partition(at.partition)).expect("no topic is ever deleted")
    }

    /// Who leads a partition.
    pub fn primary(&self, at: TopicPartition) -> Option<NodeId> {
        primary_in(&self.image, at)
    }

    /// Members of the in-sync set.
    pub fn members(&self, at: TopicPartition) -> BTreeSet<NodeId> {
        self.partition(at).isr.iter().copied().map(NodeId::new).collect()
    }

    /// How many elections may have lost what was committed.
    pub fn lossy_count(&self, at: TopicPartition) -> u32 {
        self.lossy_counts.get(&at).copied().unwrap_or(0)
    }

    /// Applies the next command.
    ///
    /// # Errors
    /// When it is refused; it has its place in the order all the same.
    pub fn apply(&mut self, command: &Command) -> Result<Outcome, MetadataError> {
        let mut image = ClusterImage::clone(&self.image);
        let outcome = apply(&mut image, command);
        if outcome.is_ok() {
            match (self.bug, command) {
                (Some(Bug::MovesTooSoon), Command::Reassign { target: Some(target), .. }) => {
                    edit(&mut image, |partition| move_too_soon(partition, target));
                }
                (Some(Bug::DrainsAtOnce), Command::DrainNode { node, is_draining: true }) => {
                    edit(&mut image, |partition| drain_at_once(partition, *node));
                }
                _ => {}
            }
        }
        image.index += 1;
        for (before, topic) in self.image.topics.values().zip(image.topics.values()) {
            let both = before.partitions.iter().zip(&topic.partitions).zip(topic.indexes());
            for (_, index) in both.filter(|((before, after), _)| before.lossy != after.lossy) {
                *self.lossy_counts.entry(TopicPartition::new(topic.id, index)).or_default() += 1;
            }
        }
        self.image = Arc::new(image);
        outcome
    }

    /// Sends what is newest to nodes.
    pub fn publish(&self, now: Duration, network: &mut Network, to: impl IntoIterator<Item = NodeId>) {
        for node in to {
            network.send(now, METADATA, node, Packet::Image(self.image.clone(), self.leader));
        }
    }

    /// Whether it is time to send what is newest to those that lack it.
    pub fn is_time_to_publish(now: Duration) -> bool {
        now.as_millis().is_multiple_of(AGAIN_EVERY.as_millis())
    }

    /// Another of these leads from now on, if there is one.
    pub fn elect(&mut self, candidates: &[NodeId]) {
        let others: Vec<NodeId> = candidates
            .iter()
            .copied()
            .filter(|node| self.leader.is_none_or(|leader| leader.node != *node))
            .collect();
        if let Some(node) = self.random.pick(&others) {
            self.term += 1;
            self.leader = Some(Leader { term: self.term, node });
        }
    }

    /// When the leader is none of those that could lead, another of them leads after a while. Returns whether one was
    /// elected.
    pub fn tick(&mut self, now: Duration, candidates: &[NodeId]) -> bool {
        if self.leader.is_some_and(|leader| candidates.contains(&leader.node)) {
            self.elects_at = None;
            return false;
        }
        let wait = Duration::from_millis(150 + self.random.below(450));
        if now < *self.elects_at.get_or_insert(now + wait) {
            return false;
        }
        self.elects_at = None;
        let before = self.leader;
        self.elect(candidates);
        self.leader != before
    }
}

/// Who leads a partition as far as an image says.
pub fn primary_in(image: &ClusterImage, at: TopicPartition) -> Option<NodeId> {
    let partition = image.topic_by_id(at.topic)?.partition(at.partition)?;
    partition.grant().primary.map(|(node, _)| node)
}

/// The command with which a node registers its start.
pub fn start_of(node: NodeId) -> Command {
    Command::StartNode {
        node: node.get(),
        host: "sim".into(),
        port: 1,
        core_count: 1,
        port_mode: PortMode::PerCore,
        peer_address: format!("sim:{}", 1000 + node.get()),
        rack: String::new(),
    }
}

/// The command that makes the topic.
pub fn topic_of(plan: &Plan) -> Command {
    let durability = match plan.hold {
        Hold::Durable => "fsync",
        Hold::Written => "replicated",
    };
    let overrides = [("min.insync.replicas", plan.quorum.to_string()), ("durability", durability.into())];
    let replicas = (0..plan.partition_count).map(|index| {
        let nodes = (0..plan.replica_count).map(|at| (at + index) % plan.node_count);
        nodes.map(|node| ReplicaSlot { node, slot: 0 }).collect()
    });
    Command::CreateTopic {
        name: TOPIC.into(),
        id: TOPIC_ID.to_string(),
        partition_count: plan.partition_count,
        replication_factor: plan.replica_count as u16,
        overrides: overrides.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        replicas: replicas.collect(),
    }
}

/// A mistake planted on purpose: see [`Bug::MovesTooSoon`].
fn move_too_soon(partition: &mut PartitionImage, target: &[ReplicaSlot]) {
    if partition.target.is_empty()
        || !partition.target.iter().map(|it| it.node).eq(target.iter().map(|it| it.node))
    {
        return;
    }
    let goes = |replica: &&ReplicaSlot| {
        replica.node == partition.leader && target.iter().all(|it| it.node != partition.leader)
    };
    let leaving = partition.replicas.iter().filter(goes).copied().collect();
    (partition.replicas, partition.leaving) = (std::mem::take(&mut partition.target), leaving);
    partition.isr = partition.replicas.iter().chain(&partition.leaving).map(|replica| replica.node).collect();
    partition.isr.sort_unstable();
    partition.isr_version += 1;
    partition.origin.clear();
}

/// A mistake planted on purpose: see [`Bug::DrainsAtOnce`].
fn drain_at_once(partition: &mut PartitionImage, node: u32) {
    partition.isr.retain(|member| *member != node);
    partition.isr_version += 1;
    partition.replicas.retain(|replica| replica.node != node);
}

fn edit(image: &mut ClusterImage, mut act: impl FnMut(&mut PartitionImage)) {
    for topic in image.topics.values().cloned().collect::<Vec<_>>() {
        let mut topic = (*topic).clone();
        topic.partitions.iter_mut().for_each(&mut act);
        let topic = Arc::new(topic);
        image.topics_by_id.insert(topic.id, topic.clone());
        image.topics.insert(topic.name.clone(), topic);
    }
}
