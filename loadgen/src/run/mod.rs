//! `heddle-loadgen run`: prepares topics, starts the generator threads, gathers what they measure.

pub mod config;
mod consumer;
mod producer;
pub mod summary;
mod thread;

use crate::cli::{Mode, RunArgs};
use crate::clock::{Clock, Nanos, processor_time};
use crate::histogram::{Latencies, Percentiles, TaggedInterval, round};
use crate::limits::{DEPTH_MAX, LimitPlan, Limits};
use crate::link::prepare_topics;
use crate::links::{Links, Metadata};
use crate::report::folder;
use crate::runtime;
use crate::stats::Interval;
use config::RunConfig;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use summary::RunSummary;
use thread::{Message, StartGate, StopFlag, Thread, ThreadPlan};

/// From the opening of the gate to the start, so that every thread is there in time.
const START_DELAY: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

/// What a run measured.
pub struct Outcome {
    /// The figures.
    pub summary: RunSummary,
    /// Every second of the run, warm-up included, for the HDR log.
    pub intervals: Vec<TaggedInterval>,
    /// When the run began, warm-up included.
    pub start: Nanos,
}

/// Runs the command: measures, prints, writes the report folder. `true` if there were no errors.
pub fn command(args: &RunArgs) -> Result<bool, String> {
    let config = Arc::new(RunConfig::resolve(args)?);
    let limits = args.with_limits.then(|| limit_plan(args, &config));
    let measure = |plan: &LimitPlan| Limits::measure(plan).map_err(|e| format!("measuring the limit: {e}"));
    let before = limits.as_ref().map(measure).transpose()?;
    let mut outcome = execute(Arc::clone(&config))?;
    if let (Some(plan), Some(before)) = (&limits, before) {
        let after = measure(plan)?;
        let p50s = (before.summary(plan).limit_p50_us, after.summary(plan).limit_p50_us);
        outcome.summary.add_limits(before.join(&after).summary(plan), p50s);
    }
    if let Some(dir) = &args.report {
        folder::write(dir, &config, &outcome, &args.limit_dir)
            .map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    if args.json {
        println!("{}", simd_json::to_string(&outcome.summary).map_err(|e| e.to_string())?);
    } else {
        print!("{}", outcome.summary.to_text());
    }
    Ok(outcome.summary.errors == 0)
}

/// The limit of this run: its message size and rate, as many writers as producers.
fn limit_plan(args: &RunArgs, config: &RunConfig) -> LimitPlan {
    let records = config.typical_batch_records();
    // 61 bytes of batch header, some 12 of each record's own.
    let message_bytes = 61 + records as usize * (config.record_bytes + 12);
    LimitPlan {
        dir: args.limit_dir.clone(),
        message_bytes,
        rate: config.rate / u64::from(records),
        depth: config.producers.clamp(1, DEPTH_MAX),
        replicas: 0,
        duration: args.limit_duration,
    }
}

/// Runs `config` and gathers the measurements.
pub fn execute(config: Arc<RunConfig>) -> Result<Outcome, String> {
    let (target, plan) = (config.target(), config.topic_plan());
    let layout = runtime::block_on(prepare_topics(&target, &plan))?.map_err(|e| format!("{target}: {e}"))?;
    let placements = runtime::placements(config.cores.as_ref());
    let clock = Clock::start();
    let (gate, stop) = (StartGate::default(), StopFlag::default());
    let (sender, receiver) = channel();
    let run_tag = fastrand::u32(..);
    let mut threads = Vec::new();
    for (index, placement) in placements.iter().enumerate() {
        let plan = ThreadPlan {
            config: Arc::clone(&config),
            index,
            thread_count: placements.len(),
            run_tag,
            clock,
            layout: layout.clone(),
            gate: gate.clone(),
            stop: stop.clone(),
            sender: sender.clone(),
        };
        let spin = Duration::from_micros(config.spin_us);
        threads.push(runtime::spawn(format!("loadgen-{index}"), placement.clone(), spin, move || {
            thread_main(plan)
        })?);
    }
    drop(sender);
    let mut gather = Gather::new(config, clock, stop, threads.len());
    let gathered = gather.wait_ready(&receiver).and_then(|()| {
        let (start, used) = (clock.now().plus(START_DELAY), processor_time());
        gate.open(start);
        gather.start = start;
        gather.gather(&receiver)?;
        gather.cpus = (processor_time() - used).as_secs_f64() * 1e9 / clock.now().since(start) as f64;
        Ok(())
    });
    gather.stop.raise();
    gate.open(clock.now());
    drop(receiver);
    for thread in threads {
        thread.join().map_err(|_| "a generator thread panicked".to_owned())??;
    }
    gathered.map(|()| gather.finish())
}

/// The life of one generator thread.
async fn thread_main(plan: ThreadPlan) {
    let sender = plan.sender.clone();
    if let Err(error) = thread_run(plan).await {
        let _ = sender.send(Message::Failed(error));
    }
    let _ = sender.send(Message::Finished);
}

async fn thread_run(plan: ThreadPlan) -> Result<(), String> {
    let config = Arc::clone(&plan.config);
    let metadata = Metadata::new(&config.target(), config.topics.clone(), plan.layout.clone());
    let producers = connect_producers(&plan, &metadata).await?;
    let consumers = connect_consumers(&plan, &metadata).await?;
    let _ = plan.sender.send(Message::Ready);
    let thread = Thread::at_gate(plan, metadata).await;
    let mut tasks = Vec::new();
    for (index, links) in producers {
        tasks.push(glommio::spawn_local(producer::run(Rc::clone(&thread), links, index)));
    }
    for (links, cursors) in consumers {
        tasks.push(glommio::spawn_local(consumer::run(Rc::clone(&thread), links, cursors)));
    }
    thread.active.set(tasks.len());
    let ticker = glommio::spawn_local(tick(Rc::clone(&thread)));
    for task in tasks {
        task.await;
    }
    ticker.cancel().await;
    let index = thread.clock.now().since(thread.start) / SECOND.as_nanos() as u64;
    thread.report(index);
    Ok(())
}

/// Reports every second.
async fn tick(thread: Rc<Thread>) {
    for index in 0u64.. {
        let until = thread.start.plus_nanos((index + 1) * SECOND.as_nanos() as u64);
        thread.pace(until).await;
        thread.report(index);
    }
}

async fn connect_producers(
    plan: &ThreadPlan,
    metadata: &Rc<Metadata>,
) -> Result<Vec<(u32, Rc<Links>)>, String> {
    let mut producers = Vec::new();
    for index in (0..plan.config.producers).filter(|i| *i as usize % plan.thread_count == plan.index) {
        let links = Links::new(Rc::clone(metadata));
        links.connect_all(|_| true).await.map_err(|e| e.to_string())?;
        producers.push((index, links));
    }
    Ok(producers)
}

async fn connect_consumers(
    plan: &ThreadPlan,
    metadata: &Rc<Metadata>,
) -> Result<Vec<(Rc<Links>, Vec<consumer::Cursor>)>, String> {
    let mut consumers = Vec::new();
    let layout = metadata.layout();
    for consumer in own_consumers(plan) {
        let is_mine = |route: usize| route % plan.config.consumers as usize == consumer;
        let links = Links::new(Rc::clone(metadata));
        links.connect_all(is_mine).await.map_err(|e| e.to_string())?;
        let mine = (0..layout.routes.len()).filter(|route| is_mine(*route));
        let cursors = consumer::place_cursors(&links, &layout, mine, plan.config.mode).await;
        consumers.push((links, cursors.map_err(|e| format!("placing a consumer: {e}"))?));
    }
    Ok(consumers)
}

/// This thread's consumers of every subscription.
fn own_consumers(plan: &ThreadPlan) -> impl Iterator<Item = usize> {
    let (count, thread_count, thread) = (plan.config.consumers as usize, plan.thread_count, plan.index);
    let all = (0..plan.config.subscriptions).flat_map(move |_| 0..count);
    // From the other end than producers, so that one of each on two threads has a thread of its own.
    all.filter(move |c| thread_count - 1 - c % thread_count == thread)
}

/// The main thread's part: adds up what the threads report.
struct Gather {
    config: Arc<RunConfig>,
    clock: Clock,
    stop: StopFlag,
    start: Nanos,
    thread_count: usize,
    finished: usize,
    consumers_done: u32,
    done_at: Option<Nanos>,
    /// Processors kept busy.
    cpus: f64,
    seconds: BTreeMap<u64, Interval>,
    live: Option<Live>,
}

impl Gather {
    fn new(config: Arc<RunConfig>, clock: Clock, stop: StopFlag, thread_count: usize) -> Self {
        let live = std::io::stderr().is_terminal().then(Live::default);
        Self {
            config,
            clock,
            stop,
            start: Nanos::default(),
            thread_count,
            finished: 0,
            consumers_done: 0,
            done_at: None,
            cpus: 0.0,
            seconds: BTreeMap::new(),
            live,
        }
    }

    fn wait_ready(&mut self, receiver: &Receiver<Message>) -> Result<(), String> {
        for _ in 0..self.thread_count {
            match receiver.recv() {
                Ok(Message::Ready) => {}
                Ok(Message::Failed(error)) => return Err(error),
                Ok(_) | Err(_) => return Err("a generator thread ended before the start".to_owned()),
            }
        }
        Ok(())
    }

    fn gather(&mut self, receiver: &Receiver<Message>) -> Result<(), String> {
        // Far beyond the longest honest run, so that a wedged generator does not hang its caller.
        let patience = self.config.warmup + self.config.duration + self.config.drain * 2 + SECOND * 30;
        let deadline = self.start.plus(patience);
        while self.finished < self.thread_count {
            match receiver.recv_timeout(deadline.left(self.clock.now())) {
                Ok(message) => self.on_message(message)?,
                Err(RecvTimeoutError::Timeout) => return Err("the generator threads do not end".to_owned()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("a generator thread ended early".to_owned());
                }
            }
        }
        Ok(())
    }

    fn on_message(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Ready => {}
            Message::Interval { index, interval } => {
                self.seconds.entry(index).or_default().add(&interval);
                self.show(index);
            }
            Message::ConsumerDone => {
                self.consumers_done += 1;
                if self.consumers_done == self.config.consumers * self.config.subscriptions {
                    self.done_at = Some(self.clock.now());
                    self.stop.raise();
                }
            }
            Message::Failed(error) => return Err(error),
            Message::Finished => self.finished += 1,
        }
        Ok(())
    }

    /// Prints the live line once every thread has reported a later second.
    fn show(&mut self, newest: u64) {
        if let Some(live) = &mut self.live {
            live.show(newest, &self.seconds);
        }
    }

    fn finish(mut self) -> Outcome {
        if let Some(live) = &mut self.live {
            live.end();
        }
        let mut total = Interval::default();
        self.seconds.values().for_each(|second| total.add(second));
        let measured = match (self.config.mode, self.done_at) {
            (Mode::Consume, Some(at)) => at.left(self.start.plus(self.config.warmup)),
            _ => self.config.duration,
        };
        let mut summary = RunSummary::new(&self.config, &total, measured);
        summary.generator_cpus = round(self.cpus);
        Outcome { summary, intervals: tagged(&self.seconds, self.start), start: self.start }
    }
}

