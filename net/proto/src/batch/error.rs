//! Why bytes are not an acceptable RecordBatch.

use crate::error::ErrorCode;

/// Why bytes are not an acceptable RecordBatch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("batch is cut short: {have_bytes} bytes of {need_bytes}")]
    Truncated {
        /// Bytes the batch needs, as far as is known.
        need_bytes: usize,
        /// Bytes that are there.
        have_bytes: usize,
    },
    /// The length field is smaller than a header.
    #[error("batch length field {0} is smaller than a header")]
    TooShort(i32),
    /// The batch is larger than [`crate::limits::BATCH_BYTES_MAX`].
    #[error("batch of {0} bytes is above the limit of {max}", max = crate::limits::BATCH_BYTES_MAX)]
    TooLarge(usize),
    /// Bytes follow a batch that should be alone.
    #[error("{0} bytes follow the batch")]
    TrailingBytes(usize),
    /// Magic 0 and 1 are formats of before 2017; others do not exist.
    #[error("record format {0} is not supported, only 2")]
    Magic(i8),
    /// The checksum does not match: the bytes are damaged.
    #[error("CRC32C is {computed:#010x}, the batch says {stored:#010x}")]
    Crc {
        /// As the batch says.
        stored: u32,
        /// As the bytes say.
        computed: u32,
    },
    /// Record count and last offset delta contradict each other.
    #[error("{record_count} records do not fit a last offset delta of {last_offset_delta}")]
    Counts {
        /// As the header says.
        record_count: i32,
        /// As the header says.
        last_offset_delta: i32,
    },
    /// The batch's offsets are negative or leave the range of `i64`.
    #[error("base offset {0} is out of range")]
    BaseOffset(i64),
    /// A producer id without a sequence number or epoch.
    #[error("a producer id needs an epoch and a sequence number of at least 0")]
    Producer,
    /// The attributes name a codec that does not exist.
    #[error("unknown compression codec {0}")]
    UnknownCodec(u8),
    /// The codec refuses the compressed bytes.
    #[error("{codec} data is damaged: {reason}")]
    Decompress {
        /// The codec's name.
        codec: &'static str,
        /// As the codec says.
        reason: String,
    },
    /// The records unpack to more than the caller allows.
    #[error("records unpack to more than {0} bytes")]
    DecompressedTooLarge(usize),
    /// A record contradicts its own lengths or the batch's header.
    #[error("record {index} is malformed: {reason}")]
    Record {
        /// Which record of the batch, from 0.
        index: u32,
        /// What is wrong.
        reason: &'static str,
    },
}

impl BatchError {
    /// What a producer is told about a batch that fails this way.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge(_) => ErrorCode::MessageTooLarge,
            Self::Magic(_) => ErrorCode::UnsupportedForMessageFormat,
            Self::UnknownCodec(_) => ErrorCode::UnsupportedCompressionType,
            Self::Counts { .. } | Self::BaseOffset(_) | Self::Producer | Self::Record { .. } => {
                ErrorCode::InvalidRecord
            }
            Self::DecompressedTooLarge(_) => ErrorCode::MessageTooLarge,
            _ => ErrorCode::CorruptMessage,
        }
    }
}
