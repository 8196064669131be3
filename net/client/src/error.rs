//! What can go wrong with a request, as one type.
use std::io;
use std::sync::Arc;

use heddle_proto::ErrorCode;
use thiserror::Error;

/// Why a request has no result. Cheap to clone: when a connection fails, every pending call gets the reason.
#[derive(Clone, Debug, Error)]
pub enum ClientError {
    /// The broker refused the request.
    #[error("{code}: {message}")]
    Refused {
        /// Which error.
        code: ErrorCode,
        /// What was wrong and what to do, as the broker put it.
        message: String,
    },
    /// The connection ended before the answer came: by the broker, or because its driver was dropped. Whether
    /// the request took effect is unknown.
    #[error("the connection to the broker was closed")]
    ConnectionClosed,
    /// The connection failed before the answer came. Whether the request took effect is unknown.
    #[error("the connection to the broker failed: {0}")]
    ConnectionFailed(#[source] Arc<io::Error>),
    /// The broker sent something that is not of the protocol; the connection is closed.
    #[error("the broker broke the protocol: {0}")]
    Protocol(String),
    /// Too much is waiting to be sent or answered: wait for [`crate::Client::ready`] first. Nothing was sent.
    #[error("too many requests are under way: {call_count} unanswered, {queued_bytes} bytes to be sent")]
    Overloaded {
        /// Calls not yet answered.
        call_count: usize,
        /// Bytes queued to be sent.
        queued_bytes: usize,
    },
    /// The request is larger than the broker takes. Nothing was sent.
    #[error("a request of {bytes} bytes is above the broker's limit of {bytes_max}")]
    TooLarge {
        /// Size of the request's payload.
        bytes: usize,
        /// The broker's limit for a frame.
        bytes_max: usize,
    },
    /// No broker could be reached; the last failure is told.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// The address tried last.
        address: String,
        /// What went wrong there.
        source: Arc<io::Error>,
    },
}

impl ClientError {
    pub(crate) fn failed(error: io::Error) -> ClientError {
        ClientError::ConnectionFailed(Arc::new(error))
    }

    pub(crate) fn refused(code: ErrorCode, message: impl Into<String>) -> ClientError {
        ClientError::Refused { code, message: message.into() }
    }

    /// The broker's error code, if the broker answered.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the connection is of no use any more.
    pub fn is_disconnected(&self) -> bool {
        matches!(
            self,
            ClientError::ConnectionClosed | ClientError::ConnectionFailed(_) | ClientError::Protocol(_)
        )
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            ClientError::Refused { code, .. } => code.is_retryable(),
            ClientError::ConnectionClosed | ClientError::ConnectionFailed(_) => true,
            ClientError::Overloaded { .. } | ClientError::Unreachable { .. } => true,
            ClientError::Protocol(_) | ClientError::TooLarge { .. } => false,
        }
    }

    /// Whether what we know of a topic's whereabouts is out of date.
    pub fn is_misrouted(&self) -> bool {
        use ErrorCode::{
            FencedLeaderEpoch, LeaderNotAvailable, NotLeaderOrFollower, UnknownLeaderEpoch, UnknownTopicId,
            UnknownTopicOrPartition,
        };
        let stale = [NotLeaderOrFollower, LeaderNotAvailable, UnknownTopicOrPartition, UnknownTopicId];
        let stale_epoch = [FencedLeaderEpoch, UnknownLeaderEpoch];
        self.is_disconnected()
            || self.code().is_some_and(|code| stale.contains(&code) || stale_epoch.contains(&code))
    }
}
