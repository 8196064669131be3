//! DescribeTopicPartitions: topics and their partitions, page by page (KIP-966).

use std::{collections::BTreeSet, rc::Rc};

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    control::OPERATIONS_UNKNOWN,
    messages::{
        BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
        describe_topic_partitions_response::{
            Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
        },
    },
};
use heddle_proto::error::ErrorCode;

use super::metadata::{Placement, placement};
use crate::{
    metadata::{ClusterImage, TopicImage, name::check_topic_name},
    shard::Shard,
};

/// Partitions in one reply, at most: Kafka's `max.request.partition.size.limit`.
const PARTITION_COUNT_MAX: i32 = 2000;

/// Where a page begins.
struct Start {
    topic: String,
    partition: i32,
}

/// Answers one request. Topics come in the order of their names; no topic at all means every one.
pub fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    page(&shard.image(), request)
}

fn page(image: &ClusterImage, request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let start = request
        .cursor
        .as_ref()
        .map(|cursor| Start { topic: cursor.topic_name.to_string(), partition: cursor.partition_index });
    let everything = request.topics.is_empty();
    let asked: BTreeSet<&str> = match everything {
        true => image.topics.keys().map(|name| &**name).collect(),
        false => request.topics.iter().map(|topic| topic.name.as_str()).collect(),
    };
    if start.as_ref().is_some_and(|start| start.partition < 0) {
        let refused = asked.into_iter().map(|name| refused(name, ErrorCode::InvalidRequest));
        return DescribeTopicPartitionsResponse::default().with_topics(refused.collect());
    }
    let mut left = request.response_partition_limit.clamp(1, PARTITION_COUNT_MAX) as usize;
    let mut reply = DescribeTopicPartitionsResponse::default();
    let after = |name: &&str| start.as_ref().is_none_or(|start| *name >= start.topic.as_str());
    for name in asked.into_iter().filter(after) {
        if left == 0 {
            return reply.with_next_cursor(Some(cursor(name, 0)));
        }
        let Some(topic) = image.topic(name) else {
            let code = match check_topic_name(name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            reply.topics.push(refused(name, code));
            continue;
        };
        let first = match &start {
            Some(start) if start.topic == name => start.partition as usize,
            _ => 0,
        };
        let described = describe(image, topic, first, left);
        let upto = first + described.partitions.len();
        left -= described.partitions.len();
        reply.topics.push(described);
        if upto < topic.partitions.len() {
            return reply.with_next_cursor(Some(cursor(name, upto)));
        }
    }
    reply
}

fn cursor(topic: &str, partition: usize) -> Cursor {
    Cursor::default().with_topic_name(topic_name(topic)).with_partition_index(partition as i32)
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn refused(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.code())
        .with_name(Some(topic_name(name)))
        .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
}

fn describe(
    image: &ClusterImage,
    topic: &TopicImage,
    first: usize,
    count_max: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = topic.partitions.iter().enumerate().skip(first).take(count_max);
    let partitions = partitions.map(|(index, partition)| {
        let Placement { error, leader, replicas, isr } = placement(image, topic, partition);
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(error.code())
            .with_partition_index(index as i32)
            .with_leader_id(BrokerId(leader))
            .with_leader_epoch(partition.epoch)
            .with_replica_nodes(replicas)
            .with_isr_nodes(isr)
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    });
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(uuid::Uuid::from_bytes(*topic.id.as_bytes()))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use heddle_net::kafka::messages::describe_topic_partitions_request as asked;
    use heddle_proto::ids::TopicId;

    use super::*;
    use crate::metadata::{Command, PortMode, command::apply};

    fn image(topics: &[(&str, u32)]) -> ClusterImage {
        let mut image = ClusterImage::default();
        let start = Command::StartNode {
            node: 1,
            host: "h".into(),
            port: 9092,
            core_count: 2,
            port_mode: PortMode::PerCore,
            peer_address: String::new(),
            rack: String::new(),
        };
        apply(&mut image, &start).expect("starts");
        for (number, (name, partition_count)) in topics.iter().enumerate() {
            let create = Command::CreateTopic {
                name: (*name).to_owned(),
                id: TopicId::new([number as u8 + 1; 16]).to_string(),
                partition_count: *partition_count,
                replication_factor: 1,
                overrides: BTreeMap::new(),
                replicas: Vec::new(),
            };
            apply(&mut image, &create).expect("creates");
        }
        image
    }

    fn request(limit: i32, cursor: Option<(&str, i32)>) -> DescribeTopicPartitionsRequest {
        let cursor = cursor.map(|(topic, index)| {
            asked::Cursor::default().with_topic_name(topic_name(topic)).with_partition_index(index)
        });
        DescribeTopicPartitionsRequest::default().with_response_partition_limit(limit).with_cursor(cursor)
    }

    /// Follows the cursors to the end: what every page held, as (topic, first partition, partition count).
    fn walk(image: &ClusterImage, limit: i32) -> Vec<Vec<(String, i32, usize)>> {
        let mut pages = Vec::new();
        let mut cursor: Option<(String, i32)> = None;
        loop {
            let at = cursor.as_ref().map(|(topic, index)| (topic.as_str(), *index));
            let reply = page(image, &request(limit, at));
            let page = reply.topics.iter().map(|topic| {
                let first = topic.partitions.first().map_or(-1, |partition| partition.partition_index);
                (topic.name.as_ref().expect("named").to_string(), first, topic.partitions.len())
            });
            pages.push(page.collect());
            match reply.next_cursor {
                Some(next) => cursor = Some((next.topic_name.to_string(), next.partition_index)),
                None => return pages,
            }
        }
    }

    #[test]
    fn pages_hold_every_partition_once_and_in_order() {
        let image = image(&[("b", 3), ("a", 2), ("c", 4)]);
        for limit in 1..12 {
            let pages = walk(&image, limit);
            assert!(pages.iter().all(|page| page.iter().map(|(_, _, n)| n).sum::<usize>() <= limit as usize));
            let parts = pages.iter().flatten();
            let seen: Vec<(String, i32)> = parts
                .flat_map(|(topic, first, count)| {
                    (*first..*first + *count as i32).map(move |index| (topic.clone(), index))
                })
                .collect();
            let want: Vec<(String, i32)> = [("a", 2), ("b", 3), ("c", 4)]
                .iter()
                .flat_map(|(topic, count)| (0..*count).map(move |index| ((*topic).to_owned(), index)))
                .collect();
            assert_eq!(seen, want, "limit {limit}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_by_topic() {
        let image = image(&[("a", 1)]);
        let names = ["zz", "a", "no such name"];
        let topics = names.map(|name| asked::TopicRequest::default().with_name(topic_name(name)));
        let reply = page(&image, &request(2000, None).with_topics(topics.to_vec()));
        let codes: Vec<i16> = reply.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 17, 3]);
        let reply = page(&image, &request(2000, Some(("a", -1))));
        assert_eq!(reply.topics[0].error_code, 42);
        let reply = page(&image, &request(-5, Some(("a", 7))));
        assert_eq!((reply.topics[0].partitions.len(), reply.next_cursor), (0, None));
    }
}
