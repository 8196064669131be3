//! The named workloads of the OpenMessaging Benchmark, as numbers.

use std::time::Duration;

/// One workload as the benchmark's own files define it. All its workloads warm up for one minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Name of the benchmark's file, without the ending.
    pub name: String,
    /// Number of topics.
    pub topic_count: u32,
    /// Partitions of each topic.
    pub partitions_per_topic: u32,
    /// Bytes of each record's value.
    pub record_bytes: usize,
    /// Records per second, all topics and producers together; 0 stands for as fast as possible.
    pub rate: u64,
    /// Producers of each topic.
    pub producers_per_topic: u32,
    /// Consumers of each subscription.
    pub consumers_per_topic: u32,
    /// Subscriptions of each topic: each gets every record.
    pub subscriptions_per_topic: u32,
    /// How long it measures, warm-up apart.
    pub duration: Duration,
    /// Share of random bytes in a payload, 0.0 to 1.0.
    pub random_ratio: f64,
    /// Number of different payloads.
    pub payload_pool: u32,
}

/// Warm-up of every workload of the benchmark.
pub const WARMUP: Duration = Duration::from_secs(60);
/// The benchmark's Kafka driver for latency: batches of at most this many bytes ...
pub const BATCH_BYTES: usize = 131_072;
/// ... that wait this long for company.
pub const LINGER: Duration = Duration::from_millis(1);

impl Workload {
    fn plain(name: &str, topics: u32, partitions: u32, record_bytes: usize, rate: u64) -> Self {
        Self {
            name: name.to_owned(),
            topic_count: topics,
            partitions_per_topic: partitions,
            record_bytes,
            rate,
            producers_per_topic: 1,
            consumers_per_topic: 1,
            subscriptions_per_topic: 1,
            duration: Duration::from_secs(15 * 60),
            random_ratio: 0.0,
            payload_pool: 1,
        }
    }

    /// Four producers, four consumers, half of each payload random, a thousand payloads, five minutes.
    fn four_by_four(name: &str, topics: u32, partitions: u32, rate: u64) -> Self {
        Self {
            producers_per_topic: 4,
            consumers_per_topic: 4,
            duration: Duration::from_secs(5 * 60),
            random_ratio: 0.5,
            payload_pool: 1000,
            ..Self::plain(name, topics, partitions, 1024, rate)
        }
    }
}

/// Every workload the generator knows by name.
pub fn workloads() -> Vec<Workload> {
    let mut all = vec![
        Workload::plain("1-topic-1-partition-100b", 1, 1, 100, 50_000),
        Workload::plain("1-topic-1-partition-1kb", 1, 1, 1024, 50_000),
        Workload::plain("1-topic-16-partitions-100b", 1, 16, 100, 50_000),
        Workload::plain("1-topic-16-partitions-1kb", 1, 16, 1024, 50_000),
        Workload::plain("1-topic-100-partitions-1kb", 1, 100, 1024, 50_000),
        Workload {
            subscriptions_per_topic: 3,
            duration: Duration::from_secs(240 * 60),
            ..Workload::plain("100-topics-1-partitions-1kb", 100, 1, 1024, 150_000)
        },
        Workload::plain("max-rate-1-topic-1-partition-1p-1c-100b", 1, 1, 100, 0),
        Workload::plain("max-rate-1-topic-1-partition-1p-1c-1kb", 1, 1, 1024, 0),
        Workload::plain("max-rate-1-topic-16-partitions-1p-1c-100b", 1, 16, 100, 0),
        Workload::plain("max-rate-1-topic-16-partitions-1p-1c-1kb", 1, 16, 1024, 0),
        Workload::plain("max-rate-1-topic-100-partitions-1p-1c-1kb", 1, 100, 1024, 0),
        Workload::four_by_four("1-topic-10000-partitions-1kb-4p-4c-1000k", 1, 10_000, 1_000_000),
    ];
    for rate in [200, 500, 1000, 2000] {
        let name = format!("1-topic-100-partitions-1kb-4p-4c-{rate}k");
        all.push(Workload::four_by_four(&name, 1, 100, rate * 1000));
    }
    for partitions in [1, 2, 3, 4, 8, 16] {
        let unit = if partitions == 1 { "partition" } else { "partitions" };
        let name = format!("1m-10-topics-{partitions}-{unit}-100b");
        all.push(Workload::plain(&name, 10, partitions, 100, 1_000_000));
    }
    all
}

/// The workload of that name.
pub fn by_name(name: &str) -> Option<Workload> {
    workloads().into_iter().find(|w| w.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let all = workloads();
        for workload in &all {
            assert_eq!(by_name(&workload.name).as_ref(), Some(workload));
        }
        assert_eq!(by_name("no-such-workload"), None);
    }

    #[test]
    fn the_figures_are_those_of_the_benchmark() {
        let small = by_name("1-topic-1-partition-100b").unwrap();
        assert_eq!((small.record_bytes, small.rate, small.duration.as_secs()), (100, 50_000, 900));
        let wide = by_name("1-topic-100-partitions-1kb-4p-4c-500k").unwrap();
        assert_eq!((wide.partitions_per_topic, wide.rate, wide.producers_per_topic), (100, 500_000, 4));
        assert_eq!((wide.random_ratio, wide.payload_pool, wide.duration.as_secs()), (0.5, 1000, 300));
        let many = by_name("1m-10-topics-16-partitions-100b").unwrap();
        assert_eq!((many.topic_count, many.partitions_per_topic, many.rate), (10, 16, 1_000_000));
        assert_eq!(by_name("max-rate-1-topic-16-partitions-1p-1c-1kb").unwrap().rate, 0);
    }
}
