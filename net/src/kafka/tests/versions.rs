//! The table of versions: within what the codecs know, and told to clients as it is.

use kafka_protocol::messages::ApiKey;

use crate::kafka::shapes::shape_of;
use crate::kafka::versions::{SERVED, api_versions, is_served, known_versions, served};

#[test]
fn what_is_served_is_within_what_the_codec_knows() {
    for entry in SERVED {
        let known = known_versions(entry.api);
        assert!(entry.min <= entry.body_min && entry.body_min <= entry.max);
        assert!(known.min <= entry.body_min && entry.max <= known.max, "{entry:?}");
    }
}

#[test]
fn the_table_is_in_the_order_of_the_keys_without_repeats() {
    let keys: Vec<_> = SERVED.iter().map(|entry| entry.api as i16).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
}

#[test]
fn shapes_turn_flexible_where_the_header_does() {
    for api in ApiKey::iter() {
        let Some(shape) = shape_of(api) else { continue };
        let known = known_versions(api);
        for version in known.min..=known.max {
            let flexible = api.request_header_version(version) == 2;
            assert_eq!(version >= shape.flexible_since, flexible, "{api:?} v{version}");
        }
    }
}

#[test]
fn api_versions_lists_the_table() {
    let reply = api_versions(4);
    assert_eq!((reply.error_code, reply.api_keys.len()), (0, SERVED.len()));
    let produce = &reply.api_keys[0];
    assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13));
    let (supported, finalized) = (&reply.supported_features[0], &reply.finalized_features[0]);
    assert_eq!((supported.name.as_str(), supported.max_version), ("transaction.version", 2));
    assert_eq!((finalized.name.as_str(), finalized.max_version_level), ("transaction.version", 2));
    assert!(api_versions(3).supported_features.is_empty() && api_versions(2).finalized_features.is_empty());
    assert_eq!(api_versions(5).error_code, 35);
    assert_eq!(api_versions(5).api_keys, reply.api_keys);
}

#[test]
fn old_produce_is_advertised_and_not_served() {
    assert!(!is_served(ApiKey::Produce, 2) && is_served(ApiKey::Produce, 3));
    assert!(served(ApiKey::AlterPartition).is_none() && !is_served(ApiKey::AlterPartition, 2));
}
