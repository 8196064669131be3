//! The 61-byte header of a RecordBatch: where each field lies, and a parser that trusts none of them.

use super::BatchError;
use crate::ids::{Epoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::limits::BATCH_BYTES_MAX;

/// Bytes of a batch before its records.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Bytes of a batch that its length field does not count: base offset and the length itself.
pub const BATCH_LENGTH_PREFIX_BYTES: usize = 12;

/// The only record format Heddle speaks.
pub(super) const MAGIC: i8 = 2;

/// Byte positions of the fields. All numbers are big endian.
pub(super) mod at {
    pub const BASE_OFFSET: usize = 0;
    pub const BATCH_LENGTH: usize = 8;
    pub const EPOCH: usize = 12;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const PRODUCER_EPOCH: usize = 51;
    pub const BASE_SEQUENCE: usize = 53;
    pub const RECORD_COUNT: usize = 57;
    /// The CRC covers everything from here to the end of the batch.
    pub const CRC_COVERED: usize = ATTRIBUTES;
}

const _: () = assert!(at::RECORD_COUNT + 4 == BATCH_HEADER_BYTES);
const _: () = assert!(at::EPOCH == BATCH_LENGTH_PREFIX_BYTES);
const _: () = assert!(at::CRC_COVERED == at::CRC + 4);

/// How the records of a batch are compressed.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy, in the framing of snappy-java ("xerial") or as one raw block.
    Snappy = 2,
    /// LZ4 frame format.
    Lz4 = 3,
    /// Zstandard, RFC 8878.
    Zstd = 4,
}

impl Compression {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number; 5, 6 and 7 would fit the three bits but nobody uses them.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The name used in configs and tools.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Whose clock the records' timestamps come from.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum TimestampType {
    /// The producer's: each record has its own.
    #[default]
    CreateTime,
    /// The broker's when it appended: the batch's max timestamp holds for every record.
    LogAppendTime,
}

/// The attribute bits of a batch, with a codec that is known to exist.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Attributes(i16);

impl Attributes {
    const COMPRESSION_MASK: i16 = 0b111;
    pub(super) const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// Takes the bits as they are on the wire; bits without a meaning are kept.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`].
    pub const fn from_bits(bits: i16) -> Result<Self, BatchError> {
        let code = (bits & Self::COMPRESSION_MASK) as u8;
        if Compression::from_code(code).is_none() {
            return Err(BatchError::UnknownCodec(code));
        }
        Ok(Self(bits))
    }

    /// Attributes of a plain data batch.
    pub const fn new(compression: Compression) -> Self {
        Self(compression as i16)
    }

    /// The bits as they are on the wire.
    pub const fn bits(self) -> i16 {
        self.0
    }

    /// How the records are compressed.
    pub const fn compression(self) -> Compression {
        Compression::from_code((self.0 & Self::COMPRESSION_MASK) as u8)
            .expect("checked when the attributes were made")
    }

    /// Whose clock the timestamps come from.
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch is a transaction marker, which only brokers may write.
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp tells from when on the batch's tombstones may go (KIP-534). Only brokers say so.
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// These attributes with the delete horizon bit set.
    #[must_use]
    pub const fn with_delete_horizon(self) -> Self {
        Self(self.0 | Self::DELETE_HORIZON)
    }

    /// These attributes with another codec.
    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !Self::COMPRESSION_MASK | compression as i16)
    }

    /// These attributes with the transactional bit set.
    #[must_use]
    pub const fn transactional(self) -> Self {
        Self(self.0 | Self::TRANSACTIONAL)
    }

    /// These attributes with the control bit set.
    #[must_use]
    pub const fn control(self) -> Self {
        Self(self.0 | Self::CONTROL)
    }
}

/// The header of a batch as plain values. A value that came from [`BatchHeader::parse`] has sizes, counts and
/// offsets within limits; only [`super::verify`] also vouches for the CRC.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Size of the whole batch in bytes, with the 12 that its length field does not count.
    pub batch_bytes: u32,
    /// Epoch in which a primary accepted the batch.
    pub epoch: Epoch,
    /// CRC32C of everything from the attributes on, as the batch states it.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record minus that of the first.
    pub last_offset_delta: u32,
    /// The timestamp that the records' deltas are counted from.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of any record, or the append time.
    pub max_timestamp: Timestamp,
    /// Who produced the batch, if it was an idempotent producer.
    pub producer_id: ProducerId,
    /// Generation of that producer.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record.
    pub base_sequence: Sequence,
    /// How many records follow.
    pub record_count: u32,
}

