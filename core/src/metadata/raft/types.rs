//! Which types the consensus library works with here.

use std::{io::Cursor, marker::PhantomData};

use openraft::{BasicNode, RaftTypeConfig, impls::OneshotResponder};

use super::runtime::{Executor, Runtime};
use crate::metadata::command::{Command, MetadataError, Outcome};

/// A node's id in the metadata's quorum: the number of its [`NodeId`](heddle_proto::ids::NodeId), in the library's usual
/// width.
pub type Id = u64;

/// What every applied command answers.
pub type Answer = Result<Outcome, MetadataError>;

/// The place of an entry in the log.
pub type LogId = openraft::LogId<Id>;

/// Whom a node voted for, and in which term.
pub type Vote = openraft::Vote<Id>;

/// Who votes and who only learns.
pub type Membership = openraft::Membership<Id, BasicNode>;

/// A membership with the entry that set it.
pub type StoredMembership = openraft::StoredMembership<Id, BasicNode>;

/// Why the log or the state machine cannot go on.
pub type StorageError = openraft::StorageError<Id>;

/// The library's configuration of types, on an executor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types<E>(PhantomData<E>);

impl<E: Executor> RaftTypeConfig for Types<E> {
    type D = Command;
    type R = Answer;
    type NodeId = Id;
    type Node = BasicNode;
    type Entry = openraft::Entry<Self>;
    type SnapshotData = Cursor<Vec<u8>>;
    type AsyncRuntime = Runtime<E>;
    type Responder = OneshotResponder<Self>;
}

/// An entry of the log.
pub type Entry<E> = openraft::Entry<Types<E>>;
