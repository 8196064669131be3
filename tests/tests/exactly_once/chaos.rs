//! What goes wrong: workers are killed, leave, are replaced while they live; the broker is killed.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use heddle_tests::broker::Broker;
use heddle_tests::wait::HANG;

use crate::worker::{Arguments, FENCED};

/// Workers that are meant to be there.
const WORKERS: usize = 3;
/// Between two faults.
const PAUSE_MS: std::ops::Range<u64> = 400..1800;

#[derive(Copy, Clone, Debug)]
enum Fault {
    KillWorker,
    StopWorker,
    Replace,
    KillBroker,
    RestartBroker,
}

/// Each once first, so that a short run has them all.
const FAULTS: [Fault; 5] =
    [Fault::KillWorker, Fault::Replace, Fault::KillBroker, Fault::StopWorker, Fault::RestartBroker];

/// The workers, and what was done to them.
pub struct Chaos {
    bootstrap: String,
    seed: u64,
    workers: Vec<Child>,
    /// Workers whose transactional id another one has taken; they may not know yet.
    replaced: Vec<Child>,
    fenced: u32,
    times: [u32; FAULTS.len()],
    steps: usize,
}

impl Chaos {
    /// Starts the workers.
    pub fn new(broker: &Broker, seed: u64) -> Chaos {
        let bootstrap = broker.bootstrap();
        let workers = (0..WORKERS).map(|slot| start(&bootstrap, slot)).collect();
        Chaos { bootstrap, seed, workers, replaced: Vec::new(), fenced: 0, times: [0; 5], steps: 0 }
    }

    /// Waits a little, then breaks something.
    pub fn step(&mut self, broker: &mut Broker) {
        let pause = PAUSE_MS.start + self.random() % (PAUSE_MS.end - PAUSE_MS.start);
        std::thread::sleep(Duration::from_millis(pause));
        self.look_after();
        let at = match self.steps {
            step if step < FAULTS.len() => step,
            // A broker that comes and goes all the time lets nobody work.
            _ => [0, 0, 0, 1, 1, 1, 3, 3, 2, 4][(self.random() % 10) as usize],
        };
        self.steps += 1;
        self.times[at] += 1;
        let slot = (self.random() % WORKERS as u64) as usize;
        match FAULTS[at] {
            Fault::KillWorker => {
                end(&mut self.workers[slot]);
                self.workers[slot] = start(&self.bootstrap, slot);
            }
            Fault::StopWorker => {
                stop(&mut self.workers[slot]);
                self.workers[slot] = start(&self.bootstrap, slot);
            }
            Fault::Replace => {
                let next = start(&self.bootstrap, slot);
                self.replaced.push(std::mem::replace(&mut self.workers[slot], next));
            }
            Fault::KillBroker => {
                broker.kill();
                broker.restart();
            }
            Fault::RestartBroker => {
                broker.terminate();
                broker.restart();
            }
        }
    }

    /// Replaced workers that noticed are counted; a worker that was itself replaced by one of those is started again.
    fn look_after(&mut self) {
        let mut still = Vec::new();
        for mut worker in std::mem::take(&mut self.replaced) {
            match worker.try_wait().expect("a child can be waited for") {
                Some(status) if status.code() == Some(FENCED) => self.fenced += 1,
                Some(status) => panic!("a worker ended with {status}"),
                None => still.push(worker),
            }
        }
        // One zombie at a time for each worker is enough.
        while still.len() > WORKERS {
            end(&mut still.remove(0));
        }
        self.replaced = still;
        for slot in 0..WORKERS {
            if let Some(status) = self.workers[slot].try_wait().expect("a child can be waited for") {
                // A zombie that had failed for another reason began anew, and fenced its successor.
                assert_eq!(status.code(), Some(FENCED), "a worker ended with {status}");
                self.fenced += 1;
                self.workers[slot] = start(&self.bootstrap, slot);
            }
        }
    }

    /// No more faults: one worker for each transactional id.
    pub fn calm(&mut self) {
        self.replaced.iter_mut().for_each(end);
        self.replaced.clear();
        self.look_after();
    }

    /// Ends all workers.
    pub fn stop(&mut self) {
        self.workers.iter_mut().for_each(stop);
        self.workers.clear();
    }

    /// What was done.
    pub fn summary(&self) -> String {
        let times: Vec<String> =
            FAULTS.iter().zip(self.times).map(|(fault, times)| format!("{fault:?} {times}")).collect();
        format!("{}, fenced {}", times.join(", "), self.fenced)
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.workers.iter_mut().chain(&mut self.replaced).for_each(end);
    }
}

fn start(bootstrap: &str, slot: usize) -> Child {
    let id = format!("worker-{slot}");
    Command::new(std::env::current_exe().expect("this binary has a path"))
        .args(["--exact", "worker_process", "--nocapture"])
        .envs(Arguments::to_environment(bootstrap, &id))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a worker starts")
}

/// Kills one.
fn end(worker: &mut Child) {
    // It may have ended by itself.
    let _ = worker.kill();
    worker.wait().expect("a child can be waited for");
}

/// Asks one to leave the group and end.
fn stop(worker: &mut Child) {
    drop(worker.stdin.take());
    let deadline = Instant::now() + HANG;
    while Instant::now() < deadline {
        if let Some(status) = worker.try_wait().expect("a child can be waited for") {
            let is_well = matches!(status.code(), Some(0 | FENCED));
            assert!(is_well, "a worker that was to leave ended with {status}");
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    end(worker);
    panic!("a worker that was to leave did not end");
}
