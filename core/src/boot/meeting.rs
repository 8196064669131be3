//! A point of the boot that no core passes before all have reached it. Waiting cores go on doing their other tasks.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::runtime::time::sleep;

/// How often a waiting core looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Counts the cores that have arrived.
#[derive(Debug)]
pub struct Meeting {
    arrived: AtomicUsize,
    core_count: usize,
}

impl Meeting {
    /// For this many cores, once.
    pub fn new(core_count: usize) -> Meeting {
        Meeting { arrived: AtomicUsize::new(0), core_count }
    }

    /// Arrives and waits for the others. A core that cannot arrive ends the process, so nobody waits for ever.
    pub async fn meet(&self) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < self.core_count {
            sleep(LOOK_EVERY).await;
        }
    }
}
