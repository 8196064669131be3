//! Why a batch or a fetch failed, in the kinds that a run counts.

use heddle_proto::ErrorCode;
use std::fmt;

/// One kind of failure; the unit of the `errors_by_kind` table.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Failure {
    /// The broker answered with an error code (Kafka's numbers).
    Broker(i16),
    /// No connection could be made.
    Refused,
    /// The connection broke before the answer came: the outcome is unknown.
    Disconnected,
    /// No answer within the time allowed: the outcome is unknown.
    Timeout,
    /// The answer made no sense.
    Protocol,
    /// A batch that was read fails its checksum.
    Corrupt,
}

impl Failure {
    /// Whether the partition may simply have moved, so that fresh metadata helps.
    pub fn is_stale_route(self) -> bool {
        match self {
            Self::Broker(code) => ErrorCode::from_code(code).is_some_and(ErrorCode::is_retryable),
            Self::Refused | Self::Disconnected => true,
            Self::Timeout | Self::Protocol | Self::Corrupt => false,
        }
    }

    /// Whether the records may nevertheless have been written.
    pub fn is_outcome_unknown(self) -> bool {
        match self {
            Self::Disconnected | Self::Timeout | Self::Protocol => true,
            Self::Broker(code) => matches!(
                ErrorCode::from_code(code),
                None | Some(
                    ErrorCode::RequestTimedOut
                        | ErrorCode::NotEnoughReplicasAfterAppend
                        | ErrorCode::UnknownServerError
                )
            ),
            Self::Refused | Self::Corrupt => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(code) => match ErrorCode::from_code(*code) {
                Some(known) => f.write_str(known.name()),
                None => write!(f, "error code {code}"),
            },
            Self::Refused => f.write_str("connection refused"),
            Self::Disconnected => f.write_str("disconnected"),
            Self::Timeout => f.write_str("timeout"),
            Self::Protocol => f.write_str("malformed answer"),
            Self::Corrupt => f.write_str("corrupt batch"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_classes() {
        assert_eq!(Failure::Broker(6).to_string(), "NOT_LEADER_OR_FOLLOWER");
        assert_eq!(Failure::Broker(12_345).to_string(), "error code 12345");
        assert!(Failure::Broker(6).is_stale_route() && !Failure::Broker(10).is_stale_route());
        assert!(Failure::Disconnected.is_outcome_unknown() && !Failure::Refused.is_outcome_unknown());
        assert!(!Failure::Broker(6).is_outcome_unknown());
    }
}
