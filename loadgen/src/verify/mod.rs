//! `heddle-loadgen verify`: every acknowledged record is read back once and in order, however often the broker is killed.

pub mod broker;
pub mod history;
mod load;
mod record;
pub mod wal_tail;

use crate::cli::VerifyArgs;
use crate::runtime;
use crate::target::TopicPlan;
use broker::Broker;
use glommio::Placement;
use history::{Finding, Outcome, Problem};
use load::{LoadOutcome, LoadPlan, Phase, Progress};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Findings listed one by one; the rest is only counted.
const LISTED_MAX: usize = 100;
/// Longest start that an early kill waits through.
const EARLY_LIFE_MAX: Duration = Duration::from_millis(300);
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Time for the clients to take in what a killed broker had still sent.
const LAST_ANSWERS: Duration = Duration::from_millis(10);
/// How long a broker may take to end when asked to.
const TERMINATE_MAX: Duration = Duration::from_secs(20);

/// The outcome of a verification.
#[derive(Debug, Default, Serialize)]
pub struct VerifySummary {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Kills under load; one more follows at rest, before the final reading.
    pub kills: u32,
    /// Of these, kills before the broker had acknowledged anything.
    pub early_kills: u32,
    /// Logs damaged at their tail, by kind of damage.
    pub damaged_tails: BTreeMap<String, u64>,
    /// Records sent.
    pub sent: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records whose fate no answer told; they may be there or not.
    pub unknown: u64,
    /// Records there in the end.
    pub found: u64,
    /// Records that consumers saw while brokers came and went.
    pub seen: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// There more than once.
    pub duplicated: u64,
    /// Behind a record that was sent after them.
    pub reordered: u64,
    /// All problems by kind.
    pub problems: BTreeMap<&'static str, u64>,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// From the start of a process to its first acknowledgement: median, in milliseconds.
    pub ready_ms_p50: f64,
    /// The longest.
    pub ready_ms_max: f64,
    /// Failed requests by kind: expected, as brokers are killed.
    pub failures: BTreeMap<String, u64>,
    /// Whether the last broker ended with status 0 when asked to.
    pub clean_shutdown: bool,
    /// Seed to run it again.
    pub seed: u64,
    /// What the brokers printed.
    pub broker_log: String,
    /// Seconds it took.
    pub seconds: f64,
}

/// Runs the command; `true` if nothing is wrong.
pub fn command(args: &VerifyArgs) -> Result<bool, String> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let summary = verify(args, seed)?;
    if args.json {
        println!("{}", simd_json::to_string(&summary).map_err(|e| e.to_string())?);
    } else {
        print!("{}", to_text(&summary));
    }
    Ok(summary.ok)
}

/// Kills, restarts and checks as `args` say.
pub fn verify(args: &VerifyArgs, seed: u64) -> Result<VerifySummary, String> {
    check_args(args)?;
    let begun = Instant::now();
    let log = args.broker_log.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("heddle-verify-{}-{seed:016x}.log", std::process::id()))
    });
    let broker = Broker::new(&args.serve, log.clone())?;
    let progress = Arc::new(Progress::default());
    let (sender, receiver) = channel();
    let (plan, clients_progress) = (load_plan(args, seed), Arc::clone(&progress));
    let summary = VerifySummary { seed, broker_log: log.display().to_string(), ..VerifySummary::default() };
    let mut run = Run {
        args,
        rng: fastrand::Rng::with_seed(seed),
        broker,
        progress,
        receiver,
        ready: Vec::new(),
        acked_before: 0,
        summary,
    };
    run.broker.start()?;
    let clients =
        runtime::spawn("verify".to_owned(), Placement::Unbound, Duration::ZERO, move || async move {
            // Nobody listens any more only when the verification has failed already.
            let _ = sender.send(load::run(plan, clients_progress).await);
        })?;
    let outcome = run.all().inspect_err(|_| {
        run.progress.enter(Phase::Read);
    })?;
    clients.join().map_err(|_| "the clients panicked".to_owned())??;
    let mut summary = conclude(run, outcome);
    summary.seconds = begun.elapsed().as_secs_f64();
    Ok(summary)
}

fn check_args(args: &VerifyArgs) -> Result<(), String> {
    let bytes_max = heddle_proto::limits::BATCH_BYTES_MAX / 16;
    if args.partitions == 0 || args.producers == 0 || args.in_flight_max == 0 {
        return Err("--partitions, --producers and --in-flight-max are at least 1".to_owned());
    }
    if args.record_bytes_max > bytes_max || args.batch_bytes_max > 8 * bytes_max {
        return Err(format!(
            "--record-bytes-max ends at {bytes_max}, --batch-bytes-max at {}",
            8 * bytes_max
        ));
    }
    if args.life_min > args.life_max {
        return Err("--life-min is above --life-max".to_owned());
    }
    Ok(())
}

