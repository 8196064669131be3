//! What can be wrong with a Kafka request or reply on the wire, typed so that the caller can answer and count it.

use heddle_proto::error::ErrorCode;
use kafka_protocol::messages::ApiKey;
use thiserror::Error;

/// Why a request was refused before anybody looked at what it asks for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The request ends inside a field.
    #[error("request ends inside a field")]
    Truncated,
    /// An api key that no Kafka release the codec knows has. No reply can be built: close the connection.
    #[error("unknown api key {0}")]
    UnknownApi(i16),
    /// An api or version that is not served here; `refuse::unsupported_reply` may build Kafka's answer.
    #[error("{api:?} version {version} is not served")]
    UnsupportedVersion {
        /// The api asked for.
        api: ApiKey,
        /// The version asked for.
        version: i16,
    },
    /// A length below -1.
    #[error("negative length {0}")]
    NegativeLength(i64),
    /// A string, byte field or array longer than the rest of the request can hold.
    #[error("length {claimed} is more than the {left} bytes left can hold")]
    LengthBeyondEnd {
        /// Length in the request: bytes, or items of an array.
        claimed: u64,
        /// Bytes left in the request.
        left: usize,
    },
    /// More array items in one request than [`ITEMS_MAX`](super::shape::ITEMS_MAX).
    #[error("more than {max} array items in one request")]
    TooManyItems {
        /// The limit.
        max: usize,
    },
    /// More tagged fields in one request than [`TAGS_MAX`](super::shape::TAGS_MAX).
    #[error("more than {max} tagged fields in one request")]
    TooManyTags {
        /// The limit.
        max: usize,
    },
    /// A null where the protocol demands a value.
    #[error("null where a value is required")]
    NullNotAllowed,
    /// A byte that is to say whether a struct follows, and says neither 1 nor -1.
    #[error("{0} does not say whether a struct follows; 1 and -1 do")]
    BadPresence(i8),
    /// A string that is not UTF-8.
    #[error("string is not UTF-8")]
    NotUtf8,
    /// A variable-length integer of more than 32 bits.
    #[error("variable-length integer exceeds 32 bits")]
    VarintTooLong,
    /// Bytes after the last field of the request.
    #[error("{0} bytes after the end of the request")]
    TrailingBytes(usize),
    /// A control request larger than [`CONTROL_FRAME_BYTES_MAX`](super::control::CONTROL_FRAME_BYTES_MAX).
    #[error("control request of {bytes} bytes, at most {max} are accepted")]
    FrameTooLarge {
        /// Bytes of the request after its header.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A client id longer than [`CLIENT_ID_BYTES_MAX`](super::header::CLIENT_ID_BYTES_MAX).
    #[error("client id of {0} bytes is too long")]
    ClientIdTooLong(usize),
    /// The `kafka-protocol` crate refused what the shape walk let pass.
    #[error("malformed request: {0}")]
    Codec(String),
}

impl DecodeError {
    /// The code to answer with, where an answer can be built at all.
    pub fn code(&self) -> ErrorCode {
        match self {
            DecodeError::UnknownApi(_) | DecodeError::UnsupportedVersion { .. } => {
                ErrorCode::UnsupportedVersion
            }
            _ => ErrorCode::InvalidRequest,
        }
    }

    /// A stable word for the label of a counter.
    pub fn kind(&self) -> &'static str {
        match self {
            DecodeError::Truncated => "truncated",
            DecodeError::UnknownApi(_) => "unknown_api",
            DecodeError::UnsupportedVersion { .. } => "unsupported_version",
            DecodeError::NegativeLength(_) => "negative_length",
            DecodeError::LengthBeyondEnd { .. } => "length_beyond_end",
            DecodeError::TooManyItems { .. } => "too_many_items",
            DecodeError::TooManyTags { .. } => "too_many_tags",
            DecodeError::NullNotAllowed => "null_not_allowed",
            DecodeError::BadPresence(_) => "bad_presence",
            DecodeError::NotUtf8 => "not_utf8",
            DecodeError::VarintTooLong => "varint_too_long",
            DecodeError::TrailingBytes(_) => "trailing_bytes",
            DecodeError::FrameTooLarge { .. } => "frame_too_large",
            DecodeError::ClientIdTooLong(_) => "client_id_too_long",
            DecodeError::Codec(_) => "codec",
        }
    }
}

/// Why a reply could not be written. Each one is a bug of the caller: it asked for what the version cannot say.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EncodeError {
    /// The reply exceeds what the frame's signed 32-bit length can say.
    #[error("reply of {0} bytes exceeds the length field")]
    TooLong(usize),
    /// A string or array that the version's length field cannot say.
    #[error("field of length {0} exceeds its length field")]
    FieldTooLong(usize),
    /// The `kafka-protocol` crate refused the message.
    #[error("reply cannot be encoded: {0}")]
    Codec(String),
    /// A topic named by id where the version has names, or the other way round.
    #[error("version {version} does not name a topic in this way")]
    TopicForm {
        /// The version of the reply.
        version: i16,
    },
    /// The reply is of another api than the request.
    #[error("reply of another api than the {0:?} request")]
    WrongApi(ApiKey),
}
