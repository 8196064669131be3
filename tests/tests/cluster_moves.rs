//! Replicas move while clients work: a node that joins gets its share, and the only replica of a partition goes elsewhere or
//! gets others beside it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_lite::future::block_on;
use heddle_tests::broker::Broker;
use heddle_tests::kafka::{self, Reporting, ToSend};
use heddle_tests::nodes::{Nodes, SAFE, TOPIC};
use heddle_tests::raw::Raw;
use heddle_tests::{command, wait};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ApiKey, BrokerId, TopicName,
    alter_partition_reassignments_request,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::admin::{AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

/// A topic with more partitions than the one that [`Nodes`] has.
const WIDE: &str = "wide";

fn create(nodes: &Nodes, topic: &str, partitions: i32, replicas: i32, quorum: &str) {
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas))
        .set("min.insync.replicas", quorum);
    let admin = kafka::admin(&nodes.bootstrap());
    let created = block_on(admin.create_topics([&topic], &kafka::admin_options())).unwrap();
    created.into_iter().for_each(|result| drop(result.unwrap()));
}

/// Of each partition: who leads it, and the nodes that have a replica, the preferred leader first.
type Placed = BTreeMap<(String, i32), (i32, Vec<i32>)>;

fn placed(broker: &Broker, topics: &[&str]) -> Placed {
    let consumer: BaseConsumer = kafka::config(&broker.bootstrap(), &[]).create().unwrap();
    let mut placed = Placed::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), wait::HANG).unwrap();
        for partition in metadata.topics()[0].partitions() {
            let nodes = partition.replicas().iter().map(|broker| broker / 1000).collect();
            placed.insert(((*topic).to_owned(), partition.id()), (partition.leader() / 1000, nodes));
        }
    }
    placed
}

fn sets(placed: &Placed) -> Vec<BTreeSet<i32>> {
    placed.values().map(|(_, nodes)| nodes.iter().copied().collect()).collect()
}

fn held(placed: &Placed, node: i32) -> usize {
    placed.values().filter(|(_, nodes)| nodes.contains(&node)).count()
}

fn led(placed: &Placed, node: i32) -> usize {
    placed.values().filter(|(leader, _)| *leader == node).count()
}

fn numbered(count: usize, partitions: i32) -> Vec<ToSend> {
    (0..count).map(|number| ToSend::to(number as i32 % partitions, number.to_string())).collect()
}

/// All of these are there, once and in order.
fn check(bootstrap: &str, topic: &str, partitions: i32, count: usize) {
    let records = kafka::read_to_end(bootstrap, topic, &kafka::from_beginning(partitions));
    let texts = kafka::texts(&records);
    let mut found: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    records
        .iter()
        .zip(texts)
        .for_each(|(record, text)| found.entry(record.partition()).or_default().push(text));
    for partition in 0..partitions {
        let sent = (0..count).filter(|number| *number as i32 % partitions == partition);
        let sent: Vec<String> = sent.map(|number| number.to_string()).collect();
        assert_eq!(found.remove(&partition).unwrap_or_default(), sent, "{topic}/{partition}");
    }
}

fn says(nodes: &Nodes, words: &str) -> usize {
    nodes.brokers.iter().map(|broker| broker.log().matches(words).count()).sum()
}

#[test]
fn a_node_that_joins_gets_its_share_and_then_nothing_moves() {
    const WIDE_PARTITIONS: i32 = 12;
    const TOPICS: [&str; 2] = [TOPIC, WIDE];
    let mut nodes = Nodes::start(2);
    nodes.create();
    create(&nodes, WIDE, WIDE_PARTITIONS, 3, "2");
    nodes.send();
    kafka::deliver(&nodes.bootstrap(), WIDE, &SAFE, &numbered(3000, WIDE_PARTITIONS));
    let before = placed(&nodes.brokers[0], &TOPICS);
    assert_eq!(says(&nodes, "partitions move to other nodes"), 0, "three that found a cluster share nothing");

    nodes.add(2, |_, options| options);
    nodes.send();
    wait::until("the new node has its share", || {
        (says(&nodes, "these nodes have their share of the partitions nodes=[4]") == 1).then_some(())
    });
    // 45 replicas and 15 leaders of them, on four nodes.
    let after = wait::until("the preferred leaders lead", || {
        let now = placed(&nodes.brokers[0], &TOPICS);
        now.values().all(|(leader, nodes)| *leader == nodes[0]).then_some(now)
    });
    assert_eq!(held(&after, 4), 11);
    for node in 1..=4 {
        assert!((11..=12).contains(&held(&after, node)), "{after:?}");
        assert!((3..=4).contains(&led(&after, node)), "{after:?}");
    }
    let touched = sets(&before).iter().zip(sets(&after)).filter(|(before, after)| **before != *after).count();
    assert_eq!(touched, 11, "one partition for each replica of the new node");

    nodes.brokers[3].kill();
    nodes.brokers[3].restart();
    nodes.brokers[1].terminate();
    nodes.send();
    nodes.brokers[1].restart();
    nodes.wait_until_whole();
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(sets(&placed(&nodes.brokers[0], &TOPICS)), sets(&after), "nothing moves any more");
    nodes.check();
    check(&nodes.bootstrap(), WIDE, WIDE_PARTITIONS, 3000);
}

