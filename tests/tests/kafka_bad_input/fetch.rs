//! Fetches and offsets of what is not there.

use bytes::Bytes;
use heddle_tests::records;

use super::*;
use crate::produce::produce;

#[derive(Clone)]
struct Fetch {
    session: (i32, i32),
    index: i32,
    offset: i64,
    epoch: i32,
    bytes_max: (i32, i32),
}

impl Default for Fetch {
    fn default() -> Fetch {
        Fetch { session: (0, -1), index: 0, offset: 0, epoch: -1, bytes_max: (1 << 20, 1 << 20) }
    }
}

/// The error of the request, that of the partition, and how many bytes came.
fn fetch(raw: &mut Raw, name: &str, ask: &Fetch) -> (i16, Option<i16>, usize) {
    let partition = fetch_request::FetchPartition::default()
        .with_partition(ask.index)
        .with_fetch_offset(ask.offset)
        .with_current_leader_epoch(ask.epoch)
        .with_partition_max_bytes(ask.bytes_max.1);
    let asked = fetch_request::FetchTopic::default().with_topic(topic(name)).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(-5)
        .with_min_bytes(-1)
        .with_max_bytes(ask.bytes_max.0)
        .with_session_id(ask.session.0)
        .with_session_epoch(ask.session.1)
        .with_topics(vec![asked]);
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &request);
    let told = reply.responses.first().map(|topic| &topic.partitions[0]);
    let bytes = told.and_then(|told| told.records.as_ref()).map_or(0, Bytes::len);
    (reply.error_code, told.map(|told| told.error_code), bytes)
}

#[test]
fn fetches_of_what_is_not_there() {
    let (_broker, mut raw) = broker();
    let batch = records::one("value");
    let length = batch.len();
    assert_eq!(produce(&mut raw, 9, "t", 0, Some(batch)), (0, 0));
    let ask = Fetch::default;
    let partitions = [
        ("nobody", ask(), UnknownTopicOrPartition),
        ("t", Fetch { index: 2, ..ask() }, UnknownTopicOrPartition),
        ("t", Fetch { index: -1, ..ask() }, UnknownTopicOrPartition),
        ("t", Fetch { index: i32::MIN, ..ask() }, UnknownTopicOrPartition),
        ("t", Fetch { offset: -1, ..ask() }, OffsetOutOfRange),
        ("t", Fetch { offset: 2, ..ask() }, OffsetOutOfRange),
        ("t", Fetch { offset: i64::MAX, ..ask() }, OffsetOutOfRange),
        ("t", Fetch { epoch: 40, ..ask() }, UnknownLeaderEpoch),
    ];
    for (name, asked, code) in partitions {
        let (whole, partition, bytes) = fetch(&mut raw, name, &asked);
        let what = format!("{name}/{} from {}", asked.index, asked.offset);
        expect(&what, [whole, partition.unwrap()], [NONE, code]);
        assert_eq!(bytes, 0);
    }
    // Sizes below 0 are no error: the first batch comes all the same, so that a reader gets on.
    for bytes_max in [(-1, 1 << 20), (1 << 20, -1), (i32::MIN, i32::MIN), (0, 0), (1, 1)] {
        let (whole, partition, bytes) = fetch(&mut raw, "t", &Fetch { bytes_max, ..ask() });
        expect("sizes", [whole, partition.unwrap()], [NONE; 2]);
        assert!(bytes == length || bytes == 0, "{bytes_max:?}: {bytes} bytes");
    }
    for (session, code) in [
        ((77, 1), FetchSessionIdNotFound),
        ((0, 1), FetchSessionIdNotFound),
        ((-3, 5), FetchSessionIdNotFound),
        ((77, -5), FetchSessionIdNotFound),
    ] {
        let (whole, partition, _) = fetch(&mut raw, "t", &Fetch { session, ..ask() });
        expect(&format!("session {session:?}"), [whole], [code]);
        assert_eq!(partition, None);
    }
    // A session that is there, in another epoch.
    let request = |session: (i32, i32)| {
        let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(1 << 20);
        let asked =
            fetch_request::FetchTopic::default().with_topic(topic("t")).with_partitions(vec![partition]);
        FetchRequest::default()
            .with_max_bytes(1 << 20)
            .with_session_id(session.0)
            .with_session_epoch(session.1)
            .with_topics(vec![asked])
    };
    let opened: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &request((0, 0)));
    assert!(opened.session_id > 0);
    for epoch in [2, 9, -7, i32::MIN] {
        let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &request((opened.session_id, epoch)));
        expect(&format!("epoch {epoch}"), [reply.error_code], [InvalidFetchSessionEpoch]);
    }
}

