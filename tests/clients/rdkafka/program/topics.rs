//! Cases about topics: administration, offsets, deleting records, topics that are not there.

use futures_lite::future::block_on;
use rdkafka::admin::{AlterConfig, ConfigResource, NewPartitions, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{ToSend, WAIT_MAX, admin, consumer, create, options, read, send, unique, until};
use crate::records::KEPT;
use crate::{Outcome, expect};

pub fn administration(bootstrap: &str) -> Outcome {
    let topic = create(bootstrap, "admin", 2, &[("retention.ms", "3600000")])?;
    let client = consumer(bootstrap, &unique("admin"), &[])?;
    expect(partitions(&client, &topic)?, 2, "partitions")?;
    let admin = admin(bootstrap)?;
    let resource = ResourceSpecifier::Topic(&topic);
    let value = |name: &str| -> Outcome<Option<String>> {
        let found = block_on(admin.describe_configs([&resource], &options()))?.remove(0)?;
        let value = |found: &ConfigResource| found.get(name).and_then(|entry| entry.value.clone());
        Ok(value(&found))
    };
    expect(value("retention.ms")?.as_deref(), Some("3600000"), "retention.ms")?;
    let change = AlterConfig::new(resource).set("retention.ms", "7200000");
    for result in block_on(admin.alter_configs([&change], &options()))? {
        result.map_err(|(_, code)| format!("alter_configs: {code}"))?;
    }
    expect(value("retention.ms")?.as_deref(), Some("7200000"), "retention.ms after the change")?;
    for result in block_on(admin.create_partitions([&NewPartitions::new(&topic, 4)], &options()))? {
        result.map_err(|(_, code)| format!("create_partitions: {code}"))?;
    }
    until("four partitions", || Ok(partitions(&client, &topic)? == 4))?;
    for result in block_on(admin.delete_topics(&[&topic], &options()))? {
        result.map_err(|(_, code)| format!("delete_topics: {code}"))?;
    }
    until("the topic is gone", || {
        let all = client.fetch_metadata(None, WAIT_MAX)?;
        Ok(!all.topics().iter().any(|known| known.name() == topic))
    })
}

fn partitions(client: &BaseConsumer, topic: &str) -> Outcome<usize> {
    let metadata = client.fetch_metadata(Some(topic), WAIT_MAX)?;
    Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
}

pub fn offsets_by_time(bootstrap: &str) -> Outcome {
    const START: i64 = 1_700_000_000_000;
    let topic = create(bootstrap, "times", 1, &[KEPT])?;
    for number in 0..10 {
        // A batch for each, so that the broker's index is asked.
        let record = ToSend { timestamp: Some(START + number * 1000), ..ToSend::new("x") };
        send(bootstrap, &topic, &[], &[record])?;
    }
    let client = consumer(bootstrap, &unique("times"), &[])?;
    let asked = [
        (START - 5, Offset::Offset(0)),
        (START + 3000, Offset::Offset(3)),
        (START + 3001, Offset::Offset(4)),
        (START + 60_000, Offset::End),
    ];
    for (at, wanted) in asked {
        let mut times = TopicPartitionList::new();
        times.add_partition_offset(&topic, 0, Offset::Offset(at))?;
        let found = client.offsets_for_times(times, WAIT_MAX)?;
        let found = found.elements().first().map(|part| part.offset());
        expect(found, Some(wanted), &format!("the offset for {} ms", at - START))?;
    }
    expect(client.fetch_watermarks(&topic, 0, WAIT_MAX)?, (0, 10), "earliest and latest")
}

pub fn delete_records(bootstrap: &str) -> Outcome {
    let topic = create(bootstrap, "delete", 1, &[])?;
    let sent: Vec<ToSend> = (0..10).map(|number| ToSend::new(number.to_string())).collect();
    send(bootstrap, &topic, &[], &sent)?;
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 0, Offset::Offset(4))?;
    let done = block_on(admin(bootstrap)?.delete_records(&before, &options()))?;
    expect(done.elements()[0].offset(), Offset::Offset(4), "low watermark")?;
    let left: Vec<i64> = read(bootstrap, &topic, 6, &[])?.iter().map(Message::offset).collect();
    expect(left, (4..10).collect(), "what is left")
}

pub fn unknown_topic(bootstrap: &str) -> Outcome {
    let missing = unique("missing");
    let results = block_on(admin(bootstrap)?.delete_topics(&[&missing], &options()))?;
    let code = results.into_iter().find_map(|result| result.err()).map(|(_, code)| code);
    expect(code, Some(RDKafkaErrorCode::UnknownTopicOrPartition), "deleting it")?;
    let client = consumer(bootstrap, &unique("reader"), &[("allow.auto.create.topics", "false")])?;
    client.subscribe(&[&missing])?;
    let mut told = None;
    until("the consumer is told", || {
        if let Some(Err(error)) = client.poll(WAIT_MAX) {
            told = error.rdkafka_error_code();
        }
        Ok(told.is_some())
    })?;
    expect(told, Some(RDKafkaErrorCode::UnknownTopicOrPartition), "reading it")
}
