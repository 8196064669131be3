//! Drives a coordinator as its caller would, with a clock of its own and a list for a disk.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use heddle_proto::{
    error::ErrorCode,
    ids::{Epoch, Offset, PartitionIndex, TopicId, TopicPartition},
};

use crate::coordinator::group::{
    GroupConfig, GroupCoordinator, GroupRecord, HeldReply, Millis, RequestId, TopicImage, TopicInfo,
    WriteSequence, ids::Generation, message::*,
};

pub const GROUP: &str = "g";

/// A coordinator, its records, and the replies nobody has looked at yet.
pub struct Driver {
    pub machine: GroupCoordinator,
    pub config: Arc<GroupConfig>,
    pub topics: Arc<TopicImage>,
    pub now: i64,
    pub records: Vec<GroupRecord>,
    pub last_write: WriteSequence,
    pub replies: BTreeMap<RequestId, HeldReply>,
    requests: u64,
}

/// The topics `a`, `b`, ... with the given numbers of partitions.
pub fn topics(counts: &[u32]) -> Arc<TopicImage> {
    let topics = (0u8..).zip(counts).map(|(index, count)| {
        let name = char::from(b'a' + index).to_string();
        (name.as_str().into(), TopicInfo { id: topic_id(index), partition_count: *count })
    });
    Arc::new(TopicImage::new(topics))
}

pub fn topic_id(index: u8) -> TopicId {
    TopicId::new([index + 1; 16])
}

pub fn partition(topic: u8, index: u32) -> TopicPartition {
    TopicPartition::new(topic_id(topic), PartitionIndex::new(index))
}

pub fn named(topic: &str, index: u32) -> TopicPartitionName {
    TopicPartitionName { topic: topic.into(), partition: PartitionIndex::new(index) }
}

impl Driver {
    pub fn new() -> Self {
        Self::with(GroupConfig::default(), topics(&[4, 4]))
    }

    pub fn with(config: GroupConfig, topics: Arc<TopicImage>) -> Self {
        let config = Arc::new(config);
        let mut driver = Self {
            machine: GroupCoordinator::new(config.clone(), topics.clone()),
            config,
            topics,
            now: 1_000_000,
            records: Vec::new(),
            last_write: WriteSequence::default(),
            replies: BTreeMap::new(),
            requests: 0,
        };
        driver.take(|machine, now| machine.loaded(now));
        driver
    }

    fn take(
        &mut self,
        act: impl FnOnce(&mut GroupCoordinator, Millis) -> crate::coordinator::group::Effects,
    ) {
        let effects = act(&mut self.machine, Millis::new(self.now));
        if let Some(write) = effects.write {
            assert_eq!(write.sequence, self.last_write.next(), "writes are counted without a gap");
            assert!(!write.records.is_empty());
            self.last_write = write.sequence;
            self.records.extend(write.records);
        }
        assert_eq!(effects.next_deadline, self.machine.next_deadline());
        for reply in effects.replies {
            assert!(reply.after <= self.last_write, "a reply waits for a write that was not asked for");
            let before = self.replies.insert(reply.to, reply);
            assert!(before.is_none(), "a request was answered twice: {before:?}");
        }
    }

    pub fn apply(&mut self, event: Event) {
        self.take(|machine, now| machine.apply(event, now));
    }

    pub fn ask(&mut self, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId::new(self.requests);
        self.apply(Event::Request(id, request));
        id
    }

    /// A request that is answered at once.
    pub fn call(&mut self, request: Request) -> Reply {
        let id = self.ask(request);
        self.reply(id)
    }

    #[track_caller]
    pub fn reply(&mut self, id: RequestId) -> Reply {
        self.replies.remove(&id).unwrap_or_else(|| panic!("{id:?} is not answered")).reply
    }

    pub fn is_answered(&self, id: RequestId) -> bool {
        self.replies.contains_key(&id)
    }

    /// Lets time pass, with a tick at every deadline.
    pub fn wait(&mut self, span_ms: i64) {
        let end = self.now + span_ms;
        while let Some(due) = self.machine.next_deadline().filter(|due| due.get() <= end) {
            self.now = self.now.max(due.get());
            self.apply(Event::Tick);
        }
        self.now = end;
    }

    /// The coordinator that a restart would make of the records, before its timers run.
    pub fn replayed(&self) -> GroupCoordinator {
        let mut machine = GroupCoordinator::new(self.config.clone(), self.topics.clone());
        for record in &self.records {
            let (key, value) = (record.encode_key(), record.encode_value());
            machine.replay(GroupRecord::decode(&key, value.as_deref()).unwrap());
        }
        machine
    }

