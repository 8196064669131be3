//! The fetch operation: reads many partitions of any core, waiting for data when there is too little.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use heddle_log_store::Disk;
use heddle_proto::{
    error::ErrorCode,
    ids::{CoreId, Offset, TopicPartition},
};

use super::{
    Shard,
    fetch_set::FetchSet,
    produce::stopping,
    request::{CoreReply, CoreRequest, FetchFrom, OpError, Reach},
};
use crate::{
    admin::stages::FetchTimes,
    partition::{Partition, fetch::Fetched},
    runtime::{
        time,
        watch::{Flag, Watch},
    },
};

/// The longest a fetch waits, whatever the client asks: a bound on what a client that went away leaves behind.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// Whoever waits here may wait at a backup, too.
const IN_SYNC: Reach = Reach::InSync { nearer: None };

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

/// One answer a partition that was looked at, by slot.
pub type FoundBySlot = BTreeMap<u32, Result<Fetched, OpError>>;

/// One look at some partitions.
struct Look {
    results: FetchResults,
    /// Size of all batches found, in bytes.
    bytes: usize,
    /// How much there was memory for, in bytes.
    claimed_bytes: usize,
    began: Instant,
    ended: Instant,
}

impl Look {
    /// Whether the client gets its answer now: there is as much as it wants or as memory allows, or something that it
    /// must be told.
    fn is_enough(&self, bytes_min: usize) -> bool {
        let must_be_told = |result: &Result<Fetched, OpError>| {
            result.as_ref().map_or(true, |f| f.diverging.is_some() || f.nearer.is_some())
        };
        self.bytes >= bytes_min.min(self.claimed_bytes) || self.results.iter().any(must_be_told)
    }

    fn times(&self, waited: bool) -> FetchTimes {
        FetchTimes { looked: self.began, found: self.ended, waited }
    }
}

impl<D: Disk> Shard<D> {
    /// Reads partitions in the given order of preference; waits as [`FetchLimits`] say. Also tells how long that took.
    pub async fn fetch(
        self: &Rc<Self>,
        partitions: Vec<FetchFrom>,
        limits: FetchLimits,
    ) -> (FetchResults, FetchTimes) {
        self.metrics.fetch_requests.add(1);
        let deadline = Instant::now() + limits.wait.min(WAIT_MAX);
        let look = self.look(&partitions, limits).await;
        if partitions.is_empty() || self.ends(&look, limits, deadline) {
            let times = look.times(false);
            self.count_fetched(look.results.iter());
            return (look.results, times);
        }
        let mut set = FetchSet::default();
        let wanted: Vec<(u32, FetchFrom)> = (0..).zip(partitions).collect();
        wanted.iter().for_each(|(slot, from)| set.put(*slot, *from));
        let set = RefCell::new(set);
        let mut found = FoundBySlot::new();
        self.note(&set, &wanted, look.results, false, &mut found);
        let times = self.fetch_more(&set, wanted, limits, deadline, &|| true, &mut found).await;
        self.count_fetched(found.values());
        (found.into_values().collect(), times)
    }

    /// The same for a set that lives longer than one fetch: only what is due is looked at and answered. Ends early when
    /// `goes_on` says no after a [`Watch::call`].
    pub async fn fetch_set(
        self: &Rc<Self>,
        set: &RefCell<FetchSet>,
        limits: FetchLimits,
        goes_on: &dyn Fn() -> bool,
    ) -> (FoundBySlot, FetchTimes) {
        self.metrics.fetch_requests.add(1);
        let deadline = Instant::now() + limits.wait.min(WAIT_MAX);
        let wanted = set.borrow_mut().due();
        let (look, mut found) = (self.look_at(&wanted, limits).await, FoundBySlot::new());
        let ends = set.borrow().is_empty() || !goes_on() || self.ends(&look, limits, deadline);
        let mut times = look.times(false);
        self.note(set, &wanted, look.results, ends, &mut found);
        if !ends {
            times = self.fetch_more(set, wanted, limits, deadline, goes_on, &mut found).await;
        }
        self.count_fetched(found.values());
        (found, times)
    }

