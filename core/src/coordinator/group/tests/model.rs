//! Random events against what must always hold: clients of both protocols, lost replies, crashes that lose whatever was
//! not durable, and time that passes.
//!
//! Checked after every event: the live state is what the records say; no two clients own one partition; epochs and
//! generations never go back; an assignment is the one its generation's leader gave. Checked at the end: everybody who
//! waited was answered, and nothing is left in memory once everybody has gone. `HEDDLE_PROPTEST_CASES` sets how many
//! cases run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use heddle_proto::{
    error::ErrorCode,
    ids::{ProducerEpoch, ProducerId},
};
use proptest::{collection, prelude::*};

use super::harness::*;
use crate::coordinator::group::{
    Effects, GroupConfig, GroupCoordinator, GroupRecord, HeldReply, Millis, RequestId, TopicImage,
    group::Members, message::*, record::ConsumerGroupValue,
};

const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";
const MIXED: &str = "mixed";
const CLIENT_COUNT: usize = 5;

#[derive(Clone, Debug)]
enum Op {
    /// Everybody does what a client would do next, and what was written becomes durable.
    Round,
    Join {
        client: usize,
        changes: bool,
        is_restarted: bool,
    },
    Sync {
        client: usize,
    },
    Heartbeat {
        client: usize,
    },
    Leave {
        client: usize,
    },
    Beat {
        client: usize,
        reports: bool,
        wishes: Option<u8>,
    },
    Revoke {
        client: usize,
    },
    Quit {
        client: usize,
        comes_back: bool,
    },
    Raw {
        request: usize,
        member: u8,
        number: i32,
    },
    Commit {
        client: usize,
        topic: u8,
        is_consumer: bool,
    },
    Txn {
        producer: u8,
        epoch: i16,
    },
    EndTxn {
        producer: u8,
        epoch: i16,
        committed: bool,
    },
    Topics {
        counts: Vec<u32>,
    },
    Delete,
    Wait {
        ms: i64,
    },
    Flush {
        writes: u64,
    },
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENT_COUNT;
    prop_oneof![
        14 => Just(Op::Round),
        6 => (client.clone(), prop::bool::weighted(0.2), prop::bool::weighted(0.3))
            .prop_map(|(client, changes, is_restarted)| Op::Join { client, changes, is_restarted }),
        8 => client.clone().prop_map(|client| Op::Sync { client }),
        4 => client.clone().prop_map(|client| Op::Heartbeat { client }),
        1 => client.clone().prop_map(|client| Op::Leave { client }),
        16 => (client.clone(), prop::bool::weighted(0.6), prop::option::weighted(0.2, any::<u8>()))
            .prop_map(|(client, reports, wishes)| Op::Beat { client, reports, wishes }),
        6 => client.clone().prop_map(|client| Op::Revoke { client }),
        2 => (client.clone(), any::<bool>()).prop_map(|(client, comes_back)| Op::Quit { client, comes_back }),
        3 => (0..9usize, 0..4u8, -3..4i32).prop_map(|(request, member, number)| Op::Raw { request, member, number }),
        2 => (client, 0..3u8, any::<bool>())
            .prop_map(|(client, topic, is_consumer)| Op::Commit { client, topic, is_consumer }),
        1 => (0..3u8, 0..3i16).prop_map(|(producer, epoch)| Op::Txn { producer, epoch }),
        1 => (0..3u8, 0..3i16, any::<bool>())
            .prop_map(|(producer, epoch, committed)| Op::EndTxn { producer, epoch, committed }),
        1 => collection::vec(0..6u32, 0..4).prop_map(|counts| Op::Topics { counts }),
        1 => Just(Op::Delete),
        5 => prop_oneof![4 => Just(1_000), 4 => Just(3_000), 2 => Just(12_000), 1 => Just(50_000)]
            .prop_map(|ms| Op::Wait { ms }),
        6 => (1..8u64).prop_map(|writes| Op::Flush { writes }),
        3 => Just(Op::Crash),
    ]
}

