//! What anybody who can connect may cause is logged once in a while for each kind, with how much was left out.

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// One line of a kind in so long: a scan of ports is seen, and fills no disk.
const EVERY: Duration = Duration::from_secs(1);

/// Lines of a few kinds.
pub(crate) struct Scarce<K>(RefCell<Vec<Said<K>>>);

struct Said<K> {
    kind: K,
    at: Instant,
    left_out: u64,
}

impl<K> Default for Scarce<K> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: PartialEq> Scarce<K> {
    /// How many of this kind were left out since its last line, if it is time for one.
    pub(crate) fn due(&self, kind: K, now: Instant) -> Option<u64> {
        let mut all = self.0.borrow_mut();
        let Some(said) = all.iter_mut().find(|said| said.kind == kind) else {
            all.push(Said { kind, at: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(said.at) < EVERY {
            said.left_out += 1;
            return None;
        }
        said.at = now;
        Some(std::mem::take(&mut said.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_tells_of_all_of_a_kind() {
        let (scarce, begin) = (Scarce::default(), Instant::now());
        let one = |now| scarce.due('a', now);
        assert_eq!([one(begin), one(begin), one(begin + EVERY / 2)], [Some(0), None, None]);
        assert_eq!(scarce.due('b', begin + EVERY / 2), Some(0), "others are not left out for it");
        assert_eq!([one(begin + EVERY), one(begin + EVERY)], [Some(2), None]);
        assert_eq!([one(begin + 9 * EVERY), one(begin + 10 * EVERY)], [Some(1), Some(0)]);
    }
}