/// A producer that writes on and on, to all partitions in turn.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Writer {
    fn start(bootstrap: String, topic: &'static str, partitions: i32) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let thread = std::thread::spawn(move || {
            let reporting = Reporting::default();
            let config = kafka::config(&bootstrap, &[SAFE.as_slice(), &[("linger.ms", "0")]].concat());
            let producer: ThreadedProducer<Reporting> =
                config.create_with_context(reporting.clone()).unwrap();
            let mut sent = 0;
            while !stops.load(Ordering::Relaxed) {
                let (partition, value) = (sent as i32 % partitions, sent.to_string());
                let record: BaseRecord<'_, (), str, usize> =
                    BaseRecord::with_opaque_to(topic, sent).partition(partition).payload(&value);
                producer.send(record).map_err(|(error, _)| error).unwrap();
                sent += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            producer.flush(wait::HANG).unwrap();
            assert_eq!(reporting.delivered_count(), sent, "everything is acknowledged");
            sent
        });
        Writer { stop, thread }
    }

    /// How many it has written, numbered from 0.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Asks for other replicas as Kafka's tools do; brokers are named by their ids.
fn reassign(broker: &Broker, topic: &str, partition: i32, brokers: &[i32]) {
    let ids = brokers.iter().copied().map(BrokerId).collect();
    let partition = alter_partition_reassignments_request::ReassignablePartition::default()
        .with_partition_index(partition)
        .with_replicas(Some(ids));
    let topic = alter_partition_reassignments_request::ReassignableTopic::default()
        .with_name(TopicName(StrBytes::from(topic.to_owned())))
        .with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    let reply: AlterPartitionReassignmentsResponse =
        Raw::connect(broker.address()).kafka(ApiKey::AlterPartitionReassignments, 0, &request);
    let result = &reply.responses[0].partitions[0];
    assert_eq!(result.error_code, 0, "{:?}", result.error_message);
}

/// The wire ids of the brokers with a partition's replicas, and of those in sync.
fn brokers_of(broker: &Broker, topic: &str, partition: i32) -> (Vec<i32>, Vec<i32>) {
    let consumer: BaseConsumer = kafka::config(&broker.bootstrap(), &[]).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), wait::HANG).unwrap();
    let partition = metadata.topics()[0].partitions().iter().find(|it| it.id() == partition).unwrap();
    (partition.replicas().to_vec(), partition.isr().to_vec())
}

fn wait_until_on(broker: &Broker, topic: &str, partition: i32, nodes: &[i32]) {
    let nodes: BTreeSet<i32> = nodes.iter().copied().collect();
    let on = |brokers: Vec<i32>| brokers.iter().map(|broker| broker / 1000).collect::<BTreeSet<i32>>();
    wait::until("the partition has moved", || {
        let (replicas, in_sync) = brokers_of(broker, topic, partition);
        (on(replicas) == nodes && on(in_sync) == nodes).then_some(())
    });
}

