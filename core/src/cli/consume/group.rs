//! `heddle consume --group`: a member of a consumer group (KIP-848) that prints what the group gives it, and commits it.
//!
//! Membership and offsets go over Kafka's protocol, records over the native one. What is committed was printed before;
//! what was printed after the last commit is printed again by whoever takes the partition over.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future;
use heddle_client::{Offset, PartitionIndex, TopicInfo};
use heddle_net::kafka::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
    consumer_group_heartbeat_request::TopicPartitions,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
};
use heddle_net::kafka::{ApiKey, StrBytes};

use super::{CREDIT_BYTES, CREDIT_BYTES_MIN, Follower, Shared};
use crate::cli::CliError;
use crate::cli::args::ConsumeArgs;
use crate::cli::kafka::KafkaSession;
use crate::cli::session::Session;
use crate::runtime::{block_on::spawn, event::Event, signals, time};

/// How long the group waits for this member to give up partitions.
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
/// A member that joins or leaves.
const EPOCH_JOINING: i32 = 0;
const EPOCH_LEAVING: i32 = -1;

/// Prints until the limits given, an error, or SIGINT; then commits and leaves.
pub async fn run(args: &ConsumeArgs, group: &str, out: Box<dyn Write>) -> Result<(), CliError> {
    if args.partition.is_some() {
        return Err(CliError::Usage(
            "--partition and --group exclude each other: the group gives out partitions".to_owned(),
        ));
    }
    let session = Session::open(&args.connect.server).await?;
    let topic = session.topic(&args.topic, false).await?;
    let shared = Rc::new(Shared::new(args, 0, out));
    signals::install();
    let mut member = Member {
        kafka: KafkaSession::new(&args.connect.server),
        credit_bytes: (CREDIT_BYTES / topic.partitions.len().max(1) as u64).max(CREDIT_BYTES_MIN),
        session,
        topic,
        group: group.to_owned(),
        id: uuid::Uuid::new_v4().to_string(),
        epoch: EPOCH_JOINING,
        reading: BTreeMap::new(),
    };
    let ended = member.take_part(args, &shared).await;
    member.stop_reading(|_| true);
    // Whatever ended it: what was printed is committed, and the others need not wait for this member.
    let left = member.leave().await;
    shared.finish().and(ended).and(left)
}

struct Member {
    kafka: KafkaSession,
    session: Session,
    topic: TopicInfo,
    credit_bytes: u64,
    group: String,
    id: String,
    epoch: i32,
    reading: BTreeMap<u32, Reading>,
}

/// A partition that this member reads, or has just stopped to read.
struct Reading {
    /// The offset after the last record that was printed.
    position: Rc<Cell<i64>>,
    committed: i64,
    stop: Rc<Event>,
    is_over: bool,
}

impl Member {
    /// Heartbeats, follows the assignment and commits until the command is done.
    async fn take_part(&mut self, args: &ConsumeArgs, shared: &Rc<Shared>) -> Result<(), CliError> {
        let mut told = None;
        while !shared.done.has_fired() {
            let reply = self.heartbeat(told.take()).await?;
            self.epoch = reply.member_epoch;
            let pause =
                Duration::from_millis(u64::try_from(reply.heartbeat_interval_ms).unwrap_or(0).max(50));
            if let Some(assignment) = reply.assignment {
                let id = uuid::Uuid::from_bytes(*self.topic.id.as_bytes());
                let mine = assignment.topic_partitions.iter().filter(|topic| topic.topic_id == id);
                let wanted: Vec<u32> =
                    mine.flat_map(|topic| topic.partitions.iter().map(|index| *index as u32)).collect();
                self.stop_reading(|index| !wanted.contains(&index));
                self.commit().await?;
                self.reading.retain(|_, reading| !reading.is_over);
                self.start_reading(&wanted, args, shared).await?;
                // Told at once, so that others get what was given up.
                told = Some(wanted);
                continue;
            }
            let ended = future::or(shared.done.wait(), signals::stop_requested());
            if time::until(Instant::now() + pause, ended).await.is_some() {
                return Ok(());
            }
            self.commit().await?;
        }
        Ok(())
    }

