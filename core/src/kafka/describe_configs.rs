//! DescribeConfigs: the settings of topics and of this broker, with their defaults, sources and what they mean.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        DescribeConfigsRequest, DescribeConfigsResponse,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::{
            DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
        },
    },
};
use heddle_proto::error::ErrorCode;

use super::{
    topic_settings::{self, SOURCE_DEFAULT, SOURCE_STATIC_BROKER, Setting},
    words,
};
use crate::{
    config::{Entry, Kind},
    metadata::{MetadataError, name::check_topic_name},
    shard::{Shard, request::OpError, topics::refusal},
};

/// Kafka's resource types.
pub(super) const RESOURCE_TOPIC: i8 = 2;
pub(super) const RESOURCE_BROKER: i8 = 4;

/// Kafka's ConfigType.
const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
const TYPE_INT: i8 = 3;
const TYPE_LONG: i8 = 5;
const TYPE_DOUBLE: i8 = 6;
const TYPE_LIST: i8 = 7;

/// What is told beside values.
#[derive(Clone, Copy)]
struct Extras {
    synonyms: bool,
    documentation: bool,
}

/// Answers one request: each resource succeeds or fails for itself.
pub fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let extras = Extras { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let results = request.resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe(shard, &resource, extras) {
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
    extras: Extras,
) -> Result<Vec<DescribeConfigsResourceResult>, OpError> {
    let wanted = |name: &str| match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == name),
        _ => true,
    };
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        RESOURCE_TOPIC => {
            check_topic_name(name)
                .map_err(|reason| OpError::new(ErrorCode::InvalidTopicException, reason))?;
            let image = shard.image();
            let topic =
                image.topic(name).ok_or_else(|| refusal(&MetadataError::UnknownTopic(name.to_owned())))?;
            let settings = topic_settings::of(&shard.config, topic);
            Ok(settings.filter(|it| wanted(it.entry.name)).map(|it| topic_entry(it, extras)).collect())
        }
        // The settings that all brokers share and that can be changed while they run: there are none.
        RESOURCE_BROKER if name.is_empty() => Ok(Vec::new()),
        RESOURCE_BROKER => {
            check_broker(shard, name)?;
            let entries = shard.config.entries_in_force().into_iter();
            Ok(entries.filter(|(name, _)| wanted(name)).map(|entry| broker_entry(entry, extras)).collect())
        }
        other => Err(OpError::new(
            ErrorCode::InvalidRequest,
            format!("resource type {other} has no settings here; topics (2) and brokers (4) have"),
        )),
    }
}

/// A broker speaks for itself; with a port for each core, for all cores of its node, which share one configuration.
fn check_broker<D: Disk>(shard: &Rc<Shard<D>>, name: &str) -> Result<(), OpError> {
    let image = shard.image();
    let asked = name.parse().ok().and_then(|id| image.broker(id));
    if asked.is_some_and(|(node, _)| node.id == shard.node) {
        return Ok(());
    }
    let me = shard.broker_id();
    let message = format!("this is broker {me}; ask broker '{name}' about itself");
    Err(OpError::new(ErrorCode::InvalidRequest, message))
}

fn topic_entry(setting: Setting, extras: Extras) -> DescribeConfigsResourceResult {
    let Setting { entry, value, source, synonyms } = setting;
    let shown = if extras.synonyms { synonyms } else { Vec::new() };
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(entry.name))
        .with_value(Some(words(value)))
        .with_read_only(false)
        .with_config_source(source)
        .with_synonyms(shown.into_iter().map(|shown| synonym(entry.name, shown)).collect())
        .with_config_type(match entry.kind {
            "string" => TYPE_STRING,
            "int" => TYPE_INT,
            "long" => TYPE_LONG,
            "double" => TYPE_DOUBLE,
            "list" => TYPE_LIST,
            "boolean" => TYPE_BOOLEAN,
            _ => 0,
        })
        .with_documentation(extras.documentation.then(|| StrBytes::from_static_str(entry.doc)))
}

fn synonym(name: &'static str, (source, value): (i8, String)) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(Some(words(value)))
        .with_source(source)
}

fn broker_entry((name, value): (&'static str, String), extras: Extras) -> DescribeConfigsResourceResult {
    let entry = Entry::find(name);
    let default = entry.map_or("", |entry| entry.default);
    let is_default = value == default;
    let mut synonyms = Vec::new();
    if extras.synonyms {
        synonyms.extend((!is_default).then(|| (SOURCE_STATIC_BROKER, value.clone())));
        synonyms.push((SOURCE_DEFAULT, default.to_owned()));
    }
    let doc = entry.filter(|_| extras.documentation).map(|entry| StrBytes::from_static_str(entry.doc));
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(Some(words(value)))
        .with_read_only(true)
        .with_config_source(if is_default { SOURCE_DEFAULT } else { SOURCE_STATIC_BROKER })
        .with_synonyms(synonyms.into_iter().map(|shown| synonym(name, shown)).collect())
        .with_config_type(entry.map_or(0, |entry| broker_type(&entry.kind)))
        .with_documentation(doc)
}

fn broker_type(kind: &Kind) -> i8 {
    match kind {
        Kind::Boolean => TYPE_BOOLEAN,
        Kind::Count(..) | Kind::Bytes(..) => TYPE_LONG,
        Kind::Cores | Kind::Pairs => TYPE_LIST,
        Kind::Path | Kind::Text | Kind::Address | Kind::Choice(_) => TYPE_STRING,
    }
}
