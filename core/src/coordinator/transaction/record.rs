//! The records of the internal topic: one for each transactional id, as bytes and back.
//!
//! Key: `u8` version 1, then the id's text. Value: `u8` version 1, then little-endian fields in the order of
//! [`Transaction`]; no value deletes the id.

use std::{collections::BTreeSet, time::Duration};

use heddle_proto::ids::{PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicPartition};

use super::{
    message::{ProducerIdentity, TransactionalId},
    state::{State, Transaction},
};
use crate::{coordinator::group::Millis, partition::codec::Reader};

const VERSION: u8 = 1;

/// Bytes of a partition in a record.
const PARTITION_BYTES: usize = 20;

/// Why bytes are not a record.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The key is of a version that this one does not know, or not text.
    #[error("the key names no transactional id")]
    Key,
    /// The value is of another version, cut short, too long, or impossible.
    #[error("the value is no state of a transactional id")]
    Value,
}

/// What is durable of one id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionRecord {
    /// Whose.
    pub id: TransactionalId,
    /// `None` when the id is forgotten.
    pub value: Option<Transaction>,
}

impl TransactionRecord {
    /// The key's bytes.
    pub fn encode_key(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(self.id.as_str().as_bytes());
        out
    }

    /// The value's bytes.
    pub fn encode_value(&self) -> Option<Vec<u8>> {
        let value = self.value.as_ref()?;
        let mut out = Vec::with_capacity(64 + value.partitions.len() * PARTITION_BYTES);
        out.push(VERSION);
        put_identity(&mut out, Some(value.producer));
        put_identity(&mut out, value.previous);
        out.extend_from_slice(&value.successor.unwrap_or(ProducerId::NONE).get().to_le_bytes());
        out.extend_from_slice(&(value.timeout.as_millis() as u32).to_le_bytes());
        out.push(value.state as u8);
        out.extend_from_slice(&value.started.map_or(-1, Millis::get).to_le_bytes());
        out.extend_from_slice(&value.updated.get().to_le_bytes());
        out.extend_from_slice(&(value.partitions.len() as u32).to_le_bytes());
        for at in &value.partitions {
            out.extend_from_slice(at.topic.as_bytes());
            out.extend_from_slice(&at.partition.get().to_le_bytes());
        }
        Some(out)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// What is not one.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, DecodeError> {
        let text = match key.split_first() {
            Some((&VERSION, text)) => std::str::from_utf8(text).map_err(|_| DecodeError::Key)?,
            _ => return Err(DecodeError::Key),
        };
        let value = value.map(|bytes| decode_value(bytes).ok_or(DecodeError::Value)).transpose()?;
        Ok(Self { id: TransactionalId::new(text), value })
    }
}

fn put_identity(out: &mut Vec<u8>, identity: Option<ProducerIdentity>) {
    let (id, epoch) = identity.map_or((-1, -1), |identity| (identity.id.get(), identity.epoch.get()));
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&epoch.to_le_bytes());
}

fn identity(from: &mut Reader<'_>) -> Option<Option<ProducerIdentity>> {
    let (id, epoch) = (ProducerId::new(from.i64()?), ProducerEpoch::new(from.i16()?));
    Some(id.is_some().then_some(ProducerIdentity { id, epoch }))
}

fn decode_value(bytes: &[u8]) -> Option<Transaction> {
    let mut from = Reader::new(bytes);
    if from.u8()? != VERSION {
        return None;
    }
    let producer = identity(&mut from)??;
    let previous = identity(&mut from)?;
    let successor = Some(ProducerId::new(from.i64()?)).filter(|id| id.is_some());
    let timeout = Duration::from_millis(u64::from(from.u32()?));
    let state = State::from_code(from.u8()?)?;
    let started = from.i64()?;
    let updated = Millis::new(from.i64()?);
    let count = from.u32()?;
    let mut partitions = BTreeSet::new();
    for _ in 0..count {
        let topic = TopicId::new(from.array()?);
        partitions.insert(TopicPartition::new(topic, PartitionIndex::new(from.u32()?)));
    }
    let started = (started >= 0).then(|| Millis::new(started));
    let whole = from.is_empty() && state != State::Dead;
    whole.then_some(Transaction {
        producer,
        previous,
        successor,
        timeout,
        state,
        partitions,
        started,
        updated,
    })
}
