//! Owns the driver of one core: runs its jobs, passes on what the disk says, keeps its clock, and hands out its events.
//!
//! Everything that goes into the driver goes through [`Runner::with`], which afterwards starts the jobs and hands out the events
//! that came of it, and wakes the connections. A [`Runner`] belongs to its core; clones share it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future;
use heddle_log_store::{Disk, LogId};
use heddle_net::socket::{pause, spawn};
use heddle_replication_driver::{Driver, Event, Frame, JobError, Options, Peer, Room};

use crate::session::Replicas;
use crate::signal::{Bell, Signal};
use crate::wire::PAYLOAD_BYTES_MAX;

/// What the rest of the node does about a driver.
pub trait Observer: 'static {
    /// Something that it has to know. It may use the runner.
    fn event(&self, event: Event);

    /// A job failed in a way that ends the process.
    fn failed(&self, error: JobError);
}

/// See the module.
pub struct Runner<D: Disk + 'static>(Rc<Inner<D>>);

struct Inner<D: Disk> {
    driver: RefCell<Driver<D>>,
    observer: Rc<dyn Observer>,
    began: Instant,
    tick_every: Duration,
    bell: Bell,
    /// Logs of which more is durable than the driver knows.
    durable: RefCell<Vec<LogId>>,
    wake: Signal,
    is_stopped: Cell<bool>,
}

impl<D: Disk + 'static> Clone for Runner<D> {
    fn clone(&self) -> Self {
        Runner(self.0.clone())
    }
}

impl<D: Disk + 'static> Runner<D> {
    /// Owns a driver whose options are these. Its clock begins now.
    ///
    /// # Panics
    /// If a frame of the streams may be larger than frames may be.
    pub fn new(
        driver: Driver<D>,
        options: Options,
        tick_every: Duration,
        observer: Rc<dyn Observer>,
    ) -> Self {
        assert!(options.stream.frame_bytes_max <= PAYLOAD_BYTES_MAX, "{options:?}");
        Runner(Rc::new(Inner {
            driver: RefCell::new(driver),
            observer,
            began: Instant::now(),
            tick_every,
            bell: Bell::default(),
            durable: RefCell::default(),
            wake: Signal::default(),
            is_stopped: Cell::new(false),
        }))
    }

    /// The driver's clock.
    pub fn now(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Puts something into the driver. `act` must not use the runner.
    pub fn with<T>(&self, act: impl FnOnce(&mut Driver<D>, Duration) -> T) -> T {
        let now = self.now();
        let result = act(&mut self.0.driver.borrow_mut(), now);
        self.turn();
        result
    }

    /// Looks at the driver.
    pub fn look<T>(&self, look: impl FnOnce(&Driver<D>) -> T) -> T {
        look(&self.0.driver.borrow())
    }

    /// The log store says that more of a log is durable. May be called at any time, from within the driver too.
    pub fn durable(&self, log: LogId) {
        let mut durable = self.0.durable.borrow_mut();
        if durable.last() != Some(&log) {
            durable.push(log);
        }
        drop(durable);
        self.0.wake.raise();
    }

    /// The log store has more room than before: peers that wait for it may go on.
    pub fn room_freed(&self) {
        if self.look(Driver::room) != Room::None {
            self.0.bell.ring();
        }
    }

    /// Keeps the clock and passes on what the disk says, until [`Self::stop`].
    pub async fn run(&self) {
        let mut tick_at = self.now();
        while !self.0.is_stopped.get() {
            let logs = self.0.durable.take();
            let now = self.now();
            let is_tick = now >= tick_at;
            if is_tick {
                tick_at = now + self.0.tick_every;
            }
            self.with(|driver, now| {
                logs.into_iter().for_each(|log| driver.durable(now, log));
                if is_tick {
                    driver.tick(now);
                }
            });
            // What was due before has been rung for; a peer that is not connected leaves it due.
            let due = self.look(|driver| driver.next_wake()).filter(|at| *at > now);
            let wake_at = due.map_or(tick_at, |at| at.min(tick_at));
            let rest = wake_at.saturating_sub(self.now()).max(Duration::from_millis(1));
            future::or(self.0.wake.wait(), pause(rest)).await;
        }
    }

    /// Ends [`Self::run`]. Connections are ended by [`crate::Peers::stop`].
    pub fn stop(&self) {
        self.0.is_stopped.set(true);
        self.0.wake.raise();
    }

    fn turn(&self) {
        self.start_jobs();
        let events = self.0.driver.borrow_mut().events();
        for event in events {
            self.0.observer.event(event);
        }
        self.0.bell.ring();
    }

    fn start_jobs(&self) {
        let jobs = self.0.driver.borrow_mut().jobs();
        for job in jobs {
            let runner = self.clone();
            spawn(async move {
                match job.run().await {
                    Ok(done) => runner.with(|driver, now| driver.done(now, done)),
                    Err(error) => runner.0.observer.failed(error),
                }
            });
        }
    }
}

impl<D: Disk + 'static> Replicas for Runner<D> {
    fn receive(&self, from: Peer, frame: Frame) {
        self.with(|driver, now| driver.receive(now, from, frame));
    }

    fn connected(&self, peer: Peer) {
        self.with(|driver, now| driver.connected(now, peer));
    }

    fn flush(&self, peer: Peer) -> Option<Frame> {
        let now = self.now();
        let frame = self.0.driver.borrow_mut().flush_to(now, peer);
        self.start_jobs();
        frame
    }

    fn bell(&self) -> &Bell {
        &self.0.bell
    }
}
