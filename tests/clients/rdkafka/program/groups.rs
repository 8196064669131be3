//! Cases that need a coordinator: groups and transactions.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{ToSend, WAIT_MAX, config, consumer, create, read, send, unique, until, values};
use crate::{Outcome, expect};

const QUICK: [(&str, &str); 2] = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")];

type Seen = BTreeSet<(i32, i64)>;

/// Polls each member once and commits what it got.
fn poll(members: &[&BaseConsumer], seen: &mut Seen) -> Outcome {
    for member in members {
        if let Some(message) = member.poll(Duration::from_millis(100)) {
            let message = message?;
            let place = (message.partition(), message.offset());
            expect(seen.insert(place), true, &format!("{place:?} is read for the first time"))?;
            member.commit_message(&message, CommitMode::Sync)?;
        }
    }
    Ok(())
}

fn share(members: &[&BaseConsumer], counts: &[usize], seen: &mut Seen) -> Outcome {
    until(&format!("{counts:?} partitions each"), || {
        poll(members, seen)?;
        let found = members.iter().map(|member| Ok(member.assignment()?.count()));
        Ok(found.collect::<Outcome<Vec<usize>>>()? == counts)
    })
}

pub fn groups(bootstrap: &str) -> Outcome {
    let (topic, group, mut seen) = (create(bootstrap, "groups", 4, &[])?, unique("group"), Seen::new());
    let join = || -> Outcome<BaseConsumer> {
        let member = consumer(bootstrap, &group, &QUICK)?;
        member.subscribe(&[&topic])?;
        Ok(member)
    };
    let numbered = (0..40).map(|number| ToSend { partition: number % 4, ..ToSend::new(number.to_string()) });
    send(bootstrap, &topic, &[], &numbered.collect::<Vec<_>>())?;
    let first = join()?;
    share(&[&first], &[4], &mut seen)?;
    let second = join()?;
    share(&[&first, &second], &[2, 2], &mut seen)?;
    drop(first);
    share(&[&second], &[4], &mut seen)?;
    until("all are read", || poll(&[&second], &mut seen).map(|()| seen.len() == 40))?;
    drop(second);
    let late = (0..4).map(|partition| ToSend { partition, ..ToSend::new("late") });
    send(bootstrap, &topic, &[], &late.collect::<Vec<_>>())?;
    let third = join()?;
    until("it goes on from the commit", || poll(&[&third], &mut seen).map(|()| seen.len() == 44))?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(&topic, 0, 3);
    let committed = third.committed_offsets(asked, WAIT_MAX)?;
    let committed: Vec<Offset> = committed.elements().iter().map(|part| part.offset()).collect();
    expect(committed, vec![Offset::Offset(11); 4], "committed offsets")
}

pub fn transactions(bootstrap: &str) -> Outcome {
    let (source, topic) = (create(bootstrap, "source", 1, &[])?, create(bootstrap, "transactions", 1, &[])?);
    send(bootstrap, &source, &[], &["1", "2", "3"].map(ToSend::new))?;
    let reader = consumer(bootstrap, &unique("txn-group"), &[])?;
    reader.subscribe(&[&source])?;
    let mut batch = Vec::new();
    until("the source is read", || {
        if let Some(message) = reader.poll(Duration::from_millis(200)) {
            batch.push([b"committed ", message?.payload().unwrap_or_default()].concat());
        }
        Ok(batch.len() == 3)
    })?;
    let id = unique("txn");
    let producer: BaseProducer = config(bootstrap, &[("transactional.id", &id)]).create()?;
    producer.init_transactions(WAIT_MAX)?;
    let write = |value: &[u8]| -> Outcome {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&topic).partition(0).payload(value);
        producer.send(record).map_err(|(error, _)| error.into())
    };
    producer.begin_transaction()?;
    batch.iter().try_for_each(|value| write(value))?;
    let member = reader.group_metadata().ok_or("the reader is in no group")?;
    producer.send_offsets_to_transaction(&reader.position()?, &member, WAIT_MAX)?;
    producer.commit_transaction(WAIT_MAX)?;
    producer.begin_transaction()?;
    write(b"aborted")?;
    producer.flush(WAIT_MAX)?;
    producer.abort_transaction(WAIT_MAX)?;
    producer.begin_transaction()?;
    write(b"last")?;
    producer.commit_transaction(WAIT_MAX)?;
    let committed = reader.committed(WAIT_MAX)?;
    expect(committed.elements()[0].offset(), Offset::Offset(3), "the offset that the transaction committed")?;
    let last = b"last".to_vec();
    let wanted = [batch.clone(), vec![last.clone()]].concat();
    expect(
        values(&read(bootstrap, &topic, 4, &[("isolation.level", "read_committed")])?),
        wanted,
        "read_committed",
    )?;
    let wanted = [batch, vec![b"aborted".to_vec(), last]].concat();
    expect(
        values(&read(bootstrap, &topic, 5, &[("isolation.level", "read_uncommitted")])?),
        wanted,
        "read_uncommitted",
    )
}
