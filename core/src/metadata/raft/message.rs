//! What nodes say to each other about the metadata, as bytes: a version, a kind, then fields.
//!
//! Every request has one reply. Bytes from a peer may be anything: they are refused, never trusted.

use openraft::{
    SnapshotMeta, SnapshotSegmentId,
    error::SnapshotMismatch,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
        VoteRequest, VoteResponse,
    },
};

use super::{
    runtime::Executor,
    types::{Answer, Id, Types, Vote},
};
use crate::{
    fields::{DecodeError, Field, Reader, enum_fields, put_length, struct_fields},
    metadata::{command::Command, frame::FRAME_BYTES_MAX},
};

/// Nodes of another version are refused.
const VERSION: u8 = 1;

/// The largest message, in bytes: what a transport must carry, and the most that a node takes in at once.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The most bytes of a command: it must fit into a message with what goes around it.
pub const COMMAND_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 4096;

type Append<E> = AppendEntriesRequest<Types<E>>;
type Install<E> = InstallSnapshotRequest<Types<E>>;
type Meta = SnapshotMeta<Id, openraft::BasicNode>;
type Ballot = VoteRequest<Id>;
type BallotReply = VoteResponse<Id>;
type AppendReply = AppendEntriesResponse<Id>;
type InstallReply = InstallSnapshotResponse<Id>;

/// What one node asks of another.
#[derive(Debug)]
pub enum Request<E: Executor> {
    /// Append entries, or just hear that there is a leader.
    Append(Append<E>),
    /// Vote for the sender.
    Vote(Ballot),
    /// Take a piece of a snapshot.
    Install(Install<E>),
    /// Propose a command, as the leader.
    Propose(Command),
}

/// What it answers.
#[derive(Debug, PartialEq)]
pub enum Reply {
    /// To [`Request::Append`].
    Append(AppendReply),
    /// To [`Request::Vote`].
    Vote(BallotReply),
    /// To [`Request::Install`].
    Install(InstallReply),
    /// To [`Request::Install`]: another piece was due.
    Mismatch(SnapshotMismatch),
    /// To [`Request::Propose`]: the command was committed, and this is what it answers.
    Answer {
        /// Its place in the log.
        index: u64,
        /// The answer.
        answer: Answer,
    },
    /// To [`Request::Propose`]: this node does not lead; nothing was done.
    NotLeader,
    /// To [`Request::Propose`]: the node stopped leading meanwhile. The command may be committed or not.
    Unknown,
    /// This node takes part no more.
    Stopped,
}

impl<E: Executor> Request<E> {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a request back.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

impl Reply {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a reply back.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

fn encode(message: &impl Field) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    message.put(&mut bytes);
    bytes
}

fn decode<T: Field>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    match u8::take(&mut reader)? {
        VERSION => {}
        other => return Err(DecodeError::UnknownVersion(other)),
    }
    let message = T::take(&mut reader)?;
    reader.finish()?;
    Ok(message)
}

impl<E: Executor> Field for Request<E> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Request::Append(append) => {
                out.push(0);
                append.put(out);
            }
            Request::Vote(ballot) => {
                out.push(1);
                ballot.put(out);
            }
            Request::Install(install) => {
                out.push(2);
                install.put(out);
            }
            Request::Propose(command) => {
                out.push(3);
                command.put(out);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(reader)? {
            0 => Field::take(reader).map(Request::Append),
            1 => Field::take(reader).map(Request::Vote),
            2 => Field::take(reader).map(Request::Install),
            3 => Field::take(reader).map(Request::Propose),
            unknown => Err(DecodeError::UnknownKind(unknown)),
        }
    }
}

enum_fields!(Reply {
    0 => Append(reply),
    1 => Vote(reply),
    2 => Install(reply),
    3 => Mismatch(mismatch),
    4 => Answer { index, answer },
    5 => NotLeader,
    6 => Unknown,
    7 => Stopped,
});

impl<E: Executor> Field for Append<E> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.prev_log_id.put(out);
        self.leader_commit.put(out);
        self.entries.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let append: Self = AppendEntriesRequest {
            vote: take_vote(reader)?,
            prev_log_id: Field::take(reader)?,
            leader_commit: Field::take(reader)?,
            entries: Field::take(reader)?,
        };
        let mut last = append.prev_log_id;
        for entry in &append.entries {
            let follows = last.map_or(0, |last| last.index.saturating_add(1)) == entry.log_id.index;
            if !follows
                || last > Some(entry.log_id)
                || entry.log_id.leader_id.term > append.vote.leader_id.term
            {
                return Err(DecodeError::Impossible);
            }
            last = Some(entry.log_id);
        }
        Ok(append)
    }
}

/// The vote that a request is sent by: it is always somebody's.
fn take_vote(reader: &mut Reader<'_>) -> Result<Vote, DecodeError> {
    let vote = Vote::take(reader)?;
    vote.leader_id.voted_for.map(|_| vote).ok_or(DecodeError::Impossible)
}

impl Field for AppendReply {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            AppendEntriesResponse::Success => out.push(0),
            AppendEntriesResponse::PartialSuccess(upto) => {
                out.push(1);
                upto.put(out);
            }
            AppendEntriesResponse::Conflict => out.push(2),
            AppendEntriesResponse::HigherVote(vote) => {
                out.push(3);
                vote.put(out);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(reader)? {
            0 => Ok(AppendEntriesResponse::Success),
            1 => Field::take(reader).map(AppendEntriesResponse::PartialSuccess),
            2 => Ok(AppendEntriesResponse::Conflict),
            3 => Field::take(reader).map(AppendEntriesResponse::HigherVote),
            unknown => Err(DecodeError::UnknownKind(unknown)),
        }
    }
}

impl Field for Ballot {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.last_log_id.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(VoteRequest { vote: take_vote(reader)?, last_log_id: Field::take(reader)? })
    }
}

struct_fields!(BallotReply { vote, vote_granted, last_log_id });
struct_fields!(InstallReply { vote });
struct_fields!(Meta { last_log_id, last_membership, snapshot_id });
struct_fields!(SnapshotSegmentId { id, offset });
struct_fields!(SnapshotMismatch { expect, got });

impl<E: Executor> Field for Install<E> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.meta.put(out);
        self.offset.put(out);
        self.done.put(out);
        put_length(self.data.len(), out);
        out.extend_from_slice(&self.data);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let install: Self = InstallSnapshotRequest {
            vote: take_vote(reader)?,
            meta: Field::take(reader)?,
            offset: Field::take(reader)?,
            done: Field::take(reader)?,
            data: reader.slice()?.to_vec(),
        };
        let end = install.offset.saturating_add(install.data.len() as u64);
        if install.meta.last_log_id.is_none() || end > FRAME_BYTES_MAX as u64 {
            return Err(DecodeError::Impossible);
        }
        Ok(install)
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
