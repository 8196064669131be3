//! What anybody who can connect may cause is logged once in a while, with how much was left out.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// One line in so long: a scan of ports is seen, and fills no disk.
const EVERY: Duration = Duration::from_secs(1);

/// Lines of one kind.
#[derive(Default)]
pub(crate) struct Scarce {
    said_at: Cell<Option<Instant>>,
    left_out: Cell<u64>,
}

impl Scarce {
    /// How many were left out since the last line, if it is time for one.
    pub(crate) fn due(&self, now: Instant) -> Option<u64> {
        if self.said_at.get().is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        }
        self.said_at.set(Some(now));
        Some(self.left_out.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_tells_of_all() {
        let (scarce, begin) = (Scarce::default(), Instant::now());
        assert_eq!(scarce.due(begin), Some(0));
        assert_eq!(scarce.due(begin), None);
        assert_eq!(scarce.due(begin + EVERY / 2), None);
        assert_eq!(scarce.due(begin + EVERY), Some(2));
        assert_eq!(scarce.due(begin + EVERY), None);
        assert_eq!(scarce.due(begin + 9 * EVERY), Some(1));
        assert_eq!(scarce.due(begin + 10 * EVERY), Some(0));
    }
}