/// A client of the classic protocol.
#[derive(Default)]
struct ClassicClient {
    instance: Option<String>,
    /// What it calls itself, and every name it ever had: a static member inherits the assignment of an earlier one.
    name: String,
    names: BTreeSet<String>,
    joined: Option<JoinAnswer>,
    outstanding: Option<RequestId>,
    prefers_other: bool,
}

/// A client of KIP-848's protocol.
#[derive(Default)]
struct ConsumerClient {
    name: String,
    instance: Option<String>,
    epoch: i32,
    /// What it really works on.
    owned: Assignment,
    /// What it was told, and has not acted on yet.
    told: Option<Assignment>,
    outstanding: Option<RequestId>,
    /// An answer did not arrive, so the next call says and asks for everything.
    is_unsure: bool,
    wishes: u8,
}

impl ConsumerClient {
    /// The answer it waits for, if any, will not come. What it was told before may be overtaken by it.
    fn lose_answer(&mut self) {
        if self.outstanding.take().is_some() {
            self.is_unsure = true;
            self.told = None;
        }
    }
}

struct World {
    machine: GroupCoordinator,
    config: Arc<GroupConfig>,
    topics: Arc<TopicImage>,
    now: i64,
    /// All writes, durable or not, with their sequence in this life of the machine; 0 for earlier lives.
    writes: Vec<(u64, Vec<GroupRecord>)>,
    durable: u64,
    held: Vec<HeldReply>,
    asked: BTreeSet<RequestId>,
    requests: u64,
    classic: Vec<ClassicClient>,
    consumers: Vec<ConsumerClient>,
    generation: i32,
    /// Whether the classic group was gathering its members when last looked at.
    was_preparing: bool,
    epoch: i32,
}

impl World {
    fn new() -> Self {
        let config = Arc::new(GroupConfig { members_max: 4, ..GroupConfig::default() });
        let topics = topics(&[3, 2]);
        let mut world = Self {
            machine: GroupCoordinator::new(config.clone(), topics.clone()),
            config,
            topics,
            now: 1_000_000,
            writes: Vec::new(),
            durable: 0,
            held: Vec::new(),
            asked: BTreeSet::new(),
            requests: 0,
            classic: (0..CLIENT_COUNT)
                .map(|index| ClassicClient {
                    instance: (index < 2).then(|| format!("static{index}")),
                    ..ClassicClient::default()
                })
                .collect(),
            consumers: (0..CLIENT_COUNT)
                .map(|index| ConsumerClient {
                    name: format!("k{index}"),
                    instance: (index < 2).then(|| format!("static{index}")),
                    wishes: 1 << (index % 2) | 4,
                    ..ConsumerClient::default()
                })
                .collect(),
            generation: 0,
            was_preparing: false,
            epoch: 0,
        };
        let effects = world.machine.loaded(Millis::new(world.now));
        world.take(effects);
        world
    }

    fn take(&mut self, effects: Effects) {
        if let Some(write) = effects.write {
            self.writes.push((write.sequence.get(), write.records));
        }
        for reply in &effects.replies {
            assert!(self.asked.remove(&reply.to), "answered twice, or never asked: {reply:?}");
        }
        self.held.extend(effects.replies);
        self.release();
    }

    fn apply(&mut self, event: Event) {
        let effects = self.machine.apply(event, Millis::new(self.now));
        self.take(effects);
    }

    fn ask(&mut self, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId::new(self.requests);
        self.asked.insert(id);
        self.apply(Event::Request(id, request));
        id
    }

    /// Sends what may be seen.
    fn release(&mut self) {
        let durable = self.durable;
        let (free, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|reply: &HeldReply| reply.after.get() <= durable);
        self.held = held;
        let free: Vec<HeldReply> = free;
        for reply in free {
            self.deliver(reply.to, reply.reply);
        }
    }

    fn deliver(&mut self, to: RequestId, reply: Reply) {
        match reply {
            Reply::JoinGroup(answer) => self.deliver_join(to, answer),
            Reply::SyncGroup(answer) => self.deliver_sync(to, &answer),
            Reply::ConsumerGroupHeartbeat(answer) => self.deliver_beat(to, answer),
            _ => {}
        }
    }

