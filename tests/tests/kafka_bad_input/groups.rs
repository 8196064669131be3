//! Members and groups that are none, and offsets that cannot be committed.

use super::*;

#[test]
fn members_and_groups_that_are_none() {
    use join_group_request::JoinGroupRequestProtocol;
    let (_broker, mut raw) = broker();
    let join = |raw: &mut Raw, group: &str, member: &str, timeout: i32, kind: &str, protocols: &[&str]| {
        let protocols =
            protocols.iter().map(|name| JoinGroupRequestProtocol::default().with_name(words(name)));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(words(group)))
            .with_session_timeout_ms(timeout)
            .with_rebalance_timeout_ms(10_000)
            .with_member_id(words(member))
            .with_protocol_type(words(kind))
            .with_protocols(protocols.collect());
        let reply: JoinGroupResponse = raw.kafka(ApiKey::JoinGroup, 5, &request);
        [reply.error_code]
    };
    let p = &["range"][..];
    for (what, group, member, timeout, kind, protocols, code) in [
        ("no group", "", "", 10_000, "consumer", p, InvalidGroupId),
        ("no timeout", "g", "", 0, "consumer", p, InvalidSessionTimeout),
        ("a timeout below 0", "g", "", -1, "consumer", p, InvalidSessionTimeout),
        ("a timeout of weeks", "g", "", i32::MAX, "consumer", p, InvalidSessionTimeout),
        ("a member of nobody", "g", "m", 10_000, "consumer", p, UnknownMemberId),
        ("no protocol", "g", "", 10_000, "consumer", &[], InconsistentGroupProtocol),
        ("no type", "g", "", 10_000, "", p, InconsistentGroupProtocol),
        ("a first call", "g", "", 10_000, "consumer", p, MemberIdRequired),
    ] {
        expect(what, join(&mut raw, group, member, timeout, kind, protocols), [code]);
    }

    let sync = |raw: &mut Raw, version: i16, group: &str, names: Option<&str>| {
        let mut request = SyncGroupRequest::default()
            .with_group_id(GroupId(words(group)))
            .with_generation_id(3)
            .with_member_id(words("m"));
        if version >= 5 {
            request = request.with_protocol_type(names.map(words)).with_protocol_name(names.map(words));
        }
        let reply: SyncGroupResponse = raw.kafka(ApiKey::SyncGroup, version, &request);
        [reply.error_code]
    };
    expect("sync of nobody", sync(&mut raw, 3, "nobody", None), [UnknownMemberId]);
    expect("sync of no group", sync(&mut raw, 3, "", None), [InvalidGroupId]);
    expect("sync of no protocol", sync(&mut raw, 5, "g", None), [InconsistentGroupProtocol]);
    expect("sync with one", sync(&mut raw, 5, "g", Some("range")), [UnknownMemberId]);

    let beat = |raw: &mut Raw, group: &str| {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(words(group)))
            .with_generation_id(1)
            .with_member_id(words("m"));
        let reply: HeartbeatResponse = raw.kafka(ApiKey::Heartbeat, 4, &request);
        [reply.error_code]
    };
    expect("heartbeat of nobody", beat(&mut raw, "nobody"), [UnknownMemberId]);
    expect("heartbeat of no group", beat(&mut raw, ""), [InvalidGroupId]);

    let leave = |raw: &mut Raw, version: i16, group: &str| {
        let mut request = LeaveGroupRequest::default().with_group_id(GroupId(words(group)));
        match version < 3 {
            true => request.member_id = words("m"),
            false => {
                request.members =
                    vec![leave_group_request::MemberIdentity::default().with_member_id(words("m"))];
            }
        }
        let reply: LeaveGroupResponse = raw.kafka(ApiKey::LeaveGroup, version, &request);
        let mut codes = vec![reply.error_code];
        codes.extend(reply.members.iter().map(|member| member.error_code));
        codes
    };
    expect("leave of old", leave(&mut raw, 2, "nobody"), [UnknownMemberId]);
    expect("leave", leave(&mut raw, 3, "nobody"), [NONE, UnknownMemberId]);
    expect("leave no group", leave(&mut raw, 3, ""), [InvalidGroupId]);

    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(words("nobody"))]);
    let reply: DeleteGroupsResponse = raw.kafka(ApiKey::DeleteGroups, 2, &request);
    expect("delete", [reply.results[0].error_code], [GroupIdNotFound]);
    for (version, code) in [(5, NONE), (6, GroupIdNotFound)] {
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(words("nobody"))]);
        let reply: DescribeGroupsResponse = raw.kafka(ApiKey::DescribeGroups, version, &request);
        expect("describe", [reply.groups[0].error_code], [code]);
        assert_eq!(&*reply.groups[0].group_state, "Dead");
    }
    expect("a key of no kind", [find_coordinator(&mut raw, 9, "g")], [InvalidRequest]);
}

