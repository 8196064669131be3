//! What becomes of each batch when its segment is compacted: Kafka's rules, as a pure function of what is known.

use std::collections::HashSet;

use bytes::Bytes;
use heddle_proto::batch::{self, BatchHeader, Keep, RecordView, Retained};
use heddle_proto::ids::{Offset, ProducerId, Timestamp};
use heddle_proto::limits::DECOMPRESSED_BYTES_MAX;

use super::offset_map::OffsetMap;
use super::transactions::Transactions;

/// What becomes of one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It stays as it is.
    Keep,
    /// It goes; its offsets become part of a hole.
    Drop,
    /// This takes its place.
    Replace(Bytes),
}

/// The rules of one pass, applied to the batches of the log in order.
#[derive(Clone)]
pub(crate) struct Filter<'a> {
    map: &'a OffsetMap,
    transactions: &'a Transactions,
    now: Timestamp,
    /// Tombstones and markers that get their horizon in this pass may go from here on.
    horizon: Timestamp,
    /// Producers with a batch of the current transaction in what stays; `None` if not every batch is shown, so that
    /// markers cannot be judged.
    live: Option<HashSet<ProducerId>>,
}

impl<'a> Filter<'a> {
    pub(crate) fn new(
        map: &'a OffsetMap,
        transactions: &'a Transactions,
        now: Timestamp,
        tombstone_retention_ms: i64,
    ) -> Self {
        let horizon = Timestamp::new(now.get().saturating_add(tombstone_retention_ms));
        Self { map, transactions, now, horizon, live: Some(HashSet::new()) }
    }

    /// For a pass that does not look at every segment: leaves markers alone.
    pub(crate) fn without_markers(self) -> Self {
        Self { live: None, ..self }
    }

    /// Up to where the map tells the newest record of each key.
    pub(crate) fn reach(&self) -> Offset {
        self.map.end()
    }

    /// Decides about the next batch. `is_last` tells whether it is the last one its producer wrote: that one is never
    /// dropped whole, so that the log itself tells where the producer stands.
    pub(crate) fn judge(
        &mut self,
        header: &BatchHeader,
        bytes: &Bytes,
        is_last: impl FnOnce() -> bool,
    ) -> Verdict {
        let verdict = match header {
            _ if header.is_hole() => Verdict::Drop,
            _ if header.base_offset >= self.map.end() => Verdict::Keep,
            _ if header.record_count == 0 => Verdict::Drop,
            _ if header.is_control() => self.judge_marker(header, bytes),
            _ if header.is_transactional() && self.transactions.is_aborted(header) => Verdict::Drop,
            _ => self.judge_data(header, bytes),
        };
        let verdict = match verdict {
            Verdict::Drop if header.producer_id.is_some() && is_last() => match header.record_count {
                0 => Verdict::Keep,
                _ => Verdict::Replace(batch::emptied(header).freeze()),
            },
            other => other,
        };
        self.follow(header, &verdict);
        verdict
    }

    /// Which transactions have something left when their marker comes.
    fn follow(&mut self, header: &BatchHeader, verdict: &Verdict) {
        let Some(live) = &mut self.live else { return };
        if header.is_control() {
            live.remove(&header.producer_id);
        } else if header.is_transactional() && *verdict != Verdict::Drop {
            live.insert(header.producer_id);
        }
    }

    /// A marker is needed while a record of its transaction is there, and for some time after that by readers who were
    /// under way.
    fn judge_marker(&self, header: &BatchHeader, bytes: &Bytes) -> Verdict {
        if self.live.as_ref().is_none_or(|live| live.contains(&header.producer_id)) {
            return Verdict::Keep;
        }
        match header.delete_horizon() {
            Some(horizon) if self.now >= horizon => Verdict::Drop,
            Some(_) => Verdict::Keep,
            None => match batch::with_horizon(bytes, self.horizon) {
                Ok(marked) => Verdict::Replace(marked.freeze()),
                Err(_) => Verdict::Keep,
            },
        }
    }

