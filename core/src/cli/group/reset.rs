//! `heddle group reset`: moves what a group without members has committed.

use heddle_client::StartFrom;
use heddle_net::kafka::messages::{
    OffsetCommitRequest, OffsetCommitResponse, TopicName,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
};
use heddle_net::kafka::{ApiKey, StrBytes};
use heddle_proto::error::ErrorCode;
use serde::Serialize;

use super::group_id;
use super::offsets::{Committed, committed, resolve};
use crate::cli::args::ResetArgs;
use crate::cli::consume::start::StartAt;
use crate::cli::kafka::{KafkaSession, refused};
use crate::cli::session::Session;
use crate::cli::{CliError, output};

/// One line of what was done.
#[derive(Serialize)]
struct Reset {
    topic: String,
    partition: u32,
    from_offset: Option<i64>,
    to_offset: i64,
}

/// Commits new offsets, or only says which.
pub async fn run(mut kafka: KafkaSession, server: &str, args: ResetArgs, json: bool) -> Result<(), CliError> {
    let session = Session::open(server).await?;
    let before = committed(&mut kafka, &args.group).await?;
    let places = places(&session, &args, &before).await?;
    if places.is_empty() {
        return Err(CliError::Usage(format!(
            "group `{}` has committed nothing; name a topic with --topic",
            args.group
        )));
    }
    let mut resets = Vec::with_capacity(places.len());
    for (topic, partition) in places {
        let to_offset = target(&session, &topic, partition, args.to).await?;
        let known = before.iter().find(|known| known.topic == topic && known.partition == partition);
        resets.push(Reset { from_offset: known.map(|known| known.offset), topic, partition, to_offset });
    }
    if !args.dry_run {
        commit(&mut kafka, &args.group, &resets).await?;
    }
    print(&resets, json)
}

/// The partitions to reset: of the topics named, or all that the group has committed.
async fn places(
    session: &Session,
    args: &ResetArgs,
    before: &[Committed],
) -> Result<Vec<(String, u32)>, CliError> {
    if args.topics.is_empty() {
        return Ok(before.iter().map(|known| (known.topic.clone(), known.partition)).collect());
    }
    let mut places = Vec::new();
    for name in &args.topics {
        let topic = session.topic(name, false).await?;
        places.extend(topic.partitions.iter().map(|info| (name.clone(), info.partition.get())));
    }
    places.sort();
    Ok(places)
}

/// An offset within what the partition holds.
async fn target(session: &Session, topic: &str, partition: u32, to: StartAt) -> Result<i64, CliError> {
    let earliest = resolve(session, topic, partition, StartFrom::Earliest).await?;
    let latest = resolve(session, topic, partition, StartFrom::Latest).await?;
    let found = match to {
        StartAt::Offset(offset) => offset,
        to => resolve(session, topic, partition, to.on_wire()).await?,
    };
    // No record is that young: the next one to come is.
    let found = if found < 0 { latest } else { found };
    Ok(found.clamp(earliest, latest))
}

async fn commit(kafka: &mut KafkaSession, group: &str, resets: &[Reset]) -> Result<(), CliError> {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for reset in resets {
        if topics.last().is_none_or(|last| last.name.as_str() != reset.topic) {
            let name = TopicName(StrBytes::from_string(reset.topic.clone()));
            topics.push(OffsetCommitRequestTopic::default().with_name(name));
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(
                OffsetCommitRequestPartition::default()
                    .with_partition_index(reset.partition as i32)
                    .with_committed_offset(reset.to_offset),
            );
        }
    }
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics);
    let first_error = |reply: &OffsetCommitResponse| {
        let mut partitions = reply.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.find(|partition| partition.error_code != 0).map_or(0, |partition| partition.error_code)
    };
    // Members that are there would go on from where they are, so they must be stopped first.
    let has_members = ErrorCode::UnknownMemberId.code();
    let error_of = |reply: &OffsetCommitResponse| match first_error(reply) {
        code if code == has_members => 0,
        code => code,
    };
    let reply = kafka.ask_coordinator(group, (ApiKey::OffsetCommit, 8), &request, error_of).await?;
    match first_error(&reply) {
        0 => Ok(()),
        _ => Err(refused(
            format!("resetting group `{group}`"),
            ErrorCode::NonEmptyGroup.code(),
            Some("the group has members; stop them first, or they go on from where they are".to_owned()),
        )),
    }
}

fn print(resets: &[Reset], json: bool) -> Result<(), CliError> {
    if json {
        return output::json(&resets);
    }
    let rows: Vec<[String; 4]> = resets
        .iter()
        .map(|reset| {
            let from = reset.from_offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
            [reset.topic.clone(), reset.partition.to_string(), from, reset.to_offset.to_string()]
        })
        .collect();
    output::table(["TOPIC", "PARTITION", "FROM", "TO"], &rows)
}