    fn deliver_join(&mut self, to: RequestId, answer: JoinAnswer) {
        let Some(client) = self.classic.iter_mut().find(|client| client.outstanding == Some(to)) else {
            return;
        };
        client.outstanding = None;
        match answer.error {
            ErrorCode::None => {
                client.name = answer.member.to_string();
                client.names.insert(client.name.clone());
                client.joined = Some(answer);
            }
            ErrorCode::MemberIdRequired => client.name = answer.member.to_string(),
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => client.name.clear(),
            _ => {}
        }
    }

    fn deliver_sync(&mut self, to: RequestId, answer: &SyncAnswer) {
        let Some(client) = self.classic.iter_mut().find(|client| client.outstanding == Some(to)) else {
            return;
        };
        client.outstanding = None;
        match answer.error {
            ErrorCode::None => {
                let joined = client.joined.as_ref().expect("it joined before");
                let text = String::from_utf8(answer.assignment.to_vec()).unwrap();
                let (name, generation) = text.split_once('@').expect("the leader has assigned to all");
                assert!(client.names.contains(name), "{text} was not meant for {}", client.name);
                assert_eq!(generation, joined.generation.to_string());
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                client.name.clear();
                client.joined = None;
            }
            _ => client.joined = None,
        }
    }

    fn deliver_beat(&mut self, to: RequestId, answer: ConsumerGroupHeartbeatAnswer) {
        let Some(client) = self.consumers.iter_mut().find(|client| client.outstanding == Some(to)) else {
            return;
        };
        client.outstanding = None;
        if answer.error.is_none() {
            assert!(answer.epoch.get() >= client.epoch, "a member's epoch went back");
            client.epoch = answer.epoch.get();
            client.told = answer.assignment.or(client.told.take());
        } else if answer.error != ErrorCode::UnreleasedInstanceId {
            client.epoch = 0;
            client.owned.clear();
            client.told = None;
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Round => self.round(),
            Op::Join { client, changes, is_restarted } => {
                let joining = &mut self.classic[client];
                if is_restarted && joining.instance.is_some() {
                    joining.name.clear();
                }
                self.join(client, changes);
            }
            Op::Sync { client } => self.sync(client),
            Op::Heartbeat { client } => {
                let client = &self.classic[client];
                let generation = client.joined.as_ref().map_or(generation(1), |joined| joined.generation);
                let heartbeat = Heartbeat {
                    group: CLASSIC.into(),
                    generation,
                    member: client.name.as_str().into(),
                    instance: client.instance.as_deref().map(Into::into),
                };
                self.ask(Request::Heartbeat(heartbeat));
            }
            Op::Leave { client } => {
                let client = &mut self.classic[client];
                let leaving = LeavingMember {
                    member: client.name.as_str().into(),
                    instance: client.instance.as_deref().map(Into::into),
                };
                client.name.clear();
                client.joined = None;
                client.outstanding = None;
                self.ask(Request::LeaveGroup(LeaveGroup { group: CLASSIC.into(), members: vec![leaving] }));
            }
            Op::Beat { client, reports, wishes } => self.beat(client, reports, wishes),
            Op::Revoke { client } => {
                let client = &mut self.consumers[client];
                if client.outstanding.is_none()
                    && let Some(told) = client.told.take()
                {
                    client.owned = told;
                }
            }
            Op::Quit { client, comes_back } => {
                let client = &mut self.consumers[client];
                let epoch = if comes_back && client.instance.is_some() { -2 } else { -1 };
                let mut leaving = beat(&client.name, epoch);
                leaving.group = CONSUMER.into();
                leaving.instance = client.instance.as_deref().map(Into::into);
                client.epoch = 0;
                client.owned.clear();
                client.told = None;
                client.outstanding = None;
                if epoch == -2 {
                    client.name.push('+'); // it comes back as another process
                }
                self.ask(Request::ConsumerGroupHeartbeat(leaving));
            }
            Op::Raw { request, member, number } => self.raw(request, member, number),
            Op::Commit { client, topic, is_consumer } => self.commit(client, topic, is_consumer),
            Op::Txn { producer, epoch } => {
                self.ask(Request::TxnOffsetCommit(TxnOffsetCommit {
                    group: MIXED.into(),
                    producer: ProducerId::new(producer.into()),
                    producer_epoch: ProducerEpoch::new(epoch),
                    generation_or_epoch: -1,
                    member: "".into(),
                    instance: None,
                    partitions: vec![commit_partition("a", u32::from(producer), i64::from(epoch))],
                }));
            }
            Op::EndTxn { producer, epoch, committed } => {
                self.requests += 1;
                let request = RequestId::new(self.requests);
                self.asked.insert(request);
                self.apply(Event::TransactionEnded {
                    request,
                    producer: ProducerId::new(producer.into()),
                    epoch: ProducerEpoch::new(epoch),
                    committed,
                });
            }
            Op::Topics { counts } => {
                self.topics = topics(&counts);
                self.apply(Event::TopicsChanged(self.topics.clone()));
            }
            Op::Delete => {
                let groups = [CLASSIC, CONSUMER, MIXED].map(Into::into).to_vec();
                self.ask(Request::DeleteGroups(DeleteGroups { groups }));
            }
            Op::Wait { ms } => self.wait(ms),
            Op::Flush { writes } => {
                let last = self.writes.last().map_or(0, |(sequence, _)| *sequence);
                self.durable = last.min(self.durable + writes);
                self.release();
            }
            Op::Crash => self.crash(),
        }
    }

