//! The commands of the metadata log and what each does to the image: a pure state machine.
//!
//! [`apply`] must give the same image on every node that applies the same commands, so it reads no clock and draws no
//! random number: whoever proposes a command puts those into it.

use std::{collections::BTreeMap, sync::Arc};

use heddle_proto::ids::{NodeId, TopicId};

use super::{
    elections::{self, Elected, Election, InSyncChange, QuorumChange},
    filling,
    image::{ClusterImage, NodeImage, PartitionImage, PortMode, ReplicaSlot, TopicImage},
    name::check_topic_name,
    placing,
    quota::QuotaChange,
    reassign::{self, Finished, Move},
    topic_config::TopicConfig,
};

/// The most partitions one topic may have: a bound on the work of one command.
pub const PARTITION_COUNT_MAX: u32 = 100_000;

/// One change of the cluster's metadata, as written to its log.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// The first command of a cluster: gives it its identity.
    FoundCluster {
        /// A random id.
        cluster_id: String,
    },
    /// A node started: where it can be reached, and with how many cores. It leads in a new epoch from here on, because
    /// a primary that restarts does not resume the epoch it had.
    StartNode {
        /// The node's id.
        node: u32,
        /// The host that clients are told.
        host: String,
        /// The first port.
        port: u16,
        /// How many cores serve.
        core_count: u16,
        /// How clients reach them.
        port_mode: PortMode,
        /// Where core 0 hears its peers, as `HOST:PORT`; empty for nowhere.
        peer_address: String,
        /// Where it stands; empty for nowhere in particular.
        rack: String,
    },
    /// Creates a topic.
    CreateTopic {
        /// Its name.
        name: String,
        /// Its id, drawn by the proposer.
        id: String,
        /// How many partitions.
        partition_count: u32,
        /// How many replicas each.
        replication_factor: u16,
        /// The settings it overrides.
        overrides: BTreeMap<String, String>,
        /// Where each partition's replicas go, the preferred primary first; empty for the cluster's choice.
        replicas: Vec<Vec<ReplicaSlot>>,
    },
    /// Changes settings: a value sets, `None` goes back to the default.
    AlterTopic {
        /// Its name.
        name: String,
        /// What to set or reset.
        changes: BTreeMap<String, Option<String>>,
    },
    /// Adds partitions up to a new count.
    GrowTopic {
        /// Its name.
        name: String,
        /// The new number of partitions.
        partition_count: u32,
        /// Where the replicas of each new partition go; empty for the cluster's choice.
        replicas: Vec<Vec<ReplicaSlot>>,
    },
    /// Deletes a topic; its files go afterwards.
    DeleteTopic {
        /// Its name.
        name: String,
    },
    /// The files of a deleted topic are gone from a node.
    ForgetTopic {
        /// The topic's id.
        id: String,
        /// The node.
        node: u32,
    },
    /// Replaces all settings of a topic.
    ReplaceTopicConfig {
        /// Its name.
        name: String,
        /// The settings it overrides from now on.
        overrides: BTreeMap<String, String>,
    },
    /// Changes what a user or client may use.
    ChangeQuota {
        /// What changes.
        change: QuotaChange,
    },
    /// Hands out a block of producer ids.
    TakeProducerIds {
        /// How many.
        count: u32,
    },
    /// Partitions have lost their leader, or are to get another one: whoever is in sync is asked to seal.
    BeginElections {
        /// Which.
        elections: Vec<Election>,
    },
    /// Enough replicas have sealed, and the controller says who leads.
    EndElections {
        /// Who leads what.
        elected: Vec<Elected>,
    },
    /// Primaries want other in-sync sets.
    ChangeInSync {
        /// Which.
        changes: Vec<InSyncChange>,
    },
    /// Moves the replicas of a partition, as an operator wants it.
    Reassign {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: u32,
        /// Where they are to be, the preferred primary first; `None` takes the move under way back.
        target: Option<Vec<ReplicaSlot>>,
    },
    /// Replicas that were on the move are where they were to go.
    FinishReassign {
        /// Which.
        finished: Vec<Finished>,
    },
    /// A node is to give away all it has, or is to be as others again.
    DrainNode {
        /// The node's id.
        node: u32,
        /// Whether it is to give all away.
        is_draining: bool,
    },
    /// A node is gone for good.
    RemoveNode {
        /// The node's id.
        node: u32,
    },
    /// Moves replicas of partitions, as the cluster itself wants it.
    Rebalance {
        /// Which.
        moves: Vec<Move>,
    },
    /// Nodes that came have their share.
    EndFilling {
        /// Which.
        nodes: Vec<u32>,
    },
    /// Primaries want other commit quorums.
    ChangeQuorum {
        /// Which.
        changes: Vec<QuorumChange>,
    },
}

