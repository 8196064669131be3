//! Consumer groups with librdkafka and raw requests: sharing and rebalancing in both protocols, what a crash leaves, which
//! core answers, what clients may not do to the topic that groups are kept in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use heddle_proto::ErrorCode;
use heddle_tests::broker::{Broker, BrokerOptions, PortMode};
use heddle_tests::kafka::{self, ToSend};
use heddle_tests::raw::Raw;
use heddle_tests::wait::HANG;
use heddle_tests::{records, wait};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

const TOPIC: &str = "shared";
const PARTITION_COUNT: i32 = 4;
const GROUP: &str = "readers";
/// The topic that groups are kept in.
const INTERNAL: &str = "__consumer_offsets";

/// Both protocols, by librdkafka's names.
const PROTOCOLS: [&str; 2] = ["classic", "consumer"];

fn options() -> BrokerOptions {
    BrokerOptions::new()
        .set("group_initial_rebalance_delay_ms", "100")
        .set("group_consumer_heartbeat_interval_ms", "200")
        .set("group_min_session_timeout_ms", "1000")
}

/// A broker with the topic, and so many records in each partition.
fn broker_with(options: BrokerOptions, record_count: usize) -> Broker {
    let broker = Broker::start(options);
    kafka::create(&broker.bootstrap(), TOPIC, PARTITION_COUNT, &[]);
    produce(&broker, record_count);
    broker
}

fn produce(broker: &Broker, record_count: usize) {
    let records: Vec<ToSend> = (0..PARTITION_COUNT)
        .flat_map(|partition| {
            (0..record_count).map(move |n| ToSend::to(partition, format!("{partition}/{n}")))
        })
        .collect();
    kafka::deliver(&broker.bootstrap(), TOPIC, &[], &records);
}

/// Where to connect so that every core is met: a port for each core, or several connections to the one port.
fn doors(broker: &Broker, mode: PortMode) -> Vec<SocketAddr> {
    let cores = 0..broker.core_count();
    match mode {
        PortMode::PerCore => cores.map(|core| broker.address_of_core(core)).collect(),
        PortMode::Single => cores.flat_map(|_| [broker.address(); 3]).collect(),
    }
}

/// One member of the group.
struct Reader {
    consumer: BaseConsumer,
    read: Vec<(i32, i64)>,
}

impl Reader {
    fn join(broker: &Broker, protocol: &str, settings: &[(&str, &str)]) -> Reader {
        let mut config = kafka::config(&broker.bootstrap(), settings);
        config.set("group.id", GROUP).set("group.protocol", protocol).set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "50");
        if protocol == "classic" {
            config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "200");
        }
        let consumer: BaseConsumer = config.create().expect("a consumer can be made");
        consumer.subscribe(&[TOPIC]).expect("it can subscribe");
        Reader { consumer, read: Vec::new() }
    }

    fn poll(&mut self) {
        use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut};
        match self.consumer.poll(Duration::from_millis(20)) {
            None => {}
            Some(Ok(message)) => self.read.push((message.partition(), message.offset())),
            Some(Err(KafkaError::MessageConsumption(
                AllBrokersDown | BrokerTransportFailure | OperationTimedOut,
            ))) => {}
            Some(Err(error)) => panic!("consuming failed: {error:?}"),
        }
    }

    fn assigned(&self) -> BTreeSet<i32> {
        let assigned = self.consumer.assignment().expect("an assignment can be asked for");
        assigned.elements().iter().map(|element| element.partition()).collect()
    }

    fn commit(&self, offset: i64) {
        let mut offsets = TopicPartitionList::new();
        for partition in self.assigned() {
            offsets.add_partition_offset(TOPIC, partition, Offset::Offset(offset)).unwrap();
        }
        self.consumer.commit(&offsets, CommitMode::Sync).expect("the commit is taken");
    }

    fn committed(&self) -> Vec<Offset> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(TOPIC, 0, PARTITION_COUNT - 1);
        let found = self.consumer.committed_offsets(asked, HANG).expect("offsets are told");
        found.elements().iter().map(|element| element.offset()).collect()
    }
}

/// Polls all members until what they have satisfies `done`.
fn settle(members: &mut [&mut Reader], what: &str, done: impl Fn(&[&mut Reader]) -> bool) {
    let deadline = Instant::now() + HANG;
    while !done(members) {
        let have: Vec<_> = members.iter().map(|member| member.assigned()).collect();
        assert!(Instant::now() < deadline, "{what} did not happen; the members have {have:?}");
        members.iter_mut().for_each(|member| member.poll());
    }
}

