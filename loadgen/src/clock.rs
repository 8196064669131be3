//! The one clock of a run: wall-clock nanoseconds that never step back while the process lives.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time, in nanoseconds since the Unix epoch.
///
/// Taken once from the wall clock and then advanced by the monotonic one, so that two readings in one
/// process may be subtracted, and readings of two processes of one machine roughly agree.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Nanos(u64);

impl Nanos {
    /// A point `nanos` nanoseconds after the Unix epoch.
    pub const fn new(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Nanoseconds from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The point `nanos` nanoseconds later.
    pub const fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// The point `duration` later.
    pub fn plus(self, duration: Duration) -> Self {
        self.plus_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Time left until `self` when it is now `now`; zero when it has passed.
    pub fn left(self, now: Nanos) -> Duration {
        Duration::from_nanos(self.since(now))
    }

    /// Milliseconds since the Unix epoch, as record batches carry them.
    pub const fn unix_millis(self) -> i64 {
        (self.0 / 1_000_000) as i64
    }

    /// The same point for the standard library.
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.0)
    }
}

/// Reads [`Nanos`]. Copies share the anchor, hand them to every thread.
#[derive(Copy, Clone, Debug)]
pub struct Clock {
    wall: Nanos,
    anchor: Instant,
}

impl Clock {
    /// Anchors the clock at the present.
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: Nanos::default().plus(wall), anchor: Instant::now() }
    }

    /// The present.
    pub fn now(&self) -> Nanos {
        self.wall.plus(self.anchor.elapsed())
    }
}

/// Processor time this process has used so far.
pub fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, which outlives it. It cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_steps_back_and_counts_differences() {
        let clock = Clock::start();
        let first = clock.now();
        let second = clock.now();
        assert!(second >= first);
        assert_eq!(first.plus_nanos(5).since(first), 5);
        assert_eq!(first.since(first.plus_nanos(5)), 0);
        assert_eq!(Nanos::new(3_999_999).unix_millis(), 3);
    }
}
