//! The coordinator: all groups of one partition of the internal topic, and the way from an event to its effects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use heddle_proto::{error::ErrorCode, ids::ProducerId};

use super::{
    classic::ClassicGroup,
    config::GroupConfig,
    consumer::ConsumerGroup,
    context::Context,
    deadlines::{Deadlines, Timer},
    effects::{Effects, Output},
    group::{Group, Members},
    ids::{GroupId, Millis, RequestId, WriteSequence},
    message::{Event, Reply, Request, TopicPartitionName},
    record::{GroupRecord, ProducerValue},
    topics::TopicImage,
};

/// Numbers of one coordinator.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupStats {
    /// Groups that it knows, empty ones included.
    pub group_count: usize,
    /// Members of all of them.
    pub member_count: usize,
    /// Generations and epochs that began since it was loaded.
    pub rebalance_count: u64,
}

/// The groups of one partition of the internal topic. See the [module](super) for how it is driven.
pub struct GroupCoordinator {
    pub(super) config: Arc<GroupConfig>,
    pub(super) topics: Arc<TopicImage>,
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// The last epoch of each transactional producer.
    pub(super) producers: BTreeMap<ProducerId, ProducerValue>,
    /// The groups in which a producer has offsets waiting for the end of its transaction.
    pub(super) open: BTreeMap<ProducerId, BTreeSet<GroupId>>,
    pub(super) deadlines: Deadlines,
    pub(super) now: Millis,
    /// Where the search for expired offsets goes on.
    pub(super) expiry_cursor: Option<GroupId>,
    last_write: WriteSequence,
    rebalance_count: u64,
}

impl GroupCoordinator {
    /// A coordinator that knows nothing yet: [`Self::replay`] every record, then [`Self::loaded`].
    pub fn new(config: Arc<GroupConfig>, topics: Arc<TopicImage>) -> Self {
        Self {
            config,
            topics,
            groups: BTreeMap::new(),
            producers: BTreeMap::new(),
            open: BTreeMap::new(),
            deadlines: Deadlines::default(),
            now: Millis::new(i64::MIN),
            expiry_cursor: None,
            last_write: WriteSequence::default(),
            rebalance_count: 0,
        }
    }

    /// What an operator wants to count.
    pub fn stats(&self) -> GroupStats {
        GroupStats {
            group_count: self.groups.len(),
            member_count: self.groups.values().map(Group::member_count).sum(),
            rebalance_count: self.rebalance_count,
        }
    }

