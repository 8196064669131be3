//! Counters and latency histograms of one core: plain cells, merged only when somebody looks.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use heddle_log_store::Disk;
use heddle_proto::error::ErrorCode;

use super::{
    peers::StreamReport,
    stages::{StageReport, Stages},
};
use crate::{coordinator::group::GroupCoordinator, shard::Shard};

/// Latencies are kept from 1 ns to 60 s with two digits: some 30 KiB a histogram.
const LATENCY_NANOS_MAX: u64 = 60_000_000_000;
const LATENCY_DIGITS: u8 = 2;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().wrapping_add(count));
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// How long something took, as a histogram.
#[derive(Debug)]
pub struct Latency(RefCell<Histogram<u64>>);

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, LATENCY_DIGITS);
        Latency(RefCell::new(histogram.expect("the bounds are constants within the allowed range")))
    }
}

impl Latency {
    /// Records one duration; longer than the range counts as its end.
    pub fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.borrow_mut().saturating_record(nanos);
    }

    /// Records the time from one moment to a later one.
    pub fn between(&self, from: Instant, to: Instant) {
        self.record(to.saturating_duration_since(from));
    }

    /// A copy for merging.
    pub fn snapshot(&self) -> Histogram<u64> {
        self.0.borrow().clone()
    }
}

macro_rules! core_metrics {
    ($($name:ident $help:literal,)*) => {
        /// Everything one core counts.
        #[derive(Debug, Default)]
        pub struct CoreMetrics {
            $(#[doc = $help] pub $name: Counter,)*
            /// Where the time of requests goes.
            pub stages: Stages,
            refusals: RefCell<BTreeMap<ErrorCode, u64>>,
        }

        impl CoreMetrics {
            fn counters(&self) -> Vec<Sample> {
                vec![$(Sample {
                    name: stringify!($name),
                    help: $help,
                    kind: Kind::Counter,
                    value: self.$name.get(),
                },)*]
            }
        }
    };
}

core_metrics! {
    connections_opened "Connections accepted",
    connections_refused "Connections closed at once because there were too many",
    connections_moved "Native connections handed to the core that owns their partition",
    connections_failed "Connections ended because of a request that cannot be answered, or a failed send",
    frames_malformed "Connections closed because of bytes that are no request",
    kafka_requests "Requests of the Kafka protocol",
    native_requests "Requests of the native protocol",
    requests_unsupported "Requests answered as unsupported",
    produce_requests "Appends asked for, one for each partition of a request",
    produce_bytes "Bytes of record batches offered to partitions",
    fetch_requests "Fetches, one for each request",
    fetch_bytes "Bytes of record batches read by fetches",
    push_bytes "Bytes of record batches pushed to subscriptions",
    group_requests "Requests of consumer groups",
    offset_commits "Offsets that groups asked to commit, one for each partition",
    mesh_hops "Requests passed on to another core of the node",
    quota_throttles "Requests after which a client was held back by a quota",
    quota_throttle_ms "Milliseconds for which clients were held back by quotas",
    reads_paused "Times a connection was not read because memory was short",
}

impl CoreMetrics {
    /// Counts a refusal.
    pub fn refused(&self, code: ErrorCode) {
        *self.refusals.borrow_mut().entry(code).or_default() += 1;
    }
}

/// Whether a sample only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One number of one core.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its name without prefix and suffix.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// The number.
    pub value: u64,
}

/// Everything one core reports, as plain data that may cross to core 0.
#[derive(Clone, Debug)]
pub struct CoreReport {
    /// Which core.
    pub core: u16,
    /// Counters and gauges.
    pub samples: Vec<Sample>,
    /// Refusals by error.
    pub refusals: BTreeMap<ErrorCode, u64>,
    /// Where the time of requests went.
    pub stages: Vec<StageReport>,
    /// Cores of other nodes that it replicates with.
    pub streams: Vec<StreamReport>,
    /// Connections of peers that came to nothing, by reason.
    pub failed_handshakes: Vec<(&'static str, u64)>,
}

impl<D: Disk> Shard<D> {
    /// What the group coordinators of this core know; found out when somebody looks.
    fn group_samples(&self) -> [Sample; 4] {
        let hosts = self.groups.hosts();
        let stats: Vec<_> = hosts.iter().filter_map(|host| host.inspect(GroupCoordinator::stats)).collect();
        let sample = |name, help, kind, value| Sample { name, help, kind, value };
        let groups = stats.iter().map(|stats| stats.group_count as u64).sum();
        let members = stats.iter().map(|stats| stats.member_count as u64).sum();
        let rebalances = stats.iter().map(|stats| stats.rebalance_count).sum();
        let waiting = hosts.iter().map(|host| host.waiting_count() as u64).sum();
        [
            sample("groups", "Consumer groups coordinated by this core", Kind::Gauge, groups),
            sample("group_members", "Members of those groups", Kind::Gauge, members),
            sample(
                "group_rebalances",
                "Generations and epochs of groups that began",
                Kind::Counter,
                rebalances,
            ),
            sample("group_requests_waiting", "Requests that wait in a coordinator", Kind::Gauge, waiting),
        ]
    }

    /// What this core reports.
    pub fn report(&self) -> CoreReport {
        let mut samples = self.metrics.counters();
        let gauge = |name, help, value: usize| Sample { name, help, kind: Kind::Gauge, value: value as u64 };
        samples.push(gauge("connections", "Open connections", self.connection_count()));
        samples.push(gauge(
            "unsent_bytes",
            "Bytes read for connections and not sent yet",
            self.unsent.used_bytes(),
        ));
        samples.push(gauge(
            "mesh_requests_waiting",
            "Requests that wait for another core of the node",
            self.mesh.in_flight() + self.groups.far_count() + self.transactions.far_count(),
        ));
        samples.push(gauge("partitions", "Partitions in use on this core", self.partition_count()));
        samples.extend(self.group_samples());
        samples.push(gauge(
            "coordinators_unreadable",
            "Coordinators whose state cannot be read, so that they serve nobody",
            self.groups.unreadable_count() + self.transactions.unreadable_count(),
        ));
        samples.push(gauge(
            "quota_buckets",
            "Users and clients counted for quotas",
            self.quotas.bucket_count(),
        ));
        samples.push(gauge("fetch_sessions", "Fetch sessions of Kafka clients", self.sessions.count()));
        samples.push(gauge(
            "fetch_session_partitions",
            "Partitions in all fetch sessions",
            self.sessions.partition_count(),
        ));
        samples.push(Sample {
            name: "fetch_sessions_evicted",
            help: "Fetch sessions closed to make room for others",
            kind: Kind::Counter,
            value: self.sessions.evicted_count(),
        });
        samples.extend(self.cluster_samples());
        samples.extend(super::render::store_samples(&self.store.stats()));
        CoreReport {
            core: self.core().get(),
            samples,
            refusals: self.metrics.refusals.borrow().clone(),
            stages: self.metrics.stages.report(),
            streams: self.stream_reports(),
            failed_handshakes: self.failed_handshakes(),
        }
    }
}
