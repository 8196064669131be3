//! DescribeConfigs: the settings of topics with their defaults and what they mean, and of this broker.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        DescribeConfigsRequest, DescribeConfigsResponse,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult},
    },
};
use heddle_proto::error::ErrorCode;

use super::words;
use crate::{
    metadata::{MetadataError, topic_config},
    shard::{Shard, request::OpError, topics::refusal},
};

/// Kafka's resource types.
pub(super) const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

/// Kafka's ConfigSource.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// Answers one request: each resource succeeds or fails for itself.
pub fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe(shard, &resource, request.include_documentation) {
            Ok(configs) => result.with_configs(configs).with_error_message(None),
            Err(error) => {
                result.with_error_code(error.code.code()).with_error_message(Some(words(error.message)))
            }
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe<D: Disk>(
    shard: &Rc<Shard<D>>,
    resource: &DescribeConfigsResource,
    with_doc: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, OpError> {
    let wanted = |name: &str| match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == name),
        _ => true,
    };
    match resource.resource_type {
        RESOURCE_TOPIC => {
            let image = shard.image();
            let name = resource.resource_name.as_str();
            let topic =
                image.topic(name).ok_or_else(|| refusal(&MetadataError::UnknownTopic(name.to_owned())))?;
            let entries = topic_config::entries().iter().filter(|entry| wanted(entry.name));
            Ok(entries.map(|entry| topic_entry(entry, topic.overrides.get(entry.name), with_doc)).collect())
        }
        RESOURCE_BROKER => {
            let entries = shard.config.entries_in_force();
            Ok(entries.into_iter().filter(|(name, _)| wanted(name)).map(broker_entry).collect())
        }
        other => Err(OpError::new(
            ErrorCode::InvalidRequest,
            format!("resource type {other} has no settings here; topics (2) and brokers (4) have"),
        )),
    }
}

fn topic_entry(
    entry: &topic_config::Entry,
    value: Option<&String>,
    with_doc: bool,
) -> DescribeConfigsResourceResult {
    let shown = value.map_or(entry.default, String::as_str);
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(entry.name))
        .with_value(Some(words(shown)))
        .with_read_only(false)
        .with_config_source(if value.is_some() { SOURCE_TOPIC } else { SOURCE_DEFAULT })
        .with_config_type(kind_code(entry.kind))
        .with_documentation(with_doc.then(|| StrBytes::from_static_str(entry.doc)))
}

/// Kafka's ConfigType.
fn kind_code(kind: &str) -> i8 {
    match kind {
        "boolean" => 1,
        "string" => 2,
        "int" => 3,
        "long" => 5,
        "double" => 6,
        "list" => 7,
        _ => 0,
    }
}

fn broker_entry((name, value): (&'static str, String)) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(Some(words(value)))
        .with_read_only(true)
        .with_config_source(SOURCE_STATIC_BROKER)
}