fn load_plan(args: &VerifyArgs, seed: u64) -> LoadPlan {
    let now = crate::clock::Clock::start().now();
    let topic = args.topic.clone().unwrap_or_else(|| format!("verify-{:x}", now.get() / 1000));
    LoadPlan {
        target: args.target.clone(),
        topic: TopicPlan {
            names: vec![topic],
            partition_count: args.partitions,
            replication_factor: args.replication_factor,
            configs: args.configs.clone(),
        },
        producers: args.producers,
        in_flight_max: args.in_flight_max,
        record_bytes_max: args.record_bytes_max,
        batch_bytes_max: args.batch_bytes_max,
        rate: args.rate,
        run: now.get(),
        seed,
        ready_max: args.ready_max,
    }
}

struct Run<'a> {
    args: &'a VerifyArgs,
    rng: fastrand::Rng,
    broker: Broker,
    progress: Arc<Progress>,
    receiver: Receiver<Result<LoadOutcome, String>>,
    /// From each start to the first acknowledgement.
    ready: Vec<Duration>,
    /// Records acknowledged before the last start.
    acked_before: u64,
    summary: VerifySummary,
}

impl Run<'_> {
    fn all(&mut self) -> Result<LoadOutcome, String> {
        let mut started = Instant::now();
        self.wait_ready(started)?;
        for kill in 0..self.args.kills {
            if kill > 0 && self.rng.f64() < self.args.early_kills {
                let life = EARLY_LIFE_MAX.mul_f64(self.rng.f64());
                self.let_live(life)?;
                self.summary.early_kills += 1;
            } else {
                if kill > 0 {
                    self.wait_ready(started)?;
                }
                let spread = self.args.life_max - self.args.life_min;
                let life = self.args.life_min + spread.mul_f64(self.rng.f64());
                self.let_live(life)?;
            }
            self.restart()?;
            started = Instant::now();
            self.summary.kills += 1;
            self.show();
        }
        if self.args.kills > 0 {
            self.wait_ready(started)?;
            self.let_live(self.args.life_min)?;
        }
        self.progress.enter(Phase::Stop);
        self.wait_for(|run| run.progress.has_reached(Phase::Rested), "the clients come to rest")?;
        self.restart()?;
        self.progress.enter(Phase::Read);
        let outcome = self.wait_outcome()?;
        self.summary.clean_shutdown =
            self.broker.terminate(TERMINATE_MAX).is_some_and(|status| status.success());
        Ok(outcome)
    }

    /// Kills the broker, damages its log if that is wanted, and starts the next.
    fn restart(&mut self) -> Result<(), String> {
        self.check_alive()?;
        self.broker.kill()?;
        thread::sleep(LAST_ANSWERS);
        self.acked_before = self.progress.acked.load(Ordering::Acquire);
        if let Some(dir) = &self.args.corrupt_tail {
            let damaged = wal_tail::damage_tails(dir, &mut self.rng)
                .map_err(|e| format!("damaging the log under {}: {e}", dir.display()))?;
            for damage in damaged {
                *self.summary.damaged_tails.entry(format!("{damage:?}").to_lowercase()).or_default() += 1;
            }
        }
        self.broker.start()
    }

    /// Waits until the broker started at `started` has acknowledged a record.
    fn wait_ready(&mut self, started: Instant) -> Result<(), String> {
        let is_ready = |run: &Self| run.progress.acked.load(Ordering::Acquire) > run.acked_before;
        self.wait_for(is_ready, "the broker acknowledges")?;
        self.ready.push(started.elapsed());
        Ok(())
    }

    fn let_live(&mut self, life: Duration) -> Result<(), String> {
        let until = Instant::now() + life;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.check_alive()?;
            thread::sleep(left.min(Duration::from_millis(20)));
        }
        Ok(())
    }

    fn wait_for(&mut self, done: impl Fn(&Self) -> bool, what: &str) -> Result<(), String> {
        let begun = Instant::now();
        while !done(self) {
            self.check_alive()?;
            if let Ok(early) = self.receiver.try_recv() {
                return Err(early.err().unwrap_or_else(|| "the clients ended early".to_owned()));
            }
            if begun.elapsed() > self.args.ready_max {
                return Err(format!(
                    "waited {:?} until {what}, in vain (start {}; broker log: {})",
                    self.args.ready_max,
                    self.broker.start_count(),
                    self.summary.broker_log
                ));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// The clients bound their own patience, so this ends.
    fn wait_outcome(&mut self) -> Result<LoadOutcome, String> {
        loop {
            self.check_alive()?;
            match self.receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(outcome) => return outcome,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    return Err("the clients ended early".to_owned());
                }
            }
        }
    }

    fn check_alive(&mut self) -> Result<(), String> {
        match self.broker.ended() {
            Some(status) => Err(format!(
                "the broker ended by itself with {status} (start {}; it said: {})",
                self.broker.start_count(),
                last_line(&self.summary.broker_log)
            )),
            None => Ok(()),
        }
    }

    fn show(&self) {
        if std::io::stderr().is_terminal() {
            let acked = self.progress.acked.load(Ordering::Relaxed);
            eprint!("\r\x1b[Kkill {}/{}  {acked} acknowledged", self.summary.kills, self.args.kills);
            if self.summary.kills == self.args.kills {
                eprintln!();
            }
        }
    }
}

