//! Making a batch anew: from some of its records, as compaction leaves them, or under another codec.
//!
//! Offsets never change: a batch keeps its base offset and its last offset delta, and records keep their deltas.

use bytes::{BufMut, BytesMut};

use super::codec::{compress, decompress};
use super::header::{Attributes, BATCH_HEADER_BYTES, BatchHeader, Compression, TimestampType, at};
use super::record::{RawRecord, expect_end, split};
use super::{BatchError, varint};
use crate::crc::crc32c;
use crate::ids::{Epoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::limits::BATCH_BYTES_MAX;

/// What there is to know of a record without copying it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RecordView<'a> {
    /// Its position in the partition.
    pub offset: Offset,
    /// Its time: the producer's, or the broker's if the batch says so.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// What becomes of a record.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Keep {
    /// It goes.
    No,
    /// It stays.
    Yes,
    /// It stays, and the batch must say from when on it may go.
    UntilHorizon,
}

/// What is left of a batch when only some records stay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Retained {
    /// Every record stays: the batch is as it was.
    Whole,
    /// No record stays.
    Nothing,
    /// A new batch with the records that stay, in the place of the old one.
    Part(BytesMut),
}

/// Calls `each` for every record of a batch in order, copying none. Allocates only to unpack.
///
/// # Errors
/// As [`super::records`], and [`BatchError::Record`] at the first record that is malformed; those before it were seen.
pub fn for_each_record(
    bytes: &[u8],
    decompressed_bytes_max: usize,
    mut each: impl FnMut(RecordView<'_>),
) -> Result<(), BatchError> {
    let (header, body) = split(bytes)?;
    let body = decompress(header.compression(), body, decompressed_bytes_max)?;
    walk(&header, &body, |_, view| each(view))
}

/// The batch with those of its records that `keep` lets stay, compressed by the same codec. If a record stays until a
/// horizon and the batch has none yet, the new batch says `horizon`: from then on its tombstones may go (KIP-534).
///
/// A batch that would exceed [`BATCH_BYTES_MAX`] when made anew is left whole.
///
/// # Errors
/// As [`for_each_record`].
pub fn retain(
    bytes: &[u8],
    horizon: Timestamp,
    decompressed_bytes_max: usize,
    mut keep: impl FnMut(RecordView<'_>) -> Keep,
) -> Result<Retained, BatchError> {
    let (header, body) = split(bytes)?;
    let body = decompress(header.compression(), body, decompressed_bytes_max)?;
    let (mut stays, mut needs_horizon) = (Vec::new(), false);
    walk(&header, &body, |_, view| {
        let decision = keep(view);
        needs_horizon |= decision == Keep::UntilHorizon;
        stays.push(decision != Keep::No);
    })?;
    let record_count = stays.iter().filter(|stays| **stays).count();
    let horizon = Some(horizon).filter(|_| needs_horizon && !header.attributes.has_delete_horizon());
    match (record_count, horizon) {
        (0, _) => Ok(Retained::Nothing),
        (all, None) if all == stays.len() => Ok(Retained::Whole),
        _ => match rebuild(header, &body, &stays, horizon) {
            Err(BatchError::TooLarge(_)) => Ok(Retained::Whole),
            rebuilt => rebuilt.map(Retained::Part),
        },
    }
}

/// A transaction marker that says from when on it may go.
///
/// # Errors
/// As [`for_each_record`].
pub fn with_horizon(bytes: &[u8], horizon: Timestamp) -> Result<BytesMut, BatchError> {
    match retain(bytes, horizon, bytes.len(), |_| Keep::UntilHorizon)? {
        Retained::Part(made) => Ok(made),
        Retained::Whole | Retained::Nothing => Ok(BytesMut::from(bytes)),
    }
}

fn rebuild(
    header: BatchHeader,
    body: &[u8],
    stays: &[bool],
    horizon: Option<Timestamp>,
) -> Result<BytesMut, BatchError> {
    let base_timestamp = horizon.unwrap_or(header.base_timestamp);
    let mut kept = BytesMut::with_capacity(body.len());
    let (mut record_count, mut max_timestamp) = (0, Timestamp::NONE);
    let mut stays = stays.iter();
    walk(&header, body, |raw, view| {
        if stays.next().is_some_and(|stays| *stays) {
            record_count += 1;
            max_timestamp = max_timestamp.max(view.timestamp);
            put_record(&mut kept, raw, view.timestamp, base_timestamp, &header);
        }
    })?;
    let attributes = match horizon {
        Some(_) => header.attributes.with_delete_horizon(),
        None => header.attributes,
    };
    let max_timestamp = match header.attributes.timestamp_type() {
        TimestampType::CreateTime => max_timestamp,
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    assemble(BatchHeader { attributes, base_timestamp, max_timestamp, record_count, ..header }, &kept, None)
}

/// The batch compressed by another codec, at `level` or the codec's default.
///
/// # Errors
/// As [`super::records`]; [`BatchError::TooLarge`] if the result exceeds [`BATCH_BYTES_MAX`].
pub fn recompress(
    bytes: &[u8],
    codec: Compression,
    level: Option<i32>,
    decompressed_bytes_max: usize,
) -> Result<BytesMut, BatchError> {
    let (header, body) = split(bytes)?;
    let body = decompress(header.compression(), body, decompressed_bytes_max)?;
    assemble(BatchHeader { attributes: header.attributes.with_compression(codec), ..header }, &body, level)
}

/// The batch without its records: offsets, producer and sequence numbers stay, so that it still tells where its producer
/// stood.
pub fn emptied(header: &BatchHeader) -> BytesMut {
    let attributes = header.attributes.with_compression(Compression::None);
    assemble(BatchHeader { attributes, record_count: 0, ..*header }, &[], None)
        .expect("a header alone is within every limit")
}

/// A batch that stands for offsets from `base` up to before `next` whose records are all gone, and says nothing else.
///
/// # Panics
/// If there is no offset between the two, or more than 2^31.
pub fn hole(base: Offset, next: Offset, epoch: Epoch) -> BytesMut {
    let last_offset_delta =
        i32::try_from(next.since(base) - 1).expect("holes are cut to the range of a delta");
    let header = BatchHeader {
        base_offset: base,
        batch_bytes: 0,
        epoch,
        crc: 0,
        attributes: Attributes::new(Compression::None),
        last_offset_delta: u32::try_from(last_offset_delta).expect("a hole covers at least one offset"),
        base_timestamp: Timestamp::NONE,
        max_timestamp: Timestamp::NONE,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence::NONE,
        record_count: 0,
    };
    assemble(header, &[], None).expect("a header alone is within every limit")
}

fn walk<'a>(
    header: &BatchHeader,
    body: &'a [u8],
    mut each: impl FnMut(&RawRecord<'a>, RecordView<'a>),
) -> Result<(), BatchError> {
    let (mut rest, mut offset_delta_min) = (body, 0);
    for index in 0..header.record_count {
        let raw = RawRecord::read(&mut rest, index)?;
        if raw.offset_delta < offset_delta_min || raw.offset_delta > header.last_offset_delta {
            return Err(BatchError::Record { index, reason: "offset delta is out of order or range" });
        }
        offset_delta_min = raw.offset_delta + 1;
        let view = RecordView {
            offset: header.base_offset.plus(i64::from(raw.offset_delta)),
            timestamp: raw.timestamp(header),
            key: raw.key,
            value: raw.value,
        };
        each(&raw, view);
    }
    expect_end(rest, header.record_count)
}

/// Appends a record as it is, or with its timestamp counted from another base.
fn put_record(
    out: &mut BytesMut,
    raw: &RawRecord<'_>,
    timestamp: Timestamp,
    base: Timestamp,
    header: &BatchHeader,
) {
    let timestamp_delta = match header.attributes.timestamp_type() {
        TimestampType::CreateTime => timestamp.get().wrapping_sub(base.get()),
        TimestampType::LogAppendTime => raw.timestamp_delta,
    };
    let record_bytes = 1 + varint::encoded_bytes(timestamp_delta) + raw.after_timestamp.len();
    varint::write(out, record_bytes as i64);
    out.put_u8(raw.attributes);
    varint::write(out, timestamp_delta);
    out.extend_from_slice(raw.after_timestamp);
}

/// Puts header and records together: length, codec and CRC follow from them.
fn assemble(header: BatchHeader, body: &[u8], level: Option<i32>) -> Result<BytesMut, BatchError> {
    let mut out = BytesMut::with_capacity(BATCH_HEADER_BYTES + body.len());
    out.resize(BATCH_HEADER_BYTES, 0);
    if header.record_count > 0 {
        compress(header.compression(), body, level, &mut out)?;
    }
    if out.len() > BATCH_BYTES_MAX {
        return Err(BatchError::TooLarge(out.len()));
    }
    let header = BatchHeader { batch_bytes: out.len() as u32, ..header };
    out[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
    let crc = crc32c(&out[at::CRC_COVERED..]);
    out[at::CRC..at::CRC_COVERED].copy_from_slice(&crc.to_be_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{self, BatchBuilder};

    const MAX: usize = 1 << 20;
    const HORIZON: Timestamp = Timestamp::new(1_800_000_000_000);

    fn yes(stays: bool) -> Keep {
        if stays { Keep::Yes } else { Keep::No }
    }

    fn sample(codec: Compression) -> BytesMut {
        let mut builder =
            BatchBuilder::new(codec).producer(ProducerId::new(7), ProducerEpoch::new(1), Sequence::new(40));
        for index in 0..5i64 {
            let key = format!("key-{index}");
            let value = (index != 3).then_some(&b"value"[..]);
            let header = (b"name".to_vec().into(), Some(b"x".to_vec().into()));
            builder.push(Timestamp::new(1000 - index * 10), Some(key.as_bytes()), value, &[header]).unwrap();
        }
        let mut bytes = builder.build().unwrap();
        batch::assign(&mut bytes, Offset::new(100), Epoch::new(3));
        bytes
    }

    fn read(bytes: &[u8]) -> Vec<batch::Record> {
        batch::verify_stored(bytes).unwrap();
        batch::records(bytes, MAX).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn what_stays_is_what_it_was_in_every_codec() {
        for codec in Compression::ALL {
            let bytes = sample(codec);
            let before = read(&bytes);
            let kept = retain(&bytes, HORIZON, MAX, |view| yes(view.offset.get() % 2 == 1)).unwrap();
            let Retained::Part(after) = kept else { panic!("{codec:?}: {kept:?}") };
            assert_eq!(read(&after), [before[1].clone(), before[3].clone()], "{codec:?}");
            let (old, new) = (BatchHeader::parse(&bytes).unwrap(), BatchHeader::parse(&after).unwrap());
            assert_eq!((new.base_offset, new.next_offset()), (old.base_offset, old.next_offset()));
            assert_eq!((new.compression(), new.epoch), (codec, old.epoch));
            assert_eq!(new.last_sequence(), old.last_sequence());
            assert_eq!((new.record_count, new.max_timestamp), (2, Timestamp::new(990)));
        }
    }

    #[test]
    fn a_delete_horizon_changes_no_timestamp() {
        let bytes = sample(Compression::Lz4);
        let kept = retain(&bytes, HORIZON, MAX, |_| Keep::UntilHorizon).unwrap();
        let Retained::Part(after) = kept else { panic!("{kept:?}") };
        assert_eq!(read(&after), read(&bytes));
        let header = BatchHeader::parse(&after).unwrap();
        assert_eq!(header.delete_horizon(), Some(HORIZON));
        assert_eq!(header.max_timestamp, BatchHeader::parse(&bytes).unwrap().max_timestamp);
        // A second pass keeps it.
        let later = Timestamp::new(HORIZON.get() + 1);
        let again = retain(&after, later, MAX, |view| match view.offset.get() {
            102.. => Keep::UntilHorizon,
            _ => Keep::No,
        });
        let again = again.unwrap();
        let Retained::Part(again) = again else { panic!("{again:?}") };
        assert_eq!(read(&again), read(&bytes)[2..]);
        assert_eq!(BatchHeader::parse(&again).unwrap().delete_horizon(), Some(HORIZON));
    }

    #[test]
    fn all_and_nothing_are_told_apart() {
        let bytes = sample(Compression::None);
        assert_eq!(retain(&bytes, HORIZON, MAX, |_| Keep::Yes), Ok(Retained::Whole));
        assert_eq!(retain(&bytes, HORIZON, MAX, |_| Keep::No), Ok(Retained::Nothing));
    }

    #[test]
    fn append_time_stays_with_every_record() {
        let mut bytes = sample(Compression::None);
        batch::set_append_time(&mut bytes, Timestamp::new(5_000));
        let keep = |view: RecordView<'_>| match view.offset.get() {
            ..102 => Keep::UntilHorizon,
            _ => Keep::No,
        };
        let Retained::Part(after) = retain(&bytes, HORIZON, MAX, keep).unwrap() else {
            panic!("records went")
        };
        assert!(read(&after).iter().all(|record| record.timestamp == Timestamp::new(5_000)));
        assert_eq!(read(&after).len(), 2);
    }

    #[test]
    fn empty_batches_keep_their_place_and_their_producer() {
        let header = BatchHeader::parse(&sample(Compression::Zstd)).unwrap();
        let bytes = emptied(&header);
        let parsed = batch::verify_stored(&bytes).unwrap();
        assert_eq!(parsed.batch_bytes as usize, BATCH_HEADER_BYTES);
        assert_eq!((parsed.base_offset, parsed.next_offset()), (header.base_offset, header.next_offset()));
        assert_eq!(
            (parsed.producer_id, parsed.last_sequence()),
            (header.producer_id, header.last_sequence())
        );
        assert!(read(&bytes).is_empty());
        let hole = hole(Offset::new(5), Offset::new(9), Epoch::new(2));
        let parsed = batch::verify_stored(&hole).unwrap();
        assert_eq!((parsed.base_offset.get(), parsed.next_offset().get()), (5, 9));
        assert!(parsed.is_hole() && !batch::verify_stored(&bytes).unwrap().is_hole());
        assert!(read(&hole).is_empty());
    }

    #[test]
    fn another_codec_changes_nothing_else() {
        let bytes = sample(Compression::Gzip);
        for codec in Compression::ALL {
            for level in [None, Some(1), Some(9)] {
                let packed = recompress(&bytes, codec, level, MAX).unwrap();
                assert_eq!(read(&packed), read(&bytes));
                let header = batch::verify(&packed).unwrap();
                assert_eq!((header.compression(), header.base_sequence), (codec, Sequence::new(40)));
            }
        }
        assert!(recompress(&bytes, Compression::None, None, 10).is_err());
    }

    #[test]
    fn malformed_records_are_an_error_and_no_panic() {
        let mut bytes = sample(Compression::None);
        for at in BATCH_HEADER_BYTES..bytes.len() {
            let before = bytes[at];
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                bytes[at] = value;
                let _ = retain(&bytes, HORIZON, MAX, |view| match view.offset.get() {
                    102 => Keep::No,
                    _ => Keep::UntilHorizon,
                });
                let _ = for_each_record(&bytes, MAX, |_| ());
            }
            bytes[at] = before;
        }
    }
}
