//! Fetch: reads partitions in the order asked for, and waits as the request says when there is too little.
//!
//! With a session (KIP-227, [`super::sessions`]) only what changed is asked and told.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use bytes::BytesMut;
use heddle_log_store::{Aborted, Disk};
use heddle_net::{
    kafka::{
        FetchReply, FetchRequest, RequestHeader, TopicRef, decode_fetch, encode_fetch,
        fetch::{AbortedTransaction, EpochEnd, FetchPartition, FetchPartitionReply, FetchTopicReply},
        topic::TOPIC_ID_VERSION_MIN,
    },
    outbox::Outbox,
};
use heddle_proto::{
    error::ErrorCode,
    ids::{NodeId, Offset, TopicPartition},
};

use super::{
    code_for,
    connection::End,
    epoch,
    leaders::Leaders,
    locate_topic,
    sessions::{Answer, Turn},
};
use crate::{
    admin::stages::{Arrival, FetchTimes},
    metadata::{ClusterImage, quota::Limited},
    partition::{fetch::Fetched, transactions::Isolation},
    runtime::{Queue, time::timed},
    shard::{
        Shard,
        fetch::FetchLimits,
        quotas::Mute,
        request::{FetchFrom, OpError, Reach},
    },
};

/// How much of a connection's room for replies one fetch takes in advance, at most. Kafka serves one request of a
/// connection at a time; here two large ones are under way at once.
const RESERVED_BYTES_MAX: usize = 12 << 20;

/// What one reply carries at most, whatever the client asks, in bytes.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// Handles one request; other requests of the connection are read while it waits.
///
/// # Errors
/// When the request cannot be read or the connection takes no more replies.
pub async fn handle<D: Disk>(
    shard: &Rc<Shard<D>>,
    (outbox, mute): (&Outbox, &Rc<Mute>),
    header: &RequestHeader,
    body: BytesMut,
    received: Instant,
) -> Result<(), End> {
    let request = decode_fetch(header, body)?;
    let arrival = Arrival { readable: received, received, decoded: Instant::now() };
    let reply_header = header.reply();
    let bytes_max = clamp(request.bytes_max);
    let slot = outbox.slot(bytes_max.min(RESERVED_BYTES_MAX)).await?;
    // In the order of the requests, since each changes what the next one is about.
    let by_id = header.version >= TOPIC_ID_VERSION_MIN;
    let answer = shard.sessions.begin(&request, by_id, received, || draw_id(shard));
    let (shard, mute, client) = (shard.clone(), mute.clone(), header.client_id.clone());
    shard.clone().queues.spawn(Queue::Hot, async move {
        let limits = limits(&request, bytes_max);
        let isolation = Isolation::from_code(request.isolation_level);
        let near = Near { rack: request.rack_id.to_string(), node: shard.node.get() };
        let reading = async {
            match answer {
                Answer::Alone => read(&shard, request, limits, isolation, &near).await,
                Answer::In(turn) => read_session(&shard, &turn, limits, isolation, &near).await,
                Answer::Refused(error) => refused(error, Instant::now()),
            }
        };
        let (reply, times) = if shard.quotas.is_set() {
            let ((mut reply, times), spent) = timed(reading).await;
            reply.throttle_ms = mute.extend(charge(&shard, client.as_deref(), &reply, spent).await);
            (reply, times)
        } else {
            reading.await
        };
        let mut scratch = BytesMut::with_capacity(256);
        match encode_fetch(reply_header, reply, &mut scratch) {
            Ok(chunks) => slot.fill_watched(chunks, shard.metrics.stages.fetched(arrival, &times)),
            Err(error) => tracing::error!(%error, "a fetch reply could not be encoded"),
        }
    });
    Ok(())
}

/// Counts what a fetch used; for how long its client is to be held back.
async fn charge<D: Disk>(
    shard: &Rc<Shard<D>>,
    client: Option<&str>,
    reply: &FetchReply,
    spent: Duration,
) -> Duration {
    let parts = reply.topics.iter().flat_map(|topic| &topic.partitions);
    let bytes: usize = parts.map(FetchPartitionReply::records_bytes).sum();
    let throttle = shard.charge(Limited::FetchBytes, client, bytes as f64).await;
    throttle.max(shard.charge(Limited::RequestTime, client, spent.as_secs_f64()).await)
}

/// A number for a session that no other core of the node gives out, so that a client of a node with one port never finds
/// another client's session on the core that it lands on.
fn draw_id<D: Disk>(shard: &Rc<Shard<D>>) -> i32 {
    let count = i32::from(shard.mesh.core_count());
    let drawn = (uuid::Uuid::new_v4().as_u128() as i32) & (i32::MAX >> 1);
    drawn - drawn % count + i32::from(shard.core().get())
}