#[test]
fn offsets_and_records_that_are_not_there() {
    let (_broker, mut raw) = broker();
    assert_eq!(produce(&mut raw, 9, "t", 0, Some(records::one("value"))), (0, 0));
    let delete = |raw: &mut Raw, name: &str, index: i32, offset: i64| {
        let partition = delete_records_request::DeleteRecordsPartition::default()
            .with_partition_index(index)
            .with_offset(offset);
        let asked = delete_records_request::DeleteRecordsTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
        let reply: DeleteRecordsResponse = raw.kafka(ApiKey::DeleteRecords, 2, &request);
        [reply.topics[0].partitions[0].error_code]
    };
    for (name, index, offset, code) in [
        ("t", 0, 2, OffsetOutOfRange),
        ("t", 0, i64::MAX, OffsetOutOfRange),
        ("t", 0, -2, OffsetOutOfRange),
        ("t", 7, 0, UnknownTopicOrPartition),
        ("t", -1, 0, UnknownTopicOrPartition),
        ("nobody", 0, 0, UnknownTopicOrPartition),
        ("compacted", 0, 0, PolicyViolation),
        ("__consumer_offsets", 0, 0, InvalidTopicException),
    ] {
        let what = format!("delete {name}/{index} up to {offset}");
        expect(&what, delete(&mut raw, name, index, offset), [code]);
    }

    let list = |raw: &mut Raw, name: &str, index: i32, epoch: i32, timestamp: i64| {
        let partition = list_offsets_request::ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_current_leader_epoch(epoch)
            .with_timestamp(timestamp);
        let asked = list_offsets_request::ListOffsetsTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
        let reply: ListOffsetsResponse = raw.kafka(ApiKey::ListOffsets, 9, &request);
        [reply.topics[0].partitions[0].error_code]
    };
    for (name, index, epoch, timestamp, code) in [
        ("t", 0, -1, -6, UnsupportedVersion),
        ("t", 0, -1, i64::MIN, UnsupportedVersion),
        ("t", 0, -1, i64::MAX, NONE),
        ("t", 0, 40, -1, UnknownLeaderEpoch),
        ("t", 9, -1, -1, UnknownTopicOrPartition),
        ("t", -1, -1, -1, UnknownTopicOrPartition),
        ("nobody", 0, -1, -1, UnknownTopicOrPartition),
    ] {
        let what = format!("list {name}/{index} at {timestamp} in epoch {epoch}");
        expect(&what, list(&mut raw, name, index, epoch, timestamp), [code]);
    }

    let epochs = |raw: &mut Raw, name: &str, index: i32, current: i32, wanted: i32| {
        let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
            .with_partition(index)
            .with_current_leader_epoch(current)
            .with_leader_epoch(wanted);
        let asked = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
            .with_topic(topic(name))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![asked]);
        let reply: OffsetForLeaderEpochResponse = raw.kafka(ApiKey::OffsetForLeaderEpoch, 4, &request);
        let told = &reply.topics[0].partitions[0];
        (told.error_code, told.end_offset)
    };
    for (name, index, current, wanted, code) in [
        ("t", 0, -1, 99, NONE),
        ("t", 0, 99, 0, UnknownLeaderEpoch),
        ("t", 5, -1, 0, UnknownTopicOrPartition),
        ("t", -2, -1, 0, UnknownTopicOrPartition),
        ("nobody", 0, -1, 0, UnknownTopicOrPartition),
    ] {
        let (found, end) = epochs(&mut raw, name, index, current, wanted);
        expect(&format!("epoch {wanted} of {name}/{index} in {current}"), [found], [code]);
        assert_eq!(end, -1);
    }
}
