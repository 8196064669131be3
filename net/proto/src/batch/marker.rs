//! Transaction markers: the control batches by which a broker says how a producer's transaction in a partition ended.
//!
//! A marker is Kafka's (KIP-98): one record, whose key is the version and the outcome and whose value is the version and
//! the coordinator's epoch. Heddle adds two record headers that no client looks at, so that what was aborted is known
//! from the marker alone: where the transaction began, and what is stable once this marker is.

use bytes::{BufMut, Bytes, BytesMut};

use super::{BatchBuilder, BatchError, BatchHeader, Compression, records};
use crate::ids::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Larger control batches are none of ours: markers take about 150 bytes.
const MARKER_BYTES_MAX: usize = 1024;
const VERSION: i16 = 0;
const FIRST_OFFSET: &[u8] = b"heddle-first";
const STABLE_OFFSET: &[u8] = b"heddle-stable";

/// How a transaction ended.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Its records do not count.
    Abort,
    /// Its records count.
    Commit,
}

impl Outcome {
    const fn code(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
        }
    }

    const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Abort),
            1 => Some(Self::Commit),
            _ => None,
        }
    }
}

/// The content of a marker; producer and epoch stand in the batch's header.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    /// How the transaction ended.
    pub outcome: Outcome,
    /// Generation of the coordinator that decided.
    pub coordinator_epoch: i32,
    /// The transaction's first record in this partition; `None` if it wrote nothing here, or the marker does not say.
    pub first: Option<Offset>,
    /// Transactions that end after this marker have nothing below this offset. `None` if the marker does not say.
    pub stable: Option<Offset>,
}

impl Marker {
    /// The marker as a batch with base offset 0.
    ///
    /// # Errors
    /// None in practice: those of [`BatchBuilder::push`] and [`BatchBuilder::build`].
    pub fn build(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        now: Timestamp,
    ) -> Result<BytesMut, BatchError> {
        let mut key = BytesMut::with_capacity(4);
        key.put_i16(VERSION);
        key.put_i16(self.outcome.code());
        let mut value = BytesMut::with_capacity(6);
        value.put_i16(VERSION);
        value.put_i32(self.coordinator_epoch);
        let header = |name: &'static [u8], offset: Option<Offset>| {
            let value = Bytes::copy_from_slice(&offset?.get().to_be_bytes());
            Some((Bytes::from_static(name), Some(value)))
        };
        let headers: Vec<_> = [header(FIRST_OFFSET, self.first), header(STABLE_OFFSET, self.stable)]
            .into_iter()
            .flatten()
            .collect();
        let mut builder = BatchBuilder::new(Compression::None)
            .producer(producer, epoch, Sequence::NONE)
            .transactional()
            .control();
        builder.push(now, Some(&key), Some(&value), &headers)?;
        builder.build()
    }

    /// Reads a marker from a whole batch; `None` if it is something else.
    pub fn parse(batch: &[u8]) -> Option<Self> {
        let header = BatchHeader::parse(batch).ok()?;
        if !header.is_control() || header.batch_bytes as usize > MARKER_BYTES_MAX {
            return None;
        }
        let record = records(batch, MARKER_BYTES_MAX).ok()?.next()?.ok()?;
        let key = record.key?;
        let outcome = Outcome::from_code(i16::from_be_bytes(*key.get(2..)?.first_chunk()?))?;
        let epoch = record.value.as_deref().and_then(|value| value.get(2..)?.first_chunk().copied());
        let offset = |wanted: &[u8]| {
            let (_, value) = record.headers.iter().find(|(name, _)| name == wanted)?;
            let offset = i64::from_be_bytes(*value.as_deref()?.first_chunk()?);
            (offset >= 0).then(|| Offset::new(offset))
        };
        Some(Self {
            outcome,
            coordinator_epoch: epoch.map_or(-1, i32::from_be_bytes),
            first: offset(FIRST_OFFSET),
            stable: offset(STABLE_OFFSET),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::verify;

    #[test]
    fn a_marker_round_trips_and_is_what_clients_expect() {
        for (outcome, code) in [(Outcome::Abort, 0), (Outcome::Commit, 1)] {
            for (first, stable) in [(None, None), (Some(Offset::new(3)), Some(Offset::new(9)))] {
                let marker = Marker { outcome, coordinator_epoch: 7, first, stable };
                let batch = marker.build(ProducerId::new(5), ProducerEpoch::new(2), Timestamp::new(99));
                let batch = batch.expect("builds");
                let header = verify(&batch).expect("is whole");
                assert!(header.is_control() && header.is_transactional());
                assert_eq!((header.producer_id.get(), header.producer_epoch.get()), (5, 2));
                assert_eq!((header.base_sequence, header.record_count), (Sequence::NONE, 1));
                let record =
                    records(&batch, 1000).expect("has records").next().expect("has one").expect("reads");
                assert_eq!(record.key.as_deref(), Some(&[0, 0, 0, code][..]));
                assert_eq!(record.value.as_deref(), Some(&[0, 0, 0, 0, 0, 7][..]));
                assert_eq!(Marker::parse(&batch), Some(marker));
            }
        }
    }

    #[test]
    fn other_batches_are_no_markers() {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(Timestamp::new(1), Some(&[0, 0, 0, 1]), None, &[]).expect("fits");
        assert_eq!(Marker::parse(&builder.build().expect("builds")), None);
        for key in [&[][..], &[0, 0, 0], &[0, 0, 0, 9]] {
            let mut builder = BatchBuilder::new(Compression::None).control();
            builder.push(Timestamp::new(1), Some(key), None, &[]).expect("fits");
            assert_eq!(Marker::parse(&builder.build().expect("builds")), None, "{key:?}");
        }
        assert_eq!(Marker::parse(&[]), None);
    }
}
