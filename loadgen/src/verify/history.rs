//! What was sent, acknowledged and seen, what is there in the end, and every way in which the two do not agree.
//!
//! Pure. A record is named by partition, producer and sequence; the sequence counts one producer's records to one
//! partition from zero and is never used twice, so a record that is there twice is always wrong.

use ahash::AHashMap;
use serde::Serialize;

/// What the producer knows of a record it sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// No answer, or an error: it may be there or not.
    Unknown,
    /// Its connection was given up while it was on the way: it may even arrive late.
    Abandoned,
    /// Acknowledged at this offset: it must be there.
    Acked(i64),
}

/// One record as a consumer finds it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its offset.
    pub offset: i64,
    /// Who sent it, and as which of its records; `None` when its checksum is wrong.
    pub id: Option<(u32, u64)>,
}

/// The history of one partition.
#[derive(Clone, Default, Debug)]
pub struct PartitionHistory {
    /// Outcomes by producer, indexed by sequence.
    pub sent: Vec<Vec<Outcome>>,
    /// What consumers saw while brokers came and went, in the order they saw it.
    pub seen: Vec<Found>,
}

impl PartitionHistory {
    /// An empty history of `producer_count` producers.
    pub fn new(producer_count: usize) -> Self {
        Self { sent: vec![Vec::new(); producer_count], seen: Vec::new() }
    }

    /// The next sequence of `producer`, noted as sent.
    pub fn send(&mut self, producer: u32) -> u64 {
        let outcomes = &mut self.sent[producer as usize];
        outcomes.push(Outcome::Unknown);
        outcomes.len() as u64 - 1
    }

    /// Notes what became of a record.
    pub fn settle(&mut self, producer: u32, sequence: u64, outcome: Outcome) {
        self.sent[producer as usize][sequence as usize] = outcome;
    }

    fn outcome(&self, producer: u32, sequence: u64) -> Option<Outcome> {
        let sequence = usize::try_from(sequence).ok()?;
        self.sent.get(producer as usize)?.get(sequence).copied()
    }
}

/// What is wrong with a record.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Acknowledged, and not there.
    Lost,
    /// There more than once.
    Duplicated,
    /// Behind a record that was sent after it.
    Reordered,
    /// A consumer saw it at an offset where something else, or nothing, is now.
    Vanished,
    /// There, but nobody sent it to this partition.
    Invented,
    /// Not at the offset its acknowledgement named.
    Moved,
    /// Its checksum is wrong.
    Corrupt,
    /// Offsets do not follow one another without a gap.
    Gap,
    /// The partition cannot be read to its end.
    Unreadable,
}

impl Problem {
    /// Every problem, in the order reports list them.
    pub const ALL: [Self; 9] = [
        Self::Lost,
        Self::Duplicated,
        Self::Reordered,
        Self::Vanished,
        Self::Invented,
        Self::Moved,
        Self::Corrupt,
        Self::Gap,
        Self::Unreadable,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Vanished => "vanished",
            Self::Invented => "invented",
            Self::Moved => "moved",
            Self::Corrupt => "corrupt",
            Self::Gap => "gap",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One problem with one record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub problem: Problem,
    /// Index of the partition among those verified.
    pub partition: u32,
    /// Who sent the record, if that is known.
    pub producer: Option<u32>,
    /// Which of its records.
    pub sequence: Option<u64>,
    /// Where it is, was seen, or should be.
    pub offset: Option<i64>,
    /// In words.
    pub detail: String,
}

/// Compares the history of partition `partition` with what is there in the end, in offset order.
pub fn check(partition: u32, history: &PartitionHistory, found: &[Found]) -> Vec<Finding> {
    let mut checker = Checker { partition, history, places: AHashMap::new(), findings: Vec::new() };
    checker.check_offsets(found);
    checker.check_found(found);
    checker.check_order(found);
    checker.check_acked();
    checker.check_seen(found);
    checker.findings
}

struct Checker<'a> {
    partition: u32,
    history: &'a PartitionHistory,
    /// First place of each record.
    places: AHashMap<(u32, u64), i64>,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn report(&mut self, problem: Problem, id: Option<(u32, u64)>, offset: Option<i64>, detail: String) {
        let (producer, sequence) = id.unzip();
        self.findings.push(Finding {
            problem,
            partition: self.partition,
            producer,
            sequence,
            offset,
            detail,
        });
    }

