//! Kafka requests whose fields are missing, out of range, repeated or contradictory: each is answered with the code that
//! Kafka answers, and nothing of it is done.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fetch;
mod groups;
mod produce;
mod quotas;
mod settings;
mod topics;
mod transactions;

use std::option::Option::None;

use heddle_proto::ErrorCode::{self, *};
use heddle_tests::broker::{Broker, BrokerOptions};
use heddle_tests::raw::Raw;
use heddle_tests::{kafka, wait};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

const NONE: ErrorCode = ErrorCode::None;

/// A topic with two partitions, one that is compacted, and the topics that groups and transactions are kept in.
fn broker() -> (Broker, Raw) {
    let broker = Broker::start(BrokerOptions::new().cores(1));
    kafka::create(&broker.bootstrap(), "t", 2, &[("max.message.bytes", "2000")]);
    kafka::create(&broker.bootstrap(), "compacted", 1, &[("cleanup.policy", "compact")]);
    let mut raw = Raw::connect(broker.address());
    for (key_type, key) in [(0, "g"), (1, "x")] {
        wait::until("a coordinator", || (find_coordinator(&mut raw, key_type, key) == 0).then_some(()));
    }
    (broker, raw)
}

fn words(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(text: &str) -> TopicName {
    TopicName(words(text))
}

/// Compares codes by name, so that a failure can be read.
#[track_caller]
fn expect(what: &str, found: impl AsRef<[i16]>, wanted: impl AsRef<[ErrorCode]>) {
    let name = |code: &i16| ErrorCode::from_code(*code).map_or("no code of Kafka's", ErrorCode::name);
    let found: Vec<&str> = found.as_ref().iter().map(name).collect();
    let wanted: Vec<&str> = wanted.as_ref().iter().map(|code| code.name()).collect();
    assert_eq!(found, wanted, "{what}");
}

fn find_coordinator(raw: &mut Raw, key_type: i8, key: &str) -> i16 {
    let request =
        FindCoordinatorRequest::default().with_key_type(key_type).with_coordinator_keys(vec![words(key)]);
    let reply: FindCoordinatorResponse = raw.kafka(ApiKey::FindCoordinator, 4, &request);
    reply.coordinators[0].error_code
}

/// The id of a topic.
fn topic_id(raw: &mut Raw, name: &str) -> uuid::Uuid {
    let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(topic(name)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let reply: MetadataResponse = raw.kafka(ApiKey::Metadata, 12, &request);
    reply.topics[0].topic_id
}
