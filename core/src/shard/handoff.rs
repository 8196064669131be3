//! A connection on its way to the core that owns the partition it works on (single-port mode).

use bytes::BytesMut;
use heddle_net::{frame::Unread, socket::RawStream};

/// A socket with what was already read from it.
pub struct Handoff {
    /// The socket.
    pub socket: RawStream,
    /// Bytes that were read and are no whole request yet.
    pub unread: Unread,
    /// The request that named the partition: read and not handled.
    pub first: BytesMut,
}
