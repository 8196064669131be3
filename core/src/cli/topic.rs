//! `heddle topic`: create, list, describe, alter, delete.

use super::args::{TopicArgs, TopicCommand};
use super::session::Session;
use super::{CliError, output};
use heddle_client::{ConfigEntry, NewTopic, PartitionDetail, TopicChange, TopicDescription, TopicInfo};
use serde::Serialize;

/// Runs one subcommand.
pub async fn run(args: TopicArgs) -> Result<(), CliError> {
    let session = Session::open(&args.connect.server).await?;
    let json = args.connect.json;
    match args.command {
        TopicCommand::Create { name, partitions, replication_factor, configs } => {
            let partition_count = partitions.unwrap_or(0);
            let replication_factor = replication_factor.unwrap_or(0);
            create(&session, NewTopic { name, partition_count, replication_factor, configs }, json).await
        }
        TopicCommand::List => list(&session, json).await,
        TopicCommand::Describe { name } => describe(&session, &name, json).await,
        TopicCommand::Alter { name, configs, partitions } => {
            let configs = configs
                .into_iter()
                .map(|(name, value)| (name, Some(value).filter(|value| !value.is_empty())));
            let change =
                TopicChange { name, configs: configs.collect(), partition_count: partitions.unwrap_or(0) };
            alter(&session, change, json).await
        }
        TopicCommand::Delete { name } => delete(&session, &name, json).await,
    }
}

/// What happened to a topic.
#[derive(Serialize)]
struct Changed<'a> {
    topic: &'a str,
    id: String,
    done: &'a str,
}

fn print_changed(topic: &str, id: String, done: &str, json: bool) -> Result<(), CliError> {
    match json {
        true => output::json(&Changed { topic, id, done }),
        false => output::line(&format!("{done} topic {topic} ({id})")),
    }
}

async fn create(session: &Session, topic: NewTopic, json: bool) -> Result<(), CliError> {
    let name = topic.name.clone();
    let created = session.any().await?.create_topic(topic).await;
    let id = created.map_err(|error| session.failed(&format!("creating topic `{name}`"), error))?;
    print_changed(&name, id.to_string(), "created", json)
}

async fn alter(session: &Session, change: TopicChange, json: bool) -> Result<(), CliError> {
    if change.configs.is_empty() && change.partition_count == 0 {
        return Err(CliError::Usage(
            "nothing to alter: give --config NAME=VALUE or --partitions N".to_owned(),
        ));
    }
    let name = change.name.clone();
    let altered = session.any().await?.alter_topic(change).await;
    let id = altered.map_err(|error| session.failed(&format!("altering topic `{name}`"), error))?;
    print_changed(&name, id.to_string(), "altered", json)
}

async fn delete(session: &Session, name: &str, json: bool) -> Result<(), CliError> {
    let deleted = session.any().await?.delete_topic(name).await;
    let id = deleted.map_err(|error| session.failed(&format!("deleting topic `{name}`"), error))?;
    print_changed(name, id.to_string(), "deleted", json)
}

/// One line of the list.
#[derive(Serialize)]
struct Listed {
    topic: String,
    id: String,
    partition_count: usize,
}

async fn list(session: &Session, json: bool) -> Result<(), CliError> {
    let metadata = session.any().await?.metadata(None, false).await;
    let mut topics = metadata.map_err(|error| session.failed("the list of topics", error))?.topics;
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let listed = topics.into_iter().map(|TopicInfo { name, id, partitions, .. }| Listed {
        topic: name,
        id: id.to_string(),
        partition_count: partitions.len(),
    });
    let listed: Vec<Listed> = listed.collect();
    if json {
        return output::json(&listed);
    }
    let rows: Vec<[String; 3]> =
        listed.into_iter().map(|topic| [topic.topic, topic.partition_count.to_string(), topic.id]).collect();
    output::table(["TOPIC", "PARTITIONS", "ID"], &rows)
}

/// A topic as JSON.
#[derive(Serialize)]
struct Described<'a> {
    topic: &'a str,
    id: String,
    partitions: Vec<DescribedPartition>,
    configs: Vec<DescribedConfig<'a>>,
}

#[derive(Serialize)]
struct DescribedPartition {
    partition: u32,
    broker: i32,
    epoch: i32,
    start_offset: i64,
    committed_offset: i64,
    size_bytes: u64,
}

#[derive(Serialize)]
struct DescribedConfig<'a> {
    name: &'a str,
    value: &'a str,
    is_default: bool,
    doc: &'a str,
}

impl From<&PartitionDetail> for DescribedPartition {
    fn from(detail: &PartitionDetail) -> DescribedPartition {
        DescribedPartition {
            partition: detail.partition.get(),
            broker: detail.broker,
            epoch: detail.epoch.get(),
            start_offset: detail.start.get(),
            committed_offset: detail.committed.get(),
            size_bytes: detail.size_bytes,
        }
    }
}

impl<'a> From<&'a ConfigEntry> for DescribedConfig<'a> {
    fn from(entry: &'a ConfigEntry) -> DescribedConfig<'a> {
        DescribedConfig {
            name: &entry.name,
            value: &entry.value,
            is_default: entry.is_default,
            doc: &entry.doc,
        }
    }
}

async fn describe(session: &Session, name: &str, json: bool) -> Result<(), CliError> {
    let description = session.any().await?.describe_topic(name).await;
    let topic = description.map_err(|error| session.failed(&format!("topic `{name}`"), error))?;
    if json {
        return output::json(&Described {
            topic: &topic.name,
            id: topic.id.to_string(),
            partitions: topic.partitions.iter().map(DescribedPartition::from).collect(),
            configs: topic.configs.iter().map(DescribedConfig::from).collect(),
        });
    }
    print_description(&topic)
}

fn print_description(topic: &TopicDescription) -> Result<(), CliError> {
    output::line(&format!("topic {} ({})\n", topic.name, topic.id))?;
    let partitions: Vec<[String; 6]> = topic.partitions.iter().map(partition_row).collect();
    output::table(["PARTITION", "BROKER", "EPOCH", "START", "COMMITTED", "BYTES"], &partitions)?;
    output::line("")?;
    let configs: Vec<[String; 3]> = topic.configs.iter().map(config_row).collect();
    output::table(["CONFIG", "VALUE", ""], &configs)
}

fn partition_row(detail: &PartitionDetail) -> [String; 6] {
    let row = DescribedPartition::from(detail);
    [
        row.partition.to_string(),
        row.broker.to_string(),
        row.epoch.to_string(),
        row.start_offset.to_string(),
        row.committed_offset.to_string(),
        row.size_bytes.to_string(),
    ]
}

fn config_row(entry: &ConfigEntry) -> [String; 3] {
    let origin = if entry.is_default { "default" } else { "set" };
    [entry.name.clone(), entry.value.clone(), origin.to_owned()]
}
