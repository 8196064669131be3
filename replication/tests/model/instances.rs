//! The instances that are checked exhaustively: each looks at one family of faults, small enough for every test run.

use heddle_replication::replica::Hold;

use super::instance::{Budget, Instance};

/// Names and instances, for every test run.
pub fn small() -> Vec<(&'static str, Instance)> {
    let none = Budget::default();
    let one = Budget { records: 1, elections: 1, ..none };
    let durable = |budget| Instance::small(Hold::Durable, budget);
    let slow = |budget| Instance { slow_disks: 1, ..Instance::small(Hold::Durable, budget) };
    // Node 1 flushes in a step of its own, so it can forget.
    let memory = |budget| Instance { slow_disks: 1 << 1, ..Instance::small(Hold::Written, budget) };
    let narrow = |instance| Instance { packets_max: 2, ..instance };
    let two_of_three = |instance| Instance { member_count: 2, ..instance };
    let two_alone = |quorum, instance| Instance { node_count: 2, member_count: 2, quorum, ..instance };
    let growth = Budget { changes: 1, ..one };
    vec![
        ("two records, an election", durable(Budget { records: 2, ..one })),
        ("two elections", narrow(durable(Budget { elections: 2, ..one }))),
        ("a change of the set", durable(Budget { changes: 1, ..one })),
        ("a change that arrives twice", narrow(durable(Budget { changes: 1, duplicates: 1, ..one }))),
        ("another quorum", narrow(durable(Budget { requirements: 1, ..one }))),
        ("another quorum of two", two_alone(1, durable(Budget { requirements: 1, elections: 2, ..one }))),
        (
            "a lower quorum, then one member less",
            two_alone(2, durable(Budget { requirements: 1, changes: 1, ..one })),
        ),
        ("growth by a third replica", narrow(two_of_three(durable(growth)))),
        (
            "a replica that is taken away and given back",
            two_of_three(narrow(durable(Budget { replacements: 1, ..growth }))),
        ),
        (
            "growth where all commit",
            Instance { quorum: 1, commit_all: true, ..narrow(two_of_three(durable(growth))) },
        ),
        ("a crash of the first before a flush", narrow(slow(Budget { crashes: 1, ..one }))),
        ("a crash that forgets", narrow(memory(Budget { crashes: 1, ..one }))),
        ("a clean stop", narrow(memory(Budget { stops: 1, ..one }))),
        ("a lost disk", narrow(durable(Budget { wipes: 1, ..one }))),
    ]
}

/// Instances in which every state must also heal.
pub fn healing() -> Vec<(&'static str, Instance)> {
    let none = Budget::default();
    let one = Budget { records: 1, elections: 1, ..none };
    let heals = |instance| Instance { check_healing: true, packets_max: 2, ..instance };
    vec![
        ("an election", heals(Instance::small(Hold::Durable, one))),
        ("a change", heals(Instance::small(Hold::Durable, Budget { changes: 1, elections: 0, ..one }))),
        ("a lost disk", heals(Instance::small(Hold::Durable, Budget { wipes: 1, elections: 0, ..one }))),
        (
            "crashes that forget",
            heals(Instance {
                slow_disks: 0b111,
                ..Instance::small(Hold::Written, Budget { crashes: 2, elections: 0, ..one })
            }),
        ),
    ]
}

/// Larger instances, by command: minutes and gigabytes.
#[allow(dead_code)] // The test run leaves them out.
pub fn large() -> Vec<(&'static str, Instance)> {
    let none = Budget::default();
    let one = Budget { records: 1, elections: 1, ..none };
    let durable = |budget| Instance::small(Hold::Durable, budget);
    let slow = |budget| Instance { slow_disks: 1, ..Instance::small(Hold::Durable, budget) };
    let memory = |budget| Instance { slow_disks: 0b111, ..Instance::small(Hold::Written, budget) };
    vec![
        ("two records, two elections", durable(Budget { records: 2, elections: 2, ..none })),
        ("a change that arrives twice", durable(Budget { changes: 1, duplicates: 1, resends: 1, ..one })),
        ("two quorums", durable(Budget { requirements: 2, ..one })),
        ("another quorum and a change", durable(Budget { requirements: 1, changes: 1, ..one })),
        ("two elections and another quorum", durable(Budget { elections: 2, requirements: 1, ..one })),
        ("two changes", Instance { member_count: 2, ..durable(Budget { changes: 2, ..one }) }),
        (
            "a replica that is taken away and given back, and two changes",
            Instance {
                member_count: 2,
                packets_max: 2,
                ..durable(Budget { replacements: 1, changes: 2, ..one })
            },
        ),
        ("a crash that forgets", memory(Budget { crashes: 1, ..one })),
        ("a clean stop and a crash", memory(Budget { stops: 1, crashes: 1, ..one })),
        ("two elections and a change", durable(Budget { records: 1, elections: 2, changes: 1, ..none })),
        ("two crashes before a flush", slow(Budget { records: 1, elections: 1, crashes: 2, ..none })),
        ("two crashes that forget", memory(Budget { records: 1, elections: 1, crashes: 2, ..none })),
        (
            "four replicas of which two commit",
            Instance {
                node_count: 4,
                member_count: 4,
                packets_max: 2,
                ..durable(Budget { records: 1, elections: 1, ..none })
            },
        ),
        (
            "five replicas of which three commit",
            Instance {
                node_count: 5,
                member_count: 5,
                quorum: 3,
                packets_max: 2,
                ..durable(Budget { records: 1, elections: 1, ..none })
            },
        ),
    ]
}
