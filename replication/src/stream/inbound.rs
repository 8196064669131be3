//! The receiving end of a stream: how much was taken, and when the sender is told.

use super::Options;

/// State of the receiving end. It lives as long as its connection.
#[derive(Clone, Debug)]
pub struct Inbound {
    window_bytes: u64,
    taken_bytes: u64,
    told_bytes: u64,
}

impl Inbound {
    /// A new connection.
    pub fn new(options: &Options) -> Inbound {
        Inbound { window_bytes: options.window_bytes, taken_bytes: 0, told_bytes: 0 }
    }

    /// Batches of so many bytes have found their place in the log, or were of no use: they occupy nothing any more. Returns
    /// the total to tell the sender, when it is time to: after an eighth of the window, so that it never has to wait and is
    /// not told for every frame.
    pub fn taken(&mut self, bytes: u64) -> Option<u64> {
        self.taken_bytes += bytes;
        let due = self.taken_bytes - self.told_bytes >= self.window_bytes / 8;
        due.then(|| self.tell())
    }

    /// The total to put into a frame that goes anyway, if it is news.
    pub fn piggyback(&mut self) -> Option<u64> {
        (self.taken_bytes > self.told_bytes).then(|| self.tell())
    }

    fn tell(&mut self) -> u64 {
        self.told_bytes = self.taken_bytes;
        self.taken_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_in_eighths_or_with_other_frames() {
        let mut inbound = Inbound::new(&Options { window_bytes: 800, ..Options::default() });
        assert_eq!(inbound.taken(60), None);
        assert_eq!(inbound.taken(60), Some(120));
        assert_eq!(inbound.piggyback(), None);
        assert_eq!(inbound.taken(1), None);
        assert_eq!(inbound.piggyback(), Some(121));
    }
}