#[cfg(test)]
impl Command {
    /// A node starts that nobody is to reach.
    pub fn start(node: u32) -> Command {
        Command::StartNode {
            node,
            host: "h".into(),
            port: 1,
            core_count: 2,
            port_mode: PortMode::PerCore,
            peer_address: String::new(),
            rack: String::new(),
        }
    }
}

/// What a command that was applied answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Done,
    /// A topic was created, changed or deleted.
    Topic(TopicId),
    /// The first producer id of the block.
    ProducerIds(i64),
    /// A node has started for the so-manieth time.
    Life(u32),
}

/// Why a command was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The topic is not there.
    #[error("there is no topic '{0}'")]
    UnknownTopic(String),
    /// A topic of that name is there already.
    #[error("the topic '{0}' already exists")]
    TopicExists(String),
    /// The name breaks the rules.
    #[error("{0}")]
    InvalidTopicName(String),
    /// A setting is unknown or out of range.
    #[error("{0}")]
    InvalidConfig(String),
    /// The number of partitions is out of range.
    #[error("{0}")]
    InvalidPartitionCount(String),
    /// There are not as many nodes.
    #[error("replication factor {wanted} needs as many nodes; the cluster has {available}")]
    InvalidReplicationFactor {
        /// What was asked for.
        wanted: u16,
        /// How many nodes there are.
        available: usize,
    },
    /// Replicas cannot go where they were asked to.
    #[error("{0}")]
    InvalidAssignment(String),
    /// The request itself is contradictory.
    #[error("{0}")]
    InvalidRequest(String),
    /// The metadata log is closed: the node is stopping.
    #[error("the node is shutting down")]
    Closing,
    /// Nobody who leads the metadata could be asked, or it did not answer.
    #[error("{0}")]
    Unavailable(String),
    /// The topic has no such partition.
    #[error("there is no partition {1} of '{0}'")]
    UnknownPartition(String, u32),
    /// A move that was to be taken back is not under way.
    #[error("no replica of {0}/{1} is being moved")]
    NothingMoves(String, u32),
}

/// Applies one command to an image.
///
/// # Errors
/// A refusal leaves the image as it was.
pub fn apply(image: &mut ClusterImage, command: &Command) -> Result<Outcome, MetadataError> {
    match command {
        Command::FoundCluster { cluster_id } => {
            if image.cluster_id.is_empty() {
                image.cluster_id = cluster_id.as_str().into();
            }
            Ok(Outcome::Done)
        }
        Command::StartNode { node, host, port, core_count, port_mode, peer_address, rack } => {
            let life = image.nodes.get(node).map_or(0, |before| before.life) + 1;
            if !image.nodes.contains_key(node) {
                filling::came(image, *node);
            }
            let started = NodeImage {
                id: NodeId::new(*node),
                host: host.clone(),
                port: *port,
                core_count: *core_count,
                port_mode: *port_mode,
                life,
                peer_address: peer_address.clone(),
                rack: rack.clone(),
            };
            image.nodes.insert(*node, Arc::new(started));
            raise_epochs(image, *node);
            Ok(Outcome::Life(life))
        }
        Command::CreateTopic { name, id, partition_count, replication_factor, overrides, replicas } => {
            let id = parse_id(id)?;
            create_topic(image, name, id, (*partition_count, *replication_factor), overrides, replicas)
        }
        Command::AlterTopic { name, changes } => alter_topic(image, name, changes),
        Command::ReplaceTopicConfig { name, overrides } => {
            let mut changed = (*find(image, name)?).clone();
            changed.overrides.clone_from(overrides);
            put_config(image, changed)
        }
        Command::ChangeQuota { change } => change_quota(image, change),
        Command::GrowTopic { name, partition_count, replicas } => {
            grow_topic(image, name, *partition_count, replicas)
        }
        Command::DeleteTopic { name } => {
            let topic = image
                .topics
                .remove(name.as_str())
                .ok_or_else(|| MetadataError::UnknownTopic(name.clone()))?;
            image.topics_by_id.remove(&topic.id);
            filling::forget(image, topic.id);
            image.deleting.insert(topic.id, image.nodes.keys().copied().collect());
            Ok(Outcome::Topic(topic.id))
        }
        Command::ForgetTopic { id, node } => {
            let id = parse_id(id)?;
            if let Some(nodes) = image.deleting.get_mut(&id) {
                nodes.remove(node);
                if nodes.is_empty() {
                    image.deleting.remove(&id);
                }
            }
            Ok(Outcome::Done)
        }
        Command::TakeProducerIds { count } => {
            let first = image.producer_id_next;
            image.producer_id_next += i64::from(*count);
            Ok(Outcome::ProducerIds(first))
        }
        Command::BeginElections { elections } => Ok(elections::begin(image, elections)),
        Command::EndElections { elected } => Ok(elections::end(image, elected)),
        Command::ChangeInSync { changes } => Ok(elections::change(image, changes)),
        Command::Reassign { topic, partition, target } => {
            reassign::begin(image, topic, *partition, target.as_deref())
        }
        Command::FinishReassign { finished } => Ok(reassign::finish(image, finished)),
        Command::DrainNode { node, is_draining } => placing::drain(image, *node, *is_draining),
        Command::RemoveNode { node } => placing::remove(image, *node),
        Command::Rebalance { moves } => Ok(reassign::rebalance(image, moves)),
        Command::EndFilling { nodes } => Ok(filling::end(image, nodes)),
        Command::ChangeQuorum { changes } => Ok(elections::change_quorums(image, changes)),
    }
}

