//! What the tasks of one generator thread share, and how it reports to the main thread.

use super::config::RunConfig;
use crate::batch_pool::BatchPool;
use crate::clock::{Clock, Nanos};
use crate::links::Metadata;
use crate::stats::{Interval, Recorder, Window};
use crate::target::Layout;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

/// What a generator thread tells the main thread.
pub enum Message {
    /// Connected, and waiting for the start.
    Ready,
    /// What was measured in second `index` of the run.
    Interval {
        /// Seconds since the start.
        index: u64,
        /// The measurements.
        interval: Box<Interval>,
    },
    /// A consumer has read all it was asked to.
    ConsumerDone,
    /// It cannot go on.
    Failed(String),
    /// It is done; nothing follows.
    Finished,
}

/// Tells every thread when to start. Zero: not yet.
#[derive(Clone, Default)]
pub struct StartGate(Arc<AtomicU64>);

impl StartGate {
    /// Opens the gate: the run starts at `at`.
    pub fn open(&self, at: Nanos) {
        self.0.store(at.get(), Ordering::Release);
    }

    /// Waits for the gate, not for the start.
    async fn wait(&self) -> Nanos {
        loop {
            match self.0.load(Ordering::Acquire) {
                0 => glommio::timer::sleep(Duration::from_millis(1)).await,
                at => return Nanos::new(at),
            }
        }
    }
}

/// Asks every thread to end early.
#[derive(Clone, Default)]
pub struct StopFlag(Arc<AtomicU64>);

impl StopFlag {
    /// Asks to stop.
    pub fn raise(&self) {
        self.0.store(1, Ordering::Release);
    }

    /// Whether to stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }
}

/// Everything a generator thread is made of.
pub struct ThreadPlan {
    /// The run.
    pub config: Arc<RunConfig>,
    /// Index among the generator threads.
    pub index: usize,
    /// How many there are.
    pub thread_count: usize,
    /// Tells records of this run.
    pub run_tag: u32,
    /// Shared clock.
    pub clock: Clock,
    /// Where the partitions were at the start.
    pub layout: Layout,
    /// Opens at the start.
    pub gate: StartGate,
    /// Raised to end early.
    pub stop: StopFlag,
    /// To the main thread.
    pub sender: Sender<Message>,
}

/// Shared by the tasks of a thread once the run has a start.
pub struct Thread {
    /// The run.
    pub config: Arc<RunConfig>,
    /// Tells records of this run.
    pub run_tag: u32,
    /// Shared clock.
    pub clock: Clock,
    /// When the run began, warm-up included.
    pub start: Nanos,
    /// What is measured.
    pub window: Window,
    /// Measurements.
    pub recorder: RefCell<Recorder>,
    /// Batches.
    pub pool: RefCell<BatchPool>,
    /// The cluster.
    pub metadata: Rc<Metadata>,
    /// Raised to end early.
    pub stop: StopFlag,
    /// To the main thread.
    pub sender: Sender<Message>,
    /// Tasks that still run.
    pub active: Cell<usize>,
}

impl Thread {
    /// Waits for the gate and makes the state of the run.
    pub async fn at_gate(plan: ThreadPlan, metadata: Rc<Metadata>) -> Rc<Self> {
        let start = plan.gate.wait().await;
        let config = plan.config;
        let from = start.plus(config.warmup);
        let window = Window { from, to: from.plus(config.duration) };
        Rc::new(Self {
            run_tag: plan.run_tag,
            clock: plan.clock,
            start,
            window,
            recorder: RefCell::new(Recorder::new(window)),
            pool: RefCell::new(BatchPool::new(config.payload_shape(plan.index))),
            metadata,
            stop: plan.stop,
            sender: plan.sender,
            active: Cell::new(0),
            config,
        })
    }

    /// Sleeps until `until`, to the microsecond if the executor spins: it sleeps through most of the time, and then once
    /// more for what it polls through instead of sleeping.
    pub async fn pace(&self, until: Nanos) {
        let spin = Duration::from_micros(self.config.spin_us);
        let left = until.left(self.clock.now());
        if left > spin * 2 {
            glommio::timer::sleep(left - spin).await;
        }
        let left = until.left(self.clock.now());
        if !left.is_zero() {
            glommio::timer::sleep(left).await;
        }
    }

    /// Sends what was measured so far as second `index`.
    pub fn report(&self, index: u64) {
        let interval = self.recorder.borrow_mut().take();
        // The main thread is gone only when the process ends.
        let _ = self.sender.send(Message::Interval { index, interval });
    }
}
