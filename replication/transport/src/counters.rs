//! What is counted for each stream, for whoever exports it.

use std::cell::Cell;
use std::time::Duration;

/// Counts of the connections to one peer since the process started, and what is known of the one there is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Whether there is a connection now.
    pub is_connected: bool,
    /// Connections made, both ends knowing each other.
    pub connection_count: u64,
    /// Attempts to dial that came to nothing.
    pub failed_dial_count: u64,
    /// Bytes written, everything after the handshake.
    pub bytes_sent: u64,
    /// Bytes of whole frames read.
    pub bytes_received: u64,
    /// Frames written.
    pub frames_sent: u64,
    /// Frames read.
    pub frames_received: u64,
    /// Connections that ended because of what the peer sent.
    pub bad_frame_count: u64,
    /// The newest time from a ping to its answer: the network and what both cores had to do first.
    pub round_trip: Option<Duration>,
}

/// The counts of one peer, as its tasks keep them.
#[derive(Default)]
pub(crate) struct Counters(Cell<StreamCounts>);

impl Counters {
    pub(crate) fn get(&self) -> StreamCounts {
        self.0.get()
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut StreamCounts)) {
        let mut counts = self.0.get();
        change(&mut counts);
        self.0.set(counts);
    }
}