    fn check_offsets(&mut self, found: &[Found]) {
        for pair in found.windows(2) {
            if pair[1].offset != pair[0].offset + 1 {
                let detail = format!("offset {} is followed by {}", pair[0].offset, pair[1].offset);
                self.report(Problem::Gap, pair[1].id, Some(pair[1].offset), detail);
            }
        }
    }

    fn check_found(&mut self, found: &[Found]) {
        for record in found {
            let Some(id) = record.id else {
                self.report(Problem::Corrupt, None, Some(record.offset), "its checksum is wrong".into());
                continue;
            };
            let Some(outcome) = self.history.outcome(id.0, id.1) else {
                let detail = "nobody sent it to this partition".into();
                self.report(Problem::Invented, Some(id), Some(record.offset), detail);
                continue;
            };
            if let Some(first) = self.places.get(&id).copied() {
                let detail = format!("first at offset {first}");
                self.report(Problem::Duplicated, Some(id), Some(record.offset), detail);
                continue;
            }
            self.places.insert(id, record.offset);
            if let Outcome::Acked(promised) = outcome
                && promised != record.offset
            {
                let detail = format!("acknowledged at offset {promised}");
                self.report(Problem::Moved, Some(id), Some(record.offset), detail);
            }
        }
    }

    /// Records of one producer must stand in the order they were sent, duplicates and late arrivals of abandoned
    /// connections apart.
    fn check_order(&mut self, found: &[Found]) {
        let mut newest: AHashMap<u32, u64> = AHashMap::new();
        for record in found {
            let Some((producer, sequence)) = record.id else { continue };
            let is_first = self.places.get(&(producer, sequence)) == Some(&record.offset);
            let is_late = self.history.outcome(producer, sequence) == Some(Outcome::Abandoned);
            if !is_first || is_late {
                continue;
            }
            let before = newest.entry(producer).or_insert(sequence);
            if sequence < *before {
                let detail = format!("behind sequence {before}");
                self.report(Problem::Reordered, Some((producer, sequence)), Some(record.offset), detail);
            } else {
                *before = sequence;
            }
        }
    }

    fn check_acked(&mut self) {
        let history = self.history;
        for (producer, outcomes) in (0u32..).zip(&history.sent) {
            for (sequence, outcome) in (0u64..).zip(outcomes) {
                if let Outcome::Acked(offset) = outcome
                    && !self.places.contains_key(&(producer, sequence))
                {
                    let detail = "acknowledged and not there".into();
                    self.report(Problem::Lost, Some((producer, sequence)), Some(*offset), detail);
                }
            }
        }
    }

