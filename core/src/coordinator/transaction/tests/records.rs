//! The records: they round-trip, and no bytes make the decoder panic.

use heddle_proto::ids::ProducerId;
use proptest::prelude::*;

use super::harness::*;
use crate::coordinator::{group::Millis, transaction::*};

fn transaction(state: u8, partitions: Vec<u32>, epoch: i16, has_more: bool) -> Transaction {
    let mut transaction = Transaction::new(ProducerId::new(5), MINUTE, Millis::new(77));
    transaction.producer = identity(5, epoch);
    transaction.previous = has_more.then(|| identity(4, epoch));
    transaction.successor = has_more.then(|| ProducerId::new(6));
    transaction.started = has_more.then(|| Millis::new(70));
    transaction.state = State::ALL[usize::from(state)];
    transaction.partitions = partitions.into_iter().map(at).collect();
    transaction
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_round_trips(
        name in ".{0,20}", state in 0..6_u8, partitions in prop::collection::vec(any::<u32>(), 0..5),
        epoch in 0..i16::MAX, has_more: bool, is_gone: bool,
    ) {
        let value = (!is_gone).then(|| transaction(state, partitions, epoch, has_more));
        let record = TransactionRecord { id: id(&name), value };
        let (key, value) = (record.encode_key(), record.encode_value());
        prop_assert_eq!(TransactionRecord::decode(&key, value.as_deref()), Ok(record));
        for cut in 0..value.as_ref().map_or(0, Vec::len) {
            let short = value.as_ref().map(|bytes| &bytes[..cut]);
            prop_assert_eq!(TransactionRecord::decode(&key, short), Err(DecodeError::Value));
        }
    }

    #[test]
    fn any_bytes_are_taken(key in prop::collection::vec(any::<u8>(), 0..8), mut value in prop::collection::vec(any::<u8>(), 0..100)) {
        drop(TransactionRecord::decode(&key, Some(&value)));
        if let Some(version) = value.first_mut() {
            *version = 1;
        }
        drop(TransactionRecord::decode(&[1, b'a'], Some(&value)));
    }
}
