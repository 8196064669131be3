//! The history of leadership of one partition: which epoch began at which offset.
//!
//! Replicas compare it to find the last point they share, and Kafka clients ask it to detect truncation (KIP-101).

use heddle_proto::ids::{Epoch, Offset};

/// How many epochs are kept: older ones are merged into the oldest entry. A restart makes one.
pub const EPOCHS_MAX: usize = 64;

/// Epochs in rising order, each with the offset of its first record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochHistory {
    entries: Vec<(Epoch, Offset)>,
}

impl EpochHistory {
    /// Notes that records from `start` on were written in `epoch`. Epochs without records leave no entry.
    pub fn note(&mut self, epoch: Epoch, start: Offset) {
        match self.entries.last() {
            Some((last, _)) if *last >= epoch => return,
            _ => self.entries.push((epoch, start)),
        }
        if self.entries.len() > EPOCHS_MAX {
            self.entries.remove(0);
        }
    }

    /// Where `epoch` ends: the largest epoch not above it, and the offset where the next one begins (`end` when there is
    /// none). `None` when every known epoch is newer.
    pub fn end_of(&self, epoch: Epoch, end: Offset) -> Option<(Epoch, Offset)> {
        let index = self.entries.iter().rposition(|(known, _)| *known <= epoch)?;
        let next = self.entries.get(index + 1).map_or(end, |(_, start)| *start);
        Some((self.entries[index].0, next))
    }

    /// The epoch that the record at `offset` is of, and where it ends.
    pub fn holding(&self, offset: Offset, end: Offset) -> Option<(Epoch, Offset)> {
        let index = self.entries.iter().rposition(|(_, start)| *start <= offset)?;
        let next = self.entries.get(index + 1).map_or(end, |(_, start)| *start);
        Some((self.entries[index].0, next))
    }

    /// Epochs in rising order, each with the offset of its first record.
    pub fn entries(&self) -> &[(Epoch, Offset)] {
        &self.entries
    }

    /// Where the oldest known epoch begins.
    pub fn first_start(&self) -> Option<Offset> {
        self.entries.first().map(|(_, start)| *start)
    }

    /// Forgets epochs that begin at or after `end`.
    pub fn truncate(&mut self, end: Offset) {
        self.entries.retain(|(_, start)| *start < end);
    }

    /// Writes the history for a checkpoint.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.entries.len() as u8);
        for (epoch, start) in &self.entries {
            out.extend_from_slice(&epoch.get().to_le_bytes());
            out.extend_from_slice(&start.get().to_le_bytes());
        }
    }

    /// Reads what [`EpochHistory::encode`] wrote; `None` when the bytes are not that.
    pub fn decode(reader: &mut super::codec::Reader<'_>) -> Option<EpochHistory> {
        let count = usize::from(reader.u8()?);
        if count > EPOCHS_MAX {
            return None;
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push((Epoch::new(reader.i32()?), Offset::new(reader.i64()?)));
        }
        Some(EpochHistory { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_an_epoch_ends() {
        let mut history = EpochHistory::default();
        for (epoch, start) in [(1, 0), (1, 5), (3, 10), (2, 12), (6, 20)] {
            history.note(Epoch::new(epoch), Offset::new(start));
        }
        let end = Offset::new(33);
        let end_of = |epoch| history.end_of(Epoch::new(epoch), end).map(|(e, o)| (e.get(), o.get()));
        assert_eq!(end_of(0), None);
        assert_eq!(end_of(1), Some((1, 10)));
        assert_eq!(end_of(2), Some((1, 10)));
        assert_eq!(end_of(5), Some((3, 20)));
        assert_eq!(end_of(9), Some((6, 33)));
        let holding = |offset| history.holding(Offset::new(offset), end).map(|(e, o)| (e.get(), o.get()));
        assert_eq!(holding(0), Some((1, 10)));
        assert_eq!(holding(10), Some((3, 20)));
        assert_eq!(holding(32), Some((6, 33)));
    }

    #[test]
    fn survives_a_checkpoint() {
        let mut history = EpochHistory::default();
        for epoch in 0..100 {
            history.note(Epoch::new(epoch), Offset::new(i64::from(epoch)));
        }
        let mut bytes = Vec::new();
        history.encode(&mut bytes);
        let mut read = EpochHistory::decode(&mut super::super::codec::Reader::new(&bytes)).expect("decodes");
        assert_eq!(read, history);
        read.truncate(Offset::new(90));
        assert_eq!(read.end_of(Epoch::new(99), Offset::new(90)), Some((Epoch::new(89), Offset::new(90))));
    }
}
