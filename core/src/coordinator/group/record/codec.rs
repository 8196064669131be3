//! How the fields of the coordinator's records become bytes and are read back.

use std::sync::Arc;

use heddle_proto::ids::{Epoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicPartition};

use crate::{
    coordinator::group::ids::{
        Generation, GroupEpoch, GroupId, InstanceId, MemberId, Millis, ProtocolName, TopicName, TopicRegex,
    },
    fields::put_length,
};

pub use crate::fields::{DecodeError, Field, Reader};

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
