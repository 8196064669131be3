//! Reading committed records: from memory at once, or from disk.

use std::rc::Rc;

use bytes::Bytes;
use heddle_log_store::{Aborted, Disk, ReadError};
use heddle_proto::{
    batch::BatchHeader,
    error::ErrorCode,
    ids::{Epoch, NodeId, Offset},
};

use super::{Partition, transactions::Isolation};

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The offset is before the first or after the last record.
    #[error("offset {offset} is outside of {start}..={committed}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset there is.
        start: Offset,
        /// The end of what may be read.
        committed: Offset,
    },
    /// The client believes in another epoch.
    #[error("the partition is led in epoch {current}; the request says {given}")]
    Epoch {
        /// What the client said.
        given: Epoch,
        /// What is true.
        current: Epoch,
    },
    /// The log could not give it.
    #[error("{}", read_failure(.0))]
    Log(#[from] ReadError),
    /// The partition went away.
    #[error("the partition was deleted")]
    Deleted,
}

/// What a client is told of a failed read: what is the matter, not where the broker keeps its files.
pub fn read_failure(error: &ReadError) -> String {
    match error {
        ReadError::Damaged(damage) => format!("the records from offset {} on are damaged", damage.offset),
        ReadError::Storage(_) => "the broker's disk cannot be read; its log says more".to_owned(),
        other => other.to_string(),
    }
}

impl FetchError {
    /// The error on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            FetchError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            FetchError::Epoch { given, current } if given < current => ErrorCode::FencedLeaderEpoch,
            FetchError::Epoch { .. } => ErrorCode::UnknownLeaderEpoch,
            FetchError::Log(_) => ErrorCode::KafkaStorageError,
            FetchError::Deleted => ErrorCode::UnknownTopicOrPartition,
        }
    }
}

/// What a read gave.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The end of what may be read: Kafka's high watermark.
    pub committed: Offset,
    /// The first offset there is.
    pub start: Offset,
    /// The end of what belongs to no open transaction: Kafka's last stable offset.
    pub stable: Offset,
    /// Transactions with records among the batches that do not count; only for readers of committed records.
    pub aborted: Vec<Aborted>,
    /// Whole batches; the first one contains the offset asked for.
    pub batches: Vec<Bytes>,
    /// Where the reader's log and this one part, when it said in which epoch its last record is and that does not fit.
    /// There are no batches then.
    pub diverging: Option<(Epoch, Offset)>,
    /// The node whose replica is nearer to the reader and has what it asks for. There are no batches then.
    pub nearer: Option<NodeId>,
}

impl Fetched {
    /// Size of all batches, in bytes.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }

    /// Keeps the batches that fit into so many bytes.
    pub fn limit(&mut self, bytes_max: usize) {
        let mut bytes = 0;
        let mut fits = |batch: &Bytes| {
            bytes += batch.len();
            bytes <= bytes_max
        };
        let count = self.batches.iter().map_while(|batch| Some(batch).filter(|b| fits(b))).count();
        self.batches.truncate(count);
    }

    /// Copies the batches out of the larger buffers they are slices of. Where memory is short, a little that waits to be
    /// sent must not keep a lot.
    pub fn unshare(&mut self) {
        for batch in &mut self.batches {
            *batch = Bytes::copy_from_slice(batch);
        }
    }
}

impl<D: Disk> Partition<D> {
    /// Checks that the client's idea of the epoch, if it has one, is right.
    ///
    /// # Errors
    /// [`FetchError::Epoch`] otherwise.
    pub fn check_epoch(&self, given: Option<Epoch>) -> Result<(), FetchError> {
        match given {
            Some(given) if given != self.epoch() => Err(FetchError::Epoch { given, current: self.epoch() }),
            _ => Ok(()),
        }
    }

    /// Reads whole batches from `from` on, at most `bytes_max` except that one batch is always given when there is one.
    /// Nothing past committed is ever given.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(self: &Rc<Self>, from: Offset, bytes_max: usize) -> Result<Fetched, FetchError> {
        self.fetch_isolated(from, bytes_max, Isolation::ReadUncommitted).await
    }

    /// As [`Self::fetch`], but nothing past what `isolation` lets the reader see.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch_isolated(
        self: &Rc<Self>,
        from: Offset,
        bytes_max: usize,
        isolation: Isolation,
    ) -> Result<Fetched, FetchError> {
        if self.is_deleted() {
            return Err(FetchError::Deleted);
        }
        let committed = self.committed();
        let start = self.start();
        // A new leader learns what is committed a moment after it is elected: who has read further waits for that.
        let known_end = if self.is_replicated() { self.log().positions().written } else { committed };
        if from < start || from > known_end {
            return Err(FetchError::OutOfRange { offset: from, start, committed });
        }
        let stable = self.stable();
        let upto = match isolation {
            Isolation::ReadUncommitted => committed,
            Isolation::ReadCommitted => stable,
        };
        let batches = if from >= upto || bytes_max == 0 {
            Vec::new()
        } else if let Some(cached) = self.log.read_cached(from, upto, bytes_max) {
            cached
        } else {
            self.log.read(from, upto, bytes_max).await?
        };
        let aborted = match isolation {
            Isolation::ReadUncommitted => Vec::new(),
            Isolation::ReadCommitted => self.aborted(from, &batches).await?,
        };
        Ok(Fetched { committed, start, stable, aborted, batches, diverging: None, nearer: None })
    }

    /// The aborted transactions with records among batches that were read from `from` on.
    async fn aborted(&self, from: Offset, batches: &[Bytes]) -> Result<Vec<Aborted>, FetchError> {
        let last = batches.last().and_then(|batch| BatchHeader::parse(batch).ok());
        match last {
            Some(last) if from <= self.last_abort.get() => {
                Ok(self.log.aborted(from, last.next_offset()).await?)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Whether a reader whose last record, before `from`, is of the epoch `last` has what this log has: `None` when so,
    /// else the end of what the two share (KIP-595).
    ///
    /// # Errors
    /// [`FetchError::OutOfRange`] when the epoch has not begun here.
    pub fn diverging(&self, last: Epoch, from: Offset) -> Result<Option<Fetched>, FetchError> {
        let (committed, start) = (self.committed(), self.start());
        let Some((epoch, end)) = self.epoch_end(last) else {
            return Err(FetchError::OutOfRange { offset: from, start, committed });
        };
        let fits = epoch == last && end >= from;
        Ok((!fits).then(|| Fetched {
            committed,
            start,
            stable: self.stable(),
            aborted: Vec::new(),
            batches: Vec::new(),
            diverging: Some((epoch, end)),
            nearer: None,
        }))
    }

    /// Sends a reader to the replica on another node, if that is known to have what comes before `from`.
    pub fn send_to(&self, node: NodeId, from: Offset) -> Option<Fetched> {
        if !self.replica_holds(node, from) || from < self.start() {
            return None;
        }
        Some(Fetched {
            committed: self.committed(),
            start: self.start(),
            stable: self.stable(),
            aborted: Vec::new(),
            batches: Vec::new(),
            diverging: None,
            nearer: Some(node),
        })
    }
}
