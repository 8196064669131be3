//! Planted anomalies: each is found under its own name, and a good history has none.

use std::collections::BTreeSet;
use std::time::Duration;

use heddle_cluster::checker::{Anomaly, check};
use heddle_cluster::history::{Ending, History, Isolation, Outcome, Reading, RecordId};

const AT: Duration = Duration::from_millis(5);

fn id(writer: u32, sequence: u64) -> RecordId {
    RecordId { writer, sequence }
}

fn send(history: &mut History, record: RecordId, partition: u32, transaction: Option<usize>, offset: i64) {
    history.invoke(record, partition, transaction, AT);
    history.complete(record, Outcome::Acked(Some(offset)), AT);
}

fn reading(reader: &str, isolation: Isolation, partition: u32, records: &[(i64, RecordId)]) -> Reading {
    let mut reading = Reading::new(reader, isolation, partition);
    records.iter().for_each(|(offset, record)| reading.push(*offset, Some(*record)));
    reading
}

/// Two partitions, a plain writer 1, a transactional writer 2 (one committed, one aborted, one of unknown end), a failed
/// write that is there, an unknown one that is not, and an acknowledgement without an offset.
///
/// Partition 0: 0 plain, 1 committed, 2 marker, 3 aborted, 4 marker, 5 plain, 6 unknown, 7 marker, 8 failed, 9 no offset.
/// Partition 1: 0 committed, 1 marker, 2 unknown, 3 marker, 4 plain.
fn good() -> History {
    let mut history = History::default();
    let committed = history.begin();
    let aborted = history.begin();
    let unknown = history.begin();
    history.transactions[committed] = Ending::Committed;
    history.transactions[aborted] = Ending::Aborted;
    send(&mut history, id(1, 0), 0, None, 0);
    send(&mut history, id(2, 0), 0, Some(committed), 1);
    send(&mut history, id(2, 1), 1, Some(committed), 0);
    send(&mut history, id(2, 2), 0, Some(aborted), 3);
    send(&mut history, id(1, 1), 0, None, 5);
    send(&mut history, id(2, 3), 0, Some(unknown), 6);
    send(&mut history, id(2, 4), 1, Some(unknown), 2);
    history.invoke(id(1, 2), 0, None, AT);
    history.complete(id(1, 2), Outcome::Failed("MessageTimedOut".into()), AT);
    history.invoke(id(1, 3), 0, None, AT);
    history.invoke(id(1, 4), 0, None, AT);
    history.complete(id(1, 4), Outcome::Acked(None), AT);
    send(&mut history, id(1, 5), 1, None, 4);
    let all_0 = [
        (0, id(1, 0)),
        (1, id(2, 0)),
        (3, id(2, 2)),
        (5, id(1, 1)),
        (6, id(2, 3)),
        (8, id(1, 2)),
        (9, id(1, 4)),
    ];
    let committed_0: Vec<_> = all_0.iter().copied().filter(|(offset, _)| *offset != 3).collect();
    let all_1 = [(0, id(2, 1)), (2, id(2, 4)), (4, id(1, 5))];
    history.readings = vec![
        reading("all", Isolation::Uncommitted, 0, &all_0),
        reading("all", Isolation::Uncommitted, 1, &all_1),
        reading("committed", Isolation::Committed, 0, &committed_0),
        reading("committed", Isolation::Committed, 1, &all_1),
    ];
    history
}

/// The names of what is found after `harm` was done to a good history.
#[track_caller]
fn found(harm: impl FnOnce(&mut History)) -> BTreeSet<&'static str> {
    let mut history = good();
    harm(&mut history);
    check(&history).iter().map(Anomaly::name).collect()
}

fn forget(history: &mut History, reading: usize, offset: i64) {
    history.readings[reading].records.retain(|(at, _)| *at != offset);
}

