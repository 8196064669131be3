//! `heddle group describe`: who is in a group, what each reads, and how far behind it is.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use heddle_client::StartFrom;
use heddle_net::kafka::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerProtocolAssignment,
    DescribeGroupsRequest, DescribeGroupsResponse, consumer_group_describe_response,
    describe_groups_response,
};
use heddle_net::kafka::{ApiKey, Decodable};
use heddle_proto::error::ErrorCode;
use serde::Serialize;

use super::group_id;
use super::offsets::{committed, resolve};
use crate::cli::kafka::KafkaSession;
use crate::cli::session::Session;
use crate::cli::{CliError, output};

/// A group as JSON.
#[derive(Serialize)]
struct Described {
    group: String,
    state: String,
    protocol: String,
    members: Vec<Member>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Member {
    member: String,
    client: String,
    host: String,
    #[serde(skip)]
    assigned: Vec<(String, u32)>,
}

#[derive(Serialize)]
struct Partition {
    topic: String,
    partition: u32,
    committed_offset: Option<i64>,
    end_offset: Option<i64>,
    lag: Option<i64>,
    member: Option<String>,
}

/// Prints what there is to know about a group.
pub async fn run(mut kafka: KafkaSession, server: &str, group: &str, json: bool) -> Result<(), CliError> {
    let mut described = members(&mut kafka, group).await?;
    described.partitions = partitions(&mut kafka, server, &described).await?;
    if json { output::json(&described) } else { print(&described) }
}

/// The group and its members: by the protocol of KIP-848, or the classic one.
async fn members(kafka: &mut KafkaSession, group: &str) -> Result<Described, CliError> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
    let missing = ErrorCode::GroupIdNotFound.code();
    // One that is not there may be a classic group.
    let error_of = |reply: &ConsumerGroupDescribeResponse| {
        let code = reply.groups.first().map_or(0, |group| group.error_code);
        if code == missing { 0 } else { code }
    };
    let reply = kafka.ask_coordinator(group, (ApiKey::ConsumerGroupDescribe, 1), &request, error_of).await?;
    match reply.groups.into_iter().next() {
        Some(found) if found.error_code != missing => return Ok(consumer_group(group, found)),
        _ => {}
    }
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    let error_of = |reply: &DescribeGroupsResponse| reply.groups.first().map_or(0, |group| group.error_code);
    let reply = kafka.ask_coordinator(group, (ApiKey::DescribeGroups, 6), &request, error_of).await?;
    let found = reply.groups.into_iter().next().unwrap_or_default();
    Ok(classic_group(group, found))
}

fn consumer_group(group: &str, found: consumer_group_describe_response::DescribedGroup) -> Described {
    let members = found.members.into_iter().map(|member| {
        let topics = member.assignment.topic_partitions.iter();
        let assigned = topics.flat_map(|topic| {
            topic.partitions.iter().map(|partition| (topic.topic_name.to_string(), *partition as u32))
        });
        Member {
            assigned: assigned.collect(),
            member: member.member_id.to_string(),
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
        }
    });
    Described {
        group: group.to_owned(),
        state: found.group_state.to_string(),
        protocol: "consumer".to_owned(),
        members: members.collect(),
        partitions: Vec::new(),
    }
}

fn classic_group(group: &str, found: describe_groups_response::DescribedGroup) -> Described {
    let members = found.members.into_iter().map(|member| Member {
        assigned: assigned(member.member_assignment),
        member: member.member_id.to_string(),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
    });
    Described {
        group: group.to_owned(),
        state: found.group_state.to_string(),
        protocol: "classic".to_owned(),
        members: members.collect(),
        partitions: Vec::new(),
    }
}

/// What the leader gave a classic member, if it is in the form that consumers use.
fn assigned(mut bytes: Bytes) -> Vec<(String, u32)> {
    if bytes.len() < 2 {
        return Vec::new();
    }
    let version = bytes.get_i16().clamp(0, 3);
    let Ok(assignment) = ConsumerProtocolAssignment::decode(&mut bytes, version) else { return Vec::new() };
    let topics = assignment.assigned_partitions.into_iter();
    let assigned = topics.flat_map(|topic| {
        let name = topic.topic.to_string();
        topic.partitions.into_iter().map(move |partition| (name.clone(), partition as u32))
    });
    assigned.collect()
}

/// What the group has committed or is reading.
async fn partitions(
    kafka: &mut KafkaSession,
    server: &str,
    described: &Described,
) -> Result<Vec<Partition>, CliError> {
    let mut found: BTreeMap<(String, u32), (Option<i64>, Option<String>)> = BTreeMap::new();
    for committed in committed(kafka, &described.group).await? {
        found.entry((committed.topic, committed.partition)).or_default().0 = Some(committed.offset);
    }
    for member in &described.members {
        for at in &member.assigned {
            found.entry(at.clone()).or_default().1 = Some(member.member.clone());
        }
    }
    let mut partitions = Vec::with_capacity(found.len());
    if found.is_empty() {
        return Ok(partitions);
    }
    let session = Session::open(server).await?;
    for ((topic, partition), (committed_offset, member)) in found {
        // A topic that was deleted meanwhile has no end.
        let end_offset = resolve(&session, &topic, partition, StartFrom::Latest).await.ok();
        let lag = committed_offset.zip(end_offset).map(|(committed, end)| (end - committed).max(0));
        partitions.push(Partition { topic, partition, committed_offset, end_offset, lag, member });
    }
    Ok(partitions)
}

fn print(described: &Described) -> Result<(), CliError> {
    let count = described.members.len();
    output::line(&format!(
        "group {} ({}, {}, {count} {})\n",
        described.group,
        described.state,
        described.protocol,
        if count == 1 { "member" } else { "members" }
    ))?;
    let shown = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let rows: Vec<[String; 6]> = described
        .partitions
        .iter()
        .map(|partition| {
            [
                partition.topic.clone(),
                partition.partition.to_string(),
                shown(partition.committed_offset),
                shown(partition.end_offset),
                shown(partition.lag),
                partition.member.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    output::table(["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"], &rows)?;
    if described.members.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let rows: Vec<[String; 3]> = described
        .members
        .iter()
        .map(|member| [member.member.clone(), member.client.clone(), member.host.clone()])
        .collect();
    output::table(["MEMBER", "CLIENT", "HOST"], &rows)
}