    fn round(&mut self) {
        for index in 0..CLIENT_COUNT {
            let client = &self.classic[index];
            match (&client.joined, client.outstanding) {
                (None, None) => self.join(index, false),
                (Some(_), None) => self.sync(index),
                (_, Some(_)) => {}
            }
            self.run(Op::Revoke { client: index });
            if self.consumers[index].outstanding.is_none() {
                self.beat(index, true, None);
            }
        }
        self.run(Op::Flush { writes: u64::MAX / 2 });
        self.wait(500);
    }

    fn join(&mut self, index: usize, changes: bool) {
        let client = &mut self.classic[index];
        client.prefers_other ^= changes;
        client.joined = None;
        self.requests += 1;
        let range = MemberProtocol { name: "range".into(), metadata: Bytes::from_static(b"r") };
        let sticky = MemberProtocol { name: "sticky".into(), metadata: Bytes::from_static(b"s") };
        let protocols = if client.prefers_other { vec![sticky, range] } else { vec![range, sticky] };
        let request = JoinGroup {
            group: CLASSIC.into(),
            member: client.name.as_str().into(),
            instance: client.instance.as_deref().map(Into::into),
            new_member: format!("m{}", self.requests).as_str().into(),
            member_id_required: index.is_multiple_of(2),
            can_skip_assignment: index.is_multiple_of(2),
            client: Client::new("client", "host"),
            session_timeout: Duration::from_secs(30),
            rebalance_timeout: Duration::from_secs(20),
            protocol_type: "consumer".into(),
            protocols: protocols.into(),
        };
        client.names.insert(request.new_member.to_string());
        // The answer may come at once, so it must be expected before.
        client.outstanding = Some(RequestId::new(self.requests + 1));
        self.ask(Request::JoinGroup(request));
    }

    fn sync(&mut self, index: usize) {
        let client = &mut self.classic[index];
        let Some(joined) = &client.joined else { return };
        let is_leader = joined.leader == joined.member && !joined.skip_assignment;
        let give = |member: &JoinedMember| MemberAssignment {
            member: member.member.clone(),
            assignment: format!("{}@{}", member.member, joined.generation).into(),
        };
        let request = SyncGroup {
            group: CLASSIC.into(),
            generation: joined.generation,
            member: joined.member.clone(),
            instance: client.instance.as_deref().map(Into::into),
            protocol_type: joined.protocol_type.clone(),
            protocol: joined.protocol.clone(),
            assignments: if is_leader { joined.members.iter().map(give).collect() } else { Vec::new() },
        };
        client.outstanding = Some(RequestId::new(self.requests + 1));
        self.ask(Request::SyncGroup(request));
    }

