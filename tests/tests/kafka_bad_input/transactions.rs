//! Transactions of nobody.

use heddle_proto::batch::{BatchBuilder, Compression};
use heddle_proto::{ProducerEpoch, ProducerId, Sequence};

use super::*;
use crate::produce::{built, produce_as};

fn init(raw: &mut Raw, version: i16, id: Option<&str>, timeout_ms: i32, known: (i64, i16)) -> (i16, i64) {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(id.map(|id| TransactionalId(words(id))))
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id(producer_id(known.0))
        .with_producer_epoch(known.1);
    let reply: InitProducerIdResponse = raw.kafka(ApiKey::InitProducerId, version, &request);
    (reply.error_code, reply.producer_id.0)
}

fn producer_id(id: i64) -> kafka_protocol::messages::ProducerId {
    kafka_protocol::messages::ProducerId(id)
}

/// The errors of the partitions, in order.
fn add_partitions(
    raw: &mut Raw,
    version: i16,
    id: &str,
    producer: (i64, i16),
    partitions: &[(&str, i32)],
) -> Vec<i16> {
    use add_partitions_to_txn_request::AddPartitionsToTxnTopic;
    let topics = partitions.iter().map(|(name, index)| {
        AddPartitionsToTxnTopic::default().with_name(topic(name)).with_partitions(vec![*index])
    });
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(words(id)))
        .with_v3_and_below_producer_id(producer_id(producer.0))
        .with_v3_and_below_producer_epoch(producer.1)
        .with_v3_and_below_topics(topics.collect());
    let reply: AddPartitionsToTxnResponse = raw.kafka(ApiKey::AddPartitionsToTxn, version, &request);
    let results = reply.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
    results.map(|result| result.partition_error_code).collect()
}

fn end_txn(raw: &mut Raw, version: i16, id: &str, producer: (i64, i16), committed: bool) -> [i16; 1] {
    let request = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(words(id)))
        .with_producer_id(producer_id(producer.0))
        .with_producer_epoch(producer.1)
        .with_committed(committed);
    let reply: EndTxnResponse = raw.kafka(ApiKey::EndTxn, version, &request);
    [reply.error_code]
}

