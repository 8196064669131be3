//! The range assignor: of each topic, a range of neighbouring partitions to each subscriber.

use std::collections::BTreeMap;

use super::{Subscriber, Topic};
use crate::coordinator::group::message::Assignment;

/// Subscribers are taken in the order of their static names, or of their names, so that members with the same
/// subscription get the same numbers of all topics.
pub fn assign(members: &[Subscriber<'_>]) -> Vec<Assignment> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&index| {
        let member = &members[index];
        (member.instance.map_or(member.member.as_str(), |instance| instance.as_str()), index)
    });
    let mut subscribers: BTreeMap<Topic, Vec<usize>> = BTreeMap::new();
    for &index in &order {
        for topic in members[index].topics.iter() {
            subscribers.entry(*topic).or_default().push(index);
        }
    }
    let mut result = vec![Assignment::new(); members.len()];
    for (topic, subscribers) in subscribers {
        let count = u32::try_from(subscribers.len()).unwrap_or(u32::MAX);
        let (each, rest) = (topic.partition_count / count, topic.partition_count % count);
        let mut partitions = topic.partitions();
        for (place, index) in (0..).zip(subscribers) {
            let share = each + u32::from(place < rest);
            result[index].extend(partitions.by_ref().take(share as usize));
        }
    }
    result
}
