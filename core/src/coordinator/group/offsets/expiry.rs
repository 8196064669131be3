//! When an offset may be forgotten (Kafka: KIP-211).

use std::collections::BTreeSet;

use super::GroupOffsets;
use crate::coordinator::group::{
    context::Context,
    ids::{Millis, TopicName},
    record::CommittedOffset,
};

/// From when on the retention of a group's offsets counts.
#[derive(Debug)]
pub enum ExpiryRule<'a> {
    /// Nothing expires: it is not known what the group reads.
    Never,
    /// From the commit, for topics that the group does not read.
    UnlessSubscribed(&'a BTreeSet<TopicName>),
    /// Nobody reads: from the commit or since when nobody does, whichever is later.
    SinceEmpty(Millis),
}

impl ExpiryRule<'_> {
    fn from(&self, topic: &TopicName, value: &CommittedOffset) -> Option<Millis> {
        match self {
            Self::Never => None,
            Self::UnlessSubscribed(topics) => (!topics.contains(topic)).then_some(value.committed),
            Self::SinceEmpty(since) => Some(value.committed.max(*since)),
        }
    }
}

impl GroupOffsets {
    /// Forgets up to `count_max` offsets that are past their time; says how many it forgot. Those that an open
    /// transaction is about to replace stay.
    pub fn expire(&mut self, cx: &mut Context<'_>, rule: &ExpiryRule<'_>, count_max: usize) -> usize {
        let mut over = Vec::new();
        for (topic, partitions) in &self.committed {
            for (partition, stored) in partitions {
                let Some(from) = rule.from(topic, &stored.value) else { continue };
                let end = stored.value.expires.unwrap_or_else(|| from.plus(cx.config.offsets_retention));
                if end <= cx.now && !self.has_pending_for(topic, *partition) && over.len() < count_max {
                    over.push((topic.clone(), *partition));
                }
            }
        }
        for (topic, partition) in &over {
            self.write_offset(cx, topic, *partition, None);
        }
        over.len()
    }
}
