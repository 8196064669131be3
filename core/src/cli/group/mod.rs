//! `heddle group`: list, describe, reset, delete.

mod describe;
mod offsets;
mod reset;

use heddle_net::kafka::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, GroupId, ListGroupsRequest, ListGroupsResponse,
};
use heddle_net::kafka::{ApiKey, StrBytes};
use serde::Serialize;

use super::args::{GroupArgs, GroupCommand};
use super::kafka::{KafkaSession, refused};
use super::{CliError, output};

/// Runs one subcommand.
pub async fn run(args: GroupArgs) -> Result<(), CliError> {
    let kafka = KafkaSession::new(&args.connect.server);
    let json = args.connect.json;
    match args.command {
        GroupCommand::List => list(kafka, json).await,
        GroupCommand::Describe { group } => describe::run(kafka, &args.connect.server, &group, json).await,
        GroupCommand::Reset(reset) => reset::run(kafka, &args.connect.server, reset, json).await,
        GroupCommand::Delete { group } => delete(kafka, &group, json).await,
    }
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

/// One line of the list.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    group: String,
    state: String,
    protocol: String,
}

async fn list(mut kafka: KafkaSession, json: bool) -> Result<(), CliError> {
    let mut listed = Vec::new();
    for broker in kafka.brokers().await? {
        let what = format!("the groups of {broker}");
        let request = ListGroupsRequest::default();
        let reply: ListGroupsResponse = kafka.ask(&broker, &what, (ApiKey::ListGroups, 5), &request).await?;
        if reply.error_code != 0 {
            return Err(refused(what, reply.error_code, None));
        }
        listed.extend(reply.groups.into_iter().map(|group| Listed {
            group: group.group_id.to_string(),
            state: group.group_state.to_string(),
            protocol: group.group_type.to_string(),
        }));
    }
    listed.sort();
    if json {
        return output::json(&listed);
    }
    let rows: Vec<[String; 3]> =
        listed.into_iter().map(|group| [group.group, group.state, group.protocol]).collect();
    output::table(["GROUP", "STATE", "PROTOCOL"], &rows)
}

/// What happened to a group.
#[derive(Serialize)]
struct Deleted<'a> {
    group: &'a str,
    done: &'a str,
}

async fn delete(mut kafka: KafkaSession, group: &str, json: bool) -> Result<(), CliError> {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
    let error_of = |reply: &DeleteGroupsResponse| reply.results.first().map_or(0, |result| result.error_code);
    let _: DeleteGroupsResponse =
        kafka.ask_coordinator(group, (ApiKey::DeleteGroups, 2), &request, error_of).await?;
    match json {
        true => output::json(&Deleted { group, done: "deleted" }),
        false => output::line(&format!("deleted group {group}")),
    }
}
