//! Quotas that are none, and clusters that cannot be described.

use super::*;

#[test]
fn quotas_and_clusters_that_are_none() {
    use describe_client_quotas_request::ComponentData;
    let (_broker, mut raw) = broker();
    let describe = |raw: &mut Raw, parts: &[(&str, i8, Option<&str>)]| {
        let parts = parts.iter().map(|(kind, how, name)| {
            ComponentData::default()
                .with_entity_type(words(kind))
                .with_match_type(*how)
                .with_match(name.map(words))
        });
        let request = DescribeClientQuotasRequest::default().with_components(parts.collect());
        let reply: DescribeClientQuotasResponse = raw.kafka(ApiKey::DescribeClientQuotas, 1, &request);
        [reply.error_code]
    };
    for (what, parts, code) in [
        ("an unknown kind", &[("nobody", 2, None)][..], UnsupportedVersion),
        ("a name that is not given", &[("user", 0, None)], InvalidRequest),
        ("a name too many", &[("user", 1, Some("u"))], InvalidRequest),
        ("an unknown match", &[("user", 9, None)], InvalidRequest),
        ("a kind twice", &[("user", 2, None), ("user", 1, None)], InvalidRequest),
    ] {
        expect(what, describe(&mut raw, parts), [code]);
    }
    for (kind, code) in [(2, MismatchedEndpointType), (9, UnsupportedEndpointType), (1, NONE)] {
        let request = DescribeClusterRequest::default().with_endpoint_type(kind);
        let reply: DescribeClusterResponse = raw.kafka(ApiKey::DescribeCluster, 1, &request);
        expect("endpoint", [reply.error_code], [code]);
    }
    let asked = describe_topic_partitions_request::TopicRequest::default().with_name(topic("t"));
    let cursor = describe_topic_partitions_request::Cursor::default()
        .with_topic_name(topic("t"))
        .with_partition_index(-1);
    let request =
        DescribeTopicPartitionsRequest::default().with_topics(vec![asked]).with_cursor(Some(cursor));
    let reply: DescribeTopicPartitionsResponse = raw.kafka(ApiKey::DescribeTopicPartitions, 0, &request);
    expect("cursor", [reply.topics[0].error_code], [InvalidRequest]);
    let mut ask = |name: Option<&str>, id: u128| {
        let asked = metadata_request::MetadataRequestTopic::default()
            .with_name(name.map(topic))
            .with_topic_id(uuid::Uuid::from_u128(id));
        let request =
            MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        let reply: MetadataResponse = raw.kafka(ApiKey::Metadata, 12, &request);
        [reply.topics[0].error_code]
    };
    expect("an unknown name", ask(Some("nobody"), 0), [UnknownTopicOrPartition]);
    expect("a name that is none", ask(Some("a/b"), 0), [InvalidTopicException]);
    expect("an unknown id", ask(None, 7), [UnknownTopicId]);
    let reassign = alter_partition_reassignments_request::ReassignablePartition::default()
        .with_partition_index(9)
        .with_replicas(Some(vec![BrokerId(1)]));
    let asked = alter_partition_reassignments_request::ReassignableTopic::default()
        .with_name(topic("t"))
        .with_partitions(vec![reassign]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![asked]);
    let reply: AlterPartitionReassignmentsResponse =
        raw.kafka(ApiKey::AlterPartitionReassignments, 0, &request);
    expect("reassign", [reply.responses[0].partitions[0].error_code], [UnknownTopicOrPartition]);
}
