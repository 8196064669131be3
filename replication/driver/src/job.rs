//! What has to wait for a disk, as futures that name no runtime.

use bytes::Bytes;
use heddle_log_store::{Disk, Log, ReadError, StorageError};
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::{Offset, TopicPartition};

use crate::connection::Peer;
use crate::hosted::Cutting;
use crate::promises::PromiseFiles;

/// Something to wait for. One at a time for each partition, but for reads; promises one at a time.
pub enum Job<D: Disk> {
    /// Take back the end of a log, or all of it.
    Cut {
        /// Whose.
        partition: TopicPartition,
        /// The cut, which has begun.
        cutting: CutJob,
    },
    /// Write all promises.
    Promises {
        /// Where.
        files: PromiseFiles<D>,
        /// The table.
        table: Vec<u8>,
        /// How often it has been written, this time included.
        number: u64,
    },
    /// Have the damage of a log recorded.
    Damage {
        /// Whose log.
        partition: TopicPartition,
        /// The log.
        log: Log<D>,
    },
    /// Flush a log.
    Flush(Log<D>),
    /// Read batches for a stream.
    Read(ReadJob<D>),
}

/// See [`Job::Cut`].
pub struct CutJob(pub(crate) Cutting);

/// See [`Job::Read`].
pub struct ReadJob<D: Disk> {
    pub(crate) peer: Peer,
    pub(crate) connection: u64,
    pub(crate) partition: TopicPartition,
    pub(crate) ticket: u64,
    pub(crate) log: Log<D>,
    pub(crate) from: Offset,
    pub(crate) upto: Offset,
    pub(crate) bytes_max: usize,
}

/// What became of a job.
#[derive(Debug)]
pub enum Done {
    /// The log ends, or begins, where it was to.
    Cut(TopicPartition),
    /// The next start knows of the damage that a log had.
    Damage(TopicPartition),
    /// The promises are on stable storage.
    Promises,
    /// What a log held is durable, as the hooks have said, or it is gone.
    Flushed,
    /// Batches, or why there are none.
    Read {
        /// For which peer.
        peer: Peer,
        /// Over which connection.
        connection: u64,
        /// Whose.
        partition: TopicPartition,
        /// Of which read.
        ticket: u64,
        /// From where, and up to where at most.
        range: (Offset, Offset),
        /// The batches.
        batches: Vec<Bytes>,
        /// Where whole batches begin now, if that is behind what was to be read: retention or a request has removed what came before.
        begin: Option<Offset>,
    },
}

/// A job that failed in a way that ends the process.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The promises could not be written.
    #[error("promises could not be written: {0}")]
    Promises(#[source] std::io::Error),
}

impl<D: Disk> Job<D> {
    /// Does it.
    ///
    /// # Errors
    /// [`JobError`]: the process must exit, what is on the disk is known again only after recovery.
    pub async fn run(self) -> Result<Done, JobError> {
        match self {
            Job::Cut { partition, cutting } => {
                cutting.0.await?;
                Ok(Done::Cut(partition))
            }
            Job::Promises { files, table, number } => {
                files.write(&table, number).await.map_err(JobError::Promises)?;
                Ok(Done::Promises)
            }
            Job::Damage { partition, log } => {
                log.damage_recorded().await;
                Ok(Done::Damage(partition))
            }
            Job::Flush(log) => match log.flush().await {
                Err(ReadError::Storage(error)) => Err(error.into()),
                _ => Ok(Done::Flushed),
            },
            Job::Read(read) => {
                let (batches, begin) = read.read().await;
                let ReadJob { peer, connection, partition, ticket, from, upto, .. } = read;
                Ok(Done::Read { peer, connection, partition, ticket, range: (from, upto), batches, begin })
            }
        }
    }
}

impl<D: Disk> ReadJob<D> {
    /// See [`Done::Read`]. Why nothing can be read does not matter: damage is told by the log, and the rest passes.
    async fn read(&self) -> (Vec<Bytes>, Option<Offset>) {
        match self.log.read(self.from, self.upto, self.bytes_max).await {
            Ok(batches) => (batches, None),
            Err(ReadError::OutOfRange { start, .. }) if self.from < start => self.read_first(start).await,
            Err(_) => (Vec::new(), None),
        }
    }

    /// A request may have moved the start into a batch, which is there as a whole still.
    async fn read_first(&self, start: Offset) -> (Vec<Bytes>, Option<Offset>) {
        let end = if start < self.upto { self.upto } else { self.log.positions().written };
        let Ok(batches) = self.log.read(start, end, self.bytes_max).await else { return (Vec::new(), None) };
        let first = batches.first().and_then(|batch| BatchHeader::parse(batch).ok());
        let begin = first.map_or(start, |header| start.min(header.base_offset));
        if begin == self.from { (batches, None) } else { (Vec::new(), Some(begin)) }
    }
}
