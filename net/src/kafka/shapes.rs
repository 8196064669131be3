//! The shapes of the requests that the `kafka-protocol` crate decodes, transcribed from Kafka's message schemas.

use kafka_protocol::messages::ApiKey;

use super::group_shapes;
use super::shape::{Field, Kind, Shape};

pub(super) const BOOL: Kind = Kind::Fixed(1);
const INT8: Kind = Kind::Fixed(1);
const INT16: Kind = Kind::Fixed(2);
pub(super) const INT32: Kind = Kind::Fixed(4);
pub(super) const INT64: Kind = Kind::Fixed(8);
pub(super) const UUID: Kind = Kind::Fixed(16);
pub(super) const TEXTS: Kind = Kind::Array(&Kind::Text);
pub(super) const INT32S: Kind = Kind::Array(&INT32);

pub(super) const fn field(kind: Kind) -> Field {
    Field::new(kind)
}

/// The shape of an api's request, `None` for apis whose requests are not decoded through the crate.
pub fn shape_of(api: ApiKey) -> Option<&'static Shape> {
    match api {
        ApiKey::ListOffsets => Some(&LIST_OFFSETS),
        ApiKey::Metadata => Some(&METADATA),
        ApiKey::FindCoordinator => Some(&FIND_COORDINATOR),
        ApiKey::ApiVersions => Some(&API_VERSIONS),
        ApiKey::CreateTopics => Some(&CREATE_TOPICS),
        ApiKey::DeleteTopics => Some(&DELETE_TOPICS),
        ApiKey::InitProducerId => Some(&INIT_PRODUCER_ID),
        ApiKey::DescribeConfigs => Some(&DESCRIBE_CONFIGS),
        ApiKey::CreatePartitions => Some(&CREATE_PARTITIONS),
        ApiKey::IncrementalAlterConfigs => Some(&INCREMENTAL_ALTER_CONFIGS),
        ApiKey::DescribeCluster => Some(&DESCRIBE_CLUSTER),
        ApiKey::DeleteRecords => Some(&DELETE_RECORDS),
        ApiKey::OffsetForLeaderEpoch => Some(&OFFSET_FOR_LEADER_EPOCH),
        ApiKey::AlterConfigs => Some(&ALTER_CONFIGS),
        ApiKey::DescribeLogDirs => Some(&DESCRIBE_LOG_DIRS),
        ApiKey::ElectLeaders => Some(&ELECT_LEADERS),
        ApiKey::AlterPartitionReassignments => Some(&ALTER_PARTITION_REASSIGNMENTS),
        ApiKey::ListPartitionReassignments => Some(&LIST_PARTITION_REASSIGNMENTS),
        ApiKey::DescribeClientQuotas => Some(&DESCRIBE_CLIENT_QUOTAS),
        ApiKey::AlterClientQuotas => Some(&ALTER_CLIENT_QUOTAS),
        ApiKey::DescribeTopicPartitions => Some(&DESCRIBE_TOPIC_PARTITIONS),
        ApiKey::AddPartitionsToTxn => Some(&ADD_PARTITIONS_TO_TXN),
        ApiKey::AddOffsetsToTxn => Some(&ADD_OFFSETS_TO_TXN),
        ApiKey::EndTxn => Some(&END_TXN),
        ApiKey::TxnOffsetCommit => Some(&TXN_OFFSET_COMMIT),
        ApiKey::WriteTxnMarkers => Some(&WRITE_TXN_MARKERS),
        ApiKey::DescribeProducers => Some(&DESCRIBE_PRODUCERS),
        ApiKey::DescribeTransactions => Some(&DESCRIBE_TRANSACTIONS),
        ApiKey::ListTransactions => Some(&LIST_TRANSACTIONS),
        api => group_shapes::shape_of(api).or_else(|| unserved_shape_of(api)),
    }
}

/// The apis that are not served, but whose refusal names what was asked for.
fn unserved_shape_of(api: ApiKey) -> Option<&'static Shape> {
    match api {
        ApiKey::Produce => Some(&PRODUCE),
        ApiKey::CreateAcls => Some(&CREATE_ACLS),
        _ => None,
    }
}

