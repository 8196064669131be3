//! The simulator by command: one seed, many seeds, or the same seed twice.
//!
//! `cargo run --release -p heddle-sim -- one SEED | many COUNT [FIRST] | twice SEED`

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use heddle_sim::{Outcome, Plan, run};

thread_local! {
    /// What this thread runs, for a panic to name.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

fn main() -> ExitCode {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(seed) = SEED.get() {
            eprintln!("seed {seed} panics");
        }
        report(panic);
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: Option<u64>| {
        arguments.get(index).map_or(default, |text: &String| text.parse::<u64>().ok())
    };
    let good = match (arguments.first().map(String::as_str), number(1, None), number(2, Some(0))) {
        (Some("one"), Some(seed), _) => one(seed),
        (Some("many"), Some(count), Some(first)) => many(count, first),
        (Some("twice"), Some(seed), _) => twice(seed),
        _ => {
            eprintln!("usage: heddle-sim one SEED | many COUNT [FIRST] | twice SEED");
            false
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_seed(seed: u64, follow: bool) -> Outcome {
    SEED.set(Some(seed));
    run(&Plan { follow, ..Plan::new(seed) })
}

fn one(seed: u64) -> bool {
    println!("seed {seed}: {:?}", Plan::new(seed));
    let outcome = run_seed(seed, true);
    let mut total = Total::default();
    total.take(seed, &outcome);
    println!("{total}, trace {:016x}", outcome.trace);
    outcome.findings.is_empty()
}

fn twice(seed: u64) -> bool {
    let traces = [run_seed(seed, false).trace, run_seed(seed, false).trace];
    println!("seed {seed}: {:016x} {:016x}", traces[0], traces[1]);
    traces[0] == traces[1]
}

/// What many runs come to.
#[derive(Default)]
struct Total {
    seeds: u64,
    failed: Vec<u64>,
    acked_batches: usize,
    faults: u64,
    harmed_frames: u64,
    elapsed: Duration,
}

impl Total {
    fn take(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        self.acked_batches += outcome.acked_count;
        self.faults += outcome.fault_count;
        self.harmed_frames += outcome.harmed_frame_count;
        self.elapsed += outcome.elapsed;
        if !outcome.findings.is_empty() {
            self.failed.push(seed);
        }
        outcome.findings.iter().for_each(|finding| println!("seed {seed}: {finding:?}"));
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} seeds, {} failed {:?}; {} batches acknowledged, {} faults, {} frames lost or doubled, {:.0} s of virtual time",
            self.seeds,
            self.failed.len(),
            self.failed,
            self.acked_batches,
            self.faults,
            self.harmed_frames,
            self.elapsed.as_secs_f64()
        )
    }
}

/// Runs `count` seeds from `first` on, as many at a time as there are processors.
fn many(count: u64, first: u64) -> bool {
    let (begun, next) = (Instant::now(), AtomicU64::new(0));
    let (mut total, mut progress) = (Total::default(), Progress::new(count));
    std::thread::scope(|scope| {
        let (sender, outcomes) = mpsc::channel();
        for _ in 0..std::thread::available_parallelism().map_or(1, |workers| workers.get()) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = first + next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || sender.send((seed, run_seed(seed, false))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (seed, outcome) in outcomes {
            total.take(seed, &outcome);
            progress.tell(&total);
        }
    });
    total.failed.sort_unstable();
    println!("{total} in {:.0} s", begun.elapsed().as_secs_f64());
    total.failed.is_empty()
}

/// Says how far it is: each second on a terminal, each minute elsewhere.
struct Progress {
    count: u64,
    every: Duration,
    told: Instant,
    end: char,
}

impl Progress {
    fn new(count: u64) -> Progress {
        let (every, end) = if std::io::stdout().is_terminal() { (1, '\r') } else { (60, '\n') };
        Progress { count, every: Duration::from_secs(every), told: Instant::now(), end }
    }

    fn tell(&mut self, total: &Total) {
        if self.told.elapsed() < self.every {
            return;
        }
        self.told = Instant::now();
        print!("{} of {} seeds, {} failed{}", total.seeds, self.count, total.failed.len(), self.end);
        drop(std::io::stdout().flush());
    }
}
