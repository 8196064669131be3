//! What the replicas of a core have to say to whoever decides about them.

use std::collections::BTreeSet;

use heddle_proto::ids::{Epoch, NodeId, Offset, TopicPartition};
use heddle_replication::{
    leadership::{Change, SealAnswer},
    message::Life,
};
use heddle_replication_driver::Event;

use crate::{
    fields::{DecodeError, Field, Reader, struct_fields},
    metadata::elections::{InSyncChange, QuorumChange},
};

/// One thing that a replica says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It has sealed.
    Sealed(Sealed),
    /// It leads, and wants another in-sync set.
    Change(InSyncChange),
    /// It leads, and wants another commit quorum.
    ChangeQuorum(QuorumChange),
    /// It leads, and cannot go on.
    NeedsElection(Wish),
}

impl Note {
    /// What is to be said of an event of the driver, if anything is; `epoch_of` is the epoch of a partition as its replica
    /// was told.
    pub fn of(event: &Event, epoch_of: impl Fn(TopicPartition) -> i32) -> Option<Note> {
        match event {
            Event::Answer(at, epoch, answer) => {
                Some(Note::Sealed(Sealed { at: *at, epoch: epoch.get(), answer: *answer }))
            }
            Event::Change(at, wanted) => Some(change(*at, wanted)),
            Event::NeedElection(at) => Some(Note::NeedsElection(Wish { at: *at, epoch: epoch_of(*at) })),
            _ => None,
        }
    }
}

/// An answer to a seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The partition.
    pub at: TopicPartition,
    /// The epoch that was asked for.
    pub epoch: i32,
    /// The answer.
    pub answer: SealAnswer,
}

/// The wish that a partition gets another leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The partition.
    pub at: TopicPartition,
    /// The epoch that is to end.
    pub epoch: i32,
}

/// The change of a partition's in-sync set or commit quorum, as a command takes it.
fn change(at: TopicPartition, change: &Change) -> Note {
    let ids = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|node| node.get()).collect();
    let (topic, partition, epoch) = (at.topic, at.partition.get(), change.epoch.get());
    let (version, from) = (change.from.version, ids(&change.from.members));
    if change.quorum == change.from.quorum {
        let members = ids(&change.members);
        return Note::Change(InSyncChange { topic, partition, epoch, version, from, members });
    }
    let quorum = u16::try_from(change.quorum).unwrap_or(u16::MAX);
    Note::ChangeQuorum(QuorumChange { topic, partition, epoch, version, from, quorum })
}

struct_fields!(Sealed { at, epoch, answer });
struct_fields!(Wish { at, epoch });

impl Field for SealAnswer {
    fn put(&self, out: &mut Vec<u8>) {
        self.life.0.put(out);
        self.accepted.get().put(out);
        self.end.get().put(out);
        self.last_epoch.get().put(out);
        self.forgot.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(SealAnswer {
            life: Life(Field::take(reader)?),
            accepted: Epoch::new(Field::take(reader)?),
            end: Offset::new(Field::take(reader)?),
            last_epoch: Epoch::new(Field::take(reader)?),
            forgot: Field::take(reader)?,
        })
    }
}
