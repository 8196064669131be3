//! What a primary sends to one backup next, and how urgent that is. How much of it goes at once is the stream's to say.

use heddle_proto::ids::Offset;

use crate::message::Life;
use crate::stream::outbound::Pace;

/// What a primary knows of a backup that has joined in its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The life that joined.
    pub life: Life,
    /// What has arrived there: the next record to send after a loss.
    pub written: Offset,
    /// What counts towards a commit; `None` until the backup has accepted the epoch.
    pub held: Option<Offset>,
    /// The newest version of the in-sync set that it knew when it acknowledged.
    pub version: u32,
    /// The next record to send; `None` until the backup has confirmed where the logs part.
    sent: Option<Offset>,
}

impl Peer {
    /// A backup that has just joined. Nothing it said in an earlier life counts any more.
    pub fn joined(life: Life) -> Peer {
        Peer { life, written: Offset::ZERO, held: None, version: 0, sent: None }
    }

    /// It acknowledged. What it says knowing a newer version of the in-sync set counts alone: what came before, or comes late, may be
    /// of a replica that was taken away.
    pub fn acked(&mut self, written: Offset, held: Option<Offset>, version: u32) {
        if version < self.version {
            return;
        }
        if version > self.version {
            *self = Peer { written, held, version, ..*self };
        }
        self.written = self.written.max(written);
        self.held = self.held.max(held);
        self.sent = Some(self.sent.map_or(self.written, |sent| sent.max(self.written)));
    }

    /// Nothing is sent to it, and nothing counts, until it acknowledges again, knowing this version of the in-sync set at least.
    pub fn pause(&mut self, version: u32) {
        (self.sent, self.held, self.version) = (None, None, version);
    }

    /// What was sent and not acknowledged may be lost.
    pub fn rewind(&mut self) {
        self.sent = self.sent.map(|_| self.written);
    }

    /// Skips what the log, which begins at `start`, no longer has. `true` when there is such a gap: then the backup has to begin
    /// anew at `start`.
    pub fn skip_removed(&mut self, start: Offset) -> bool {
        let gap = self.sent.is_some_and(|sent| sent < start);
        if gap {
            self.sent = Some(start);
        }
        gap
    }

    /// Whether it has confirmed where the logs part, so that records may follow.
    pub fn is_streaming(&self) -> bool {
        self.sent.is_some()
    }

    /// What is to be sent of a log that ends at `end`. Who is more than `records_max` behind catches up: within the budget
    /// for that, so that it never fills the stream that others share.
    pub fn next_range(&mut self, end: Offset, records_max: i64) -> Option<(Offset, Offset, Pace)> {
        let from = self.sent.filter(|sent| *sent < end)?;
        let pace = if end.since(self.written) > records_max { Pace::CatchUp } else { Pace::Hot };
        self.sent = Some(end);
        Some((from, end, pace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_up_is_hot_and_who_lags_catches_up() {
        let at = Offset::new;
        let mut peer = Peer::joined(Life(1));
        assert_eq!(peer.next_range(at(5), 10), None, "not before it has confirmed where the logs part");
        peer.acked(at(2), None, 0);
        assert_eq!(peer.next_range(at(5), 10), Some((at(2), at(5), Pace::Hot)));
        assert_eq!(peer.next_range(at(7), 10), Some((at(5), at(7), Pace::Hot)), "pipelined");
        assert_eq!(peer.next_range(at(100), 10), Some((at(7), at(100), Pace::CatchUp)));
        assert_eq!(peer.next_range(at(100), 10), None);
        peer.acked(at(95), None, 0);
        assert_eq!(peer.next_range(at(101), 10), Some((at(100), at(101), Pace::Hot)), "caught up");
        peer.rewind();
        assert_eq!(peer.next_range(at(101), 10), Some((at(95), at(101), Pace::Hot)), "after a loss again");
        peer.rewind();
        assert!(!peer.skip_removed(at(95)));
        assert!(peer.skip_removed(at(96)), "what it lacks is gone");
    }
}