fn last_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned()
}

/// Compares and counts.
fn conclude(run: Run<'_>, outcome: LoadOutcome) -> VerifySummary {
    let mut summary = run.summary;
    let mut findings = outcome.unreadable;
    for ((partition, history), found) in (0u32..).zip(&outcome.histories).zip(&outcome.found) {
        findings.extend(history::check(partition, history, found));
        let outcomes = history.sent.iter().flatten();
        summary.sent += outcomes.clone().count() as u64;
        summary.acked += outcomes.filter(|outcome| matches!(outcome, Outcome::Acked(_))).count() as u64;
        summary.found += found.len() as u64;
        summary.seen += history.seen.len() as u64;
    }
    summary.unknown = summary.sent - summary.acked;
    summary.count(findings);
    summary.failures = outcome.failures.iter().map(|(kind, count)| (kind.to_string(), *count)).collect();
    let mut ready: Vec<f64> = run.ready.iter().map(|d| d.as_secs_f64() * 1000.0).collect();
    ready.sort_by(f64::total_cmp);
    summary.ready_ms_p50 = crate::histogram::round(ready.get(ready.len() / 2).copied().unwrap_or_default());
    summary.ready_ms_max = crate::histogram::round(ready.last().copied().unwrap_or_default());
    // What was asked for and did not happen proves nothing.
    let is_damage_missing = run.args.corrupt_tail.is_some() && summary.damaged_tails.is_empty();
    summary.ok = summary.problems.is_empty() && summary.acked > 0 && !is_damage_missing;
    summary
}

impl VerifySummary {
    fn count(&mut self, findings: Vec<Finding>) {
        for finding in &findings {
            *self.problems.entry(finding.problem.name()).or_default() += 1;
        }
        let of = |problem: Problem| self.problems.get(problem.name()).copied().unwrap_or_default();
        (self.lost, self.duplicated, self.reordered) =
            (of(Problem::Lost), of(Problem::Duplicated), of(Problem::Reordered));
        self.findings = findings;
        self.findings.truncate(LISTED_MAX);
    }
}

fn to_text(summary: &VerifySummary) -> String {
    let s = summary;
    let mut text = format!(
        "{}: {} kills ({} while starting), {} records acknowledged, {} of unknown fate, {} found, {} seen by consumers\n",
        if s.ok { "ok" } else { "WRONG" },
        s.kills,
        s.early_kills,
        s.acked,
        s.unknown,
        s.found,
        s.seen
    );
    text += &format!("  lost {}  duplicated {}  reordered {}\n", s.lost, s.duplicated, s.reordered);
    for (problem, count) in &s.problems {
        text += &format!("  {problem}: {count}\n");
    }
    for finding in &s.findings {
        let name = |part: Option<u64>| part.map_or_else(|| "?".to_owned(), |n| n.to_string());
        text += &format!(
            "    {}: partition {}, producer {}, sequence {}, offset {}: {}\n",
            finding.problem.name(),
            finding.partition,
            name(finding.producer.map(u64::from)),
            name(finding.sequence),
            finding.offset.map_or_else(|| "?".to_owned(), |o| o.to_string()),
            finding.detail
        );
    }
    if !s.damaged_tails.is_empty() {
        text += &format!("  damaged tails: {:?}\n", s.damaged_tails);
    }
    text += &format!(
        "  ready after {:.0} ms (median), {:.0} ms (longest); clean shutdown: {}; seed {}; broker log {}\n",
        s.ready_ms_p50, s.ready_ms_max, s.clean_shutdown, s.seed, s.broker_log
    );
    text
}
