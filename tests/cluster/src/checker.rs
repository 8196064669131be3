//! What a history may not contain. Pure: the same history gives the same anomalies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::history::{Ending, History, Isolation, Outcome, Reading, RecordId};

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// Acknowledged (and committed, if in a transaction), but seen by none of the readers that came last, or by none at all
    /// where nobody came last.
    Lost {
        /// Which record.
        record: RecordId,
        /// Where it was sent.
        partition: u32,
        /// Where it was said to be.
        offset: Option<i64>,
    },
    /// The same record at two offsets.
    Duplicate {
        /// Which record.
        record: RecordId,
        /// Where.
        partition: u32,
        /// The lower and the higher offset.
        offsets: (i64, i64),
    },
    /// A record behind one that its writer sent later.
    Reordered {
        /// Which record.
        record: RecordId,
        /// The later one before it.
        after: RecordId,
        /// Where.
        partition: u32,
    },
    /// Different records at one offset, by two readers or by a reader and an acknowledgement.
    Inconsistent {
        /// Where.
        partition: u32,
        /// Which offset.
        offset: i64,
        /// What the two saw.
        records: (RecordId, RecordId),
        /// Who they are.
        witnesses: (String, String),
    },
    /// A record of an aborted transaction, seen by a reader of committed records.
    AbortedRead {
        /// Which record.
        record: RecordId,
        /// Who saw it.
        reader: String,
    },
    /// A record that others have seen or that was acknowledged there, skipped by a reader that went past it.
    Unseen {
        /// Which record.
        record: RecordId,
        /// Where.
        partition: u32,
        /// Which offset.
        offset: i64,
        /// Who skipped it.
        reader: String,
    },
    /// A reader of committed records saw one record of a transaction of unknown end, and went past another.
    Torn {
        /// The record seen.
        seen: RecordId,
        /// The record not seen.
        missing: RecordId,
        /// By whom.
        reader: String,
    },
    /// A reader's offsets do not grow.
    Backwards {
        /// Where.
        partition: u32,
        /// The offset before.
        before: i64,
        /// The one that followed.
        offset: i64,
        /// Who saw it.
        reader: String,
    },
    /// A record nobody sent there, or whose value has changed.
    Invented {
        /// Where.
        partition: u32,
        /// Which offset.
        offset: i64,
        /// Who saw it.
        reader: String,
    },
}

impl Anomaly {
    /// The kind, in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Anomaly::Lost { .. } => "lost",
            Anomaly::Duplicate { .. } => "duplicate",
            Anomaly::Reordered { .. } => "reordered",
            Anomaly::Inconsistent { .. } => "inconsistent-offset",
            Anomaly::AbortedRead { .. } => "aborted-read",
            Anomaly::Unseen { .. } => "unseen",
            Anomaly::Torn { .. } => "torn-transaction",
            Anomaly::Backwards { .. } => "backwards",
            Anomaly::Invented { .. } => "invented",
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self:?}", self.name())
    }
}

/// Everything wrong with a history.
pub fn check(history: &History) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let readings = readings(history, &mut anomalies);
    for reading in &history.readings {
        check_order(reading, &mut anomalies);
    }
    let truth = positions(history, &readings, &mut anomalies);
    duplicates(&truth, &mut anomalies);
    lost(history, &truth, &mut anomalies);
    for (reading, seen) in &readings {
        unseen(history, reading, seen, &truth, &mut anomalies);
        aborted_reads(history, reading, seen, &mut anomalies);
    }
    torn(history, &readings, &mut anomalies);
    anomalies
}

/// The records of a reading by their offsets.
type Seen = BTreeMap<i64, RecordId>;

