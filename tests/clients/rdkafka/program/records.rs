//! Cases about records: codecs, order, headers, tombstones, timestamps, sizes.

use std::time::SystemTime;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, Timestamp};

use crate::client::{ToSend, create, read, send, values};
use crate::{Outcome, expect};

/// Old timestamps are for retention to delete.
pub const KEPT: (&str, &str) = ("retention.ms", "-1");

pub fn compression(bootstrap: &str) -> Outcome {
    let sent: Vec<ToSend> =
        (0..200).map(|number| ToSend::new(format!("{number} {}", "compressible ".repeat(40)))).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = create(bootstrap, &format!("codec-{codec}"), 1, &[])?;
        send(bootstrap, &topic, &[("compression.codec", codec), ("linger.ms", "50")], &sent)?;
        let wanted: Vec<Vec<u8>> = sent.iter().filter_map(|record| record.value.clone()).collect();
        expect(values(&read(bootstrap, &topic, 200, &[])?), wanted, codec)?;
    }
    Ok(())
}

pub fn idempotent(bootstrap: &str) -> Outcome {
    let topic = create(bootstrap, "idempotent", 1, &[])?;
    let sent: Vec<ToSend> = (0..5_000).map(|number| ToSend::new(number.to_string())).collect();
    let settings = [("enable.idempotence", "true"), ("batch.num.messages", "50"), ("linger.ms", "1")];
    let offsets = send(bootstrap, &topic, &settings, &sent)?;
    expect(offsets, (0..5_000).collect(), "offsets")?;
    let wanted: Vec<Vec<u8>> = sent.into_iter().filter_map(|record| record.value).collect();
    expect(values(&read(bootstrap, &topic, 5_000, &[])?), wanted, "order")
}

pub fn headers(bootstrap: &str) -> Outcome {
    let topic = create(bootstrap, "headers", 1, &[])?;
    let sent: [(&str, Option<&[u8]>); 4] =
        [("a", Some(b"1")), ("b", Some(b"")), ("a", Some(b"2")), ("none", None)];
    let headers =
        sent.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
    send(bootstrap, &topic, &[], &[ToSend { headers: Some(headers), ..ToSend::new("x") }])?;
    let found = read(bootstrap, &topic, 1, &[])?;
    let found = found[0].headers().ok_or("the record has no headers")?;
    let found: Vec<(&str, Option<&[u8]>)> = found.iter().map(|header| (header.key, header.value)).collect();
    expect(found, sent.to_vec(), "headers")
}

pub fn tombstones(bootstrap: &str) -> Outcome {
    let topic = create(bootstrap, "tombstones", 1, &[])?;
    let key = || Some(b"k".to_vec());
    let sent = [
        ToSend { key: key(), ..ToSend::default() },
        ToSend { key: key(), ..ToSend::new("") },
        ToSend::new("no key"),
    ];
    send(bootstrap, &topic, &[], &sent)?;
    let found = read(bootstrap, &topic, 3, &[])?;
    let found: Vec<_> = found.iter().map(|record| (record.key(), record.payload())).collect();
    let (key, empty, value): (&[u8], &[u8], &[u8]) = (b"k", b"", b"no key");
    expect(found, vec![(Some(key), None), (Some(key), Some(empty)), (None, Some(value))], "keys and values")
}

pub fn timestamps(bootstrap: &str) -> Outcome {
    const AT: i64 = 1_600_000_000_123;
    let sent = [ToSend { timestamp: Some(AT), ..ToSend::new("x") }];
    let topic = create(bootstrap, "timestamps", 1, &[KEPT])?;
    send(bootstrap, &topic, &[], &sent)?;
    expect(read(bootstrap, &topic, 1, &[])?[0].timestamp(), Timestamp::CreateTime(AT), "CreateTime")?;
    let topic = create(bootstrap, "append-time", 1, &[("message.timestamp.type", "LogAppendTime")])?;
    let now = SystemTime::UNIX_EPOCH.elapsed()?.as_millis() as i64;
    send(bootstrap, &topic, &[], &sent)?;
    match read(bootstrap, &topic, 1, &[])?[0].timestamp() {
        Timestamp::LogAppendTime(at) if (at - now).abs() < 30_000 => Ok(()),
        other => Err(format!("{other:?} instead of an append time about {now}").into()),
    }
}

pub fn big_messages(bootstrap: &str) -> Outcome {
    let topic = create(bootstrap, "big", 1, &[("max.message.bytes", "2000000")])?;
    let allow = [("message.max.bytes", "4000000")];
    let just_under = vec![b'b'; 2_000_000 - 200];
    send(bootstrap, &topic, &allow, &[ToSend::new(just_under.clone())])?;
    expect(values(&read(bootstrap, &topic, 1, &[])?) == [just_under], true, "the big one comes back")?;
    let refused = send(bootstrap, &topic, &allow, &[ToSend::new(vec![b'b'; 2_000_100])]);
    let error = refused.err().ok_or("a message above max.message.bytes was taken")?;
    let code =
        error.downcast_ref::<rdkafka::error::KafkaError>().and_then(|error| error.rdkafka_error_code());
    expect(code, Some(RDKafkaErrorCode::MessageSizeTooLarge), "the error")
}