fn limits(request: &FetchRequest, bytes_max: usize) -> FetchLimits {
    FetchLimits {
        bytes_min: usize::try_from(request.bytes_min).unwrap_or(0),
        bytes_max,
        wait: Duration::from_millis(request.wait_max_ms.max(0).unsigned_abs().into()),
    }
}

fn refused(error: ErrorCode, now: Instant) -> (FetchReply, FetchTimes) {
    let times = FetchTimes { looked: now, found: now, waited: false };
    (FetchReply { error, ..FetchReply::default() }, times)
}

/// Where a client stands (KIP-392).
struct Near {
    /// Its rack; empty where it does not say.
    rack: String,
    /// The node that it asks.
    node: u32,
}

impl Near {
    /// Which replicas may answer the client. It is sent to a replica in its rack where the leader is in another.
    fn reach(&self, image: &ClusterImage, at: TopicPartition) -> Reach {
        if self.rack.is_empty() {
            return Reach::Leader;
        }
        let is_near = |node: u32| image.nodes.get(&node).is_some_and(|it| it.rack == self.rack);
        let partition = image.topic_by_id(at.topic).and_then(|topic| topic.partition(at.partition));
        let nearer = partition.filter(|partition| !is_near(partition.leader)).and_then(|partition| {
            let stays = |node: &&u32| partition.replicas.iter().any(|replica| replica.node == **node);
            let nodes = partition.isr.iter().filter(stays).copied();
            nodes.filter(|node| *node != self.node && is_near(*node)).min()
        });
        Reach::InSync { nearer: nearer.map(NodeId::new) }
    }
}

/// Where a partition that is asked for is, and what of it.
fn fetch_from(
    image: &ClusterImage,
    topic: &TopicRef,
    asked: &FetchPartition,
    isolation: Isolation,
    near: &Near,
) -> FetchFrom {
    let at = locate_topic(image, topic, asked.index);
    FetchFrom {
        at,
        reach: near.reach(image, at),
        offset: Offset::new(asked.fetch_offset),
        epoch: epoch(asked.current_leader_epoch),
        last_epoch: epoch(asked.last_fetched_epoch),
        isolation,
        bytes_max: clamp(asked.bytes_max),
    }
}

async fn read<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: FetchRequest,
    limits: FetchLimits,
    isolation: Isolation,
    near: &Near,
) -> (FetchReply, FetchTimes) {
    let image = shard.image();
    let asked = request.topics.iter().flat_map(|topic| {
        let topic_ref = &topic.topic;
        topic.partitions.iter().map(move |partition| (topic_ref, partition))
    });
    let partitions: Vec<FetchFrom> =
        asked.map(|(topic, partition)| fetch_from(&image, topic, partition, isolation, near)).collect();
    let places: Vec<TopicPartition> = partitions.iter().map(|from| from.at).collect();
    let (results, times) = shard.fetch(partitions, limits).await;
    let mut results = places.into_iter().zip(results);
    let image = shard.image();
    let mut leaders = Leaders::new(&image);
    let topics = request.topics.into_iter().map(|topic| FetchTopicReply {
        partitions: topic
            .partitions
            .iter()
            .zip(results.by_ref())
            .map(|(partition, (at, result))| {
                partition_reply(
                    &image,
                    &mut leaders,
                    &topic.topic,
                    (partition.index, at),
                    (result, isolation),
                )
            })
            .collect(),
        topic: topic.topic,
    });
    let topics = topics.collect();
    (FetchReply { topics, endpoints: leaders.into_endpoints(), ..FetchReply::default() }, times)
}

/// Reads what is due of a session, and tells what its client does not know yet.
async fn read_session<D: Disk>(
    shard: &Rc<Shard<D>>,
    turn: &Turn,
    limits: FetchLimits,
    isolation: Isolation,
    near: &Near,
) -> (FetchReply, FetchTimes) {
    let session = &turn.session;
    let image = shard.image();
    session.refresh(|topic, asked| fetch_from(&image, topic, asked, isolation, near));
    let (found, times) = shard.fetch_set(&session.set, limits, &|| turn.is_current()).await;
    if !turn.is_current() {
        return refused(ErrorCode::InvalidFetchSessionEpoch, times.found);
    }
    let image = shard.image();
    let mut leaders = Leaders::new(&image);
    let mut topics: Vec<FetchTopicReply> = Vec::new();
    let mut places: AHashMap<TopicRef, usize> = AHashMap::new();
    for (slot, result) in found {
        let Some((topic, index)) = session.part(slot) else { continue };
        let news = session.must_tell(slot, result.as_ref().ok());
        if !news && !turn.is_full {
            continue;
        }
        if result.as_ref().is_ok_and(|fetched| !fetched.batches.is_empty()) {
            session.set.borrow_mut().move_back(slot);
        }
        let at = locate_topic(&image, &topic, index);
        let reply = partition_reply(&image, &mut leaders, &topic, (index, at), (result, isolation));
        let place = *places.entry(topic.clone()).or_insert_with(|| {
            topics.push(FetchTopicReply { topic, partitions: Vec::new() });
            topics.len() - 1
        });
        topics[place].partitions.push(reply);
    }
    let reply = FetchReply {
        session_id: turn.session_id(),
        topics,
        endpoints: leaders.into_endpoints(),
        ..FetchReply::default()
    };
    (reply, times)
}

