//! The uniform assignor: as even as subscriptions allow, and among even ones close to what was before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use heddle_proto::ids::{PartitionIndex, TopicPartition};

use super::{Subscriber, Topic};
use crate::coordinator::group::message::Assignment;

/// With equal subscriptions the counts differ by one at most, in linear time times the depth of a sorted set.
pub fn assign(members: &[Subscriber<'_>]) -> Vec<Assignment> {
    let Some(first) = members.first() else { return Vec::new() };
    if members.iter().all(|member| member.topics == first.topics) {
        assign_equal(members, &first.topics)
    } else {
        assign_unequal(members)
    }
}

fn assign_equal(members: &[Subscriber<'_>], topics: &[Topic]) -> Vec<Assignment> {
    let mut free: BTreeSet<TopicPartition> = topics.iter().flat_map(|topic| topic.partitions()).collect();
    let each = free.len() / members.len();
    let mut one_more = free.len() % members.len();
    let mut quotas = Vec::with_capacity(members.len());
    let mut result: Vec<Assignment> = Vec::with_capacity(members.len());
    for member in members {
        let mut kept = Assignment::new();
        let mut quota = each;
        for partition in member.current {
            if kept.len() == quota && quota == each && one_more > 0 && free.contains(partition) {
                one_more -= 1;
                quota += 1;
            }
            if kept.len() == quota {
                break;
            }
            if free.remove(partition) {
                kept.insert(*partition);
            }
        }
        quotas.push(quota);
        result.push(kept);
    }
    for quota in quotas.iter_mut().filter(|quota| **quota == each).take(one_more) {
        *quota += 1;
    }
    // One each in turn, so that neighbouring partitions of a busy topic go to different members.
    let mut hungry: VecDeque<usize> =
        (0..members.len()).filter(|&index| result[index].len() < quotas[index]).collect();
    for partition in free {
        let index = hungry.pop_front().expect("the quotas add up to the partitions");
        result[index].insert(partition);
        if result[index].len() < quotas[index] {
            hungry.push_back(index);
        }
    }
    result
}

/// Most rounds of evening out. Each round only makes the counts more even, so it ends by itself; the limit bounds the
/// time of contrived subscriptions.
const ROUNDS_MAX: usize = 16;

/// Keeps what members have, gives what is free to the subscriber with the least, then moves partitions from members with
/// much to subscribers of the same topic with at least two fewer, until nothing moves.
fn assign_unequal(members: &[Subscriber<'_>]) -> Vec<Assignment> {
    let mut subscribers: BTreeMap<Topic, Vec<usize>> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for topic in member.topics.iter() {
            subscribers.entry(*topic).or_default().push(index);
        }
    }
    let mut owners: BTreeMap<TopicPartition, usize> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for topic in member.topics.iter() {
            let at = |index| TopicPartition::new(topic.id, PartitionIndex::new(index));
            for partition in member.current.range(at(0)..at(topic.partition_count)) {
                owners.entry(*partition).or_insert(index);
            }
        }
    }
    let mut load = vec![0usize; members.len()];
    owners.values().for_each(|&index| load[index] += 1);
    // Topics that few can take come first, while the others are still free to choose.
    let mut topics: Vec<(Topic, Vec<usize>)> = subscribers.into_iter().collect();
    topics.sort_by_key(|(topic, subscribers)| (subscribers.len(), *topic));
    for (topic, subscribers) in &topics {
        let mut least = by_load(subscribers, &load);
        for partition in topic.partitions() {
            owners.entry(partition).or_insert_with(|| take_least(&mut least, &mut load));
        }
    }
    for _ in 0..ROUNDS_MAX {
        let mut has_moved = false;
        for (topic, subscribers) in &topics {
            let mut least = by_load(subscribers, &load);
            for partition in topic.partitions() {
                let owner = owners.get_mut(&partition).expect("every partition has an owner by now");
                let least_load = least.first().map_or(0, |(load, _)| *load);
                if load[*owner] > least_load + 1 {
                    least.remove(&(load[*owner], *owner));
                    load[*owner] -= 1;
                    least.insert((load[*owner], *owner));
                    *owner = take_least(&mut least, &mut load);
                    has_moved = true;
                }
            }
        }
        if !has_moved {
            break;
        }
    }
    let mut result = vec![Assignment::new(); members.len()];
    for (partition, index) in owners {
        result[index].insert(partition);
    }
    result
}

fn by_load(subscribers: &[usize], load: &[usize]) -> BTreeSet<(usize, usize)> {
    subscribers.iter().map(|&index| (load[index], index)).collect()
}

fn take_least(least: &mut BTreeSet<(usize, usize)>, load: &mut [usize]) -> usize {
    let (_, index) = least.pop_first().expect("a topic to divide has subscribers");
    load[index] += 1;
    least.insert((load[index], index));
    index
}
