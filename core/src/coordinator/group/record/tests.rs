//! Records come back as they were written, and garbage comes back as an error.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use heddle_proto::ids::{Epoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use proptest::{collection, option, prelude::*};

use super::*;
use crate::coordinator::group::{
    ids::{Generation, InstanceId, Millis, ProtocolName},
    message::{Assignment, Client},
};

fn text() -> impl Strategy<Value = Arc<str>> {
    "\\PC{0,12}".prop_map(Arc::from)
}

fn name<T: std::fmt::Debug>(make: fn(Arc<str>) -> T) -> impl Strategy<Value = T> {
    text().prop_map(make)
}

fn blob() -> impl Strategy<Value = Bytes> {
    collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn millis() -> impl Strategy<Value = Millis> {
    any::<i64>().prop_map(Millis::new)
}

fn client() -> impl Strategy<Value = Client> {
    (text(), text()).prop_map(|(id, host)| Client { id, host })
}

fn assignment() -> impl Strategy<Value = Assignment> {
    let partition = (any::<[u8; 16]>(), any::<u32>())
        .prop_map(|(topic, index)| TopicPartition::new(TopicId::new(topic), PartitionIndex::new(index)));
    collection::btree_set(partition, 0..6)
}

fn classic_member() -> impl Strategy<Value = ClassicMemberValue> {
    (name(MemberId::new), option::of(name(InstanceId::new)), client(), duration(), duration(), blob(), blob())
        .prop_map(|(member, instance, client, rebalance_timeout, session_timeout, metadata, assignment)| {
            ClassicMemberValue {
                member,
                instance,
                client,
                rebalance_timeout,
                session_timeout,
                metadata,
                assignment,
            }
        })
}

fn classic() -> impl Strategy<Value = ClassicGroupValue> {
    let protocol = || option::of(name(ProtocolName::new));
    let leader = option::of(name(MemberId::new));
    (protocol(), any::<i32>(), protocol(), leader, millis(), collection::vec(classic_member(), 0..4))
        .prop_map(|(protocol_type, generation, protocol, leader, since, members)| ClassicGroupValue {
            protocol_type,
            generation: Generation::new(generation),
            protocol,
            leader,
            since,
            members,
        })
}

fn consumer_member() -> impl Strategy<Value = ConsumerMemberValue> {
    let names = collection::btree_set(name(TopicName::new), 0..5);
    let instance = option::of(name(InstanceId::new));
    let regex = option::of(name(TopicRegex::new));
    (instance, option::of(text()), client(), duration(), names, regex, option::of(text())).prop_map(
        |(instance, rack, client, rebalance_timeout, subscribed_names, subscribed_regex, server_assignor)| {
            ConsumerMemberValue {
                instance,
                rack,
                client,
                rebalance_timeout,
                subscribed_names,
                subscribed_regex,
                server_assignor,
            }
        },
    )
}

fn current() -> impl Strategy<Value = CurrentAssignmentValue> {
    let state =
        prop_oneof![Just(MemberState::Stable), Just(MemberState::Unrevoked), Just(MemberState::Unreleased)];
    (any::<i32>(), any::<i32>(), state, assignment(), assignment()).prop_map(
        |(epoch, previous_epoch, state, assigned, revoking)| CurrentAssignmentValue {
            epoch: GroupEpoch::new(epoch),
            previous_epoch: GroupEpoch::new(previous_epoch),
            state,
            assigned,
            revoking,
        },
    )
}

fn offset() -> impl Strategy<Value = CommittedOffset> {
    (any::<i64>(), any::<i32>(), text(), any::<[u8; 16]>(), millis(), option::of(millis())).prop_map(
        |(offset, leader_epoch, metadata, topic_id, committed, expires)| CommittedOffset {
            offset: Offset::new(offset),
            leader_epoch: Epoch::new(leader_epoch),
            metadata,
            topic_id: TopicId::new(topic_id),
            committed,
            expires,
        },
    )
}

fn group() -> impl Strategy<Value = GroupId> {
    // Few, so that records of all kinds meet in one group.
    prop_oneof![Just("g".into()), Just("h".into()), name(GroupId::new)]
}

fn member() -> impl Strategy<Value = MemberId> {
    prop_oneof![Just("m".into()), Just("n".into()), name(MemberId::new)]
}

/// Any record at all, sensible or not.
pub fn record() -> impl Strategy<Value = GroupRecord> {
    let partition = || (name(TopicName::new), any::<u32>().prop_map(PartitionIndex::new));
    let producer = || (0..3i64).prop_map(ProducerId::new);
    let topics = collection::btree_set(name(TopicName::new), 0..4);
    let topics = topics.prop_map(|topics| ResolvedRegexValue { topics });
    let consumer = (any::<i32>(), any::<u64>(), millis()).prop_map(|(epoch, topics_hash, since)| {
        ConsumerGroupValue { epoch: GroupEpoch::new(epoch), topics_hash, since }
    });
    let state = (any::<i16>(), millis())
        .prop_map(|(epoch, since)| ProducerValue { epoch: ProducerEpoch::new(epoch), since });
    prop_oneof![
        (group(), option::of(classic()))
            .prop_map(|(group, value)| GroupRecord::ClassicGroup { group, value }),
        (group(), option::of(consumer))
            .prop_map(|(group, value)| GroupRecord::ConsumerGroup { group, value }),
        (group(), member(), option::of(consumer_member()))
            .prop_map(|(group, member, value)| GroupRecord::ConsumerMember { group, member, value }),
        (group(), option::of(any::<i32>().prop_map(GroupEpoch::new)))
            .prop_map(|(group, value)| GroupRecord::TargetEpoch { group, value }),
        (group(), member(), option::of(assignment()))
            .prop_map(|(group, member, value)| GroupRecord::TargetMember { group, member, value }),
        (group(), member(), option::of(current()))
            .prop_map(|(group, member, value)| GroupRecord::CurrentAssignment { group, member, value }),
        (group(), name(TopicRegex::new), option::of(topics))
            .prop_map(|(group, regex, value)| GroupRecord::ResolvedRegex { group, regex, value }),
        (group(), partition(), option::of(offset())).prop_map(|(group, (topic, partition), value)| {
            GroupRecord::Offset { group, topic, partition, value }
        }),
        (group(), producer(), partition(), option::of(offset())).prop_map(
            |(group, producer, (topic, partition), value)| GroupRecord::PendingOffset {
                group,
                producer,
                topic,
                partition,
                value
            }
        ),
        (producer(), option::of(state))
            .prop_map(|(producer, value)| GroupRecord::Producer { producer, value }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 500 } else { 5_000 }))]

    #[test]
    fn a_record_comes_back_as_it_was(record in record()) {
        let (key, value) = (record.encode_key(), record.encode_value());
        prop_assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(record.clone()));
        prop_assert_eq!(GroupRecord::decode(&key, None), Ok(record.tombstone()));
        prop_assert_eq!(record.tombstone().encode_key(), key);
    }

    #[test]
    fn a_record_cut_or_lengthened_anywhere_is_refused(record in record(), at in any::<prop::sample::Index>()) {
        let key = record.encode_key();
        let cut = &key[..at.index(key.len())];
        prop_assert!(GroupRecord::decode(cut, None).is_err());
        if let Some(value) = record.encode_value() {
            let cut = &value[..at.index(value.len())];
            prop_assert!(GroupRecord::decode(&key, Some(cut)).is_err());
            let longer = [&value[..], &[0]].concat();
            prop_assert_eq!(GroupRecord::decode(&key, Some(&longer)), Err(DecodeError::TooLong(1)));
        }
    }

    #[test]
    fn a_record_with_a_changed_byte_is_another_or_none(
        record in record(),
        at in any::<prop::sample::Index>(),
        bits in 1..=255u8,
    ) {
        let key = record.encode_key();
        let mut bytes = record.encode_value().unwrap_or_else(|| vec![VALUE_VERSION]);
        let index = at.index(bytes.len());
        bytes[index] ^= bits;
        if let Ok(other) = GroupRecord::decode(&key, Some(&bytes)) {
            prop_assert_ne!(other, record);
        }
    }

    #[test]
    fn garbage_never_panics(
        kind in 0..12u8,
        key in collection::vec(any::<u8>(), 0..40),
        value in option::of(collection::vec(any::<u8>(), 0..80)),
    ) {
        let key = [&[kind][..], &key].concat();
        let value = value.map(|value| [&[VALUE_VERSION][..], &value].concat());
        if let Ok(record) = GroupRecord::decode(&key, value.as_deref()) {
            prop_assert_eq!(record.encode_key(), key);
        }
    }
}

#[test]
fn unknown_kinds_versions_and_counts_are_named() {
    assert_eq!(GroupRecord::decode(&[], None), Err(DecodeError::Truncated));
    assert_eq!(GroupRecord::decode(&[99], None), Err(DecodeError::UnknownKind(99)));
    let record = GroupRecord::TargetEpoch { group: "g".into(), value: Some(GroupEpoch::new(1)) };
    assert_eq!(record.encode_key(), [4, 1, 0, 0, 0, b'g']);
    assert_eq!(record.encode_value().as_deref(), Some(&[1, 1, 0, 0, 0][..]));
    let (key, later) = (record.encode_key(), [2, 1, 0, 0, 0]);
    assert_eq!(GroupRecord::decode(&key, Some(&later)), Err(DecodeError::UnknownVersion(2)));
    // Four billion members that are not there.
    let target = GroupRecord::TargetMember { group: "g".into(), member: "m".into(), value: None };
    let lie = [1, 255, 255, 255, 255];
    assert_eq!(GroupRecord::decode(&target.encode_key(), Some(&lie)), Err(DecodeError::Truncated));
}
