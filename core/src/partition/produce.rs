//! Appending: check, assign offsets and epoch in place, hand to the log, park the ack.

use std::time::Instant;

use bytes::BytesMut;
use heddle_log_store::{AppendError, Disk};
use heddle_proto::{
    batch::{self, BatchError, BatchHeader},
    error::ErrorCode,
    ids::{Epoch, NodeId, Offset, ProducerId, Sequence, Timestamp},
};

use super::{
    Partition,
    producers::{SequenceError, Verdict},
    transactions::Permit,
    unstable::OPEN_MAX,
    validate::{self, RecordFault},
};
use crate::{
    admin::stages::{AppendTimes, Release},
    metadata::TimestampType,
    runtime::oneshot::{Cancelled, Receiver},
};

/// When a produce request wants its answer (Kafka's `acks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never.
    None,
    /// When the primary holds the records in the sense of the topic's durability.
    Primary,
    /// When the commit quorum does.
    Quorum,
}

/// Why nothing (or not everything) was appended.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The client believes in another epoch.
    #[error("the partition is led in epoch {current}; the request says {given}")]
    Epoch {
        /// What the client said.
        given: Epoch,
        /// What is true.
        current: Epoch,
    },
    /// The bytes are no valid record batch.
    #[error("not a valid record batch: {0}")]
    Corrupt(#[from] BatchError),
    /// A batch is larger than the topic allows.
    #[error("the batch has {bytes} bytes; the topic allows {bytes_max} (max.message.bytes)")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The topic's limit.
        bytes_max: usize,
    },
    /// Records break a rule of the topic.
    #[error("{} of the batch: {reason}", count(.faults))]
    Records {
        /// The error on the wire.
        code: ErrorCode,
        /// What is wrong.
        reason: &'static str,
        /// With which of them, as far as they are told.
        faults: Vec<RecordFault>,
    },
    /// The batch is one that a client may not write.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The producer's sequence does not fit.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// A batch that its producer sent before this one has to come first.
    #[error(
        "an earlier batch of the producer, from sequence {first} on, was refused and has to be sent again first"
    )]
    Behind {
        /// Where that begins.
        first: Sequence,
        /// With what it was refused.
        code: ErrorCode,
    },
    /// The batch is part of no transaction that is open here and that its coordinator knows.
    #[error("the batch of producer {0} is part of no open transaction of this partition")]
    NotInTransaction(ProducerId),
    /// No more transactions fit.
    #[error("{OPEN_MAX} transactions are open in this partition already")]
    TooManyTransactions,
    /// The log refused.
    #[error("{}", append_failure(.0))]
    Log(#[from] AppendError),
    /// The partition went away.
    #[error("the partition was deleted")]
    Deleted,
    /// Another node leads, or will.
    #[error("this replica does not lead the partition")]
    NotLeader,
    /// Nobody who leads the metadata hears this node.
    #[error(
        "this node is out of touch with the majority of its cluster and takes no records until it is heard again; \
         another node may lead by now"
    )]
    OutOfTouch,
    /// Too few replicas take part for anything to be committed.
    #[error(
        "min.insync.replicas={quorum} needs as many replicas in sync; there {}",
        in_sync(*in_sync_count, out_of_sync)
    )]
    NotEnoughReplicas {
        /// Those that are, the primary among them.
        in_sync_count: usize,
        /// How many it takes.
        quorum: usize,
        /// The nodes whose replicas are not.
        out_of_sync: Vec<NodeId>,
    },
}

fn in_sync(count: usize, missing: &[NodeId]) -> String {
    let there = if count == 1 { "is 1".to_owned() } else { format!("are {count}") };
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    match missing.as_slice() {
        [] => there,
        [one] => format!("{there}: node {one} is not in sync; see that it runs and is reached"),
        all => {
            format!("{there}: nodes {} are not in sync; see that they run and are reached", all.join(", "))
        }
    }
}

/// What a client is told of a refused append: what is the matter, not where the broker keeps its files.
fn append_failure(error: &AppendError) -> String {
    match error {
        AppendError::Damaged(damage) => {
            format!(
                "the records from offset {} on are damaged, and nothing is added behind them",
                damage.offset
            )
        }
        other => other.to_string(),
    }
}

fn count(faults: &[RecordFault]) -> String {
    match faults {
        [] => "the timestamps".to_owned(),
        [one] => format!("record {}", one.index),
        [first, ..] => format!("{} records from {} on", faults.len(), first.index),
    }
}

