//! Kafka's primitive fields: a reader that checks every length against what is left, and a writer.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::error::{DecodeError, EncodeError};
use super::header::ReplyHeader;
use super::shape::{ITEMS_MAX, TAGS_MAX};

/// Reads fields off the front of a request it owns, so that byte fields leave as slices without a copy.
pub(super) struct Reader {
    rest: BytesMut,
    flexible: bool,
    items_left: usize,
    tags_left: usize,
}

impl Reader {
    pub(super) fn new(body: BytesMut, flexible: bool) -> Self {
        Reader { rest: body, flexible, items_left: ITEMS_MAX, tags_left: TAGS_MAX }
    }

    pub(super) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    pub(super) fn into_rest(self) -> BytesMut {
        self.rest
    }

    /// Ends the request: nothing may be left.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }

    pub(super) fn i8(&mut self) -> Result<i8, DecodeError> {
        self.rest.try_get_i8().map_err(|_| DecodeError::Truncated)
    }

    pub(super) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.rest.try_get_i16().map_err(|_| DecodeError::Truncated)
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.rest.try_get_i32().map_err(|_| DecodeError::Truncated)
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.rest.try_get_i64().map_err(|_| DecodeError::Truncated)
    }

    /// The 16 bytes of an id.
    pub(super) fn uuid(&mut self) -> Result<[u8; 16], DecodeError> {
        let mut bytes = [0; 16];
        self.rest.try_copy_to_slice(&mut bytes).map_err(|_| DecodeError::Truncated)?;
        Ok(bytes)
    }

    fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let (value, size) = read_uvarint(&self.rest)?;
        self.rest.advance(size);
        Ok(value)
    }

    /// A string that must be there.
    pub(super) fn string(&mut self) -> Result<StrBytes, DecodeError> {
        self.nullable_string()?.ok_or(DecodeError::NullNotAllowed)
    }

    /// A string or null.
    pub(super) fn nullable_string(&mut self) -> Result<Option<StrBytes>, DecodeError> {
        let length = if self.flexible { self.compact_length()? } else { length(i64::from(self.i16()?))? };
        let Some(length) = length else { return Ok(None) };
        let bytes = self.take(length)?.freeze();
        StrBytes::from_utf8(bytes).map(Some).map_err(|_| DecodeError::NotUtf8)
    }

    /// A byte field or null, still writable in place.
    pub(super) fn nullable_bytes(&mut self) -> Result<Option<BytesMut>, DecodeError> {
        match self.long_length()? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// The item count of an array that must be there, each item taking at least `item_bytes_min` bytes.
    pub(super) fn array(&mut self, item_bytes_min: usize) -> Result<usize, DecodeError> {
        let count = self.long_length()?.ok_or(DecodeError::NullNotAllowed)?;
        let left = self.rest.len();
        if count > left / item_bytes_min.max(1) {
            return Err(DecodeError::LengthBeyondEnd { claimed: count as u64, left });
        }
        self.items_left =
            self.items_left.checked_sub(count).ok_or(DecodeError::TooManyItems { max: ITEMS_MAX })?;
        Ok(count)
    }

    /// Skips the tagged fields that end a struct of a flexible version; nothing in other versions.
    pub(super) fn skip_tags(&mut self) -> Result<(), DecodeError> {
        self.tag(None).map(drop)
    }

    /// Skips the tagged fields that end a struct, but for one, whose bytes are returned if it is there.
    pub(super) fn tag(&mut self, wanted: Option<u32>) -> Result<Option<BytesMut>, DecodeError> {
        let mut found = None;
        if !self.flexible {
            return Ok(found);
        }
        for _ in 0..self.uvarint()? {
            self.tags_left =
                self.tags_left.checked_sub(1).ok_or(DecodeError::TooManyTags { max: TAGS_MAX })?;
            let tag = self.uvarint()?;
            let length = self.uvarint()? as usize;
            let bytes = self.take(length)?;
            if Some(tag) == wanted {
                found = Some(bytes);
            }
        }
        Ok(found)
    }

    /// Length of a byte field or array: 32 bits, or compact.
    fn long_length(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible { self.compact_length() } else { length(i64::from(self.i32()?)) }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.uvarint()?.checked_sub(1).map(|length| length as usize))
    }

    fn take(&mut self, length: usize) -> Result<BytesMut, DecodeError> {
        let left = self.rest.len();
        if length > left {
            return Err(DecodeError::LengthBeyondEnd { claimed: length as u64, left });
        }
        Ok(self.rest.split_to(length))
    }
}

