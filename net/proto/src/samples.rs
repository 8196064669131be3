//! Valid inputs of every kind, from which tests and fuzz targets start.

use bytes::{Bytes, BytesMut};

use crate::batch::{BatchBuilder, Compression, assign};
use crate::error::ErrorCode;
use crate::ids::{
    CoreId, Epoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
};
use crate::native::{
    Broker, ConfigEntry, PartitionDetail, PartitionInfo, Reply, Request, StartFrom, TopicInfo, encode_reply,
    encode_request,
};

/// A topic id with every byte different.
pub fn topic() -> TopicId {
    TopicId::new(std::array::from_fn(|index| 0xa0 + index as u8))
}

/// One request of each kind and each shape.
pub fn requests() -> Vec<Request> {
    let (topic, partition) = (topic(), PartitionIndex::new(12));
    let subscribe =
        |from| Request::Subscribe { subscription: 3, topic, partition, from, credit_bytes: 1 << 40 };
    vec![
        Request::Hello { version: 1, client: "fuzz \u{e9}".into(), cluster: Some("c1".into()) },
        Request::Hello { version: u16::MAX, client: String::new(), cluster: None },
        Request::Metadata { topics: None, auto_create: false },
        Request::Metadata { topics: Some(Vec::new()), auto_create: true },
        Request::Metadata { topics: Some(vec!["orders".into(), "payments".into()]), auto_create: true },
        Request::Produce { topic, partition, epoch: Epoch::new(4), acks: -1 },
        Request::Produce { topic: TopicId::ZERO, partition, epoch: Epoch::NONE, acks: 0 },
        Request::Fetch {
            topic,
            partition,
            offset: Offset::new(1 << 50),
            bytes_max: 1 << 20,
            bytes_min: 1,
            wait_max_ms: 500,
        },
        subscribe(StartFrom::Earliest),
        subscribe(StartFrom::Latest),
        subscribe(StartFrom::Offset(Offset::new(77))),
        subscribe(StartFrom::Timestamp(Timestamp::new(1_700_000_000_000))),
        Request::Credit { subscription: 3, bytes: 65_536 },
        Request::Unsubscribe { subscription: 3 },
        Request::ListOffsets { topic, partition, at: StartFrom::Latest },
        Request::CreateTopic {
            name: "orders".into(),
            partition_count: 8,
            replication_factor: 3,
            configs: vec![("retention.ms".into(), "1000".into())],
        },
        Request::DeleteTopic { name: "orders".into() },
        Request::AlterTopic {
            name: "orders".into(),
            configs: vec![("durability".into(), Some("async".into())), ("flush.ms".into(), None)],
            partition_count: 16,
        },
        Request::DescribeTopic { name: "orders".into() },
        Request::DeleteRecords { topic, partition, before: Offset::new(500) },
        Request::InitProducer {},
        Request::ClusterStatus {},
        Request::Latency {},
        Request::DrainNode { node: NodeId::new(3), is_draining: true },
        Request::RemoveNode { node: NodeId::new(3) },
        Request::MoveReplicas {
            topic: "orders".into(),
            partition: PartitionIndex::new(4),
            nodes: vec![NodeId::new(3), NodeId::new(1)],
        },
    ]
}

/// One reply of each kind.
pub fn replies() -> Vec<Reply> {
    vec![
        Reply::Error { code: ErrorCode::NotLeaderOrFollower, message: "partition moved to node 2".into() },
        Reply::Hello {
            version: 1,
            node: NodeId::new(2),
            cluster: "c1".into(),
            core: CoreId::new(1),
            core_count: 2,
            frame_bytes_max: 1 << 26,
            software: "heddle 0.1.0".into(),
        },
        metadata(),
        Reply::Metadata { brokers: Vec::new(), topics: Vec::new() },
        Reply::Produce { base_offset: Offset::new(42), append_time: Timestamp::NONE },
        Reply::Produce { base_offset: Offset::ZERO, append_time: Timestamp::new(5) },
        Reply::Fetch { committed: Offset::new(43), start: Offset::new(2) },
        Reply::Subscribed { subscription: 3, from: Offset::new(9) },
        Reply::Push { subscription: 3, committed: Offset::new(99) },
        Reply::SubscriptionEnded {
            subscription: 3,
            code: ErrorCode::OffsetOutOfRange,
            message: "deleted by retention".into(),
        },
        Reply::ListOffsets { offset: Offset::new(-1), timestamp: Timestamp::NONE },
        Reply::Topic { id: topic() },
        description(),
        Reply::Producer { id: ProducerId::new(4_000), epoch: ProducerEpoch::new(2) },
        Reply::DeletedRecords { start: Offset::new(500) },
        Reply::ClusterStatus { json: "{\"nodes\":[]}".into() },
        Reply::Latency { json: "{\"cores\":[]}".into() },
        Reply::Done {},
    ]
}

