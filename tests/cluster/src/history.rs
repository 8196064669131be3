//! What writers did and what readers saw, as plain data for the checker.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A record: its writer and its number among that writer's records. Numbers grow in the order of sending.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Who wrote it. A writer that may have lost its place goes on under a new id.
    pub writer: u32,
    /// Its number.
    pub sequence: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.writer, self.sequence)
    }
}

/// What a writer knows about a record it sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there. The offset is missing where the broker knew the record already and did not say where.
    Acked(Option<i64>),
    /// The client gave up with this error; the record may be there or not.
    Failed(String),
    /// No answer yet, or never one.
    Unknown,
}

/// A record that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where to.
    pub partition: u32,
    /// The transaction it belongs to, as an index into [`History::transactions`].
    pub transaction: Option<usize>,
    /// When the client was called, since the run began.
    pub invoked: Duration,
    /// When the outcome was known.
    pub completed: Option<Duration>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What became of a transaction.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The commit was acknowledged.
    Committed,
    /// The abort was acknowledged and no commit was ever asked for.
    Aborted,
    /// Either of the two, for all its writer knows.
    Unknown,
}

/// How much a reader wants to see.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Records of committed transactions only.
    Committed,
    /// Everything.
    Uncommitted,
}

/// What one reader saw of one partition, in the order it saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which reader, for messages.
    pub reader: String,
    /// What it wanted to see.
    pub isolation: Isolation,
    /// The partition.
    pub partition: u32,
    /// Whether it began after the last fault: it tells what there is, not what there was.
    pub is_final: bool,
    /// The first offset it asked for.
    pub from: i64,
    /// It has read past every offset below this.
    pub next: i64,
    /// Offset and record; `None` is a record whose value is not what any writer wrote.
    pub records: Vec<(i64, Option<RecordId>)>,
}

impl Reading {
    /// A reading that begins at offset 0.
    pub fn new(reader: impl Into<String>, isolation: Isolation, partition: u32) -> Reading {
        let (reader, records) = (reader.into(), Vec::new());
        Reading { reader, isolation, partition, is_final: false, from: 0, next: 0, records }
    }

    /// Notes the next record.
    pub fn push(&mut self, offset: i64, record: Option<RecordId>) {
        self.records.push((offset, record));
        self.next = self.next.max(offset + 1);
    }
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Everything sent.
    pub writes: BTreeMap<RecordId, Write>,
    /// How transactions ended.
    pub transactions: Vec<Ending>,
    /// Everything read.
    pub readings: Vec<Reading>,
    /// Errors that surfaced to a client but belong to no single record: when, and which.
    pub errors: Vec<(Duration, String)>,
}

impl History {
    /// Notes that a record is about to be sent.
    pub fn invoke(&mut self, id: RecordId, partition: u32, transaction: Option<usize>, invoked: Duration) {
        let outcome = Outcome::Unknown;
        let write = Write { partition, transaction, invoked, completed: None, outcome };
        let before = self.writes.insert(id, write);
        assert!(before.is_none(), "record {id} is sent twice");
    }

    /// Notes what came of a record.
    pub fn complete(&mut self, id: RecordId, outcome: Outcome, completed: Duration) {
        let write = self.writes.get_mut(&id).expect("only what was sent has an outcome");
        write.outcome = outcome;
        write.completed = Some(completed);
    }

    /// Begins a transaction; its index.
    pub fn begin(&mut self) -> usize {
        self.transactions.push(Ending::Unknown);
        self.transactions.len() - 1
    }

    /// The acknowledged writes.
    pub fn acked(&self) -> impl Iterator<Item = (RecordId, &Write)> {
        let acked = |write: &Write| matches!(write.outcome, Outcome::Acked(_));
        self.writes.iter().filter(move |(_, write)| acked(write)).map(|(id, write)| (*id, write))
    }

    /// The transaction of a record, and how it ended.
    pub fn ending_of(&self, id: RecordId) -> Option<(usize, Ending)> {
        let transaction = self.writes.get(&id)?.transaction?;
        Some((transaction, self.transactions[transaction]))
    }
}
