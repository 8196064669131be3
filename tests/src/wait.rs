//! Waiting for something that will happen: generous deadlines that only a hang reaches.

use std::time::{Duration, Instant};

/// How long anything may take before a test calls it a hang. Nothing here is a measurement.
pub const HANG: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until `look` finds something.
///
/// # Panics
/// After [`HANG`], naming `what` was waited for.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + HANG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {HANG:?} in vain for: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
