//! The shapes of the requests of the group apis, transcribed from Kafka's message schemas.

use kafka_protocol::messages::ApiKey;

use super::shape::{Kind, Shape};
use super::shapes::{BOOL, INT32, INT32S, INT64, TEXTS, TOPIC_PARTITIONS, UUID, field};

/// The shape of a group api's request, `None` for other apis.
pub fn shape_of(api: ApiKey) -> Option<&'static Shape> {
    match api {
        ApiKey::OffsetCommit => Some(&OFFSET_COMMIT),
        ApiKey::OffsetFetch => Some(&OFFSET_FETCH),
        ApiKey::JoinGroup => Some(&JOIN_GROUP),
        ApiKey::Heartbeat => Some(&HEARTBEAT),
        ApiKey::LeaveGroup => Some(&LEAVE_GROUP),
        ApiKey::SyncGroup => Some(&SYNC_GROUP),
        ApiKey::DescribeGroups => Some(&DESCRIBE_GROUPS),
        ApiKey::ListGroups => Some(&LIST_GROUPS),
        ApiKey::DeleteGroups => Some(&DELETE_GROUPS),
        ApiKey::OffsetDelete => Some(&OFFSET_DELETE),
        ApiKey::ConsumerGroupHeartbeat => Some(&CONSUMER_GROUP_HEARTBEAT),
        ApiKey::ConsumerGroupDescribe => Some(&CONSUMER_GROUP_DESCRIBE),
        _ => None,
    }
}

static OFFSET_COMMIT: Shape = Shape {
    flexible_since: 8,
    fields: &[
        field(Kind::Text),
        field(INT32),
        field(Kind::Text),
        field(Kind::Text).since(7).nullable(7),
        field(INT64).until(4),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(Kind::Array(&Kind::Struct(&[
                field(INT32),
                field(INT64),
                field(INT32).since(6),
                field(Kind::Text).nullable(0),
            ]))),
        ]))),
    ],
};

static OFFSET_FETCH: Shape = Shape {
    flexible_since: 6,
    fields: &[
        field(Kind::Text).until(7),
        field(TOPIC_PARTITIONS).until(7).nullable(2),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(Kind::Text).since(9).nullable(9),
            field(INT32).since(9),
            field(TOPIC_PARTITIONS).nullable(8),
        ])))
        .since(8),
        field(BOOL).since(7),
    ],
};

static DESCRIBE_GROUPS: Shape = Shape { flexible_since: 5, fields: &[field(TEXTS), field(BOOL).since(3)] };

static CONSUMER_GROUP_DESCRIBE: Shape = Shape { flexible_since: 0, fields: &[field(TEXTS), field(BOOL)] };

static DELETE_GROUPS: Shape = Shape { flexible_since: 2, fields: &[field(TEXTS)] };

static JOIN_GROUP: Shape = Shape {
    flexible_since: 6,
    fields: &[
        field(Kind::Text),
        field(INT32),
        field(INT32).since(1),
        field(Kind::Text),
        field(Kind::Text).since(5).nullable(5),
        field(Kind::Text),
        field(Kind::Array(&Kind::Struct(&[field(Kind::Text), field(Kind::Blob)]))),
        field(Kind::Text).since(8).nullable(8),
    ],
};

static SYNC_GROUP: Shape = Shape {
    flexible_since: 4,
    fields: &[
        field(Kind::Text),
        field(INT32),
        field(Kind::Text),
        field(Kind::Text).since(3).nullable(3),
        field(Kind::Text).since(5).nullable(5),
        field(Kind::Text).since(5).nullable(5),
        field(Kind::Array(&Kind::Struct(&[field(Kind::Text), field(Kind::Blob)]))),
    ],
};

static HEARTBEAT: Shape = Shape {
    flexible_since: 4,
    fields: &[field(Kind::Text), field(INT32), field(Kind::Text), field(Kind::Text).since(3).nullable(3)],
};

static LEAVE_GROUP: Shape = Shape {
    flexible_since: 4,
    fields: &[
        field(Kind::Text),
        field(Kind::Text).until(2),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(Kind::Text).nullable(3),
            field(Kind::Text).since(5).nullable(5),
        ])))
        .since(3),
    ],
};

static LIST_GROUPS: Shape =
    Shape { flexible_since: 3, fields: &[field(TEXTS).since(4), field(TEXTS).since(5)] };

static OFFSET_DELETE: Shape = Shape {
    flexible_since: i16::MAX,
    fields: &[
        field(Kind::Text),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::Text),
            field(Kind::Array(&Kind::Struct(&[field(INT32)]))),
        ]))),
    ],
};

static CONSUMER_GROUP_HEARTBEAT: Shape = Shape {
    flexible_since: 0,
    fields: &[
        field(Kind::Text),
        field(Kind::Text),
        field(INT32),
        field(Kind::Text).nullable(0),
        field(Kind::Text).nullable(0),
        field(INT32),
        field(TEXTS).nullable(0),
        field(Kind::Text).since(1).nullable(1),
        field(Kind::Text).nullable(0),
        field(Kind::Array(&Kind::Struct(&[field(UUID), field(INT32S)]))).nullable(0),
    ],
};