impl ProduceError {
    /// The records that are to blame, as far as they are told.
    pub fn faults(&self) -> &[RecordFault] {
        match self {
            ProduceError::Records { faults, .. } => faults,
            _ => &[],
        }
    }

    /// The error on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            ProduceError::Epoch { given, current } if given < current => ErrorCode::FencedLeaderEpoch,
            ProduceError::Epoch { .. } => ErrorCode::UnknownLeaderEpoch,
            ProduceError::Corrupt(error) => error.code(),
            ProduceError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            ProduceError::Records { code, .. } | ProduceError::Behind { code, .. } => *code,
            ProduceError::Forbidden(_) => ErrorCode::InvalidRecord,
            ProduceError::Sequence(SequenceError::Fenced { .. }) => ErrorCode::InvalidProducerEpoch,
            ProduceError::Sequence(SequenceError::OutOfOrder { .. }) => ErrorCode::OutOfOrderSequenceNumber,
            ProduceError::Sequence(SequenceError::NotTransactional(_))
            | ProduceError::NotInTransaction(_) => ErrorCode::InvalidTxnState,
            ProduceError::TooManyTransactions => ErrorCode::RequestTimedOut,
            ProduceError::Log(error) => log_code(error),
            ProduceError::Deleted => ErrorCode::UnknownTopicOrPartition,
            ProduceError::NotLeader | ProduceError::OutOfTouch => ErrorCode::NotLeaderOrFollower,
            ProduceError::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        }
    }
}

/// A full disk and a damaged log are answered with the storage error, which clients retry; a full memory budget is
/// answered as a request that timed out, which clients retry too.
fn log_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::OverBudget => ErrorCode::RequestTimedOut,
        _ => ErrorCode::KafkaStorageError,
    }
}

/// Records that were accepted; the answer waits for [`Accepted::settled`].
pub struct Accepted {
    /// Where the first record went.
    pub base_offset: Offset,
    /// The broker's timestamp when the topic uses LogAppendTime, else [`Timestamp::NONE`].
    pub append_time: Timestamp,
    /// The first offset of the partition, for the reply.
    pub start: Offset,
    appended: Instant,
    parked: Option<Receiver<Release>>,
}

impl Accepted {
    /// Waits until the records are as safe as the request asked; says how long the steps took.
    ///
    /// # Errors
    /// When the partition was deleted meanwhile: whether the records were safe will never be known.
    pub async fn settled(self) -> Result<AppendTimes, Cancelled> {
        let release = match self.parked {
            Some(parked) => Some(parked.await?),
            None => None,
        };
        Ok(AppendTimes { appended: self.appended, release })
    }
}

impl<D: Disk> Partition<D> {
    /// Appends one or more whole batches that came in one request. Called on the partition's core, without waiting; order
    /// of calls is order in the log.
    ///
    /// # Errors
    /// Nothing was written, except after [`ProduceError::Log`] for a request of several batches.
    pub fn produce(
        &self,
        records: BytesMut,
        epoch: Option<Epoch>,
        acks: Acks,
        now: Timestamp,
    ) -> Result<Accepted, ProduceError> {
        self.produce_permitted(records, epoch, acks, None, now)
    }

    /// As [`Self::produce`], for batches that may begin a transaction here.
    ///
    /// # Errors
    /// As there.
    pub fn produce_permitted(
        &self,
        records: BytesMut,
        epoch: Option<Epoch>,
        acks: Acks,
        permit: Option<Permit>,
        now: Timestamp,
    ) -> Result<Accepted, ProduceError> {
        if self.is_deleted() {
            return Err(ProduceError::Deleted);
        }
        if !self.leads() {
            if let Ok(first) = BatchHeader::parse(&records) {
                self.refused.borrow_mut().note(&first, ProduceError::NotLeader.code());
            }
            return Err(ProduceError::NotLeader);
        }
        if let Some(given) = epoch
            && given != self.epoch()
        {
            return Err(ProduceError::Epoch { given, current: self.epoch() });
        }
        let headers = self.check(&records, now)?;
        if let [only] = headers.as_slice()
            && let Verdict::Duplicate { base_offset, last_offset } = self.producers.borrow().check(only)?
        {
            return Ok(self.accepted(base_offset, last_offset.next(), Timestamp::NONE, acks));
        }
        for header in headers.iter().filter(|header| header.is_transactional()) {
            self.check_transaction(header, permit)?;
        }
        let mut batches = validate::in_codec(&self.config(), records, &headers)?;
        let base_offset = self.log.positions().written;
        let append_time = match self.config.borrow().timestamp_type {
            TimestampType::CreateTime => Timestamp::NONE,
            TimestampType::LogAppendTime => now,
        };
        while !batches.is_empty() {
            let header = BatchHeader::parse(&batches)?;
            let appended = self.append(batches.split_to(header.batch_bytes as usize), append_time);
            appended.inspect_err(|error| self.refused.borrow_mut().note(&header, error.code()))?;
        }
        self.advance(None);
        Ok(self.accepted(base_offset, self.log.positions().written, append_time, acks))
    }

