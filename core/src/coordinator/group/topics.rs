//! Which topics there are, as the coordinator sees it: an immutable picture that the caller replaces.

use std::collections::BTreeMap;

use heddle_proto::ids::TopicId;

use super::ids::TopicName;

/// One topic of a [`TopicImage`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct TopicInfo {
    /// The topic's identity.
    pub id: TopicId,
    /// How many partitions it has.
    pub partition_count: u32,
}

/// All topics of the cluster at one moment. The caller makes one from the cluster's metadata after every change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicImage {
    by_name: BTreeMap<TopicName, TopicInfo>,
    names: BTreeMap<TopicId, TopicName>,
}

impl TopicImage {
    /// Collects the topics.
    pub fn new(topics: impl IntoIterator<Item = (TopicName, TopicInfo)>) -> Self {
        let by_name: BTreeMap<_, _> = topics.into_iter().collect();
        let names = by_name.iter().map(|(name, info)| (info.id, name.clone())).collect();
        Self { by_name, names }
    }

    /// The topic of this name.
    pub fn get(&self, name: &TopicName) -> Option<TopicInfo> {
        self.by_name.get(name).copied()
    }

    /// The name of the topic with this id.
    pub fn name(&self, id: TopicId) -> Option<&TopicName> {
        self.names.get(&id)
    }

    /// The topic with this id.
    pub fn by_id(&self, id: TopicId) -> Option<TopicInfo> {
        self.name(id).and_then(|name| self.get(name))
    }

    /// All topics in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicName, TopicInfo)> {
        self.by_name.iter().map(|(name, info)| (name, *info))
    }
}
