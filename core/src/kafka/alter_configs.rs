//! IncrementalAlterConfigs and AlterConfigs: the one sets, resets and changes lists of topic settings, the other replaces
//! all of them.

use std::{collections::BTreeMap, rc::Rc};

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
        IncrementalAlterConfigsResponse, alter_configs_request as replaced,
        alter_configs_response as replaced_reply,
        incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
        incremental_alter_configs_response::AlterConfigsResourceResponse,
    },
};
use heddle_proto::error::ErrorCode;

use super::{
    describe_configs::{RESOURCE_BROKER, RESOURCE_TOPIC},
    words,
};
use crate::{
    metadata::{Command, TopicImage, topic_config},
    shard::{Shard, request::OpError, topics::with_node_defaults},
};

/// Kafka's AlterConfigOp.
const OP_SET: i8 = 0;
const OP_DELETE: i8 = 1;
const OP_APPEND: i8 = 2;
const OP_SUBTRACT: i8 = 3;

/// How often a request names each resource.
type Mentions = BTreeMap<(i8, StrBytes), u32>;

/// Answers one request to change settings: each resource succeeds or fails for itself.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut mentions = Mentions::new();
    for resource in &request.resources {
        *mentions.entry((resource.resource_type, resource.resource_name.clone())).or_default() += 1;
    }
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, resource.resource_name.clone());
        let response =
            AlterConfigsResourceResponse::default().with_resource_type(kind).with_resource_name(name.clone());
        let altered = match check_resource(&mentions, kind, name) {
            Ok(()) => alter(shard, &resource, request.validate_only).await,
            Err(error) => Err(error),
        };
        responses.push(match altered {
            Ok(()) => response.with_error_message(None),
            Err(error) => {
                response.with_error_code(error.code.code()).with_error_message(Some(words(error.message)))
            }
        });
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

/// Answers one request to replace settings: each resource succeeds or fails for itself.
pub async fn replace<D: Disk>(shard: &Rc<Shard<D>>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut mentions = Mentions::new();
    for resource in &request.resources {
        *mentions.entry((resource.resource_type, resource.resource_name.clone())).or_default() += 1;
    }
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, resource.resource_name.clone());
        let response = replaced_reply::AlterConfigsResourceResponse::default()
            .with_resource_type(kind)
            .with_resource_name(name.clone());
        let altered = match check_resource(&mentions, kind, name) {
            Ok(()) => replace_one(shard, &resource, request.validate_only).await,
            Err(error) => Err(error),
        };
        responses.push(match altered {
            Ok(()) => response.with_error_message(None),
            Err(error) => {
                response.with_error_code(error.code.code()).with_error_message(Some(words(error.message)))
            }
        });
    }
    AlterConfigsResponse::default().with_responses(responses)
}

fn check_resource(mentions: &Mentions, kind: i8, name: StrBytes) -> Result<(), OpError> {
    let invalid = |message| Err(OpError::new(ErrorCode::InvalidRequest, message));
    match kind {
        RESOURCE_TOPIC if name.is_empty() => invalid("topics have names; this one is empty"),
        RESOURCE_TOPIC if mentions.get(&(kind, name)).is_some_and(|count| *count > 1) => {
            invalid("the request names this topic twice")
        }
        RESOURCE_TOPIC => Ok(()),
        RESOURCE_BROKER => invalid("settings of a broker are read when it starts; change its configuration"),
        _ => invalid("only settings of topics (resource type 2) can be changed"),
    }
}

async fn alter<D: Disk>(
    shard: &Rc<Shard<D>>,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), OpError> {
    let name = resource.resource_name.to_string();
    let image = shard.image();
    let topic = image.topic(&name);
    let mut changes = BTreeMap::new();
    for config in &resource.configs {
        let value = new_value(topic.map(|topic| &**topic), config)?;
        if changes.insert(config.name.to_string(), value).is_some() {
            return Err(twice(&config.name));
        }
    }
    commit(shard, Command::AlterTopic { name, changes }, validate_only).await
}

async fn replace_one<D: Disk>(
    shard: &Rc<Shard<D>>,
    resource: &replaced::AlterConfigsResource,
    validate_only: bool,
) -> Result<(), OpError> {
    let mut overrides = BTreeMap::new();
    for config in &resource.configs {
        let value = config.value.as_ref().ok_or_else(|| without_value(&config.name))?;
        if overrides.insert(config.name.to_string(), value.to_string()).is_some() {
            return Err(twice(&config.name));
        }
    }
    let overrides = with_node_defaults(&shard.config, overrides);
    let name = resource.resource_name.to_string();
    commit(shard, Command::ReplaceTopicConfig { name, overrides }, validate_only).await
}

async fn commit<D: Disk>(shard: &Rc<Shard<D>>, command: Command, validate_only: bool) -> Result<(), OpError> {
    if validate_only {
        return shard.would_change(&command).map(drop);
    }
    shard.change_topic(command).await.map(drop)
}

fn twice(name: &str) -> OpError {
    OpError::new(ErrorCode::InvalidRequest, format!("the request changes {name} twice"))
}

fn without_value(name: &str) -> OpError {
    OpError::new(ErrorCode::InvalidRequest, format!("{name} is given without a value"))
}

/// What a setting becomes: a value, or `None` for its default.
fn new_value(topic: Option<&TopicImage>, config: &AlterableConfig) -> Result<Option<String>, OpError> {
    let given = || config.value.as_ref().map(ToString::to_string).ok_or_else(|| without_value(&config.name));
    let entry = topic_config::find(&config.name);
    let is_list = entry.is_some_and(|entry| entry.kind == "list");
    match config.config_operation {
        OP_SET => given().map(Some),
        OP_DELETE => Ok(None),
        OP_APPEND | OP_SUBTRACT if is_list => {
            let set = topic.and_then(|topic| topic.overrides.get(config.name.as_str()).cloned());
            let now = set.unwrap_or_else(|| entry.map_or("", |entry| entry.default).to_owned());
            let change = given()?;
            let mut items: Vec<&str> = now.split(',').filter(|item| !item.is_empty()).collect();
            for item in change.split(',') {
                items.retain(|known| *known != item);
                if config.config_operation == OP_APPEND {
                    items.push(item);
                }
            }
            Ok(Some(items.join(",")))
        }
        OP_APPEND | OP_SUBTRACT => Err(OpError::new(
            ErrorCode::InvalidConfig,
            format!("{} is no list; it can only be set or deleted", &*config.name),
        )),
        other => Err(OpError::new(ErrorCode::InvalidRequest, format!("there is no operation {other}"))),
    }
}