/// Whether the members have all partitions, each one of them, and each member some.
fn share_all(members: &[&mut Reader]) -> bool {
    let have: Vec<_> = members.iter().map(|member| member.assigned()).collect();
    let count: usize = have.iter().map(BTreeSet::len).sum();
    let all: BTreeSet<i32> = have.iter().flatten().copied().collect();
    count == PARTITION_COUNT as usize && all.len() == count && have.iter().all(|some| !some.is_empty())
}

#[test]
fn members_share_a_topic_and_take_over_from_who_leaves() {
    for mode in PortMode::ALL {
        for protocol in PROTOCOLS {
            let broker = broker_with(options().port_mode(mode), 50);
            let mut first = Reader::join(&broker, protocol, &[]);
            settle(&mut [&mut first], "having all alone", share_all);
            let mut second = Reader::join(&broker, protocol, &[]);
            settle(&mut [&mut first, &mut second], "sharing", share_all);
            assert_eq!(first.assigned().len(), 2, "{mode:?} {protocol}");
            drop(second);
            settle(&mut [&mut first], "taking over", share_all);
            let wanted = PARTITION_COUNT as usize * 50;
            settle(&mut [&mut first], "reading all", |members| {
                members[0].read.iter().collect::<BTreeSet<_>>().len() == wanted
            });
            let metrics = broker.metrics();
            assert_eq!((metrics.sum("groups"), metrics.sum("group_members")), (1, 1));
            assert!(metrics.sum("group_rebalances") >= 3, "{mode:?} {protocol}");
        }
    }
}

/// How many requests crossed cores while a member read, committed and was heard from.
fn hops_of_a_member(mode: PortMode, protocol: &str) -> u64 {
    let broker = broker_with(options().cores(2).port_mode(mode), 20);
    let mut member = Reader::join(&broker, protocol, &[]);
    settle(&mut [&mut member], "joining", share_all);
    let before = broker.metrics().sum("mesh_hops");
    produce(&broker, 5);
    settle(&mut [&mut member], "reading all", |members| members[0].read.len() == 100);
    member.commit(25);
    assert_eq!(member.committed(), vec![Offset::Offset(25); 4], "{mode:?} {protocol}");
    let calm = Instant::now() + Duration::from_secs(1);
    while Instant::now() < calm {
        member.poll();
    }
    broker.metrics().sum("mesh_hops") - before
}

#[test]
fn with_a_port_for_each_core_the_work_of_a_group_crosses_none() {
    for protocol in PROTOCOLS {
        assert_eq!(hops_of_a_member(PortMode::PerCore, protocol), 0, "{protocol}");
        assert!(hops_of_a_member(PortMode::Single, protocol) > 0, "{protocol}: the counter would show it");
    }
}

#[test]
fn a_killed_broker_finds_members_generation_and_offsets() {
    for protocol in PROTOCOLS {
        let mut broker = broker_with(options(), 20);
        let mut member = Reader::join(&broker, protocol, &[]);
        settle(&mut [&mut member], "joining", share_all);
        settle(&mut [&mut member], "reading all", |members| members[0].read.len() == 80);
        member.commit(13);
        broker.kill();
        broker.restart();
        produce(&broker, 5);
        settle(&mut [&mut member], "reading on", |members| members[0].read.len() == 100);
        // The member goes on where it was: nobody had to join again.
        let calm = Instant::now() + Duration::from_secs(2);
        while Instant::now() < calm {
            member.poll();
        }
        let metrics = broker.metrics();
        assert_eq!((metrics.sum("group_members"), metrics.sum("group_rebalances")), (1, 0), "{protocol}");
        member.commit(14);
        assert_eq!(member.committed(), vec![Offset::Offset(14); 4], "{protocol}");
        drop(member);
        broker.kill();
        broker.restart();
        let mut next = Reader::join(&broker, protocol, &[]);
        settle(&mut [&mut next], "reading what was not committed", |members| members[0].read.len() == 44);
        assert!(next.read.iter().all(|(_, offset)| *offset >= 14), "{protocol}: {:?}", next.read);
    }
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let broker = broker_with(options(), 1);
    let instance = |name| [("group.instance.id", name)];
    let mut first = Reader::join(&broker, "classic", &instance("one"));
    let mut second = Reader::join(&broker, "classic", &instance("two"));
    settle(&mut [&mut first, &mut second], "sharing", share_all);
    let (before, rebalances) = (second.assigned(), broker.metrics().sum("group_rebalances"));
    // A static member does not leave when it closes.
    drop(second);
    let mut second = Reader::join(&broker, "classic", &instance("two"));
    settle(&mut [&mut first, &mut second], "coming back", share_all);
    assert_eq!(second.assigned(), before);
    assert_eq!(broker.metrics().sum("group_rebalances"), rebalances);
}