fn only(name: &'static str) -> BTreeSet<&'static str> {
    BTreeSet::from([name])
}

#[test]
fn a_good_history_has_no_anomaly() {
    assert_eq!(check(&good()), []);
}

#[test]
fn what_was_not_reached_is_not_judged() {
    // A reader that stopped early, and one that began late.
    assert!(
        found(|history| history.readings.push(reading("short", Isolation::Uncommitted, 0, &[]))).is_empty()
    );
    let late = Reading { from: 9, ..reading("late", Isolation::Committed, 0, &[(9, id(1, 4))]) };
    assert!(found(|history| history.readings.push(late)).is_empty());
    // An unknown transaction that was aborted in truth.
    let aborted = |history: &mut History| {
        forget(history, 2, 6);
        forget(history, 3, 2);
    };
    assert!(found(aborted).is_empty());
}

#[test]
fn a_lost_record_is_found() {
    let everywhere = |history: &mut History| {
        forget(history, 0, 5);
        forget(history, 2, 5);
    };
    assert_eq!(found(everywhere), only("lost"));
    let at_the_end = |history: &mut History| {
        for reading in [1, 3] {
            forget(history, reading, 4);
            history.readings[reading].next = 4;
        }
    };
    assert_eq!(found(at_the_end), only("lost"));
    // Acknowledged without an offset.
    let unplaced = |history: &mut History| {
        forget(history, 0, 9);
        forget(history, 2, 9);
    };
    assert_eq!(found(unplaced), only("lost"));
    // Seen once, but gone at the end.
    let gone = |history: &mut History| {
        let mut last = history.readings[1].clone();
        last.is_final = true;
        last.records.retain(|(offset, _)| *offset != 4);
        history.readings.push(last);
    };
    assert_eq!(found(gone), BTreeSet::from(["lost", "unseen"]));
    // Of a committed transaction.
    let of_transaction = |history: &mut History| {
        forget(history, 0, 1);
        forget(history, 2, 1);
    };
    assert_eq!(found(of_transaction), only("lost"));
}

#[test]
fn a_duplicate_is_found() {
    let again = |history: &mut History| {
        for reading in [0, 2] {
            history.readings[reading].push(10, Some(id(1, 1)));
        }
    };
    assert_eq!(found(again), only("duplicate"));
}

#[test]
fn a_reordered_record_is_found() {
    let swapped = |history: &mut History| {
        // 1/2 and 1/4 in each other's place; neither was acknowledged with an offset.
        for reading in [0, 2] {
            for (offset, record) in &mut history.readings[reading].records {
                match *offset {
                    8 => *record = Some(id(1, 4)),
                    9 => *record = Some(id(1, 2)),
                    _ => {}
                }
            }
        }
    };
    assert_eq!(found(swapped), only("reordered"));
}

#[test]
fn inconsistent_offsets_are_found() {
    // Two readers.
    let readers = |history: &mut History| {
        let other = reading("other", Isolation::Uncommitted, 1, &[(0, id(2, 1)), (2, id(1, 5))]);
        history.readings.push(other);
    };
    assert!(found(readers).contains("inconsistent-offset"));
    // A reader and an acknowledgement.
    let acknowledged = |history: &mut History| {
        history.complete(id(1, 5), Outcome::Acked(Some(2)), AT);
    };
    assert_eq!(found(acknowledged), only("inconsistent-offset"));
}

#[test]
fn an_aborted_read_is_found() {
    let shown = |history: &mut History| {
        history.readings[2].records.insert(2, (3, Some(id(2, 2))));
    };
    assert_eq!(found(shown), only("aborted-read"));
}

#[test]
fn an_unseen_record_is_found() {
    assert_eq!(found(|history| forget(history, 2, 0)), only("unseen"), "by a reader of committed records");
    assert_eq!(found(|history| forget(history, 0, 3)).len(), 0, "an aborted one that nobody has seen");
    assert_eq!(found(|history| forget(history, 0, 6)), only("unseen"), "seen by the other reader");
    let second = |history: &mut History| {
        history.readings.push(Reading { next: 7, ..reading("second", Isolation::Committed, 0, &[]) });
    };
    assert_eq!(found(second), only("unseen"));
}

#[test]
fn a_torn_transaction_is_found() {
    let torn = |history: &mut History| {
        forget(history, 3, 2);
        // The other reader of the partition leaves it out too, so that this is not merely unseen.
        forget(history, 1, 2);
    };
    assert_eq!(found(torn), only("torn-transaction"));
}

#[test]
fn a_reader_that_steps_back_is_found() {
    let back = |history: &mut History| history.readings[0].push(5, Some(id(1, 1)));
    assert_eq!(found(back), only("backwards"));
}

#[test]
fn an_invented_record_is_found() {
    assert_eq!(found(|history| history.readings[0].push(10, None)), only("invented"), "a changed value");
    assert_eq!(found(|history| history.readings[0].push(10, Some(id(9, 9)))), only("invented"), "never sent");
    // Sent to another partition.
    assert!(found(|history| history.readings[1].push(10, Some(id(1, 0)))).contains("invented"));
}