fn partition_reply(
    image: &ClusterImage,
    leaders: &mut Leaders<'_>,
    topic: &TopicRef,
    (index, at): (i32, TopicPartition),
    (result, isolation): (Result<Fetched, OpError>, Isolation),
) -> FetchPartitionReply {
    match result {
        Ok(fetched) => {
            let nearer = fetched.nearer.and_then(|node| image.broker_on(node, at));
            let reply = read_reply(index, fetched, isolation);
            FetchPartitionReply { preferred_read_replica: nearer.unwrap_or(-1), ..reply }
        }
        Err(error) => FetchPartitionReply {
            current_leader: leaders.tell(at, error.code),
            ..FetchPartitionReply::refused(index, code_for(image, topic, error.code))
        },
    }
}

fn read_reply(index: i32, fetched: Fetched, isolation: Isolation) -> FetchPartitionReply {
    let diverging =
        fetched.diverging.map(|(epoch, end)| EpochEnd { epoch: epoch.get(), end_offset: end.get() });
    let aborted = (isolation == Isolation::ReadCommitted).then(|| {
        let transaction = |aborted: &Aborted| AbortedTransaction {
            producer_id: aborted.producer.get(),
            first_offset: aborted.first.get(),
        };
        fetched.aborted.iter().map(transaction).collect()
    });
    let (committed, start) = (fetched.committed.get(), fetched.start.get());
    FetchPartitionReply {
        last_stable_offset: fetched.stable.get(),
        aborted,
        diverging,
        ..FetchPartitionReply::read(index, committed, start, fetched.batches)
    }
}

fn clamp(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0).min(REPLY_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use heddle_proto::ids::{PartitionIndex, TopicId};

    use super::*;
    use crate::metadata::{Command, NodeImage, PortMode, ReplicaSlot, command::apply};

    const AT: TopicPartition = TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(0));

    /// Node 1 leads in rack a; 2 and 3 stand in b, and 3 is not in sync; 4 stands in c.
    fn image() -> ClusterImage {
        let mut image = ClusterImage::default();
        for (node, rack) in [(1, "a"), (2, "b"), (3, "b"), (4, "c")] {
            let start = Command::StartNode {
                node,
                host: "h".into(),
                port: 9092,
                core_count: 1,
                port_mode: PortMode::PerCore,
                peer_address: String::new(),
                rack: rack.into(),
            };
            apply(&mut image, &start).expect("starts");
        }
        let create = Command::CreateTopic {
            name: "t".into(),
            id: AT.topic.to_string(),
            partition_count: 1,
            replication_factor: 4,
            overrides: BTreeMap::new(),
            replicas: vec![(1..=4).map(|node| ReplicaSlot { node, slot: 0 }).collect()],
        };
        apply(&mut image, &create).expect("creates");
        let mut topic = (**image.topic("t").expect("is there")).clone();
        topic.partitions[0].leader = 1;
        topic.partitions[0].isr = vec![1, 2, 4];
        image.topics_by_id.insert(topic.id, Arc::new(topic));
        image
    }

    /// rack | asked node | who may answer.
    #[test]
    fn a_client_is_sent_to_a_replica_in_sync_in_its_rack_where_the_leader_is_elsewhere() {
        let in_sync = |node: Option<u32>| Reach::InSync { nearer: node.map(NodeId::new) };
        let table = [
            ("", 1, Reach::Leader),
            ("a", 1, in_sync(None)),
            ("b", 1, in_sync(Some(2))),
            ("b", 2, in_sync(None)),
            ("c", 1, in_sync(Some(4))),
            ("d", 1, in_sync(None)),
        ];
        let image = image();
        for (rack, node, wanted) in table {
            let near = Near { rack: rack.to_owned(), node };
            assert_eq!(near.reach(&image, AT), wanted, "rack {rack:?}, node {node}");
        }
        assert_eq!(image.nodes[&1].rack(), Some("a"));
        let nowhere = NodeImage { rack: String::new(), ..(*image.nodes[&1]).clone() };
        assert_eq!(nowhere.rack(), None);
    }
}
