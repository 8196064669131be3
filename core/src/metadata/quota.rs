//! Client quotas as the cluster agrees on them: which users and clients may use how much (KIP-13, KIP-124, KIP-546).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whom one part of an entity names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// Everybody for whom nothing more specific is set.
    Default,
    /// This one.
    Name(String),
}

/// Whom a quota is for: a user, a client id, or a client id of a user. At least one of the two is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entity {
    /// The user.
    pub user: Option<Who>,
    /// The client id.
    pub client: Option<Who>,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limited {
    /// Bytes of produce requests a second.
    ProduceBytes,
    /// Bytes of fetch replies a second.
    FetchBytes,
    /// Time that a core spends on requests, in percent of that core.
    RequestTime,
}

impl Limited {
    /// All of them.
    pub const ALL: [Limited; 3] = [Limited::ProduceBytes, Limited::FetchBytes, Limited::RequestTime];

    /// Kafka's name of it.
    pub fn key(self) -> &'static str {
        match self {
            Limited::ProduceBytes => "producer_byte_rate",
            Limited::FetchBytes => "consumer_byte_rate",
            Limited::RequestTime => "request_percentage",
        }
    }

    /// What has this name.
    pub fn from_key(key: &str) -> Option<Limited> {
        Limited::ALL.into_iter().find(|limited| limited.key() == key)
    }
}

/// The limits of one entity.
pub type Limits = BTreeMap<Limited, f64>;

/// A change of one entity's limits: a value sets, `None` removes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuotaChange {
    /// Whose.
    pub entity: Entity,
    /// What changes.
    pub changes: BTreeMap<Limited, Option<f64>>,
}

/// All quotas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quotas {
    limits: BTreeMap<Entity, Limits>,
}

impl Quotas {
    /// Makes one change. An entity without limits is forgotten.
    pub fn change(&mut self, change: &QuotaChange) {
        let limits = self.limits.entry(change.entity.clone()).or_default();
        for (limited, value) in &change.changes {
            match value {
                Some(value) => limits.insert(*limited, *value),
                None => limits.remove(limited),
            };
        }
        if limits.is_empty() {
            self.limits.remove(&change.entity);
        }
    }

    /// Whether nobody is limited.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// How many entities are limited.
    pub fn len(&self) -> usize {
        self.limits.len()
    }

    /// Every entity with its limits, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Entity, &Limits)> {
        self.limits.iter()
    }

    /// The limit that holds for a client of a user, and the entity that it is set for: the most specific, as Kafka
    /// orders them. A user goes before a client id, a name before a default.
    pub fn find(&self, limited: Limited, user: &str, client: &str) -> Option<(&Entity, f64)> {
        let name = |name: &str| Some(Who::Name(name.to_owned()));
        let default = Some(Who::Default);
        let order = [
            (name(user), name(client)),
            (name(user), default.clone()),
            (name(user), None),
            (default.clone(), name(client)),
            (default.clone(), default.clone()),
            (default.clone(), None),
            (None, name(client)),
            (None, default),
        ];
        order.into_iter().find_map(|(user, client)| {
            let (entity, limits) = self.limits.get_key_value(&Entity { user, client })?;
            Some((entity, *limits.get(&limited)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(user: Option<&str>, client: Option<&str>) -> Entity {
        let who = |name: &str| if name == "*" { Who::Default } else { Who::Name(name.to_owned()) };
        Entity { user: user.map(who), client: client.map(who) }
    }

    fn set(quotas: &mut Quotas, entity: Entity, value: Option<f64>) {
        quotas.change(&QuotaChange { entity, changes: BTreeMap::from([(Limited::FetchBytes, value)]) });
    }

    #[test]
    fn the_most_specific_limit_holds() {
        let order = [
            entity(None, Some("*")),
            entity(None, Some("c")),
            entity(Some("*"), None),
            entity(Some("*"), Some("*")),
            entity(Some("*"), Some("c")),
            entity(Some("u"), None),
            entity(Some("u"), Some("*")),
            entity(Some("u"), Some("c")),
        ];
        let mut quotas = Quotas::default();
        for (rate, next) in (1..).zip(&order) {
            assert!(quotas.find(Limited::ProduceBytes, "u", "c").is_none());
            set(&mut quotas, next.clone(), Some(f64::from(rate)));
            assert_eq!(quotas.find(Limited::FetchBytes, "u", "c"), Some((next, f64::from(rate))));
        }
        assert_eq!(quotas.find(Limited::FetchBytes, "v", "d").map(|(_, rate)| rate), Some(4.0));
    }

    #[test]
    fn an_entity_without_limits_is_forgotten() {
        let mut quotas = Quotas::default();
        set(&mut quotas, entity(Some("u"), None), Some(1.0));
        set(&mut quotas, entity(Some("u"), None), None);
        set(&mut quotas, entity(Some("v"), None), None);
        assert!(quotas.is_empty());
    }
}