fn words(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(text: &str) -> TopicName {
    TopicName(words(text))
}

fn find(raw: &mut Raw, group: &str) -> FindCoordinatorResponse {
    raw.kafka(ApiKey::FindCoordinator, 3, &FindCoordinatorRequest::default().with_key(words(group)))
}

/// Commits an offset of partition 0 from outside the group.
fn commit(raw: &mut Raw, group: &str, topic: &str, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(words("note")));
    let topic =
        OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(words(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let reply: OffsetCommitResponse = raw.kafka(ApiKey::OffsetCommit, 8, &request);
    reply.topics[0].partitions[0].error_code
}

/// The offsets of partition 0 of a topic for several groups in one request.
fn fetch(raw: &mut Raw, groups: &[String], topic: &str) -> Vec<(i16, i64, i16)> {
    let topics = vec![
        OffsetFetchRequestTopics::default().with_name(topic_name(topic)).with_partition_indexes(vec![0]),
    ];
    let groups = groups.iter().map(|group| {
        OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(words(group)))
            .with_topics(Some(topics.clone()))
    });
    let request = OffsetFetchRequest::default().with_groups(groups.collect());
    let reply: OffsetFetchResponse = raw.kafka(ApiKey::OffsetFetch, 8, &request);
    let results = reply.groups.iter().map(|group| {
        let partition = group.topics.first().map(|topic| &topic.partitions[0]);
        let found = partition.map_or((-2, 0), |found| (found.committed_offset, found.error_code));
        (group.error_code, found.0, found.1)
    });
    results.collect()
}

#[test]
fn any_core_answers_for_every_group_and_coordinators_spread() {
    for mode in PortMode::ALL {
        let broker = broker_with(options().port_mode(mode).set("offsets_topic_num_partitions", "8"), 0);
        let groups: Vec<String> = (0..32).map(|n| format!("group-{n}")).collect();
        let mut raw = Raw::connect(broker.address());
        let mut coordinators = BTreeSet::new();
        for (n, group) in groups.iter().enumerate() {
            let found = find(&mut raw, group);
            assert_eq!(found.error_code, 0, "{:?}", found.error_message);
            coordinators.insert(found.port);
            assert_eq!(commit(&mut raw, group, TOPIC, n as i64), 0);
        }
        let expected: Vec<_> = (0..32).map(|n| (0, n, 0)).collect();
        for door in doors(&broker, mode) {
            let mut raw = Raw::connect(door);
            assert_eq!(fetch(&mut raw, &groups, TOPIC), expected, "{door}, {mode:?}");
        }
        // ListGroups is for the coordinators of the broker that is asked.
        let mut listed = BTreeSet::new();
        let broker_count = if mode == PortMode::PerCore { usize::from(broker.core_count()) } else { 1 };
        assert_eq!(coordinators.len(), broker_count, "{mode:?}");
        for door in &doors(&broker, mode)[..broker_count] {
            let mut raw = Raw::connect(*door);
            let reply: ListGroupsResponse = raw.kafka(ApiKey::ListGroups, 5, &ListGroupsRequest::default());
            assert_eq!(reply.error_code, 0);
            for group in reply.groups {
                assert_eq!((&*group.group_state, &*group.group_type), ("Empty", "classic"));
                assert!(listed.insert(group.group_id.to_string()), "{:?} is listed twice", group.group_id);
            }
        }
        assert_eq!(listed, groups.into_iter().collect(), "{mode:?}");
    }
}

#[test]
fn offsets_of_a_deleted_topic_go_with_it() {
    let broker = broker_with(options(), 0);
    let mut raw = Raw::connect(broker.address());
    find(&mut raw, GROUP);
    kafka::create(&broker.bootstrap(), "passing", 1, &[]);
    assert_eq!(commit(&mut raw, GROUP, "passing", 3), 0);
    assert_eq!(commit(&mut raw, GROUP, TOPIC, 4), 0);
    let groups = [GROUP.to_owned()];
    assert_eq!(fetch(&mut raw, &groups, "passing"), [(0, 3, 0)]);
    let state = DeleteTopicState::default().with_name(Some(topic_name("passing")));
    let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(10_000);
    let reply: DeleteTopicsResponse = raw.kafka(ApiKey::DeleteTopics, 6, &request);
    assert_eq!(reply.responses[0].error_code, 0);
    assert_eq!(fetch(&mut raw, &groups, "passing"), [(0, -1, 0)]);
    kafka::create(&broker.bootstrap(), "passing", 1, &[]);
    assert_eq!(fetch(&mut raw, &groups, "passing"), [(0, -1, 0)], "a topic of the same name is another");
    assert_eq!(fetch(&mut raw, &groups, TOPIC), [(0, 4, 0)]);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(commit(&mut raw, GROUP, "never", 1), unknown);
}

#[test]
fn the_topic_of_the_groups_belongs_to_the_broker() {
    let broker = broker_with(options(), 0);
    let mut raw = Raw::connect(broker.address());
    let refused = ErrorCode::InvalidTopicException.code();
    find(&mut raw, GROUP);
    let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(INTERNAL)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let reply: MetadataResponse = raw.kafka(ApiKey::Metadata, 9, &request);
    assert!(reply.topics[0].is_internal, "{:?}", reply.topics[0]);
    assert_eq!(reply.topics[0].partitions.len(), 16);

    let data = PartitionProduceData::default().with_index(0).with_records(Some(records::one("x")));
    let data = TopicProduceData::default().with_name(topic_name(INTERNAL)).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_topic_data(vec![data]);
    for core in 0..broker.core_count() {
        let mut raw = Raw::connect(broker.address_of_core(core));
        let reply: ProduceResponse = raw.kafka(ApiKey::Produce, 9, &request);
        assert_eq!(reply.responses[0].partition_responses[0].error_code, refused);
    }
    let state = DeleteTopicState::default().with_name(Some(topic_name(INTERNAL)));
    let request = DeleteTopicsRequest::default().with_topics(vec![state]);
    let reply: DeleteTopicsResponse = raw.kafka(ApiKey::DeleteTopics, 6, &request);
    assert_eq!(reply.responses[0].error_code, refused);
    let grown = create_partitions_request::CreatePartitionsTopic::default()
        .with_name(topic_name(INTERNAL))
        .with_count(99);
    let request = CreatePartitionsRequest::default().with_topics(vec![grown]);
    let reply: CreatePartitionsResponse = raw.kafka(ApiKey::CreatePartitions, 3, &request);
    assert_eq!(reply.results[0].error_code, refused, "groups would move to other partitions");
}

fn join(group: &str, member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(words("range"));
    JoinGroupRequest::default()
        .with_group_id(GroupId(words(group)))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(words(member))
        .with_protocol_type(words("consumer"))
        .with_protocols(vec![protocol])
}

#[test]
fn a_member_that_waits_holds_nobody_up_and_goes_with_its_connection() {
    for mode in PortMode::ALL {
        let broker =
            broker_with(options().port_mode(mode).set("group_initial_rebalance_delay_ms", "600000"), 0);
        let mut other = Raw::connect(broker.address());
        find(&mut other, GROUP);
        // Some wait on the core of the coordinator, some on the other one.
        let mut waiting: Vec<Raw> = doors(&broker, mode)
            .into_iter()
            .map(|door| {
                let mut raw = Raw::connect(door);
                raw.send(&raw_join(GROUP));
                raw
            })
            .collect();
        wait::until("all wait", || {
            (broker.metrics().sum("group_requests_waiting") == waiting.len() as u64).then_some(())
        });
        assert!(waiting.iter_mut().all(Raw::is_silent), "{mode:?}");
        assert_eq!(commit(&mut other, "another", TOPIC, 1), 0, "others go on");
        drop(waiting);
        wait::until("their connections end", || (broker.metrics().sum("connections") == 1).then_some(()));
    }
}

/// A JoinGroup 3 as bytes, for which the broker waits: so old a version is not sent back for a member id.
fn raw_join(group: &str) -> Vec<u8> {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::protocol::Encodable;
    let mut body = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::JoinGroup as i16)
        .with_request_api_version(3)
        .with_correlation_id(1);
    header.encode(&mut body, ApiKey::JoinGroup.request_header_version(3)).unwrap();
    join(group, "").encode(&mut body, 3).unwrap();
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.extend_from_slice(&body);
    frame.to_vec()
}

#[test]
fn a_thousand_idle_members_cost_little() {
    let broker = broker_with(options().set("group_consumer_heartbeat_interval_ms", "5000"), 0);
    let mut raw = Raw::connect(broker.address());
    find(&mut raw, GROUP);
    let before = broker.resident_bytes();
    for n in 0..1_000 {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(words(GROUP)))
            .with_member_id(words(&format!("member-{n}")))
            .with_rebalance_timeout_ms(60_000)
            .with_subscribed_topic_names(Some(vec![topic_name(TOPIC)]))
            .with_topic_partitions(Some(Vec::new()));
        let reply: ConsumerGroupHeartbeatResponse = raw.kafka(ApiKey::ConsumerGroupHeartbeat, 1, &request);
        assert_eq!(reply.error_code, 0, "{:?}", reply.error_message);
        assert_eq!(reply.heartbeat_interval_ms, 5_000);
    }
    assert_eq!(broker.metrics().sum("group_members"), 1_000);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "a thousand members take {grown} bytes");
}