    /// Looks again and again at what is due, until there is enough, the time is over, or `goes_on` says no.
    async fn fetch_more(
        self: &Rc<Self>,
        set: &RefCell<FetchSet>,
        mut wanted: Vec<(u32, FetchFrom)>,
        limits: FetchLimits,
        deadline: Instant,
        goes_on: &dyn Fn() -> bool,
        found: &mut FoundBySlot,
    ) -> FetchTimes {
        loop {
            let watch = set.borrow().watch();
            self.wait_for_more(&watch, &wanted, found, deadline).await;
            wanted = set.borrow_mut().due();
            let look = self.look_at(&wanted, limits).await;
            let (times, ends) = (look.times(true), !goes_on() || self.ends(&look, limits, deadline));
            self.note(set, &wanted, look.results, ends, found);
            if ends {
                return times;
            }
        }
    }

    fn ends(&self, look: &Look, limits: FetchLimits, deadline: Instant) -> bool {
        look.is_enough(limits.bytes_min) || look.ended >= deadline || self.is_stopping()
    }

    fn count_fetched<'a>(&self, results: impl Iterator<Item = &'a Result<Fetched, OpError>>) {
        for result in results {
            match result {
                Ok(fetched) => self.metrics.fetch_bytes.add(fetched.bytes() as u64),
                Err(error) => self.metrics.refused(error.code),
            }
        }
    }

    async fn look_at(self: &Rc<Self>, wanted: &[(u32, FetchFrom)], limits: FetchLimits) -> Look {
        let partitions: Vec<FetchFrom> = wanted.iter().map(|(_, from)| *from).collect();
        self.look(&partitions, limits).await
    }

    async fn look(self: &Rc<Self>, partitions: &[FetchFrom], limits: FetchLimits) -> Look {
        let began = Instant::now();
        // Given back at once: what is answered is queued without a wait in between, and counts from then on.
        let claim = self.unsent.claim(limits.bytes_max);
        let mut results = self.fetch_once(partitions, claim.bytes()).await;
        if claim.bytes() < limits.bytes_max {
            results.iter_mut().flatten().for_each(Fetched::unshare);
        }
        let bytes = results.iter().flatten().map(Fetched::bytes).sum();
        Look { results, bytes, claimed_bytes: claim.bytes(), began, ended: Instant::now() }
    }

    /// Takes note of a look: watches what can be watched, and settles what is idle. What is not to be answered yet is kept
    /// without its batches, so that a client that waits holds no memory.
    fn note(
        &self,
        set: &RefCell<FetchSet>,
        wanted: &[(u32, FetchFrom)],
        results: FetchResults,
        keeps_batches: bool,
        found: &mut FoundBySlot,
    ) {
        let mut set = set.borrow_mut();
        for ((slot, from), mut result) in wanted.iter().zip(results) {
            if let Ok(fetched) = &result
                && !set.is_watched(*slot)
                && set.get(*slot).is_some_and(|now| now.at == from.at)
            {
                self.watch_one(&mut set, *slot, from.at, fetched.committed);
            }
            set.settle(*slot, from, &result);
            if !keeps_batches && let Ok(fetched) = &mut result {
                fetched.batches.clear();
            }
            found.insert(*slot, result);
        }
    }

    /// Watches a partition of this core from what was seen of it.
    fn watch_one(&self, set: &mut FetchSet, slot: u32, at: TopicPartition, seen: Offset) {
        if self.reader(at, IN_SYNC) != Ok(self.core()) {
            return;
        }
        if let (Ok(partition), Some(flag)) = (self.readable(at, IN_SYNC), set.begin_watch(slot)) {
            partition.watch(&flag);
            if partition.committed() != seen {
                flag.raise();
            }
        }
    }

    /// Waits until a partition has more than was seen of it, or until `deadline`.
    async fn wait_for_more(
        self: &Rc<Self>,
        watch: &Rc<Watch>,
        wanted: &[(u32, FetchFrom)],
        found: &FoundBySlot,
        deadline: Instant,
    ) {
        let timeout = deadline.saturating_duration_since(Instant::now());
        for (core, indexes) in self.by(wanted, |(_, from)| self.reader(from.at, from.reach)) {
            if core == self.core() {
                continue;
            }
            let seen = |(slot, from): &(u32, FetchFrom)| match found.get(slot) {
                Some(Ok(fetched)) => fetched.committed,
                _ => from.offset,
            };
            let partitions =
                indexes.into_iter().map(|index| (wanted[index].1.at, seen(&wanted[index]))).collect();
            let (shard, watch) = (self.clone(), watch.clone());
            self.queues.spawn(crate::runtime::Queue::Hot, async move {
                let request = CoreRequest::Wait { partitions, timeout };
                let _ = shard.mesh.ask(core, request).await;
                watch.call();
            });
        }
        time::until(deadline, watch.wait()).await;
    }

    async fn fetch_once(self: &Rc<Self>, partitions: &[FetchFrom], bytes_max: usize) -> FetchResults {
        let groups = self.by(partitions, |from| self.reader(from.at, from.reach));
        if let [(core, indexes)] = groups.as_slice()
            && *core == self.core()
            && indexes.len() == partitions.len()
        {
            return self.fetch_here(partitions, bytes_max, true).await;
        }
        let mut results: FetchResults = partitions
            .iter()
            .map(|from| Err(self.reader(from.at, from.reach).err().unwrap_or_else(stopping)))
            .collect();
        let (mut left, mut is_first) = (bytes_max, true);
        for (core, indexes) in groups {
            let wanted: Vec<FetchFrom> = indexes.iter().map(|index| partitions[*index]).collect();
            for (index, result) in indexes.iter().zip(self.fetch_from(core, wanted, left, is_first).await) {
                let bytes = result.as_ref().map_or(0, Fetched::bytes);
                left = left.saturating_sub(bytes);
                is_first &= bytes == 0;
                results[*index] = result;
            }
        }
        results
    }

    /// The core of this node that answers a fetch.
    ///
    /// # Errors
    /// When no replica here may.
    fn reader(&self, at: TopicPartition, reach: Reach) -> Result<CoreId, OpError> {
        let refused = match self.owner(at) {
            Err(refused) if reach != Reach::Leader => refused,
            result => return result,
        };
        let image = self.image();
        let partition = image.topic_by_id(at.topic).and_then(|topic| topic.partition(at.partition));
        let is_in_sync = partition.is_some_and(|it| it.is_replicated() && it.isr.contains(&self.node.get()));
        let core = image.core_on(self.node, at).filter(|_| is_in_sync);
        core.ok_or(refused)
    }

    /// The replica of this core that answers a fetch.
    ///
    /// # Errors
    /// When none may.
    fn readable(&self, at: TopicPartition, reach: Reach) -> Result<Rc<Partition<D>>, OpError> {
        let refused = match self.partition(at) {
            Err(refused) if reach != Reach::Leader => refused,
            result => return result,
        };
        if self.reader(at, reach)? != self.core() {
            return Err(refused);
        }
        self.partitions.borrow().get(&at).cloned().ok_or(refused)
    }

    async fn fetch_from(
        self: &Rc<Self>,
        core: CoreId,
        wanted: Vec<FetchFrom>,
        left: usize,
        is_first: bool,
    ) -> FetchResults {
        if core == self.core() {
            return self.fetch_here(&wanted, left, is_first).await;
        }
        self.metrics.mesh_hops.add(1);
        let count = wanted.len();
        let request = CoreRequest::Fetch { partitions: wanted, bytes_max: left, at_least_one: is_first };
        match self.mesh.ask(core, request).await {
            Ok(CoreReply::Fetched(results)) => results,
            _ => (0..count).map(|_| Err(stopping())).collect(),
        }
    }

    /// Reads partitions of this core, without waiting for data: at most `bytes_max` altogether, except that with
    /// `at_least_one` the first batch found is given whatever its size.
    pub async fn fetch_here(
        &self,
        partitions: &[FetchFrom],
        bytes_max: usize,
        mut at_least_one: bool,
    ) -> FetchResults {
        let mut results = Vec::with_capacity(partitions.len());
        let mut left = bytes_max;
        for from in partitions {
            let result = self.fetch_one(from, left, at_least_one).await;
            let bytes = result.as_ref().map_or(0, Fetched::bytes);
            left = left.saturating_sub(bytes);
            at_least_one &= bytes == 0;
            results.push(result);
        }
        results
    }

    async fn fetch_one(&self, from: &FetchFrom, left: usize, at_least_one: bool) -> Result<Fetched, OpError> {
        let partition = self.readable(from.at, from.reach)?;
        let leads = partition.leads();
        let refusal = |error: crate::partition::fetch::FetchError| {
            let code = match error.code() {
                // The leader is ahead of this replica: what is not here yet may be there.
                ErrorCode::OffsetOutOfRange if !leads && from.offset > partition.start() => {
                    ErrorCode::OffsetNotAvailable
                }
                code => code,
            };
            OpError::new(code, format!("{}/{}: {error}", partition.topic, from.at.partition))
        };
        partition.check_epoch(from.epoch).map_err(refusal)?;
        if let Reach::InSync { nearer: Some(node) } = from.reach
            && leads
            && let Some(sent) = partition.send_to(node, from.offset)
        {
            return Ok(sent);
        }
        if let Some(last) = from.last_epoch
            && let Some(diverging) = partition.diverging(last, from.offset).map_err(refusal)?
        {
            return Ok(diverging);
        }
        let bytes_max = from.bytes_max.min(left);
        if at_least_one {
            return partition
                .fetch_isolated(from.offset, bytes_max.max(1), from.isolation)
                .await
                .map_err(refusal);
        }
        let mut fetched =
            partition.fetch_isolated(from.offset, bytes_max, from.isolation).await.map_err(refusal)?;
        fetched.limit(bytes_max);
        Ok(fetched)
    }

    /// Waits until a partition of this core has more than the offset given, or until the time is over.
    pub async fn wait_here(&self, partitions: Vec<(TopicPartition, Offset)>, timeout: Duration) {
        let deadline = Instant::now() + timeout.min(WAIT_MAX);
        let watch = Watch::new();
        let mut flags: Vec<Rc<Flag>> = Vec::with_capacity(partitions.len());
        for (at, seen) in partitions {
            match self.readable(at, IN_SYNC) {
                Ok(partition) if partition.committed() <= seen => {
                    let flag = watch.flag(0);
                    partition.watch(&flag);
                    flags.push(flag);
                }
                _ => return,
            }
        }
        time::until(deadline, watch.wait()).await;
    }

    /// Sorts items by the core that owns their partition; items without an owner are left out.
    pub(super) fn by_owner<T>(
        &self,
        items: &[T],
        at: impl Fn(&T) -> TopicPartition,
    ) -> Vec<(CoreId, Vec<usize>)> {
        self.by(items, |item| self.owner(at(item)))
    }

    /// The cores that items belong to, each with the places of its items.
    fn by<T>(&self, items: &[T], owner: impl Fn(&T) -> Result<CoreId, OpError>) -> Vec<(CoreId, Vec<usize>)> {
        let mut groups: Vec<(CoreId, Vec<usize>)> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Ok(core) = owner(item) else { continue };
            match groups.iter_mut().find(|(known, _)| *known == core) {
                Some((_, indexes)) => indexes.push(index),
                None => groups.push((core, vec![index])),
            }
        }
        groups
    }
}