/// Every record found anywhere: by partition and offset, with who said so.
#[derive(Default)]
struct Truth {
    at: BTreeMap<(u32, i64), (RecordId, String)>,
    /// By record, only from readers.
    read: BTreeMap<RecordId, BTreeSet<i64>>,
    /// What the readers that came last have seen.
    read_last: BTreeSet<RecordId>,
    /// What readers of committed records have seen.
    committed: BTreeSet<RecordId>,
    partition_of: BTreeMap<RecordId, u32>,
}

fn readings<'a>(history: &'a History, anomalies: &mut Vec<Anomaly>) -> Vec<(&'a Reading, Seen)> {
    let mut all = Vec::new();
    for reading in &history.readings {
        let mut seen = Seen::new();
        for (offset, record) in &reading.records {
            let sent_here = |record: &RecordId| {
                history.writes.get(record).is_some_and(|write| write.partition == reading.partition)
            };
            match record.filter(sent_here) {
                Some(record) => drop(seen.insert(*offset, record)),
                None => anomalies.push(Anomaly::Invented {
                    partition: reading.partition,
                    offset: *offset,
                    reader: reading.reader.clone(),
                }),
            }
        }
        all.push((reading, seen));
    }
    all
}

/// Offsets must grow, and so must the numbers of each writer.
fn check_order(reading: &Reading, anomalies: &mut Vec<Anomaly>) {
    let partition = reading.partition;
    let mut before = reading.from - 1;
    let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
    let mut met = BTreeSet::new();
    for (offset, record) in reading.records.iter().copied() {
        if offset <= before {
            let reader = reading.reader.clone();
            anomalies.push(Anomaly::Backwards { partition, before, offset, reader });
        }
        before = offset;
        // A second time is a duplicate, or a step back, and told as such.
        let Some(record) = record.filter(|record| met.insert(*record)) else { continue };
        let newest = newest.entry(record.writer).or_insert(record.sequence);
        if *newest > record.sequence {
            let after = RecordId { writer: record.writer, sequence: *newest };
            let reordered = Anomaly::Reordered { record, after, partition };
            if !anomalies.contains(&reordered) {
                anomalies.push(reordered);
            }
        }
        *newest = (*newest).max(record.sequence);
    }
}

/// Puts all readings and acknowledgements together; where they differ is an anomaly.
fn positions(history: &History, readings: &[(&Reading, Seen)], anomalies: &mut Vec<Anomaly>) -> Truth {
    let mut truth = Truth::default();
    for (reading, seen) in readings {
        for (offset, record) in seen {
            truth.note(reading.partition, *offset, *record, &reading.reader, anomalies);
            truth.read.entry(*record).or_default().insert(*offset);
            truth.partition_of.insert(*record, reading.partition);
            if reading.is_final {
                truth.read_last.insert(*record);
            }
            if reading.isolation == Isolation::Committed {
                truth.committed.insert(*record);
            }
        }
    }
    for (record, write) in history.acked() {
        if let Outcome::Acked(Some(offset)) = write.outcome {
            truth.note(write.partition, offset, record, "its acknowledgement", anomalies);
        }
    }
    truth
}

impl Truth {
    fn note(&mut self, partition: u32, offset: i64, record: RecordId, who: &str, out: &mut Vec<Anomaly>) {
        let (known, witness) = self.at.entry((partition, offset)).or_insert_with(|| (record, who.to_owned()));
        if *known != record {
            let records = (*known, record);
            let witnesses = (witness.clone(), who.to_owned());
            out.push(Anomaly::Inconsistent { partition, offset, records, witnesses });
        }
    }

    /// Whether every reader of committed records must have it.
    fn is_committed(&self, history: &History, record: RecordId) -> bool {
        match history.ending_of(record) {
            None | Some((_, Ending::Committed)) => true,
            Some((_, Ending::Aborted)) => false,
            Some((_, Ending::Unknown)) => self.committed.contains(&record),
        }
    }
}

