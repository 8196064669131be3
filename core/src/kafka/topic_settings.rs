//! The settings of a topic as Kafka's admin requests show them: value, where it comes from, and what it would be.

use crate::{
    config::Config,
    metadata::{
        TopicImage,
        topic_config::{self, Entry},
    },
};

/// Kafka's ConfigSource.
pub const SOURCE_TOPIC: i8 = 1;
/// The same for what the node's configuration sets.
pub const SOURCE_STATIC_BROKER: i8 = 4;
/// The same for what is built in.
pub const SOURCE_DEFAULT: i8 = 5;

/// One setting of one topic.
pub struct Setting {
    /// What is documented of it.
    pub entry: &'static Entry,
    /// The value in force.
    pub value: String,
    /// Where it comes from.
    pub source: i8,
    /// The values that would be in force without the one before, beginning with the one that is.
    pub synonyms: Vec<(i8, String)>,
}

/// Every setting of a topic, in the order of the reference.
pub fn of<'a>(config: &'a Config, topic: &'a TopicImage) -> impl Iterator<Item = Setting> + 'a {
    topic_config::entries().iter().map(|entry| {
        let mut synonyms = Vec::with_capacity(3);
        let own = topic.overrides.get(entry.name).cloned();
        synonyms.extend(own.map(|value| (SOURCE_TOPIC, value)));
        let node = config.topic_defaults().find(|(name, _)| *name == entry.name);
        let node = node.map(|(_, value)| value).filter(|value| value != entry.default);
        synonyms.extend(node.map(|value| (SOURCE_STATIC_BROKER, value)));
        synonyms.push((SOURCE_DEFAULT, entry.default.to_owned()));
        // A topic keeps the default that its node had when it was created.
        let in_force = synonyms.iter().find(|(source, _)| *source != SOURCE_STATIC_BROKER);
        let (source, value) = in_force.expect("there is always a default").clone();
        Setting { entry, value, source, synonyms }
    })
}
