//! Three nodes: they join, replicate, outlive the death of any of them, and hand over when one is stopped.
//!
//! Real networks and faults are in `tests/cluster`; this is what must hold in every build.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use heddle_client::ErrorCode;
use heddle_tests::nodes::{CORES_MAX, Nodes, TOPIC, UNSURE, led_by};
use heddle_tests::raw::Raw;
use heddle_tests::records;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;

/// The version of a produce request from which on a refusal names the leader (KIP-951).
const LEADERS_TOLD_SINCE: i16 = 10;

#[test]
fn three_nodes_outlive_the_death_of_any_of_them() {
    let mut nodes = Nodes::start(1);
    nodes.create();
    nodes.send();
    for victim in 0..3 {
        nodes.brokers[victim].kill();
        nodes.send();
        nodes.brokers[victim].restart();
        nodes.send();
        nodes.wait_until_whole();
    }
    nodes.brokers[0].terminate();
    nodes.send();
    nodes.brokers[0].restart();
    nodes.wait_until_whole();
    nodes.check();
}

#[test]
fn what_replicas_promised_outlives_other_core_counts_of_all_nodes_at_once() {
    let mut nodes = Nodes::start(2);
    nodes.create();
    nodes.send();
    for cores in [CORES_MAX, 1, 2] {
        nodes.wait_until_whole();
        for broker in &mut nodes.brokers {
            broker.kill();
        }
        nodes.restart_all(|options| options.cores(cores));
        nodes.send();
    }
    for broker in &nodes.brokers {
        assert!(!broker.log().contains("nobody is left who is sure"), "{}", broker.log());
    }
    nodes.wait_until_whole();
    nodes.check();
}

/// Every record that was taken before is safe by then, and whoever comes later is told where to go: a client that is told less
/// waits for as long as it thinks right.
#[test]
fn a_node_that_stops_owes_nobody_an_answer_and_names_who_leads_now() {
    let mut nodes = Nodes::start(1);
    nodes.create();
    nodes.send();
    for victim in 0..3 {
        nodes.wait_until_whole();
        let node = victim as i32 + 1;
        let broker = &mut nodes.brokers[victim];
        let address = broker.address();
        let writers: Vec<_> = led_by(broker, node)
            .into_iter()
            .flat_map(|partition| [partition; 3])
            .map(|partition| std::thread::spawn(move || write_until_refused(address, partition)))
            .collect();
        assert!(!writers.is_empty(), "node {node} leads something");
        std::thread::sleep(Duration::from_millis(200));
        broker.terminate();
        for writer in writers {
            let refused = writer.join().unwrap();
            assert_eq!(refused.error_code, ErrorCode::NotLeaderOrFollower.code(), "{refused:?}");
            let leader = refused.current_leader.leader_id.0;
            assert!(leader > 0 && leader / 1000 != node, "node {node} names {leader}");
        }
        nodes.brokers[victim].restart();
    }
    nodes.wait_until_whole();
    nodes.check();
}

fn write_until_refused(address: SocketAddr, partition: i32) -> PartitionProduceResponse {
    let mut raw = Raw::connect(address);
    loop {
        let records = records::one(format!("{UNSURE}: it is not counted"));
        let answer = raw.kafka_produce(LEADERS_TOLD_SINCE, TOPIC, partition, records);
        if answer.error_code != 0 {
            return answer;
        }
    }
}
