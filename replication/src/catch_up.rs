//! What a primary sends to one backup next: at once when the backup keeps up, one bounded range after the other when it is
//! far behind.

use heddle_proto::ids::Offset;

use crate::message::Life;

/// What a primary knows of a backup that has joined in its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The life that joined.
    pub life: Life,
    /// What has arrived there: the next record to send after a loss.
    pub written: Offset,
    /// What counts towards a commit; `None` until the backup has accepted the epoch.
    pub held: Option<Offset>,
    /// The next record to send; `None` until the backup has confirmed where the logs part.
    sent: Option<Offset>,
}

impl Peer {
    /// A backup that has just joined. Nothing it said in an earlier life counts any more.
    pub fn joined(life: Life) -> Peer {
        Peer { life, written: Offset::ZERO, held: None, sent: None }
    }

    /// It acknowledged.
    pub fn acked(&mut self, written: Offset, held: Option<Offset>) {
        self.written = self.written.max(written);
        self.held = self.held.max(held);
        self.sent = Some(self.sent.map_or(self.written, |sent| sent.max(self.written)));
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

    /// The next range to send of a log that ends at `end`. Who is more than `records_max` behind gets one range of that
    /// size at a time, so that its catch-up never fills the stream that others share.
    pub fn next_range(&mut self, end: Offset, records_max: i64) -> Option<(Offset, Offset)> {
        let from = self.sent.filter(|sent| *sent < end)?;
        let catches_up = end.since(self.written) > records_max;
        if catches_up && from > self.written {
            return None;
        }
        let upto = if catches_up { end.min(from.plus(records_max)) } else { end };
        self.sent = Some(upto);
        Some((from, upto))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_up_gets_all_and_who_does_not_gets_pieces() {
        let at = Offset::new;
        let mut peer = Peer::joined(Life(1));
        assert_eq!(peer.next_range(at(5), 10), None, "not before it has confirmed where the logs part");
        peer.acked(at(2), None);
        assert_eq!(peer.next_range(at(5), 10), Some((at(2), at(5))));
        assert_eq!(peer.next_range(at(7), 10), Some((at(5), at(7))), "pipelined");
        assert_eq!(peer.next_range(at(100), 10), None, "too far behind: first it acknowledges");
        peer.acked(at(7), None);
        assert_eq!(peer.next_range(at(100), 10), Some((at(7), at(17))));
        assert_eq!(peer.next_range(at(100), 10), None);
        peer.rewind();
        assert_eq!(peer.next_range(at(100), 10), Some((at(7), at(17))), "after a loss again");
        assert!(!peer.skip_removed(at(17)));
        peer.rewind();
        assert!(peer.skip_removed(at(17)), "what it lacks is gone");
    }
}