    fn beat(&mut self, index: usize, reports: bool, wishes: Option<u8>) {
        let client = &mut self.consumers[index];
        client.lose_answer();
        let is_joining = client.epoch == 0;
        if is_joining {
            client.owned.clear();
            client.told = None;
        }
        let is_full = is_joining || std::mem::take(&mut client.is_unsure);
        let says_wishes = is_full || wishes.is_some();
        client.wishes = wishes.unwrap_or(client.wishes);
        let names =
            ["a", "b", "c"].into_iter().enumerate().filter(|(bit, _)| client.wishes & (1 << bit) != 0);
        let names = names.map(|(_, name)| name.into()).collect();
        let regex = if client.wishes & 8 != 0 { "[bc]" } else { "" };
        let assignor = if client.wishes & 16 != 0 { "range" } else { "uniform" };
        let request = ConsumerGroupHeartbeat {
            group: CONSUMER.into(),
            instance: client.instance.as_deref().map(Into::into),
            rebalance_timeout: is_full.then_some(Duration::from_secs(30)),
            subscribed_names: says_wishes.then_some(names),
            subscribed_regex: says_wishes.then(|| regex.into()),
            server_assignor: says_wishes.then(|| assignor.into()),
            owned: (is_full || reports).then(|| client.owned.clone()),
            ..beat(&client.name, client.epoch)
        };
        client.outstanding = Some(RequestId::new(self.requests + 1));
        self.ask(Request::ConsumerGroupHeartbeat(request));
    }

    /// Requests of both protocols to one group, sensible or not.
    fn raw(&mut self, request: usize, member: u8, number: i32) {
        let member = ["", "m1", "m2", "m3"][usize::from(member)];
        let group = || MIXED.into();
        self.requests += 1;
        let request = match request {
            0 | 1 => Request::JoinGroup(JoinGroup {
                group: group(),
                member: member.into(),
                instance: (number == 2).then(|| "i".into()),
                new_member: format!("m{}", self.requests).as_str().into(),
                member_id_required: number == 1,
                can_skip_assignment: false,
                client: Client::default(),
                session_timeout: Duration::from_secs(6),
                rebalance_timeout: Duration::ZERO,
                protocol_type: "consumer".into(),
                protocols: protocols(&[("range", "a")]),
            }),
            2 => Request::SyncGroup(SyncGroup {
                group: group(),
                generation: generation(number),
                member: member.into(),
                instance: None,
                protocol_type: None,
                protocol: None,
                assignments: Vec::new(),
            }),
            3 => Request::LeaveGroup(LeaveGroup {
                group: group(),
                members: vec![LeavingMember {
                    member: member.into(),
                    instance: (number == 2).then(|| "i".into()),
                }],
            }),
            4 | 5 => Request::ConsumerGroupHeartbeat(ConsumerGroupHeartbeat {
                group: group(),
                instance: (number == 2).then(|| "i".into()),
                ..enter(member, &["a", "b"])
            }),
            6 => Request::ConsumerGroupHeartbeat(ConsumerGroupHeartbeat {
                group: group(),
                ..beat(member, number)
            }),
            7 => Request::OffsetDelete(OffsetDelete { group: group(), partitions: vec![named("a", 0)] }),
            _ => Request::DescribeGroups(DescribeGroups { groups: vec![group()], unknown_is_error: true }),
        };
        self.ask(request);
    }

    fn commit(&mut self, index: usize, topic: u8, is_consumer: bool) {
        let topic = ["a", "b", "c"][usize::from(topic)];
        let request = if is_consumer {
            let client = &self.consumers[index];
            commit(topic, 0, self.now).by(&client.name, client.epoch)
        } else {
            let client = &self.classic[index];
            let generation = client.joined.as_ref().map_or(-1, |joined| joined.generation.get());
            commit(topic, 1, self.now).by(&client.name, generation)
        };
        let group = if is_consumer { CONSUMER } else { CLASSIC };
        self.ask(Request::OffsetCommit(request.change(|commit| commit.group = group.into()).request()));
    }

