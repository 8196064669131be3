//! `heddle cluster`: the nodes and what they hold, and what an operator wants of them.

use super::args::{ClusterCommand, Connect};
use super::session::Session;
use super::{CliError, output};
use heddle_client::{NodeId, PartitionIndex};
use simd_json::OwnedValue;
use simd_json::prelude::*;

/// Runs one subcommand, through whichever broker is asked.
pub async fn run(connect: Connect, command: ClusterCommand) -> Result<(), CliError> {
    let session = Session::open(&connect.server).await?;
    match command {
        ClusterCommand::Nodes => show(&session, connect.json, print_nodes).await,
        ClusterCommand::Drain { node, undo } => {
            let asked = session.any().await?.drain_node(NodeId::new(node), !undo).await;
            let what = format!("draining node {node}");
            asked.map_err(|error| session.failed(&what, error))?;
            let done = if undo { "takes replicas again" } else { "is being drained" };
            said(&format!("node {node} {done}"), connect.json)
        }
        ClusterCommand::Remove { node } => {
            let asked = session.any().await?.remove_node(NodeId::new(node)).await;
            asked.map_err(|error| session.failed(&format!("removing node {node}"), error))?;
            said(&format!("removed node {node}"), connect.json)
        }
        ClusterCommand::Move { topic, partition, nodes, cancel } => {
            let wanted = nodes.iter().copied().map(NodeId::new).collect();
            let client = session.any().await?;
            let asked = client.move_replicas(&topic, PartitionIndex::new(partition), wanted).await;
            let what = format!("moving partition {partition} of topic `{topic}`");
            asked.map_err(|error| session.failed(&what, error))?;
            let done = if cancel { "takes its move back" } else { "is being moved" };
            said(&format!("partition {partition} of topic {topic} {done}"), connect.json)
        }
        // Latencies are another module's.
        ClusterCommand::Status | ClusterCommand::Latency(_) => {
            show(&session, connect.json, print_status).await
        }
    }
}

/// What was begun: `heddle cluster status` shows how it goes on.
#[derive(serde::Serialize)]
struct Said<'a> {
    done: &'a str,
}

fn said(done: &str, json: bool) -> Result<(), CliError> {
    if json { output::json(&Said { done }) } else { output::line(done) }
}

/// Asks any broker for the status and prints it: as it is with `--json`, else as a table.
async fn show(
    session: &Session,
    is_json: bool,
    print: fn(&OwnedValue) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let answer = session.any().await?.cluster_status().await;
    let json = answer.map_err(|error| session.failed("the cluster's status", error))?;
    if is_json {
        return output::line(&json);
    }
    match simd_json::to_owned_value(&mut json.clone().into_bytes()) {
        Ok(status) => print(&status),
        Err(_) => output::line(&json),
    }
}

fn print_status(status: &OwnedValue) -> Result<(), CliError> {
    for (label, key) in [
        ("cluster", "cluster_id"),
        ("controller", "controller"),
        ("topics", "topic_count"),
        ("partitions", "partition_count"),
        ("leaderless", "leaderless_count"),
        ("out of sync", "under_replicated_count"),
        ("moving", "moving_count"),
    ] {
        output::line(&format!("{label:<11} {}", text(status, key)))?;
    }
    output::line("")?;
    print_nodes(status)?;
    print_partitions(
        status,
        "under_replicated",
        ["OUT OF SYNC", "PARTITION", "REPLICAS", "IN SYNC"],
        "in_sync",
    )?;
    print_partitions(status, "moving", ["MOVING", "PARTITION", "REPLICAS", "TARGET"], "target")
}

fn print_nodes(status: &OwnedValue) -> Result<(), CliError> {
    let columns = [
        "id",
        "address",
        "rack",
        "is_alive",
        "is_draining",
        "core_count",
        "led_partition_count",
        "replica_count",
        "lag_records",
    ];
    let rows: Vec<[String; 9]> =
        list(status, "nodes").iter().map(|node| columns.map(|key| text(node, key))).collect();
    let names = ["NODE", "ADDRESS", "RACK", "ALIVE", "DRAINING", "CORES", "PRIMARIES", "REPLICAS", "LAG"];
    output::table(names, &rows)
}

fn print_partitions(status: &OwnedValue, key: &str, names: [&str; 4], last: &str) -> Result<(), CliError> {
    let rows: Vec<[String; 4]> = list(status, key)
        .iter()
        .map(|partition| ["topic", "partition", "replicas", last].map(|key| text(partition, key)))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    output::line("")?;
    output::table(names, &rows)
}

fn list<'a>(status: &'a OwnedValue, key: &str) -> &'a [OwnedValue] {
    status.get_array(key).map(Vec::as_slice).unwrap_or_default()
}

/// A member as text, or `-`: an older or newer broker may not have it.
fn text(value: &OwnedValue, key: &str) -> String {
    match value.get(key) {
        Some(member) if member.is_null() || member.as_str() == Some("") => "-".to_owned(),
        Some(member) => member.as_str().map_or_else(|| member.encode(), str::to_owned),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_become_text() {
        let value = simd_json::to_owned_value(&mut br#"{"a":1,"b":"x","d":null,"e":""}"#.to_vec()).unwrap();
        assert_eq!(["a", "b", "c", "d", "e"].map(|key| text(&value, key)), ["1", "x", "-", "-", "-"]);
    }
}
