//! ElectLeaders: partitions are handed over to their preferred replicas.

use std::{
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        ElectLeadersRequest, ElectLeadersResponse, TopicName,
        elect_leaders_response::{PartitionResult, ReplicaElectionResult},
    },
};
use heddle_proto::{
    error::ErrorCode,
    ids::{PartitionIndex, TopicPartition},
};

use super::{locate, words};
use crate::{
    cluster::{
        message::{Reply, Request},
        note::Wish,
    },
    metadata::{ClusterImage, PartitionImage},
    runtime::time::sleep,
    shard::Shard,
};

/// Kafka's election types: the preferred replica, and any replica that is left.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// A client is answered by then, whatever it asked for.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How often it is looked whether elections have ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A partition that is asked for, and what came of it, once that is known.
struct Asked {
    topic: TopicName,
    index: i32,
    at: TopicPartition,
    verdict: Option<(ErrorCode, String)>,
}

/// Answers one request when all its elections have ended, or its time is over. Asked for every partition, Kafka leaves out
/// those that need no election.
pub async fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let kind = request.election_type;
    if ![PREFERRED, UNCLEAN].contains(&kind) {
        return ElectLeadersResponse::default().with_error_code(ErrorCode::InvalidRequest.code());
    }
    let image = shard.image();
    let is_for_all = request.topic_partitions.is_none();
    let mut asked = match request.topic_partitions {
        None => all(&image),
        Some(topics) => topics
            .into_iter()
            .flat_map(|topic| {
                let name = topic.topic;
                topic.partitions.into_iter().map(move |index| (name.clone(), index))
            })
            .map(|(topic, index)| Asked { at: locate(&image, &topic, index), topic, index, verdict: None })
            .collect(),
    };
    for one in &mut asked {
        one.verdict = verdict(&image, one, kind);
    }
    if is_for_all {
        let needs_none = |one: &Asked| matches!(one.verdict, Some((ErrorCode::ElectionNotNeeded, _)));
        asked.retain(|one| !needs_none(one));
    }
    let patience = Duration::from_millis(request.timeout_ms.max(0).unsigned_abs().into()).min(WAIT_MAX);
    hand_over(shard, &image, &mut asked, patience).await;
    let mut results: BTreeMap<TopicName, Vec<PartitionResult>> = BTreeMap::new();
    for one in asked {
        let (code, message) = one.verdict.unwrap_or((ErrorCode::None, String::new()));
        let message = (code != ErrorCode::None).then(|| words(message));
        results.entry(one.topic).or_default().push(
            PartitionResult::default()
                .with_partition_id(one.index)
                .with_error_code(code.code())
                .with_error_message(message),
        );
    }
    let results = results.into_iter().map(|(topic, partitions)| {
        ReplicaElectionResult::default().with_topic(topic).with_partition_result(partitions)
    });
    ElectLeadersResponse::default().with_replica_election_results(results.collect())
}

fn all(image: &ClusterImage) -> Vec<Asked> {
    let topics = image.topics.values().flat_map(|topic| topic.indexes().map(move |index| (topic, index)));
    topics
        .map(|(topic, index)| Asked {
            topic: TopicName(StrBytes::from_string(topic.name.to_string())),
            index: index.get() as i32,
            at: TopicPartition::new(topic.id, PartitionIndex::new(index.get())),
            verdict: None,
        })
        .collect()
}

fn find(image: &ClusterImage, at: TopicPartition) -> Option<&PartitionImage> {
    image.topic_by_id(at.topic)?.partition(at.partition)
}

/// What can be said without an election; `None` where there is to be one.
fn verdict(image: &ClusterImage, asked: &Asked, kind: i8) -> Option<(ErrorCode, String)> {
    let Some(partition) = find(image, asked.at) else {
        let message = format!("there is no partition {} of {}", asked.index, &*asked.topic);
        return Some((ErrorCode::UnknownTopicOrPartition, message));
    };
    let preferred = partition.wanted()[0].node;
    let has_leader = partition.electing == 0;
    if has_leader && (kind == UNCLEAN || partition.leader == preferred) {
        let message = format!("node {} leads the partition already", partition.leader);
        return Some((ErrorCode::ElectionNotNeeded, message));
    }
    if kind == UNCLEAN {
        let message = "no replica that is sure to have every committed record can be asked, and none that may lack \
                       some is made leader by request: bring back a node of its in-sync set";
        return Some((ErrorCode::EligibleLeadersNotAvailable, message.to_owned()));
    }
    if !partition.isr.contains(&preferred) {
        let message = format!("node {preferred}, which is preferred, is not in sync");
        return Some((ErrorCode::PreferredLeaderNotAvailable, message));
    }
    None
}

/// Wishes that what has no verdict is handed over, and waits for that.
async fn hand_over<D: Disk>(
    shard: &Rc<Shard<D>>,
    image: &ClusterImage,
    asked: &mut [Asked],
    patience: Duration,
) {
    let deadline = Instant::now() + patience;
    let wishes: Vec<Wish> = asked
        .iter()
        .filter(|one| one.verdict.is_none())
        .filter_map(|one| Some(Wish { at: one.at, epoch: find(image, one.at)?.epoch }))
        .collect();
    if wishes.is_empty() {
        return;
    }
    let before: BTreeMap<TopicPartition, i32> = wishes.iter().map(|wish| (wish.at, wish.epoch)).collect();
    if let Reply::Refused(why) = shard.ask_leader(Request::HandOver(wishes)).await {
        for one in asked.iter_mut().filter(|one| one.verdict.is_none()) {
            one.verdict = Some((ErrorCode::CoordinatorNotAvailable, why.clone()));
        }
        return;
    }
    loop {
        let image = shard.image();
        for one in asked.iter_mut().filter(|one| one.verdict.is_none()) {
            one.verdict = outcome(&image, one, &before);
        }
        if asked.iter().all(|one| one.verdict.is_some()) {
            return;
        }
        if Instant::now() >= deadline {
            break;
        }
        sleep(LOOK_EVERY).await;
    }
    for one in asked.iter_mut().filter(|one| one.verdict.is_none()) {
        one.verdict = Some((ErrorCode::RequestTimedOut, "the election goes on".to_owned()));
    }
}

/// What came of an election, once it has ended.
fn outcome(
    image: &ClusterImage,
    asked: &Asked,
    before: &BTreeMap<TopicPartition, i32>,
) -> Option<(ErrorCode, String)> {
    let Some(partition) = find(image, asked.at) else {
        return Some((ErrorCode::UnknownTopicOrPartition, "it has been deleted".to_owned()));
    };
    let has_ended = partition.electing == 0 && Some(&partition.epoch) > before.get(&asked.at);
    has_ended.then(|| match partition.leader == partition.wanted()[0].node {
        true => (ErrorCode::None, String::new()),
        false => (
            ErrorCode::PreferredLeaderNotAvailable,
            format!("node {} was elected; try again", partition.leader),
        ),
    })
}