    fn judge_data(&self, header: &BatchHeader, bytes: &Bytes) -> Verdict {
        let is_due = header.delete_horizon().is_some_and(|horizon| self.now >= horizon);
        let keep = |record: RecordView<'_>| self.judge_record(record, is_due);
        match batch::retain(bytes, self.horizon, DECOMPRESSED_BYTES_MAX, keep) {
            Ok(Retained::Whole) => Verdict::Keep,
            Ok(Retained::Nothing) => Verdict::Drop,
            Ok(Retained::Part(part)) => Verdict::Replace(part.freeze()),
            // Its CRC is right, so it is what the producer sent; what cannot be read cannot be judged.
            Err(_) => Verdict::Keep,
        }
    }

    fn judge_record(&self, record: RecordView<'_>, is_due: bool) -> Keep {
        if record.offset >= self.map.end() {
            return Keep::Yes;
        }
        let Some(key) = record.key else { return Keep::No };
        if self.map.newest(key).is_some_and(|newest| record.offset < newest) {
            return Keep::No;
        }
        match record.value {
            Some(_) => Keep::Yes,
            None if is_due => Keep::No,
            None => Keep::UntilHorizon,
        }
    }
}

#[cfg(test)]
mod tests {
    use heddle_proto::batch::{BatchBuilder, Compression};
    use heddle_proto::ids::{Epoch, ProducerEpoch, Sequence};

    use super::super::transactions::tests::{data, marker};
    use super::*;

    const NOW: i64 = 1_000_000;
    const RETENTION: i64 = 5_000;

