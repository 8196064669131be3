//! Which transactions of a log were aborted, learnt from its own batches and markers.

use std::collections::HashMap;

use heddle_proto::batch::{self, BatchHeader};
use heddle_proto::ids::{Offset, ProducerId};

/// Type of a marker that aborts, as in the key of its record.
const ABORT: i16 = 0;

/// Offsets of one producer whose transaction was aborted: from its first batch up to the marker.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Aborted {
    first: Offset,
    marker: Offset,
}

/// See the module. Batches are noted in the order of their offsets.
#[derive(Default)]
pub(crate) struct Transactions {
    open: HashMap<ProducerId, Offset>,
    aborted: HashMap<ProducerId, Vec<Aborted>>,
    aborted_count: usize,
}

/// Memory of one aborted transaction, roughly.
pub(crate) const ABORTED_BYTES: usize = std::mem::size_of::<Aborted>() + 8;

impl Transactions {
    /// Takes in the next batch.
    pub(crate) fn note(&mut self, header: &BatchHeader, bytes: &[u8]) {
        let producer = header.producer_id;
        if header.is_control() {
            let first = self.open.remove(&producer);
            if let Some(first) = first.filter(|_| marker_type(bytes) == Some(ABORT)) {
                let aborted = Aborted { first, marker: header.base_offset };
                self.aborted.entry(producer).or_default().push(aborted);
                self.aborted_count += 1;
            }
        } else if header.is_transactional() {
            self.open.entry(producer).or_insert(header.base_offset);
        }
    }

    /// Whether a data batch belongs to an aborted transaction.
    pub(crate) fn is_aborted(&self, header: &BatchHeader) -> bool {
        let Some(aborted) = self.aborted.get(&header.producer_id) else { return false };
        let next = aborted.partition_point(|aborted| aborted.marker < header.base_offset);
        aborted.get(next).is_some_and(|aborted| aborted.first <= header.base_offset)
    }

    /// First offset of a transaction that nothing noted so far has decided.
    pub(crate) fn first_open(&self) -> Option<Offset> {
        self.open.values().min().copied()
    }

    /// Memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.aborted_count * ABORTED_BYTES + self.open.len() * ABORTED_BYTES
    }
}

/// The type in the key of a marker's record: version and type as big-endian `i16`.
fn marker_type(bytes: &[u8]) -> Option<i16> {
    let mut found = None;
    let read = batch::for_each_record(bytes, bytes.len(), |record| {
        found = record.key.and_then(|key| key.get(2..4)?.try_into().ok()).map(i16::from_be_bytes);
    });
    read.ok().and(found)
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use heddle_proto::batch::{BatchBuilder, Compression};
    use heddle_proto::ids::{Epoch, ProducerEpoch, Sequence, Timestamp};

    use super::*;

    /// A marker of `producer` at `base`.
    pub(crate) fn marker(producer: i64, base: i64, commits: bool) -> Bytes {
        let key = [0, 0, 0, u8::from(commits)];
        let builder = BatchBuilder::new(Compression::None)
            .producer(ProducerId::new(producer), ProducerEpoch::new(0), Sequence::NONE)
            .transactional()
            .control();
        finish(builder, base, Some(&key), Some(&[0; 6]))
    }

    /// A batch of one record within a transaction.
    pub(crate) fn data(producer: i64, base: i64, key: &[u8], value: Option<&[u8]>) -> Bytes {
        let builder = BatchBuilder::new(Compression::None)
            .producer(ProducerId::new(producer), ProducerEpoch::new(0), Sequence::new(0))
            .transactional();
        finish(builder, base, Some(key), value)
    }

    fn finish(mut builder: BatchBuilder, base: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Bytes {
        builder.push(Timestamp::new(1), key, value, &[]).unwrap();
        let mut bytes = builder.build().unwrap();
        batch::assign(&mut bytes, Offset::new(base), Epoch::new(0));
        bytes.freeze()
    }

    fn header(bytes: &Bytes) -> BatchHeader {
        BatchHeader::parse(bytes).unwrap()
    }

    #[test]
    fn only_what_lies_between_begin_and_abort_is_aborted() {
        let log = [
            data(1, 0, b"a", Some(b"1")),
            data(2, 1, b"b", Some(b"1")),
            marker(1, 2, false),
            data(1, 3, b"a", Some(b"2")),
            marker(2, 4, true),
            marker(1, 5, true),
            data(1, 6, b"a", Some(b"3")),
            data(2, 7, b"b", Some(b"2")),
            marker(1, 8, false),
        ];
        let mut transactions = Transactions::default();
        log.iter().for_each(|bytes| transactions.note(&header(bytes), bytes));
        let aborted: Vec<i64> = log
            .iter()
            .map(header)
            .filter(|header| !header.is_control() && transactions.is_aborted(header))
            .map(|header| header.base_offset.get())
            .collect();
        assert_eq!(aborted, [0, 6]);
        assert_eq!(transactions.first_open(), Some(Offset::new(7)));
    }
}
