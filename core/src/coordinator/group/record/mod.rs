//! What survives: every change of a coordinator's durable state is one of these records.
//!
//! A record has a key and a value; without a value it is a tombstone. Of several with one key only the last counts, so
//! they live in a compacted topic. [`GroupRecord::encode_key`] and [`GroupRecord::encode_value`] are versioned binary
//! forms of Heddle's own; decoding checks everything and never allocates more than the bytes it was given allow.

mod codec;
#[cfg(test)]
mod tests;
mod values;

use heddle_proto::ids::{PartitionIndex, ProducerId};

use super::{
    ids::{GroupEpoch, GroupId, MemberId, TopicName, TopicRegex},
    message::Assignment,
};
use codec::{Field, Reader};

pub use codec::DecodeError;
#[cfg(test)]
pub use tests::record as arbitrary;
pub use values::{
    ClassicGroupValue, ClassicMemberValue, CommittedOffset, ConsumerGroupValue, ConsumerMemberValue,
    CurrentAssignmentValue, MemberState, ProducerValue, ResolvedRegexValue,
};

/// The version in front of every value. Readers refuse others.
const VALUE_VERSION: u8 = 1;

macro_rules! records {
    ($($(#[$doc:meta])* $kind:literal $name:ident { $($field:ident: $type:ty),* } => $value:ty;)*) => {
        /// One change of durable state. The fields beside `value` are the key.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(missing_docs)] // the fields are what their types say
        pub enum GroupRecord {
            $($(#[$doc])* $name { $($field: $type,)* value: Option<$value> },)*
        }

        impl GroupRecord {
            /// The key's bytes: records with equal ones replace each other.
            pub fn encode_key(&self) -> Vec<u8> {
                let mut out = Vec::new();
                match self {
                    $(Self::$name { $($field,)* value: _ } => {
                        out.push($kind);
                        $($field.put(&mut out);)*
                    })*
                }
                out
            }

            /// The value's bytes, or `None` for a tombstone.
            pub fn encode_value(&self) -> Option<Vec<u8>> {
                let mut out = vec![VALUE_VERSION];
                match self {
                    $(Self::$name { value, .. } => value.as_ref()?.put(&mut out),)*
                }
                Some(out)
            }

            /// Reads a record back.
            ///
            /// # Errors
            /// When the bytes are no record, or one of a later version.
            pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, DecodeError> {
                let mut key = Reader::new(key);
                let record = match u8::take(&mut key)? {
                    $($kind => Self::$name {
                        $($field: Field::take(&mut key)?,)*
                        value: decode_value(value)?,
                    },)*
                    unknown => return Err(DecodeError::UnknownKind(unknown)),
                };
                key.finish()?;
                Ok(record)
            }

            /// Whether it has no value.
            pub fn is_tombstone(&self) -> bool {
                match self {
                    $(Self::$name { value, .. } => value.is_none(),)*
                }
            }

            /// The same key without a value.
            #[must_use]
            pub fn tombstone(&self) -> Self {
                let mut record = self.clone();
                match &mut record {
                    $(Self::$name { value, .. } => *value = None,)*
                }
                record
            }
        }
    };
}

records! {
    /// A classic group as of the start of its generation, or empty.
    1 ClassicGroup { group: GroupId } => ClassicGroupValue;
    /// A consumer group's version.
    2 ConsumerGroup { group: GroupId } => ConsumerGroupValue;
    /// What a member of a consumer group wants.
    3 ConsumerMember { group: GroupId, member: MemberId } => ConsumerMemberValue;
    /// The version for which the target assignment was made.
    4 TargetEpoch { group: GroupId } => GroupEpoch;
    /// What a member is to have.
    5 TargetMember { group: GroupId, member: MemberId } => Assignment;
    /// What a member has.
    6 CurrentAssignment { group: GroupId, member: MemberId } => CurrentAssignmentValue;
    /// Which topics match a regular expression that members subscribe with.
    7 ResolvedRegex { group: GroupId, regex: TopicRegex } => ResolvedRegexValue;
    /// How far the group has read a partition.
    8 Offset { group: GroupId, topic: TopicName, partition: PartitionIndex } => CommittedOffset;
    /// How far the group will have read it once a transaction commits.
    9 PendingOffset { group: GroupId, producer: ProducerId, topic: TopicName, partition: PartitionIndex } => CommittedOffset;
    /// The last epoch of a transactional producer.
    10 Producer { producer: ProducerId } => ProducerValue;
}

impl GroupRecord {
    /// The group that the record is about; `None` for what concerns the whole coordinator.
    pub fn group(&self) -> Option<&GroupId> {
        match self {
            Self::ClassicGroup { group, .. }
            | Self::ConsumerGroup { group, .. }
            | Self::ConsumerMember { group, .. }
            | Self::TargetEpoch { group, .. }
            | Self::TargetMember { group, .. }
            | Self::CurrentAssignment { group, .. }
            | Self::ResolvedRegex { group, .. }
            | Self::Offset { group, .. }
            | Self::PendingOffset { group, .. } => Some(group),
            Self::Producer { .. } => None,
        }
    }
}

fn decode_value<T: Field>(value: Option<&[u8]>) -> Result<Option<T>, DecodeError> {
    let Some(bytes) = value else { return Ok(None) };
    let mut reader = Reader::new(bytes);
    match u8::take(&mut reader)? {
        VALUE_VERSION => {}
        unknown => return Err(DecodeError::UnknownVersion(unknown)),
    }
    let value = T::take(&mut reader)?;
    reader.finish()?;
    Ok(Some(value))
}
