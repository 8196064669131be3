//! How Produce and Fetch name a topic: by its name, or by its id from version 13 on (KIP-516).

use heddle_proto::ids::TopicId;
use kafka_protocol::protocol::StrBytes;

use super::error::{DecodeError, EncodeError};
use super::wire::{Reader, Writer};

/// The first version of Produce and of Fetch that names topics by id.
pub const TOPIC_ID_VERSION_MIN: i16 = 13;

/// A topic as the client named it; a reply names it the same way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name; a slice of the frame.
    Name(StrBytes),
    /// By id.
    Id(TopicId),
}

impl From<&'static str> for TopicRef {
    fn from(name: &'static str) -> Self {
        TopicRef::Name(StrBytes::from_static_str(name))
    }
}

/// Whether this version of Produce or Fetch names topics by id.
pub(super) fn is_by_id(version: i16) -> bool {
    version >= TOPIC_ID_VERSION_MIN
}

/// Bytes of the smallest topic entry: an empty name or an id, an empty array, and no tagged fields.
pub(super) fn entry_bytes_min(version: i16, flexible: bool) -> usize {
    match (is_by_id(version), flexible) {
        (true, _) => 18,
        (false, true) => 3,
        (false, false) => 6,
    }
}

impl TopicRef {
    pub(super) fn read(reader: &mut Reader, version: i16) -> Result<TopicRef, DecodeError> {
        match is_by_id(version) {
            true => Ok(TopicRef::Id(TopicId::new(reader.uuid()?))),
            false => reader.string().map(TopicRef::Name),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>, version: i16) -> Result<(), EncodeError> {
        match (self, is_by_id(version)) {
            (TopicRef::Name(name), false) => writer.string(name),
            (TopicRef::Id(id), true) => {
                writer.uuid(id.as_bytes());
                Ok(())
            }
            _ => Err(EncodeError::TopicForm { version }),
        }
    }
}