fn raise_epochs(image: &mut ClusterImage, node: u32) {
    let led: Vec<Arc<TopicImage>> = image
        .topics
        .values()
        .filter(|topic| topic.partitions.iter().any(|partition| partition.is_led_for_ever_by(node)))
        .cloned()
        .collect();
    for topic in led {
        let mut changed = (*topic).clone();
        let partitions = changed.partitions.iter_mut();
        partitions.filter(|partition| partition.is_led_for_ever_by(node)).for_each(|it| it.epoch += 1);
        put(image, changed);
    }
}

fn create_topic(
    image: &mut ClusterImage,
    name: &str,
    id: TopicId,
    (partition_count, replication_factor): (u32, u16),
    overrides: &BTreeMap<String, String>,
    replicas: &[Vec<ReplicaSlot>],
) -> Result<Outcome, MetadataError> {
    check_topic_name(name).map_err(MetadataError::InvalidTopicName)?;
    if image.topics.contains_key(name) {
        return Err(MetadataError::TopicExists(name.to_owned()));
    }
    check_partition_count(partition_count)?;
    let config = TopicConfig::parse(overrides).map_err(MetadataError::InvalidConfig)?;
    check_replicas(image, replication_factor, &config)?;
    check_assignment(image, replicas, partition_count as usize, usize::from(replication_factor))?;
    let mut topic = TopicImage {
        name: name.into(),
        id,
        overrides: overrides.clone(),
        config,
        partitions: Vec::with_capacity(partition_count as usize),
    };
    place_partitions(&mut topic, replicas);
    placing::grow(image, &mut topic, usize::from(replication_factor), partition_count)?;
    put(image, topic);
    Ok(Outcome::Topic(id))
}

fn check_partition_count(count: u32) -> Result<(), MetadataError> {
    if (1..=PARTITION_COUNT_MAX).contains(&count) {
        return Ok(());
    }
    Err(MetadataError::InvalidPartitionCount(format!(
        "{count} partitions were asked for; 1 to {PARTITION_COUNT_MAX} are allowed"
    )))
}

fn check_replicas(image: &ClusterImage, factor: u16, config: &TopicConfig) -> Result<(), MetadataError> {
    if factor == 0 || usize::from(factor) > image.nodes.len() {
        return Err(MetadataError::InvalidReplicationFactor { wanted: factor, available: image.nodes.len() });
    }
    if config.commit_quorum > factor {
        return Err(MetadataError::InvalidConfig(format!(
            "min.insync.replicas={} is more than the replication factor {factor}",
            config.commit_quorum
        )));
    }
    Ok(())
}

