//! `heddle cluster status`: the nodes, their cores, and what they hold.

use super::args::Connect;
use super::session::Session;
use super::{CliError, output};
use simd_json::OwnedValue;
use simd_json::prelude::*;

/// Asks any broker and prints its answer: as it is with `--json`, else as a table.
pub async fn status(connect: Connect) -> Result<(), CliError> {
    let session = Session::open(&connect.server).await?;
    let answer = session.any().await?.cluster_status().await;
    let json = answer.map_err(|error| session.failed("the cluster's status", error))?;
    if connect.json {
        return output::line(&json);
    }
    let parsed = simd_json::to_owned_value(&mut json.clone().into_bytes());
    match parsed {
        Ok(status) => print(&status),
        Err(_) => output::line(&json),
    }
}

fn print(status: &OwnedValue) -> Result<(), CliError> {
    for (label, key) in
        [("cluster", "cluster_id"), ("topics", "topic_count"), ("partitions", "partition_count")]
    {
        output::line(&format!("{label:<11} {}", text(status, key)))?;
    }
    output::line("")?;
    let nodes = status.get_array("nodes").map(Vec::as_slice).unwrap_or_default();
    let columns = ["id", "address", "port_mode", "core_count", "led_partition_count"];
    let rows: Vec<[String; 5]> = nodes.iter().map(|node| columns.map(|key| text(node, key))).collect();
    output::table(["NODE", "ADDRESS", "PORTS", "CORES", "PRIMARIES"], &rows)
}

/// A member as text, or `-`: an older or newer broker may not have it.
fn text(value: &OwnedValue, key: &str) -> String {
    match value.get(key) {
        Some(member) => member.as_str().map_or_else(|| member.encode(), str::to_owned),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_become_text() {
        let value = simd_json::to_owned_value(&mut br#"{"a":1,"b":"x"}"#.to_vec()).unwrap();
        assert_eq!(
            (text(&value, "a").as_str(), text(&value, "b").as_str(), text(&value, "c").as_str()),
            ("1", "x", "-")
        );
    }
}
