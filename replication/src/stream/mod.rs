//! The connection between two cores: one ordered stream each way, shared by all partitions that they replicate to each other.
//!
//! [`outbound::Outbound`] is the sending end: it takes what the replicas of one core say to those of another, and decides
//! what goes next and how much of it. [`inbound::Inbound`] is the receiving end: it counts, and gives room again. Both are
//! pure: time comes in with each input, batches are named by their offsets and stay in the log until they are sent.
//!
//! What they promise: memory is bounded by the number of partitions and by the window, whatever the peer does; a lagging
//! partition never holds up one that keeps up; acknowledgements and commit positions that wait are merged; a frame is lost
//! only together with the connection, and then [`crate::io::Input::Resend`] for every partition mends it.

pub mod inbound;
pub mod outbound;

use std::time::Duration;

/// Sizes and paces of one stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of batches under way that the peer has not taken yet. At 1 GB/s and a round trip of 1 ms a megabyte would be
    /// enough; the rest covers a peer whose turn is late.
    pub window_bytes: u64,
    /// How much of the window replicas that catch up may fill together: what is left is for those that keep up.
    pub catch_up_window_bytes: u64,
    /// Most bytes of batches in one frame; a single larger batch still goes.
    pub frame_bytes_max: usize,
    /// Bandwidth of all that catch up over this stream, in bytes per second.
    pub catch_up_bytes_per_second: u64,
    /// A commit position that nothing else carries is sent on its own after so long.
    pub commit_delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window_bytes: 8 << 20,
            catch_up_window_bytes: 4 << 20,
            frame_bytes_max: 1 << 20,
            catch_up_bytes_per_second: 64 << 20,
            commit_delay: Duration::from_millis(5),
        }
    }
}

impl Options {
    /// Whether the sizes fit together: both windows hold at least one frame, and catching up leaves room for the rest.
    pub fn is_sound(&self) -> bool {
        let frame = self.frame_bytes_max as u64;
        frame > 0
            && frame <= self.catch_up_window_bytes
            && self.catch_up_window_bytes + frame <= self.window_bytes
            && self.catch_up_bytes_per_second > 0
    }
}