    fn wait(&mut self, ms: i64) {
        let end = self.now + ms;
        while let Some(due) = self.machine.next_deadline().filter(|due| due.get() <= end) {
            self.now = self.now.max(due.get());
            self.apply(Event::Tick);
        }
        self.now = end;
    }

    /// What is not durable is gone, and so are all connections.
    fn crash(&mut self) {
        let durable = self.durable;
        self.writes.retain(|(sequence, _)| *sequence <= durable);
        self.writes.iter_mut().for_each(|(sequence, _)| *sequence = 0);
        self.durable = 0;
        self.held.clear();
        self.asked.clear();
        self.classic.iter_mut().for_each(|client| client.outstanding = None);
        self.consumers.iter_mut().for_each(ConsumerClient::lose_answer);
        self.generation = 0;
        self.was_preparing = false;
        self.epoch = 0;
        self.machine = self.replayed();
        self.check_seen();
        let effects = self.machine.loaded(Millis::new(self.now));
        self.take(effects);
    }

    /// What clients were told before the crash is there after it, unless it was taken back durably.
    fn check_seen(&self) {
        let described = match self.machine.groups.get(CONSUMER).map(|group| &group.members) {
            Some(Members::Consumer(group)) => group.describe(&CONSUMER.into()).members,
            _ => Vec::new(),
        };
        for client in self.consumers.iter().filter(|client| client.epoch > 0) {
            let is_recorded = self.writes.iter().flat_map(|(_, records)| records).any(|record| {
                matches!(record, GroupRecord::ConsumerMember { member, .. } if member.as_str() == client.name)
            });
            assert!(is_recorded, "{} was told that it is a member", client.name);
            let member = described.iter().find(|member| member.member.as_str() == client.name);
            let epoch = member.map(|member| member.epoch.get());
            assert!(
                epoch.is_none_or(|epoch| epoch >= client.epoch),
                "{} was told of epoch {}, and {epoch:?} is left",
                client.name,
                client.epoch
            );
        }
    }

    fn replayed(&self) -> GroupCoordinator {
        let mut machine = GroupCoordinator::new(self.config.clone(), self.topics.clone());
        for record in self.writes.iter().flat_map(|(_, records)| records) {
            let value = record.encode_value();
            machine.replay(GroupRecord::decode(&record.encode_key(), value.as_deref()).unwrap());
        }
        machine
    }

    /// What compaction leaves of the records.
    fn compacted(&self) -> BTreeMap<Vec<u8>, GroupRecord> {
        let mut last = BTreeMap::new();
        for record in self.writes.iter().flat_map(|(_, records)| records) {
            if record.encode_value().is_some() {
                last.insert(record.encode_key(), record.clone());
            } else {
                last.remove(&record.encode_key());
            }
        }
        last
    }

    fn check(&mut self) {
        let keyed = |records: Vec<GroupRecord>| -> BTreeMap<Vec<u8>, GroupRecord> {
            records.into_iter().map(|record| (record.encode_key(), record)).collect()
        };
        let written = self.compacted();
        let mut live = keyed(self.machine.snapshot());
        for (key, record) in &written {
            // The record of a classic group stays as it was until the rebalance ends.
            if matches!(record, GroupRecord::ClassicGroup { group, .. } if self.is_rebalancing(group.as_str()))
            {
                live.insert(key.clone(), record.clone());
            }
        }
        assert_eq!(live, written, "memory and records differ");
        assert_eq!(keyed(self.replayed().snapshot()), written, "a restart would forget or invent something");
        self.check_owners();
        self.check_counters();
    }

    fn is_rebalancing(&self, group: &str) -> bool {
        self.machine.groups.get(group).is_some_and(|group| match &group.members {
            Members::Classic(group) => {
                matches!(group.state(), GroupState::PreparingRebalance | GroupState::CompletingRebalance)
            }
            Members::Consumer(_) => false,
        })
    }

