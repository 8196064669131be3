//! DescribeClientQuotas and AlterClientQuotas: who may use how much (KIP-546).

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest,
        DescribeClientQuotasResponse, alter_client_quotas_request as asked,
        alter_client_quotas_response as altered, describe_client_quotas_request::ComponentData,
        describe_client_quotas_response as described,
    },
};
use heddle_proto::error::ErrorCode;

use super::words;
use crate::{
    metadata::{
        Command,
        quota::{Entity, Limited, QuotaChange, Who},
    },
    shard::{Shard, request::OpError, topics::refusal},
};

const USER: &str = "user";
const CLIENT: &str = "client-id";

/// Kafka's ways of matching a part of an entity.
const MATCH_NAME: i8 = 0;
const MATCH_DEFAULT: i8 = 1;
const MATCH_ANY: i8 = 2;

/// The longest name of a user or client that a quota may be set for, in bytes: that of a client id.
const NAME_BYTES_MAX: usize = heddle_net::kafka::header::CLIENT_ID_BYTES_MAX;

/// What one part of an entity must be.
enum Filter {
    Is(Who),
    Any,
}

impl Filter {
    fn takes(&self, who: &Who) -> bool {
        match self {
            Filter::Is(wanted) => wanted == who,
            Filter::Any => true,
        }
    }
}

fn invalid(message: impl Into<String>) -> OpError {
    OpError::new(ErrorCode::InvalidRequest, message)
}

/// Answers which quotas are set for entities that match.
pub fn describe<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: &DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let filters = match filters(&request.components) {
        Ok(filters) => filters,
        Err(error) => {
            return DescribeClientQuotasResponse::default()
                .with_error_code(error.code.code())
                .with_error_message(Some(words(error.message)))
                .with_entries(None);
        }
    };
    let image = shard.image();
    let matching = image.quotas.iter().filter(|(entity, _)| takes(&filters, entity, request.strict));
    let entries = matching.map(|(entity, limits)| {
        let values = limits.iter().map(|(limited, value)| {
            described::ValueData::default()
                .with_key(StrBytes::from_static_str(limited.key()))
                .with_value(*value)
        });
        let parts = parts(entity).map(|(kind, name)| {
            described::EntityData::default().with_entity_type(kind).with_entity_name(name)
        });
        described::EntryData::default().with_entity(parts.collect()).with_values(values.collect())
    });
    DescribeClientQuotasResponse::default().with_error_message(None).with_entries(Some(entries.collect()))
}

fn filters(components: &[ComponentData]) -> Result<BTreeMap<&str, Filter>, OpError> {
    let mut filters = BTreeMap::new();
    for component in components {
        let kind = component.entity_type.as_str();
        if kind != USER && kind != CLIENT {
            let message = format!("there are no quotas for '{kind}'; there are for user and client-id");
            return Err(OpError::new(ErrorCode::UnsupportedVersion, message));
        }
        let filter = match (component.match_type, &component._match) {
            (MATCH_NAME, Some(name)) => Filter::Is(Who::Name(name.to_string())),
            (MATCH_NAME, None) => return Err(invalid(format!("{kind} is to match a name; none is given"))),
            (MATCH_DEFAULT | MATCH_ANY, Some(_)) => {
                return Err(invalid(format!("{kind} is to match no name; one is given")));
            }
            (MATCH_DEFAULT, None) => Filter::Is(Who::Default),
            (MATCH_ANY, None) => Filter::Any,
            (other, _) => return Err(invalid(format!("there is no match type {other}"))),
        };
        if filters.insert(kind, filter).is_some() {
            return Err(invalid(format!("{kind} is filtered twice")));
        }
    }
    Ok(filters)
}

/// Whether an entity has every part that is filtered, as the filter wants it; and no other, when that is asked.
fn takes(filters: &BTreeMap<&str, Filter>, entity: &Entity, strict: bool) -> bool {
    [(USER, &entity.user), (CLIENT, &entity.client)].into_iter().all(|(kind, part)| {
        match (filters.get(kind), part) {
            (Some(filter), Some(who)) => filter.takes(who),
            (Some(_), None) => false,
            (None, Some(_)) => !strict,
            (None, None) => true,
        }
    })
}

/// The parts of an entity, as the wire names them.
fn parts(entity: &Entity) -> impl Iterator<Item = (StrBytes, Option<StrBytes>)> + '_ {
    let parts = [(USER, &entity.user), (CLIENT, &entity.client)];
    parts.into_iter().filter_map(|(kind, part)| {
        let name = match part.as_ref()? {
            Who::Default => None,
            Who::Name(name) => Some(words(name)),
        };
        Some((StrBytes::from_static_str(kind), name))
    })
}

/// Changes quotas: each entity succeeds or fails for itself.
pub async fn alter<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let mut seen = BTreeSet::new();
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let parts = entry.entity.iter().map(|part| {
            altered::EntityData::default()
                .with_entity_type(part.entity_type.clone())
                .with_entity_name(part.entity_name.clone())
        });
        let reply = altered::EntryData::default().with_entity(parts.collect()).with_error_message(None);
        entries.push(match alter_one(shard, entry, &mut seen, request.validate_only).await {
            Ok(()) => reply,
            Err(error) => {
                reply.with_error_code(error.code.code()).with_error_message(Some(words(error.message)))
            }
        });
    }
    AlterClientQuotasResponse::default().with_entries(entries)
}

async fn alter_one<D: Disk>(
    shard: &Rc<Shard<D>>,
    entry: asked::EntryData,
    seen: &mut BTreeSet<Entity>,
    validate_only: bool,
) -> Result<(), OpError> {
    let entity = entity(&entry.entity)?;
    if !seen.insert(entity.clone()) {
        return Err(invalid("the request names this entity twice"));
    }
    let mut changes = BTreeMap::new();
    for op in &entry.ops {
        let limited = Limited::from_key(&op.key).ok_or_else(|| {
            let known = Limited::ALL.map(Limited::key).join(", ");
            invalid(format!("there is no quota '{}'; there are {known}", &*op.key))
        })?;
        let is_allowed = op.remove || (op.value.is_finite() && op.value > 0.0);
        if !is_allowed {
            return Err(invalid(format!("{}={} is not allowed: a number above 0", &*op.key, op.value)));
        }
        if changes.insert(limited, (!op.remove).then_some(op.value)).is_some() {
            return Err(invalid(format!("{} is changed twice", &*op.key)));
        }
    }
    if validate_only {
        return Ok(());
    }
    let command = Command::ChangeQuota { change: QuotaChange { entity, changes } };
    shard.propose(command).await.map(drop).map_err(|error| refusal(&error))
}

fn entity(parts: &[asked::EntityData]) -> Result<Entity, OpError> {
    let mut entity = Entity::default();
    for part in parts {
        let place = match part.entity_type.as_str() {
            USER => &mut entity.user,
            CLIENT => &mut entity.client,
            other => return Err(invalid(format!("there are no quotas for '{other}'"))),
        };
        let who = match &part.entity_name {
            None => Who::Default,
            Some(name) if name.is_empty() || name.len() > NAME_BYTES_MAX => {
                return Err(invalid(format!("a name has 1 to {NAME_BYTES_MAX} bytes, not {}", name.len())));
            }
            Some(name) => Who::Name(name.to_string()),
        };
        if place.replace(who).is_some() {
            return Err(invalid(format!("an entity has one {}", &*part.entity_type)));
        }
    }
    match entity {
        Entity { user: None, client: None } => Err(invalid("an entity names a user, a client id or both")),
        entity => Ok(entity),
    }
}
