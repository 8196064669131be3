//! Where the time of a request goes: one histogram for each stage of its way through a core.
//!
//! The clock is read some ten times a request and a histogram costs a few nanoseconds, about half a microsecond
//! together (`perf-reports/002-speed`), which is why this is always on.

use std::time::Instant;

use heddle_log_store::WriteTimes;
use heddle_net::outbox::watch::{Observer, Operation, Watch};

use super::metrics::{CoreMetrics, Latency};

/// When a request came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its first bytes could be read from the socket.
    pub readable: Instant,
    /// All of it was there.
    pub received: Instant,
    /// It was understood.
    pub decoded: Instant,
}

/// When an append became as safe as was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The write that made it durable here; `None` when durability was not waited for.
    pub write: Option<WriteTimes>,
    /// When the position passed it.
    pub at: Instant,
}

/// When an append took its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendTimes {
    /// It had its place in the log.
    pub appended: Instant,
    /// It was safe; `None` when that was so at once.
    pub release: Option<Release>,
}

impl AppendTimes {
    /// When there was nothing more to wait for.
    pub fn ready(&self) -> Instant {
        self.release.map_or(self.appended, |release| release.at)
    }
}

/// When a look for data took its steps.
#[derive(Clone, Copy, Debug)]
pub struct FetchTimes {
    /// The last look began; the ones before found too little.
    pub looked: Instant,
    /// Its result was there.
    pub found: Instant,
    /// Whether there was a look before.
    pub waited: bool,
}

macro_rules! stages {
    ($($field:ident $operation:literal $stage:literal $help:literal,)*) => {
        /// A histogram for each stage.
        #[derive(Debug, Default)]
        pub struct Stages {
            $(#[doc = $help] pub $field: Latency,)*
        }

        impl Stages {
            /// What was recorded so far, stage by stage in the order of a request's way.
            pub fn report(&self) -> Vec<StageReport> {
                vec![$(StageReport {
                    operation: $operation,
                    stage: $stage,
                    latency: self.$field.snapshot(),
                },)*]
            }
        }
    };
}

stages! {
    produce_receive "produce" "receive" "From the socket being readable to the whole request in memory, waiting for room included",
    produce_decode "produce" "decode" "To the request understood",
    produce_append "produce" "append" "To the batches checked and in their place in the log, waiting for memory included",
    produce_seal "produce" "seal" "To the commit group settled: waiting for earlier groups",
    produce_submit "produce" "submit" "To the group's frame built and handed to the kernel",
    produce_write "produce" "write" "To the kernel's word that it is on stable storage, and to the core having noticed",
    produce_commit "produce" "commit" "To the commit position past it",
    produce_reply "produce" "reply" "To the reply in the socket",
    produce_total "produce" "total" "All of it",
    fetch_decode "fetch" "decode" "From the whole request in memory to the request understood",
    fetch_wait "fetch" "wait" "Waiting for data, of fetches that found too little at first",
    fetch_read "fetch" "read" "From the last look for data to what it found, in memory or on disk",
    fetch_reply "fetch" "reply" "To the reply in the socket",
    fetch_total "fetch" "total" "All of it, the wait included",
    push_read "push" "read" "From the last look for a subscription's data to what it found",
    push_reply "push" "reply" "To the delivery in the socket",
}

/// What a core recorded of one stage.
#[derive(Clone, Debug)]
pub struct StageReport {
    /// `produce`, `fetch` or `push`.
    pub operation: &'static str,
    /// The stage's name within the operation.
    pub stage: &'static str,
    /// Durations in nanoseconds.
    pub latency: hdrhistogram::Histogram<u64>,
}

impl Stages {
    /// Records what an acknowledged append did up to its answer. Called for each partition of a produce request.
    pub fn appended(&self, arrival: Arrival, times: &AppendTimes) {
        self.produce_receive.between(arrival.readable, arrival.received);
        self.produce_decode.between(arrival.received, arrival.decoded);
        self.produce_append.between(arrival.decoded, times.appended);
        let Some(release) = times.release else { return };
        let Some(write) = release.write else {
            self.produce_commit.between(times.appended, release.at);
            return;
        };
        self.produce_seal.between(times.appended, write.sealed);
        self.produce_submit.between(write.sealed, write.submitted);
        self.produce_write.between(write.submitted, write.durable);
        self.produce_commit.between(write.durable, release.at);
    }

    /// Records what a fetch did up to its answer, and says how to go on watching it.
    pub fn fetched(&self, arrival: Arrival, times: &FetchTimes) -> Watch {
        self.fetch_decode.between(arrival.received, arrival.decoded);
        if times.waited {
            self.fetch_wait.between(arrival.decoded, times.looked);
        }
        self.fetch_read.between(times.looked, times.found);
        Watch { operation: Operation::Fetch, begun: arrival.received, ready: times.found }
    }

    /// Records what a subscription's look for data took, and says how to go on watching its delivery.
    pub fn pushed(&self, times: &FetchTimes) -> Watch {
        self.push_read.between(times.looked, times.found);
        Watch { operation: Operation::Push, begun: times.looked, ready: times.found }
    }
}

impl Observer for CoreMetrics {
    fn sent(&self, watch: Watch, now: Instant) {
        let stages = &self.stages;
        match watch.operation {
            Operation::Produce => {
                stages.produce_reply.between(watch.ready, now);
                stages.produce_total.between(watch.begun, now);
            }
            Operation::Fetch => {
                stages.fetch_reply.between(watch.ready, now);
                stages.fetch_total.between(watch.begun, now);
            }
            Operation::Push => stages.push_reply.between(watch.ready, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, time::Duration};

    use super::*;

    #[test]
    fn the_stages_of_a_produce_add_up_to_its_total() {
        let metrics = Rc::new(CoreMetrics::default());
        let begun = Instant::now();
        let after = |micros: u64| begun + Duration::from_micros(micros);
        let arrival = Arrival { readable: begun, received: after(10), decoded: after(30) };
        let write = WriteTimes { sealed: after(150), submitted: after(310), durable: after(630) };
        let release = Release { write: Some(write), at: after(1270) };
        let times = AppendTimes { appended: after(70), release: Some(release) };
        metrics.stages.appended(arrival, &times);
        let watch = Watch { operation: Operation::Produce, begun, ready: times.ready() };
        metrics.sent(watch, after(2550));
        let sums: u64 = metrics
            .stages
            .report()
            .iter()
            .filter(|report| report.operation == "produce" && report.stage != "total")
            .map(|report| {
                assert_eq!(report.latency.len(), 1, "{} was not recorded", report.stage);
                report.latency.max()
            })
            .sum();
        let total = metrics.stages.produce_total.snapshot().max();
        assert!(sums.abs_diff(total) * 100 < total, "{sums} ns in the stages, {total} ns in all");
    }

    #[test]
    fn an_append_that_waits_for_no_write_has_no_write_stages() {
        let stages = Stages::default();
        let now = Instant::now();
        let arrival = Arrival { readable: now, received: now, decoded: now };
        stages.appended(arrival, &AppendTimes { appended: now, release: None });
        let count = |stage| {
            let reports = stages.report();
            reports.iter().find(|r| (r.operation, r.stage) == ("produce", stage)).unwrap().latency.len()
        };
        assert_eq!((count("append"), count("write"), count("commit")), (1, 0, 0));
    }
}
