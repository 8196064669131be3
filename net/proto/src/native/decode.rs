//! Reading headers: verification under limits, and the parts that requests and replies share.

use flatbuffers::{Follow, Verifiable, VerifierOptions};

use super::generated::heddle::native as fb;
use super::{NativeError, StartFrom};
use crate::ids::{Offset, Timestamp, TopicId};
use crate::limits::{HEADER_APPARENT_BYTES_MAX, HEADER_DEPTH_MAX, HEADER_TABLES_MAX};

/// The verified root table of `header`.
pub(super) fn root<'a, T>(header: &'a [u8], bytes_max: usize) -> Result<T::Inner, NativeError>
where
    T: Follow<'a> + Verifiable + 'a,
{
    const OPTIONS: VerifierOptions = VerifierOptions {
        max_depth: HEADER_DEPTH_MAX,
        max_tables: HEADER_TABLES_MAX,
        max_apparent_size: HEADER_APPARENT_BYTES_MAX,
        ignore_missing_null_terminator: false,
    };
    if header.len() > bytes_max {
        return Err(NativeError::HeaderTooLarge { header_bytes: header.len(), bytes_max });
    }
    Ok(flatbuffers::root_with_opts::<T>(&OPTIONS, header)?)
}

pub(super) fn topic_id(uuid: &fb::Uuid) -> TopicId {
    TopicId::new(uuid.0)
}

pub(super) fn text(field: Option<&str>) -> String {
    field.unwrap_or_default().to_owned()
}

pub(super) fn start_from(from: &fb::StartFrom) -> Result<StartFrom, NativeError> {
    match from.kind() {
        fb::StartKind::Earliest => Ok(StartFrom::Earliest),
        fb::StartKind::Latest => Ok(StartFrom::Latest),
        fb::StartKind::Offset => Ok(StartFrom::Offset(Offset::new(from.value()))),
        fb::StartKind::Timestamp => Ok(StartFrom::Timestamp(Timestamp::new(from.value()))),
        other => Err(NativeError::OutOfRange { field: "start kind", value: i64::from(other.0) }),
    }
}
