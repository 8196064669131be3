//! A small Kafka client: just what a load generator needs, and nothing that would hide what the broker does.

pub mod admin;
pub mod connection;
pub mod wire;

pub use connection::Connection;

use crate::failure::Failure;

/// Why a Kafka request failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KafkaError {
    /// No connection could be made.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// The broker's `host:port`.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The connection broke, or was closed by the broker.
    #[error("the connection broke: {0}")]
    Closed(String),
    /// An answer does not have the layout of its version.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// The codec crate refused a message.
    #[error("{api}: {reason}")]
    Codec {
        /// Kafka's name of the request.
        api: &'static str,
        /// What it said.
        reason: String,
    },
    /// The broker answered with an error code.
    #[error("{api} was refused: {}", Failure::Broker(*code))]
    Refused {
        /// Kafka's name of the request.
        api: &'static str,
        /// Kafka's number.
        code: i16,
    },
    /// The broker does not speak a version the generator does.
    #[error("the broker speaks {api} {min} to {max}, this generator {wanted}")]
    Version {
        /// Kafka's name of the request.
        api: &'static str,
        /// Oldest it speaks.
        min: i16,
        /// Newest it speaks.
        max: i16,
        /// What was wanted.
        wanted: i16,
    },
}

impl KafkaError {
    /// The kind a run counts it as.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Connect { .. } => Failure::Refused,
            Self::Closed(_) => Failure::Disconnected,
            Self::Malformed(_) | Self::Codec { .. } | Self::Version { .. } => Failure::Protocol,
            Self::Refused { code, .. } => Failure::Broker(*code),
        }
    }
}