fn metadata() -> Reply {
    let partition = |index, broker, error| PartitionInfo {
        partition: PartitionIndex::new(index),
        broker,
        epoch: Epoch::new(6),
        error,
    };
    Reply::Metadata {
        brokers: vec![
            Broker { id: 1000, host: "localhost".into(), port: 9092 },
            Broker { id: 1001, host: "localhost".into(), port: 9093 },
        ],
        topics: vec![
            TopicInfo {
                error: ErrorCode::None,
                name: "orders".into(),
                id: topic(),
                partitions: vec![
                    partition(0, 1000, ErrorCode::None),
                    partition(1, -1, ErrorCode::LeaderNotAvailable),
                ],
            },
            TopicInfo {
                error: ErrorCode::UnknownTopicOrPartition,
                name: "missing".into(),
                id: TopicId::ZERO,
                partitions: Vec::new(),
            },
        ],
    }
}

fn description() -> Reply {
    Reply::TopicDescription {
        name: "orders".into(),
        id: topic(),
        partitions: vec![PartitionDetail {
            partition: PartitionIndex::new(0),
            broker: 1000,
            epoch: Epoch::new(1),
            start: Offset::new(10),
            committed: Offset::new(20),
            size_bytes: u64::MAX,
        }],
        configs: vec![ConfigEntry {
            name: "retention.ms".into(),
            value: "604800000".into(),
            is_default: true,
            doc: "how long records are kept".into(),
        }],
    }
}

/// Frames of every request, without their payloads.
pub fn request_frames() -> Vec<BytesMut> {
    requests().iter().map(|request| frame(|out| encode_request(7, request, out, 0))).collect()
}

/// Frames of every reply, without their payloads.
pub fn reply_frames() -> Vec<BytesMut> {
    replies().iter().map(|reply| frame(|out| encode_reply(7, reply, out, 0))).collect()
}

fn frame<E: std::fmt::Debug>(write: impl FnOnce(&mut BytesMut) -> Result<(), E>) -> BytesMut {
    let mut out = BytesMut::new();
    write(&mut out).expect("samples are far below the limits");
    out
}

/// Batches of every codec, small and large, with and without a producer id.
pub fn batches() -> Vec<BytesMut> {
    let mut all = Vec::new();
    for compression in Compression::ALL {
        for record_count in [1, 3, 120] {
            all.push(batch(compression, record_count));
        }
    }
    all
}

fn batch(compression: Compression, record_count: u8) -> BytesMut {
    let mut builder = BatchBuilder::new(compression);
    if record_count > 1 {
        builder = builder.producer(ProducerId::new(7), ProducerEpoch::new(0), Sequence::new(i32::MAX - 1));
    }
    let headers = [
        (Bytes::from_static(b"trace"), Some(Bytes::from_static(b"0123456789"))),
        (Bytes::from_static(b"empty"), None),
    ];
    for index in 0..record_count {
        let text = format!("{{\"order\":{index},\"state\":\"paid\",\"amount\":{}}}", u32::from(index) * 7919);
        let key = (index % 3 != 0).then_some(&text.as_bytes()[..9]);
        let value = (index % 5 != 4).then_some(text.as_bytes());
        let timestamp = Timestamp::new(1_700_000_000_000 + i64::from(index % 7));
        builder
            .push(timestamp, key, value, &headers[..usize::from(index % 3)])
            .expect("samples are far below the limits");
    }
    let mut bytes = builder.build().expect("samples are far below the limits");
    assign(&mut bytes, Offset::new(1_000), Epoch::new(2));
    bytes
}