static API_VERSIONS: Shape =
    Shape { flexible_since: 3, fields: &[field(Kind::Text).since(3), field(Kind::Text).since(3)] };

static LIST_OFFSETS: Shape = Shape {
    flexible_since: 6,
    fields: &[
        field(INT32),
        field(INT8).since(2),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(INT32).since(4), field(INT64)]))),
        ]))),
        field(INT32).since(10),
    ],
};

static METADATA: Shape = Shape {
    flexible_since: 9,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[field(UUID).since(10), field(Kind::Text).nullable(10)])))
            .nullable(1),
        field(BOOL).since(4),
        field(BOOL).since(8).until(10),
        field(BOOL).since(8),
    ],
};

static FIND_COORDINATOR: Shape = Shape {
    flexible_since: 3,
    fields: &[field(Kind::Text).until(3), field(INT8).since(1), field(TEXTS).since(4)],
};

static CREATE_TOPICS: Shape = Shape {
    flexible_since: 5,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(INT32),
            field(INT16),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(INT32S)]))),
            field(Kind::Array(&Kind::Struct(&[field(Kind::Text), field(Kind::Text).nullable(0)]))),
        ]))),
        field(INT32),
        field(BOOL),
    ],
};

static DELETE_TOPICS: Shape = Shape {
    flexible_since: 4,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[field(Kind::Text).nullable(6), field(UUID)]))).since(6),
        field(TEXTS).until(5),
        field(INT32),
    ],
};

static INIT_PRODUCER_ID: Shape = Shape {
    flexible_since: 2,
    fields: &[field(Kind::Text).nullable(0), field(INT32), field(INT64).since(3), field(INT16).since(3)],
};

static DESCRIBE_CONFIGS: Shape = Shape {
    flexible_since: 4,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[field(INT8), field(Kind::Text), field(TEXTS).nullable(0)]))),
        field(BOOL),
        field(BOOL).since(3),
    ],
};

static CREATE_PARTITIONS: Shape = Shape {
    flexible_since: 2,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(INT32),
            field(Kind::Array(&Kind::Struct(&[field(INT32S)]))).nullable(0),
        ]))),
        field(INT32),
        field(BOOL),
    ],
};

static INCREMENTAL_ALTER_CONFIGS: Shape = Shape {
    flexible_since: 1,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(INT8),
            field(Kind::Text),
            field(Kind::Array(&Kind::Struct(&[
                field(Kind::Text),
                field(INT8),
                field(Kind::Text).nullable(0),
            ]))),
        ]))),
        field(BOOL),
    ],
};

static DESCRIBE_CLUSTER: Shape =
    Shape { flexible_since: 0, fields: &[field(BOOL), field(INT8).since(1), field(BOOL).since(2)] };

static DESCRIBE_TOPIC_PARTITIONS: Shape = Shape {
    flexible_since: 0,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[field(Kind::Text)]))),
        field(INT32),
        field(Kind::Maybe(&[field(Kind::Text), field(INT32)])),
    ],
};

static DESCRIBE_LOG_DIRS: Shape = Shape { flexible_since: 2, fields: &[field(TOPIC_PARTITIONS).nullable(0)] };

static ELECT_LEADERS: Shape = Shape {
    flexible_since: 2,
    fields: &[field(INT8).since(1), field(TOPIC_PARTITIONS).nullable(0), field(INT32)],
};

static ALTER_PARTITION_REASSIGNMENTS: Shape = Shape {
    flexible_since: 0,
    fields: &[
        field(INT32),
        field(BOOL).since(1),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(INT32S).nullable(0)]))),
        ]))),
    ],
};

static LIST_PARTITION_REASSIGNMENTS: Shape =
    Shape { flexible_since: 0, fields: &[field(INT32), field(TOPIC_PARTITIONS).nullable(0)] };

static DESCRIBE_CLIENT_QUOTAS: Shape = Shape {
    flexible_since: 1,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[field(Kind::Text), field(INT8), field(Kind::Text).nullable(0)]))),
        field(BOOL),
    ],
};