#[test]
fn transactions_of_nobody() {
    let (_broker, mut raw) = broker();
    for (what, id, timeout, known, code) in [
        ("no id", Some(""), 60_000, (-1, -1), InvalidRequest),
        ("no timeout", Some("x"), 0, (-1, -1), InvalidTransactionTimeout),
        ("a timeout below 0", Some("x"), -1, (-1, -1), InvalidTransactionTimeout),
        ("a timeout of weeks", Some("x"), i32::MAX, (-1, -1), InvalidTransactionTimeout),
        ("an epoch without an id", Some("x"), 60_000, (-1, 3), InvalidRequest),
        ("an id without an epoch", Some("x"), 60_000, (3, -1), InvalidRequest),
        ("the same of an idempotent producer", None, 60_000, (3, -1), InvalidRequest),
        ("any timeout of an idempotent producer", None, i32::MIN, (-1, -1), NONE),
    ] {
        expect(what, [init(&mut raw, 4, id, timeout, known).0], [code]);
    }
    let (code, id) = init(&mut raw, 4, Some("x"), 60_000, (-1, -1));
    expect("a producer", [code], [NONE]);
    let me = (id, 0);
    expect("another epoch", [init(&mut raw, 4, Some("x"), 60_000, (id, 7)).0], [ProducerFenced]);
    expect("the same, of old", [init(&mut raw, 3, Some("x"), 60_000, (id, 7)).0], [InvalidProducerEpoch]);

    let t = &[("t", 0)][..];
    for (what, name, producer, partitions, codes) in [
        ("nobody", "nobody", me, t, &[InvalidProducerIdMapping][..]),
        ("no id", "", me, t, &[InvalidRequest]),
        ("another producer", "x", (id + 1000, 0), t, &[InvalidProducerIdMapping]),
        ("a newer epoch", "x", (id, 3), t, &[ProducerFenced]),
        ("an epoch below 0", "x", (id, -1), t, &[ProducerFenced]),
        ("an unknown topic", "x", me, &[("nobody", 0)], &[UnknownTopicOrPartition]),
        (
            "an unknown partition",
            "x",
            me,
            &[("t", 0), ("t", 9), ("t", -1)],
            &[OperationNotAttempted, UnknownTopicOrPartition, UnknownTopicOrPartition],
        ),
        (
            "an internal topic",
            "x",
            me,
            &[("t", 0), ("__transaction_state", 0)],
            &[OperationNotAttempted, TopicAuthorizationFailed],
        ),
    ] {
        expect(what, add_partitions(&mut raw, 3, name, producer, partitions), codes);
    }
    let of_old = add_partitions(&mut raw, 1, "x", (id, 3), t);
    expect("a newer epoch, of old", of_old, [InvalidProducerEpoch]);

    for (what, name, producer, code) in [
        ("nobody ends", "nobody", me, InvalidProducerIdMapping),
        ("no id ends", "", me, InvalidRequest),
        ("another producer ends", "x", (id + 1000, 0), InvalidProducerIdMapping),
        ("a newer epoch ends", "x", (id, 3), ProducerFenced),
        ("nothing is open", "x", me, InvalidTxnState),
    ] {
        expect(what, end_txn(&mut raw, 3, name, producer, true), [code]);
    }
    expect("it begins", add_partitions(&mut raw, 3, "x", me, t), [NONE]);
    expect("it commits", end_txn(&mut raw, 3, "x", me, true), [NONE]);
    expect("it does not abort then", end_txn(&mut raw, 3, "x", me, false), [InvalidTxnState]);

    let offsets = |raw: &mut Raw, name: &str, producer: (i64, i16), group: &str| {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(TransactionalId(words(name)))
            .with_producer_id(producer_id(producer.0))
            .with_producer_epoch(producer.1)
            .with_group_id(GroupId(words(group)));
        let reply: AddOffsetsToTxnResponse = raw.kafka(ApiKey::AddOffsetsToTxn, 3, &request);
        [reply.error_code]
    };
    expect("offsets of nobody", offsets(&mut raw, "nobody", me, "g"), [InvalidProducerIdMapping]);
    expect("offsets of no id", offsets(&mut raw, "", me, "g"), [InvalidRequest]);
    expect("offsets of a newer epoch", offsets(&mut raw, "x", (id, 3), "g"), [ProducerFenced]);
    expect("offsets", offsets(&mut raw, "x", me, ""), [NONE]);

    let commit = |raw: &mut Raw, group: &str, generation: i32, metadata: usize| {
        let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(1)
            .with_committed_metadata(Some(words(&"m".repeat(metadata))));
        let asked = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
            .with_name(topic("t"))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(TransactionalId(words("x")))
            .with_producer_id(producer_id(me.0))
            .with_producer_epoch(me.1)
            .with_group_id(GroupId(words(group)))
            .with_generation_id(generation)
            .with_topics(vec![asked]);
        let reply: TxnOffsetCommitResponse = raw.kafka(ApiKey::TxnOffsetCommit, 3, &request);
        [reply.topics[0].partitions[0].error_code]
    };
    expect("no group", commit(&mut raw, "", -1, 0), [InvalidGroupId]);
    expect("a group", offsets(&mut raw, "x", me, "g"), [NONE]);
    expect("a generation of nobody", commit(&mut raw, "g", 5, 0), [IllegalGeneration]);
    expect("long words", commit(&mut raw, "g", -1, 5000), [OffsetMetadataTooLarge]);

    let request =
        DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(words("nobody"))]);
    let reply: DescribeTransactionsResponse = raw.kafka(ApiKey::DescribeTransactions, 0, &request);
    expect("describe", [reply.transaction_states[0].error_code], [TransactionalIdNotFound]);
    let asked = describe_producers_request::TopicRequest::default()
        .with_name(topic("t"))
        .with_partition_indexes(vec![7, -1]);
    let request = DescribeProducersRequest::default().with_topics(vec![asked]);
    let reply: DescribeProducersResponse = raw.kafka(ApiKey::DescribeProducers, 0, &request);
    let codes: Vec<i16> = reply.topics[0].partitions.iter().map(|told| told.error_code).collect();
    expect("producers", codes, [UnknownTopicOrPartition; 2]);
}

