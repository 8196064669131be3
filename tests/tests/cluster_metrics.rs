//! What three nodes tell of their streams and their cluster in `/metrics` and `heddle cluster`, in good days and while one hangs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use heddle_tests::broker::Broker;
use heddle_tests::nodes::{Nodes, PARTITIONS};
use heddle_tests::{command, wait};
use simd_json::prelude::*;

fn gauge(broker: &Broker, name: &str, labels: &[&str]) -> f64 {
    let metrics = broker.metrics();
    let found = metrics.sum_with(name, labels);
    found.unwrap_or_else(|| panic!("no heddle_{name} with {labels:?} in:\n{}", metrics.text()))
}

fn sum(nodes: &[Broker], name: &str) -> f64 {
    nodes.iter().map(|broker| gauge(broker, name, &[])).sum()
}

fn to(node: usize) -> String {
    format!("peer_node=\"{node}\"")
}

#[test]
fn streams_and_cluster_are_seen_as_they_are() {
    let mut nodes = Nodes::start(1);
    nodes.create();
    nodes.send();
    nodes.wait_until_whole();
    good_days(&nodes);

    let began = sum(&nodes.brokers[..2], "elections");
    nodes.brokers[2].suspend();
    wait::until("that it hangs shows though nobody writes", || {
        let under = sum(&nodes.brokers[..2], "partitions_under_replicated");
        (under == f64::from(PARTITIONS)).then_some(())
    });
    nodes.send();
    a_node_hangs(&nodes.brokers[..2], began);

    nodes.brokers[2].resume();
    nodes.wait_until_whole();
    nodes.wait_until_level();
    wait::until("nothing lacks a replica", || {
        (sum(&nodes.brokers, "partitions_under_replicated") == 0.0).then_some(())
    });
    let again: f64 = nodes.brokers[..2].iter().map(|it| gauge(it, "stream_reconnects", &[&to(3)])).sum();
    assert!(again > 0.0, "the streams to the third node were made anew");
    nodes.check();
}

fn good_days(nodes: &Nodes) {
    for (index, broker) in nodes.brokers.iter().enumerate() {
        for peer in (1..=3).filter(|peer| *peer != index + 1) {
            let label = to(peer);
            let labels = [label.as_str(), "core=\"0\"", "peer_core=\"0\""];
            assert_eq!(gauge(broker, "stream_connected", &labels), 1.0);
            for name in ["sent_bytes", "received_bytes", "sent_frames", "received_frames"] {
                assert!(gauge(broker, &format!("stream_{name}"), &labels) > 0.0, "{name} to node {peer}");
            }
            let took = wait::until("a ping is answered", || {
                broker.metrics().sum_with("stream_round_trip_seconds", &labels)
            });
            assert!(took > 0.0 && took < wait::HANG.as_secs_f64(), "{took}");
        }
        assert_eq!(gauge(broker, "metadata_in_touch", &[]), 1.0);
        assert_eq!(gauge(broker, "metadata_voters", &[]), 3.0);
        assert_eq!(gauge(broker, "metadata_members", &[]), 3.0);
        assert_eq!(gauge(broker, "metadata_leader", &[]), 1.0);
        assert_eq!(gauge(broker, "metadata_term", &[]), gauge(&nodes.brokers[0], "metadata_term", &[]));
        assert_eq!(gauge(broker, "partitions_leaderless", &[]), 0.0);
        let applied = gauge(broker, "metadata_applied", &[]);
        assert!(applied > 0.0 && gauge(broker, "metadata_appended", &[]) >= applied);
    }
    // What was sent to the backups is what the clients sent, once for each, and what goes with it.
    let sent = sum(&nodes.brokers, "stream_sent_bytes");
    let produced = sum(&nodes.brokers, "produce_bytes");
    assert!(sent >= 2.0 * produced, "{sent} bytes sent, {produced} produced");
    assert_eq!(sum(&nodes.brokers, "partitions_led"), f64::from(PARTITIONS));
    assert_eq!(sum(&nodes.brokers, "partitions_under_replicated"), 0.0);
    assert_eq!(sum(&nodes.brokers, "metadata_leads"), 1.0);
    assert_eq!(sum(&nodes.brokers, "elections_lossy"), 0.0);
    wait::until("everything is acknowledged", || {
        let open =
            sum(&nodes.brokers, "stream_unacknowledged_bytes") + sum(&nodes.brokers, "stream_lag_records");
        (open == 0.0).then_some(())
    });
}

/// The third of the nodes does; these are the others.
fn a_node_hangs(others: &[Broker], elections_before: f64) {
    let label = to(3);
    let to_third = |name: &str| others.iter().map(|it| gauge(it, name, &[&label])).sum::<f64>();
    assert!(to_third("stream_lag_records") > 0.0);
    assert!(to_third("stream_lag_bytes") > 0.0);
    assert!(sum(others, "elections") > elections_before, "what it led got another leader");
    assert_eq!(sum(others, "partitions_led"), f64::from(PARTITIONS));
    wait::until("the streams to it are seen to be dead", || {
        (to_third("stream_connected") == 0.0).then_some(())
    });
    let shown = command::heddle(&others[0].bootstrap(), &["cluster", "status", "--json"]).worked().json();
    let third = shown.get_array("nodes").unwrap().iter().find(|node| node.get_u64("id") == Some(3)).unwrap();
    let lag = gauge(&others[0], "stream_lag_records", &[&label]);
    assert_eq!(third.get_u64("lag_records"), Some(lag as u64));
    assert_eq!(third.get_bool("is_alive"), Some(false));
    let table = command::heddle(&others[0].bootstrap(), &["cluster", "nodes"]).worked().text();
    assert!(table.contains("LAG"), "{table}");
}
