//! Why a native frame or its header is refused.

use flatbuffers::InvalidFlatbuffer;

use crate::error::ErrorCode;

/// Why a native frame or its header is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NativeError {
    /// The first bytes of the connection are not [`super::PREFACE`].
    #[error("the connection does not begin with the preface of the native protocol")]
    Preface,
    /// The preface names a version of the framing that this build does not speak.
    #[error("framing version {0} is not supported")]
    PrefaceVersion(u8),
    /// The frame is larger than the limit.
    #[error("frame of {frame_bytes} bytes is above the limit of {bytes_max}")]
    FrameTooLarge {
        /// As the frame says.
        frame_bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The header is larger than the limit.
    #[error("header of {header_bytes} bytes is above the limit of {bytes_max}")]
    HeaderTooLarge {
        /// As the frame says.
        header_bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The header would reach beyond its frame.
    #[error("header of {header_bytes} bytes does not fit its frame of {frame_bytes}")]
    HeaderBeyondFrame {
        /// As the frame says.
        header_bytes: usize,
        /// As the frame says, or as many bytes as there are.
        frame_bytes: usize,
    },
    /// The header is no valid FlatBuffer of the schema.
    #[error("malformed header: {}", first_line(.0))]
    Invalid(#[from] InvalidFlatbuffer),
    /// The header carries a message that this build does not know.
    #[error("unknown message kind {kind}")]
    UnknownMessage {
        /// Correlation of the request, so that it can be answered.
        correlation: u32,
        /// The member of the union.
        kind: u8,
    },
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field holds a number that has no meaning.
    #[error("{field} cannot be {value}")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: i64,
    },
}

impl NativeError {
    /// What the peer is told.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::PrefaceVersion(_) | Self::UnknownMessage { .. } => ErrorCode::UnsupportedVersion,
            _ => ErrorCode::InvalidRequest,
        }
    }

    /// The correlation to answer with, if the request got that far.
    pub const fn correlation(&self) -> Option<u32> {
        match self {
            Self::UnknownMessage { correlation, .. } => Some(*correlation),
            _ => None,
        }
    }
}

/// The verifier adds a trace of fields on further lines.
fn first_line(error: &InvalidFlatbuffer) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