    fn check(&self, records: &[u8], now: Timestamp) -> Result<Vec<BatchHeader>, ProduceError> {
        let config = self.config();
        let bytes_max = config.batch_bytes_max;
        let mut headers = Vec::with_capacity(1);
        for found in batch::batches(records) {
            let (_, range) = found?;
            if range.len() > bytes_max {
                return Err(ProduceError::TooLarge { bytes: range.len(), bytes_max });
            }
            let header = batch::verify(&records[range.clone()])?;
            check_kind(&header)?;
            validate::check(&config, &records[range], &header, now)?;
            headers.push(header);
        }
        match headers.as_slice() {
            [] => return Err(ProduceError::Forbidden("the request holds no record batch")),
            [_] => {}
            several => check_several(several)?,
        }
        for header in &headers {
            if let Some((code, first)) = self.refused.borrow_mut().is_behind(header) {
                return Err(ProduceError::Behind { first, code });
            }
            self.producers.borrow().check(header)?;
        }
        Ok(headers)
    }

    fn append(&self, mut bytes: BytesMut, append_time: Timestamp) -> Result<(), ProduceError> {
        if append_time != Timestamp::NONE {
            batch::set_append_time(&mut bytes, append_time);
        }
        let header = self.write(bytes)?;
        self.refused.borrow_mut().forget(header.producer_id);
        let begins = self.producers.borrow_mut().record(&header, header.base_offset);
        if let Some(first) = begins {
            self.begin_transaction(header.producer_id, first);
        }
        Ok(())
    }

    /// Gives a batch its place and hands it to the log.
    pub(super) fn write(&self, mut bytes: BytesMut) -> Result<BatchHeader, ProduceError> {
        let header = match self.replicated.get() {
            Some(replicated) => self.append_replicated(replicated, bytes)?,
            None => {
                batch::assign(&mut bytes, self.log.positions().written, self.epoch());
                let header = BatchHeader::parse(&bytes)?;
                self.log.append(bytes.freeze(), &header)?;
                header
            }
        };
        self.epochs.borrow_mut().note(header.epoch, header.base_offset);
        Ok(header)
    }

    pub(super) fn accepted(
        &self,
        base_offset: Offset,
        upto: Offset,
        append_time: Timestamp,
        acks: Acks,
    ) -> Accepted {
        let parked = match acks {
            Acks::Primary if self.held() < upto => Some(self.pending_primary.borrow_mut().park(upto)),
            Acks::Quorum if self.committed() < upto => Some(self.pending_quorum.borrow_mut().park(upto)),
            _ => None,
        };
        Accepted { base_offset, append_time, start: self.start(), appended: Instant::now(), parked }
    }
}

fn check_kind(header: &BatchHeader) -> Result<(), ProduceError> {
    if header.is_control() {
        return Err(ProduceError::Forbidden("control batches are written by the broker only"));
    }
    if header.is_transactional() && !header.producer_id.is_some() {
        return Err(ProduceError::Forbidden("a transactional batch needs a producer id"));
    }
    if header.attributes.has_delete_horizon() {
        return Err(ProduceError::Forbidden("a delete horizon is set by the broker only"));
    }
    if header.record_count == 0 || header.record_count != header.last_offset_delta + 1 {
        return Err(ProduceError::Forbidden("the batch's record count does not match its offsets"));
    }
    Ok(())
}

/// Sequences are checked batch by batch against what is written, so several batches of one idempotent producer cannot
/// be told from a gap; Kafka refuses them too.
fn check_several(headers: &[BatchHeader]) -> Result<(), ProduceError> {
    let idempotent = headers.iter().any(|header| header.producer_id != ProducerId::NONE);
    if idempotent {
        return Err(ProduceError::Forbidden(
            "an idempotent producer sends one batch per partition and request",
        ));
    }
    Ok(())
}
