//! Reading the records of a batch one by one, compressed or not, without trusting a length in them.

use bytes::Bytes;

use super::codec::decompress;
use super::header::{BATCH_HEADER_BYTES, BatchHeader, Compression, TimestampType};
use super::{BatchError, varint};
use crate::ids::{Offset, Timestamp};
use crate::limits::RECORD_HEADERS_MAX;

/// A header of a record: its name, which is text by convention, and its value.
pub type RecordHeader = (Bytes, Option<Bytes>);

/// One record, sharing the memory of its batch or of what the batch unpacked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its position in the partition.
    pub offset: Offset,
    /// Its time: the producer's, or the broker's if the batch says so.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<RecordHeader>,
}

/// Iterates the records of one batch, which [`super::verify`] has accepted; `bytes` is copied once if it is not
/// compressed. See [`records_shared`] for no copy at all.
///
/// # Errors
/// Those of [`BatchHeader::parse`], [`BatchError::Truncated`], and those of decompression, which stops at
/// `decompressed_bytes_max`.
pub fn records(bytes: &[u8], decompressed_bytes_max: usize) -> Result<Records, BatchError> {
    let (header, body) = split(bytes)?;
    let body = decompress(header.compression(), body, decompressed_bytes_max)?;
    Ok(Records::new(header, Bytes::from(body.into_owned())))
}

/// As [`records`], but uncompressed records are slices of `bytes` itself.
///
/// # Errors
/// As [`records`].
pub fn records_shared(bytes: &Bytes, decompressed_bytes_max: usize) -> Result<Records, BatchError> {
    let (header, body) = split(bytes)?;
    let body = match header.compression() {
        Compression::None if body.len() <= decompressed_bytes_max => bytes.slice_ref(body),
        compression => decompress(compression, body, decompressed_bytes_max)?.into_owned().into(),
    };
    Ok(Records::new(header, body))
}

/// Checks that the records of a fresh batch parse, use all of its bytes, and are numbered 0, 1, 2 and so on.
/// Allocates only to unpack.
///
/// # Errors
/// As [`records`], and [`BatchError::Record`].
pub fn validate_records(bytes: &[u8], decompressed_bytes_max: usize) -> Result<(), BatchError> {
    let (header, body) = split(bytes)?;
    let body = decompress(header.compression(), body, decompressed_bytes_max)?;
    let mut rest = &body[..];
    for index in 0..header.record_count {
        let record = RawRecord::read(&mut rest, index)?;
        if record.offset_delta != index {
            return Err(BatchError::Record { index, reason: "offset delta is not its place in the batch" });
        }
        record.for_each_header(index, |_, _| ())?;
    }
    expect_end(rest, header.record_count)
}

pub(super) fn split(bytes: &[u8]) -> Result<(BatchHeader, &[u8]), BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let need_bytes = header.batch_bytes as usize;
    match bytes.get(BATCH_HEADER_BYTES..need_bytes) {
        Some(body) => Ok((header, body)),
        None => Err(BatchError::Truncated { need_bytes, have_bytes: bytes.len() }),
    }
}

pub(super) fn expect_end(rest: &[u8], index: u32) -> Result<(), BatchError> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(BatchError::Record { index, reason: "bytes follow the last record" })
    }
}

/// Iterator of [`records`]. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    body: Bytes,
    at: usize,
    index: u32,
    offset_delta_min: u32,
    done: bool,
}

impl Records {
    fn new(header: BatchHeader, body: Bytes) -> Self {
        Self { header, body, at: 0, index: 0, offset_delta_min: 0, done: false }
    }

    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Size of the unpacked records in bytes.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    fn read_next(&mut self) -> Result<Option<Record>, BatchError> {
        let mut rest = &self.body[self.at..];
        if self.index == self.header.record_count {
            return expect_end(rest, self.index).map(|()| None);
        }
        let raw = RawRecord::read(&mut rest, self.index)?;
        if raw.offset_delta < self.offset_delta_min || raw.offset_delta > self.header.last_offset_delta {
            return Err(BatchError::Record {
                index: self.index,
                reason: "offset delta is out of order or range",
            });
        }
        let record = self.own(&raw)?;
        self.at = self.body.len() - rest.len();
        self.index += 1;
        self.offset_delta_min = raw.offset_delta + 1;
        Ok(Some(record))
    }

