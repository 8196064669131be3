//! The transaction markers of one segment: what was aborted, and from where on later ones can have anything to say.

use heddle_proto::batch::{BatchHeader, Marker, Outcome};
use heddle_proto::ids::{Offset, ProducerId};

use crate::codec::{Reader, Writer};

/// Bytes of one aborted transaction in an index file.
pub(super) const ABORTED_BYTES: usize = 24;

/// A transaction whose records do not count.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Aborted {
    /// Whose.
    pub producer: ProducerId,
    /// Its first record in this log.
    pub first: Offset,
    /// The marker that ended it.
    pub marker: Offset,
}

/// A marker where it lies.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct PlacedMarker {
    pub(crate) producer: ProducerId,
    pub(crate) offset: Offset,
    pub(crate) marker: Marker,
}

impl PlacedMarker {
    /// The marker that a batch is, if it is one.
    pub(crate) fn of(header: &BatchHeader, batch: &[u8]) -> Option<Self> {
        let marker = header.is_control().then(|| Marker::parse(batch)).flatten()?;
        Some(Self { producer: header.producer_id, offset: header.base_offset, marker })
    }

    /// The aborted transaction that this marker ends, if it is one that wrote something.
    pub(crate) fn aborted(&self) -> Option<Aborted> {
        let first = self.marker.first.filter(|first| *first < self.offset)?;
        let aborted = Aborted { producer: self.producer, first, marker: self.offset };
        (self.marker.outcome == Outcome::Abort).then_some(aborted)
    }
}

/// The markers of one segment, in the order they lie in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Markers {
    /// Transactions that were aborted by a marker in this segment.
    pub aborted: Vec<Aborted>,
    /// What the last marker says: transactions that end behind this segment have nothing below.
    pub stable: Option<Offset>,
}

impl Markers {
    /// Notes markers that lie behind all others.
    pub(crate) fn extend(&mut self, placed: impl IntoIterator<Item = PlacedMarker>) {
        for placed in placed {
            self.aborted.extend(placed.aborted());
            self.stable = placed.marker.stable.or(self.stable);
        }
    }

    /// Puts the markers of an earlier stretch of the same segment in front.
    pub(crate) fn prepend(&mut self, mut earlier: Self) {
        earlier.aborted.append(&mut self.aborted);
        self.aborted = earlier.aborted;
        self.stable = self.stable.or(earlier.stable);
    }

    /// What was aborted here and reaches into `from..upto`.
    pub(crate) fn overlapping(&self, from: Offset, upto: Offset) -> impl Iterator<Item = Aborted> {
        let skip = self.aborted.partition_point(|aborted| aborted.marker < from);
        self.aborted[skip..].iter().filter(move |aborted| aborted.first < upto).copied()
    }

    /// Memory beyond its own size.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.aborted.len() * std::mem::size_of::<Aborted>()
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        for aborted in &self.aborted {
            out.i64(aborted.producer.get()).i64(aborted.first.get()).i64(aborted.marker.get());
        }
        out.i64(self.stable.map_or(-1, Offset::get));
    }

    /// Reads what [`Self::encode`] wrote from bytes that hold nothing else.
    pub(super) fn decode(mut from: Reader<'_>, aborted_count: usize) -> Option<Self> {
        let mut aborted = Vec::with_capacity(aborted_count);
        for _ in 0..aborted_count {
            aborted.push(Aborted {
                producer: ProducerId::new(from.i64()?),
                first: Offset::new(from.i64()?),
                marker: Offset::new(from.i64()?),
            });
        }
        let stable = from.i64()?;
        Some(Self { aborted, stable: (stable >= 0).then(|| Offset::new(stable)) })
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.aborted.windows(2).all(|pair| pair[0].marker < pair[1].marker)
            && self.aborted.iter().all(|aborted| aborted.first < aborted.marker)
    }
}
