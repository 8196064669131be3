//! Which topics the members want: by name, by regular expression, and as of which topics there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use heddle_proto::{error::ErrorCode, ids::TopicId};
use regex::Regex;

use super::{ConsumerGroup, Refusal};
use crate::coordinator::{
    group::{
        assignor::Topic,
        config::GroupConfig,
        context::Context,
        ids::{TopicName, TopicRegex},
        record::{ConsumerMemberValue, GroupRecord, ResolvedRegexValue},
        topics::TopicImage,
    },
    pattern::compile_whole,
};

/// Compiles an expression; as in Kafka the whole name must match.
///
/// # Errors
/// `InvalidRegularExpression` when it is none, or too large.
pub fn compile(config: &GroupConfig, regex: &TopicRegex) -> Result<Regex, Refusal> {
    const REFUSAL: Refusal = Refusal::new(
        ErrorCode::InvalidRegularExpression,
        "SubscribedTopicRegex is not a valid regular expression or is too large",
    );
    let text = regex.as_str();
    if text.len() > config.regex_bytes_max {
        return Err(REFUSAL);
    }
    compile_whole(text).ok_or(REFUSAL)
}

fn matching(image: &TopicImage, regex: &Regex) -> BTreeSet<TopicName> {
    // The broker's own topics too, as in Kafka: who does not want them says so in the pattern.
    image.iter().map(|(name, _)| name).filter(|name| regex.is_match(name.as_str())).cloned().collect()
}

/// FNV-1a with 64 bits: the same on every machine and in every version, as it goes into records.
struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl ConsumerGroup {
    /// Sees that the expression is resolved.
    pub(super) fn resolve(&mut self, cx: &mut Context<'_>, regex: &TopicRegex, compiled: &Regex) {
        let topics = matching(cx.topics, compiled);
        let is_known = self.regexes.get(regex).is_some_and(|known| known.topics == topics);
        if !is_known {
            let value = Some(ResolvedRegexValue { topics });
            self.write(
                cx,
                GroupRecord::ResolvedRegex { group: cx.group.clone(), regex: regex.clone(), value },
            );
        }
    }

    /// Resolves all expressions anew.
    pub(super) fn resolve_all(&mut self, cx: &mut Context<'_>) {
        for regex in self.regexes.keys().cloned().collect::<Vec<_>>() {
            // One that was taken once compiles again, unless its record was made by somebody else.
            if let Ok(compiled) = compile(cx.config, &regex) {
                self.resolve(cx, &regex, &compiled);
            }
        }
    }

    /// Forgets expressions that no member uses any longer.
    pub(super) fn forget_unused_regexes(&mut self, cx: &mut Context<'_>) {
        let unused: Vec<_> =
            self.regexes.keys().filter(|regex| !self.regex_uses.contains_key(*regex)).cloned().collect();
        for regex in unused {
            self.write(cx, GroupRecord::ResolvedRegex { group: cx.group.clone(), regex, value: None });
        }
    }

    /// All topics that some member wants, whether they exist or not.
    pub fn subscribed(&self) -> BTreeSet<TopicName> {
        let by_regex = self.regex_uses.keys().filter_map(|regex| self.regexes.get(regex));
        let by_regex = by_regex.flat_map(|resolved| resolved.topics.iter());
        self.name_uses.keys().chain(by_regex).cloned().collect()
    }

    /// A number that changes when a topic that some member wants appears, goes, or gets more partitions.
    pub(super) fn topics_hash(&self, image: &TopicImage) -> u64 {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        for name in self.subscribed() {
            let Some(topic) = image.get(&name) else { continue };
            hash.add(topic.id.as_bytes());
            hash.add(&topic.partition_count.to_le_bytes());
        }
        hash.0
    }

    /// The topics that exist and that one member wants.
    pub(super) fn topics_of(
        &self,
        image: &TopicImage,
        wants: &ConsumerMemberValue,
    ) -> BTreeMap<TopicId, Topic> {
        let by_regex = wants.subscribed_regex.as_ref().and_then(|regex| self.regexes.get(regex));
        let by_regex = by_regex.into_iter().flat_map(|resolved| resolved.topics.iter());
        let topics = wants.subscribed_names.iter().chain(by_regex).filter_map(|name| image.get(name));
        topics
            .map(|topic| (topic.id, Topic { id: topic.id, partition_count: topic.partition_count }))
            .collect()
    }

    /// The same for every member; members with equal wishes share one list.
    pub(super) fn topics_of_all(&self, image: &TopicImage) -> Vec<Rc<[Topic]>> {
        type Wishes<'a> = (&'a BTreeSet<TopicName>, &'a Option<TopicRegex>);
        let mut lists: BTreeMap<Wishes<'_>, Rc<[Topic]>> = BTreeMap::new();
        let of = |wants| self.topics_of(image, wants).into_values().collect();
        let members = self.members.values().map(|member| {
            let key = (&member.wants.subscribed_names, &member.wants.subscribed_regex);
            lists.entry(key).or_insert_with(|| of(&member.wants)).clone()
        });
        members.collect()
    }

    pub(super) fn count_subscription(&mut self, wants: &ConsumerMemberValue, is_added: bool) {
        for name in &wants.subscribed_names {
            count(&mut self.name_uses, name, is_added);
        }
        if let Some(regex) = &wants.subscribed_regex {
            count(&mut self.regex_uses, regex, is_added);
        }
        let bytes = wanted_bytes(wants);
        self.bytes = if is_added { self.bytes + bytes } else { self.bytes - bytes };
    }
}

/// About what a member's wishes take in memory.
pub fn wanted_bytes(wants: &ConsumerMemberValue) -> usize {
    const NAME_BYTES: usize = 48; // of an entry of a sorted set and the name's own header
    let text = |text: &Option<std::sync::Arc<str>>| text.as_ref().map_or(0, |text| text.len());
    wants.subscribed_names.iter().map(|name| NAME_BYTES + name.as_str().len()).sum::<usize>()
        + wants.subscribed_regex.as_ref().map_or(0, |regex| regex.as_str().len())
        + wants.instance.as_ref().map_or(0, |instance| instance.as_str().len())
        + text(&wants.rack)
        + text(&wants.server_assignor)
        + wants.client.id.len()
        + wants.client.host.len()
}

fn count<K: Ord + Clone>(uses: &mut BTreeMap<K, usize>, key: &K, is_added: bool) {
    if is_added {
        *uses.entry(key.clone()).or_default() += 1;
    } else if let Some(uses_left) = uses.get_mut(key) {
        *uses_left -= 1;
        if *uses_left == 0 {
            uses.remove(key);
        }
    }
}
