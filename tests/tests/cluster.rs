//! Three nodes: they join, replicate, outlive the death of any of them, and hand over when one is stopped.
//!
//! Real networks and faults are in `tests/cluster`; this is what must hold in every build.

use heddle_tests::nodes::{CORES_MAX, Nodes};

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