#[test]
fn offsets_that_cannot_be_committed() {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let (_broker, mut raw) = broker();
    let commit =
        |raw: &mut Raw, version: i16, group: &str, generation: i32, at: (&str, i32), metadata: usize| {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(at.1)
                .with_committed_offset(1)
                .with_committed_metadata(Some(words(&"m".repeat(metadata))));
            let asked =
                OffsetCommitRequestTopic::default().with_name(topic(at.0)).with_partitions(vec![partition]);
            let request = OffsetCommitRequest::default()
                .with_group_id(GroupId(words(group)))
                .with_generation_id_or_member_epoch(generation)
                .with_retention_time_ms(-1)
                .with_topics(vec![asked]);
            let reply: OffsetCommitResponse = raw.kafka(ApiKey::OffsetCommit, version, &request);
            [reply.topics[0].partitions[0].error_code]
        };
    for (what, version, group, generation, at, metadata, code) in [
        ("the longest words", 8, "g", -1, ("t", 0), 4096, NONE),
        ("longer words", 8, "g", -1, ("t", 0), 4097, OffsetMetadataTooLarge),
        ("an unknown topic", 8, "g", -1, ("nobody", 0), 0, UnknownTopicOrPartition),
        ("an unknown partition", 8, "g", -1, ("t", 9), 0, UnknownTopicOrPartition),
        ("a negative partition", 8, "g", -1, ("t", -1), 0, UnknownTopicOrPartition),
        ("a generation of nobody", 8, "nobody", 4, ("t", 0), 0, IllegalGeneration),
        ("an epoch of nobody", 9, "nobody", 4, ("t", 0), 0, GroupIdNotFound),
        // Clients of long ago committed without a group.
        ("no group", 8, "", -1, ("t", 0), 0, NONE),
    ] {
        expect(what, commit(&mut raw, version, group, generation, at, metadata), [code]);
    }
    let delete = |raw: &mut Raw, group: &str, index: i32| {
        let partition =
            offset_delete_request::OffsetDeleteRequestPartition::default().with_partition_index(index);
        let asked = offset_delete_request::OffsetDeleteRequestTopic::default()
            .with_name(topic("t"))
            .with_partitions(vec![partition]);
        let request =
            OffsetDeleteRequest::default().with_group_id(GroupId(words(group))).with_topics(vec![asked]);
        let reply: OffsetDeleteResponse = raw.kafka(ApiKey::OffsetDelete, 0, &request);
        [reply.error_code]
    };
    expect("delete of nobody", delete(&mut raw, "nobody", 0), [GroupIdNotFound]);
    expect("delete", delete(&mut raw, "g", 0), [NONE]);
}

#[test]
fn members_of_consumer_groups_that_are_none() {
    let (_broker, mut raw) = broker();
    let good = || {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(words("c")))
            .with_member_id(words("m"))
            .with_rebalance_timeout_ms(10_000)
            .with_subscribed_topic_names(Some(vec![topic("t")]))
            .with_topic_partitions(Some(vec![]))
    };
    let owned = consumer_group_heartbeat_request::TopicPartitions::default().with_partitions(vec![0]);
    let cases = [
        ("no group", 1, good().with_group_id(GroupId(words(""))), InvalidRequest),
        ("no member", 1, good().with_member_id(words("")), InvalidRequest),
        (
            "no member in a later call",
            0,
            good().with_member_id(words("")).with_member_epoch(3),
            InvalidRequest,
        ),
        ("no timeout", 1, good().with_rebalance_timeout_ms(-1), InvalidRequest),
        ("no subscription", 1, good().with_subscribed_topic_names(None), InvalidRequest),
        ("partitions before it joins", 1, good().with_topic_partitions(Some(vec![owned])), InvalidRequest),
        ("partitions not told", 1, good().with_topic_partitions(None), InvalidRequest),
        ("an epoch of nobody", 1, good().with_member_epoch(7), GroupIdNotFound),
        ("an epoch that is none", 1, good().with_member_epoch(-9), InvalidRequest),
        ("an instance that is none", 1, good().with_instance_id(Some(words(""))), InvalidRequest),
        ("an assignor of nobody", 1, good().with_server_assignor(Some(words("nobody"))), UnsupportedAssignor),
        ("a leave of nobody", 1, good().with_member_epoch(-1), GroupIdNotFound),
    ];
    for (what, version, request, code) in cases {
        let reply: ConsumerGroupHeartbeatResponse =
            raw.kafka(ApiKey::ConsumerGroupHeartbeat, version, &request);
        expect(what, [reply.error_code], [code]);
    }
    let reply: ConsumerGroupHeartbeatResponse = raw.kafka(ApiKey::ConsumerGroupHeartbeat, 1, &good());
    expect("a member", [reply.error_code], [NONE]);
    let stranger = good().with_member_id(words("stranger")).with_member_epoch(1);
    let reply: ConsumerGroupHeartbeatResponse = raw.kafka(ApiKey::ConsumerGroupHeartbeat, 1, &stranger);
    expect("a stranger", [reply.error_code], [UnknownMemberId]);
    let ahead = good().with_member_epoch(reply.member_epoch + 50);
    let reply: ConsumerGroupHeartbeatResponse = raw.kafka(ApiKey::ConsumerGroupHeartbeat, 1, &ahead);
    expect("an epoch ahead", [reply.error_code], [FencedMemberEpoch]);
}
