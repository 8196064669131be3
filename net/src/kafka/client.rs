//! The client's side of the wire: requests encoded, replies decoded. For the command line, which trusts the broker that its
//! user named: replies are bounded by the frame they came in, not walked first.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::error::{DecodeError, EncodeError};

/// A whole request, length prefix included.
///
/// # Errors
/// [`EncodeError::Codec`] when the version cannot say what the request says.
pub fn encode_request(
    api: ApiKey,
    version: i16,
    correlation: i32,
    client_id: &str,
    request: &impl Encodable,
) -> Result<Bytes, EncodeError> {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    let mut out = BytesMut::new();
    out.put_i32(0);
    let written = header.encode(&mut out, api.request_header_version(version));
    written
        .and_then(|()| request.encode(&mut out, version))
        .map_err(|e| EncodeError::Codec(e.to_string()))?;
    let bytes = out.len() - 4;
    let length = i32::try_from(bytes).map_err(|_| EncodeError::TooLong(bytes))?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out.freeze())
}

/// Reads a reply without its length prefix: its correlation, and its body.
///
/// # Errors
/// The first thing that is malformed.
pub fn decode_reply<R: Decodable>(
    api: ApiKey,
    version: i16,
    mut frame: Bytes,
) -> Result<(i32, R), DecodeError> {
    let header = ResponseHeader::decode(&mut frame, api.response_header_version(version));
    let header = header.map_err(|error| DecodeError::Codec(error.to_string()))?;
    let body = R::decode(&mut frame, version).map_err(|error| DecodeError::Codec(error.to_string()))?;
    match frame.remaining() {
        0 => Ok((header.correlation_id, body)),
        left => Err(DecodeError::TrailingBytes(left)),
    }
}
