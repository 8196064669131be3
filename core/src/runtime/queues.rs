//! The three task queues of a core, so that background work never delays a produce by more than its quantum.

use std::{future::Future, time::Duration};

use glommio::{Latency, Shares, TaskQueueHandle};

/// How much of the CPU each queue may claim under contention, relative to the others.
const HOT_SHARES: usize = 1000;
const CONTROL_SHARES: usize = 200;
const BACKGROUND_SHARES: usize = 100;

/// How long another queue may run before the hot queue is looked at again. Background work waits for I/O every few hundred
/// microseconds by itself; 0.5 ms instead cost some 8 % of the median latency of a produce (`perf-reports/001-spine`).
const HOT_LATENCY: Duration = Duration::from_millis(5);

/// Which queue a task belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Produce, fetch, replication: latency matters.
    Hot,
    /// Metadata, admin.
    Control,
    /// Drain, retention, scrub.
    Background,
}

/// Handles of the queues of the core that made them.
#[derive(Clone, Copy, Debug)]
pub struct Queues {
    hot: TaskQueueHandle,
    control: TaskQueueHandle,
    background: TaskQueueHandle,
}

impl Queues {
    /// Makes the queues of the core that calls it; once per core.
    pub fn create() -> Queues {
        let executor = glommio::executor();
        Queues {
            hot: executor.create_task_queue(Shares::Static(HOT_SHARES), Latency::Matters(HOT_LATENCY), "hot"),
            control: executor.create_task_queue(
                Shares::Static(CONTROL_SHARES),
                Latency::NotImportant,
                "control",
            ),
            background: executor.create_task_queue(
                Shares::Static(BACKGROUND_SHARES),
                Latency::NotImportant,
                "background",
            ),
        }
    }

    /// Starts a task that nobody waits for.
    pub fn spawn(&self, queue: Queue, task: impl Future<Output = ()> + 'static) {
        let handle = match queue {
            Queue::Hot => self.hot,
            Queue::Control => self.control,
            Queue::Background => self.background,
        };
        glommio::spawn_local_into(task, handle).expect("the queue lives as long as its core").detach();
    }
}
