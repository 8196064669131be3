//! How fast a background reader may go: so many bytes a second, and never long without letting others run.

use std::cell::Cell;
use std::time::Duration;

use crate::disk::Disk;

/// Bytes that were read or written and not waited for yet.
#[derive(Debug)]
pub(crate) struct Pacer {
    bytes_per_second: Cell<u64>,
    debt_bytes: Cell<u64>,
}

/// Shorter sleeps cost more than they give.
const SLEEP_MIN: Duration = Duration::from_millis(2);

impl Pacer {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: Cell::new(bytes_per_second), debt_bytes: Cell::default() }
    }

    pub(crate) fn set_rate(&self, bytes_per_second: u64) {
        self.bytes_per_second.set(bytes_per_second);
    }

    /// Waits for as long as reading or writing `bytes` may take.
    pub(crate) async fn pay<D: Disk>(&self, bytes: usize, disk: &D) {
        let debt = self.debt_bytes.get() + bytes as u64;
        self.debt_bytes.set(debt);
        let wait = owed(debt, self.bytes_per_second.get());
        if wait < SLEEP_MIN {
            return futures_lite::future::yield_now().await;
        }
        self.debt_bytes.set(0);
        disk.sleep(wait).await;
    }
}

fn owed(debt_bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_nanos(debt_bytes.saturating_mul(1_000_000_000) / bytes_per_second.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_takes_a_second() {
        assert_eq!(owed(64 << 20, 64 << 20), Duration::from_secs(1));
        assert_eq!(owed(0, 0), Duration::ZERO);
        assert!(owed(256 << 10, 64 << 20) >= SLEEP_MIN);
    }
}
