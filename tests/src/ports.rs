//! Free ports: runs of consecutive ones for brokers with a port per core.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Where runs are looked for: below the range the kernel hands out to outgoing connections.
const PORTS: Range<u16> = 12_000..32_000;

/// Every run begins at a multiple of this, so that runs of different lengths do not overlap. The longest asked for is
/// of a cluster of five nodes with three ports each, and one more.
const RUN_PORTS_MAX: u16 = 20;

/// Finds `count` consecutive ports nobody listens on. Another process may take one before the caller does.
///
/// # Panics
/// If the whole range is taken, or more than [`RUN_PORTS_MAX`] are asked for.
pub fn free_run(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    assert!(count <= RUN_PORTS_MAX, "runs are of {RUN_PORTS_MAX} ports at most");
    let runs = (PORTS.end - PORTS.start) / RUN_PORTS_MAX;
    // Two test processes begin at different places, so that they seldom meet.
    let begin = (std::process::id() as u16).wrapping_mul(31);
    for _ in 0..runs {
        let turn = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let first = PORTS.start + turn % runs * RUN_PORTS_MAX;
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no {count} consecutive ports are free in {PORTS:?}");
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_do_not_overlap_and_avoid_listeners() {
        let first = free_run(4);
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).expect("was free");
        assert!(!is_free(first));
        let second = free_run(4);
        assert!(second.abs_diff(first) >= 4);
        let longer = free_run(9);
        assert!(longer >= second + 4 || longer + 9 <= second, "{longer} overlaps {second}");
    }
}