    /// What a consumer saw at an offset must be there still. Below the first offset found it may have been retired.
    fn check_seen(&mut self, found: &[Found]) {
        let history = self.history;
        let first = found.first().map_or(0, |record| record.offset);
        let by_offset: AHashMap<i64, Option<(u32, u64)>> = found.iter().map(|r| (r.offset, r.id)).collect();
        for seen in history.seen.iter().filter(|seen| seen.offset >= first) {
            match by_offset.get(&seen.offset) {
                Some(now) if *now == seen.id => {}
                Some(_) => {
                    let detail = "a consumer saw it where another record is now".into();
                    self.report(Problem::Vanished, seen.id, Some(seen.offset), detail);
                }
                None => {
                    let detail = "a consumer saw it where nothing is now".into();
                    self.report(Problem::Vanished, seen.id, Some(seen.offset), detail);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(offset: i64, producer: u32, sequence: u64) -> Found {
        Found { offset, id: Some((producer, sequence)) }
    }

    /// Two producers; everything of the first acknowledged, the second's last record unknown.
    fn history() -> PartitionHistory {
        let mut history = PartitionHistory::new(2);
        for (producer, sequence, offset) in [(0, 0, 0), (1, 0, 1), (0, 1, 2), (0, 2, 3), (1, 1, 4)] {
            assert_eq!(history.send(producer), sequence);
            history.settle(producer, sequence, Outcome::Acked(offset));
        }
        history.send(1);
        history
    }

    fn log() -> Vec<Found> {
        vec![found(0, 0, 0), found(1, 1, 0), found(2, 0, 1), found(3, 0, 2), found(4, 1, 1)]
    }

    fn problems(history: &PartitionHistory, log: &[Found]) -> Vec<(Problem, Option<u32>, Option<u64>)> {
        check(7, history, log).into_iter().map(|f| (f.problem, f.producer, f.sequence)).collect()
    }

    #[test]
    fn a_faithful_log_has_no_findings_with_and_without_the_unknown_record() {
        assert_eq!(problems(&history(), &log()), []);
        let mut longer = log();
        longer.push(found(5, 1, 2));
        assert_eq!(problems(&history(), &longer), []);
    }

    #[test]
    fn a_loss_is_named() {
        let mut short = log();
        short.pop();
        let findings = check(7, &history(), &short);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].problem, Problem::Lost);
        assert_eq!(
            (findings[0].partition, findings[0].producer, findings[0].sequence),
            (7, Some(1), Some(1))
        );
        assert_eq!(findings[0].offset, Some(4));
    }

    #[test]
    fn a_loss_in_the_middle_moves_what_follows() {
        let log = [found(0, 0, 0), found(1, 1, 0), found(2, 0, 2), found(3, 1, 1)];
        let problems = problems(&history(), &log);
        assert!(problems.contains(&(Problem::Lost, Some(0), Some(1))), "{problems:?}");
        assert!(problems.contains(&(Problem::Moved, Some(0), Some(2))), "{problems:?}");
    }

    #[test]
    fn a_duplicate_is_named() {
        let mut twice = log();
        twice.push(found(5, 0, 2));
        assert_eq!(problems(&history(), &twice), [(Problem::Duplicated, Some(0), Some(2))]);
    }

    #[test]
    fn a_reordering_is_named() {
        let mut history = PartitionHistory::new(1);
        for _ in 0..3 {
            history.send(0);
        }
        let log = [found(0, 0, 0), found(1, 0, 2), found(2, 0, 1)];
        assert_eq!(problems(&history, &log), [(Problem::Reordered, Some(0), Some(1))]);
        history.settle(0, 1, Outcome::Abandoned);
        assert_eq!(problems(&history, &log), [], "what was abandoned may arrive late");
    }

    #[test]
    fn what_a_consumer_saw_must_not_vanish() {
        let mut history = history();
        history.seen = log();
        assert_eq!(problems(&history, &log()), []);
        history.seen.push(found(5, 1, 2));
        assert_eq!(problems(&history, &log()), [(Problem::Vanished, Some(1), Some(2))]);
        let mut replaced = log();
        history.send(0);
        replaced.push(found(5, 0, 3));
        assert_eq!(problems(&history, &replaced), [(Problem::Vanished, Some(1), Some(2))]);
    }

    #[test]
    fn invented_corrupt_and_missing_offsets_are_named() {
        let mut log = log();
        log.push(found(5, 9, 0));
        log.push(Found { offset: 6, id: None });
        log.push(found(8, 1, 2));
        let problems = problems(&history(), &log);
        assert_eq!(
            problems,
            [
                (Problem::Gap, Some(1), Some(2)),
                (Problem::Invented, Some(9), Some(0)),
                (Problem::Corrupt, None, None),
            ]
        );
    }

    #[test]
    fn every_problem_has_its_own_name() {
        let mut names: Vec<_> = Problem::ALL.iter().map(|p| p.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Problem::ALL.len());
    }
}
