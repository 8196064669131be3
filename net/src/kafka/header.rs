//! The headers of Kafka requests and replies: which api and version, and which reply belongs to which request.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use super::error::DecodeError;
use super::wire::Reader;

/// Longest client id accepted, in bytes. Kafka sets no limit but the 32 KiB of the length field; the id is kept per
/// connection and copied into logs, so a bound well above what clients send keeps a hostile one small.
pub const CLIENT_ID_BYTES_MAX: usize = 4096;

/// The head of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which api.
    pub api: ApiKey,
    /// Which version of it, as sent: not checked against what is served.
    pub version: i16,
    /// Returned unchanged in the reply.
    pub correlation: i32,
    /// How the client names itself; a slice of the frame.
    pub client_id: Option<StrBytes>,
}

/// What a reply needs to know of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The api of the request.
    pub api: ApiKey,
    /// The version of the request.
    pub version: i16,
    /// The correlation id of the request.
    pub correlation: i32,
}

impl RequestHeader {
    /// What the reply needs of this header.
    pub fn reply(&self) -> ReplyHeader {
        ReplyHeader { api: self.api, version: self.version, correlation: self.correlation }
    }

    /// Whether fields of this request's body use compact lengths and tagged fields.
    pub fn is_flexible(&self) -> bool {
        is_flexible(self.api, self.version)
    }
}

impl ReplyHeader {
    /// Whether fields of the reply's body use compact lengths and tagged fields.
    pub fn is_flexible(&self) -> bool {
        is_flexible(self.api, self.version)
    }

    /// Writes the response header: v0 is the correlation id, v1 adds tagged fields. ApiVersions always gets v0, so
    /// that a client can read the reply before it knows the broker.
    pub(super) fn write(&self, out: &mut BytesMut) {
        out.put_i32(self.correlation);
        if self.api.response_header_version(self.version) >= 1 {
            out.put_u8(0);
        }
    }
}

/// Takes the header off the front of a frame (without its length prefix); what is left is the body.
///
/// # Errors
/// [`DecodeError::UnknownApi`] for an api key the codec does not know: nothing can be answered. Others mean a
/// malformed header. The version is not judged here, so that a refusal can still name the request.
pub fn decode_header(frame: &mut BytesMut) -> Result<RequestHeader, DecodeError> {
    let mut reader = Reader::new(std::mem::take(frame), false);
    let key = reader.i16()?;
    let version = reader.i16()?;
    let correlation = reader.i32()?;
    let api = ApiKey::try_from(key).map_err(|()| DecodeError::UnknownApi(key))?;
    let header_version = api.request_header_version(version);
    let client_id = if header_version >= 1 { client_id(&mut reader)? } else { None };
    if header_version >= 2 {
        reader.set_flexible(true);
        reader.skip_tags()?;
    }
    *frame = reader.into_rest();
    Ok(RequestHeader { api, version, correlation, client_id })
}

/// The client id keeps its 16-bit length in every header version.
fn client_id(reader: &mut Reader) -> Result<Option<StrBytes>, DecodeError> {
    let id = reader.nullable_string()?;
    match &id {
        Some(id) if id.len() > CLIENT_ID_BYTES_MAX => Err(DecodeError::ClientIdTooLong(id.len())),
        _ => Ok(id),
    }
}

fn is_flexible(api: ApiKey, version: i16) -> bool {
    api.request_header_version(version) >= 2
}
