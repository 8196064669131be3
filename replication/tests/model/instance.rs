//! Instances of the model: how many replicas, which faults, how often.

use heddle_replication::replica::Hold;
use heddle_replication::rules::{Rule, Rules};

/// How often each thing may still happen. Together with the bound on the network this makes an instance finite.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Records that clients append.
    pub records: u8,
    /// Elections that the controller begins.
    pub elections: u8,
    /// Processes that are killed (with power, so that what was not flushed is gone).
    pub crashes: u8,
    /// Processes that are stopped in good order.
    pub stops: u8,
    /// Processes that are killed and whose disk is lost.
    pub wipes: u8,
    /// Changes of the in-sync set that primaries ask for, repetitions included.
    pub changes: u8,
    /// Other commit quorums that primaries ask for, repetitions included.
    pub requirements: u8,
    /// Replicas outside the in-sync set that are taken away and given back with nothing, while their process goes on.
    pub replacements: u8,
    /// Removals of old records.
    pub retentions: u8,
    /// Messages that are sent again.
    pub resends: u8,
    /// Messages that are delivered twice.
    pub duplicates: u8,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Instance {
    pub node_count: usize,
    /// How many of the nodes, from the first on, are in sync in the beginning.
    pub member_count: usize,
    pub quorum: usize,
    pub commit_all: bool,
    pub hold: Hold,
    pub rules: Rules,
    /// One bit for each node: its writes to disk take a step of their own, so that a crash can come before them.
    pub slow_disks: u8,
    /// The first node has been cut off with a record that nobody else has; the others have elected and committed another.
    pub deposed_before: bool,
    /// Records in every log in the beginning, committed.
    pub records_before: usize,
    /// Primaries tell commit positions by messages of their own as well.
    pub tells_commits: bool,
    pub packets_max: usize,
    /// Longer ranges travel in pieces.
    pub piece_records_max: i64,
    pub budget: Budget,
    /// Check in every state that the partition recovers when the faults end.
    pub check_healing: bool,
}

impl Instance {
    /// Three replicas of which two commit.
    pub fn small(hold: Hold, budget: Budget) -> Instance {
        Instance {
            node_count: 3,
            member_count: 3,
            quorum: 2,
            commit_all: false,
            hold,
            rules: Rules::default(),
            slow_disks: 0,
            deposed_before: false,
            records_before: 0,
            tells_commits: false,
            packets_max: 3,
            piece_records_max: 8,
            budget,
            check_healing: false,
        }
    }

    /// Whether a node's writes take a step of their own.
    pub fn is_slow(&self, node: usize) -> bool {
        self.slow_disks & (1 << node) != 0
    }

    /// The same without one rule.
    #[must_use]
    pub fn without(self, rule: Rule) -> Instance {
        Instance { rules: Rules::without(rule), ..self }
    }
}
