//! The table of producers: retries, gaps, epochs, transactions, and what a checkpoint keeps of it.

use heddle_proto::batch::{BatchBuilder, Compression};

use super::*;

fn header(id: i64, epoch: i16, first: i32, count: usize) -> BatchHeader {
    let mut builder = BatchBuilder::new(Compression::None).producer(
        ProducerId::new(id),
        ProducerEpoch::new(epoch),
        Sequence::new(first),
    );
    for _ in 0..count {
        builder.push(heddle_proto::ids::Timestamp::new(1), None, Some(b"v"), &[]).expect("fits");
    }
    BatchHeader::parse(&builder.build().expect("builds")).expect("parses")
}

fn write(producers: &mut Producers, batch: &BatchHeader, at: i64) -> Result<Verdict, SequenceError> {
    let verdict = producers.check(batch)?;
    if verdict == Verdict::New {
        producers.record(batch, Offset::new(at));
    }
    Ok(verdict)
}

#[test]
fn a_retry_within_five_batches_is_a_duplicate() {
    let mut producers = Producers::default();
    for turn in 0..6 {
        assert_eq!(write(&mut producers, &header(1, 0, turn * 2, 2), i64::from(turn) * 2), Ok(Verdict::New));
    }
    let again = producers.check(&header(1, 0, 2, 2));
    assert_eq!(again, Ok(Verdict::Duplicate { base_offset: Offset::new(2), last_offset: Offset::new(3) }));
    assert!(matches!(producers.check(&header(1, 0, 0, 2)), Err(SequenceError::OutOfOrder { .. })));
}

#[test]
fn gaps_and_old_epochs_are_refused() {
    let mut producers = Producers::default();
    assert_eq!(write(&mut producers, &header(1, 1, 0, 1), 0), Ok(Verdict::New));
    assert!(matches!(producers.check(&header(1, 1, 2, 1)), Err(SequenceError::OutOfOrder { .. })));
    assert!(matches!(producers.check(&header(1, 0, 1, 1)), Err(SequenceError::Fenced { .. })));
    assert!(matches!(producers.check(&header(1, 2, 1, 1)), Err(SequenceError::OutOfOrder { .. })));
    assert_eq!(write(&mut producers, &header(1, 2, 0, 1), 1), Ok(Verdict::New));
    assert_eq!(producers.check(&header(1, 2, 1, 1)), Ok(Verdict::New));
}

#[test]
fn sequences_wrap() {
    let mut producers = Producers::default();
    assert_eq!(write(&mut producers, &header(1, 0, i32::MAX, 1), 0), Ok(Verdict::New));
    assert_eq!(write(&mut producers, &header(1, 0, 0, 1), 1), Ok(Verdict::New));
}

#[test]
fn survives_a_checkpoint_and_a_lost_tail() {
    let mut producers = Producers::default();
    for turn in 0..4 {
        write(&mut producers, &header(7, 0, turn, 1), i64::from(turn)).expect("is new");
    }
    write(&mut producers, &header(8, 0, 0, 1), 4).expect("is new");
    let mut bytes = Vec::new();
    producers.encode(&mut bytes);
    let mut restored = Producers::decode(&mut super::super::codec::Reader::new(&bytes)).expect("decodes");
    restored.truncate(Offset::new(3));
    assert_eq!(restored.len(), 1);
    assert_eq!(restored.check(&header(7, 0, 3, 1)), Ok(Verdict::New));
    assert!(matches!(restored.check(&header(7, 0, 2, 1)), Ok(Verdict::Duplicate { .. })));
    for cut in 0..bytes.len() {
        assert!(Producers::decode(&mut super::super::codec::Reader::new(&bytes[..cut])).is_none());
    }
}

#[test]
fn the_table_is_bounded() {
    let mut producers = Producers::default();
    for id in 0..PRODUCERS_MAX as i64 + 10 {
        producers.record(&header(id, 0, 0, 1), Offset::new(id));
    }
    assert_eq!(producers.len(), PRODUCERS_MAX);
    let mut bytes = Vec::new();
    producers.encode(&mut bytes);
    assert!(bytes.len() < 64 << 10);
}

#[test]
fn open_transactions_come_into_a_checkpoint_before_all_others() {
    let mut producers = Producers::default();
    for id in 0..OPEN_MAX as i64 {
        let mut batch = header(id, 0, 0, 1);
        batch.attributes = batch.attributes.transactional();
        assert_eq!(producers.record(&batch, Offset::new(id)), Some(Offset::new(id)));
    }
    for id in 0..3 * OPEN_MAX as i64 {
        producers.record(&header(10_000 + id, 0, 0, 1), Offset::new(10_000 + id));
    }
    let mut bytes = Vec::new();
    producers.encode(&mut bytes);
    assert!(bytes.len() <= STORED_BYTES_MAX, "{}", bytes.len());
    let mut stored = Producers::decode(&mut super::super::codec::Reader::new(&bytes)).expect("decodes");
    assert_eq!(stored.open_transactions().count(), OPEN_MAX);
    assert_eq!(stored.len(), 1476, "and of the others as many as fit");
    assert_eq!(stored.end(ProducerId::new(5), ProducerEpoch::new(0)), Some(Offset::new(5)));
}