    fn plain(base: i64, records: &[(&[u8], Option<&[u8]>)]) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::Lz4).producer(
            ProducerId::new(9),
            ProducerEpoch::new(0),
            Sequence::new(base as i32),
        );
        for (key, value) in records {
            builder.push(Timestamp::new(500), Some(key), *value, &[]).unwrap();
        }
        let mut bytes = builder.build().unwrap();
        batch::assign(&mut bytes, Offset::new(base), Epoch::new(0));
        bytes.freeze()
    }

    fn map_of(log: &[Bytes], transactions: &Transactions) -> OffsetMap {
        let mut map = OffsetMap::new(1 << 16, Offset::ZERO);
        for bytes in log {
            let header = BatchHeader::parse(bytes).unwrap();
            map.set_end(header.next_offset());
            if header.is_control() || (header.is_transactional() && transactions.is_aborted(&header)) {
                continue;
            }
            batch::for_each_record(bytes, 1 << 20, |record| {
                assert!(map.put(record.key.unwrap(), record.offset));
            })
            .unwrap();
        }
        map
    }

    fn transactions_of(log: &[Bytes]) -> Transactions {
        let mut transactions = Transactions::default();
        log.iter().for_each(|bytes| transactions.note(&BatchHeader::parse(bytes).unwrap(), bytes));
        transactions
    }

    /// One pass over a whole log at `now`: the batches that are left.
    fn pass(log: &[Bytes], now: i64, last_of: &[i64]) -> Vec<Bytes> {
        let transactions = transactions_of(log);
        let map = map_of(log, &transactions);
        let mut filter = Filter::new(&map, &transactions, Timestamp::new(now), RETENTION);
        let mut left = Vec::new();
        for bytes in log {
            let header = BatchHeader::parse(bytes).unwrap();
            match filter.judge(&header, bytes, || last_of.contains(&header.base_offset.get())) {
                Verdict::Keep => left.push(bytes.clone()),
                Verdict::Drop => {}
                Verdict::Replace(other) => left.push(other),
            }
        }
        left
    }

    fn offsets(log: &[Bytes]) -> Vec<i64> {
        let mut offsets = Vec::new();
        for bytes in log {
            batch::verify_stored(bytes).unwrap();
            batch::for_each_record(bytes, 1 << 20, |record| offsets.push(record.offset.get())).unwrap();
        }
        offsets
    }

    #[test]
    fn the_newest_record_of_each_key_stays() {
        let log = [
            plain(0, &[(b"a", Some(b"1")), (b"b", Some(b"1")), (b"a", Some(b"2"))]),
            plain(3, &[(b"b", Some(b"2"))]),
            plain(4, &[(b"c", Some(b"1")), (b"b", Some(b"3"))]),
        ];
        assert_eq!(offsets(&pass(&log, NOW, &[])), [2, 4, 5]);
        let twice = pass(&pass(&log, NOW, &[]), NOW, &[]);
        assert_eq!(offsets(&twice), [2, 4, 5]);
    }

    #[test]
    fn a_tombstone_stays_until_its_horizon_and_then_goes() {
        let log =
            [plain(0, &[(b"a", Some(b"1"))]), plain(1, &[(b"a", None)]), plain(2, &[(b"b", Some(b"1"))])];
        let first = pass(&log, NOW, &[]);
        assert_eq!(offsets(&first), [1, 2]);
        let header = BatchHeader::parse(&first[0]).unwrap();
        assert_eq!(header.delete_horizon(), Some(Timestamp::new(NOW + RETENTION)));
        let early = pass(&first, NOW + RETENTION - 1, &[]);
        assert_eq!(early, first, "the horizon is set once");
        assert_eq!(offsets(&pass(&early, NOW + RETENTION, &[])), [2]);
    }

    #[test]
    fn the_last_batch_of_a_producer_stays_as_a_shell() {
        let log = [plain(0, &[(b"a", Some(b"1")), (b"a", Some(b"2"))]), data(4, 2, b"a", Some(b"3"))];
        let left = pass(&log, NOW, &[0]);
        let shell = BatchHeader::parse(&left[0]).unwrap();
        assert_eq!((shell.record_count, shell.last_sequence()), (0, Sequence::new(1)));
        assert_eq!(offsets(&left), [2]);
        assert_eq!(pass(&left, NOW, &[0]), left);
        assert_eq!(pass(&left, NOW, &[]).len(), 1, "another one is the last now");
    }

    #[test]
    fn aborted_records_hide_nothing_and_markers_go_last() {
        let log = [
            plain(0, &[(b"a", Some(b"kept"))]),
            data(1, 1, b"a", Some(b"aborted")),
            data(2, 2, b"b", Some(b"committed")),
            marker(1, 3, false),
            marker(2, 4, true),
        ];
        let first = pass(&log, NOW, &[]);
        assert_eq!(offsets(&first), [0, 2, 3, 4]);
        let later = pass(&first, NOW + RETENTION, &[]);
        assert_eq!(offsets(&later), [0, 2, 4], "a marker goes after its records, never before");
        let mut longer = later;
        longer.push(plain(5, &[(b"b", Some(b"newer"))]));
        let without = pass(&longer, NOW + RETENTION, &[]);
        assert_eq!(offsets(&without), [0, 4, 5]);
        assert_eq!(offsets(&pass(&without, NOW + 2 * RETENTION, &[])), [0, 5]);
    }

    #[test]
    fn what_the_map_does_not_cover_is_left_alone() {
        let log = [plain(0, &[(b"a", Some(b"1")), (b"a", None)]), plain(2, &[(b"a", Some(b"2"))])];
        let none = Transactions::default();
        let mut map = OffsetMap::new(1 << 12, Offset::ZERO);
        assert!(map.put(b"a", Offset::ZERO));
        map.set_end(Offset::new(1));
        let mut filter = Filter::new(&map, &none, Timestamp::new(NOW), RETENTION);
        for bytes in &log {
            let header = BatchHeader::parse(bytes).unwrap();
            assert_eq!(filter.judge(&header, bytes, || false), Verdict::Keep);
        }
    }
}
