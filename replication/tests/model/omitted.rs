//! Each rule taken out once: the smallest instance in which the checker finds what breaks.

use heddle_replication::replica::Hold;
use heddle_replication::rules::Rule;

use super::instance::{Budget, Instance};

/// A rule, an instance that is safe with it and not without it, and in how many steps it breaks. Node 0 leads in the beginning.
pub fn instances() -> Vec<(Rule, usize, Instance)> {
    let none = Budget::default();
    let one = Budget { records: 1, elections: 1, ..none };
    let durable = |budget| Instance::small(Hold::Durable, budget);
    let slow =
        |node: u8, budget| Instance { slow_disks: 1 << node, ..Instance::small(Hold::Durable, budget) };
    let narrow = |instance| Instance { packets_max: 2, ..instance };
    let tight = |instance| Instance { packets_max: 1, ..instance };
    // Node 1 has flushed nothing when it crashes, so it forgets.
    let forgetful = |budget| Instance { slow_disks: 1 << 1, ..Instance::small(Hold::Written, budget) };
    let deposed = |budget| Instance { deposed_before: true, ..Instance::small(Hold::Durable, budget) };
    // Of two members the primary alone commits, and is to have the other's word as well.
    let two_alone = |budget| Instance { node_count: 2, member_count: 2, quorum: 1, ..durable(budget) };
    vec![
        (Rule::CommitQuorum, 11, durable(one)),
        (Rule::BothSets, 9, durable(Budget { changes: 1, ..one })),
        (Rule::AckOfThisEpoch, 15, narrow(slow(0, Budget { records: 2, crashes: 1, ..one }))),
        (Rule::AckOfThisLife, 15, forgetful(Budget { crashes: 1, ..one })),
        (Rule::SealRefusesOlder, 8, durable(one)),
        (Rule::SealIsStable, 15, slow(2, Budget { crashes: 1, ..one })),
        (Rule::SealQuorum, 8, durable(one)),
        (Rule::HighestAcceptedWins, 11, deposed(Budget { elections: 1, ..none })),
        (Rule::LeadInOneLife, 16, narrow(slow(2, Budget { records: 2, crashes: 1, ..one }))),
        (Rule::CutDivergence, 14, deposed(Budget { elections: 1, ..none })),
        (
            Rule::CutBeforeAccept,
            12,
            Instance { slow_disks: 1, ..deposed(Budget { elections: 1, crashes: 1, ..none }) },
        ),
        (Rule::AcceptBeforeAck, 12, deposed(Budget { elections: 1, ..none })),
        (Rule::ElectedLogBeforeAccept, 16, durable(Budget { elections: 2, ..one })),
        (Rule::ShrinkKeepsCommitted, 9, durable(Budget { changes: 1, ..one })),
        (Rule::ShrinkKeepsElectedLog, 15, narrow(durable(Budget { elections: 2, changes: 1, ..one }))),
        (Rule::BothSets, 11, two_alone(Budget { requirements: 1, ..one })),
        (Rule::ShrinkKeepsCommitted, 10, two_alone(Budget { requirements: 1, ..one })),
        (
            Rule::GrowKeepsCommitted,
            9,
            Instance {
                member_count: 2,
                quorum: 1,
                commit_all: true,
                ..durable(Budget { changes: 1, ..one })
            },
        ),
        (Rule::ChangeOfThisEpoch, 18, narrow(durable(Budget { elections: 2, changes: 1, ..one }))),
        (Rule::ChangeOfThisVersion, 16, narrow(durable(Budget { changes: 2, duplicates: 1, ..one }))),
        (
            Rule::GrowOfThisVersion,
            17,
            Instance { member_count: 2, ..narrow(durable(Budget { replacements: 1, changes: 1, ..one })) },
        ),
        (Rule::ForgotAbstains, 10, forgetful(Budget { crashes: 1, ..one })),
        (Rule::ForgettingIsStable, 12, durable(Budget { wipes: 1, crashes: 1, ..one })),
        (Rule::WholeWhenCaughtUp, 15, forgetful(Budget { crashes: 1, ..one })),
        (Rule::CleanMarkRemoved, 17, tight(forgetful(Budget { crashes: 1, stops: 1, ..one }))),
        (Rule::CleanMarkOfWhole, 12, forgetful(Budget { crashes: 1, stops: 1, ..one })),
        (Rule::PromiseFromMetadata, 15, durable(Budget { wipes: 1, ..one })),
    ]
}

/// A rule that the others imply: without it nothing breaks.
pub fn implied() -> (Rule, Instance) {
    let budget = Budget { records: 1, elections: 1, changes: 1, ..Budget::default() };
    (Rule::NoChangeInElection, Instance::small(Hold::Durable, budget))
}
