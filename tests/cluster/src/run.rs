//! A whole run: cluster, load, faults one after the other, the end, the check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::availability::{self, Acks, Window};
use crate::checker::{self, Anomaly};
use crate::cluster::{Cluster, ClusterOptions};
use crate::ends::Ends;
use crate::error::Result;
use crate::fault::{self, Fault, Kind};
use crate::history::{Ending, Isolation, Reading};
use crate::inject::{Done, check_possible, inject};
use crate::load::{Load, LoadOptions};
use crate::network::{self, Network};
use crate::readers::{self, Brought};
use crate::report::{FaultReport, Report};
use crate::watchdog::Watchdog;
use crate::{kafka_writer, native, transactions};

/// Anomalies of one kind told one by one; more are counted.
const TOLD_MAX: usize = 5;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a run does.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Chooses the faults.
    pub seed: u64,
    /// How many.
    pub fault_count: usize,
    /// Which kinds may come.
    pub kinds: Vec<Kind>,
    /// The cluster.
    pub cluster: ClusterOptions,
    /// The load; its addresses are those of the cluster.
    pub load: LoadOptions,
    /// Time between a recovery and the next fault, in which the usual gaps are measured.
    pub quiet: Duration,
    /// How long a recovery may take.
    pub recovery_max: Duration,
    /// Whether the folder stays after a good run too. After a bad one it always does.
    pub keep: bool,
    /// Where the table goes, line by line.
    pub table: Option<PathBuf>,
}

/// Runs.
///
/// # Errors
/// What keeps the harness itself from working. What the cluster does wrong is in the report.
pub fn run(options: &RunOptions) -> Result<Report> {
    network::check_allowed()?;
    options.kinds.iter().try_for_each(|kind| check_possible(*kind, options.cluster.peers))?;
    // Names of links are short, and a pid is unique while we run.
    let prefix = format!("hdl{}", std::process::id());
    fs::create_dir_all(&options.cluster.dir).map_err(|source| crate::error::HarnessError::Io {
        what: format!("creating {}", options.cluster.dir.display()),
        source,
    })?;
    // Dropped last: it removes what the others stand on.
    let mut watchdog = Watchdog::start(&prefix, &options.cluster.dir)?;
    let cluster = Cluster::start_in(Network::create(&prefix)?, options.cluster.clone())?;
    let report = Run::begin(options, cluster)?.complete()?;
    if report.is_good() && !options.keep {
        watchdog.remove_folder();
    }
    Ok(report)
}

struct Run<'a> {
    options: &'a RunOptions,
    cluster: Cluster,
    load: Arc<Load>,
    ends: Arc<Ends>,
    writers: Vec<(String, JoinHandle<()>)>,
    readers: Vec<JoinHandle<std::result::Result<Brought, String>>>,
    report: Report,
}

