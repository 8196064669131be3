//! Records leave a replicated log at its beginning: a node that lost its disk is filled up from where the log begins now.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use heddle_tests::kafka::{self, ToSend};
use heddle_tests::nodes::{Nodes, PARTITIONS, TOPIC};
use heddle_tests::records;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

/// Records of each partition that one call of [`send`] writes, in one batch.
const BATCH: i64 = 50;

fn send(nodes: &Nodes) {
    let sent: Vec<ToSend> = (0..BATCH * i64::from(PARTITIONS))
        .map(|number| ToSend::to(number as i32 % PARTITIONS, records::noise(number as u64, 300)))
        .collect();
    kafka::deliver(&nodes.bootstrap(), TOPIC, &[("linger.ms", "300"), ("acks", "all")], &sent);
}

/// Deletes what is before `start`, where each partition is led.
fn delete_before(nodes: &Nodes, start: i64) {
    let admin = kafka::admin(&nodes.bootstrap());
    let mut starts = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        starts.add_partition_offset(TOPIC, partition, Offset::Offset(start)).unwrap();
    }
    let deleted =
        futures_lite::future::block_on(admin.delete_records(&starts, &kafka::admin_options())).unwrap();
    for partition in deleted.elements() {
        assert_eq!((partition.error(), partition.offset()), (Ok(()), Offset::Offset(start)));
    }
}

/// Everything from `start` to `end` is there, once and in order.
fn check(nodes: &Nodes, start: i64, end: i64) {
    let from: Vec<(i32, Offset)> =
        (0..PARTITIONS).map(|partition| (partition, Offset::Offset(start))).collect();
    let found = kafka::read_to_end(&nodes.bootstrap(), TOPIC, &from);
    for partition in 0..PARTITIONS {
        let of = found.iter().filter(|record| record.partition() == partition);
        let offsets: Vec<i64> = of.map(Message::offset).collect();
        assert_eq!(offsets, (start..end).collect::<Vec<_>>(), "partition {partition}");
    }
}

#[test]
fn a_lost_disk_is_filled_up_from_where_the_log_begins_by_then() {
    let mut nodes = Nodes::start(1);
    nodes.create();
    let (mut start, mut end) = (0, 0);
    for (victim, is_restarted) in [(1, false), (2, true)] {
        (0..4).for_each(|_| send(&nodes));
        end += 4 * BATCH;
        start = end - BATCH - BATCH / 2; // in the middle of a batch
        delete_before(&nodes, start);
        if is_restarted {
            nodes.brokers.iter_mut().for_each(|broker| broker.kill());
            nodes.restart_all(|options| options);
            nodes.wait_until_whole();
        }
        nodes.brokers[victim].kill();
        fs::remove_dir_all(nodes.brokers[victim].place().data_dir()).unwrap();
        send(&nodes);
        end += BATCH;
        nodes.brokers[victim].restart();
        nodes.wait_until_whole();
        nodes.wait_until_level();
        check(&nodes, start, end);
    }
    // What was filled up is whole by itself too.
    nodes.brokers[1].terminate();
    check(&nodes, start, end);
}
