//! Operations that change metadata: they go to core 0, whose service is the only writer.

use std::collections::BTreeMap;

use heddle_log_store::Disk;
use heddle_proto::{error::ErrorCode, ids::TopicId};

use super::{
    Shard,
    request::{CoreReply, CoreRequest, OpError},
};
use crate::{
    metadata::{Command, MetadataError, Outcome, internal::InternalTopic, name::check_topic_name},
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
}

impl NewTopic {
    /// A topic with all defaults.
    pub fn with_defaults(name: &str) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            partition_count: None,
            replication_factor: None,
            overrides: BTreeMap::new(),
        }
    }
}

impl<D: Disk> Shard<D> {
    /// Proposes a change of metadata and waits until it is durable and every core of this node works by it.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn propose(&self, command: Command) -> Result<Outcome, MetadataError> {
        if let Some(service) = &self.metadata {
            return service.submit(command).await;
        }
        match self.mesh.ask(super::CoreId::new(0), CoreRequest::Propose(command)).await {
            Ok(CoreReply::Proposed(result)) => result,
            Ok(_) | Err(PeerStopped(_)) => Err(MetadataError::Closing),
        }
    }

    /// Creates a topic; with `validate_only` it is checked and nothing is created (the id is then zero).
    ///
    /// # Errors
    /// Says what is wrong with the request.
    pub async fn create_topic(&self, new: NewTopic, validate_only: bool) -> Result<TopicId, OpError> {
        check_client_topic(&new.name)?;
        let id = TopicId::from_bytes(*uuid::Uuid::new_v4().as_bytes());
        let command = Command::CreateTopic {
            name: new.name,
            id: id.to_string(),
            partition_count: new.partition_count.unwrap_or(self.config.partition_count_default),
            replication_factor: new.replication_factor.unwrap_or(self.config.replication_factor_default),
            overrides: with_node_defaults(&self.config, new.overrides),
        };
        if validate_only {
            let mut trial = (*self.image()).clone();
            crate::metadata::command::apply(&mut trial, &command).map_err(|error| refusal(&error))?;
            return Ok(TopicId::ZERO);
        }
        self.propose_topic(command).await
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
        let command = Command::CreateTopic {
            name: topic.name().to_owned(),
            id: TopicId::from_bytes(*uuid::Uuid::new_v4().as_bytes()).to_string(),
            partition_count,
            replication_factor: self.config.replication_factor_default,
            overrides: with_node_defaults(&self.config, topic.overrides()),
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
        match &command {
            Command::GrowTopic { name, .. } | Command::DeleteTopic { name } => check_client_topic(name)?,
            Command::AlterTopic { name, changes } if InternalTopic::of(name).is_some() => {
                check_internal_settings(name, changes.keys())?;
            }
            _ => {}
        }
        self.propose_topic(command).await
    }

    async fn propose_topic(&self, command: Command) -> Result<TopicId, OpError> {
        match self.propose(command).await {
            Ok(Outcome::Topic(id)) => Ok(id),
            Ok(_) => Ok(TopicId::ZERO),
            Err(error) => Err(refusal(&error)),
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
        match self.create_topic(NewTopic::with_defaults(name), false).await {
            Err(error) if error.code != ErrorCode::TopicAlreadyExists => Err(error),
            _ => Ok(()),
        }
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

/// Settings whose default this node's configuration changes become part of the topic when it is created, so that every
/// node reads the same from the metadata log.
fn with_node_defaults(
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
        MetadataError::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
        MetadataError::TopicExists(_) => ErrorCode::TopicAlreadyExists,
        MetadataError::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
        MetadataError::InvalidConfig(_) => ErrorCode::InvalidConfig,
        MetadataError::InvalidPartitionCount(_) => ErrorCode::InvalidPartitions,
        MetadataError::InvalidReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
        MetadataError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        MetadataError::Closing => ErrorCode::CoordinatorNotAvailable,
    };
    OpError::new(code, error.to_string())
}