    /// Applies a record that was read from the internal topic. Any sequence of records is taken: what no coordinator
    /// would have written changes something harmless or nothing.
    pub fn replay(&mut self, record: GroupRecord) {
        let Some(id) = record.group().cloned() else {
            self.replay_producer(&record);
            return;
        };
        let is_tombstone = record.is_tombstone();
        if is_tombstone && !self.groups.contains_key(&id) {
            return;
        }
        let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(Millis::default()));
        match record {
            GroupRecord::Offset { topic, partition, value, .. } => {
                group.offsets.apply_offset(topic, partition, value);
            }
            GroupRecord::PendingOffset { producer, topic, partition, value, .. } => {
                group.offsets.apply_pending(producer, TopicPartitionName { topic, partition }, value);
                let is_open = group.offsets.has_pending_of(producer);
                self.note_open(producer, &id, is_open);
            }
            GroupRecord::ClassicGroup { value: Some(value), .. } => {
                group.members = Members::Classic(ClassicGroup::from_value(value));
            }
            GroupRecord::ClassicGroup { value: None, .. } => {
                if matches!(group.members, Members::Classic(_)) {
                    group.members = Members::Classic(ClassicGroup::new(Millis::default()));
                }
            }
            GroupRecord::ConsumerGroup { value: None, .. } => {
                if matches!(group.members, Members::Consumer(_)) {
                    group.members = Members::Classic(ClassicGroup::new(Millis::default()));
                }
            }
            record => {
                if let Members::Classic(_) = group.members {
                    if is_tombstone {
                        return;
                    }
                    group.members = Members::Consumer(ConsumerGroup::default());
                }
                if let Members::Consumer(group) = &mut group.members {
                    group.apply(&record);
                }
            }
        }
    }

    /// All records are read: members' time runs from now, and requests may come.
    pub fn loaded(&mut self, now: Millis) -> Effects {
        self.now = now;
        let mut output = Output::default();
        self.groups.retain(|_, group| {
            let is_simple = matches!(&group.members, Members::Classic(classic) if !classic.is_recorded());
            !(is_simple && group.is_forgettable())
        });
        for id in self.group_ids() {
            self.with_group(&id, &mut output, |group, cx| match &mut group.members {
                Members::Classic(group) => group.on_loaded(cx),
                Members::Consumer(group) => group.on_loaded(cx),
            });
        }
        self.deadlines.schedule(Timer::ExpireOffsets, now.plus(self.config.offsets_check_interval));
        self.finish(output)
    }

    /// Takes an event. A `now` before that of an earlier event counts as that one's.
    pub fn apply(&mut self, event: Event, now: Millis) -> Effects {
        self.now = self.now.max(now);
        let mut output = Output::default();
        match event {
            Event::Request(to, request) => self.on_request(&mut output, to, request),
            Event::Tick => self.on_tick(&mut output),
            Event::TopicsChanged(topics) => self.on_topics_changed(&mut output, topics),
            Event::ConfigChanged(config) => self.config = config,
            Event::TransactionEnded { request, producer, epoch, committed } => {
                self.on_transaction_ended(&mut output, producer, epoch, committed);
                output.reply(request, Reply::TransactionEnded);
            }
        }
        self.finish(output)
    }

    /// The coordinator goes away: because a write failed, or because its partition moves. Whoever waits inside it is
    /// refused with `error` (Kafka: `NotCoordinator`); replies that the caller still holds are the caller's to refuse.
    pub fn unload(self, error: ErrorCode) -> Vec<(RequestId, Reply)> {
        let classic = self.groups.into_values().filter_map(|group| match group.members {
            Members::Classic(group) => Some(group),
            Members::Consumer(_) => None,
        });
        classic.flat_map(|group| group.refuse_waiting(error)).collect()
    }

    /// The durable state as records, one for each key; a coordinator that replays them has the same state. A classic
    /// group in the middle of a rebalance is left out, as its record is not kept.
    pub fn snapshot(&self) -> Vec<GroupRecord> {
        let mut records: Vec<GroupRecord> = self
            .producers
            .iter()
            .map(|(producer, value)| GroupRecord::Producer { producer: *producer, value: Some(*value) })
            .collect();
        for (id, group) in &self.groups {
            match &group.members {
                Members::Classic(classic) => {
                    let value = classic.settled_value();
                    let record = GroupRecord::ClassicGroup { group: id.clone(), value };
                    records.extend(Some(record).filter(|_| classic.settled_value().is_some()));
                }
                Members::Consumer(consumer) => records.extend(consumer.snapshot(id)),
            }
            records.extend(group.offsets.snapshot(id));
        }
        records
    }

    /// When to come back with a tick, at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.next()
    }

    fn on_request(&mut self, output: &mut Output, to: RequestId, request: Request) {
        match request {
            Request::JoinGroup(request) => self.on_join_group(output, to, &request),
            Request::SyncGroup(request) => self.on_sync_group(output, to, request),
            Request::Heartbeat(request) => self.on_heartbeat(output, to, &request),
            Request::LeaveGroup(request) => self.on_leave_group(output, to, request),
            Request::ConsumerGroupHeartbeat(request) => {
                self.on_consumer_group_heartbeat(output, to, &request)
            }
            Request::ConsumerGroupDescribe(request) => self.on_consumer_group_describe(output, to, &request),
            Request::OffsetCommit(request) => self.on_offset_commit(output, to, request),
            Request::TxnOffsetCommit(request) => self.on_txn_offset_commit(output, to, request),
            Request::OffsetFetch(request) => self.on_offset_fetch(output, to, request),
            Request::OffsetDelete(request) => self.on_offset_delete(output, to, request),
            Request::ListGroups(request) => self.on_list_groups(output, to, &request),
            Request::DescribeGroups(request) => self.on_describe_groups(output, to, &request),
            Request::DeleteGroups(request) => self.on_delete_groups(output, to, request),
        }
    }

    fn on_tick(&mut self, output: &mut Output) {
        while let Some(timer) = self.deadlines.pop_due(self.now) {
            match timer {
                Timer::ExpireOffsets => {
                    self.expire(output);
                    if output.record_count() >= super::expiry::RECORDS_MAX {
                        // The rest comes with the next tick, in a write of its own.
                        return;
                    }
                }
                Timer::JoinPhase(id) => self.with_classic(&id, output, ClassicGroup::on_join_phase_over),
                Timer::SyncPhase(id, generation) => {
                    self.with_classic(&id, output, |group, cx| group.on_sync_phase_over(cx, generation));
                }
                Timer::ClassicSession(id, member) => {
                    self.with_classic(&id, output, |group, cx| group.on_session_over(cx, &member));
                }
                Timer::ConsumerSession(id, member) => {
                    self.with_consumer(&id, output, |group, cx| group.on_session_over(cx, &member));
                }
                Timer::ConsumerRebalance(id, member) => {
                    self.with_consumer(&id, output, |group, cx| group.on_rebalance_over(cx, &member));
                }
            }
        }
    }

    fn on_topics_changed(&mut self, output: &mut Output, topics: Arc<TopicImage>) {
        let before = std::mem::replace(&mut self.topics, topics);
        let is_gone = |id| self.topics.by_id(id).is_none();
        let gone: Vec<_> =
            before.iter().filter(|(_, topic)| is_gone(topic.id)).map(|(name, _)| name.clone()).collect();
        for id in self.group_ids() {
            self.with_group(&id, output, |group, cx| {
                if let Members::Consumer(consumer) = &mut group.members {
                    consumer.on_topics_changed();
                }
                gone.iter().for_each(|topic| group.offsets.forget_topic(cx, topic));
            });
            self.note_closed(&id);
        }
    }

    fn replay_producer(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Producer { producer, value: Some(value) } => {
                self.producers.insert(*producer, *value);
            }
            GroupRecord::Producer { producer, value: None } => {
                self.producers.remove(producer);
            }
            _ => {}
        }
    }

    /// Runs `work` on a group, if there is one.
    pub(super) fn with_group<R>(
        &mut self,
        id: &GroupId,
        output: &mut Output,
        work: impl FnOnce(&mut Group, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(id)?;
        let mut cx = Context {
            now: self.now,
            group: id,
            config: &self.config,
            topics: &self.topics,
            deadlines: &mut self.deadlines,
            output,
        };
        Some(work(group, &mut cx))
    }

    fn with_classic(
        &mut self,
        id: &GroupId,
        output: &mut Output,
        work: impl FnOnce(&mut ClassicGroup, &mut Context<'_>),
    ) {
        self.with_group(id, output, |group, cx| {
            if let Members::Classic(group) = &mut group.members {
                work(group, cx);
            }
        });
    }

    fn with_consumer(
        &mut self,
        id: &GroupId,
        output: &mut Output,
        work: impl FnOnce(&mut ConsumerGroup, &mut Context<'_>),
    ) {
        self.with_group(id, output, |group, cx| {
            if let Members::Consumer(group) = &mut group.members {
                work(group, cx);
            }
        });
    }

    pub(super) fn group_ids(&self) -> Vec<GroupId> {
        self.groups.keys().cloned().collect()
    }

    /// Makes a group unless it exists or there are too many.
    pub(super) fn ensure_group(&mut self, id: &GroupId) -> Result<(), ErrorCode> {
        if !self.groups.contains_key(id) {
            if self.groups.len() >= self.config.groups_max {
                return Err(ErrorCode::PolicyViolation);
            }
            self.groups.insert(id.clone(), Group::new(self.now));
        }
        Ok(())
    }

    fn finish(&mut self, output: Output) -> Effects {
        self.rebalance_count += output.rebalance_count();
        if !output.records().is_empty() {
            self.last_write = self.last_write.next();
            for id in output.records().iter().filter_map(GroupRecord::group) {
                if let Some(group) = self.groups.get_mut(id) {
                    group.last_write = self.last_write;
                }
            }
        }
        let last_write_of = |id: &GroupId| self.groups.get(id).map(|group| group.last_write);
        output.into_effects(self.last_write, last_write_of, self.deadlines.next())
    }
}