    /// No partition is worked on by two members, whatever they were told and have done so far.
    fn check_owners(&self) {
        let Some(Members::Consumer(group)) = self.machine.groups.get(CONSUMER).map(|group| &group.members)
        else {
            return;
        };
        let described = group.describe(&CONSUMER.into());
        let mut assigned = BTreeMap::new();
        for member in &described.members {
            for partition in &member.assignment {
                let other = assigned.insert(*partition, &member.member);
                assert_eq!(other, None, "{partition} is assigned to {} as well", member.member);
            }
        }
        let mut owners = BTreeMap::new();
        let is_member = |name: &str| described.members.iter().any(|member| member.member.as_str() == name);
        for client in self.consumers.iter().filter(|client| is_member(&client.name)) {
            for partition in &client.owned {
                let other = owners.insert(*partition, &client.name);
                assert_eq!(other, None, "{partition} is worked on by {} as well", client.name);
            }
        }
    }

    fn check_counters(&mut self) {
        let members = |name| self.machine.groups.get(name).map(|group| &group.members);
        let (generation, is_preparing) = match members(CLASSIC) {
            Some(Members::Classic(group)) => {
                (group.generation().get(), group.state() == GroupState::PreparingRebalance)
            }
            _ => (0, false),
        };
        let epoch = match members(CONSUMER) {
            Some(Members::Consumer(group)) => group
                .snapshot(&CONSUMER.into())
                .into_iter()
                .find_map(|record| match record {
                    GroupRecord::ConsumerGroup { value: Some(ConsumerGroupValue { epoch, .. }), .. } => {
                        Some(epoch.get())
                    }
                    _ => None,
                })
                .unwrap_or(0),
            _ => 0,
        };
        // A group that is gone starts anew.
        assert!(generation >= self.generation || members(CLASSIC).is_none(), "a generation went back");
        let has_begun = self.was_preparing && !is_preparing && members(CLASSIC).is_some();
        assert!(
            !has_begun || generation > self.generation,
            "a rebalance ended in the generation it began in"
        );
        assert!(
            epoch >= self.epoch
                || members(CONSUMER).is_none_or(|members| !matches!(members, Members::Consumer(_)))
        );
        (self.generation, self.was_preparing, self.epoch) = (generation, is_preparing, epoch);
    }

    /// Everybody falls silent: all waits end, all members go, all offsets expire.
    fn finish(&mut self) {
        self.wait(1_000_000);
        assert!(self.asked.is_empty(), "never answered: {:?}", self.asked);
        let waiting = self.machine.groups.values().map(|group| match &group.members {
            Members::Classic(group) => group.waiting_count() + group.name_count(),
            Members::Consumer(group) => group.describe(&"".into()).members.len(),
        });
        assert_eq!(waiting.sum::<usize>(), 0);
        for producer in 0..3 {
            self.run(Op::EndTxn { producer, epoch: 9, committed: false });
        }
        self.wait(9 * 24 * 3_600_000);
        self.check();
        assert!(self.machine.groups.is_empty() && self.machine.open.is_empty());
        assert!(self.machine.producers.is_empty() && self.compacted().is_empty());
        assert_eq!(self.machine.deadlines.len(), 1, "the search for expired offsets alone goes on");
    }
}

fn cases() -> u32 {
    std::env::var("HEDDLE_PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn what_must_always_hold_holds(ops in collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            world.check();
        }
        world.finish();
    }

    #[test]
    fn records_of_any_kind_load_and_the_coordinator_goes_on(
        records in collection::vec(super::super::record::arbitrary(), 0..25),
        ops in collection::vec(op(), 0..10),
    ) {
        let mut world = World::new();
        world.machine = GroupCoordinator::new(world.config.clone(), world.topics.clone());
        for record in records {
            world.machine.replay(record);
        }
        let effects = world.machine.loaded(Millis::new(world.now));
        world.take(effects);
        for op in ops {
            if !matches!(op, Op::Crash) {
                world.run(op);
            }
        }
        world.wait(100_000);
        let _ = world.machine.snapshot();
    }
}
