//! Commands and what they answer as fields: the same bytes in a log entry and in a message.
//!
//! A number once given to a variant keeps its meaning for ever, because logs and nodes of other versions hold it.

use crate::{
    config::PortMode,
    fields::{enum_fields, struct_fields},
    metadata::{
        command::{Command, MetadataError, Outcome},
        elections::{Elected, Election, InSyncChange, QuorumChange},
        image::ReplicaSlot,
        quota::{Entity, Limited, QuotaChange, Who},
        reassign::{Finished, Move},
    },
};

enum_fields!(Command {
    0 => FoundCluster { cluster_id },
    1 => StartNode { node, host, port, core_count, port_mode, peer_address, rack },
    2 => CreateTopic { name, id, partition_count, replication_factor, overrides, replicas },
    3 => AlterTopic { name, changes },
    4 => GrowTopic { name, partition_count, replicas },
    5 => DeleteTopic { name },
    6 => ForgetTopic { id, node },
    7 => ReplaceTopicConfig { name, overrides },
    8 => ChangeQuota { change },
    9 => TakeProducerIds { count },
    10 => BeginElections { elections },
    11 => EndElections { elected },
    12 => ChangeInSync { changes },
    13 => Reassign { topic, partition, target },
    14 => FinishReassign { finished },
    15 => DrainNode { node, is_draining },
    16 => RemoveNode { node },
    17 => Rebalance { moves },
    18 => EndFilling { nodes },
    19 => ChangeQuorum { changes },
});

enum_fields!(Outcome {
    0 => Done,
    1 => Topic(id),
    2 => ProducerIds(first),
    3 => Life(life),
});

enum_fields!(MetadataError {
    0 => UnknownTopic(name),
    1 => TopicExists(name),
    2 => InvalidTopicName(why),
    3 => InvalidConfig(why),
    4 => InvalidPartitionCount(why),
    5 => InvalidReplicationFactor { wanted, available },
    6 => InvalidAssignment(why),
    7 => InvalidRequest(why),
    8 => Closing,
    9 => Unavailable(why),
    10 => UnknownPartition(topic, partition),
    11 => NothingMoves(topic, partition),
});

