//! How fields become bytes and are read back: little-endian numbers, lengths and counts as `u32` in front.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use heddle_proto::ids::{Epoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicPartition};

use crate::coordinator::group::ids::{
    Generation, GroupEpoch, GroupId, InstanceId, MemberId, Millis, ProtocolName, TopicName, TopicRegex,
};

/// Why bytes are not a record.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the record ends within a field")]
    Truncated,
    /// They go on after the end.
    #[error("the record has {0} bytes too many")]
    TooLong(usize),
    /// The key is of a kind that this version does not know.
    #[error("there is no record of kind {0}")]
    UnknownKind(u8),
    /// The value is of a version that this version does not know.
    #[error("record version {0} is not known")]
    UnknownVersion(u8),
    /// A text is not UTF-8, or a number stands for nothing.
    #[error("a field of the record has an impossible value")]
    Impossible,
}

/// A cursor over bytes that may be anything.
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*head)
    }

    /// A length and as many bytes.
    fn slice(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length()?;
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(head)
    }

    /// A length or count. Every element takes a byte at least, so a larger one than there are bytes is refused here.
    fn length(&mut self) -> Result<usize, DecodeError> {
        let length = usize::try_from(u32::take(self)?).map_err(|_| DecodeError::Truncated)?;
        if length > self.bytes.len() { Err(DecodeError::Truncated) } else { Ok(length) }
    }

    /// All bytes must have been read.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::TooLong(self.bytes.len())) }
    }
}

/// Something that a key or a value is made of.
pub trait Field: Sized {
    /// Appends the bytes.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads them back.
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A record's size is far below 4 GiB: what goes in came in a frame, whose size is limited.
fn put_length(length: usize, out: &mut Vec<u8>) {
    u32::try_from(length).expect("a record's field is limited by the size of a frame").put(out);
}

macro_rules! number_fields {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.array().map(Self::from_le_bytes)
            }
        }
    )*};
}
number_fields!(u8, u32, u64, i16, i32, i64);

macro_rules! wrapped_fields {
    ($($wrapper:ident($inner:ty)),*) => {$(
        impl Field for $wrapper {
            fn put(&self, out: &mut Vec<u8>) {
                self.get().put(out);
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                <$inner>::take(reader).map(Self::new)
            }
        }
    )*};
}
wrapped_fields!(
    PartitionIndex(u32),
    Epoch(i32),
    Offset(i64),
    ProducerId(i64),
    ProducerEpoch(i16),
    Generation(i32),
    GroupEpoch(i32),
    Millis(i64)
);

macro_rules! text_fields {
    ($($name:ident),*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                put_length(self.as_str().len(), out);
                out.extend_from_slice(self.as_str().as_bytes());
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Arc::<str>::take(reader).map(Self::new)
            }
        }
    )*};
}
text_fields!(GroupId, MemberId, InstanceId, TopicName, ProtocolName, TopicRegex);

impl Field for Arc<str> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        std::str::from_utf8(reader.slice()?).map(Arc::from).map_err(|_| DecodeError::Impossible)
    }
}

impl Field for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.slice().map(Bytes::copy_from_slice)
    }
}

/// Whole milliseconds.
impl Field for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX).put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::take(reader).map(Duration::from_millis)
    }
}

impl Field for TopicId {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array().map(Self::new)
    }
}

impl Field for TopicPartition {
    fn put(&self, out: &mut Vec<u8>) {
        self.topic.put(out);
        self.partition.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(Field::take(reader)?, Field::take(reader)?))
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.put(out);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(reader)? {
            0 => Ok(None),
            1 => T::take(reader).map(Some),
            _ => Err(DecodeError::Impossible),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        self.iter().for_each(|element| element.put(out));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.length()?;
        (0..count).map(|_| T::take(reader)).collect()
    }
}

impl<T: Field + Ord> Field for BTreeSet<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        self.iter().for_each(|element| element.put(out));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.length()?;
        (0..count).map(|_| T::take(reader)).collect()
    }
}