    /// The process dies with everything written, and starts again.
    pub fn restart(&mut self) {
        self.machine = self.replayed();
        self.last_write = WriteSequence::default();
        self.replies.clear();
        self.take(|machine, now| machine.loaded(now));
    }

    // The classic protocol.

    pub fn join(&mut self, join: Join) -> RequestId {
        self.requests += 1;
        let request = join.request(self.requests);
        self.ask(Request::JoinGroup(request))
    }

    #[track_caller]
    pub fn joined(&mut self, id: RequestId) -> JoinAnswer {
        match self.reply(id) {
            Reply::JoinGroup(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn sync(&mut self, member: &JoinAnswer, given: &[(&JoinAnswer, &'static str)]) -> RequestId {
        let assignments = given.iter().map(|(member, bytes)| MemberAssignment {
            member: member.member.clone(),
            assignment: Bytes::from_static(bytes.as_bytes()),
        });
        self.ask(Request::SyncGroup(SyncGroup {
            group: GROUP.into(),
            generation: member.generation,
            member: member.member.clone(),
            instance: None,
            protocol_type: None,
            protocol: None,
            assignments: assignments.collect(),
        }))
    }

    #[track_caller]
    pub fn synced(&mut self, id: RequestId) -> SyncAnswer {
        match self.reply(id) {
            Reply::SyncGroup(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn heartbeat(&mut self, member: &JoinAnswer) -> ErrorCode {
        self.heartbeat_as(member, None)
    }

    #[track_caller]
    pub fn heartbeat_as(&mut self, member: &JoinAnswer, instance: Option<&str>) -> ErrorCode {
        let heartbeat = Heartbeat {
            group: GROUP.into(),
            generation: member.generation,
            member: member.member.clone(),
            instance: instance.map(Into::into),
        };
        match self.call(Request::Heartbeat(heartbeat)) {
            Reply::Heartbeat(answer) => answer.error,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let members = members.iter().map(|(member, instance)| LeavingMember {
            member: (*member).into(),
            instance: instance.map(Into::into),
        });
        let request = LeaveGroup { group: GROUP.into(), members: members.collect() };
        match self.call(Request::LeaveGroup(request)) {
            Reply::LeaveGroup(answer) => answer.members.into_iter().map(|left| left.error).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// A stable classic group of new members, the first of them leader, each with its assignment `x`.
    pub fn stable(&mut self, joins: Vec<Join>) -> Vec<JoinAnswer> {
        let waiting: Vec<RequestId> = joins.into_iter().map(|join| self.join(join)).collect();
        self.wait(60_000.min(i64::try_from(self.config.initial_rebalance_delay.as_millis()).unwrap() * 3));
        let members: Vec<JoinAnswer> = waiting.into_iter().map(|id| self.joined(id)).collect();
        let leader = members.iter().position(|member| member.member == member.leader).unwrap();
        let given: Vec<(&JoinAnswer, &'static str)> = members.iter().map(|member| (member, "x")).collect();
        for (index, member) in members.iter().enumerate() {
            let given = if index == leader { given.as_slice() } else { &[] };
            let _ = self.sync(member, given);
        }
        let answers = std::mem::take(&mut self.replies);
        assert!(
            answers
                .values()
                .all(|held| matches!(&held.reply, Reply::SyncGroup(sync) if sync.error.is_none()))
        );
        members
    }

    #[track_caller]
    pub fn state(&mut self) -> GroupState {
        let groups = vec![GROUP.into()];
        match self.call(Request::DescribeGroups(DescribeGroups { groups, unknown_is_error: false })) {
            Reply::DescribeGroups(answer) => answer.groups[0].state,
            other => panic!("{other:?}"),
        }
    }

    // Offsets.

    #[track_caller]
    pub fn commit(&mut self, commit: Commit) -> Vec<ErrorCode> {
        match self.call(Request::OffsetCommit(commit.request())) {
            Reply::OffsetCommit(answer) => answer.partitions.into_iter().map(|result| result.error).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn fetch(&mut self, fetch: OffsetFetch) -> OffsetFetched {
        match self.call(Request::OffsetFetch(fetch)) {
            Reply::OffsetFetch(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// The committed offset of a partition, or -1.
    #[track_caller]
    pub fn offset(&mut self, topic: &str, index: u32) -> i64 {
        self.fetch(fetch_of(vec![named(topic, index)])).partitions[0].offset.get()
    }

    // KIP-848.

    #[track_caller]
    pub fn beat(&mut self, heartbeat: ConsumerGroupHeartbeat) -> ConsumerGroupHeartbeatAnswer {
        match self.call(Request::ConsumerGroupHeartbeat(heartbeat)) {
            Reply::ConsumerGroupHeartbeat(answer) => answer,
            other => panic!("{other:?}"),
        }
    }
}

/// A JoinGroup to be.
#[derive(Clone)]
pub struct Join(JoinGroup);

pub fn join(member: &str) -> Join {
    Join(JoinGroup {
        group: GROUP.into(),
        member: member.into(),
        instance: None,
        new_member: "".into(),
        member_id_required: false,
        can_skip_assignment: false,
        client: Client::new("client", "/127.0.0.1"),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
        protocol_type: "consumer".into(),
        protocols: protocols(&[("range", "a")]),
    })
}

pub fn protocols(list: &[(&str, &'static str)]) -> Arc<[MemberProtocol]> {
    let protocols = list
        .iter()
        .map(|(name, topic)| MemberProtocol { name: (*name).into(), metadata: subscription(topic) });
    protocols.collect()
}

/// A ConsumerProtocolSubscription to one topic.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 1, 0, 0, 0, 1];
    bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend([255, 255, 255, 255]);
    bytes.into()
}

impl Join {
    fn request(mut self, number: u64) -> JoinGroup {
        self.0.new_member = format!("m{number:03}").as_str().into();
        self.0
    }

    pub fn change(mut self, change: impl FnOnce(&mut JoinGroup)) -> Self {
        change(&mut self.0);
        self
    }

    pub fn instance(self, instance: &str) -> Self {
        self.change(|join| join.instance = Some(instance.into()))
    }

    pub fn protocols(self, list: &[(&str, &'static str)]) -> Self {
        self.change(|join| join.protocols = protocols(list))
    }

    pub fn id_required(self) -> Self {
        self.change(|join| join.member_id_required = true)
    }
}

/// An OffsetCommit to be.
pub struct Commit(OffsetCommit);

/// From outside the group.
pub fn commit(topic: &str, index: u32, offset: i64) -> Commit {
    Commit(OffsetCommit {
        group: GROUP.into(),
        generation_or_epoch: -1,
        member: "".into(),
        instance: None,
        knows_consumer_groups: true,
        expires: None,
        partitions: vec![commit_partition(topic, index, offset)],
    })
}

pub fn commit_partition(topic: &str, index: u32, offset: i64) -> CommitPartition {
    CommitPartition {
        partition: named(topic, index),
        offset: Offset::new(offset),
        leader_epoch: Epoch::new(3),
        metadata: Some("note".into()),
    }
}

impl Commit {
    pub fn change(mut self, change: impl FnOnce(&mut OffsetCommit)) -> Self {
        change(&mut self.0);
        self
    }

    pub fn by(self, member: &str, generation_or_epoch: i32) -> Self {
        self.change(|commit| {
            commit.member = member.into();
            commit.generation_or_epoch = generation_or_epoch;
        })
    }

    pub fn request(self) -> OffsetCommit {
        self.0
    }
}

pub fn fetch_of(partitions: Vec<TopicPartitionName>) -> OffsetFetch {
    OffsetFetch {
        group: GROUP.into(),
        member: None,
        epoch: -1,
        require_stable: false,
        topics: FetchTopics::These(partitions),
    }
}

/// A heartbeat of a consumer group's member that has nothing new to say.
pub fn beat(member: &str, epoch: i32) -> ConsumerGroupHeartbeat {
    ConsumerGroupHeartbeat {
        group: GROUP.into(),
        member: member.into(),
        new_member: "given".into(),
        epoch: crate::coordinator::group::GroupEpoch::new(epoch),
        instance: None,
        rack: None,
        rebalance_timeout: None,
        subscribed_names: None,
        subscribed_regex: None,
        server_assignor: None,
        owned: None,
        client: Client::new("client", "/127.0.0.1"),
    }
}

/// A member of a consumer group joins.
pub fn enter(member: &str, names: &[&str]) -> ConsumerGroupHeartbeat {
    ConsumerGroupHeartbeat {
        rebalance_timeout: Some(Duration::from_secs(60)),
        subscribed_names: Some(names.iter().map(|name| (*name).into()).collect()),
        owned: Some(Assignment::new()),
        ..beat(member, 0)
    }
}

pub fn generation(number: i32) -> Generation {
    Generation::new(number)
}
