//! Log entries, votes and memberships as fields: the same bytes on disk and on the wire.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{BasicNode, CommittedLeaderId, EntryPayload, LeaderId};

use super::{
    runtime::Executor,
    types::{Entry, Id, LogId, Membership, StoredMembership, Vote},
};
use crate::fields::{DecodeError, Field, Reader, put_length};

/// A log position. In one term there is one leader at most, so the term names it.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, Id::default()), index)
}

impl Field for LogId {
    fn put(&self, out: &mut Vec<u8>) {
        self.leader_id.term.put(out);
        self.index.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (term, index) = (u64::take(reader)?, u64::take(reader)?);
        // There must be room for the next one.
        if term == u64::MAX || index == u64::MAX {
            return Err(DecodeError::Impossible);
        }
        Ok(log_id(term, index))
    }
}

impl Field for Vote {
    fn put(&self, out: &mut Vec<u8>) {
        self.leader_id.term.put(out);
        self.leader_id.voted_for.put(out);
        self.committed.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (term, voted_for): (u64, Option<Id>) = (Field::take(reader)?, Field::take(reader)?);
        if term == u64::MAX || !voted_for.iter().all(is_id) {
            return Err(DecodeError::Impossible);
        }
        Ok(Vote { leader_id: LeaderId { term, voted_for }, committed: Field::take(reader)? })
    }
}

impl Field for Membership {
    fn put(&self, out: &mut Vec<u8>) {
        self.get_joint_config().put(out);
        let nodes: Vec<_> = self.nodes().collect();
        put_length(nodes.len(), out);
        for (id, node) in nodes {
            id.put(out);
            node.addr.put(out);
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let voters: Vec<BTreeSet<Id>> = Field::take(reader)?;
        let nodes: BTreeMap<Id, String> = Field::take(reader)?;
        membership(voters, nodes).ok_or(DecodeError::Impossible)
    }
}

/// Whether a number can be a node's.
fn is_id(id: &Id) -> bool {
    u32::try_from(*id).is_ok()
}

/// A membership, or `None` when a voter has no address or a number can be no node's.
pub fn membership(voters: Vec<BTreeSet<Id>>, nodes: BTreeMap<Id, String>) -> Option<Membership> {
    if voters.iter().flatten().any(|id| !nodes.contains_key(id)) || !nodes.keys().all(is_id) {
        return None;
    }
    let nodes: BTreeMap<Id, BasicNode> =
        nodes.into_iter().map(|(id, address)| (id, BasicNode::new(address))).collect();
    Some(Membership::new(voters, nodes))
}

impl Field for StoredMembership {
    fn put(&self, out: &mut Vec<u8>) {
        self.log_id().put(out);
        self.membership().put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(StoredMembership::new(Field::take(reader)?, Field::take(reader)?))
    }
}

impl<E: Executor> Field for Entry<E> {
    fn put(&self, out: &mut Vec<u8>) {
        self.log_id.put(out);
        match &self.payload {
            EntryPayload::Blank => out.push(0),
            EntryPayload::Normal(command) => {
                out.push(1);
                command.put(out);
            }
            EntryPayload::Membership(membership) => {
                out.push(2);
                membership.put(out);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let log_id = Field::take(reader)?;
        let payload = match u8::take(reader)? {
            0 => EntryPayload::Blank,
            1 => EntryPayload::Normal(Field::take(reader)?),
            2 => EntryPayload::Membership(Field::take(reader)?),
            unknown => return Err(DecodeError::UnknownKind(unknown)),
        };
        Ok(Self { log_id, payload })
    }
}