/// The errors of the partitions.
fn abort(raw: &mut Raw, producer: (i64, i16), partitions: &[(&str, i32)]) -> Vec<i16> {
    use write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
    let topics = partitions.iter().map(|(name, index)| {
        WritableTxnMarkerTopic::default().with_name(topic(name)).with_partition_indexes(vec![*index])
    });
    let marker = WritableTxnMarker::default()
        .with_producer_id(producer_id(producer.0))
        .with_producer_epoch(producer.1)
        .with_topics(topics.collect());
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let reply: WriteTxnMarkersResponse = raw.kafka(ApiKey::WriteTxnMarkers, 1, &request);
    let results = reply.markers.iter().flat_map(|marker| &marker.topics).flat_map(|topic| &topic.partitions);
    results.map(|result| result.error_code).collect()
}

#[test]
fn markers_of_nobody() {
    let (_broker, mut raw) = broker();
    let (_, id) = init(&mut raw, 4, Some("x"), 60_000, (-1, -1));
    expect("it begins", add_partitions(&mut raw, 3, "x", (id, 0), &[("t", 0)]), [NONE]);
    let batch = |sequence: i32| {
        let (id, epoch) = (ProducerId::new(id), ProducerEpoch::new(0));
        let of = BatchBuilder::new(Compression::None).producer(id, epoch, Sequence::new(sequence));
        built(of.transactional(), None, b"v")
    };
    assert_eq!(produce_as(&mut raw, (9, -1), Some("x"), "t", 0, Some(batch(0))), (0, 0));

    for (what, producer, partitions, codes) in [
        ("no producer", (-1, 0), &[("t", 0)][..], &[InvalidRequest][..]),
        ("no epoch", (id, -1), &[("t", 0)], &[InvalidRequest]),
        ("a partition that is not there", (id, 0), &[("t", 9)], &[UnknownTopicOrPartition]),
        ("a topic that is not there", (id, 0), &[("nobody", 0)], &[UnknownTopicOrPartition]),
        ("the transactions' own", (id, 0), &[("__transaction_state", 0)], &[TopicAuthorizationFailed]),
        ("offsets", (id, 0), &[("__consumer_offsets", 0), ("t", -1)], &[NONE, UnknownTopicOrPartition]),
    ] {
        expect(what, abort(&mut raw, producer, partitions), codes);
    }
    assert_eq!(stable(&mut raw), 0, "none of them ended the transaction");
    // An operator's word counts, whatever the coordinator thinks; the transaction can be aborted by itself later.
    expect("an abort", abort(&mut raw, (id, 0), &[("t", 0)]), [NONE]);
    assert_eq!(stable(&mut raw), 2, "the record and the marker");
    expect("it ends", end_txn(&mut raw, 3, "x", (id, 0), false), [NONE]);
    expect("an abort once more", abort(&mut raw, (id, 0), &[("t", 0)]), [NONE]);
}

/// The offset below which every transaction of the first partition is ended.
fn stable(raw: &mut Raw) -> i64 {
    let asked = fetch_request::FetchPartition::default().with_partition_max_bytes(1 << 20);
    let asked = fetch_request::FetchTopic::default().with_topic(topic("t")).with_partitions(vec![asked]);
    let request =
        FetchRequest::default().with_max_bytes(1 << 20).with_session_epoch(-1).with_topics(vec![asked]);
    let reply: FetchResponse = raw.kafka(ApiKey::Fetch, 12, &request);
    reply.responses[0].partitions[0].last_stable_offset
}
