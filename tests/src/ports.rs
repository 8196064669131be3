//! Free ports: runs of consecutive ones for brokers with a port per core.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Where runs are looked for: below the range the kernel hands out to outgoing connections.
const PORTS: Range<u16> = 12_000..32_000;

/// Finds `count` consecutive ports nobody listens on. Another process may take one before the caller does.
///
/// # Panics
/// If the whole range is taken.
pub fn free_run(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let runs = (PORTS.end - PORTS.start) / count;
    // Two test processes begin at different places, so that they seldom meet.
    let begin = (std::process::id() as u16).wrapping_mul(31);
    for _ in 0..runs {
        let turn = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let first = PORTS.start + turn % runs * count;
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
    }
}
