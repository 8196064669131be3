//! The fetch operation: reads many partitions of any core, waiting for data when there is too little.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use heddle_log_store::Disk;
use heddle_proto::ids::{CoreId, Offset, TopicPartition};

use super::{
    Shard,
    produce::stopping,
    request::{CoreReply, CoreRequest, FetchFrom, OpError},
};
use crate::{
    admin::stages::FetchTimes,
    partition::fetch::Fetched,
    runtime::{event::Event, time},
};

/// The longest a fetch waits, whatever the client asks: a bound on what a client that went away leaves behind.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// How much a fetch wants and how long it waits for that.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Answer as soon as there is this much altogether, in bytes.
    pub bytes_min: usize,
    /// Give at most this much altogether (but at least one batch), in bytes.
    pub bytes_max: usize,
    /// Answer after this long in any case.
    pub wait: Duration,
}

/// One answer a partition, in the order of the request.
pub type FetchResults = Vec<Result<Fetched, OpError>>;

impl<D: Disk> Shard<D> {
    /// Reads partitions in the given order of preference; waits as [`FetchLimits`] say. Also tells how long that took.
    pub async fn fetch(
        self: &Rc<Self>,
        partitions: Vec<FetchFrom>,
        limits: FetchLimits,
    ) -> (FetchResults, FetchTimes) {
        let mut looked = Instant::now();
        let mut waited = false;
        self.metrics.fetch_requests.add(1);
        let deadline = looked + limits.wait.min(WAIT_MAX);
        loop {
            // Registered before reading, so that no commit slips through between the two.
            let event = Event::new();
            self.watch_here(&partitions, &event);
            // Given back when the caller queues what was read, which counts from then on.
            let claim = self.unsent.claim(limits.bytes_max);
            let mut results = self.fetch_once(&partitions, claim.bytes()).await;
            if claim.bytes() < limits.bytes_max {
                results.iter_mut().flatten().for_each(Fetched::unshare);
            }
            let bytes: usize = results.iter().flatten().map(Fetched::bytes).sum();
            let refused = results.iter().any(Result::is_err);
            let found = Instant::now();
            let out_of_time = found >= deadline || self.is_stopping();
            if bytes >= limits.bytes_min.min(claim.bytes()) || refused || partitions.is_empty() || out_of_time
            {
                self.metrics.fetch_bytes.add(bytes as u64);
                results.iter().flat_map(|result| result.as_ref().err()).for_each(|error| {
                    self.metrics.refused(error.code);
                });
                return (results, FetchTimes { looked, found, waited });
            }
            let seen = partitions.iter().zip(&results).map(|(from, result)| {
                (from.at, result.as_ref().map_or(from.offset, |fetched| fetched.committed))
            });
            drop(claim);
            self.wait_for_more(seen.collect(), &event, deadline).await;
            looked = Instant::now();
            waited = true;
        }
    }

    /// Waits until a partition has more than was seen of it, or until `deadline`.
    async fn wait_for_more(
        self: &Rc<Self>,
        seen: Vec<(TopicPartition, Offset)>,
        event: &Rc<Event>,
        deadline: Instant,
    ) {
        let timeout = deadline.saturating_duration_since(Instant::now());
        for (core, partitions) in self.by_owner(&seen, |(at, _)| *at) {
            if core == self.core() {
                continue;
            }
            let partitions = partitions.into_iter().map(|index| seen[index]).collect();
            let (shard, event) = (self.clone(), event.clone());
            self.queues.spawn(crate::runtime::Queue::Hot, async move {
                let request = CoreRequest::Wait { partitions, timeout };
                let _ = shard.mesh.ask(core, request).await;
                event.fire();
            });
        }
        time::until(deadline, event.wait()).await;
    }

    fn watch_here(&self, partitions: &[FetchFrom], event: &Rc<Event>) {
        for from in partitions {
            if self.owner(from.at) == Ok(self.core())
                && let Ok(partition) = self.partition(from.at)
            {
                partition.wait(event);
            }
        }
    }

    async fn fetch_once(self: &Rc<Self>, partitions: &[FetchFrom], bytes_max: usize) -> FetchResults {
        let groups = self.by_owner(partitions, |from| from.at);
        if let [(core, _)] = groups.as_slice()
            && *core == self.core()
        {
            return self.fetch_here(partitions, bytes_max).await;
        }
        let mut results: FetchResults =
            partitions.iter().map(|from| Err(self.owner(from.at).err().unwrap_or_else(stopping))).collect();
        let mut left = bytes_max;
        for (core, indexes) in groups {
            let wanted: Vec<FetchFrom> = indexes.iter().map(|index| partitions[*index]).collect();
            for (index, result) in indexes.iter().zip(self.fetch_from(core, wanted, left).await) {
                left = left.saturating_sub(result.as_ref().map_or(0, Fetched::bytes));
                results[*index] = result;
            }
        }
        results
    }

    async fn fetch_from(self: &Rc<Self>, core: CoreId, wanted: Vec<FetchFrom>, left: usize) -> FetchResults {
        if core == self.core() {
            return self.fetch_here(&wanted, left).await;
        }
        self.metrics.mesh_hops.add(1);
        let count = wanted.len();
        match self.mesh.ask(core, CoreRequest::Fetch { partitions: wanted, bytes_max: left }).await {
            Ok(CoreReply::Fetched(results)) => results,
            _ => (0..count).map(|_| Err(stopping())).collect(),
        }
    }

    /// Reads partitions of this core, without waiting for data.
    pub async fn fetch_here(&self, partitions: &[FetchFrom], bytes_max: usize) -> FetchResults {
        let mut results = Vec::with_capacity(partitions.len());
        let mut left = bytes_max;
        for from in partitions {
            let result = self.fetch_one(from, left).await;
            left = left.saturating_sub(result.as_ref().map_or(0, Fetched::bytes));
            results.push(result);
        }
        results
    }

    async fn fetch_one(&self, from: &FetchFrom, left: usize) -> Result<Fetched, OpError> {
        let partition = self.partition(from.at)?;
        let refusal = |error: crate::partition::fetch::FetchError| {
            OpError::new(error.code(), format!("{}/{}: {error}", partition.topic, from.at.partition))
        };
        partition.check_epoch(from.epoch).map_err(refusal)?;
        partition.fetch_isolated(from.offset, from.bytes_max.min(left), from.isolation).await.map_err(refusal)
    }

    /// Waits until a partition of this core has more than the offset given, or until the time is over.
    pub async fn wait_here(&self, partitions: Vec<(TopicPartition, Offset)>, timeout: Duration) {
        let deadline = Instant::now() + timeout.min(WAIT_MAX);
        let event = Event::new();
        for (at, seen) in partitions {
            match self.partition(at) {
                Ok(partition) if partition.committed() <= seen => partition.wait(&event),
                _ => return,
            }
        }
        time::until(deadline, event.wait()).await;
    }

    /// Sorts items by the core that owns their partition; items without an owner are left out.
    fn by_owner<T>(&self, items: &[T], at: impl Fn(&T) -> TopicPartition) -> Vec<(CoreId, Vec<usize>)> {
        let mut groups: Vec<(CoreId, Vec<usize>)> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Ok(core) = self.owner(at(item)) else { continue };
            match groups.iter_mut().find(|(known, _)| *known == core) {
                Some((_, indexes)) => indexes.push(index),
                None => groups.push((core, vec![index])),
            }
        }
        groups
    }
}