    fn own(&self, raw: &RawRecord<'_>) -> Result<Record, BatchError> {
        let mut headers = Vec::new();
        raw.for_each_header(self.index, |name, value| {
            headers.push((self.body.slice_ref(name), value.map(|value| self.body.slice_ref(value))));
        })?;
        Ok(Record {
            offset: self.header.base_offset.plus(i64::from(raw.offset_delta)),
            timestamp: raw.timestamp(&self.header),
            key: raw.key.map(|key| self.body.slice_ref(key)),
            value: raw.value.map(|value| self.body.slice_ref(value)),
            headers,
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.read_next().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

impl std::iter::FusedIterator for Records {}

/// A record as it lies in the unpacked bytes.
pub(super) struct RawRecord<'a> {
    pub(super) attributes: u8,
    pub(super) timestamp_delta: i64,
    /// Everything behind the timestamp.
    pub(super) after_timestamp: &'a [u8],
    pub(super) offset_delta: u32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    header_count: i32,
    headers: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// Reads the record at the front of `input` and moves past it.
    pub(super) fn read(input: &mut &'a [u8], index: u32) -> Result<Self, BatchError> {
        let malformed = |reason| BatchError::Record { index, reason };
        let record_bytes = varint::read_i32(input).ok_or(malformed("length is not a varint"))?;
        let record_bytes = usize::try_from(record_bytes).map_err(|_| malformed("length is negative"))?;
        let (mut rest, after) =
            input.split_at_checked(record_bytes).ok_or(malformed("length reaches past the end"))?;
        *input = after;
        let (attributes, after) = rest.split_first().ok_or(malformed("has no attributes"))?;
        rest = after;
        let timestamp_delta = varint::read_i64(&mut rest).ok_or(malformed("timestamp is not a varint"))?;
        let after_timestamp = rest;
        let offset_delta = varint::read_i32(&mut rest).ok_or(malformed("offset delta is not a varint"))?;
        let key = read_nullable(&mut rest).ok_or(malformed("key does not fit the record"))?;
        let value = read_nullable(&mut rest).ok_or(malformed("value does not fit the record"))?;
        let header_count = varint::read_i32(&mut rest).ok_or(malformed("header count is not a varint"))?;
        let offset_delta = u32::try_from(offset_delta).map_err(|_| malformed("offset delta is negative"))?;
        Ok(Self {
            attributes: *attributes,
            timestamp_delta,
            after_timestamp,
            offset_delta,
            key,
            value,
            header_count,
            headers: rest,
        })
    }

    /// The record's time in a batch with this header.
    pub(super) fn timestamp(&self, header: &BatchHeader) -> Timestamp {
        Timestamp::new(match header.attributes.timestamp_type() {
            // A sum out of range wraps around, as it does in Kafka's clients.
            TimestampType::CreateTime => header.base_timestamp.get().wrapping_add(self.timestamp_delta),
            TimestampType::LogAppendTime => header.max_timestamp.get(),
        })
    }

    /// Reads the headers in order. The count is not trusted: nothing is reserved for it.
    fn for_each_header(
        &self,
        index: u32,
        mut each: impl FnMut(&'a [u8], Option<&'a [u8]>),
    ) -> Result<(), BatchError> {
        let malformed = |reason| BatchError::Record { index, reason };
        let header_count =
            u32::try_from(self.header_count).map_err(|_| malformed("header count is negative"))?;
        if header_count > RECORD_HEADERS_MAX {
            return Err(malformed("has too many headers"));
        }
        let mut rest = self.headers;
        for _ in 0..header_count {
            let name =
                read_nullable(&mut rest).flatten().ok_or(malformed("header name does not fit the record"))?;
            let value = read_nullable(&mut rest).ok_or(malformed("header value does not fit the record"))?;
            each(name, value);
        }
        if rest.is_empty() { Ok(()) } else { Err(malformed("bytes follow its headers")) }
    }
}

/// Reads a length and that many bytes. `None` if they are not there; `Some(None)` for the length -1, null.
fn read_nullable<'a>(input: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let field_bytes = varint::read_i32(input)?;
    if field_bytes == -1 {
        return Some(None);
    }
    let (field, rest) = input.split_at_checked(usize::try_from(field_bytes).ok()?)?;
    *input = rest;
    Some(Some(field))
}
