//! What an owner that has nothing else to remember keeps with a log: which epochs it is made of.

use bytes::Bytes;
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::{Epoch, Offset};
use heddle_replication::history::History;

const ENTRY_BYTES: usize = 12;

/// The bytes of a history, to be handed to the log store as its owner's snapshot.
pub fn encode_history(history: &History) -> Bytes {
    let mut out = Vec::with_capacity(history.entries().len() * ENTRY_BYTES);
    for (epoch, start) in history.entries() {
        out.extend(epoch.get().to_le_bytes());
        out.extend(start.get().to_le_bytes());
    }
    out.into()
}

/// The history of a log that ends at `end`, from the snapshot and the headers behind it. A snapshot that cannot be read is
/// none.
pub fn restore_history(snapshot: Option<&[u8]>, headers: &[BatchHeader], end: Offset) -> History {
    let mut history = snapshot.and_then(decode_history).unwrap_or_default();
    headers.iter().for_each(|header| history.note(header.epoch, header.base_offset));
    history.truncate(end);
    history
}

fn decode_history(bytes: &[u8]) -> Option<History> {
    let entries = bytes.chunks(ENTRY_BYTES).map(|entry| {
        let epoch = i32::from_le_bytes(entry.get(..4)?.try_into().ok()?);
        let start = i64::from_le_bytes(entry.get(4..ENTRY_BYTES)?.try_into().ok()?);
        Some((Epoch::new(epoch), Offset::new(start)))
    });
    History::from_entries(entries.collect::<Option<Vec<_>>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_round_trips_and_ends_where_the_log_does() {
        let entries = vec![(Epoch::new(1), Offset::new(0)), (Epoch::new(4), Offset::new(9))];
        let history = History::from_entries(entries).expect("it rises");
        let bytes = encode_history(&history);
        assert_eq!(restore_history(Some(&bytes), &[], Offset::new(20)), history);
        assert_eq!(restore_history(Some(&bytes), &[], Offset::new(9)).entries().len(), 1);
        assert_eq!(restore_history(Some(&bytes[1..]), &[], Offset::new(9)), History::default());
    }
}
