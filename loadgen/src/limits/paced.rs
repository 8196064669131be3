//! Repeats a blocking operation on its schedule and records how long each took.

use crate::clock::Clock;
use crate::histogram::{self, Latencies, new_latencies};
use crate::schedule::Schedule;
use std::thread;
use std::time::Duration;

/// How long operations took.
#[derive(Clone, Debug)]
pub struct Timed {
    /// From when each was due: with the wait for the one before.
    pub due: Latencies,
    /// From when each began.
    pub alone: Latencies,
}

impl Default for Timed {
    fn default() -> Self {
        Self { due: new_latencies(), alone: new_latencies() }
    }
}

impl Timed {
    /// Adds what another thread, or another measurement, took.
    pub fn add(&mut self, other: &Self) {
        histogram::add(&mut self.due, &other.due);
        histogram::add(&mut self.alone, &other.alone);
    }
}

/// One thread's share of a paced measurement.
pub(super) struct Pacing {
    pub(super) clock: Clock,
    /// `None`: one after another.
    pub(super) schedule: Option<Schedule>,
    pub(super) duration: Duration,
}

impl Pacing {
    /// Runs `operation` until the time is over.
    ///
    /// An operation that starts on time counts from its start, so that oversleeping is not blamed on it; one that
    /// starts late because the one before took long counts from when it was due.
    pub(super) fn run<E>(&self, mut operation: impl FnMut(u64) -> Result<(), E>) -> Result<Timed, E> {
        let mut timed = Timed::default();
        let end = self.clock.now().plus(self.duration);
        for index in 0.. {
            let mut begin = self.clock.now();
            if begin >= end {
                break;
            }
            if let Some(schedule) = &self.schedule {
                let due = schedule.intended(index);
                if due >= end {
                    break;
                }
                if due > begin {
                    thread::sleep(due.left(begin));
                    begin = self.clock.now();
                } else {
                    begin = due;
                }
            }
            let started = self.clock.now();
            operation(index)?;
            let ended = self.clock.now();
            timed.due.saturating_record(ended.since(begin));
            timed.alone.saturating_record(ended.since(started));
        }
        Ok(timed)
    }
}

/// Asks the kernel to wake this thread from sleep as precisely as it can; the default is up to 50 us late.
pub(super) fn sleep_precisely() {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and changes only this thread's timer slack. Should it fail, sleep is
    // merely less precise.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
    }
}
