//! Why a frame between cores is refused, or cannot be written.

use flatbuffers::InvalidFlatbuffer;

/// Why a frame is refused. The connection is of no use after any of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The frame is too short for what it begins with.
    #[error("a frame of {0} bytes has no room for a header")]
    TooShort(usize),
    /// The frame, its header or its payload is larger than the limit.
    #[error("{part} of {bytes} bytes is above the limit of {bytes_max}")]
    TooLarge {
        /// Which part of it.
        part: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The header would reach beyond its frame.
    #[error("header of {header_bytes} bytes does not fit its frame of {frame_bytes}")]
    HeaderBeyondFrame {
        /// As the frame says.
        header_bytes: usize,
        /// The bytes there are, without the frame's length.
        frame_bytes: usize,
    },
    /// Lengths and header, or the payload of a call, are not those that were sent.
    #[error("checksum {computed:08x} where the frame says {stored:08x}")]
    Crc {
        /// As the frame says.
        stored: u32,
        /// Of what has arrived.
        computed: u32,
    },
    /// The header is no valid FlatBuffer of the schema.
    #[error("malformed header: {}", first_line(.0))]
    Invalid(#[from] InvalidFlatbuffer),
    /// The header carries something that this build does not know.
    #[error("unknown kind {kind} of {what}")]
    Unknown {
        /// Of what.
        what: &'static str,
        /// The member of the union.
        kind: u8,
    },
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field holds what has no meaning.
    #[error("{field} cannot be {value}")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: i64,
    },
    /// The epochs of a history do not rise, or are too many.
    #[error("a history whose epochs do not rise, or are too many")]
    History,
    /// The sizes of the batches are not those of the payload.
    #[error("batches of {named} bytes in a payload of {bytes}")]
    Payload {
        /// What the header says.
        named: u64,
        /// What there is.
        bytes: usize,
    },
}

/// The verifier adds a trace of fields on further lines.
fn first_line(error: &InvalidFlatbuffer) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
