//! Operations that change metadata: they go to core 0, whose service is the only writer.

use std::{collections::BTreeMap, sync::Arc};

use heddle_log_store::Disk;
use heddle_proto::{error::ErrorCode, ids::TopicId};

use super::{
    Shard,
    request::{CoreReply, CoreRequest, OpError},
};
use crate::{
    cluster::message::{Reply, Request},
    metadata::{
        ClusterImage, Command, MetadataError, Outcome, PortMode, ReplicaSlot, TopicImage, command::apply,
        image::slot_for, internal::InternalTopic, name::check_topic_name,
    },
    runtime::mesh::PeerStopped,
};

/// What to create.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` for the node's default.
    pub partition_count: Option<u32>,
    /// How many replicas; `None` for the node's default.
    pub replication_factor: Option<u16>,
    /// The settings it overrides.
    pub overrides: BTreeMap<String, String>,
    /// The brokers that each partition's replicas go to, the preferred primary first; empty for the cluster's choice.
    pub assignment: Vec<Vec<i32>>,
}

impl NewTopic {
    /// A topic with all defaults.
    pub fn with_defaults(name: &str) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            partition_count: None,
            replication_factor: None,
            overrides: BTreeMap::new(),
            assignment: Vec::new(),
        }
    }
}

impl<D: Disk> Shard<D> {
    /// Proposes a change of metadata and waits until it is durable and every core of this node works by it.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn propose(&self, command: Command) -> Result<Outcome, MetadataError> {
        if let Some(session) = &self.metadata {
            return session.metadata().submit(command).await;
        }
        match self.mesh.ask(super::CoreId::new(0), CoreRequest::Propose(command)).await {
            Ok(CoreReply::Proposed(result)) => result,
            Ok(_) | Err(PeerStopped(_)) => Err(MetadataError::Closing),
        }
    }

    /// Asks whoever leads the metadata.
    pub async fn ask_leader(&self, request: Request) -> Reply {
        if let Some(session) = &self.metadata {
            return session.ask_leader(request).await;
        }
        match self.mesh.ask(super::CoreId::new(0), CoreRequest::AskLeader(request)).await {
            Ok(CoreReply::LeaderSays(reply)) => reply,
            Ok(_) | Err(PeerStopped(_)) => Reply::Refused(MetadataError::Closing.to_string()),
        }
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// Says what is wrong with the request.
    pub async fn create_topic(&self, new: NewTopic) -> Result<TopicId, OpError> {
        let (_, command) = self.creation(new)?;
        self.propose_topic(command).await
    }

    /// Checks that a topic could be created, and says what it would be.
    ///
    /// # Errors
    /// As [`Shard::create_topic`].
    pub fn would_create(&self, new: NewTopic) -> Result<Arc<TopicImage>, OpError> {
        let (id, command) = self.creation(new)?;
        let mut image = (*self.image()).clone();
        apply(&mut image, &command).map_err(|error| self.refused(&error))?;
        Ok(image.topic_by_id(id).expect("the topic was created in this image").clone())
    }

    /// Checks that a change would be taken, and gives the metadata as they would be.
    ///
    /// # Errors
    /// The refusal.
    pub fn would_change(&self, command: &Command) -> Result<ClusterImage, OpError> {
        check_change(command)?;
        let mut trial = (*self.image()).clone();
        apply(&mut trial, command).map_err(|error| refusal(&error))?;
        Ok(trial)
    }

    /// The command that creates a topic, and the id drawn for it.
    fn creation(&self, new: NewTopic) -> Result<(TopicId, Command), OpError> {
        check_client_topic(&new.name)?;
        let id = TopicId::from_bytes(*uuid::Uuid::new_v4().as_bytes());
        let replicas = place(&self.image(), id, &new.assignment)?;
        let command = Command::CreateTopic {
            name: new.name,
            id: id.to_string(),
            partition_count: new.partition_count.unwrap_or(self.config.partition_count_default),
            replication_factor: new.replication_factor.unwrap_or(self.config.replication_factor_default),
            overrides: with_node_defaults(&self.config, new.overrides),
            replicas,
        };
        Ok((id, command))
    }

    /// Creates an internal topic unless it is there.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn ensure_internal_topic(
        &self,
        topic: InternalTopic,
        partition_count: u32,
    ) -> Result<(), OpError> {
        if self.image().topic(topic.name()).is_some() {
            return Ok(());
        }
        let replication_factor = InternalTopic::replication_factor(self.image().up_count());
        let mut overrides = with_node_defaults(&self.config, topic.overrides());
        let (quorum, value) = InternalTopic::commit_quorum(replication_factor);
        overrides.insert(quorum, value);
        let command = Command::CreateTopic {
            name: topic.name().to_owned(),
            id: TopicId::from_bytes(*uuid::Uuid::new_v4().as_bytes()).to_string(),
            partition_count,
            replication_factor,
            overrides,
            replicas: Vec::new(),
        };
        match self.propose_topic(command).await {
            Err(error) if error.code != ErrorCode::TopicAlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Changes, grows or deletes a topic for a client.
    ///
    /// # Errors
    /// Says what is wrong with the request.
    pub async fn change_topic(&self, command: Command) -> Result<TopicId, OpError> {
        check_change(&command)?;
        self.propose_topic(command).await
    }

    async fn propose_topic(&self, command: Command) -> Result<TopicId, OpError> {
        match self.propose(command).await {
            Ok(Outcome::Topic(id)) => Ok(id),
            Ok(_) => Ok(TopicId::ZERO),
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// The refusal of a topic as a client sees it, with the nodes where there are too few.
    fn refused(&self, error: &MetadataError) -> OpError {
        let told = refusal(error);
        match error {
            MetadataError::InvalidReplicationFactor { .. } => {
                let message = format!("{} ({})", told.message, nodes_for_replicas(&self.image()));
                OpError { message, ..told }
            }
            _ => told,
        }
    }

    /// Creates a topic that a client asked for by using it, if the node allows that. `Ok` also when another client was
    /// faster.
    ///
    /// # Errors
    /// When it does not exist and was not created.
    pub async fn auto_create(&self, name: &str) -> Result<(), OpError> {
        if let Err(reason) = check_topic_name(name) {
            return Err(OpError::new(ErrorCode::InvalidTopicException, reason));
        }
        if !self.config.auto_create_topics || InternalTopic::of(name).is_some() {
            return Err(refusal(&MetadataError::UnknownTopic(name.to_owned())));
        }
        match self.create_topic(NewTopic::with_defaults(name)).await {
            Err(error) if error.code != ErrorCode::TopicAlreadyExists => Err(error),
            _ => Ok(()),
        }
    }
}

/// What clients may not change of the topics that the broker keeps its own state in.
fn check_change(command: &Command) -> Result<(), OpError> {
    match command {
        Command::GrowTopic { name, .. } | Command::DeleteTopic { name } => check_client_topic(name),
        Command::AlterTopic { name, changes } if InternalTopic::of(name).is_some() => {
            check_internal_settings(name, changes.keys())
        }
        Command::ReplaceTopicConfig { name, .. } => check_client_topic(name),
        _ => Ok(()),
    }
}

/// Clients do not create, grow or delete the topics that the broker keeps its own state in.
fn check_client_topic(name: &str) -> Result<(), OpError> {
    match InternalTopic::of(name) {
        None => Ok(()),
        Some(_) => Err(OpError::new(
            ErrorCode::InvalidTopicException,
            format!("'{name}' is an internal topic: the broker alone creates, fills and keeps it"),
        )),
    }
}

/// What the records of an internal topic rest on stays as it is.
fn check_internal_settings<'a>(
    topic: &str,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), OpError> {
    match names.find(|name| InternalTopic::needs(name)) {
        None => Ok(()),
        Some(name) => Err(OpError::new(
            ErrorCode::InvalidConfig,
            format!(
                "{name} of the internal topic '{topic}' cannot be changed: the broker's own state rests on it"
            ),
        )),
    }
}

/// Turns brokers, which clients name, into nodes and slots: with a port for each core, a slot that the hash of the topic's
/// id maps to the wanted core.
///
/// # Errors
/// When a broker is not there.
pub fn place(
    image: &ClusterImage,
    id: TopicId,
    assignment: &[Vec<i32>],
) -> Result<Vec<Vec<ReplicaSlot>>, OpError> {
    let mut turns: BTreeMap<u32, u32> = BTreeMap::new();
    let mut one = |broker: i32| {
        let (node, core) = image.broker(broker).ok_or_else(|| {
            OpError::new(ErrorCode::InvalidReplicaAssignment, format!("there is no broker {broker}"))
        })?;
        let turn = turns.entry(node.id.get()).or_default();
        let slot = match node.port_mode {
            PortMode::PerCore => slot_for(id, core, node.core_count),
            PortMode::Single => *turn,
        };
        *turn += 1;
        Ok(ReplicaSlot { node: node.id.get(), slot })
    };
    assignment.iter().map(|brokers| brokers.iter().map(|broker| one(*broker)).collect()).collect()
}

fn nodes_for_replicas(image: &ClusterImage) -> String {
    let list = |is_draining: bool| -> Vec<String> {
        let nodes = image.nodes.keys().filter(|node| image.draining.contains(*node) == is_draining);
        nodes.map(ToString::to_string).collect()
    };
    let (up, draining) = (list(false), list(true));
    let up = format!("nodes that take replicas: {}", up.join(", "));
    if draining.is_empty() { up } else { format!("{up}; being drained: {}", draining.join(", ")) }
}

/// Settings whose default this node's configuration changes become part of the topic when it is created, so that every
/// node reads the same from the metadata log.
pub fn with_node_defaults(
    config: &crate::config::Config,
    mut overrides: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    for (name, value) in config.topic_defaults() {
        let built_in = crate::metadata::topic_config::find(name).map(|entry| entry.default);
        if built_in != Some(value.as_str()) {
            overrides.entry(name.to_owned()).or_insert(value);
        }
    }
    overrides
}

/// The refusal of a metadata change as a client sees it.
pub fn refusal(error: &MetadataError) -> OpError {
    let code = match error {
        MetadataError::UnknownTopic(_) | MetadataError::UnknownPartition(..) => {
            ErrorCode::UnknownTopicOrPartition
        }
        MetadataError::TopicExists(_) => ErrorCode::TopicAlreadyExists,
        MetadataError::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
        MetadataError::InvalidConfig(_) => ErrorCode::InvalidConfig,
        MetadataError::InvalidPartitionCount(_) => ErrorCode::InvalidPartitions,
        MetadataError::InvalidReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
        MetadataError::InvalidAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        MetadataError::NothingMoves(..) => ErrorCode::NoReassignmentInProgress,
        MetadataError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        MetadataError::Closing | MetadataError::Unavailable(_) => ErrorCode::CoordinatorNotAvailable,
    };
    OpError::new(code, error.to_string())
}
