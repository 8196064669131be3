//! Acknowledgements parked on an offset until it is safe, released in order.

use std::collections::VecDeque;

use heddle_proto::ids::Offset;

use crate::{
    admin::stages::Release,
    runtime::oneshot::{Receiver, Sender, oneshot},
};

/// Acks of one partition that wait for a position to reach them.
#[derive(Default)]
pub struct Pending {
    parked: VecDeque<(Offset, Sender<Release>)>,
}

impl Pending {
    /// Parks an ack until the position is at least `upto` (the offset after the last record).
    pub fn park(&mut self, upto: Offset) -> Receiver<Release> {
        let (sender, receiver) = oneshot();
        let place = self.parked.partition_point(|(offset, _)| *offset <= upto);
        if place == self.parked.len() {
            self.parked.push_back((upto, sender));
        } else {
            self.parked.insert(place, (upto, sender));
        }
        receiver
    }

    /// Releases every ack that `position` has reached, and tells each how that came about.
    pub fn release(&mut self, position: Offset, release: Release) {
        while let Some((upto, _)) = self.parked.front()
            && *upto <= position
            && let Some((_, sender)) = self.parked.pop_front()
        {
            sender.send(release);
        }
    }

    /// How many acks wait.
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn acks_wait_for_their_offset() {
        let now = Release { write: None, at: Instant::now() };
        let mut pending = Pending::default();
        let mut late = pending.park(Offset::new(10));
        let early = pending.park(Offset::new(5));
        pending.release(Offset::new(4), now);
        assert_eq!(pending.len(), 2);
        pending.release(Offset::new(9), now);
        assert_eq!(block_on(early), Ok(now));
        assert!(block_on(poll_once(&mut late)).is_none());
        pending.release(Offset::new(10), now);
        assert_eq!(block_on(late), Ok(now));
        assert!(pending.is_empty());
    }
}