static ALTER_CLIENT_QUOTAS: Shape = Shape {
    flexible_since: 1,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Array(&Kind::Struct(&[field(Kind::Text), field(Kind::Text).nullable(0)]))),
            field(Kind::Array(&Kind::Struct(&[field(Kind::Text), field(INT64), field(BOOL)]))),
        ]))),
        field(BOOL),
    ],
};

static PRODUCE: Shape = Shape {
    flexible_since: 9,
    fields: &[
        field(Kind::Text).since(3).nullable(3),
        field(INT16),
        field(INT32),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text).until(12),
            field(UUID).since(13),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(Kind::Blob).nullable(0)]))),
        ]))),
    ],
};

/// Topic names, each with partition indexes.
pub(super) const TOPIC_PARTITIONS: Kind = Kind::Array(&Kind::Struct(&[field(Kind::Text), field(INT32S)]));

static DELETE_RECORDS: Shape = Shape {
    flexible_since: 2,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(INT64)]))),
        ]))),
        field(INT32),
    ],
};

static OFFSET_FOR_LEADER_EPOCH: Shape = Shape {
    flexible_since: 4,
    fields: &[
        field(INT32).since(3),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(INT32), field(INT32)]))),
        ]))),
    ],
};

static ADD_PARTITIONS_TO_TXN: Shape = Shape {
    flexible_since: 3,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(INT64),
            field(INT16),
            field(BOOL),
            field(TOPIC_PARTITIONS),
        ])))
        .since(4),
        field(Kind::Text).until(3),
        field(INT64).until(3),
        field(INT16).until(3),
        field(TOPIC_PARTITIONS).until(3),
    ],
};

static WRITE_TXN_MARKERS: Shape = Shape {
    flexible_since: 1,
    fields: &[field(Kind::Array(&Kind::Struct(&[
        field(INT64),
        field(INT16),
        field(BOOL),
        field(TOPIC_PARTITIONS),
        field(INT32),
    ])))],
};

static TXN_OFFSET_COMMIT: Shape = Shape {
    flexible_since: 3,
    fields: &[
        field(Kind::Text),
        field(Kind::Text),
        field(INT64),
        field(INT16),
        field(INT32).since(3),
        field(Kind::Text).since(3),
        field(Kind::Text).since(3).nullable(3),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(Kind::Array(&Kind::Struct(&[
                field(INT32),
                field(INT64),
                field(INT32).since(2),
                field(Kind::Text).nullable(0),
            ]))),
        ]))),
    ],
};

static ALTER_CONFIGS: Shape = Shape {
    flexible_since: 2,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(INT8),
            field(Kind::Text),
            field(Kind::Array(&Kind::Struct(&[field(Kind::Text), field(Kind::Text).nullable(0)]))),
        ]))),
        field(BOOL),
    ],
};

static CREATE_ACLS: Shape = Shape {
    flexible_since: 2,
    fields: &[field(Kind::Array(&Kind::Struct(&[
        field(INT8),
        field(Kind::Text),
        field(INT8),
        field(Kind::Text),
        field(Kind::Text),
        field(INT8),
        field(INT8),
    ])))],
};

static ADD_OFFSETS_TO_TXN: Shape =
    Shape { flexible_since: 3, fields: &[field(Kind::Text), field(INT64), field(INT16), field(Kind::Text)] };

static END_TXN: Shape =
    Shape { flexible_since: 3, fields: &[field(Kind::Text), field(INT64), field(INT16), field(BOOL)] };

static DESCRIBE_PRODUCERS: Shape = Shape { flexible_since: 0, fields: &[field(TOPIC_PARTITIONS)] };

static LIST_TRANSACTIONS: Shape = Shape {
    flexible_since: 0,
    fields: &[
        field(TEXTS),
        field(Kind::Array(&INT64)),
        field(INT64).since(1),
        field(Kind::Text).since(2).nullable(2),
    ],
};

static DESCRIBE_TRANSACTIONS: Shape = Shape { flexible_since: 0, fields: &[field(TEXTS)] };