impl Run<'_> {
    /// Creates the topic and starts writers and readers.
    fn begin(options: &RunOptions, cluster: Cluster) -> Result<Run<'_>> {
        let mut load = options.load.clone();
        load.bootstrap = cluster.bootstrap();
        let copies = if cluster.has_peers() { 3.min(cluster.nodes.len()) } else { 1 };
        let quorum = 2.min(copies).to_string();
        cluster.create_topic(
            &load.topic,
            load.partition_count as i32,
            copies as i32,
            &[
                ("min.insync.replicas", &quorum),
                ("durability", "fsync"),
                ("retention.ms", "-1"),
                // Small, so that there are closed ones soon.
                ("segment.bytes", "1048576"),
            ],
        )?;
        let load = Arc::new(Load::new(load));
        let mut run = Run {
            options,
            cluster,
            load,
            ends: Arc::default(),
            writers: Vec::new(),
            readers: Vec::new(),
            report: Report::default(),
        };
        run.start_writers();
        run.start_readers("live");
        Ok(run)
    }

    fn start_writers(&mut self) {
        for number in 0..self.load.options.kafka_writers {
            let load = self.load.clone();
            let thread = std::thread::spawn(move || kafka_writer::run(&load));
            self.writers.push((format!("kafka writer {number}"), thread));
        }
        if self.load.options.transactions {
            let (load, seed) = (self.load.clone(), self.options.seed);
            let thread = std::thread::spawn(move || transactions::run(&load, seed));
            self.writers.push(("transactional writer".to_owned(), thread));
        }
        if self.load.options.native {
            let load = self.load.clone();
            let thread = std::thread::spawn(move || native::write(&load));
            self.writers.push(("native writers".to_owned(), thread));
        }
    }

    fn start_readers(&mut self, when: &str) {
        for isolation in [Isolation::Committed, Isolation::Uncommitted] {
            let (load, ends) = (self.load.clone(), self.ends.clone());
            let name = format!("{when} kafka reader ({isolation:?})");
            self.readers.push(std::thread::spawn(move || {
                readers::run(&load, &ends, &name, isolation).map_err(|error| format!("{name}: {error}"))
            }));
        }
        let (load, ends) = (self.load.clone(), self.ends.clone());
        let name = format!("{when} native reader");
        self.readers.push(std::thread::spawn(move || Ok(native::read(&load, &ends, &name))));
    }

    fn complete(mut self) -> Result<Report> {
        let faults = fault::plan(self.options.seed, self.options.fault_count, &self.options.kinds);
        let mut quiet_since = self.load.now();
        for (number, fault) in (1..).zip(&faults) {
            std::thread::sleep(self.options.quiet);
            let quiet = Window { begin: quiet_since, end: self.load.now() };
            self.one_fault(number, fault, quiet)?;
            quiet_since = self.load.now();
        }
        std::thread::sleep(self.options.quiet);
        self.finish();
        Ok(self.report)
    }

    fn one_fault(&mut self, number: usize, fault: &Fault, quiet: Window) -> Result<()> {
        eprintln!("fault {number}: {} ...", fault.kind);
        let begun = self.load.now();
        let topic = self.load.options.topic.clone();
        let Done { target, findings } = inject(&mut self.cluster, &topic, fault)?;
        let healed = self.load.now();
        let recovered = self.wait_recovered(healed);
        let window = Window { begin: begun, end: self.load.now() };
        let history = self.load.history();
        let report = FaultReport {
            kind: fault.kind,
            target,
            begun,
            healed,
            recovered,
            outages: Acks::of(&history, self.load.options.partition_count).outages(quiet, window),
            errors: availability::errors(&history, window),
            findings,
        };
        drop(history);
        eprintln!("{}", report.line(number).replace('\t', "  "));
        self.report.faults.push(report);
        self.write_table();
        Ok(())
    }

    /// Waits until every node is ready, every partition has all its copies in sync, and each has acknowledged something.
    fn wait_recovered(&mut self, healed: Duration) -> Option<Duration> {
        let deadline = Instant::now() + self.options.recovery_max;
        let mut missing = String::new();
        while Instant::now() < deadline {
            match self.missing(healed) {
                None => return Some(self.load.now()),
                Some(still) => missing = still,
            }
            std::thread::sleep(LOOK_EVERY);
        }
        eprintln!("not recovered after {:?}: {missing}", self.options.recovery_max);
        None
    }

    fn missing(&self, healed: Duration) -> Option<String> {
        let unready: Vec<u32> =
            self.cluster.nodes.iter().filter(|(_, node)| !node.is_ready()).map(|(id, _)| *id).collect();
        if !unready.is_empty() {
            return Some(format!("nodes {unready:?} are not ready"));
        }
        let lame = match self.cluster.lame(&self.load.options.topic) {
            Err(error) => return Some(error.to_string()),
            Ok(lame) => lame,
        };
        if !lame.is_empty() {
            return Some(format!("partitions {lame:?} lack a leader or copies"));
        }
        let silent = self.load.silent_since(healed);
        (!silent.is_empty()).then(|| format!("partitions {silent:?} acknowledge nothing"))
    }

    fn write_table(&self) {
        let Some(path) = &self.options.table else { return };
        if let Err(error) = fs::write(path, self.report.table()) {
            eprintln!("{} cannot be written: {error}", path.display());
        }
    }

    /// Ends writers, reads everything from every side, and checks.
    fn finish(&mut self) {
        eprintln!("stopping the writers ...");
        self.load.stop_writers();
        for (name, writer) in std::mem::take(&mut self.writers) {
            if writer.join().is_err() {
                self.report.findings.push(format!("the {name} panicked"));
            }
        }
        let (ends, failures) = native::write_ends(&self.load);
        self.report.findings.extend(failures);
        // Nothing can be said about readings that have no end.
        let judged: BTreeSet<u32> = ends.keys().copied().collect();
        self.ends.set(ends);
        eprintln!("reading everything ...");
        let live_count = self.readers.len();
        self.start_readers("final");
        for (index, reader) in std::mem::take(&mut self.readers).into_iter().enumerate() {
            match reader.join() {
                Ok(Ok(Brought { readings, stuck })) => {
                    if let (false, Some(reading)) = (stuck.is_empty(), readings.first()) {
                        let stuck =
                            format!("{} does not reach the end of partitions {stuck:?}", reading.reader);
                        self.report.findings.push(stuck);
                    }
                    let readings = readings.into_iter().filter(|reading| judged.contains(&reading.partition));
                    let readings =
                        readings.map(|reading| Reading { is_final: index >= live_count, ..reading });
                    self.load.history().readings.extend(readings);
                }
                Ok(Err(error)) => self.report.findings.push(error),
                Err(_) => self.report.findings.push("a reader panicked".to_owned()),
            }
        }
        let anomalies = checker::check(&self.load.history());
        self.tell(&anomalies);
        self.report.findings.extend(self.last_words());
        self.count();
    }

    /// Puts some anomalies of each kind into the report, and all of them into a file beside the logs.
    fn tell(&mut self, anomalies: &[Anomaly]) {
        let mut by_name: BTreeMap<&str, Vec<&Anomaly>> = BTreeMap::new();
        for anomaly in anomalies {
            by_name.entry(anomaly.name()).or_default().push(anomaly);
        }
        for (name, found) in by_name {
            self.report.findings.extend(found.iter().take(TOLD_MAX).map(ToString::to_string));
            if found.len() > TOLD_MAX {
                self.report.findings.push(format!("{name}: {} in all, see anomalies.txt", found.len()));
            }
        }
        if !anomalies.is_empty() {
            let path = self.cluster.dir().join("anomalies.txt");
            let text: String = anomalies.iter().map(|anomaly| format!("{anomaly}\n")).collect();
            if let Err(error) = fs::write(&path, text) {
                eprintln!("{} cannot be written: {error}", path.display());
            }
        }
    }

    fn count(&mut self) {
        let history = self.load.history();
        let all = Window { begin: Duration::ZERO, end: self.load.now() };
        self.report.errors = availability::errors(&history, all);
        self.report.sent_count = history.writes.len();
        self.report.acked_count = history.acked().count();
        self.report.transaction_counts = [Ending::Committed, Ending::Aborted, Ending::Unknown]
            .map(|ending| history.transactions.iter().filter(|ended| **ended == ending).count());
        let readers: BTreeSet<&str> =
            history.readings.iter().map(|reading| reading.reader.as_str()).collect();
        self.report.reader_count = readers.len();
        self.report.read_count = history.readings.iter().map(|reading| reading.records.len()).sum();
    }

    /// Bugs and panics that the brokers logged.
    fn last_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for node in self.cluster.nodes.values() {
            let log = fs::read(&node.options().log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let bad =
                log.lines().filter(|line| line.contains("panicked at") || line.starts_with("heddle: bug"));
            words.extend(bad.take(3).map(|line| format!("node {} said: {line}", node.options().id)));
        }
        words
    }
}
