//! What topics the members of a classic group of consumers read: the start of Kafka's ConsumerProtocolSubscription.

use std::collections::BTreeSet;

use super::ClassicGroup;
use crate::coordinator::group::ids::TopicName;

/// The topics of all members together; `None` when they are no consumers or one of them cannot be understood.
pub fn subscribed_topics(group: &ClassicGroup) -> Option<BTreeSet<TopicName>> {
    if !group.is_of_consumers() {
        return None;
    }
    let protocol = group.protocol.as_ref();
    let mut topics = BTreeSet::new();
    for member in group.members.values() {
        topics.extend(topics_of(&member.metadata(protocol))?);
    }
    Some(topics)
}

/// Reads version (`i16`), a count (`i32`) and as many strings (`i16` length and bytes); what follows does not matter here.
fn topics_of(metadata: &[u8]) -> Option<Vec<TopicName>> {
    let (version, rest) = metadata.split_first_chunk()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_first_chunk()?;
    let count = u32::try_from(i32::from_be_bytes(*count)).ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (name, after) = after.split_at_checked(length)?;
        topics.push(TopicName::new(std::str::from_utf8(name).ok()?));
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_read_and_garbage_is_not() {
        let good = [0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 255, 255, 255, 255];
        assert_eq!(topics_of(&good), Some(vec!["a".into(), "bc".into()]));
        for cut in 0..13 {
            assert_eq!(topics_of(&good[..cut]), None, "cut at {cut}");
        }
        assert_eq!(topics_of(&[0, 0, 255, 255, 255, 255]), None, "a negative count");
        assert_eq!(topics_of(&[0, 0, 127, 255, 255, 255, 0, 0]), None, "a count that nothing follows");
        assert_eq!(topics_of(&[0, 0, 0, 0, 0, 1, 0, 1, 255]), None, "not UTF-8");
    }
}