#[test]
fn the_only_replica_moves_multiplies_and_drains_while_it_is_written() {
    const SINGLE: &str = "single";
    const SINGLE_PARTITIONS: i32 = 3;
    let mut nodes = Nodes::start(2);
    create(&nodes, SINGLE, SINGLE_PARTITIONS, 1, "1");
    let earlier = kafka::deliver(
        &nodes.bootstrap(),
        SINGLE,
        &SAFE,
        &[ToSend::to(0, "before"), ToSend::to(2, "before")],
    );
    assert_eq!(earlier, [0, 0]);
    let homes = placed(&nodes.brokers[0], &[SINGLE]);
    let home = |partition: i32| homes[&(SINGLE.to_owned(), partition)].0;
    let others = |node: i32| (1..=3).filter(move |other| *other != node).collect::<Vec<i32>>();
    let writer = Writer::start(nodes.bootstrap(), SINGLE, SINGLE_PARTITIONS);
    std::thread::sleep(Duration::from_millis(500));

    // Three replicas of one, one on another node of one, and one that leaves because its node is drained.
    let at = &nodes.brokers[0];
    let (there, _) = brokers_of(at, SINGLE, 0);
    let wanted: Vec<i32> =
        there.iter().copied().chain(others(home(0)).iter().map(|node| node * 1000)).collect();
    reassign(at, SINGLE, 0, &wanted);
    let target = others(home(1))[0];
    command::heddle(&at.bootstrap(), &["cluster", "move", SINGLE, "1", &target.to_string()]).worked();
    wait_until_on(at, SINGLE, 0, &[1, 2, 3]);
    wait_until_on(at, SINGLE, 1, &[target]);
    let changes = AlterConfig::new(ResourceSpecifier::Topic(SINGLE)).set("min.insync.replicas", "2");
    let admin = kafka::admin(&nodes.bootstrap());
    let altered = block_on(admin.alter_configs([&changes], &kafka::admin_options())).unwrap();
    altered.into_iter().for_each(|result| drop(result.unwrap()));
    let drained = home(2);
    command::heddle(&at.bootstrap(), &["cluster", "drain", &drained.to_string()]).worked();
    // Of the first partition it is the only node that can have the third replica.
    wait::until("the drained node leads nothing and has no partition alone", || {
        let now = placed(at, &[SINGLE]);
        let is_off = |(leader, nodes): &(i32, Vec<i32>)| {
            *leader != drained && (nodes.len() == 3 || nodes.len() == 1 && !nodes.contains(&drained))
        };
        now.values().all(is_off).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    let count = writer.end();
    assert!(count > 1000, "{count} records");
    check_single(&nodes, count);

    // What was on the node is elsewhere, and where there are several replicas another one leads.
    nodes.brokers[drained as usize - 1].kill();
    check_single(&nodes, count);
    for broker in &nodes.brokers {
        for bad in ["in contradiction", "records are lost", "nobody is left who is sure"] {
            assert!(!broker.log().contains(bad), "{}", broker.log());
        }
    }
    // A partition that is alone again elects its only replica after a start.
    for index in (0..3).filter(|index| *index != drained as usize - 1) {
        nodes.brokers[index].kill();
    }
    nodes.restart_all(|options| options);
    check_single(&nodes, count);
    let after: Vec<ToSend> = (0..SINGLE_PARTITIONS).map(|partition| ToSend::to(partition, "after")).collect();
    kafka::deliver(&nodes.bootstrap(), SINGLE, &SAFE, &after);
    // Two of the three replicas hold what is acknowledged by now, so that any one of them may die.
    wait_until_on(&nodes.brokers[0], SINGLE, 0, &[1, 2, 3]);
    let (leader, _) = placed(&nodes.brokers[0], &[SINGLE])[&(SINGLE.to_owned(), 0)];
    nodes.brokers[leader as usize - 1].kill();
    kafka::deliver(&nodes.bootstrap(), SINGLE, &SAFE, &[ToSend::to(0, "without its leader")]);
}

#[test]
fn a_replica_that_comes_back_on_another_core_begins_anew() {
    const ALONE: &str = "alone";
    let nodes = Nodes::start(2);
    create(&nodes, ALONE, 1, 3, "2");
    let mut sent: Vec<ToSend> = Vec::new();
    let mut send = |count: usize| {
        let more: Vec<ToSend> =
            (sent.len()..sent.len() + count).map(|number| ToSend::to(0, number.to_string())).collect();
        kafka::deliver(&nodes.bootstrap(), ALONE, &SAFE, &more);
        sent.extend(more);
        sent.len()
    };
    let at = &nodes.brokers[0];
    for is_paused in [true, false, true, false] {
        send(200);
        std::thread::sleep(Duration::from_millis(1500)); // into segments
        let (there, _) = brokers_of(at, ALONE, 0);
        let others: Vec<i32> = there.iter().copied().filter(|broker| broker / 1000 != 3).collect();
        let third = there.iter().find(|broker| *broker / 1000 == 3).unwrap();
        if is_paused {
            nodes.brokers[2].suspend(); // it hears of both moves at once
        }
        reassign(at, ALONE, 0, &others);
        wait_until_on(at, ALONE, 0, &others.iter().map(|broker| broker / 1000).collect::<Vec<i32>>());
        let back: Vec<i32> = others.iter().copied().chain([3000 + (third + 1) % 2]).collect();
        reassign(at, ALONE, 0, &back);
        if is_paused {
            nodes.brokers[2].resume();
        }
        wait_until_on(at, ALONE, 0, &[1, 2, 3]);
        nodes.wait_until_level();
        let now: BTreeSet<i32> = brokers_of(at, ALONE, 0).0.into_iter().collect();
        assert_eq!(now, back.into_iter().collect(), "the brokers that were asked for");
    }
    let count = send(200);
    check(&nodes.bootstrap(), ALONE, 1, count);
    // The third node has all of it, and has it on its disk.
    let mut nodes = nodes;
    nodes.brokers[2].kill();
    nodes.brokers[2].restart();
    wait_until_on(&nodes.brokers[0], ALONE, 0, &[1, 2, 3]);
    nodes.brokers[1].kill();
    check(&nodes.bootstrap(), ALONE, 1, count);
    nodes.brokers[1].restart();
    wait_until_on(&nodes.brokers[0], ALONE, 0, &[1, 2, 3]);
    nodes.brokers[0].kill();
    check(&nodes.brokers[2].bootstrap(), ALONE, 1, count);
}

/// All that was written is there, once and in order.
fn check_single(nodes: &Nodes, count: usize) {
    let records = kafka::read_to_end(&nodes.bootstrap(), "single", &kafka::from_beginning(3));
    for partition in 0..3 {
        let of_it: Vec<_> =
            records.iter().filter(|record| record.partition() == partition).cloned().collect();
        let found = kafka::texts(&of_it);
        let before = (partition != 1).then(|| "before".to_owned());
        let sent =
            (0..count).filter(|number| *number as i32 % 3 == partition).map(|number| number.to_string());
        assert_eq!(found, before.into_iter().chain(sent).collect::<Vec<_>>(), "partition {partition}");
    }
}

#[test]
fn who_began_with_one_node_gets_two_more_beside_groups_and_transactions() {
    const LEDGER: &str = "ledger";
    const GROUP: &str = "readers";
    let mut nodes = Nodes::start_one(2, |_, options| options);
    create(&nodes, LEDGER, 4, 1, "1");
    let config = kafka::config(&nodes.bootstrap(), &[("transactional.id", "one")]);
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
    producer.init_transactions(wait::HANG).unwrap();
    let write = |value: &str, commits: bool| {
        producer.begin_transaction().unwrap();
        for partition in 0..4 {
            let record: BaseRecord<'_, (), str> = BaseRecord::to(LEDGER).partition(partition).payload(value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        match commits {
            true => producer.commit_transaction(wait::HANG).unwrap(),
            false => {
                producer.flush(wait::HANG).unwrap();
                producer.abort_transaction(wait::HANG).unwrap();
            }
        }
    };
    write("alone", true);
    let config = kafka::config(&nodes.bootstrap(), &[("group.id", GROUP), ("enable.auto.commit", "false")]);
    let reader: BaseConsumer = config.create().unwrap();
    let mut read_upto = TopicPartitionList::new();
    for partition in 0..4 {
        read_upto.add_partition_offset(LEDGER, partition, Offset::Offset(1)).unwrap();
    }
    reader.commit(&read_upto, CommitMode::Sync).unwrap();

    nodes.add(2, |_, options| options);
    nodes.add(2, |_, options| options);
    nodes.wait_until_three_vote();
    let mut written = 0;
    wait::until("both have their share", || {
        write(&format!("joined {written}"), written % 2 == 0);
        written += 1;
        // Both at once, or one after the other.
        let both = says(&nodes, "nodes=[2, 3]");
        let each = says(&nodes, "nodes=[2]").min(says(&nodes, "nodes=[3]"));
        (both + each > 0).then_some(())
    });
    write("three", true);
    let internal = ["__consumer_offsets", "__transaction_state", LEDGER];
    let now = placed(&nodes.brokers[0], &internal);
    assert!(now.values().all(|(leader, nodes)| *nodes == [*leader]), "{now:?}");
    let total = now.len();
    for node in 1..=3 {
        assert!((total / 3..=total / 3 + 1).contains(&led(&now, node)), "{now:?}");
    }

    // librdkafka finds out by an error that another node has the group.
    let committed = wait::until("the group's coordinator answers", || {
        reader.committed_offsets(read_upto.clone(), wait::HANG).ok()
    });
    assert_eq!(committed, read_upto, "the group knows how far it has read");
    let joined = (0..written).step_by(2).map(|number| format!("joined {number}"));
    let expected: Vec<String> =
        ["alone".to_owned()].into_iter().chain(joined).chain(["three".to_owned()]).collect();
    let records = kafka::read_to_end(&nodes.bootstrap(), LEDGER, &kafka::from_beginning(4));
    for partition in 0..4 {
        let of_it: Vec<_> =
            records.iter().filter(|record| record.partition() == partition).cloned().collect();
        assert_eq!(kafka::texts(&of_it), expected, "partition {partition}");
    }
}
