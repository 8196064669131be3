//! Topics that cannot be created, grown or deleted.

use super::*;

use create_topics_request::{CreatableTopic, CreatableTopicConfig};

fn new_topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
}

fn with_config(name: &str, setting: &str, value: Option<&str>) -> CreatableTopic {
    let config = CreatableTopicConfig::default().with_name(words(setting)).with_value(value.map(words));
    new_topic(name, 1, 1).with_configs(vec![config])
}

fn create_topics(raw: &mut Raw, topics: &[CreatableTopic]) -> Vec<i16> {
    let request = CreateTopicsRequest::default().with_topics(topics.to_vec()).with_timeout_ms(30_000);
    let reply: CreateTopicsResponse = raw.kafka(ApiKey::CreateTopics, 7, &request);
    reply.topics.iter().map(|topic| topic.error_code).collect()
}

#[test]
fn topics_that_cannot_be_created() {
    let (_broker, mut raw) = broker();
    let cases = [
        (new_topic("n", 0, 1), InvalidPartitions),
        (new_topic("n", -2, 1), InvalidPartitions),
        (new_topic("n", i32::MIN, 1), InvalidPartitions),
        (new_topic("n", 1, 0), InvalidReplicationFactor),
        (new_topic("n", 1, -2), InvalidReplicationFactor),
        (new_topic("n", 1, 5), InvalidReplicationFactor),
        (new_topic("", 1, 1), InvalidTopicException),
        (new_topic(".", 1, 1), InvalidTopicException),
        (new_topic("a/b", 1, 1), InvalidTopicException),
        (new_topic(&"x".repeat(250), 1, 1), InvalidTopicException),
        (new_topic("t", 1, 1), TopicAlreadyExists),
        (with_config("n", "no.such.setting", Some("1")), InvalidConfig),
        (with_config("n", "retention.ms", Some("soon")), InvalidConfig),
        (with_config("n", "retention.ms", None), InvalidConfig),
    ];
    for (wanted, code) in cases {
        expect(&format!("{wanted:?}"), create_topics(&mut raw, &[wanted]), [code]);
    }
    let twice = [new_topic("n", 1, 1), new_topic("m", -5, 1), new_topic("n", 2, 1)];
    expect("twice", create_topics(&mut raw, &twice), [InvalidRequest, InvalidPartitions, InvalidRequest]);
    // Nothing of all this is there.
    let reply: MetadataResponse =
        raw.kafka(ApiKey::Metadata, 12, &MetadataRequest::default().with_topics(None));
    let names: Vec<&str> =
        reply.topics.iter().filter_map(|topic| topic.name.as_deref()).map(|n| &**n).collect();
    assert_eq!(names, ["__consumer_offsets", "__transaction_state", "compacted", "t"]);
}

#[test]
fn topics_that_cannot_be_deleted_or_grown() {
    use create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
    use delete_topics_request::DeleteTopicState;
    let (broker, mut raw) = broker();
    let grow = |raw: &mut Raw, name: &str, count: i32, assigned: Option<Vec<Vec<i32>>>| {
        let assignments = assigned.map(|partitions| {
            let brokers = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
            let one = |ids| CreatePartitionsAssignment::default().with_broker_ids(brokers(ids));
            partitions.into_iter().map(one).collect()
        });
        let wanted = CreatePartitionsTopic::default()
            .with_name(topic(name))
            .with_count(count)
            .with_assignments(assignments);
        let request = CreatePartitionsRequest::default().with_topics(vec![wanted]).with_timeout_ms(30_000);
        let reply: CreatePartitionsResponse = raw.kafka(ApiKey::CreatePartitions, 3, &request);
        [reply.results[0].error_code]
    };
    let cases = [
        ("nobody", 5, None, UnknownTopicOrPartition),
        ("t", 2, None, InvalidPartitions),
        ("t", 1, None, InvalidPartitions),
        ("t", 0, None, InvalidPartitions),
        ("t", -1, None, InvalidPartitions),
        ("t", 4, Some(vec![vec![1000]]), InvalidReplicaAssignment),
        ("t", 3, Some(vec![vec![77_777]]), InvalidReplicaAssignment),
        ("t", 3, Some(vec![vec![]]), InvalidReplicaAssignment),
    ];
    for (name, count, assigned, code) in cases {
        let what = format!("{name} to {count} with {assigned:?}");
        expect(&what, grow(&mut raw, name, count, assigned), [code]);
    }

    kafka::create(&broker.bootstrap(), "d", 1, &[]);
    let id = topic_id(&mut raw, "d");
    let by_name = |name: &str| DeleteTopicState::default().with_name(Some(topic(name)));
    let by_id = |id: uuid::Uuid| DeleteTopicState::default().with_name(None).with_topic_id(id);
    let delete = |raw: &mut Raw, states: &[DeleteTopicState]| -> Vec<i16> {
        let request = DeleteTopicsRequest::default().with_topics(states.to_vec()).with_timeout_ms(30_000);
        let reply: DeleteTopicsResponse = raw.kafka(ApiKey::DeleteTopics, 6, &request);
        reply.responses.iter().map(|response| response.error_code).collect()
    };
    expect("nobody", delete(&mut raw, &[by_name("nobody")]), [UnknownTopicOrPartition]);
    expect("no id", delete(&mut raw, &[by_id(uuid::Uuid::from_u128(9))]), [UnknownTopicId]);
    expect("neither", delete(&mut raw, &[by_id(uuid::Uuid::nil())]), [InvalidRequest]);
    expect("both", delete(&mut raw, &[by_name("d").with_topic_id(id)]), [InvalidRequest]);
    expect("name twice", delete(&mut raw, &[by_name("d"), by_name("d")]), [InvalidRequest; 2]);
    expect("id twice", delete(&mut raw, &[by_id(id), by_id(id)]), [InvalidRequest; 2]);
    expect("name and id", delete(&mut raw, &[by_name("d"), by_id(id)]), [InvalidRequest; 2]);
    assert_eq!(topic_id(&mut raw, "d"), id, "it is still there");
}
