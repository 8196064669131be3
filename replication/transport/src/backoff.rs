//! How long to wait before dialing again: longer each time, and never in step with others.

use std::time::Duration;

/// Waits between attempts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// About as long as the first one.
    pub first: Duration,
    /// At most so long.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), most: Duration::from_secs(2) }
    }
}

impl Backoff {
    /// Failures in a row after a connection that lived so long: one that broke at once is one more.
    pub fn failures_after(&self, failure_count: u32, lived: Duration) -> u32 {
        if lived >= self.most { 0 } else { failure_count.saturating_add(1) }
    }

    /// The wait after so many failures in a row (0 for a connection that worked and broke): doubled each time, then between
    /// half and all of that, as `chance` says, so that nodes which lost a peer together do not come back together.
    pub fn wait(&self, failure_count: u32, chance: u32) -> Duration {
        let whole = self.first.saturating_mul(1 << failure_count.min(16)).min(self.most);
        let half = whole / 2;
        half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_are_spread_over_half_of_it() {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(1) };
        let range = |count| (backoff.wait(count, 0).as_millis(), backoff.wait(count, u32::MAX).as_millis());
        assert_eq!(range(0), (50, 100));
        assert_eq!(range(2), (200, 400));
        assert_eq!(range(4), (500, 1000));
        assert_eq!(range(u32::MAX), (500, 1000));
        assert_eq!(backoff.failures_after(3, Duration::from_secs(1)), 0);
        assert_eq!(backoff.failures_after(3, Duration::from_millis(999)), 4);
        assert!(backoff.wait(1, u32::MAX / 2) > backoff.wait(1, u32::MAX / 4));
    }
}