/// Checks a choice of replicas: for every new partition, on nodes that are there, each once.
fn check_assignment(
    image: &ClusterImage,
    replicas: &[Vec<ReplicaSlot>],
    partition_count: usize,
    factor: usize,
) -> Result<(), MetadataError> {
    let refuse = |why: String| Err(MetadataError::InvalidAssignment(why));
    if replicas.is_empty() {
        return Ok(());
    }
    if replicas.len() != partition_count {
        return refuse(format!("{partition_count} new partitions, but replicas for {}", replicas.len()));
    }
    for slots in replicas {
        let mut nodes: Vec<u32> = slots.iter().map(|slot| slot.node).collect();
        if nodes.len() != factor {
            return refuse(format!("every partition has {factor} replicas; one is given {}", nodes.len()));
        }
        if let Some(node) = nodes.iter().find(|node| !image.nodes.contains_key(node)) {
            return refuse(format!("there is no node {node}"));
        }
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.len() != factor {
            return refuse("two replicas of a partition on one node guard against nothing".to_owned());
        }
    }
    Ok(())
}

/// Adds partitions with chosen replicas.
fn place_partitions(topic: &mut TopicImage, replicas: &[Vec<ReplicaSlot>]) {
    for slots in replicas {
        topic.partitions.push(PartitionImage::new(slots.clone(), topic.config.commit_quorum));
    }
}

fn alter_topic(
    image: &mut ClusterImage,
    name: &str,
    changes: &BTreeMap<String, Option<String>>,
) -> Result<Outcome, MetadataError> {
    let topic = find(image, name)?;
    let mut changed = (*topic).clone();
    for (setting, value) in changes {
        match value {
            Some(value) => changed.overrides.insert(setting.clone(), value.clone()),
            None if super::topic_config::find(setting).is_none() => {
                return Err(MetadataError::InvalidConfig(format!("there is no topic setting '{setting}'")));
            }
            None => changed.overrides.remove(setting),
        };
    }
    put_config(image, changed)
}

/// Takes over a topic whose overrides were changed, if they are valid.
fn put_config(image: &mut ClusterImage, mut changed: TopicImage) -> Result<Outcome, MetadataError> {
    changed.config = TopicConfig::parse(&changed.overrides).map_err(MetadataError::InvalidConfig)?;
    let factor = changed.partitions.first().map_or(1, |partition| partition.wanted().len() as u16);
    // A topic that was given fewer replicas may go on asking for more.
    let asked_before = image.topic(&changed.name).map(|topic| topic.config.commit_quorum);
    if asked_before != Some(changed.config.commit_quorum) {
        check_replicas(image, factor, &changed.config)?;
    }
    let id = changed.id;
    put(image, changed);
    Ok(Outcome::Topic(id))
}

/// The most entities that quotas are set for: a bound on what every core keeps.
pub const QUOTA_COUNT_MAX: usize = 10_000;

fn change_quota(image: &mut ClusterImage, change: &QuotaChange) -> Result<Outcome, MetadataError> {
    let mut quotas = (*image.quotas).clone();
    quotas.change(change);
    if quotas.len() > QUOTA_COUNT_MAX {
        return Err(MetadataError::InvalidRequest(format!(
            "quotas are set for {QUOTA_COUNT_MAX} users and clients already; remove some first"
        )));
    }
    image.quotas = Arc::new(quotas);
    Ok(Outcome::Done)
}

fn grow_topic(
    image: &mut ClusterImage,
    name: &str,
    count: u32,
    replicas: &[Vec<ReplicaSlot>],
) -> Result<Outcome, MetadataError> {
    let topic = find(image, name)?;
    check_partition_count(count)?;
    if count as usize <= topic.partitions.len() {
        return Err(MetadataError::InvalidPartitionCount(format!(
            "the topic '{name}' has {} partitions; a new count must be larger, {count} is not",
            topic.partitions.len()
        )));
    }
    let mut grown = (*topic).clone();
    let factor = grown.partitions.first().map_or(1, |partition| partition.wanted().len());
    check_assignment(image, replicas, count as usize - grown.partitions.len(), factor)?;
    place_partitions(&mut grown, replicas);
    placing::grow(image, &mut grown, factor, count)?;
    let id = grown.id;
    put(image, grown);
    Ok(Outcome::Topic(id))
}

fn find(image: &ClusterImage, name: &str) -> Result<Arc<TopicImage>, MetadataError> {
    image.topic(name).cloned().ok_or_else(|| MetadataError::UnknownTopic(name.to_owned()))
}

/// Puts a changed topic in its place.
pub(super) fn put(image: &mut ClusterImage, topic: TopicImage) {
    let topic = Arc::new(topic);
    image.topics_by_id.insert(topic.id, topic.clone());
    image.topics.insert(topic.name.clone(), topic);
}

fn parse_id(id: &str) -> Result<TopicId, MetadataError> {
    id.parse().map_err(|_| MetadataError::InvalidRequest(format!("'{id}' is not a topic id")))
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
