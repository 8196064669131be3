//! The topics in which the broker keeps its own state: their names, and the settings that this state needs.

use std::collections::BTreeMap;

/// A topic that only the broker writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InternalTopic {
    /// Consumer groups and their offsets.
    Groups,
    /// Transactions.
    Transactions,
}

/// What the records of a coordinator need, whatever the node's defaults say: nothing is lost to a power cut, only what a
/// later record with the same key replaces may go, and one batch holds the largest group.
const SETTINGS: [(&str, &str); 7] = [
    ("cleanup.policy", "compact"),
    ("compression.type", "producer"),
    ("durability", "fsync"),
    ("max.message.bytes", "16777216"),
    ("message.timestamp.type", "CreateTime"),
    ("retention.bytes", "-1"),
    ("retention.ms", "-1"),
];

/// The most replicas that a coordinator's records get: more would cost more than they guard.
const REPLICA_COUNT_MAX: usize = 3;

/// The setting that says how many replicas hold what is committed.
const COMMIT_QUORUM: &str = "min.insync.replicas";

impl InternalTopic {
    /// Every internal topic.
    pub const ALL: [InternalTopic; 2] = [InternalTopic::Groups, InternalTopic::Transactions];

    /// Its name, as in Kafka.
    pub const fn name(self) -> &'static str {
        match self {
            InternalTopic::Groups => "__consumer_offsets",
            InternalTopic::Transactions => "__transaction_state",
        }
    }

    /// The internal topic of this name, if it is one.
    pub fn of(name: &str) -> Option<InternalTopic> {
        InternalTopic::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// The settings that it is created with.
    pub fn overrides(self) -> BTreeMap<String, String> {
        SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// How many replicas it is created with where so many nodes take replicas: one may fail, where that can be.
    pub fn replication_factor(node_count: usize) -> u16 {
        node_count.clamp(1, REPLICA_COUNT_MAX) as u16
    }

    /// How many of these replicas hold what is committed, as a setting, whatever the node's defaults say.
    pub fn commit_quorum(replication_factor: u16) -> (String, String) {
        let quorum = if usize::from(replication_factor) < REPLICA_COUNT_MAX { 1 } else { 2 };
        (COMMIT_QUORUM.to_owned(), quorum.to_string())
    }

    /// Whether its records depend on this setting, so that nobody may change it.
    pub fn needs(setting: &str) -> bool {
        SETTINGS.iter().any(|(name, _)| *name == setting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{name::check_topic_name, topic_config::TopicConfig};

    #[test]
    fn replicas_of_internal_topics_are_as_many_as_nodes_up_to_three() {
        for (nodes, factor, quorum) in [(0, 1, "1"), (1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (9, 3, "2")] {
            assert_eq!(InternalTopic::replication_factor(nodes), factor, "{nodes} nodes");
            assert_eq!(InternalTopic::commit_quorum(factor).1, quorum, "{nodes} nodes");
        }
    }

    #[test]
    fn internal_topics_are_legal_topics() {
        for topic in InternalTopic::ALL {
            assert_eq!(InternalTopic::of(topic.name()), Some(topic));
            check_topic_name(topic.name()).expect("is a topic name");
            TopicConfig::parse(&topic.overrides()).expect("are topic settings");
        }
        assert_eq!(InternalTopic::of("consumer_offsets"), None);
    }
}
