//! IncrementalAlterConfigs: sets, resets, and changes lists of topic settings.

use std::{collections::BTreeMap, rc::Rc};

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
    incremental_alter_configs_response::AlterConfigsResourceResponse,
};
use heddle_proto::error::ErrorCode;

use super::{describe_configs::RESOURCE_TOPIC, words};
use crate::{
    metadata::{Command, TopicImage, command::apply, topic_config},
    shard::{Shard, request::OpError, topics::refusal},
};

/// Kafka's AlterConfigOp.
const OP_SET: i8 = 0;
const OP_DELETE: i8 = 1;
const OP_APPEND: i8 = 2;
const OP_SUBTRACT: i8 = 3;

/// Answers one request: each resource succeeds or fails for itself.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match alter(shard, &resource, request.validate_only).await {
            Ok(()) => response.with_error_message(None),
            Err(error) => {
                response.with_error_code(error.code.code()).with_error_message(Some(words(error.message)))
            }
        });
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

async fn alter<D: Disk>(
    shard: &Rc<Shard<D>>,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), OpError> {
    if resource.resource_type != RESOURCE_TOPIC {
        return Err(OpError::new(
            ErrorCode::InvalidRequest,
            "only settings of topics (resource type 2) can be changed while the broker runs",
        ));
    }
    let name = resource.resource_name.to_string();
    let image = shard.image();
    let topic = image.topic(&name);
    let mut changes = BTreeMap::new();
    for config in &resource.configs {
        let value = new_value(topic.map(|topic| &**topic), config)?;
        if changes.insert(config.name.to_string(), value).is_some() {
            let message = format!("the request changes {} twice", &*config.name);
            return Err(OpError::new(ErrorCode::InvalidRequest, message));
        }
    }
    let command = Command::AlterTopic { name, changes };
    if validate_only {
        let mut trial = (*image).clone();
        return apply(&mut trial, &command).map(drop).map_err(|error| refusal(&error));
    }
    shard.change_topic(command).await.map(drop)
}

/// What a setting becomes: a value, or `None` for its default.
fn new_value(topic: Option<&TopicImage>, config: &AlterableConfig) -> Result<Option<String>, OpError> {
    let given = || {
        let missing =
            || OpError::new(ErrorCode::InvalidConfig, format!("{} is given without a value", &*config.name));
        config.value.as_ref().map(ToString::to_string).ok_or_else(missing)
    };
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