impl BatchHeader {
    /// Reads a header from the first 61 bytes of `bytes`. Does not need the records, and so does not check the CRC.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::TooShort`], [`BatchError::TooLarge`], [`BatchError::Magic`],
    /// [`BatchError::UnknownCodec`], [`BatchError::Counts`] or [`BatchError::BaseOffset`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(header) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(BatchError::Truncated { need_bytes: BATCH_HEADER_BYTES, have_bytes: bytes.len() });
        };
        let batch_bytes = parse_batch_bytes(header)?;
        let magic = header[at::MAGIC] as i8;
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let (record_count, last_offset_delta) = parse_counts(header)?;
        Ok(Self {
            base_offset: parse_base_offset(header, last_offset_delta)?,
            batch_bytes,
            epoch: Epoch::new(read_i32(header, at::EPOCH)),
            crc: read_i32(header, at::CRC) as u32,
            attributes: Attributes::from_bits(read_i16(header, at::ATTRIBUTES))?,
            last_offset_delta,
            base_timestamp: Timestamp::new(read_i64(header, at::BASE_TIMESTAMP)),
            max_timestamp: Timestamp::new(read_i64(header, at::MAX_TIMESTAMP)),
            producer_id: ProducerId::new(read_i64(header, at::PRODUCER_ID)),
            producer_epoch: ProducerEpoch::new(read_i16(header, at::PRODUCER_EPOCH)),
            base_sequence: Sequence::new(read_i32(header, at::BASE_SEQUENCE)),
            record_count,
        })
    }

    /// Writes the header's 61 bytes.
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut out = [0; BATCH_HEADER_BYTES];
        let length = self.batch_bytes - BATCH_LENGTH_PREFIX_BYTES as u32;
        put(&mut out, at::BASE_OFFSET, &self.base_offset.get().to_be_bytes());
        put(&mut out, at::BATCH_LENGTH, &length.to_be_bytes());
        put(&mut out, at::EPOCH, &self.epoch.get().to_be_bytes());
        put(&mut out, at::MAGIC, &MAGIC.to_be_bytes());
        put(&mut out, at::CRC, &self.crc.to_be_bytes());
        put(&mut out, at::ATTRIBUTES, &self.attributes.bits().to_be_bytes());
        put(&mut out, at::LAST_OFFSET_DELTA, &self.last_offset_delta.to_be_bytes());
        put(&mut out, at::BASE_TIMESTAMP, &self.base_timestamp.get().to_be_bytes());
        put(&mut out, at::MAX_TIMESTAMP, &self.max_timestamp.get().to_be_bytes());
        put(&mut out, at::PRODUCER_ID, &self.producer_id.get().to_be_bytes());
        put(&mut out, at::PRODUCER_EPOCH, &self.producer_epoch.get().to_be_bytes());
        put(&mut out, at::BASE_SEQUENCE, &self.base_sequence.get().to_be_bytes());
        put(&mut out, at::RECORD_COUNT, &self.record_count.to_be_bytes());
        out
    }

    /// Offset of the last record.
    pub const fn last_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as i64)
    }

    /// Offset after the last record: where the next batch begins.
    pub const fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// Sequence number of the last record; [`Sequence::NONE`] without a producer id.
    pub const fn last_sequence(&self) -> Sequence {
        if self.base_sequence.get() < 0 {
            Sequence::NONE
        } else {
            self.base_sequence.plus(self.last_offset_delta)
        }
    }

    /// Whether the batch belongs to a transaction.
    pub const fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    /// Whether the batch is a transaction marker, which only brokers may write.
    pub const fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// How the records are compressed.
    pub const fn compression(&self) -> Compression {
        self.attributes.compression()
    }

    /// From when on the batch's tombstones may go, if compaction has said so (KIP-534).
    pub const fn delete_horizon(&self) -> Option<Timestamp> {
        if self.attributes.has_delete_horizon() { Some(self.base_timestamp) } else { None }
    }

    /// Whether the batch only stands for offsets whose records are gone: no records, no producer, no marker.
    pub fn is_hole(&self) -> bool {
        self.record_count == 0 && self.producer_id == ProducerId::NONE && !self.is_control()
    }
}

fn parse_batch_bytes(header: &[u8; BATCH_HEADER_BYTES]) -> Result<u32, BatchError> {
    let length = read_i32(header, at::BATCH_LENGTH);
    if length < (BATCH_HEADER_BYTES - BATCH_LENGTH_PREFIX_BYTES) as i32 {
        return Err(BatchError::TooShort(length));
    }
    let batch_bytes = length as usize + BATCH_LENGTH_PREFIX_BYTES;
    if batch_bytes > BATCH_BYTES_MAX {
        return Err(BatchError::TooLarge(batch_bytes));
    }
    Ok(batch_bytes as u32)
}

/// A compacted batch may hold fewer records than offsets, never more.
fn parse_counts(header: &[u8; BATCH_HEADER_BYTES]) -> Result<(u32, u32), BatchError> {
    let record_count = read_i32(header, at::RECORD_COUNT);
    let last_offset_delta = read_i32(header, at::LAST_OFFSET_DELTA);
    let fits = record_count >= 0
        && last_offset_delta >= 0
        && i64::from(record_count) <= i64::from(last_offset_delta) + 1;
    if !fits {
        return Err(BatchError::Counts { record_count, last_offset_delta });
    }
    Ok((record_count as u32, last_offset_delta as u32))
}

fn parse_base_offset(
    header: &[u8; BATCH_HEADER_BYTES],
    last_offset_delta: u32,
) -> Result<Offset, BatchError> {
    let base = read_i64(header, at::BASE_OFFSET);
    let in_range = base >= 0 && base.checked_add(i64::from(last_offset_delta) + 1).is_some();
    if in_range { Ok(Offset::new(base)) } else { Err(BatchError::BaseOffset(base)) }
}

pub(super) fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

fn read_i16(header: &[u8; BATCH_HEADER_BYTES], at: usize) -> i16 {
    i16::from_be_bytes(field(header, at))
}

fn read_i32(header: &[u8; BATCH_HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes(field(header, at))
}

fn read_i64(header: &[u8; BATCH_HEADER_BYTES], at: usize) -> i64 {
    i64::from_be_bytes(field(header, at))
}

fn field<const N: usize>(header: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    *header[at..].first_chunk().expect("every field lies within the header")
}