    /// Says that the member is there, and with `owned` which partitions it has.
    async fn heartbeat(
        &mut self,
        owned: Option<Vec<u32>>,
    ) -> Result<ConsumerGroupHeartbeatResponse, CliError> {
        let is_joining = self.epoch == EPOCH_JOINING;
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_member_id(words(&self.id))
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(-1);
        if is_joining {
            request.rebalance_timeout_ms = REBALANCE_TIMEOUT_MS;
            request.subscribed_topic_names = Some(vec![TopicName(words(&self.topic.name))]);
            request.topic_partitions = Some(Vec::new());
        }
        if let Some(owned) = owned {
            let partitions = owned.into_iter().map(|index| index as i32).collect();
            let topic = TopicPartitions::default()
                .with_topic_id(uuid::Uuid::from_bytes(*self.topic.id.as_bytes()))
                .with_partitions(partitions);
            request.topic_partitions = Some(vec![topic]);
        }
        let error_of = |reply: &ConsumerGroupHeartbeatResponse| reply.error_code;
        self.kafka.ask_coordinator(&self.group, (ApiKey::ConsumerGroupHeartbeat, 1), &request, error_of).await
    }

    async fn start_reading(
        &mut self,
        wanted: &[u32],
        args: &ConsumeArgs,
        shared: &Rc<Shared>,
    ) -> Result<(), CliError> {
        let new: Vec<u32> =
            wanted.iter().copied().filter(|index| !self.reading.contains_key(index)).collect();
        // All at once, or the first that has ended would count as the last.
        shared.following.set(shared.following.get() + new.len());
        for index in new {
            let committed = self.committed(index).await?;
            let follower = Follower {
                session: self.session.clone(),
                topic: self.topic.name.clone(),
                partition: PartitionIndex::new(index),
                credit_bytes: self.credit_bytes,
                position: Rc::new(Cell::new(committed)),
            };
            let reading = Reading {
                position: follower.position.clone(),
                committed,
                stop: Event::new(),
                is_over: false,
            };
            let (stop, shared) = (reading.stop.clone(), shared.clone());
            let (from, until_end) = (args.from, args.until_end);
            self.reading.insert(index, reading);
            spawn(async move {
                let read = async {
                    let start = match committed {
                        committed if committed >= 0 => Offset::new(committed),
                        _ => follower.start(from).await?,
                    };
                    follower.follow_from(&shared, start, until_end).await
                };
                let stopped = async {
                    stop.wait().await;
                    None
                };
                match future::or(async { Some(read.await) }, stopped).await {
                    Some(result) => shared.on_end(result),
                    None => shared.following.set(shared.following.get() - 1),
                }
            });
        }
        Ok(())
    }

    /// Ends the reading of some partitions; their last positions are still to be committed.
    fn stop_reading(&mut self, which: impl Fn(u32) -> bool) {
        for (index, reading) in &mut self.reading {
            if which(*index) {
                reading.stop.fire();
                reading.is_over = true;
            }
        }
    }

    /// What the group has committed of a partition, or -1.
    async fn committed(&mut self, index: u32) -> Result<i64, CliError> {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(TopicName(words(&self.topic.name)))
            .with_partition_indexes(vec![index as i32]);
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(self.group_id())
            .with_member_id(Some(words(&self.id)))
            .with_member_epoch(self.epoch)
            .with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(true);
        let error_of = |reply: &OffsetFetchResponse| reply.groups.first().map_or(0, |group| group.error_code);
        let reply =
            self.kafka.ask_coordinator(&self.group, (ApiKey::OffsetFetch, 9), &request, error_of).await?;
        let mut partitions =
            reply.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions);
        Ok(partitions.next().map_or(-1, |partition| partition.committed_offset))
    }

    /// Commits what was printed since the last time.
    async fn commit(&mut self) -> Result<(), CliError> {
        let moved: Vec<(u32, i64)> = self
            .reading
            .iter()
            .map(|(index, reading)| (*index, reading.position.get(), reading.committed))
            .filter(|(_, position, committed)| position > committed)
            .map(|(index, position, _)| (index, position))
            .collect();
        if moved.is_empty() {
            return Ok(());
        }
        let partitions = moved.iter().map(|(index, position)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*index as i32)
                .with_committed_offset(*position)
        });
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(words(&self.topic.name)))
            .with_partitions(partitions.collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id_or_member_epoch(self.epoch)
            .with_member_id(words(&self.id))
            .with_topics(vec![topic]);
        let error_of = |reply: &OffsetCommitResponse| {
            let mut partitions = reply.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.find(|partition| partition.error_code != 0).map_or(0, |found| found.error_code)
        };
        let _: OffsetCommitResponse =
            self.kafka.ask_coordinator(&self.group, (ApiKey::OffsetCommit, 9), &request, error_of).await?;
        for (index, position) in moved {
            if let Some(reading) = self.reading.get_mut(&index) {
                reading.committed = position;
            }
        }
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), CliError> {
        if self.epoch <= EPOCH_JOINING {
            return Ok(());
        }
        let committed = self.commit().await;
        self.epoch = EPOCH_LEAVING;
        committed.and(self.heartbeat(None).await.map(drop))
    }

    fn group_id(&self) -> GroupId {
        GroupId(words(&self.group))
    }
}

fn words(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
