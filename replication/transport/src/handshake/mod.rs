//! The beginning of a connection: both ends say who they are and prove that they know the secret of the cluster.
//!
//! ```text
//! dialer                                    acceptor
//! preface, Hello (with a challenge)   ->
//!                                     <-    preface, Hello (with a challenge), or Refused
//! Proof                               ->
//!                                     <-    Accepted (with its proof), or Refused
//! streams or calls                   <->    streams or calls
//! ```
//!
//! A proof is HMAC-SHA-256, under the secret, of which end gives it and of every byte before it in both directions: so it holds
//! both challenges, both names, and cannot be used again or by the other end. The dialer proves first, so that who knows
//! nothing gets nothing that it could guess at. What follows on the connection is neither encrypted nor signed: that is for TLS
//! below it. Who joins does not know the cluster id: it leaves it empty and learns it from a hello whose proof covers it.
//! A peer that speaks another protocol gets no answer, one of another version gets the preface that tells ours.

mod accept;
mod dial;
mod greeting;
mod roster;
mod secret;

use std::io;

use heddle_net::frame::{ByteSource, FrameError, Unread};
use heddle_net::socket::ShutdownHandle;
use heddle_replication::message::Life;
use heddle_replication_driver::Peer;

use crate::wire::{FORMAT_VERSION, Purpose, Refusal, WireError};

pub use accept::accept;
pub use dial::dial;
pub use roster::{Caller, Roster};
pub use secret::{SECRET_BYTES_MIN, Secret, SecretError};

/// Who this core is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster: at most [`crate::wire::CLUSTER_ID_BYTES_MAX`] bytes; empty for who joins one.
    pub cluster: String,
    /// The node and the core.
    pub me: Peer,
    /// The life of the node; only streams are told.
    pub life: Life,
    /// Drawn at random when the process started, the same for all its cores.
    pub process: [u8; 16],
}

/// Whom a dialer wants, and what for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Streams with this core.
    Streams(Peer),
    /// Calls to this core.
    Calls(Peer),
    /// To join the cluster of whoever is there.
    Join,
}

impl Aim {
    fn purpose(self) -> Purpose {
        match self {
            Aim::Streams(_) => Purpose::Streams,
            Aim::Calls(_) => Purpose::Calls,
            Aim::Join => Purpose::Join,
        }
    }

    fn to(self) -> Option<Peer> {
        match self {
            Aim::Streams(to) | Aim::Calls(to) => Some(to),
            Aim::Join => None,
        }
    }
}

/// A connection whose ends know each other.
pub struct Greeted<R, W> {
    /// Who is there.
    pub peer: Peer,
    /// The number of its process.
    pub process: [u8; 16],
    /// The cluster that it named.
    pub cluster: String,
    /// What the connection is for.
    pub purpose: Purpose,
    /// Where to read.
    pub read: R,
    /// What was read behind the handshake and belongs before it.
    pub unread: Unread,
    /// Where to write.
    pub write: W,
    /// Ends it.
    pub closer: ShutdownHandle,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The first bytes are those of another protocol.
    #[error("the other end speaks another protocol")]
    Foreign,
    /// The other end speaks another version.
    #[error("the other end speaks version {0} of the format, this one version {FORMAT_VERSION}")]
    Version(u8),
    /// This end does not talk to the other, and has said so.
    #[error("refused: {0}")]
    Refusing(Refusal),
    /// The other end names another cluster; it was told that, but not which.
    #[error("refused: it belongs to cluster {theirs:?}, and this node to cluster {ours:?}")]
    OtherCluster {
        /// What it says, without any proof.
        theirs: String,
        /// Where this end belongs.
        ours: String,
    },
    /// The other end does not talk to this one, and has said so.
    #[error("the other end refuses this one: {0}")]
    Refused(Refusal),
    /// A message that does not belong there.
    #[error("{0} was expected")]
    Unexpected(&'static str),
    /// The other end closed the connection.
    #[error("the connection ended")]
    Ended,
    /// It took too long.
    #[error("the other end took too long")]
    TooSlow,
    /// No frame came, or too large a one.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// What came is no frame.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Writing failed, or the source of random bytes.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl HandshakeError {
    /// What the other end was told, if this end refused it.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            HandshakeError::Refusing(refusal) => Some(*refusal),
            HandshakeError::OtherCluster { .. } => Some(Refusal::Cluster),
            _ => None,
        }
    }

    /// Whether the ends do not fit together, so that trying again is of no use as long as neither changes.
    pub fn is_mismatch(&self) -> bool {
        self.refusal().is_some() || matches!(self, HandshakeError::Refused(_) | HandshakeError::Version(_))
    }
}

/// Bytes nobody can foresee.
///
/// # Errors
/// If the system has none.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// Reads exactly so many bytes.
async fn read_whole<R: ByteSource>(read: &mut R, mut room: &mut [u8]) -> Result<(), HandshakeError> {
    while !room.is_empty() {
        let count = read.read(room).await?;
        if count == 0 {
            return Err(HandshakeError::Ended);
        }
        room = &mut room[count..];
    }
    Ok(())
}