fn duplicates(truth: &Truth, anomalies: &mut Vec<Anomaly>) {
    for (record, offsets) in &truth.read {
        let mut offsets = offsets.iter();
        if let (Some(low), Some(high)) = (offsets.next(), offsets.next()) {
            let partition = truth.partition_of[record];
            anomalies.push(Anomaly::Duplicate { record: *record, partition, offsets: (*low, *high) });
        }
    }
}

fn lost(history: &History, truth: &Truth, anomalies: &mut Vec<Anomaly>) {
    for (record, write) in history.acked() {
        let here = || history.readings.iter().filter(|reading| reading.partition == write.partition);
        let is_there = match here().any(|reading| reading.is_final) {
            true => truth.read_last.contains(&record),
            false => truth.read.contains_key(&record),
        };
        // Where nobody reads, nothing can be said.
        if !is_there && here().next().is_some() && truth.is_committed(history, record) {
            let Outcome::Acked(offset) = write.outcome else { continue };
            anomalies.push(Anomaly::Lost { record, partition: write.partition, offset });
        }
    }
}

fn unseen(history: &History, reading: &Reading, seen: &Seen, truth: &Truth, anomalies: &mut Vec<Anomaly>) {
    let passed = (reading.partition, reading.from)..(reading.partition, reading.next.max(reading.from));
    for ((partition, offset), (record, _)) in truth.at.range(passed) {
        // What nobody has seen is lost, which is told once.
        let is_read = truth.read.contains_key(record);
        let must_see = match reading.isolation {
            Isolation::Uncommitted => true,
            Isolation::Committed => truth.is_committed(history, *record),
        };
        if is_read && must_see && !seen.contains_key(offset) {
            let reader = reading.reader.clone();
            anomalies.push(Anomaly::Unseen {
                record: *record,
                partition: *partition,
                offset: *offset,
                reader,
            });
        }
    }
}

fn aborted_reads(history: &History, reading: &Reading, seen: &Seen, anomalies: &mut Vec<Anomaly>) {
    if reading.isolation == Isolation::Uncommitted {
        return;
    }
    for record in seen.values() {
        if let Some((_, Ending::Aborted)) = history.ending_of(*record) {
            anomalies.push(Anomaly::AbortedRead { record: *record, reader: reading.reader.clone() });
        }
    }
}

/// Transactions of unknown end: who sees one record of it must see all that were acknowledged where it went past them.
fn torn(history: &History, readings: &[(&Reading, Seen)], anomalies: &mut Vec<Anomaly>) {
    let mut acked: BTreeMap<usize, Vec<RecordId>> = BTreeMap::new();
    for (record, _) in history.acked() {
        if let Some((transaction, Ending::Unknown)) = history.ending_of(record) {
            acked.entry(transaction).or_default().push(record);
        }
    }
    let mut by_reader: BTreeMap<&str, Vec<&(&Reading, Seen)>> = BTreeMap::new();
    for entry in readings.iter().filter(|(reading, _)| reading.isolation == Isolation::Committed) {
        by_reader.entry(&entry.0.reader).or_default().push(entry);
    }
    for (reader, readings) in by_reader {
        let seen: BTreeSet<RecordId> = readings.iter().flat_map(|(_, seen)| seen.values().copied()).collect();
        for records in acked.values() {
            let Some(found) = records.iter().find(|record| seen.contains(record)) else { continue };
            let missing = records.iter().filter(|record| !seen.contains(record));
            let missing = missing.filter(|record| passed(history, &readings, **record));
            anomalies.extend(missing.map(|missing| Anomaly::Torn {
                seen: *found,
                missing: *missing,
                reader: reader.to_owned(),
            }));
        }
    }
}

fn passed(history: &History, readings: &[&(&Reading, Seen)], record: RecordId) -> bool {
    let write = &history.writes[&record];
    let Outcome::Acked(Some(offset)) = write.outcome else { return false };
    readings.iter().any(|(reading, _)| {
        reading.partition == write.partition && (reading.from..reading.next).contains(&offset)
    })
}