/// A length of the fixed-width kind: -1 is null, less is an error.
pub(super) fn length(raw: i64) -> Result<Option<usize>, DecodeError> {
    match raw {
        -1 => Ok(None),
        raw if raw < 0 => Err(DecodeError::NegativeLength(raw)),
        raw => Ok(Some(raw as usize)),
    }
}

/// The unsigned variable-length integer at the front of `bytes`, and how many bytes it takes.
pub(super) fn read_uvarint(bytes: &[u8]) -> Result<(u32, usize), DecodeError> {
    let mut value = 0_u32;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        if index == 4 && byte > 0x0f {
            return Err(DecodeError::VarintTooLong);
        }
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok((value, index + 1));
        }
    }
    Err(DecodeError::Truncated)
}

/// Bytes of `value` as an unsigned variable-length integer.
pub(super) fn uvarint_size(value: u32) -> usize {
    (32 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Writes one reply into a reused buffer: length prefix, response header, then the fields.
pub(super) struct Writer<'a> {
    out: &'a mut BytesMut,
    flexible: bool,
}

impl<'a> Writer<'a> {
    /// Clears `out` and writes the head of a reply; [`Writer::finish`] fills in the length.
    pub(super) fn begin(reply: ReplyHeader, out: &'a mut BytesMut) -> Self {
        out.clear();
        out.put_i32(0);
        reply.write(out);
        Writer { out, flexible: reply.is_flexible() }
    }

    /// Bytes written so far, length prefix included.
    pub(super) fn position(&self) -> usize {
        self.out.len()
    }

    /// Writes the length of a reply that has `elsewhere_bytes` more than what was written here.
    pub(super) fn set_length(&mut self, elsewhere_bytes: usize) -> Result<(), EncodeError> {
        let bytes = self.out.len() - 4 + elsewhere_bytes;
        let length = i32::try_from(bytes).map_err(|_| EncodeError::TooLong(bytes))?;
        self.out[..4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// Ends a reply that is all in this buffer.
    pub(super) fn finish(mut self) -> Result<Bytes, EncodeError> {
        self.set_length(0)?;
        Ok(self.out.split().freeze())
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.out.put_i16(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    pub(super) fn uuid(&mut self, value: &[u8; 16]) {
        self.out.put_slice(value);
    }

    pub(super) fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }

    pub(super) fn string(&mut self, value: &str) -> Result<(), EncodeError> {
        if self.flexible {
            self.compact_length(value.len())?;
        } else {
            let length = i16::try_from(value.len()).map_err(|_| EncodeError::FieldTooLong(value.len()))?;
            self.i16(length);
        }
        self.out.put_slice(value.as_bytes());
        Ok(())
    }

    pub(super) fn nullable_string(&mut self, value: Option<&str>) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.string(value)?,
            None if self.flexible => self.uvarint(0),
            None => self.i16(-1),
        }
        Ok(())
    }

    /// Length of an array or byte field that is there.
    pub(super) fn long_length(&mut self, length: usize) -> Result<(), EncodeError> {
        if self.flexible {
            return self.compact_length(length);
        }
        self.i32(i32::try_from(length).map_err(|_| EncodeError::FieldTooLong(length))?);
        Ok(())
    }

    /// Length of an array or byte field that is null.
    pub(super) fn null_length(&mut self) {
        if self.flexible { self.uvarint(0) } else { self.i32(-1) }
    }

    /// Ends a struct that has no tagged fields.
    pub(super) fn no_tags(&mut self) {
        if self.flexible {
            self.uvarint(0);
        }
    }

    fn compact_length(&mut self, length: usize) -> Result<(), EncodeError> {
        let raw = u32::try_from(length).ok().and_then(|length| length.checked_add(1));
        self.uvarint(raw.ok_or(EncodeError::FieldTooLong(length))?);
        Ok(())
    }
}
