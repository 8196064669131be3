//! Building a batch record by record, as a producer does.

use bytes::{BufMut, BytesMut};

use super::codec::compress;
use super::header::{Attributes, BATCH_HEADER_BYTES, BatchHeader, Compression, at};
use super::record::RecordHeader;
use super::{BatchError, varint};
use crate::crc::crc32c;
use crate::ids::{Epoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, DECOMPRESSED_BYTES_MAX, RECORD_HEADERS_MAX};

/// Collects records and makes one batch of them, with base offset 0 and no epoch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    attributes: Attributes,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: Sequence,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    record_count: u32,
    /// Room for the header, then the records as they are before compression.
    bytes: BytesMut,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(compression: Compression) -> Self {
        Self {
            attributes: Attributes::new(compression),
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            record_count: 0,
            bytes: BytesMut::zeroed(BATCH_HEADER_BYTES),
        }
    }

    /// Makes it a batch of an idempotent producer; `sequence` is that of the first record.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, sequence: Sequence) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = sequence;
        self
    }

    /// Makes it part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes = self.attributes.transactional();
        self
    }

    /// Makes it a control batch, which only brokers write.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.attributes = self.attributes.control();
        self
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] if the records would exceed what a batch may hold (unpacked, if they are to be
    /// compressed), [`BatchError::Record`] if there are too many records or headers. The batch is as it was before.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) -> Result<(), BatchError> {
        if self.record_count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.get().wrapping_sub(self.base_timestamp.get());
        let record_bytes = self.record_bytes(timestamp_delta, key, value, headers);
        self.check_room(record_bytes, headers.len())?;
        self.bytes.reserve(record_bytes + varint::encoded_bytes(record_bytes as i64));
        varint::write(&mut self.bytes, record_bytes as i64);
        self.bytes.put_u8(0); // attributes of a record: none are defined
        varint::write(&mut self.bytes, timestamp_delta);
        varint::write(&mut self.bytes, i64::from(self.record_count));
        put_nullable(&mut self.bytes, key);
        put_nullable(&mut self.bytes, value);
        varint::write(&mut self.bytes, headers.len() as i64);
        for (name, value) in headers {
            put_nullable(&mut self.bytes, Some(name));
            put_nullable(&mut self.bytes, value.as_deref());
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.record_count += 1;
        Ok(())
    }

    /// Size the batch would have if it were not compressed, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many records were pushed.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The finished batch.
    ///
    /// # Errors
    /// [`BatchError::Counts`] if no record was pushed, [`BatchError::TooLarge`] if the batch exceeds
    /// [`BATCH_BYTES_MAX`] after compression.
    pub fn build(self) -> Result<BytesMut, BatchError> {
        let Some(last_offset_delta) = self.record_count.checked_sub(1) else {
            return Err(BatchError::Counts { record_count: 0, last_offset_delta: 0 });
        };
        let mut out = match self.attributes.compression() {
            Compression::None => self.bytes,
            compression => {
                let mut packed = BytesMut::zeroed(BATCH_HEADER_BYTES);
                compress(compression, &self.bytes[BATCH_HEADER_BYTES..], None, &mut packed)?;
                packed
            }
        };
        if out.len() > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge(out.len()));
        }
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_bytes: out.len() as u32,
            epoch: Epoch::NONE,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.record_count,
        };
        out[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        let crc = crc32c(&out[at::CRC_COVERED..]);
        out[at::CRC..at::CRC_COVERED].copy_from_slice(&crc.to_be_bytes());
        Ok(out)
    }

    /// Bytes of a record after its own length field.
    fn record_bytes(
        &self,
        timestamp_delta: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) -> usize {
        let attributes_bytes = 1;
        let headers_bytes: usize = headers
            .iter()
            .map(|(name, value)| nullable_bytes(Some(name)) + nullable_bytes(value.as_deref()))
            .sum();
        attributes_bytes
            + varint::encoded_bytes(timestamp_delta)
            + varint::encoded_bytes(i64::from(self.record_count))
            + nullable_bytes(key)
            + nullable_bytes(value)
            + varint::encoded_bytes(headers.len() as i64)
            + headers_bytes
    }

    fn check_room(&self, record_bytes: usize, header_count: usize) -> Result<(), BatchError> {
        let index = self.record_count;
        if header_count > RECORD_HEADERS_MAX as usize {
            return Err(BatchError::Record { index, reason: "has too many headers" });
        }
        if self.record_count >= BATCH_RECORDS_MAX {
            return Err(BatchError::Record { index, reason: "is one too many for a batch" });
        }
        let size_max = match self.attributes.compression() {
            Compression::None => BATCH_BYTES_MAX,
            _ => DECOMPRESSED_BYTES_MAX,
        };
        let size_bytes = self.bytes.len() + varint::encoded_bytes(record_bytes as i64) + record_bytes;
        if size_bytes > size_max { Err(BatchError::TooLarge(size_bytes)) } else { Ok(()) }
    }
}

fn nullable_bytes(field: Option<&[u8]>) -> usize {
    match field {
        None => varint::encoded_bytes(-1),
        Some(field) => varint::encoded_bytes(field.len() as i64) + field.len(),
    }
}

fn put_nullable(out: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        None => varint::write(out, -1),
        Some(field) => {
            varint::write(out, field.len() as i64);
            out.extend_from_slice(field);
        }
    }
}