enum_fields!(PortMode { 0 => PerCore, 1 => Single });
enum_fields!(Who { 0 => Default, 1 => Name(name) });
enum_fields!(Limited { 0 => ProduceBytes, 1 => FetchBytes, 2 => RequestTime });
struct_fields!(ReplicaSlot { node, slot });
struct_fields!(Election { topic, partition, after });
struct_fields!(Elected { topic, partition, epoch, leader, life, is_lossy });
struct_fields!(InSyncChange { topic, partition, epoch, version, from, members });
struct_fields!(QuorumChange { topic, partition, epoch, version, from, quorum });
struct_fields!(Finished { topic, partition, target });
struct_fields!(Move { topic, partition, from, target });
struct_fields!(Entity { user, client });
struct_fields!(QuotaChange { entity, changes });

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use heddle_proto::ids::TopicId;

    use super::*;
    use crate::fields::{DecodeError, Field, Reader};

    fn samples() -> Vec<Command> {
        let text = |text: &str| text.to_owned();
        let replicas =
            vec![vec![ReplicaSlot { node: 1, slot: 0 }, ReplicaSlot { node: 2, slot: 7 }], Vec::new()];
        let overrides = BTreeMap::from([(text("retention.ms"), text("1000"))]);
        let change = QuotaChange {
            entity: Entity { user: Some(Who::Default), client: Some(Who::Name(text("c"))) },
            changes: BTreeMap::from([(Limited::ProduceBytes, Some(1.5)), (Limited::RequestTime, None)]),
        };
        let id = TopicId::new([3; 16]).to_string();
        vec![
            Command::FoundCluster { cluster_id: text("c") },
            Command::StartNode {
                node: 3,
                host: text("h"),
                port: 9092,
                core_count: 4,
                port_mode: PortMode::Single,
                peer_address: text("h:9192"),
                rack: text("r"),
            },
            Command::CreateTopic {
                name: text("t"),
                id: id.clone(),
                partition_count: 2,
                replication_factor: 2,
                overrides: overrides.clone(),
                replicas: replicas.clone(),
            },
            Command::AlterTopic {
                name: text("t"),
                changes: BTreeMap::from([(text("a"), None), (text("b"), Some(text("c")))]),
            },
            Command::GrowTopic { name: text("t"), partition_count: 9, replicas },
            Command::DeleteTopic { name: text("t") },
            Command::ForgetTopic { id, node: 2 },
            Command::BeginElections {
                elections: vec![Election { topic: TopicId::new([3; 16]), partition: 1, after: 7 }],
            },
            Command::EndElections {
                elected: vec![Elected {
                    topic: TopicId::new([3; 16]),
                    partition: 1,
                    epoch: 8,
                    leader: 3,
                    life: 2,
                    is_lossy: true,
                }],
            },
            Command::ChangeInSync {
                changes: vec![InSyncChange {
                    topic: TopicId::new([3; 16]),
                    partition: 1,
                    epoch: 8,
                    version: 4,
                    from: vec![1, 2],
                    members: vec![1, 2, 3],
                }],
            },
            Command::ReplaceTopicConfig { name: text("t"), overrides },
            Command::ChangeQuota { change },
            Command::TakeProducerIds { count: 1000 },
            Command::Reassign {
                topic: text("t"),
                partition: 1,
                target: Some(vec![ReplicaSlot { node: 4, slot: 2 }]),
            },
            Command::Reassign { topic: text("t"), partition: 1, target: None },
            Command::FinishReassign {
                finished: vec![Finished { topic: TopicId::new([3; 16]), partition: 1, target: vec![4, 2] }],
            },
            Command::DrainNode { node: 4, is_draining: true },
            Command::RemoveNode { node: 4 },
            Command::Rebalance {
                moves: vec![Move {
                    topic: TopicId::new([3; 16]),
                    partition: 1,
                    from: vec![1, 2],
                    target: vec![ReplicaSlot { node: 4, slot: 2 }],
                }],
            },
            Command::EndFilling { nodes: vec![4, 5] },
            Command::ChangeQuorum {
                changes: vec![QuorumChange {
                    topic: TopicId::new([3; 16]),
                    partition: 1,
                    epoch: 8,
                    version: 4,
                    from: vec![1, 2],
                    quorum: 2,
                }],
            },
        ]
    }

    #[test]
    fn every_command_comes_back_and_no_prefix_does() {
        for command in samples() {
            let mut bytes = Vec::new();
            command.put(&mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(Command::take(&mut reader), Ok(command));
            assert_eq!(reader.finish(), Ok(()));
            for length in 0..bytes.len() {
                assert!(Command::take(&mut Reader::new(&bytes[..length])).is_err());
            }
        }
        assert_eq!(Command::take(&mut Reader::new(&[99])), Err(DecodeError::UnknownKind(99)));
    }

    #[test]
    fn every_answer_comes_back() {
        let answers: [Result<Outcome, MetadataError>; 8] = [
            Ok(Outcome::Done),
            Ok(Outcome::Topic(TopicId::new([9; 16]))),
            Ok(Outcome::ProducerIds(-1)),
            Ok(Outcome::Life(2)),
            Err(MetadataError::InvalidReplicationFactor { wanted: 3, available: 1 }),
            Err(MetadataError::Closing),
            Err(MetadataError::UnknownPartition("t".to_owned(), 7)),
            Err(MetadataError::NothingMoves("t".to_owned(), 7)),
        ];
        for answer in answers {
            let mut bytes = Vec::new();
            answer.put(&mut bytes);
            assert_eq!(Result::take(&mut Reader::new(&bytes)), Ok(answer));
        }
    }
}
