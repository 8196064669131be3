//! What must hold, one property per file: while the cluster runs, and when it is over.

mod committers;
mod diverged;
mod elected;
mod halted;
mod kept;
mod lost;
mod placed;
mod reordered;
mod stuck;
mod unseen;

use std::collections::BTreeMap;

use bytes::Bytes;
use heddle_proto::ids::{Epoch, NodeId, Offset, TopicPartition};
use heddle_replication::message::Life;

use crate::client::View;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which: the name of the checker.
    pub checker: &'static str,
    /// Where.
    pub partition: TopicPartition,
    /// What was seen.
    pub what: String,
}

/// What one replica holds in the end.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Whose.
    pub node: NodeId,
    /// Where its log begins.
    pub start: Offset,
    /// What it knows to be committed.
    pub committed: Offset,
    /// All batches between them.
    pub batches: Vec<Bytes>,
}

/// What the checkers remember.
#[derive(Default)]
pub struct Checkers {
    /// What they found so far.
    pub findings: Vec<Finding>,
    committers: BTreeMap<(TopicPartition, Epoch), (NodeId, Life)>,
    ledger: diverged::Ledger,
    answers: elected::Answers,
    /// The only checker whose findings count.
    only: Option<&'static str>,
}

impl Checkers {
    /// Checkers that have seen nothing.
    pub fn new(only: Option<&'static str>) -> Checkers {
        Checkers { only, ..Checkers::default() }
    }

    fn found(&mut self, checker: &'static str, partition: TopicPartition, what: String) {
        if self.findings.len() < 20 && self.only.is_none_or(|only| only == checker) {
            self.findings.push(Finding { checker, partition, what });
        }
    }
}

/// The verdict on one partition, when everything is quiet.
pub fn judge(
    checkers: &mut Checkers,
    partition: TopicPartition,
    view: &View,
    replicas: &[&Replica],
    lossy: bool,
) {
    diverged::judge(checkers, partition, replicas);
    if !lossy {
        lost::judge(checkers, partition, view, replicas);
        unseen::judge(checkers, partition, view, replicas);
        reordered::judge(checkers, partition, view);
    }
}