fn tagged(seconds: &BTreeMap<u64, Interval>, start: Nanos) -> Vec<TaggedInterval> {
    type Pick = fn(&Interval) -> &Latencies;
    let tags: [(&str, Pick); 2] = [("produce", |i| &i.produce), ("end_to_end", |i| &i.end_to_end)];
    let mut all = Vec::new();
    for (tag, histogram) in tags {
        for (index, interval) in seconds.iter().filter(|(_, interval)| !histogram(interval).is_empty()) {
            all.push(TaggedInterval {
                tag: tag.to_owned(),
                start: start.plus_nanos(index * SECOND.as_nanos() as u64),
                length: SECOND,
                latencies: histogram(interval).clone(),
            });
        }
    }
    all
}

/// The line on a terminal.
#[derive(Default)]
struct Live {
    shown: Option<u64>,
}

impl Live {
    fn show(&mut self, newest: u64, seconds: &BTreeMap<u64, Interval>) {
        let Some(complete) = newest.checked_sub(1) else { return };
        if self.shown >= Some(complete) {
            return;
        }
        self.shown = Some(complete);
        if let Some(interval) = seconds.get(&complete) {
            eprint!("\r\x1b[K{}", live_line(complete, interval));
        }
    }

    fn end(&mut self) {
        if self.shown.is_some() {
            eprintln!();
        }
    }
}

fn live_line(second: u64, interval: &Interval) -> String {
    let (produce, counts) = (Percentiles::of(&interval.produce), &interval.counts);
    let mut line = format!("{:>4} s", second + 1);
    if counts.sent_records > 0 || counts.acked_records > 0 {
        line += &format!(
            "  {} rec/s  {:.1} MB/s  p50 {:.0}  p99 {:.0}  max {:.0} us",
            counts.acked_records,
            counts.acked_bytes as f64 / 1e6,
            produce.p50_us,
            produce.p99_us,
            produce.max_us
        );
    }
    if counts.consumed_records > 0 {
        line += &format!(
            "  in {} rec/s  {:.1} MB/s",
            counts.consumed_records,
            counts.consumed_bytes as f64 / 1e6
        );
    }
    if !interval.end_to_end.is_empty() {
        line += &format!("  end to end p99 {:.0} us", Percentiles::of(&interval.end_to_end).p99_us);
    }
    if counts.sent_records + counts.acked_records + counts.consumed_records == 0 {
        line += "  warming up";
    }
    if counts.errors() > 0 {
        line += &format!("  errors {}", counts.errors());
    }
    line
}
